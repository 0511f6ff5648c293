"""References as people have them: phones' and browsers' containers, and remarks on recordings that serve badly."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from engine.music.types import AudioClip, BadInput, Performance
from engine.sound.clip import encode_audio, read_stereo
from engine.sound.prompts import Prompt, gallery, prepare_prompt, read_prompt
from engine.sound.recording import read_recording, resample

RATE = 48_000
TIME = np.arange(4 * RATE) / RATE
LEFT, RIGHT = 0.3 * np.sin(2 * np.pi * 440 * TIME), 0.2 * np.sin(2 * np.pi * 660 * TIME)


def in_container(container: str, codec: str) -> bytes:
    """Four seconds: 440 Hz on the left, 660 Hz on the right."""
    data = io.BytesIO()
    with av.open(data, "w", format=container) as file:
        stream = file.add_stream(codec, rate=RATE)
        stream.layout = "stereo"
        frame = av.AudioFrame.from_ndarray(np.stack([LEFT, RIGHT]).astype(np.float32), format="fltp", layout="stereo")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    return data.getvalue()


KINDS = {
    "m4a, AAC": ("ipod", "aac"), "m4a, ALAC": ("ipod", "alac"), "mp4, AAC": ("mp4", "aac"), "AAC": ("adts", "aac"),
    "WebM, Opus": ("webm", "libopus"), "AIFF": ("aiff", "pcm_s16be"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_phones_and_browsers_files_are_read(kind: str, tmp_path: Path) -> None:
    data = in_container(*KINDS[kind])
    clip = read_stereo(data)
    assert (clip.channels, clip.sample_rate) == (2, RATE)
    assert clip.duration_sec == pytest.approx(4, abs=0.05)
    middle = clip.samples[RATE : 3 * RATE]
    assert [np.abs(np.fft.rfft(c)).argmax() / 2 for c in middle.T] == pytest.approx([440, 660], abs=1)
    assert middle.std(0) == pytest.approx([0.3 / 2**0.5, 0.2 / 2**0.5], rel=0.1)
    assert read_prompt(data, seconds=3).image is not None
    (tmp_path / "recording").write_bytes(data)
    part = read_recording(tmp_path / "recording", None, 1.0, 2.0)
    assert part.duration_sec == pytest.approx(2)
    assert part.samples.std() == pytest.approx(np.hypot(0.15, 0.1) / 2**0.5, rel=0.1)


@pytest.mark.parametrize("kind", ["m4a, AAC", "m4a, ALAC", "WebM, Opus"])
def test_damaged_containers_are_refused_in_one_sentence(kind: str) -> None:
    data = in_container(*KINDS[kind])
    rng = np.random.default_rng(0)
    for cut in (data[:12], data[:600], data[:24] + bytes(4000), data[:40] + rng.bytes(3000), data[: len(data) // 30]):
        with pytest.raises(BadInput, match=r"damaged|no sound in it|at least 0\.5 s|silent") as refused:
            read_stereo(cut)
        assert str(refused.value).count(". ") == 0


def test_a_film_without_sound_is_refused() -> None:
    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        frames = [av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24") for _ in range(3)]
        for packet in (*(p for frame in frames for p in stream.encode(frame)), *stream.encode(None)):
            file.mux(packet)
    with pytest.raises(BadInput, match="no sound in it; choose a recording"):
        read_stereo(data.getvalue())


@pytest.fixture(scope="module")
def piano() -> AudioClip:
    """Six seconds of a real piano, in which nothing is wrong."""
    return AudioClip(gallery()["goldberg"].clip.samples[: 6 * 32_000], 32_000)


def remarks(clip: AudioClip, notes: Performance | None = None) -> str:
    return " ".join(prepare_prompt(clip, 0.0, 6.0, notes).remarks)


def test_a_good_recording_has_no_remark(piano: AudioClip) -> None:
    assert remarks(piano, gallery()["goldberg"].notes) == ""


def test_a_recording_at_8_khz_has_a_remark(piano: AudioClip) -> None:
    small = resample(piano.samples, 32_000, 8_000)
    for clip in (AudioClip(small, 8_000), AudioClip(resample(small, 8_000, 44_100), 44_100)):
        assert "no sound above 4.0 kHz" in remarks(clip)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_flat_tops_below_full_scale_are_remarked_on(piano: AudioClip, level: float) -> None:
    loud = piano.samples / np.abs(piano.samples).max()
    assert "are clipped" in remarks(AudioClip(level * np.clip(loud, -0.6, 0.6), 32_000))
    assert "are clipped" not in remarks(AudioClip(level * loud, 32_000))


def test_too_few_notes_are_remarked_on(piano: AudioClip) -> None:
    nothing, three = Performance([], [], [], []), Performance([1, 2, 3], [1, 1, 1], [60, 62, 64], [60, 60, 60])
    assert "found in this reference: 0," in remarks(piano, nothing)
    assert "found in this reference: 3," in remarks(piano, three)
    heard = prepare_prompt(piano, 0.0, 6.0).with_notes(nothing)
    assert "may not be a piano" in heard.remarks[0]
    assert heard.digest == Prompt(heard.clip, nothing).digest, "remarks do not change what a prompt is"


def test_channels_that_cancel_out_and_floats_over_full_scale_are_used(piano: AudioClip) -> None:
    loud = 2.5 * piano.samples / np.abs(piano.samples).max()
    data = io.BytesIO()
    soundfile.write(data, np.stack([loud, -loud], 1), 32_000, "FLOAT", format="WAV")
    prompt, plain = read_prompt(data.getvalue()), read_prompt(encode_audio(piano))
    assert (prompt.image, prompt.remarks) == (None, ())
    np.testing.assert_allclose(prompt.clip.samples, plain.clip.samples, atol=2e-3)
