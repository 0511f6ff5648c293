"""The flow's movement laid around the expected performance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.models.expected.dynamics_law import accent_lift, with_dynamics
from engine.models.expected.performance import ExpectedValues
from engine.models.expected.tempo_law import pace
from engine.models.pianist.pianist import (
    TEMPO,
    TEMPO_CENTRE,
    TEMPO_SCALE,
    VELOCITY,
    VELOCITY_CENTRE,
    VELOCITY_SCALE,
)
from engine.music.expression import beat_quarters, measure_of
from engine.music.types import Score


@dataclass(frozen=True)
class Freedom:
    """How much of one player's own movement is laid around the expected values, by channel; 0 is none, 1 a full sample.

    tempo, velocity  share of (sample - its expected values)
    """

    tempo: float = 0.1
    velocity: float = 0.3


FREEDOM = Freedom()


def joined(
    score: Score, values: ExpectedValues, mixed: NDArray, expected: NDArray, sample: NDArray, default: NDArray,
    freedom: Freedom = FREEDOM, level: float | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Channel values (n, 8): tempo and velocity around the expected performance, the rest as `mixed`.

    Articulation stays the flow's: moved to the expected one it lost people's distribution of durations.

    expected  (n, 8) the flow's expected values in the wanted style, sample (n, 8) a draw in it
    default   (n, 8) the flow's expected values in the default style: what the style changes of them is kept
    level     log2 seconds a felt beat where no tempo is written; by default as in `default`
    """
    out = mixed.astype(np.float64)
    own, styled = sample - expected, expected - default
    move = (
        values.velocity / VELOCITY_SCALE + _centred(styled[:, VELOCITY]) + freedom.velocity * _centred(own[:, VELOCITY])
    )
    wanted = values.deviation[1] / VELOCITY_SCALE * _wider(expected[:, VELOCITY], default[:, VELOCITY])
    out[:, VELOCITY] = expected[:, VELOCITY].mean() + move * wanted / max(move.std(), 1e-6)
    loud = with_dynamics(score, out[:, VELOCITY] * VELOCITY_SCALE + VELOCITY_CENTRE)
    out[:, VELOCITY] = (loud + accent_lift(score, loud) - VELOCITY_CENTRE) / VELOCITY_SCALE
    out[:, TEMPO] = _tempo(score, values, expected[:, TEMPO], own[:, TEMPO], default[:, TEMPO], freedom.tempo, level)
    return out.astype(np.float32)


def _tempo(
    score: Score, values: ExpectedValues, expected: NDArray, own: NDArray, default: NDArray, share: float,
    level: float | None,
) -> NDArray[np.float64]:  # fmt: skip
    """The tempo channel: the written pace, the expected curve and the player's own movement around it."""
    grid, beat = values.grid, values.grid.beat_of(score.onset_quarter)
    m = score.measures
    felt = np.log2(beat_quarters(m.ts_num, m.ts_den)[measure_of(score)])  # octaves of a felt beat over a quarter

    def of_beats(x: NDArray) -> NDArray[np.float64]:
        """Mean over each beat's notes, carried over beats without notes."""
        count = np.bincount(beat, minlength=len(grid))
        mean = np.bincount(beat, x, minlength=len(grid)) / np.maximum(count, 1)
        known = np.flatnonzero(count)
        return np.interp(np.arange(len(grid)), known, mean[known])

    styled = of_beats((expected - default) * TEMPO_SCALE)
    move = values.tempo + styled - styled.mean() + share * _centred(of_beats(own * TEMPO_SCALE))
    curve = move * values.deviation[0] / max(move.std(), 1e-6) * _wider(expected, default)
    if level is None:
        level = float(of_beats(default * TEMPO_SCALE + TEMPO_CENTRE).mean())
    own_pace = level - float(of_beats(felt).mean())
    return (pace(score, grid, curve, own_pace)[beat] + felt + styled.mean() - TEMPO_CENTRE) / TEMPO_SCALE


def _centred(x: NDArray) -> NDArray:
    return x - x.mean()


def _wider(styled: NDArray, default: NDArray) -> float:
    """By how much a style widens the movement."""
    return float((styled.std() + 1e-2) / (default.std() + 1e-2))
