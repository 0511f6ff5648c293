"""Newly performed notes inserted into an existing performance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Performance, Score


def splice(score: Score, keep: Performance, new: Performance, known: NDArray[np.bool_]) -> Performance:
    """Insert the new notes of `new` into `keep`, whose times stay: time between kept notes is stretched to fit. The
    pedal is that of `keep`, except `new`'s between onsets that only new notes have.
    """
    n = len(score)
    anchors = np.flatnonzero(known)
    onset, duration = np.array(keep.onset_sec), np.array(keep.duration_sec)
    velocity = np.array(keep.velocity)
    redo = np.flatnonzero(~known)

    def to_kept(at: NDArray) -> NDArray[np.float64]:
        """Map seconds of `new` to seconds of `keep`."""
        if len(anchors) < 2:
            return at + (keep.onset_sec[anchors[0]] - new.onset_sec[anchors[0]] if len(anchors) else 0.0)
        order = anchors[np.argsort(new.onset_sec[anchors], kind="stable")]
        x, y = new.onset_sec[order], np.maximum.accumulate(keep.onset_sec[order])
        x, first = np.unique(x, return_index=True)
        y = y[first]
        mapped = np.interp(at, x, y)
        mapped = np.where(at < x[0], y[0] + at - x[0], mapped)
        return np.where(at > x[-1], y[-1] + at - x[-1], mapped)

    onset[redo], velocity[redo] = np.maximum(to_kept(new.onset_sec[redo]), 0.0), new.velocity[redo]
    duration[redo] = new.duration_sec[redo]
    for i in redo:  # a new note ends before the next note of its pitch
        later = onset[:n][(keep.pitch[:n] == keep.pitch[i]) & (onset[:n] > onset[i] + 1e-6)]
        if len(later):
            duration[i] = max(min(duration[i], later.min() - onset[i] - 1e-3), 1e-3)
    pedal_sec, pedal_value = _splice_pedal(score, keep, new, known, to_kept)
    return replace(
        keep, onset_sec=onset, duration_sec=duration, velocity=velocity, pedal_sec=pedal_sec, pedal_value=pedal_value
    )


def _splice_pedal(
    score: Score, keep: Performance, new: Performance, known: NDArray[np.bool_],
    to_kept: Callable[[NDArray], NDArray],
) -> tuple[NDArray, NDArray]:  # fmt: skip
    """Pedal events: the new ones from each onset that only new notes have to the next kept one."""
    onset = np.unique(score.onset_quarter)
    at = np.searchsorted(onset, score.onset_quarter)
    has_kept = np.zeros(len(onset), bool)
    has_kept[at[known]] = True
    sec, value = np.array(keep.pedal_sec), np.array(keep.pedal_value)
    if has_kept.all() or not len(new.pedal_sec):
        return sec, value
    first_new = np.array([new.onset_sec[: len(score)][at == k].min() for k in range(len(onset))])
    edges = np.diff(np.concatenate([[True], has_kept, [True]]).astype(int))
    for a, b in zip(np.flatnonzero(edges == -1), np.flatnonzero(edges == 1), strict=True):
        low = first_new[a]
        high = first_new[b] if b < len(onset) else np.inf
        inside = (new.pedal_sec >= low) & (new.pedal_sec < high)
        before = np.searchsorted(new.pedal_sec, low, side="left") - 1
        begin = new.pedal_value[before] if before >= 0 else 0
        cut = float(to_kept(np.array([low]))[0])
        end = float(to_kept(np.array([high]))[0]) if np.isfinite(high) else np.inf
        after = np.searchsorted(sec, end, side="left") - 1
        resume = [] if not np.isfinite(end) or after < 0 else [(end, value[after])]
        fresh = [(cut, begin), *zip(to_kept(new.pedal_sec[inside]), new.pedal_value[inside], strict=True), *resume]
        outside = (sec < cut) | (sec >= end)
        sec = np.concatenate([sec[outside], [s for s, _ in fresh]])
        value = np.concatenate([value[outside], [v for _, v in fresh]])
        order = np.argsort(sec, kind="stable")
        sec, value = np.maximum(sec[order], 0.0), value[order]
    return sec, value
