"""The renderer: its network, and rendering in windows, with tiny untrained models."""

import numpy as np
import pytest
import torch

from engine.models.codec.piano_codec import CodecConfig, PianoCodec, spectral_distance
from engine.models.renderer.guide_decoder import GuideDecoder, drawn_codes
from engine.models.renderer.masked_renderer import MaskedRenderer, RendererConfig
from engine.models.renderer.spectral_envelope import (
    ASKED,
    ENVELOPE_SIZE,
    EnvelopeMatcher,
    band_energy,
    prompt_envelope,
    spectral_envelope,
)
from engine.music.types import AudioClip, BadInput, Performance
from engine.render.rendering import FRAME_RATE, Renderer, frame_span, sample_codes, windows
from engine.sound.prompts import Prompt
from engine.tokens.note_frames import WIDTH

CODEC = CodecConfig(32, 1, 3, 32, 2, 3, 16, 4, 64)
MODEL = RendererConfig(32, 2, 2, 64, 32, 16, 4, 64)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    codec = PianoCodec(CODEC)
    codebooks = torch.stack([b.codebook for b in codec.quantiser.codebooks])
    return Renderer(codec, MaskedRenderer(MODEL, codebooks))


@pytest.fixture(scope="module")
def played() -> Performance:
    g = np.random.default_rng(1)
    onset = np.sort(g.uniform(0, 6, 40))
    return Performance(onset, g.uniform(0.1, 0.8, 40), g.integers(40, 80, 40), g.integers(30, 100, 40))


@pytest.fixture(scope="module")
def prompt() -> Prompt:
    sound = np.random.default_rng(2).normal(0, 0.05, 3 * 32000).astype(np.float32)
    return Prompt(AudioClip(sound, 32000))


def batch(seed: int = 0, frames: int = 40, prompt_frames: int = 20) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    codes = torch.randint(64, (2, frames, 4), generator=g)
    return {
        "codes": codes,
        "notes": torch.rand(2, frames, WIDTH, generator=g),
        "guide": torch.randint(64, (2, frames, 4), generator=g),
        "prompt_guide": torch.randint(64, (2, prompt_frames, 4), generator=g),
        "known": torch.rand(2, frames, generator=g) < 0.4,
        "prompt_codes": torch.randint(64, (2, prompt_frames, 4), generator=g),
        "prompt_notes": torch.rand(2, prompt_frames, WIDTH, generator=g),
        "prompt_noted": torch.tensor([True, False]),
        "prompt_valid": torch.ones(2, prompt_frames, dtype=torch.bool),
    }


def read(model: MaskedRenderer, b: dict[str, torch.Tensor]):
    return model.read_batch_prompt(b)


def awake(seed: int = 0) -> MaskedRenderer:
    """A network whose layers do something: they start as the identity."""
    torch.manual_seed(seed)
    model = MaskedRenderer(MODEL, torch.randn(4, 64, 16))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return model.eval()


def test_hidden_codes_cannot_be_seen():
    model, b = awake(), batch()
    other = torch.where(b["known"][..., None], b["codes"], (b["codes"] + 7) % 64)
    prompt = read(model, b)
    h = model.hidden_states(b["codes"], b["known"], b["notes"], b["guide"], prompt)
    torch.testing.assert_close(model.hidden_states(other, b["known"], b["notes"], b["guide"], prompt), h)
    shown = ~b["known"]
    assert not torch.allclose(
        model.hidden_states(other, shown, b["notes"], b["guide"], prompt),
        model.hidden_states(b["codes"], shown, b["notes"], b["guide"], prompt),
    )


def test_a_finer_codebook_reads_only_coarser_ones():
    model, b = awake(), batch()
    h = torch.randn(5, 32)
    codes = b["codes"][0, :5]
    changed = codes.clone()
    changed[:, 2:] = (changed[:, 2:] + 5) % 64
    torch.testing.assert_close(model.logits(h, codes, 2), model.logits(h, changed, 2))
    assert not torch.allclose(model.logits(h, codes, 3), model.logits(h, changed, 3))


def test_prompt_padding_and_hidden_prompt_notes_change_nothing():
    model, b = awake(), batch()
    h = model.hidden_states(b["codes"], b["known"], b["notes"], b["guide"], read(model, b))
    padded = dict(b)
    for key in ("prompt_codes", "prompt_guide", "prompt_notes"):
        filler = (torch.rand(2, 6, WIDTH) if key == "prompt_notes" else torch.randint(64, (2, 6, 4))).to(b[key].dtype)
        padded[key] = torch.cat([filler, b[key]], 1)
    padded["prompt_valid"] = torch.cat([torch.zeros(2, 6, dtype=torch.bool), b["prompt_valid"]], 1)
    torch.testing.assert_close(
        model.hidden_states(b["codes"], b["known"], b["notes"], b["guide"], read(model, padded)),
        h,
        rtol=1e-4,
        atol=1e-4,
    )
    unheard = {**b, "prompt_notes": torch.stack([b["prompt_notes"][0], torch.zeros(20, WIDTH)])}
    torch.testing.assert_close(
        model.hidden_states(b["codes"], b["known"], b["notes"], b["guide"], read(model, unheard)), h
    )
    louder = {**b, "prompt_codes": (b["prompt_codes"] + 1) % 64}
    assert not torch.allclose(
        model.hidden_states(b["codes"], b["known"], b["notes"], b["guide"], read(model, louder)), h
    )


def test_a_step_lowers_the_loss():
    torch.manual_seed(0)
    model, b = MaskedRenderer(MODEL, torch.randn(4, 64, 16)), batch()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(15):
        loss = model.losses(b)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(np.log(64), rel=0.25)
    assert losses[-1] < 0.7 * losses[0]


def test_length_is_exact_and_seed_repeats(renderer, played, prompt):
    whole = renderer.render(played, prompt, seed=3)
    assert len(whole.samples) == int(np.ceil(50 * (played.end_sec + 2))) * 640
    np.testing.assert_array_equal(renderer.render(played, prompt, seed=3).samples, whole.samples)
    assert not np.array_equal(renderer.render(played, prompt, seed=4).samples, whole.samples)
    part = renderer.render(played, prompt, span=(1.0, 3.5))
    assert len(part.samples) == 125 * 640


def test_stream_is_the_whole_in_parts(renderer, played, prompt):
    parts = list(renderer.render_stream(played, prompt))
    assert len(parts) > 3
    np.testing.assert_array_equal(np.concatenate([p.samples for p in parts]), renderer.render(played, prompt).samples)


def test_cancel_and_progress(renderer, played, prompt):
    shares: list[float] = []
    renderer.render(played, prompt, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1

    class Stop(Exception):
        pass

    def stop(share: float) -> None:
        if share > 0.3:
            raise Stop

    with pytest.raises(Stop):
        renderer.render(played, prompt, progress=stop)


def test_bad_requests_are_refused_in_a_sentence(renderer, played, prompt):
    empty = Performance(*(np.zeros(0) for _ in range(4)))
    for call, words in (
        (lambda: renderer.render(empty, prompt), "no notes"),
        (lambda: renderer.render(played, prompt, temperature=2), "0 to 1.5"),
        (lambda: renderer.render(played, prompt, seed=-1), "seed"),
        (lambda: renderer.render(played, prompt, span=(4.0, 2.0)), "part"),
        (lambda: renderer.render(played, prompt, span=(float("nan"), None)), "part"),
    ):
        with pytest.raises(BadInput, match=words):
            call()


def test_windows_cover_every_frame_once():
    for count in (1, 39, 40, 200, 3001):
        at = 0
        for start, fresh in windows(count):
            assert start == at
            at += fresh
        assert at == count


def test_span_in_frames(played):
    first, last = frame_span(played, (0.5, 2.01))
    assert (first, last) == (25, 101)
    assert frame_span(played, (0.0, None)) == (0, int(np.ceil((played.end_sec + 2) * FRAME_RATE)))


def test_draw_follows_the_probabilities():
    log = torch.log(torch.tensor([0.7, 0.2, 0.1])).expand(20_000, 3)
    counts = torch.bincount(sample_codes(log, 1.0, torch.Generator().manual_seed(0)), minlength=3) / 20_000
    np.testing.assert_allclose(counts, [0.7, 0.2, 0.1], atol=0.015)
    assert (sample_codes(log, 0, torch.Generator()) == 0).all()


def test_the_decoder_uses_all_inputs_and_learns():
    torch.manual_seed(0)
    codec = PianoCodec(CODEC)
    decoder = GuideDecoder(codec, 32)
    heard = {
        "latent": torch.randn(2, 30, 16),
        "guide": torch.randn(2, 30, 2, 1025),
        "notes": torch.rand(2, 30, WIDTH),
        "style": torch.randn(2, 32),
        "colours": torch.randn(2, ENVELOPE_SIZE),
    }
    true = torch.randn(2, 60, 1025)
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-2)
    errors = []
    for _ in range(6):
        errors.append(spectral_distance(decoder(**heard).flatten(1, 2), true)[0])
        optimizer.zero_grad()
        errors[-1].backward()
        optimizer.step()
    assert errors[-1] < errors[0]
    made = decoder(**heard)
    for name, value in heard.items():
        assert not torch.allclose(decoder(**{**heard, name: value + 1}), made), name


def test_full_trust_returns_the_guide_shifted_by_bands():
    codec = PianoCodec(CODEC)
    decoder = GuideDecoder(codec, 32)
    torch.nn.init.constant_(decoder.to_trust[1].bias, 50.0)
    guide = torch.randn(1, 8, 2, 1025)
    rest = torch.randn(1, 8, 16), guide, torch.rand(1, 8, WIDTH), torch.randn(1, 32), torch.zeros(1, ENVELOPE_SIZE)
    torch.testing.assert_close(decoder(*rest), guide)
    torch.nn.init.constant_(decoder.to_shift[1].bias, 0.7)
    torch.testing.assert_close(decoder(*rest), guide + 0.7)


def test_a_prompts_colours():
    g = np.random.default_rng(1)
    sound, guide = g.random((100, 1025)) + 0.1, g.random((100, 1025)) + 0.1
    told = prompt_envelope(sound, guide)
    assert told.shape == (ENVELOPE_SIZE,)
    np.testing.assert_allclose(prompt_envelope(2 * sound, guide)[:25] - told[:25], 0.25 * np.log(2), atol=1e-4)
    np.testing.assert_allclose(prompt_envelope(2 * sound, guide)[25:50] - told[25:50], np.log(2), atol=1e-4)
    assert told[-1] == 1
    assert not prompt_envelope(sound, None)[25:].any()
    twice = prompt_envelope(np.concatenate([sound, sound]), None)
    np.testing.assert_allclose(twice[:25], told[:25], atol=1e-5)


def test_drawn_codes_leave_known_frames_alone():
    model, b = awake(), batch()
    codes, style = drawn_codes(model, b, (1.0, 1.0))
    assert torch.equal(codes[b["known"]], b["codes"][b["known"]])
    assert not torch.equal(codes, b["codes"])
    assert style.shape == (2, 32)


def test_colour_is_measured_against_the_guide_and_filtered_in():
    g = np.random.default_rng(0)
    guide = g.random((200, 1025), np.float32) + 0.1
    tilt = np.exp(np.linspace(1.0, -1.0, 1025)).astype(np.float32)
    prompt = g.random((150, 1025), np.float32) + 0.1
    wanted = spectral_envelope(band_energy(prompt * tilt), band_energy(prompt))
    filtered = EnvelopeMatcher(wanted, 1e-6).add(guide, guide)
    np.testing.assert_allclose(spectral_envelope(band_energy(filtered), band_energy(guide)), wanted, atol=0.05)
    recolour, parts = EnvelopeMatcher(wanted, 1e-6), []
    for i in range(0, 200, 20):
        parts.append(recolour.add(guide[i : i + 20], guide[i : i + 20]))
    steps = np.abs(np.diff(np.log(np.concatenate(parts) / guide), axis=0)).max()
    assert steps < 0.05, "the filter moves without steps"
    far = EnvelopeMatcher(np.full(25, 4.0), 1e-6).add(guide, guide)  # soft notes of a bright piano: the gain is bounded
    assert spectral_envelope(band_energy(far), band_energy(guide)).max() == pytest.approx(ASKED, abs=0.05)
    assert not spectral_envelope(np.zeros(25), np.ones(25)).any(), "a silent band has no colour"


def test_below_the_decoders_floor_the_guide_goes_on():
    loud, quiet = np.full((50, 1025), 1.0, np.float32), np.full((50, 1025), 1e-5, np.float32)
    loud[:, 600:] = quiet[:, 600:] = 0.0
    made = np.maximum(loud, 5e-3)
    filled = EnvelopeMatcher(None, 5e-3).add(made, loud)
    np.testing.assert_allclose(filled[:, :600], 1.0)
    assert filled[:, 600:].max() <= 5e-3 * 1.1e-4, "no hiss where the guide is silent"
    wanted = spectral_envelope(band_energy(loud), band_energy(loud))
    assert EnvelopeMatcher(wanted, 5e-3).add(made, loud)[:, 600:].max() < 1e-5
