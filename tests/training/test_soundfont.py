"""The SoundFont writer: what is written is what fluidsynth plays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.music.types import AudioClip, Performance
from engine.sound import preview as preview_module
from engine.sound.preview import SAMPLE_RATE, Preview
from training.assets.build_soundfont import key_ranges, loudness_db, prepare
from training.assets.soundfont import Zone, write_sf3

SINE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE)  # A4, key 69


def play(path: Path, zones: list[Zone], pitch: int, velocity: int, monkeypatch: pytest.MonkeyPatch) -> AudioClip:
    path.write_bytes(write_sf3(zones, SAMPLE_RATE, "Sine", {"ICOP": "none"}, quality=0.8))
    monkeypatch.setitem(
        preview_module.PIANOS, "grand", replace(preview_module.PIANOS["grand"], files=(path,), gain=0.5)
    )
    note = Performance(np.zeros(1), np.ones(1), np.array([pitch]), np.array([velocity]))
    return Preview().preview(note)


def frequency(clip: AudioClip) -> float:
    part = clip.samples[3200:28800] * np.hanning(25600)
    return float(np.abs(np.fft.rfft(part, 1 << 18)).argmax() * SAMPLE_RATE / (1 << 18))


def test_pitch_level_and_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    low = Zone(SINE, 69, (0, 127), (1, 63), 0.0, 0.3)
    middle = replace(low, velocities=(64, 99), attenuation_db=12.0)
    zones = [low, middle, replace(low, velocities=(100, 127), tune_cents=50.0)]
    soft, louder, octave, semitone, sharp = (
        play(tmp_path / f"{pitch}-{velocity}.sf3", zones, pitch, velocity, monkeypatch)
        for pitch, velocity in ((69, 63), (69, 64), (81, 63), (68, 63), (69, 100))
    )
    assert frequency(soft) == pytest.approx(440, abs=0.5)
    assert frequency(octave) == pytest.approx(880, abs=1)
    assert frequency(semitone) == pytest.approx(415.3, abs=0.5)
    assert frequency(sharp) == pytest.approx(440 * 2 ** (1 / 24), abs=0.5)
    step = np.sqrt((soft.samples[:16000] ** 2).mean() / (louder.samples[:16000] ** 2).mean())
    assert 20 * np.log10(step) == pytest.approx(12.0 - 40 * np.log10(64 / 63), abs=0.15)
    assert (
        np.abs(soft.samples[int(1.5 * SAMPLE_RATE) : int(1.55 * SAMPLE_RATE)]).max() < 0.02 * np.abs(soft.samples).max()
    )


def test_chunks_are_even() -> None:
    data = write_sf3(
        [Zone(SINE[:999], 69, (0, 127), (1, 127), 0.0, 0.3)], SAMPLE_RATE, "Even", {"ICOP": "odd", "IENG": "even"}
    )
    assert data[:4] == b"RIFF"
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    assert len(data) % 2 == 0


def test_prepare_aligns_and_ends() -> None:
    """A decaying note behind 50 ms of rumble starts 4 ms before its attack, ends in silence and peaks at 0.85."""
    t = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    recorded = np.concatenate([np.zeros(1600), 0.3 * np.sin(2 * np.pi * 880 * t) * np.exp(-3 * t)])
    recorded += 0.002 * np.sin(2 * np.pi * 15 * np.arange(len(recorded)) / SAMPLE_RATE)
    note = prepare(recorded, SAMPLE_RATE, 81, longest_sec=3.0)
    assert 120 <= np.argmax(np.abs(note) > 0.1) <= 140
    assert np.abs(note).max() == pytest.approx(0.85)
    assert len(note) < 2.6 * SAMPLE_RATE  # 60 dB down after 2.3 s
    assert abs(note[-1]) < 1e-6


def test_loudness_is_a_weighted() -> None:
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    at = {hz: loudness_db(np.sin(2 * np.pi * hz * t), SAMPLE_RATE) for hz in (100, 1000)}
    assert at[1000] == pytest.approx(-3.0 - 2.0, abs=0.3)  # half the power; the factor is 2 dB under one at 1 kHz
    assert at[1000] - at[100] == pytest.approx(19.1, abs=0.3)  # IEC 61672, table 3


def test_key_ranges() -> None:
    assert key_ranges([21, 24, 30]) == [(0, 22), (23, 27), (28, 127)]
    assert key_ranges([60]) == [(0, 127)]
