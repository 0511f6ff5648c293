"""Transfer of the marks of a MusicXML score to a performed version of the piece, with its repeats and cuts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from engine.music.expression import measure_of
from engine.music.types import EVENT_NAMES, MARK_NAMES, Marks, PageEvents, Score

_GRID = 48  # positions per quarter when bars are compared
_JUMP = 1.5  # cost of a jump in the written order of bars
_RUNNING = [MARK_NAMES.index(k) for k in ("written_velocity", "hairpin", "tempo_bpm", "tempo_word", "tempo_change")]


def bar_path(played: Score, written: Score) -> tuple[NDArray[np.int64], float]:
    """Index of the written bar of each played bar, (u,), and the mean overlap of their notes, 0..1 (Viterbi)."""
    a, b = _bar_notes(played), _bar_notes(written)
    vocabulary = {key: i for i, key in enumerate(sorted(set().union(*a, *b)))}

    def matrix(bars: list[set]) -> csr_matrix:
        rows = np.repeat(np.arange(len(bars)), [len(x) for x in bars])
        columns = [vocabulary[key] for x in bars for key in x]
        return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(bars), max(len(vocabulary), 1)))

    common = (matrix(a) @ matrix(b).T).toarray()
    size_a, size_b = (np.array([len(x) for x in bars])[:, None] for bars in (a, b))
    union = size_a + size_b.T - common
    similarity = np.where(union > 0, common / np.maximum(union, 1), 0.5)
    u, m = similarity.shape
    best, back = similarity[0] - _JUMP * (np.arange(m) > 0), np.zeros((u, m), int)
    for k in range(1, u):
        jump = int(best.argmax())
        onward = np.concatenate([[-np.inf], best[:-1]])
        stay = best[jump] - _JUMP
        back[k] = np.where(onward >= stay, np.arange(m) - 1, jump)
        best = np.maximum(onward, stay) + similarity[k]
    path = [int(best.argmax())]
    for k in range(u - 1, 0, -1):
        path.append(int(back[k, path[-1]]))
    path_array = np.array(path[::-1])
    weight = size_a[:, 0]
    return path_array, float((similarity[np.arange(u), path_array] * weight).sum() / max(weight.sum(), 1))


def _bar_notes(score: Score) -> list[set[tuple[int, int]]]:
    bar = measure_of(score)
    position = _position(score, bar)
    out: list[set[tuple[int, int]]] = [set() for _ in range(len(score.measures))]
    for b, p, k in zip(bar, position, score.pitch, strict=True):
        out[b].add((int(p), int(k)))
    return out


def _position(score: Score, bar: NDArray) -> NDArray[np.int64]:
    m = score.measures
    return np.round((score.onset_quarter - m.onset_quarter[bar] + m.position_quarter[bar]) * _GRID).astype(int)


def attach_marks(played: Score, written: Score) -> tuple[Score, float]:
    """Give `played` the marks of `written`; returns it and the overlap of their notes, 0..1.

    Below an overlap of 0.6 nothing is copied.
    """
    path, overlap = bar_path(played, written)
    if overlap < 0.6:
        return played, overlap
    bar_a, bar_b = measure_of(played), measure_of(written)
    pos_a, pos_b = _position(played, bar_a), _position(written, bar_b)
    of_bar = [np.flatnonzero(bar_b == k) for k in range(len(written.measures))]
    exact = {(int(b), int(p), int(k)): i for i, (b, p, k) in enumerate(zip(bar_b, pos_b, written.pitch, strict=True))}
    table = np.zeros((len(played), len(MARK_NAMES)), np.int16)
    for i in range(len(played)):
        target = int(path[bar_a[i]])
        j = exact.get((target, int(pos_a[i]), int(played.pitch[i])))
        if j is not None:
            table[i] = written.marks.table[j]
        elif len(of_bar[target]):
            near = of_bar[target][np.abs(pos_b[of_bar[target]] - pos_a[i]).argmin()]
            table[i, _RUNNING] = written.marks.table[near, _RUNNING]
    m, w, e = played.measures, written.measures, written.events
    of_event = np.searchsorted(w.onset_quarter, e.quarter + 1e-6, side="right") - 1
    events = [
        (m.onset_quarter[k] - m.position_quarter[k] + e.quarter[i] - w.onset_quarter[b] + w.position_quarter[b],
         EVENT_NAMES[e.kind[i]])
        for k, b in enumerate(path) for i in np.flatnonzero(of_event == b)
    ]  # fmt: skip
    return replace(played, marks=Marks(table), events=PageEvents.of(events)), overlap
