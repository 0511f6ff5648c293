"""DDSP-Piano as a method of Render: voices, networks, strings, parts that equal the whole, loudness, stereo."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.engine import Engine
from engine.models.ddsp_piano.network import AROUND, LocalNorm, NormStream
from engine.music.types import BadInput, Performance
from engine.render.colours import groups
from engine.render.ddsp import LEAD, RELEASE, DdspPianos, DdspRenderer, piano_number, voice_tables
from engine.requests import RenderRequest
from engine.sound.preview import Preview
from engine.sound.prompts import gallery
from engine.sound.spectra import level_db, sounding_db
from training.assets.build_ddsp_piano import gates

RATE = 32000
NOTES = Performance([0.1, 0.45, 0.8, 0.8], [0.3, 0.3, 0.5, 0.5], [67, 72, 48, 76], [50, 70, 90, 60], [0, 1.2], [127, 0])


@pytest.fixture(scope="module")
def pianos() -> DdspPianos:
    return DdspPianos()


def dry(pianos: DdspPianos, notes: Performance, cents: np.ndarray | None = None, chunk: int = 8000) -> np.ndarray:
    return np.concatenate(list(pianos.dry(notes, "ddsp-0", 2 * RATE, cents, chunk)))


def test_voices_are_those_free_longest_and_the_highest_win() -> None:
    tables = voice_tables(NOTES, 500, 16)
    notes, pedal, extended = tables.notes, tables.pedal, tables.extended
    first = LEAD + 25
    assert notes[first, 0, 0] == extended[first, 0] == 67
    assert notes[first : first + 3, 0, 1] == pytest.approx([50 / 127, 50 / 127, 0])
    lifted, end = LEAD + 300, LEAD + 325  # of the pedal, which holds the first two notes; of the last two
    assert sorted(notes[lifted - 1, :, 0])[-4:] == [48, 67, 72, 76]
    assert sorted(notes[lifted, :, 0])[-3:] == [0, 48, 76]
    assert notes[end].max() == 0
    assert (extended[end] > 0).sum() == 4, "their strings ring on"
    assert pedal[LEAD, 0] == 1
    assert pedal[lifted, 0] == pytest.approx(1 / 128)
    full = Performance(np.zeros(17), np.ones(17), np.arange(40, 57), np.full(17, 64))
    assert set(voice_tables(full, 500, 16).notes[LEAD, :, 0]) == set(range(41, 57))
    assert len(voice_tables(NOTES, 10_000, 16).notes) == end + RELEASE + 1


def test_normalisation_is_that_of_the_frames_around() -> None:
    norm = LocalNorm(3)
    x = torch.randn(2 * AROUND + 700, 2, 3, generator=torch.Generator().manual_seed(1))
    stream = NormStream(norm)
    made = torch.cat([stream.push(x[:400]), stream.push(x[400:1000]), stream.push(x[1000:], last=True)])
    assert made.shape == x.shape
    for at in (0, 500, len(x) - 1):
        near = x[max(0, at - AROUND) : at + AROUND + 1]
        mean, variance = near.mean((0, 2)), near.var((0, 2), unbiased=False)
        wanted = (x[at] - mean[:, None]) / (variance[:, None] + 1e-5).sqrt()
        torch.testing.assert_close(made[at], wanted, atol=1e-4, rtol=1e-4)


def test_gates_of_a_gru_in_the_order_of_pytorch() -> None:
    rng = np.random.default_rng(2)
    kernel, recurrent = (rng.normal(size=(9, 3)).astype(np.float32) for _ in range(2))  # rows: update, reset, candidate
    bias = rng.normal(size=(2, 9)).astype(np.float32)
    gru = torch.nn.GRU(3, 3)
    gru.load_state_dict({
        "weight_ih_l0": torch.from_numpy(gates(kernel)), "weight_hh_l0": torch.from_numpy(gates(recurrent)),
        "bias_ih_l0": torch.from_numpy(gates(bias[0])), "bias_hh_l0": torch.from_numpy(gates(bias[1])),
    })  # fmt: skip
    x, h = rng.normal(size=(2, 3)).astype(np.float32)
    given, past = kernel @ x + bias[0], recurrent @ h + bias[1]
    update, reset = (1 / (1 + np.exp(-(given[i : i + 3] + past[i : i + 3]))) for i in (0, 3))
    candidate = np.tanh(given[6:] + reset * past[6:])
    wanted = update * h + (1 - update) * candidate  # Keras, reset_after
    made = gru(torch.from_numpy(x)[None], torch.from_numpy(h)[None])[0][0].detach().numpy()
    np.testing.assert_allclose(made, wanted, atol=1e-5)


def test_parts_are_the_whole_and_keys_are_tuned(pianos: DdspPianos) -> None:
    whole = dry(pianos, NOTES, chunk=2 * RATE)
    assert len(whole) == 2 * RATE
    assert np.array_equal(whole, dry(pianos, NOTES, chunk=7000))
    assert np.abs(whole[: RATE // 12]).max() < 0.1 * np.abs(whole).max(), "silent until the first note"

    def hz(sound: np.ndarray) -> float:
        spectrum = np.abs(np.fft.rfft(sound[8000:40000] * np.hanning(32000), 1 << 19))
        return float(spectrum[6000:8000].argmax() + 6000) * RATE / (1 << 19)

    note = Performance([0.1], [1.5], [69], [90])
    plain = hz(dry(pianos, note))
    key = torch.tensor(69.0)
    with torch.inference_mode():
        strings = pianos.model.strings_hz(key, 0) * (1 + pianos.model.inharmonicity(key, 0)).sqrt()
    assert float(strings.min()) - 0.6 < plain < float(strings.max()) + 0.6, "the grand's tuning differs by less"
    assert 1200 * np.log2(hz(dry(pianos, note, np.full(128, 30.0))) / plain) == pytest.approx(30, abs=1)


def test_groups_sound_apart_and_together_as_the_whole(pianos: DdspPianos) -> None:
    parts = groups(NOTES, 60.0)
    apart = np.concatenate(list(pianos.dry_groups(parts, "ddsp-0", 2 * RATE)), 1)
    whole = dry(pianos, NOTES, chunk=2 * RATE)
    assert apart.shape == (4, 2 * RATE)
    assert np.std(apart.sum(0) - whole) < 0.2 * np.std(whole), "all but the noises, which are drawn apart"
    before = round(0.75 * RATE)
    assert np.abs(apart[0]).max() < 1e-3, "no note is low and soft"
    assert np.abs(apart[1, :before]).max() < 0.01 * np.abs(apart[1]).max(), "the low, loud one begins at 0.8 s"
    assert min(np.abs(apart[2, :before]).max(), np.abs(apart[3, :before]).max()) > 1e-3
    alone = Performance(NOTES.onset_sec[2:3], NOTES.duration_sec[2:3], NOTES.pitch[2:3], NOTES.velocity[2:3])
    assert np.std(apart[1]) == pytest.approx(np.std(dry(pianos, alone)), rel=0.3)
    assert [x.shape for x in pianos.dry_groups([alone, parts[0]], "ddsp-0", RATE)] == [(2, RATE)]


def test_louder_keys_and_ends(pianos: DdspPianos) -> None:
    def level(velocity: int, start: float, end: float) -> float:
        sound = dry(pianos, Performance([0.1], [0.8], [60], [velocity]))[round(start * RATE) : round(end * RATE)]
        return float(20 * np.log10(np.sqrt(np.mean(sound**2))))

    assert level(90, 0.1, 0.6) - level(60, 0.1, 0.6) == pytest.approx(9, abs=1.5)
    assert level(90, 0.6, 0.8) - level(90, 1.5, 1.9) > 15, "the damper"


def test_renders_as_loud_as_the_preview_and_in_stereo() -> None:
    engine, prompt = Engine.load(), gallery()["gymnopedie"]
    assert "ddsp" in engine.profiles
    assert engine.weights("ddsp") == DdspRenderer.digest
    assert prompt.notes is not None
    clip = engine.render(RenderRequest(prompt.notes, prompt, profile="ddsp"))
    assert (clip.sample_rate, clip.channels) == (48000, 2)
    made, heard = (
        sounding_db(level_db(c.samples, c.sample_rate, 0.05)) for c in (clip.mono(), Preview().preview(prompt.notes))
    )
    assert made == pytest.approx(heard, abs=1.5)


def test_an_unknown_piano_is_refused() -> None:
    with pytest.raises(BadInput, match="ddsp-0 to ddsp-9"):
        piano_number("ddsp-x")
