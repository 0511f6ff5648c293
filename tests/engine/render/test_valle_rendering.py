"""The paper profile: lengths, joins, seeds, cancelling, and every published defect that can be had back."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints.importing import write_encodec, write_valle
from engine.models.codec.encodec import PianoEncodec
from engine.models.codec.seanet import SEANetConfig
from engine.models.midi_valle.decode import FIXED, PUBLISHED
from engine.models.midi_valle.decoders import Valle, ValleConfig
from engine.music.types import AudioClip, BadInput, Performance
from engine.render.valle_rendering import Fader, ValleRenderer, open_paper_renderer
from engine.sound.prompts import Prompt
from engine.tokens.octuple import decode, encode

SIZE = 24


def codec() -> PianoEncodec:
    torch.manual_seed(0)
    made = PianoEncodec(SEANetConfig(2, dimension=8, lstm_layers=2), 4, SIZE)
    for codebook in made.quantizer.codebooks:
        codebook.embed.normal_(std=0.02)
    return made


def model(mode: int = 1) -> Valle:
    torch.manual_seed(0)
    made = Valle(ValleConfig(width=16, heads=2, layers=1, codebook_size=SIZE, prefix_mode=mode))
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return made


def prompt(notes: bool = True) -> Prompt:
    sound = 0.1 * np.random.default_rng(0).standard_normal(3 * 32000)
    played = Performance([0.0, 1.0], [0.9, 1.74], [60, 64], [64, 70]) if notes else None
    return Prompt(AudioClip(sound, 32000), played)


def piece(seconds: float, seed: int = 0) -> Performance:
    rng = np.random.default_rng(seed)
    onset = np.sort(rng.uniform(0, seconds - 0.5, int(3 * seconds)))
    onset[0] = 0.0
    duration = np.append(rng.uniform(0.1, 2.0, len(onset) - 1), 0.0)
    duration = np.minimum(duration, seconds - onset)
    duration[-1] = seconds - onset[-1]
    return Performance(onset, duration, rng.integers(30, 90, len(onset)), rng.integers(20, 110, len(onset)))


@pytest.mark.parametrize("long_form", ["carry", "independent"])
def test_the_length_is_exact(long_form: str) -> None:
    renderer = ValleRenderer(codec(), model(), long_form=long_form)
    parts = list(renderer.render_stream(piece(20.3), prompt(), seed=1))
    assert sum(len(p.samples) for p in parts) == int(np.ceil(50 * 22.3)) * 640
    assert len(parts) == 3  # two segments and what the decoder held back
    assert all(np.abs(p.samples).max() <= 1 for p in parts)


def test_a_part_of_the_piece_and_short_pieces() -> None:
    renderer = ValleRenderer(codec(), model())
    clip = renderer.render(piece(30.0), prompt(), span=(4.0, 9.0))
    assert len(clip.samples) == 5 * 32000
    assert len(renderer.render(piece(1.0), prompt()).samples) == 3 * 32000


def test_seeds_repeat_and_prompts_matter() -> None:
    renderer = ValleRenderer(codec(), model())
    a, b, c = (renderer.render(piece(2.0), prompt(), seed=s).samples for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    other = Prompt(AudioClip(prompt().clip.samples[::-1] ** 2, 32000), prompt().notes)
    assert not np.array_equal(a, renderer.render(piece(2.0), other, seed=1).samples)


def test_segments_leave_room_for_the_prompt() -> None:
    renderer = ValleRenderer(codec(), model())
    edges = renderer.edges(100, 100 + 50 * 60)
    assert edges[0] == 100
    assert edges[-1] == 3100
    assert max(np.diff(edges)) <= 17 * 50  # prompt and target stay within the 20 s of training
    published = ValleRenderer(codec(), model(), behaviour=PUBLISHED).edges(0, 50 * 60)
    draw = np.random.RandomState(42)
    assert np.allclose(np.diff(published), [50 * draw.uniform(15, 20) for _ in range(3)], atol=1)


def test_published_cutting_has_its_defects() -> None:
    renderer = ValleRenderer(codec(), model(), behaviour=PUBLISHED, long_form="independent")
    with pytest.raises(BadInput, match="leaves a piece under 15 s without a segment"):
        renderer.render(piece(5.0), prompt())
    kept = ValleRenderer(codec(), model(), behaviour=replace(PUBLISHED, known_length=True), long_form="independent")
    edges = kept.edges(0, 50 * 40)
    assert len(edges) == 3  # the rest of 40 s is dropped
    clip = kept.render(piece(38.0), prompt(), seed=3)
    assert len(clip.samples) == edges[-1] * 640 - 640  # and a join eats 20 ms


def test_unknown_length_ends_by_itself() -> None:
    rules = replace(FIXED, known_length=False)
    few = Performance([0.0], [0.5], [60], [64])
    clip = ValleRenderer(codec(), model(), behaviour=rules).render(few, prompt(), seed=0)
    assert (
        len(clip.samples) <= (16 * 5 + 1) * 640
    )  # BOS, two notes of the prompt, one of the piece, EOS: 16 frames each


def test_where_the_target_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    import engine.render.valle_rendering as module

    told = []
    monkeypatch.setattr(module, "encode", lambda notes, absolute: told.append(encode(notes, absolute)) or told[-1])
    for place in (True, False):
        rules = replace(FIXED, place_by_sound=place)
        ValleRenderer(codec(), model(), behaviour=rules).render(piece(1.0), prompt())
    onsets = [decode(t).onset_sec for t in told if len(t) > 4]
    assert np.isclose(onsets[0][2], 3.0, atol=0.01)
    assert np.isclose(onsets[1][2], 2.74, atol=0.01)  # as published: 260 ms early


@pytest.mark.parametrize("mode", [0, 2, 4])
def test_other_prefix_modes_render(mode: int) -> None:
    assert len(ValleRenderer(codec(), model(mode)).render(piece(1.0), prompt()).samples) == 3 * 32000


class Stop(Exception):
    pass


def test_progress_rises_and_can_cancel() -> None:
    renderer, shares = ValleRenderer(codec(), model()), list[float]()
    renderer.render(piece(18.0), prompt(), progress=shares.append)
    assert shares == sorted(shares)
    assert len(shares) > 1000
    assert shares[-1] == 1.0

    def cancel(share: float) -> None:
        if share > 0.1:
            raise Stop

    with pytest.raises(Stop):
        renderer.render(piece(18.0), prompt(), progress=cancel)


def test_bad_input() -> None:
    renderer = ValleRenderer(codec(), model())
    for arguments, sentence in (
        ({"temperature": 2.0}, "temperature is 2"),
        ({"seed": -1}, "seed is -1"),
        ({"span": (5.0, 4.0)}, "not inside the piece"),
    ):
        with pytest.raises(BadInput, match=sentence):
            renderer.render(piece(2.0), prompt(), **arguments)
    with pytest.raises(BadInput, match="no long form"):
        ValleRenderer(codec(), model(), long_form="endless")
    with pytest.raises(BadInput, match="other codes than this codec"):
        ValleRenderer(PianoEncodec(SEANetConfig(2, dimension=8, lstm_layers=0), 4, 16), model())


def test_fader_mixes_twenty_milliseconds() -> None:
    fader, ones = Fader(), np.ones(2000, np.float32)
    sound = np.concatenate([fader.push(ones), fader.push(3 * ones), fader.finish()])
    assert len(sound) == 4000 - 640
    assert np.allclose(sound[:1360], 1)
    assert np.allclose(sound[2000:], 3)
    assert (np.diff(sound[1360:2000]) > 0).all()


def test_imported_weights_are_opened_together(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=re.escape("etude import-weights midi-valle FILE")):
        open_paper_renderer(tmp_path)
    write_valle(model(), tmp_path / "midi-valle", "a test", "00")
    write_encodec(codec(), tmp_path / "piano-encodec", "a test", "00")
    plain = open_paper_renderer(tmp_path, int8=False)
    alike = ValleRenderer(codec(), model())
    a, b = (r.render(piece(1.5), prompt(), seed=4).samples for r in (plain, alike))
    assert np.array_equal(a, b)
    assert len(open_paper_renderer(tmp_path).render(piece(1.5), prompt()).samples) == 3.5 * 32000
