"""A sample's values in the order of the expected ones: the shape of one, the distribution of the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Score

LEAST = 24  # notes of one class among several; a smaller class keeps its sample


def length_classes(score: Score) -> NDArray[np.int64]:
    """A number for each note's written length, (n,), half an octave wide; grace notes apart."""
    octave = np.log2(np.maximum(score.duration_quarter, 1 / 16))
    return np.round(2 * octave).astype(np.int64) + 100 * score.grace


def in_order_of(order: NDArray, sample: NDArray, classes: NDArray) -> NDArray[np.float64]:
    """The sample's values (n,), dealt anew within each class: the smallest to the note that is smallest in `order`.

    What is held how long depends most on the written length, so that within classes of length the distribution of
    played lengths stays people's. (A mean of samples would lose it, and a sample by itself the shape.)

    >>> in_order_of(np.arange(24.0), np.arange(24.0)[::-1], np.zeros(24, int))[:3]
    array([0., 1., 2.])
    """
    out = np.array(sample, np.float64)
    every = np.unique(classes)
    for c in every:
        i = np.flatnonzero(classes == c)
        if len(i) >= LEAST or len(every) == 1:
            out[i[np.argsort(order[i], kind="stable")]] = np.sort(out[i])
    return out
