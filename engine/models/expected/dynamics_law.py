"""Enforce written dynamics: a pp or ff determines loudness as long as it is in force.

Networks trained on few extremes return to the mean within bars. This module makes loudness follow the written velocity
with a slope of at least MIN_SLOPE within a piece, around a level set by the piece's dynamics.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Score

MIN_SLOPE = 0.36  # played velocity over written velocity within a piece
_LEVEL_SLOPE = 0.7  # mean played velocity over mean written velocity, for pieces beyond the usual range
_USUAL = (35.0, 115.0)  # range of mean written velocity in which the predicted level is kept
MAX_DRIFT = 2.0  # velocity, over a stretch of one written dynamic
_MIN_QUARTERS = 12.0  # shorter passages are not constrained
_ACCENT = {1: 7.0, 2: 13.0}  # increase of velocity by an accent; by a sforzato or marcato
_REACH = 8.0  # context of a note for the mean loudness, quarters


def with_dynamics(score: Score, velocity: NDArray) -> NDArray[np.float64]:
    """Played velocities (n,) that follow the written dynamics of the score; unchanged without dynamics."""
    out = np.asarray(velocity, np.float64).copy()
    written = score.marks["written_velocity"].astype(float)
    if (written > 0).all() and len(score) > 1:
        spread = written - written.mean()
        if spread.std() > 4:
            lacking = MIN_SLOPE - float((spread * (out - out.mean())).sum() / (spread**2).sum())
            out += max(lacking, 0.0) * spread
    return out


def level_shift(score: Score) -> float:
    """Velocity offset of a piece whose written dynamics are outside the usual range; 0 within it."""
    written = score.marks["written_velocity"].astype(float)
    low, high = _USUAL
    if not (written > 0).all():
        return 0.0
    return _LEVEL_SLOPE * (min(written.mean() - low, 0.0) + max(written.mean() - high, 0.0))


def undrifted(score: Score, velocity: NDArray) -> NDArray[np.float64]:
    """Velocity offsets (n,) that limit the drift under one written dynamic to MAX_DRIFT. For short pieces, in which
    drift would dominate.
    """
    add, written = np.zeros(len(score)), score.marks["written_velocity"].astype(int)
    for staff in np.unique(score.staff):
        rows = np.flatnonzero(score.staff == staff)
        edges = np.flatnonzero(np.diff(written[rows], prepend=-1, append=-1))
        for i in (rows[a:b] for a, b in pairwise(edges)):
            at = score.onset_quarter[i] - score.onset_quarter[i].mean()
            span = float(np.ptp(at))
            if span < _MIN_QUARTERS:
                continue
            slope = float((at * velocity[i]).sum() / (at**2).sum())
            add[i] -= at * (slope - np.clip(slope, -MAX_DRIFT / span, MAX_DRIFT / span))
    return add


def accent_lift(score: Score, velocity: NDArray) -> NDArray[np.float64]:
    """Velocity offsets (n,) that give accented notes the usual prominence."""
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
