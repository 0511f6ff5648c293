"""What the fit finds beside room, tuning and envelope: the piano, the colours of groups of notes, noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import fftconvolve

from engine.music.types import AudioClip, Performance
from engine.render.colours import GROUPS, Colours, fit_colours, groups
from engine.render.filters import minimum_phase
from engine.render.fit import colour_filters, fit_instrument, nearest_piano, played
from engine.render.fitted import FittedRenderer
from engine.render.noise import SILENT_DB, fit_noise, noise_from, noise_loop
from engine.sound.bands import CENTRES, COUNT, SAMPLE_RATE, db, energies
from engine.sound.preview import Preview
from engine.sound.prompts import Prompt

SECONDS = 6
BRIGHT_DB = np.clip(2.0 * (np.arange(COUNT) - 6), 0, 6)  # 6 dB more from 400 Hz on


@pytest.fixture(scope="module")
def preview() -> Preview:
    return Preview()


@pytest.fixture(scope="module")
def notes() -> Performance:
    """Notes one after the other over the keyboard, soft and loud in turn, and a rest of a second at the end."""
    count = 25
    pitch = 40 + np.random.default_rng(5).permutation(48)[:count]
    velocity = np.where(np.arange(count) % 2, 85, 55)
    return Performance(0.1 + 0.2 * np.arange(count), np.full(count, 0.18), pitch, velocity)


def test_a_recorded_upright_is_played_on_the_upright(preview: Preview, notes: Performance) -> None:
    sounds = {name: played(preview, notes, name, SECONDS * SAMPLE_RATE) for name in ("grand", "upright")}
    plain = {name: energies(sound) for name, sound in sounds.items()}
    tilted = {name: energies(fftconvolve(s, minimum_phase(-BRIGHT_DB))[: len(s)]) for name, s in sounds.items()}
    assert nearest_piano(tilted["upright"], plain) == "upright"
    assert nearest_piano(tilted["grand"], plain) == "grand"


def test_another_piano_that_is_hardly_nearer_is_not_taken(preview: Preview, notes: Performance) -> None:
    grand, upright = (energies(played(preview, notes, name, SECONDS * SAMPLE_RATE)) for name in ("grand", "upright"))
    between = np.sqrt(grand * upright)  # as far from both, in dB
    assert nearest_piano(between, {"grand": grand, "upright": upright}) == "grand"
    assert nearest_piano(between, {"upright": upright, "grand": grand}) == "upright"


def test_every_note_is_in_one_group(notes: Performance) -> None:
    found = groups(notes, 60.0)
    assert len(found) == GROUPS
    assert sorted(t for g in found for t in g.onset_sec) == notes.onset_sec.tolist()
    for index, group in enumerate(found):
        assert ((group.pitch >= 60) == (index >= 2)).all()
        assert ((group.velocity >= 60) == bool(index % 2)).all()


def test_brighter_loud_notes_are_found_damped(preview: Preview, notes: Performance) -> None:
    shift = np.stack([np.zeros(COUNT), BRIGHT_DB, np.zeros(COUNT), BRIGHT_DB])
    parts = [played(preview, g, "grand", SECONDS * SAMPLE_RATE) for g in groups(notes, 60.0)]
    filtered = [fftconvolve(p, f)[: len(p)] for p, f in zip(parts, colour_filters(Colours(60.0, shift)), strict=True)]
    found = fit_colours(energies(np.sum(filtered, 0)), np.stack([energies(p) for p in parts]))
    bright, plain = (CENTRES > 500) & (CENTRES < 1300), (CENTRES > 100) & (CENTRES < 180)
    gap = found[1] - found[0], found[3] - found[2]
    assert 2 < gap[0][bright].mean() < BRIGHT_DB.max() + 1, "damped, but found"
    assert 2 < gap[1][bright].mean() < BRIGHT_DB.max() + 1
    assert abs(gap[0][plain].mean()) < 1


def test_a_recording_of_one_colour_shows_no_groups(preview: Preview, notes: Performance) -> None:
    parts = np.stack([energies(played(preview, g, "grand", SECONDS * SAMPLE_RATE)) for g in groups(notes, 60.0)])
    assert np.abs(fit_colours(energies(played(preview, notes, "grand", SECONDS * SAMPLE_RATE)), parts)).max() < 0.5
    assert not Colours().differ


@pytest.fixture(scope="module")
def recording(preview: Preview, notes: Performance) -> np.ndarray:
    sound = played(preview, notes, "grand", SECONDS * SAMPLE_RATE)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def test_steady_noise_between_the_notes_is_found_within_three_decibels(recording: np.ndarray) -> None:
    music = energies(recording)
    loudest = db(music.mean(0)).max()
    hiss = np.full(COUNT, SILENT_DB)
    hiss[12:] = loudest - 55
    noise = noise_from(noise_loop(hiss, 9), 0, len(recording))
    np.testing.assert_allclose(db(energies(noise).mean(0))[13:24], loudest - 55, atol=1)
    found = fit_noise(energies(recording + noise), music)
    assert np.abs(found[14:24] - (loudest - 55)).max() < 3
    assert (found[:8] < loudest - 70).all()
    assert (fit_noise(music, music) == SILENT_DB).all()


def test_noise_goes_on_from_its_end_to_its_beginning() -> None:
    loop = noise_loop(np.full(COUNT, -60.0), 1)
    assert np.abs(np.diff(np.concatenate([loop[-3:], loop[:3]]))).max() < 6 * np.abs(np.diff(loop)).std()
    late = noise_from(np.stack([loop, loop]), 3 * len(loop) - 10, 30)
    np.testing.assert_array_equal(late[0], np.concatenate([loop[-10:], loop[:20]]))


def test_a_noisy_prompt_makes_a_rendering_with_its_noise_in_the_rests(
    preview: Preview, notes: Performance, recording: np.ndarray
) -> None:
    rng = np.random.default_rng(4)
    noisy = recording + 10 ** (-62 / 20) * rng.standard_normal(len(recording)).astype(np.float32)
    rests = slice(5_600 * 48, 5_950 * 48)  # 0.4 s after the last release
    levels = []
    for sound in (recording, noisy):
        prompt = Prompt(AudioClip(sound, SAMPLE_RATE), notes)
        clip = FittedRenderer(preview).render(notes, prompt).mono()
        levels.append(db((clip.samples[rests].astype(float) ** 2).mean()))
    assert levels[1] > levels[0] + 6
    whole, part = (FittedRenderer(preview).render(notes, prompt, span=span) for span in ((0.0, None), (2.0, 3.0)))
    np.testing.assert_allclose(part.samples[480:-480], whole.samples[2 * 48000 + 480 : 3 * 48000 - 480], atol=2e-3)


def test_loud_notes_of_a_piano_that_they_make_brighter_are_rendered_brighter(
    preview: Preview, notes: Performance
) -> None:
    shift = np.stack([np.zeros(COUNT), BRIGHT_DB, np.zeros(COUNT), BRIGHT_DB])
    parts = [played(preview, g, "grand", SECONDS * SAMPLE_RATE) for g in groups(notes, 60.0)]
    sound = np.sum(
        [fftconvolve(p, f)[: len(p)] for p, f in zip(parts, colour_filters(Colours(60.0, shift)), strict=True)], 0
    )
    fitted = fit_instrument(preview, (0.3 * sound / np.abs(sound).max()).astype(np.float32), notes)
    assert fitted.colours.differ
    bright = (CENTRES > 500) & (CENTRES < 1300)
    found = fitted.colours.shift_db
    assert (found[1] - found[0])[bright].mean() > 1.5
    assert (found[3] - found[2])[bright].mean() > 1.5
