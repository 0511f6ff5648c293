"""Repeats, endings and da capo: the measures of a written score in the order in which they are played."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engine.music.io._partitura import load_partitura
from engine.music.types import EVENT_NAMES, Marks, Measures, PageEvents, Score

_MAX_UNFOLDED_NOTES = 20_000


def written_measures(part: Any) -> list[Any]:
    """The measures of a partitura part that last, in the order of the page."""
    kind = load_partitura().score.Measure
    lasting = (m for m in part.iter_all(kind) if m.end is not None and m.end.t > m.start.t)
    return sorted(lasting, key=lambda m: m.start.t)


def playing_order(part: Any, count: int) -> list[int]:
    """Indices of measures in the order a pianist plays them: each repeat once, endings, da capo al fine."""
    pt = load_partitura()
    found = written_measures(part)
    if len(found) != count:
        return list(range(count))
    starts = [m.start.t for m in found]

    def index(t: int) -> int:
        return int(np.searchsorted(starts, t))

    repeats = [(index(r.start.t), index(r.end.t)) for r in part.iter_all(pt.score.Repeat) if r.start and r.end]
    endings = [
        (index(e.start.t), index(e.end.t), {int(k) for k in re.findall(r"\d+", str(e.number))})
        for e in part.iter_all(pt.score.Ending)
        if e.start and e.end
    ]
    order, first = [], 0
    for start, end in sorted(repeats, key=lambda r: r[1]):
        start = max(start, first)
        if end <= start:
            continue
        order += [m for m in range(first, end) if not _skipped(m, endings, 1)]
        second = [m for m in range(start, end) if not _skipped(m, endings, 2)]
        order += second
        first = end
    order += list(range(first, count))
    return order


def _skipped(measure: int, endings: list, turn: int) -> bool:
    inside = [numbers for start, end, numbers in endings if start <= measure < end]
    return bool(inside) and all(turn not in numbers for numbers in inside)


def unfold(score: Score, order: Sequence[int]) -> Score:
    """Play the measures of a written score in the given order; measure k of the result is `order[k]` of the input.

    Returns the score unchanged when the order is the written one or the result would pass 20,000 notes.
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
