"""Unfolding of a score's measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.music.types import EVENT_NAMES, Marks, Measures, PageEvents, Score

_MAX_UNFOLDED_NOTES = 20_000


def unfold(score: Score, order: Sequence[int]) -> Score:
    """Arrange the measures of a written score in the given order; measure k of the result is `order[k]` of the input.

    Returns the score unchanged if the order is the written one or the result would exceed 20,000 notes.
    """
    order = list(order)
    if order == list(range(len(score.measures))):
        return score
    m = score.measures
    of_measure = np.clip(np.searchsorted(m.onset_quarter, score.onset_quarter + 1e-6, side="right") - 1, 0, len(m) - 1)
    members = [np.flatnonzero(of_measure == k) for k in range(len(m))]
    if sum(len(members[k]) for k in order) > _MAX_UNFOLDED_NOTES:
        return score
    new_onset = np.concatenate([[0.0], np.cumsum(m.duration_quarter[order])[:-1]])
    if m.position_quarter[order[0]] > 0:
        new_onset -= m.duration_quarter[order[0]]
    rows = np.concatenate([members[k] for k in order])
    shift = np.concatenate(
        [np.full(len(members[k]), at - m.onset_quarter[k]) for k, at in zip(order, new_onset, strict=True)]
    )
    take = {
        name: getattr(score, name)[rows]
        for name in ("duration_quarter", "pitch", "spelling", "staff", "voice", "grace")
    }
    measures = Measures(
        new_onset, m.duration_quarter[order], m.position_quarter[order],
        m.ts_num[order], m.ts_den[order], m.fifths[order], m.number[order],
    )  # fmt: skip
    onset = score.onset_quarter[rows] + shift
    events, of_bar = score.events, np.searchsorted(m.onset_quarter, score.events.quarter + 1e-6, side="right") - 1
    moved = [
        (events.quarter[i] + at - m.onset_quarter[k], EVENT_NAMES[events.kind[i]])
        for k, at in zip(order, new_onset, strict=True) for i in np.flatnonzero(of_bar == k)
    ]  # fmt: skip
    within = np.where(take["grace"], np.arange(len(rows)), take["pitch"])  # grace notes keep their written order
    sort = np.lexsort((within, ~take["grace"], onset.round(6)))
    return replace(
        score, onset_quarter=onset[sort], marks=Marks(score.marks.table[rows][sort]), measures=measures,
        events=PageEvents.of(moved), **{name: values[sort] for name, values in take.items()},
    )  # fmt: skip
