"""Thousands of untrusted files: sound and hostile scores, with time and memory measured."""

import io
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.music.types import AudioClip, BadInput
from engine.sound.clip import read_audio
from engine.sound.prompts import SAMPLE_RATE, read_prompt
from engine.untrusted.scores import open_performance, open_score, warm_up
from tests.engine.music.test_midi import HOSTILE, NOTE, assert_sentence, midi, mutate
from tests.engine.sound.test_prompt_formats import in_container
from tests.engine.untrusted.test_scores import REFUSED, archive, container
from tests.helpers.soak_report import Reporter

ROOT = Path(__file__).parents[2]


def seconds_and_mb(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds until a call is refused with a sentence, and its peak of additional memory, MB."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, began = memory_kb("VmRSS"), time.perf_counter()
    with pytest.raises(BadInput) as refused:
        call()
    spent = time.perf_counter() - began
    assert_sentence(refused.value)
    return spent, (memory_kb("VmHWM") - before) / 1000


def memory_kb(what: str) -> int:
    """Memory of this process, kB: VmRSS is the current, VmHWM the peak value."""
    return int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


@pytest.mark.parametrize("_full", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_hostile_midi_is_refused_at_once(_full: bool, soak_report: Reporter) -> None:
    wrong = []
    for name, (data, message) in HOSTILE.items():
        try:
            open_score(data, name)
            ok = message is None
        except BadInput as error:
            assert_sentence(error)
            ok = message is not None
        wrong += [] if ok else [name]
    million = midi(NOTE * 1_000_000)
    spent, grown = seconds_and_mb(lambda: open_performance(million, "x.mid"))
    soak_report(
        2, "hostile MIDI files", asked="28 answers pinned; a million notes refused under 0.5 s and 100 MB",
        found=f"{len(HOSTILE) - len(wrong)} of {len(HOSTILE)} as pinned; {spent:.3f} s, {grown:.0f} MB",
        passed=not wrong and len(HOSTILE) >= 28 and spent < 0.5 and grown < 100,
    )  # fmt: skip


@pytest.mark.parametrize("_full", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_hostile_scores_tell_no_secret(_full: bool, soak_report: Reporter, tmp_path: Path) -> None:
    warm_up()
    secret = tmp_path / "secret.txt"
    secret.write_text("the-secret-text")
    files = {name: data for name, (data, _) in REFUSED.items()}
    for k, head in enumerate((f'<!ENTITY x SYSTEM "file://{secret}">', f'<!ENTITY % x SYSTEM "file://{secret}"> %x;')):
        files[f"secret {k}"] = f"<!DOCTYPE s [{head}]><score-partwise><a>&x;</a></score-partwise>".encode()
    files["secret in an mxl"] = archive(container(str(secret)), ("a.xml", b""))
    told = []
    for name, data in files.items():
        with pytest.raises(BadInput) as refused:
            open_score(data, name)
        assert_sentence(refused.value)
        told += [name] if "the-secret-text" in str(refused.value) else []
    bomb = archive(container("a.xml"), ("a.xml", b"<score-partwise>" + b" " * 1_500_000_000)) if _full else REFUSED[
        "mxl: bomb"
    ][0]  # fmt: skip
    spent, grown = seconds_and_mb(lambda: open_score(bomb, "x"))
    soak_report(
        4, "hostile MusicXML, MEI, kern, .mxl", asked="16 pinned; no secret told; bomb refused under 1 s and 100 MB",
        found=f"{len(files)} refused with a sentence, {len(told)} tell a secret; bomb {spent:.2f} s, {grown:.0f} MB",
        passed=not told and len(files) >= 16 and spent < 1 and grown < 100,
    )  # fmt: skip


def tone(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """A struck string's decay, (num_samples, channels)."""
    at = np.arange(round(seconds * rate)) / rate
    return np.repeat((0.5 * np.sin(2 * np.pi * 440 * at) * np.exp(-at / 2))[:, None], channels, 1)


def sound(samples: np.ndarray, rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, subtype=subtype)
    return out.getvalue()


def hostile_sounds() -> dict[str, tuple[bytes, str | None]]:
    """Sound files with a part of the refusal; None for accepted files."""
    good, holes = sound(tone(4, 44_100), 44_100), tone(4, 44_100).astype(np.float32)
    holes[1000], endless = np.nan, holes.copy()
    endless[1000] = np.inf
    header = good[:24]
    return {
        "stereo": (sound(tone(4, 48_000, 2), 48_000), None),
        "FLAC": (sound(tone(4, 44_100), 44_100, "FLAC"), None),
        "not a number inside": (sound(holes, 44_100, subtype="FLOAT"), "numbers|finite"),
        "infinite inside": (sound(endless, 44_100, subtype="FLOAT"), "numbers|finite"),
        "no frames": (sound(tone(0, 44_100), 44_100), "lasts|empty|damaged"),
        "1 Hz": (header + (1).to_bytes(4, "little") + good[28:], "Hz|lasts|damaged"),
        "0 Hz": (header + bytes(4) + good[28:], "Hz|damaged"),
        "768 kHz": (header + (768_000).to_bytes(4, "little") + good[28:], "Hz"),
        "64 channels": (sound(tone(1, 8000, 64), 8000), "channels"),
        "false length": (good[:40] + b"\xff\xff\xff\x7f" + good[44:], None),
        "cut off": (good[: len(good) * 9 // 10], None),
        "mp4 by another name": (b"\0\0\0\x20ftypisom" + bytes(2000), "damaged"),
        "webm": (b"\x1aE\xdf\xa3" + bytes(2000), "damaged"),
        "playlist in a WAV's clothes": (b"RIFF\x40\0\0\0WAVE#EXTM3U\nhttp://10.0.0.1/a\n" + bytes(60), "damaged"),
        "empty": (b"", "cannot be read|empty"),
        "random": (random.Random(4).randbytes(50_000), "cannot be read"),
        "silence": (sound(np.zeros((44_100 * 4, 1)), 44_100), "silent"),
    }  # fmt: skip


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [150, pytest.param(2000, marks=pytest.mark.soak)])
def test_mutated_recordings_are_read_or_refused(count: int, soak_report: Reporter) -> None:
    """The seed files are short, because the reader is tested, not the length."""
    r, read, named = random.Random(23), 0, hostile_sounds()
    for data, message in named.values():
        if message is None:
            check_prompt(read_prompt(data, seconds=3).clip)
        else:
            with pytest.raises(BadInput, match=message) as refused:
                read_prompt(data, seconds=3)
            assert_sentence(refused.value)
    seeds = [sound(tone(3.5, 22_050), 22_050, kind) for kind in ("WAV", "FLAC", "OGG", "MP3")]
    seeds += [in_container("ipod", "aac"), in_container("webm", "libopus")]
    for _ in range(count):
        try:
            prompt = read_prompt(mutate(r.choice(seeds), r), seconds=3)
        except BadInput as error:
            assert_sentence(error)
            continue
        read += 1
        check_prompt(prompt.clip)
    soak_report(
        5, "mutated WAV, FLAC, OGG, MP3, M4A, WebM",
        asked=f"{count:,} and 17 made by hand: 0 crashes; what is accepted is sound",
        found=f"{count:,} and {len(named)}: 0 crashes, {read:,} accepted, all finite, mono, 32 kHz",
        passed=read > count / 10 and len(named) >= 17,
    )  # fmt: skip


def check_prompt(clip: AudioClip) -> None:
    assert clip.sample_rate == SAMPLE_RATE
    assert clip.samples.ndim == 1
    assert np.isfinite(clip.samples).all()
    assert 3 <= clip.duration_sec <= 10


@pytest.mark.parametrize("_full", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_lengths_and_rates(_full: bool, soak_report: Reporter) -> None:
    lengths = {0.0: False, 1 / 44_100: False, 0.49: False, 0.5: True, 3.0: True, 60.0: True, 7200.0: True}
    rates = {1: False, 7_999: False, 8_000: True, 192_000: True, 768_000: False}
    files = {f"{s:g} s": (long_sound(s), ok) for s, ok in lengths.items()}
    good = sound(tone(1, 8000), 8000)
    files |= {f"{rate} Hz": (good[:24] + rate.to_bytes(4, "little") + good[28:], ok) for rate, ok in rates.items()}
    files["192000 Hz"] = (sound(tone(1, 192_000), 192_000), True)
    wrong, told = [], set()
    for name, (data, accepted) in files.items():
        try:
            clip = read_audio(data)
            wrong += [] if accepted and clip.duration_sec <= 60 + 1e-6 else [name]
        except BadInput as error:
            assert_sentence(error)
            told.add(str(error))
            wrong += [name] if accepted else []
    soak_report(
        6, "lengths 0 s to 2 h, rates 1 Hz to 768 kHz", asked="as the rule says, each with its sentence",
        found=f"{len(files) - len(wrong)} of {len(files)} as the rule says, {len(told)} sentences {wrong or ''}",
        passed=not wrong,
    )  # fmt: skip


def long_sound(seconds: float) -> bytes:
    """A recording of so many seconds; two hours as FLAC of which only the first minute sounds."""
    if seconds < 1000:
        return sound(tone(seconds, 44_100), 44_100)
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", 44_100, 1, format="FLAC") as file:
        file.write(tone(60, 44_100))
        for _ in range(round(seconds / 60) - 1):
            file.write(np.zeros(60 * 44_100, np.int16))
    return out.getvalue()


@pytest.mark.soak
def test_two_hours_are_read_in_little_memory() -> None:
    """In a subprocess: the whole file would take 1.2 GB."""
    code = (
        "from tests.reliability.test_soak_files import long_sound, memory_kb, read_audio\n"
        "data = long_sound(7200); read_audio(data); print(memory_kb('VmHWM'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 700_000  # kB, most of it the libraries
