"""Differences between a rendering and the recording of the same notes: attacks, decays, spectral centroid, ViSQOL."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from engine.measures.sound_metrics import RATE
from engine.music.types import AudioClip, Performance
from engine.sound.recording import resample
from engine.sound.spectra import level_db, magnitudes

OCTAVES = 62.5 * 2.0 ** np.arange(8)  # Hz, centres
STEP_SEC = 0.02
FALL_SEC, FALL_DB = 0.24, 3.0  # minimum length and decrease of a stretch for measuring decay
RANGE_DB = 50.0
REST_SEC = 0.15  # time without an onset before a measured attack
EARLY_HZ = 2000.0
VISQOL_RATE, VISQOL_SEC = 48000, 5.0


def centroid_correlation(real: AudioClip, made: AudioClip) -> float:
    """Correlation of the spectral centroids, in octaves, of the 16 ms frames in which the recording sounds."""
    sounds = [magnitudes(c.samples, 2048, 512)[:, 1:] ** 2 for c in (real, made)]
    hz = np.log2(np.fft.rfftfreq(2048, 1 / RATE)[1:])
    power = sounds[0].sum(1)
    heard = power > power.max() * 1e-4
    return float(np.corrcoef(*[(s[heard] @ hz) / (s[heard].sum(1) + 1e-12) for s in sounds])[0, 1])


def loudness_correlation(real: AudioClip, made: AudioClip, step_sec: float = 0.1) -> float:
    """Correlation of the levels of each `step_sec`, dB, down to -60 dBFS."""
    a, b = (np.maximum(level_db(c.samples, RATE, step_sec), -60) for c in (real, made))
    return float(np.corrcoef(a, b)[0, 1])


def decays(clip: AudioClip) -> NDArray[np.float64]:
    """(8,) decay time (60 dB) of each octave from 62 Hz to 8 kHz, seconds; NaN without a measurable decay.

    Median over the stretches of a quarter of a second in which the octave's level only falls, by at least 3 dB.
    """
    found = np.full(len(OCTAVES), np.nan)
    for i, centre in enumerate(OCTAVES):
        high = min(centre * np.sqrt(2), 0.49 * RATE)
        band = sosfilt(butter(4, [centre / np.sqrt(2), high], "band", fs=RATE, output="sos"), clip.samples)
        level = np.convolve(level_db(np.asarray(band, np.float32), RATE, STEP_SEC), np.ones(3) / 3, "valid")
        rises = np.flatnonzero((np.diff(level) > 0.1) | (level[1:] < level.max() - RANGE_DB)) + 1
        times = []
        for a, b in zip([0, *rises], [*rises, len(level)]):
            if (b - a) * STEP_SEC >= FALL_SEC and level[a] - level[b - 1] >= FALL_DB:
                times.append(-60 / np.polyfit(STEP_SEC * np.arange(b - a), level[a:b], 1)[0])
        found[i] = np.median(times) if times else np.nan
    return found


def attacks(clip: AudioClip, notes: Performance) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) rise of the level at each onset after a rest, dB, and (n,) energy before it above 2 kHz, dB.

    Rise: the 20 ms after the onset against the 30 to 5 ms before. Before: 40 to 10 ms against 120 to 60 ms before the
    onset; a pre-echo raises it. Rest: 150 ms without an onset.
    """
    onset = np.unique(np.round(notes.onset_sec, 3))
    onset = onset[np.diff(onset, prepend=-1.0) > REST_SEC]
    onset = onset[(onset > 0.13) & (onset < clip.duration_sec - 0.03)]
    bright = sosfilt(butter(4, EARLY_HZ, "high", fs=RATE, output="sos"), clip.samples)

    def level(sound: NDArray, start: float, end: float) -> NDArray[np.float64]:
        power = np.concatenate([[0.0], np.cumsum(np.asarray(sound, np.float64) ** 2)])
        a, b = (np.round((onset + t) * RATE).astype(int) for t in (start, end))
        return 10 * np.log10((power[b] - power[a]) / (b - a) + 1e-10)

    return (
        level(clip.samples, 0, 0.02) - level(clip.samples, -0.03, -0.005),
        level(bright, -0.04, -0.01) - level(bright, -0.12, -0.06),
    )


def attack_differences(real: AudioClip, made: AudioClip, notes: Performance) -> tuple[float, float]:
    """Differences of attack rise and of pre-onset energy between rendering and recording, dB: median and mean over the
    notes after a rest; NaN without such notes."""
    (rise, before), (true_rise, true_before) = attacks(made, notes), attacks(real, notes)
    if not len(rise):
        return float("nan"), float("nan")
    return float(np.median(rise - true_rise)), float((before - true_before).mean())


def visqol(real: AudioClip, made: AudioClip) -> float:
    """ViSQOL's MOS-LQO, 1 to 5, of the first seconds against the recording (audio mode, 48 kHz); nan when the package
    visqol-python is not installed."""
    try:
        from visqol import VisqolApi  # type: ignore[reportMissingImports]
    except ImportError:
        return float("nan")
    api = VisqolApi()
    api.create(mode="audio")
    one, other = (
        resample(c.samples[: round(VISQOL_SEC * RATE)], RATE, VISQOL_RATE).astype(np.float64) for c in (real, made)
    )
    return float(api.measure_from_arrays(one, other, VISQOL_RATE).moslqo)
