"""Warnings about a usable reference, one sentence each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Performance

FLAT_SHARE = 1e-4  # of the samples lie on the highest or lowest value; recordings that are not clipped have 1e-5
MIN_NOTES = 5
BAND_HZ = 500.0
MIN_HZ = 5600.0  # soft piano recordings reach 6.4 kHz; recordings at 8 or 11 kHz do not
MUTE_DB = -75.0  # level of an empty band relative to the loudest
WINDOW = 4096


def remarks_on_sound(samples: NDArray[np.float32], rate: int) -> tuple[str, ...]:
    """Remarks on an excerpt (num_samples,) at its own rate, before it is levelled."""
    found = []
    if flat_share(samples) > FLAT_SHARE:
        found.append(
            "The peaks of this reference are clipped: it was recorded too loud, and its distortion affects the sound; "
            "choose a softer part or another recording."
        )
    if (highest := highest_hz(samples, rate)) < MIN_HZ:
        found.append(
            f"This reference has no sound above {highest / 1000:.1f} kHz, so the rendering will be dull; choose a "
            "recording saved at 44100 Hz."
        )
    return tuple(found)


def remarks_on_notes(notes: Performance) -> tuple[str, ...]:
    """Remarks on the notes of a reference, if known."""
    if len(notes) >= MIN_NOTES:
        return ()
    return (
        f"Piano notes found in this reference: {len(notes)}, at least {MIN_NOTES} are expected; it may not be a "
        "piano, choose an excerpt in which a piano alone is played.",
    )


def flat_share(samples: NDArray[np.float32]) -> float:
    """The share of samples in runs of three or more within a thousandth of the highest or lowest value, at any level.

    >>> tone = np.sin(np.arange(32000) / 7)
    >>> flat_share(tone) < 0.001, flat_share(np.clip(tone, -0.9, 0.9)) > 0.2
    (True, True)
    """
    if not len(samples):
        return 0.0
    flat = np.zeros(len(samples), bool)
    for sign in (1, -1):
        peak = float((sign * samples).max())
        near = sign * samples > peak - 1e-3 * abs(peak)
        run = near[:-2] & near[1:-1] & near[2:]
        for shift in range(3):
            flat[shift : len(run) + shift] |= run
    return float(flat.mean())


def highest_hz(samples: NDArray[np.float32], rate: int) -> float:
    """The upper end of the highest band of 500 Hz in which there is sound, 75 dB under the loudest at least."""
    count = len(samples) // WINDOW
    frames = samples[: count * WINDOW].reshape(count, WINDOW) * np.hanning(WINDOW)
    power = (np.abs(np.fft.rfft(frames, axis=1)) ** 2).mean(0)
    width = max(1, round(BAND_HZ * WINDOW / rate))
    bands = np.add.reduceat(power, np.arange(0, len(power), width))
    level = 10 * np.log10(bands + 1e-12 * bands.max() + 1e-30)
    return float(min((np.flatnonzero(level > level.max() + MUTE_DB)[-1] + 1) * width * rate / WINDOW, rate / 2))
