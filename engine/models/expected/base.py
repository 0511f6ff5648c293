"""Expected channel values of a score, the baseline of the residual model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.models.expected.performance import ExpectedValues
from engine.models.pianist.pianist import (
    ARTICULATION_CENTRE,
    ARTICULATION_SCALE,
    EXPECTED,
    TEMPO_CENTRE,
    TEMPO_SCALE,
    VELOCITY_CENTRE,
    VELOCITY_SCALE,
)
from engine.music.expression import beat_quarters, measure_of
from engine.music.types import Score

_PACE_LIMITS = (-4.0, 3.0)  # log2 seconds a felt beat of a written tempo


@dataclass(frozen=True)
class Base:
    """From expected curves to expected channel values.

    weight     (3, G + 1) linear model of the piece's mean features: octaves of the played over the written pace, mean
               velocity, mean articulation
    low, high  (3,) the range of the training works, to which these are kept
    share      (3,) of one player's deviation that the curve explains: the slope of single players on the curve
    """

    weight: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    share: NDArray[np.float64]

    def levels(self, summary: NDArray) -> NDArray[np.float64]:
        """(3,) from the mean of the standardised beat features (G,)."""
        return np.clip(self.weight @ np.append(summary, 1.0), self.low, self.high)

    def channels(self, score: Score, values: ExpectedValues) -> NDArray[np.float32]:
        """Expected tempo, velocity and articulation, (n, 3) channel values."""
        return base_values(score, values, self.levels(values.summary), self.share)


def base_values(score: Score, values: ExpectedValues, levels: NDArray, share: NDArray) -> NDArray[np.float32]:
    """(n, 3) channel values about the given levels (3,), the curves scaled by share (3,)."""
    beat = values.grid.beat_of(score.onset_quarter)
    tempo = written_pace(score, values) + levels[0] + share[0] * values.tempo[beat]
    velocity = levels[1] + share[1] * values.velocity
    articulation = levels[2] + share[2] * values.articulation
    assert len(EXPECTED) == 3
    return np.stack(
        [
            (tempo - TEMPO_CENTRE) / TEMPO_SCALE, (velocity - VELOCITY_CENTRE) / VELOCITY_SCALE,
            (articulation - ARTICULATION_CENTRE) / ARTICULATION_SCALE,
        ],
        axis=1,
    ).astype(np.float32)  # fmt: skip


def written_pace(score: Score, values: ExpectedValues) -> NDArray[np.float64]:
    """log2 seconds a felt beat by the written tempo at each note, (n,)."""
    grid, m = values.grid, score.measures
    step = np.log2(np.diff(grid.seconds) / np.diff(grid.quarter))[grid.beat_of(score.onset_quarter)]
    return np.clip(step + np.log2(beat_quarters(m.ts_num, m.ts_den)[measure_of(score)]), *_PACE_LIMITS)
