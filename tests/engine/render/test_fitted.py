"""The fitted piano: what the fit finds in recordings whose truth is known, and rendering with it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import fftconvolve

from engine.music.types import AudioClip, BadInput, Performance
from engine.render.filters import Convolver, minimum_phase
from engine.render.fit import Instrument, fit_instrument, middle_response, played
from engine.render.fitted import FittedRenderer, beginning_at
from engine.render.room import RoomFit, response
from engine.render.tuning import Tuning
from engine.render.velocity import VelocityCurve
from engine.sound.bands import CENTRES, COUNT, SAMPLE_RATE, energies, over_frequency
from engine.sound.preview import Preview
from engine.sound.prompts import Prompt, gallery, prepare_prompt
from engine.sound.recording import StreamResampler, resample
from engine.sound.spectra import level_db, sounding_db
from engine.sound.stereo import Image, measure_image

T60_SEC, WET_DB, CENTS = 1.6, -6.0, 12.0
TILT_DB = -6 * (np.arange(COUNT) - 12) / 12  # 12 dB less at the top than at the bottom
HEARD = slice(4, 19)  # bands in which the piece sounds: 125 Hz to 3.2 kHz


@pytest.fixture(scope="module")
def preview() -> Preview:
    return Preview()


@pytest.fixture(scope="module")
def notes() -> Performance:
    """Chords over the keyboard, with rests for the room's decay."""
    rng = np.random.default_rng(3)
    onset = np.repeat(np.arange(0.1, 7, 1.0), 4)
    pitch = np.concatenate([36 + rng.choice(48, 4, replace=False) for _ in range(len(onset) // 4)])
    return Performance(onset, np.full(len(onset), 0.45), pitch, rng.integers(40, 100, len(onset)))


@pytest.fixture(scope="module")
def recording(preview: Preview, notes: Performance) -> np.ndarray:
    """The notes on a piano of another tuning and colour, in a room: all of it known."""
    dry = played(preview, notes, "grand", 8 * SAMPLE_RATE, Tuning(CENTS))
    room = RoomFit(np.full(COUNT, T60_SEC), np.full(COUNT, WET_DB), 0.016)
    sound = fftconvolve(dry, middle_response(TILT_DB, response(room, 77)))[: len(dry)]
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(preview: Preview, notes: Performance, recording: np.ndarray) -> Instrument:
    return fit_instrument(preview, recording, notes)


def test_the_tuning_is_found_within_two_cents(fitted: Instrument) -> None:
    assert fitted.tuning.cents == pytest.approx(CENTS, abs=2)
    assert abs(fitted.tuning.stretch) < 1


def test_the_room_is_found(fitted: Instrument) -> None:
    t60, wet = np.median(fitted.room.t60_sec[HEARD]), np.median(fitted.room.wet_db[HEARD])
    assert t60 == pytest.approx(T60_SEC, rel=0.25)
    assert wet == pytest.approx(WET_DB, abs=3)  # damped: drawn towards the usual room


def test_the_colour_is_found_within_two_decibels(fitted: Instrument) -> None:
    found = fitted.gain_db[HEARD] - fitted.gain_db[HEARD].mean()
    assert np.abs(found - (TILT_DB[HEARD] - TILT_DB[HEARD].mean())).mean() < 2


def test_like_velocities_are_left_nearly_alone(fitted: Instrument) -> None:
    assert fitted.velocity.exponent == pytest.approx(1, abs=0.1)


def test_a_dry_recording_is_given_little_room(preview: Preview, notes: Performance, fitted: Instrument) -> None:
    dry = played(preview, notes, "grand", 8 * SAMPLE_RATE)
    found = fit_instrument(preview, dry, notes)
    assert np.median(found.room.wet_db[HEARD]) < np.median(fitted.room.wet_db[HEARD]) - 6
    assert np.abs(found.gain_db[HEARD] - found.gain_db[HEARD].mean()).mean() < 2


def test_velocities_are_spread_around_the_middle() -> None:
    played = VelocityCurve(1.2, 64.0).played(Performance([0, 1, 2], [1, 1, 1], [60, 60, 60], [32, 64, 110]))
    assert played.velocity.tolist() == [28, 64, 123]


def test_the_equaliser_has_the_gains_and_no_sound_before_the_attack() -> None:
    wanted = 6 * np.sin(np.arange(COUNT) / 4)
    made = minimum_phase(wanted)
    shown = 20 * np.log10(np.abs(np.fft.rfft(made, 16384)))
    inside = (np.fft.rfftfreq(16384, 1 / SAMPLE_RATE) > 60) & (np.fft.rfftfreq(16384, 1 / SAMPLE_RATE) < CENTRES[-1])
    assert np.abs(shown - over_frequency(wanted, 16384))[inside].max() < 0.5
    assert (made[:64] ** 2).sum() > 0.8 * (made**2).sum()


def test_convolution_in_parts_equals_the_whole() -> None:
    rng = np.random.default_rng(0)
    sound, responses = rng.standard_normal(5000), rng.standard_normal((2, 700))
    convolver = Convolver(responses)
    made = np.concatenate([convolver.add(part) for part in np.split(sound, [100, 101, 2500, 4800])], 1)
    for channel, h in zip(made, responses, strict=True):
        np.testing.assert_allclose(channel, np.convolve(sound, h)[:5000], atol=2e-3)


def test_resampling_in_parts_equals_the_whole() -> None:
    sound = np.random.default_rng(0).standard_normal((9000, 2)).astype(np.float32)
    stream = StreamResampler(32000, 48000, 2)
    made = np.concatenate([*(stream.push(p) for p in np.split(sound, [10, 4000])), stream.finish(13500)])
    assert made.shape == (13500, 2)
    np.testing.assert_allclose(made[200:-200], resample(sound, 32000, 48000)[200:13300], atol=2e-2)


def test_the_image_of_two_channels() -> None:
    rng = np.random.default_rng(0)
    middle, side = rng.standard_normal((2, 4 * SAMPLE_RATE))
    found = measure_image(middle + 0.3 * middle + 0.5 * side, middle - 0.3 * middle - 0.5 * side)
    assert found is not None
    np.testing.assert_allclose(found.lean, 0.3, atol=0.1)
    np.testing.assert_allclose(found.width, 0.25, atol=0.08)
    assert measure_image(middle, middle) is None


def test_a_stereo_prompt_makes_a_stereo_rendering_of_its_width(preview: Preview) -> None:
    prompt = gallery()["goldberg"]
    assert prompt.image is not None
    assert prompt.notes is not None
    clip = FittedRenderer(preview).render(prompt.notes, prompt)
    assert (clip.channels, clip.sample_rate) == (2, 48000)
    made = measure_image(*(resample(c, 48000, SAMPLE_RATE) for c in clip.samples.T))
    assert made is not None
    gap = 10 * np.log10(np.array(made.width)[HEARD] / np.array(prompt.image.width)[HEARD])
    assert abs(gap.mean()) < 2
    assert np.abs(gap).mean() < 4


def test_a_mono_prompt_makes_one_channel(preview: Preview) -> None:
    prompt = gallery()["sampled-grand"]
    clip = FittedRenderer(preview).render(prompt.notes, prompt, span=(0.0, 1.0))
    assert clip.samples.shape == (48000,)


def test_loudness_follows_the_performance_as_the_previews(preview: Preview) -> None:
    prompt, renderer = gallery()["prelude-d"], FittedRenderer(preview)
    assert prompt.notes is not None
    gaps = []
    for velocity in (30, 50, 70, 90, 110):
        even = Performance(
            prompt.notes.onset_sec, prompt.notes.duration_sec, prompt.notes.pitch, np.full(len(prompt.notes), velocity)
        )
        ours, theirs = renderer.render(even, prompt).mono(), preview.preview(even)
        a, b = (sounding_db(level_db(c.samples, c.sample_rate, 0.05)) for c in (ours, theirs))
        gaps.append(a - b)
    assert np.abs(np.array(gaps) - np.mean(gaps)).max() < 1


def test_a_part_is_that_part_of_the_whole(preview: Preview) -> None:
    prompt, renderer = gallery()["sampled-upright"], FittedRenderer(preview)
    assert prompt.notes is not None
    whole, part = (renderer.render(prompt.notes, prompt, span=span) for span in ((0.0, None), (4.0, 6.0)))
    assert len(part.samples) == 2 * 48000
    np.testing.assert_allclose(part.samples[480:-480], whole.samples[4 * 48000 + 480 : 6 * 48000 - 480], atol=2e-3)
    assert len(whole.samples) == np.ceil(50 * (prompt.notes.end_sec + 2)) * 960


def test_the_same_seed_makes_the_same_sound_and_another_other_echoes(preview: Preview) -> None:
    prompt = gallery()["prelude-c"]
    a, b = (FittedRenderer(preview).render(prompt.notes, prompt, seed=4, span=(0.0, 2.0)) for _ in range(2))
    np.testing.assert_array_equal(a.samples, b.samples)
    other = FittedRenderer(preview).render(prompt.notes, prompt, seed=5, span=(0.0, 2.0))
    assert np.abs(other.samples - a.samples).max() > 1e-3
    assert abs(np.log10((other.samples**2).sum() / (a.samples**2).sum())) < 0.1


def test_notes_before_a_part_are_left_out_and_its_pedal_stands() -> None:
    whole = Performance([0, 5, 9], [1, 1, 1], [60, 62, 64], [60, 60, 60], [1.0, 7.0], [127, 0])
    cut = beginning_at(whole, 4.0)
    assert cut.onset_sec.tolist() == [1, 5]
    assert cut.pitch.tolist() == [62, 64]
    assert cut.pedal_sec.tolist() == [0, 3]
    assert cut.pedal_value.tolist() == [127, 0]


def test_a_prompt_without_a_piano_still_renders(preview: Preview) -> None:
    hiss = np.random.default_rng(2).normal(0, 0.05, 4 * 32000).astype(np.float32)
    prompt = Prompt(AudioClip(hiss, 32000), Performance([], [], [], []))
    clip = FittedRenderer(preview).render(gallery()["goldberg"].notes, prompt, span=(0.0, 2.0))
    assert np.isfinite(clip.samples).all()
    assert 0.01 < np.abs(clip.samples).max() <= 1


def test_a_temperature_is_refused(preview: Preview) -> None:
    prompt = gallery()["goldberg"]
    with pytest.raises(BadInput, match="leave it at 1"):
        FittedRenderer(preview).render(prompt.notes, prompt, temperature=0.5)


def test_tuning_is_given_back_with_the_piano(preview: Preview, notes: Performance) -> None:
    before = played(preview, notes, "grand", SAMPLE_RATE)
    tuned = played(preview, notes, "grand", SAMPLE_RATE, Tuning(50.0))
    np.testing.assert_allclose(played(preview, notes, "grand", SAMPLE_RATE), before, atol=1e-6)
    assert np.abs(tuned - before).max() > 0.01


def test_a_stereo_recording_keeps_its_image_as_a_prompt() -> None:
    rng = np.random.default_rng(1)
    left, right = 0.1 * rng.standard_normal((2, 4 * 44100)).astype(np.float32)
    prompt = prepare_prompt(AudioClip(np.stack([left, right], 1), 44100), 0.0, 3.0)
    assert isinstance(prompt.image, Image)
    assert prompt.clip.channels == 1
    np.testing.assert_allclose(prompt.image.width, 1.0, atol=0.4)
    assert prepare_prompt(AudioClip(left, 44100), 0.0, 3.0).image is None


def test_energies_of_noise_lie_in_its_band() -> None:
    tone = np.sin(2 * np.pi * 800 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    assert energies(tone).sum(0).argmax() == 12  # 800 Hz
