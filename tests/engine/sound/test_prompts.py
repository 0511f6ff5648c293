"""Prompts: cutting, level, notes, refusals; the gallery."""

import io
import json

import numpy as np
import pytest
import soundfile

from engine.music.types import AudioClip, BadInput, Performance
from engine.render.provenance import describe_render, read_description
from engine.requests import RenderRequest
from engine.sound.clip import encode_audio, read_audio
from engine.sound.prompts import (
    FOLDER,
    LEVEL_DB,
    SAMPLE_RATE,
    Prompt,
    about_gallery,
    clipped_share,
    gallery,
    prepare_prompt,
    read_prompt,
)


def tone(seconds: float, rate: int = SAMPLE_RATE, level: float = 0.1, hz: float = 440.0) -> AudioClip:
    return AudioClip(level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate), rate)


def loudness_db(clip: AudioClip) -> float:
    return float(10 * np.log10((clip.samples.astype(float) ** 2).mean()))


@pytest.mark.parametrize("level", [0.003, 0.1, 0.9])
def test_every_prompt_has_one_loudness(level: float) -> None:
    prompt = prepare_prompt(tone(6, level=level))
    assert loudness_db(prompt.clip) == pytest.approx(LEVEL_DB, abs=0.1)
    assert prompt.clip.sample_rate == SAMPLE_RATE


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_every_rate_becomes_32_khz_at_the_same_pitch(rate: int) -> None:
    prompt = prepare_prompt(tone(5, rate), 1.0, 3.0)
    assert prompt.clip.duration_sec == pytest.approx(3, abs=0.001)
    spectrum = np.abs(np.fft.rfft(prompt.clip.samples))
    assert spectrum.argmax() / prompt.clip.duration_sec == pytest.approx(440, abs=1)


def test_a_silent_beginning_is_left_out() -> None:
    samples = np.concatenate([np.zeros(2 * SAMPLE_RATE, np.float32), tone(6).samples])
    notes = Performance([2.0], [1.0], [69], [64])
    prompt = prepare_prompt(AudioClip(samples, SAMPLE_RATE), 0.0, 4.0, notes)
    assert prompt.clip.duration_sec == pytest.approx(4)
    assert prompt.notes is not None
    begins = float(prompt.notes.onset_sec[0])
    assert 0.04 <= begins <= 0.11
    heard = np.flatnonzero(np.abs(prompt.clip.samples) > 0.01)[0] / SAMPLE_RATE
    assert heard == pytest.approx(begins, abs=0.005)


def test_the_notes_of_the_excerpt_counted_by_hand() -> None:
    notes = Performance(
        onset_sec=[0.5, 1.98, 2.0, 3.0, 5.5, 6.0], duration_sec=[4.0, 0.5, 0.5, 9.0, 0.4, 1.0],
        pitch=[60, 61, 62, 63, 64, 65], velocity=[10, 20, 30, 40, 50, 60],
        pedal_sec=[0.1, 2.5, 5.0, 7.0], pedal_value=[127, 0, 64, 0],
    )  # fmt: skip
    cut = prepare_prompt(tone(10), 2.0, 4.0, notes).notes
    assert cut is not None
    assert cut.pitch.tolist() == [61, 62, 63, 64]
    assert cut.onset_sec.tolist() == pytest.approx([0.0, 0.0, 1.0, 3.5])
    assert cut.duration_sec.tolist() == pytest.approx([0.48, 0.5, 3.0, 0.4])
    assert cut.pedal_sec.tolist() == pytest.approx([0.0, 0.5, 3.0])
    assert cut.pedal_value.tolist() == [127, 0, 64]


def test_without_notes_there_are_none() -> None:
    assert prepare_prompt(tone(6)).notes is None


@pytest.mark.parametrize(
    ("clip", "start", "seconds", "words"),
    [
        (tone(2.9), 0, 3, "at least 3 s"),
        (tone(6), 0, 2, "3 to 10 s"),
        (tone(20), 0, 11, "3 to 10 s"),
        (tone(6), 4, 3, "begins at 4 s"),
        (tone(6), -1, 3, "begins at"),
        (tone(6), float("nan"), 3, "accepted"),
        (tone(6, level=1e-5), 0, 3, "silent"),
        (AudioClip(np.clip(20 * tone(6).samples, -1, 1), SAMPLE_RATE), 0, 3, "clipped"),
        (AudioClip(np.full(7 * SAMPLE_RATE, np.nan), SAMPLE_RATE), 0, 3, "not numbers"),
        (AudioClip(np.zeros(20_000), 4_000), 0, 3, "4000 Hz"),
    ],
)
def test_refusals_are_one_sentence(clip: AudioClip, start: float, seconds: float, words: str) -> None:
    with pytest.raises(BadInput, match=words) as refused:
        prepare_prompt(clip, start, seconds)
    assert str(refused.value).count(". ") == 0


@pytest.mark.parametrize(("silent", "sounding", "start"), [(0.2, 2.8, 0.0), (4.0, 2.0, 0.0), (1.0, 2.5, 0.5)])
def test_silence_is_cut_only_as_far_as_three_seconds_remain(silent: float, sounding: float, start: float) -> None:
    samples = np.concatenate([np.zeros(round(silent * SAMPLE_RATE), np.float32), tone(sounding).samples])
    prompt = prepare_prompt(AudioClip(samples, SAMPLE_RATE), start, 6)
    assert prompt.clip.duration_sec == pytest.approx(3)
    begins = np.flatnonzero(np.abs(prompt.clip.samples) > 0.01)[0] / SAMPLE_RATE
    assert begins == pytest.approx(3 - sounding, abs=0.01)


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
def test_a_recording_of_exactly_three_seconds_is_accepted(rate: int) -> None:
    samples = np.concatenate([np.zeros(rate // 4, np.float32), tone(3, rate).samples])[: 3 * rate]
    assert prepare_prompt(AudioClip(samples, rate), 0, 3).clip.duration_sec == pytest.approx(3, abs=1e-3)


def test_untrusted_files() -> None:
    data = encode_audio(tone(5, 44_100), "flac")
    assert read_prompt(data, seconds=4).clip.duration_sec == pytest.approx(4, abs=0.001)
    with pytest.raises(BadInput, match="cannot be read"):
        read_prompt(b"MThd no sound at all")
    stereo = io.BytesIO()
    both = np.stack([tone(5).samples, -0.5 * tone(5).samples], 1)
    both[:, 1] *= 1.96  # one channel is wired the wrong way round: the mean would be next to nothing
    soundfile.write(stereo, both, SAMPLE_RATE, format="WAV")
    found = read_prompt(stereo.getvalue())
    assert found.image is None
    np.testing.assert_allclose(found.clip.samples, read_prompt(encode_audio(tone(5))).clip.samples, atol=1e-3)


def test_floating_point_sound_over_full_scale_is_turned_down() -> None:
    loud = io.BytesIO()
    soundfile.write(loud, 4 * tone(5).samples / np.abs(tone(5).samples).max(), SAMPLE_RATE, "FLOAT", format="WAV")
    clip = read_audio(loud.getvalue())
    assert np.abs(clip.samples).max() == pytest.approx(1)
    assert clipped_share(clip) < 0.01


def test_clipping_is_counted_in_runs() -> None:
    samples = np.zeros(100, np.float32)
    samples[[5, 20, 21, 22]] = 1.0
    assert clipped_share(AudioClip(samples, SAMPLE_RATE)) == pytest.approx(0.03)


def test_a_prompt_is_checked_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="32000 Hz"):
        Prompt(tone(5, 44_100))
    with pytest.raises(ValueError, match="3 to 10"):
        Prompt(tone(11))


def test_the_gallery() -> None:
    prompts = gallery()
    about = about_gallery()
    kinds = [entry["kind"] for entry in about.values()]
    assert kinds.count("recording") >= 4
    assert kinds.count("sampled") == 3
    assert list(prompts) == list(about)
    assert sum(f.stat().st_size for f in FOLDER.iterdir()) < 3_000_000
    assert gallery()["goldberg"] is prompts["goldberg"]
    credits = (FOLDER / "CREDITS.md").read_text(encoding="utf-8")
    for key, prompt in prompts.items():
        assert prompt.name
        assert prompt.credit
        assert about[key]["file"] in credits
        assert -26 < loudness_db(prompt.clip) < -20
        assert prompt.notes is not None
        assert len(prompt.notes) >= 10
        assert prompt.notes.onset_sec[0] < 0.2, "the excerpt begins with its first note"
        assert prompt.notes.end_sec <= prompt.clip.duration_sec + 1e-6
        head = prompt.clip.samples[: round(0.003 * SAMPLE_RATE)]
        assert np.abs(head).max() < 0.05, "it starts without a click"


def test_how_a_sound_was_made_travels_in_its_file() -> None:
    prompt = gallery()["gymnopedie"]
    played = Performance([0.0], [1.0], [60], [64])
    for kind in ("wav", "flac"):
        request = RenderRequest(played, prompt, seed=7, temperature=0.8, span=(1.5, None), profile="product")
        text = describe_render(request, weights="abc", piece="Étude “x”")
        found = read_description(encode_audio(tone(1), kind, text))
        assert found["seed"] == 7
        assert found["weights"] == "abc"
        assert found["piece"] == "Étude “x”"
        assert found["span_sec"] == [1.5, None]
        assert found["prompt_digest"] == prompt.digest
        assert found["credit"] == prompt.credit
    assert read_description(encode_audio(tone(1), "wav", json.dumps({"made_by": "somebody"}))) == {}
    assert read_description(encode_audio(tone(1))) == {}
