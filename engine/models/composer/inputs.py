"""Input columns of the Composer for a note, `engine.models.composer.composer.STEP_COLUMNS`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.models.composer.composer import STEP_COLUMNS
from engine.tokens.composer_tokens import TICKS_PER_QUARTER, Written

SINCE_EDGES = np.array([1, 2, 4, 8, 16])  # whole bars since the start of the piece: six classes
END_EDGES = np.array([1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 48, 64])  # bars after this one: 17 classes
GAP_EDGES = np.array([1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 48, 64])  # beats to a passage's end
GAP_COLUMN, HAND_COLUMN = STEP_COLUMNS.index("gap"), STEP_COLUMNS.index("hand")


def bucket(value: ArrayLike, edges: NDArray) -> NDArray[np.int64]:
    """Number of edges at or below the value.

    >>> bucket([0, 1, 9], SINCE_EDGES)
    array([0, 1, 4])
    """
    return np.searchsorted(edges, value, side="right")


def gap_class(beats_left: ArrayLike) -> NDArray[np.int64]:
    """1 to 19: beats left in the infilled passage; 0 means "none"."""
    return 1 + bucket(beats_left, GAP_EDGES)


def bar_columns(bar: NDArray, bars_left: NDArray, meter: NDArray, fifths: NDArray) -> NDArray[np.int64]:
    """(k, 5): metre, key signature against the home key, position in the phrase of eight bars, bars since the start,
    bars to the end."""
    return np.stack(
        [meter, np.clip(fifths, -7, 7) + 7, bar % 8, bucket(bar, SINCE_EDGES), bucket(bars_left, END_EDGES)], axis=-1
    )


def step_columns(w: Written, rows: NDArray, kind: int, home_fifths: int, shift: int) -> NDArray[np.int64]:
    """The (k, 12) input columns of notes `rows`, transposed by `shift` semitones; gap and hand are 0."""
    bar = w.bar[rows]
    out = np.zeros((len(rows), len(STEP_COLUMNS)), np.int64)
    out[:, 0] = kind
    out[:, 1] = np.clip(w.pitch[rows] + shift, 0, 127)
    out[:, 2], out[:, 3], out[:, 4] = w.duration[rows], w.staff[rows], w.in_bar[rows]
    left = len(w.bars.start) - 1 - bar
    out[:, 5:10] = bar_columns(bar, left, w.bars.meter[bar], w.bars.fifths[bar] - home_fifths)
    return out


def plan_inputs(
    plan: NDArray[np.int64], lag: NDArray[np.int64], bar: NDArray[np.int64], bar_ticks: NDArray[np.int64],
    in_bar: NDArray[np.int64],
) -> dict[str, NDArray]:  # fmt: skip
    """Inputs of the reference heads and plan embeddings at steps in bars `bar`.

    plan, lag, bar_ticks  a row a bar: classes (m, 5), bars back (0 none), length of the whole bar
    in_bar                (T,) ticks since the start of the step's bar
    Returns plan (T, 10), bar (T,), target (T, 2) and time (T, 2); see `engine.models.composer.composer.References`.
    """
    following = np.minimum(bar + 1, len(plan) - 1)
    inside = (bar + 1 < len(plan))[:, None]
    target = np.stack([bar - lag[bar], following - lag[following]], axis=-1)
    has = np.stack([lag[bar] > 0, (lag[following] > 0) & inside[:, 0]], axis=-1)
    return {
        "plan": np.concatenate([plan[bar], plan[following] * inside], axis=-1),
        "bar": bar.copy(),
        "target_bar": np.where(has, target, -2),
        "time": (np.stack([in_bar, in_bar - bar_ticks[bar]], axis=-1) / TICKS_PER_QUARTER).astype(np.float32),
    }
