"""Rank transfer: a sample's values in the order of the expected ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Score

LEAST = 24  # minimum notes of a class; a smaller class keeps its sample


def length_classes(score: Score) -> NDArray[np.int64]:
    """A number for each note's written length, (n,), half an octave wide; grace notes apart."""
    octave = np.log2(np.maximum(score.duration_quarter, 1 / 16))
    return np.round(2 * octave).astype(np.int64) + 100 * score.grace


def in_order_of(order: NDArray, sample: NDArray, classes: NDArray) -> NDArray[np.float64]:
    """The sample's values (n,), permuted within each class into the order of `order`. Articulation depends mostly on
    the written length, so permuting within classes of length preserves the human distribution. (A mean of samples would
    lose the distribution, a single sample the order.)

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
