"""Combine the expected performance with the flow's deviation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.models.expected.dynamics_law import accent_lift, level_shift, undrifted, with_dynamics
from engine.models.expected.performance import ExpectedValues
from engine.models.expected.ranks import in_order_of, length_classes
from engine.models.expected.tempo_law import pace
from engine.models.pianist.pianist import (
    ARTICULATION,
    PEDAL,
    TEMPO,
    TEMPO_CENTRE,
    TEMPO_SCALE,
    VELOCITY,
    VELOCITY_CENTRE,
    VELOCITY_SCALE,
)
from engine.models.pianist.style import AXES
from engine.music.expression import beat_quarters, chords, measure_of
from engine.music.types import DEFAULT_FREEDOM, Score


@dataclass(frozen=True)
class Freedom:
    """Weight of the individual deviation per channel; 0 is the expected value, 1 a full sample.

    tempo, velocity  share of (sample - its expected values)
    articulation     weight of the sample in the order of the notes by articulation
    """

    tempo: float = 0.1
    velocity: float = 0.2
    articulation: float = 0.2

    @classmethod
    def of(cls, share: float) -> Freedom:
        """From one slider: 0 is the expected performance, DEFAULT_FREEDOM the default above, 1 a full sample."""
        return cls(*(share ** (np.log(v) / np.log(DEFAULT_FREEDOM)) for v in (0.1, 0.2, 0.2)))


FREEDOM = Freedom()
WITHIN_CHORD = 0.7  # of the difference between a note's loudness and its chord's
_AXIS = {axis.name: i for i, axis in enumerate(AXES)}
_ENOUGH = (
    256  # minimum notes to estimate the distribution of loudness from a sample; else the expected deviation is used
)


def joined(
    score: Score, values: ExpectedValues, mixed: NDArray, expected: NDArray, sample: NDArray, default: NDArray,
    freedom: Freedom = FREEDOM, level: float | None = None, asked: NDArray | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Channel values (n, 8): tempo, velocity and articulation around the expected performance, the rest as `mixed`.

    Velocity and articulation take the values of `mixed` in the expected order (`ranks`), which preserves their human
    distribution.

    expected  (n, 8) the flow's expected values in the wanted style, sample (n, 8) a draw in it
    default   (n, 8) the flow's expected values in the default style: the style's change relative to them is kept
    level     log2 seconds per felt beat without a written tempo; by default as in `default`
    asked     (9,) style axes relative to the default, each in the unit of its descriptor (`descriptors`)
    """
    out = mixed.astype(np.float64)
    own, styled = sample - expected, expected - default
    move = values.velocity / VELOCITY_SCALE + freedom.velocity * _centred(own[:, VELOCITY])
    move = _blended(score, move, WITHIN_CHORD) + _blended(score, _centred(styled[:, VELOCITY]), 0.0)
    wider = _widened(values.deviation[1], asked, "contrast")
    loudness = float(expected[:, VELOCITY].mean()) * VELOCITY_SCALE + VELOCITY_CENTRE
    loud = with_dynamics(score, loudness + _unit(move) * values.deviation[1] * wider)
    if len(score) < _ENOUGH:
        loud = loud + undrifted(score, loud)
    loud = loud + accent_lift(score, loud)
    if len(score) >= _ENOUGH:
        people = mixed[:, VELOCITY] * VELOCITY_SCALE + VELOCITY_CENTRE
        loud = in_order_of(loud, people, np.zeros(len(score), int))
        loud = loud.mean() + (loud - loud.mean()) * wider / _wider(expected[:, VELOCITY], default[:, VELOCITY])
    if asked is not None:
        loud = loud + float(asked[_AXIS["voicing"]]) * _melody(score)
    out[:, VELOCITY] = (loud + level_shift(score) - VELOCITY_CENTRE) / VELOCITY_SCALE
    out[:, ARTICULATION] = in_order_of(
        (1 - freedom.articulation) * _unit(values.articulation) + freedom.articulation * _unit(sample[:, ARTICULATION]),
        mixed[:, ARTICULATION], length_classes(score),
    )  # fmt: skip
    curve = values.deviation[0] * _widened(values.deviation[0], asked, "rubato")
    out[:, TEMPO] = _tempo(
        score, values, expected[:, TEMPO], own[:, TEMPO], default[:, TEMPO], freedom.tempo, curve, level
    )
    if asked is not None and asked[_AXIS["pedal"]] < 0:  # the flow responds to more pedal, hardly to less
        out[:, PEDAL] += asked[_AXIS["pedal"]] * 2
    return out.astype(np.float32)


def _tempo(
    score: Score, values: ExpectedValues, expected: NDArray, own: NDArray, default: NDArray, share: float,
    deviation: float, level: float | None,
) -> NDArray[np.float64]:  # fmt: skip
    """The tempo channel: written tempo, expected curve and individual deviation, with total deviation `deviation` in
    octaves.
    """
    grid, beat = values.grid, values.grid.beat_of(score.onset_quarter)
    m = score.measures
    felt = np.log2(beat_quarters(m.ts_num, m.ts_den)[measure_of(score)])  # log2 of a felt beat over a quarter

    def of_beats(x: NDArray) -> NDArray[np.float64]:
        """Mean over each beat's notes, carried over beats without notes."""
        count = np.bincount(beat, minlength=len(grid))
        mean = np.bincount(beat, x, minlength=len(grid)) / np.maximum(count, 1)
        known = np.flatnonzero(count)
        return np.interp(np.arange(len(grid)), known, mean[known])

    styled = of_beats((expected - default) * TEMPO_SCALE)
    move = values.tempo + styled - styled.mean() + share * _centred(of_beats(own * TEMPO_SCALE))
    curve = move * deviation / max(move.std(), 1e-6)
    if level is None:
        level = float(of_beats(default * TEMPO_SCALE + TEMPO_CENTRE).mean())
    own_pace = level - float(of_beats(felt).mean())
    return (pace(score, grid, curve, own_pace)[beat] + felt + styled.mean() - TEMPO_CENTRE) / TEMPO_SCALE


def _melody(score: Score) -> NDArray[np.float64]:
    """(n,) offsets that raise the top note of each chord by 1 relative to the others, with zero mean per chord."""
    index = chords(score).index
    size = np.bincount(index)[index]
    top = np.full(index.max() + 1, -1)
    np.maximum.at(top, index, score.pitch)
    return np.where(size > 1, (score.pitch == top[index]) - 1 / size, 0.0)


def _blended(score: Score, move: NDArray, within: float) -> NDArray[np.float64]:
    """The deviation with the share `within` inside chords; uniform scaling would exaggerate the melody."""
    index = chords(score).index
    mean = (np.bincount(index, move) / np.bincount(index))[index]
    return mean + within * (move - mean)


def _centred(x: NDArray) -> NDArray:
    return x - x.mean()


def _unit(x: NDArray) -> NDArray:
    return _centred(x) / max(float(x.std()), 1e-6)


def _widened(deviation: float, asked: NDArray | None, axis: str) -> float:
    """Factor by which an axis scales a deviation; always positive."""
    share = 0.0 if asked is None else float(asked[_AXIS[axis]]) / deviation
    return 1.0 + share if share >= 0 else 1.0 / (1.0 - share)


def _wider(styled: NDArray, default: NDArray) -> float:
    """The scale of a style's deviation."""
    return float((styled.std() + 1e-2) / (default.std() + 1e-2))
