"""Peak picking on the tagger's probabilities, with thresholds and a minimum distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Decoding:
    """Thresholds of peak picking.

    phrase   least probability of a phrase end
    cadence  least probability of each cadence (PAC, HC, other)
    apart    minimum distance of two marks in beats
    """

    phrase: float = 0.3
    cadence: tuple[float, float, float] = (0.3, 0.3, 0.3)
    apart: int = 3


def peaks(value: NDArray, least: float, apart: int) -> NDArray[np.int64]:
    """Indices of values from `least` on, greatest first kept, none nearer than `apart` to a kept one; sorted.

    >>> peaks(np.array([0.1, 0.9, 0.8, 0.1, 0.6]), 0.5, 2)
    array([1, 4])
    """
    kept: list[int] = []
    for i in sorted(np.flatnonzero(value >= least), key=lambda i: -value[i]):
        if all(abs(i - k) >= apart for k in kept):
            kept.append(int(i))
    return np.array(sorted(kept), np.int64)


def read_cadences(probability: NDArray, decoding: Decoding) -> NDArray[np.int64]:
    """(b,) class of the cadence in each beat, 0 none, from probabilities (b, 4).

    Classes are ranked by their margin over their thresholds; the best class of a beat is used.
    """
    ratio = probability[:, 1:] / np.array(decoding.cadence)
    best = ratio.argmax(1)
    out = np.zeros(len(probability), np.int64)
    at = peaks(ratio.max(1), 1.0, decoding.apart)
    out[at] = best[at] + 1
    return out
