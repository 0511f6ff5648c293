"""Apply written pedal marks: Ped. and its release, con pedale, senza pedale.

Between a release and the next Ped. the pedal is up, unless they are more than LONG_GAP_BARS apart; elsewhere the
performance keeps its pedal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.music.expression import beat_times
from engine.music.types import Performance, Score

LONG_GAP_BARS = 4
_CHANGE_SEC = 0.08  # time from a release to the next press in a pedal change
_USED = 0.4  # minimum share of a bar with pedal to satisfy con pedale
_DOWN, _UP = 100, 0


@dataclass(frozen=True)
class _Span:
    """The written pedal from one position to the next, in quarters: "down", "up" or "used"."""

    start: float
    end: float
    kind: str


def with_pedal_marks(score: Score, performance: Performance) -> Performance:
    """The performance with written pedal marks applied. Notes are unchanged."""
    spans = _spans(score)
    if not spans:
        return performance
    _, sec, quarter = beat_times(score, performance)

    def seconds(q: float) -> float:
        beyond = max(q - quarter[-1], 0.0) * (sec[-1] - sec[-2]) / (quarter[-1] - quarter[-2]) if len(sec) > 1 else 0.0
        return max(float(np.interp(q, quarter, sec)) + beyond, 0.0)

    at, value = np.array(performance.pedal_sec), np.array(performance.pedal_value)
    for span in spans:
        if span.kind == "used":
            at, value = _used(score, span, at, value, seconds)
            continue
        start, end = seconds(span.start), seconds(span.end)
        level = _DOWN if span.kind == "down" else _UP
        at, value = _set(at, value, start, end, level)
    return replace(performance, pedal_sec=at, pedal_value=value)


def _spans(score: Score) -> list[_Span]:
    m, events = score.measures, score.events
    end, bar = m.end_quarter, float(np.median(m.duration_quarter))
    found = [(q, kind) for kind in ("pedal_down", "pedal_up") for q in events.at(kind).tolist()]
    out = []
    if found:
        found.sort(key=lambda e: (e[0], e[1] == "pedal_down"))  # a change: up, then down again
        for (q, kind), (until, _) in pairwise([*found, (end, "")]):
            if kind == "pedal_down":
                out.append(_Span(q, until, "down"))
            elif until - q <= LONG_GAP_BARS * bar + 1e-6 and until > q:
                out.append(_Span(q, until, "up"))
    words = sorted([(q, "used") for q in events.at("con_pedale")] + [(q, "up") for q in events.at("senza_pedale")])
    for (q, kind), (until, _) in pairwise([*words, (end, "")]):
        out.append(_Span(float(q), float(until), kind))
    return out


def _set(
    at: NDArray, value: NDArray, start: float, end: float, level: int
) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Set the pedal to `level` from start to end, with a release before and after."""
    i = int(np.searchsorted(at, end, side="right")) - 1
    keep = (at < start) | (at > end)
    if level == _UP:
        points, values = [start, end], [_UP, int(value[i]) if i >= 0 else _UP]
    else:
        points, values = [start, min(start + _CHANGE_SEC, (start + end) / 2), end], [_UP, _DOWN, _UP]
    before = at < start
    at = np.concatenate([at[keep & before], points, at[keep & ~before]])
    return at, np.concatenate([value[keep & before], values, value[keep & ~before]]).astype(np.int16)


def _used(
    score: Score, span: _Span, at: NDArray, value: NDArray, seconds: Callable[[float], float]
) -> tuple[NDArray, NDArray]:
    """Add pedal that changes with the bass to bars with too little."""
    m = score.measures
    for onset, duration in zip(m.onset_quarter, m.duration_quarter, strict=True):
        if onset < span.start - 1e-6 or onset >= span.end - 1e-6:
            continue
        a, b = seconds(float(onset)), seconds(float(min(onset + duration, span.end)))
        if _share_down(at, value, a, b) >= _USED:
            continue
        changes = [*_bass_changes(score, float(onset), float(onset + duration)), float(onset + duration)]
        for first, last in pairwise(changes):
            at, value = _set(at, value, seconds(first), seconds(last), _DOWN)
    return at, value


def _share_down(at: NDArray, value: NDArray, start: float, end: float) -> float:
    inside = np.flatnonzero((at > start) & (at < end))
    i = int(np.searchsorted(at, start, side="right")) - 1
    times = np.concatenate([[start], at[inside], [end]])
    down = np.concatenate([[value[i] >= 64 if i >= 0 else False], value[inside] >= 64])
    return float((np.diff(times) * down).sum() / max(end - start, 1e-6))


def _bass_changes(score: Score, start: float, end: float) -> list[float]:
    """The bar's start and where its lowest sounding note changes, a beat apart at least."""
    on, off = score.onset_quarter, score.onset_quarter + score.duration_quarter
    out, lowest = [start], None
    for q in np.unique(on[(on >= start - 1e-6) & (on < end - 1e-6)]):
        bass = int(score.pitch[(on <= q + 1e-6) & (off > q + 1e-6)].min(initial=128))
        if lowest is not None and bass < 128 and bass != lowest and q - out[-1] >= 1.0:
            out.append(float(q))
        lowest = bass if bass < 128 else lowest
    return out
