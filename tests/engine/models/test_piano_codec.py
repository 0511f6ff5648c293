"""The piano codec's parts: phases from magnitudes, residual quantisation, notes by frame, the sampler, the network."""

import json

import numpy as np
import pytest
import soundfile
import torch

from engine.models.codec import piano_codec
from engine.models.codec.phase import HOP, WINDOW, PhaseFinder, to_sound
from engine.models.codec.piano_codec import BINS, FLOOR, CodecConfig, PianoCodec
from engine.models.nn.residual_quantiser import ResidualQuantiser
from engine.music.dampers import damped_sec
from engine.music.types import Performance
from engine.sound.preview import Preview
from engine.sound.sampler import Bank, play
from engine.tokens.note_frames import CHANNELS, MIN_KEY, WIDTH, note_frames

TINY = CodecConfig(32, 2, 3, 32, 2, 3, 16, 3, 64)


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """Four seconds of a few chords on the sampled grand, (128000,)."""
    pitch = np.array([48, 60, 64, 67, 50, 62, 65, 69])
    onset = np.repeat([0.1, 1.6], 4)
    played = Performance(onset, np.full(8, 1.4), pitch, np.full(8, 70))
    return Preview().preview(played).samples[: 4 * 32000]


def magnitudes(sound: np.ndarray) -> np.ndarray:
    """(T, 1025) of the frames that the codec predicts."""
    spectra = torch.stft(
        torch.from_numpy(np.array(sound)), WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True,
        pad_mode="constant",
    )  # fmt: skip
    return spectra.abs().T[: len(sound) // HOP].numpy()


def test_phases_are_found_from_magnitudes(sound):
    true = magnitudes(sound)
    made = to_sound(true)
    assert len(made) == len(true) * HOP
    heard = magnitudes(made)
    assert np.linalg.norm(heard - true) / np.linalg.norm(true) < 0.08  # -22 dB; random phases reach -8 dB


def test_a_stream_of_spectra_sounds_like_the_whole(sound):
    true = magnitudes(sound)[:331]
    whole, finder = to_sound(true), PhaseFinder()
    parts = [finder.push(true[i : i + 7]) for i in range(0, len(true), 7)]
    np.testing.assert_array_equal(np.concatenate([*parts, finder.finish()]), whole)


@pytest.mark.parametrize("count", [1, 3, 40, 47, 48, 49, 90])
def test_any_number_of_spectra_gives_as_many_samples(count):
    g = np.random.default_rng(count)
    made = to_sound(g.random((count, BINS), np.float32))
    assert made.shape == (count * HOP,)
    assert np.isfinite(made).all()


def test_a_steady_tone_keeps_its_pitch_and_level():
    tone = 0.5 * np.sin(2 * np.pi * 440.3 * np.arange(2 * 32000) / 32000).astype(np.float32)
    made = to_sound(magnitudes(tone))[8000:56000]
    spectrum = np.abs(np.fft.rfft(made * np.hanning(len(made))))
    assert abs(np.argmax(spectrum) * 32000 / len(made) - 440.3) < 1
    assert np.sqrt((made**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_in_blocks_it_is_coded_as_in_one_piece(monkeypatch, sound):
    torch.manual_seed(0)
    codec, samples = PianoCodec(TINY).eval(), torch.from_numpy(np.array(sound))[None]
    codes, shares = codec.encode(samples), []
    notes = torch.rand(1, codes.shape[-1], WIDTH)
    back, told = codec.decode(codes), codec.decode(codes, notes)
    monkeypatch.setattr(piano_codec, "BLOCK", 37)
    torch.testing.assert_close(codec.encode(samples, progress=shares.append), codes)
    assert shares == sorted(shares)
    assert len(shares) == -(-codes.shape[-1] // 37)
    assert shares[-1] == 1
    torch.testing.assert_close(codec.decode(codes, progress=shares.append), back, atol=1e-4, rtol=0)
    torch.testing.assert_close(codec.decode(codes, notes), told, atol=1e-4, rtol=0)

    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        codec.encode(samples, progress=stop)


def test_predictions_at_the_floor_are_lowered(monkeypatch):
    """A recording's treble lies under the floor; played at the floor it would be hiss. Above, nothing changes."""
    codec = PianoCodec(TINY).eval()
    level = {}
    for above in (0.0, 0.05, 0.5):
        flat = torch.full((1, 40, 2, BINS), float(np.log(FLOOR)) + above)
        monkeypatch.setattr(codec, "spectra", lambda latent, notes, flat=flat: flat)
        sound = codec.decode(torch.zeros(1, 3, 40, dtype=torch.int64))[0].numpy()
        level[above] = np.log(np.median(magnitudes(sound)[10:-10]))
    assert level[0.5] - level[0.0] == pytest.approx(0.5 + 1.0, abs=0.05)
    assert level[0.5] - level[0.05] == pytest.approx(0.45 + 0.5, abs=0.05)


def test_damper_falls_at_release_pedal_or_new_stroke():
    played = Performance(
        np.array([0.0, 1.0, 2.0, 2.5]), np.array([0.5, 0.5, 0.8, 0.2]), np.array([60, 62, 64, 64]), np.full(4, 64),
        np.array([1.2, 1.9]), np.array([127, 0]),
    )  # fmt: skip
    np.testing.assert_allclose(damped_sec(played, 5.0), [0.5, 1.9, 2.5, 2.7])


def test_notes_by_frame_hand_counted():
    played = Performance(
        np.array([0.105]), np.array([0.1]), np.array([60]), np.array([127]), np.array([0.05]), np.array([64])
    )
    frames = note_frames(played, 50.0, 0, 20)
    assert frames.shape == (20, WIDTH)
    key = frames[:, :-1].reshape(20, 88, CHANNELS)[:, 60 - MIN_KEY]
    np.testing.assert_allclose(key[4:8, 0], [0, 0.75, 0.25, 0], atol=1e-6)  # 0.105 s is frame 5.25
    np.testing.assert_allclose(key[:, 1], key[:, 0], atol=1e-6)  # velocity 127 is 1
    assert key[5:, 2].all()  # the pedal, never lifted, holds it to the end
    assert not frames[:, :-1].reshape(20, 88, CHANNELS)[:, :39].any()
    np.testing.assert_allclose(frames[:, -1], [0, 0, 0, *[64 / 127] * 17], atol=1e-6)


def test_notes_of_a_later_start_are_the_same_frames():
    g = np.random.default_rng(0)
    played = Performance(g.uniform(0, 5, 60), g.uniform(0.1, 1, 60), g.integers(21, 109, 60), g.integers(1, 128, 60))
    whole = note_frames(played, 50.0, 0, 300)
    np.testing.assert_allclose(note_frames(played, 50.0, 120, 90), whole[120:210], atol=1e-5)


def test_residual_codebooks_each_lessen_the_error():
    torch.manual_seed(0)
    model = ResidualQuantiser(3, 32, 8)
    u = torch.randn(20, 50, 8)
    for _ in range(30):
        model(u)
    model.eval()
    codes = model.encode(u)
    error = [float((u - model.decode(codes[..., :k])).square().mean()) for k in (1, 2, 3)]
    assert error[0] > error[1] > error[2]
    assert torch.equal(model(u).codes, codes)
    wide = model.encode(u, 8)
    nearer = (u - model.decode(wide)).square().sum(-1), (u - model.decode(codes)).square().sum(-1)
    assert (nearer[0] <= nearer[1] + 1e-5).float().mean() > 0.97
    assert nearer[0].mean() < nearer[1].mean()
    every = torch.cartesian_prod(*(torch.arange(32) for _ in range(3)))
    best = (u[0, 0] - model.decode(every)).square().sum(-1).min()
    widest = (u[0, 0] - model.decode(model.encode(u[:1, :1], 32**3))).square().sum()
    assert widest == pytest.approx(float(best), rel=1e-4)
    assert len(codes[..., 0].unique()) > 0.8 * 32


def test_codec_shapes_and_a_step_lowers_the_loss(sound):
    torch.manual_seed(0)
    model = PianoCodec(TINY)
    samples = torch.from_numpy(np.array(sound[:64000]))[None].repeat(2, 1)
    notes = torch.zeros(2, 100, WIDTH)
    batch = {"samples": samples, "notes": notes, "known": torch.tensor([True, False])}
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        loss = model.losses(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    model.eval()
    codes = model.encode(samples[:1, :-1])  # one sample short of 100 frames
    assert codes.shape == (1, 3, 100)
    assert model.decode(codes).shape == (1, 64000)
    assert model.decode(codes[:, :1], notes[:1]).shape == (1, 64000)


def test_sampler_plays_at_the_onset_and_louder_with_velocity(tmp_path):
    tone = np.sin(2 * np.pi * 440 * np.arange(64000) / 32000) * np.exp(-np.arange(64000) / 20000)
    soundfile.write(tmp_path / "a.flac", tone, 32000)
    rows = [{"file": "a.flac", "key": 69, "lovel": 1, "hivel": 127, "gain_db": 0.0}]
    (tmp_path / "index.json").write_text(json.dumps(rows))
    bank = Bank.load(tmp_path)
    played = Performance(np.array([0.5, 1.5]), np.array([0.3, 0.3]), np.array([69, 81]), np.array([40, 80]))
    made = play(bank, played)
    assert len(made) == round(3.8 * 32000)
    assert not made[: 32000 // 2 - 1].any()
    first, second = (np.abs(made[int(s * 32000) : int((s + 0.2) * 32000)]).max() for s in (0.5, 1.5))
    assert second / first == pytest.approx(4, rel=0.05)  # twice the velocity, 12 dB
    spectrum = np.abs(np.fft.rfft(made[int(1.55 * 32000) : int(1.75 * 32000)]))
    assert np.argmax(spectrum) * 5 == pytest.approx(880, abs=6)
    assert np.abs(made[int(1.4 * 32000) : int(1.5 * 32000) - 1]).max() < 0.2 * first  # damped
