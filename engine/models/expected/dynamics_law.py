"""Written dynamics stay: a pp or ff sets the loudness of its notes for as long as it is in force.

Networks trained on few extremes return to the mean within bars. Here the loudness is made to follow the written
velocity with at least the slope LEAST_SLOPE within a piece, and about a level that the dynamics of the piece decide.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Score

LEAST_SLOPE = 0.36  # played velocity over written velocity within a piece
_LEVEL_SLOPE = 0.55  # mean played velocity over mean written velocity, for pieces beyond the usual range
_USUAL = (45.0, 95.0)  # mean written velocity of pieces in which the learnt level is kept
_ACCENT = {1: 7.0, 2: 13.0}  # how much louder than without it a note with an accent, with a sforzato or marcato is
_REACH = 8.0  # quarters about a note whose mean loudness is compared


def with_dynamics(score: Score, velocity: NDArray) -> NDArray[np.float64]:
    """Played velocities (n,) that follow the written dynamics of the score; unchanged where none are written."""
    out = np.asarray(velocity, np.float64).copy()
    written = score.marks["written_velocity"].astype(float)
    if (written > 0).all() and len(score) > 1:
        spread = written - written.mean()
        if spread.std() > 4:
            lacking = LEAST_SLOPE - float((spread * (out - out.mean())).sum() / (spread**2).sum())
            out += max(lacking, 0.0) * spread
        low, high = _USUAL
        out += _LEVEL_SLOPE * (min(written.mean() - low, 0.0) + max(written.mean() - high, 0.0))
    return out


def accent_lift(score: Score, velocity: NDArray) -> NDArray[np.float64]:
    """What to add to each note, (n,), so that accented notes stand out of their surroundings by the usual amount."""
    kind = score.marks["accent"].astype(int)
    lift = np.zeros(len(score))
    plain = kind == 0
    if not plain.any():
        return lift
    onset = score.onset_quarter
    for i in np.flatnonzero(kind > 0):
        near = plain & (np.abs(onset - onset[i]) <= _REACH) & (score.staff == score.staff[i])
        if near.any():
            lift[i] = max(_ACCENT.get(int(kind[i]), 13.0) - (velocity[i] - velocity[near].mean()), 0.0)
    return lift
