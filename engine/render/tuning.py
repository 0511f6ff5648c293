"""The tuning of a recorded piano against the sampled one: an offset, and a stretch over the keyboard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Performance
from engine.sound.bands import SAMPLE_RATE

FEWEST = 5  # partials; below, the sampled piano keeps its tuning
RECEPTIVE_FIELD_CENTS = 60.0
PARTIALS = np.arange(1, 6)
AFTER_SEC, WINDOW_SEC = 0.05, 0.4
SIZE = 1 << 16
MAX_STRETCH = 4.0  # cents an octave
PRIOR_WEIGHT = 8.0  # partials' worth of evidence that there is no stretch beyond the samples' own
MIDDLE_KEY = 64


@dataclass(frozen=True)
class Tuning:
    """cents at MIDI key 64; cents more for every octave above it."""

    cents: float = 0.0
    stretch: float = 0.0

    def of_keys(self) -> NDArray[np.float64]:
        """(128,) cents by which each MIDI key is to be moved."""
        return self.cents + self.stretch * (np.arange(128) - MIDDLE_KEY) / 12


def fit_tuning(recording: NDArray, dry: NDArray, notes: Performance) -> Tuning:
    """The median difference of the partials of both sounds, which play the same notes.

    recording, dry  (num_samples,) at 32 kHz
    Notes shorter than a quarter of a second, and partials that do not stand out in both, say nothing.
    """
    found: list[tuple[float, float]] = []
    for onset, duration, pitch in zip(notes.onset_sec, notes.duration_sec, notes.pitch.astype(int), strict=True):
        start, count = round((onset + AFTER_SEC) * SAMPLE_RATE), round(min(WINDOW_SEC, duration) * SAMPLE_RATE)
        if duration < 0.25 or start + count > min(len(recording), len(dry)):
            continue
        window = np.hanning(count)
        ours, theirs = (np.abs(np.fft.rfft(x[start : start + count] * window, SIZE)) for x in (dry, recording))
        for partial in PARTIALS * 440 * 2 ** ((pitch - 69) / 12):
            if 60 < partial < 4000:
                here, there = _peak(ours, partial), _peak(theirs, partial)
                if here is not None and there is not None:
                    found.append((pitch, 1200 * np.log2(there / here)))
    if len(found) < FEWEST:
        return Tuning()
    pitch, cents = np.array(found).T
    offset = float(np.median(cents))
    near = np.abs(cents - offset) < max(8.0, 2 * float(np.median(np.abs(cents - offset))))
    octave = (pitch[near] - MIDDLE_KEY) / 12
    rest = cents[near] - offset
    basis = np.stack([np.ones_like(octave), octave], 1)
    shift, stretch = np.linalg.solve(basis.T @ basis + np.diag([0.0, PRIOR_WEIGHT]), basis.T @ rest)
    return Tuning(offset + float(shift), float(np.clip(stretch, -MAX_STRETCH, MAX_STRETCH)))


def _peak(spectrum: NDArray[np.float64], hz: float) -> float | None:
    """Frequency of the partial near `hz`, by a parabola through its logarithm; None unless it stands out."""
    ratio, width = 2 ** (RECEPTIVE_FIELD_CENTS / 1200), SAMPLE_RATE / SIZE
    low, high = int(hz / ratio / width), int(hz * ratio / width) + 2
    at = low + int(spectrum[low:high].argmax())
    around = spectrum[max(int(hz * 2 ** (-2 / 12) / width), 1) : int(hz * 2 ** (2 / 12) / width) + 2]
    if at in (low, high - 1) or spectrum[at] < 4 * np.median(around) or spectrum[at] < 1e-3 * spectrum.max():
        return None
    a, b, c = np.log(np.maximum(spectrum[at - 1 : at + 2], 1e-20))
    return float((at + 0.5 * (a - c) / (a - 2 * b + c)) * width)
