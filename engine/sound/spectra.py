"""Spectra for the measures of sound: mel bands, semitone bands, levels in decibels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from engine.sound.chroma import hann

LEVEL_DB = -23.0  # gated dBFS, the typical level of the preview pianos and recordings, and the target of level matching
MAX_PEAK = 0.98
BLOCK_FRAMES = 2000  # frames at a time: memory stays under 300 MB for an hour of sound


def magnitudes(samples: NDArray[np.float32], size: int, hop: int) -> NDArray[np.float32]:
    """(frames, size // 2 + 1) magnitudes of centred frames under a Hann window, zeros around the sound."""
    return np.concatenate(list(magnitude_blocks(samples, size, hop, size)))


def magnitude_blocks(
    samples: NDArray[np.float32], size: int, hop: int, transform: int, at_once: int = BLOCK_FRAMES
) -> Iterator[NDArray[np.float32]]:
    """The same as `magnitudes` in blocks of `at_once` frames, each transformed in `transform` points."""
    step = at_once * hop
    padded = np.pad(np.asarray(samples, np.float32), size // 2)
    window = hann(size).astype(np.float32)
    for start in range(0, len(samples) + 1, step):
        block = padded[start : start + step - hop + size]
        if len(block) < size:
            break
        frames = np.lib.stride_tricks.sliding_window_view(block, size)[::hop]
        yield np.abs(np.fft.rfft(frames * window, transform, axis=1)).astype(np.float32)


@cache
def mel_bank(sample_rate: int, size: int, bands: int, lowest_hz: float, highest_hz: float) -> NDArray[np.float32]:
    """(size // 2 + 1, bands) triangles of height 1, even on the mel scale; narrow ones keep their nearest bin."""
    mel = np.linspace(2595 * np.log10(1 + lowest_hz / 700), 2595 * np.log10(1 + highest_hz / 700), bands + 2)
    edge = 700 * (10 ** (mel / 2595) - 1)
    hz = np.fft.rfftfreq(size, 1 / sample_rate)[:, None]
    rise, fall = (hz - edge[:-2]) / np.diff(edge)[:-1], (edge[2:] - hz) / np.diff(edge)[1:]
    bank = np.maximum(np.minimum(rise, fall), 0)
    empty = bank.sum(0) == 0
    bank[np.abs(hz - edge[1:-1]).argmin(0)[empty], np.flatnonzero(empty)] = 1
    return bank.astype(np.float32)


def log_mel(
    samples: NDArray[np.float32], sample_rate: int, size: int, hop: int, bands: int, lowest_hz: float = 30.0,
    highest_hz: float = 16000.0, floor: float = 1e-3,
) -> NDArray[np.float32]:  # fmt: skip
    """(frames, bands) levels of mel bands in dB, nothing below `floor`."""
    bank = mel_bank(sample_rate, size, bands, lowest_hz, min(highest_hz, sample_rate / 2))
    parts = [block @ bank for block in magnitude_blocks(samples, size, hop, size)]
    return 20 * np.log10(np.maximum(np.concatenate(parts), floor)).astype(np.float32)


@cache
def semitone_bank(sample_rate: int, size: int) -> NDArray[np.float32]:
    """(size // 2 + 1, 128) the filter bank of the score-to-audio evaluation: one triangle a MIDI number.

    Row i rises from the frequency of number i - 1 to that of i and falls to that of i + 1; its height is 1 / (its width
    in Hz). The last row, cut off by the bank's end, is 1 / bins everywhere, as in the bank that is published.
    """
    edge = 440 * 2 ** ((np.arange(-1, 129) - 69) / 12)
    hz = np.fft.rfftfreq(size, 1 / sample_rate)[:, None]
    rise, fall = (hz - edge[:-2]) / np.diff(edge)[:-1], (edge[2:] - hz) / np.diff(edge)[1:]
    bank = np.maximum(np.minimum(rise, fall), 0) / (edge[2:] - edge[:-2])
    bank[:, 127] = 1 / len(hz)
    return bank.astype(np.float32)


def level_db(samples: NDArray[np.float32], sample_rate: int, step_sec: float = 0.02) -> NDArray[np.float64]:
    """(frames,) mean power of each `step_sec`, dBFS, down to -100."""
    size = max(1, round(step_sec * sample_rate))
    count = len(samples) // size
    power = (np.asarray(samples[: count * size], np.float64).reshape(count, size) ** 2).mean(1)
    return 10 * np.log10(np.maximum(power, 1e-10))


def sounding_db(level: NDArray[np.float64]) -> float:
    """Gated mean power in dB, of frames down to 25 dB under the loudest.

    >>> f"{sounding_db(np.array([-20.0, -20.0, -60.0])):.1f}"
    '-20.0'
    """
    return 10 * np.log10((10 ** (level[level > level.max() - 25] / 10)).mean())


def level_gain(samples: NDArray[np.float32], sample_rate: int, db: float = LEVEL_DB) -> float:
    """Gain to bring a sound to `db` dBFS (`sounding_db`), limited so that its peak stays under MAX_PEAK; 1 for silence.

    >>> tone = np.sin(np.arange(32000) / 10).astype(np.float32)
    >>> round(level_gain(tone, 32000, -23.01), 3)
    0.1
    """
    level = level_db(samples, sample_rate, 0.05)
    if not len(level) or level.max() <= -90:
        return 1.0
    return float(min(10 ** ((db - sounding_db(level)) / 20), MAX_PEAK / np.abs(samples).max()))
