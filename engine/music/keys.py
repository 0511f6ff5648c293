"""Mode detection by key profiles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Score

# Krumhansl and Kessler (1982), probe-tone ratings of the twelve pitch classes above the tonic
MAJOR_PROFILE = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
MINOR_PROFILE = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
_RELATIVE = 9  # semitones from the tonic of a major key up to that of its relative minor


def major_tonic(fifths: int) -> int:
    """Pitch class of the tonic of the major key with this signature.

    >>> [major_tonic(f) for f in (0, 1, -3)]
    [0, 7, 3]
    """
    return 7 * fifths % 12


def minor_fit(pitch: NDArray, duration: NDArray, fifths: int) -> float:
    """Fit to the minor minus fit to the major key of a signature: difference of correlations with the profiles; 0 for
    uninformative notes.

    pitch (n,) MIDI numbers, duration (n,) in any unit
    """
    weight = np.bincount((np.asarray(pitch) - major_tonic(fifths)) % 12, weights=duration, minlength=12)
    if weight.std() == 0:
        return 0.0
    minor = np.roll(MINOR_PROFILE, _RELATIVE)
    return float(np.corrcoef(weight, minor)[0, 1] - np.corrcoef(weight, MAJOR_PROFILE)[0, 1])


def last_bass(onset: NDArray, duration: NDArray, pitch: NDArray) -> int:
    """Pitch class of the lowest note that sounds at the last onset."""
    last = onset.max()
    sounding = (onset <= last + 1e-9) & (onset + duration > last + 1e-9)
    return int(pitch[sounding].min()) % 12


def in_minor(score: Score) -> bool:
    """Whether a score is in the minor key of its first signature: decided by the last bass note if it is the tonic of
    either key, else by all notes.
    """
    fifths = int(score.measures.fifths[0])
    sounding = ~score.grace & (score.duration_quarter > 0)
    if not sounding.any():
        return False
    columns = (score.onset_quarter[sounding], score.duration_quarter[sounding], score.pitch[sounding].astype(int))
    bass, tonic = last_bass(*columns), major_tonic(fifths)
    if bass in (tonic, (tonic + _RELATIVE) % 12):
        return bass != tonic
    return minor_fit(columns[2], columns[1], fifths) > 0
