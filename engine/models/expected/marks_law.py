"""Enforce marks on single notes: grace notes, rolled chords, fermatas, tenuto. Compliant notes are unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.music.expression import GRACE_BEATS, chords
from engine.music.types import Expression, Marks, Score

GRACE_SEC = (0.030, 0.150)  # between grace notes, and from the last one to the main note
_GRACE_USUAL_SEC = 0.085
ROLL_SEC = (0.025, 0.150)  # of a rolled chord, lowest to highest
_ROLL_STEP_SEC = 0.030
TENUTO_LOG2 = -0.18  # minimum log2 of played over written length
FERMATA_LOG2 = -0.05


def with_marks(score: Score, expression: Expression) -> Expression:
    """The expression with enforced note marks."""
    marks = score.marks
    articulation = np.array(expression.articulation_log2)
    held = marks["tenuto"] > 0
    articulation[held] = np.maximum(articulation[held], TENUTO_LOG2)
    held = marks["fermata"] > 0
    articulation[held] = np.maximum(articulation[held], FERMATA_LOG2)
    out = replace(expression, articulation_log2=articulation)
    if (marks["arpeggio"] > 0).any():
        out = _rolled(score, out)
    return _before_the_beat(score, out) if score.grace.any() else out


def without_grace_notes(score: Score) -> Score:
    """The score without its grace notes; the same score where it has none, or nothing else."""
    keep = ~score.grace
    if keep.all() or not keep.any():
        return score
    names = ("onset_quarter", "duration_quarter", "pitch", "spelling", "staff", "voice", "grace")
    return replace(score, marks=Marks(score.marks.table[keep]), **{k: getattr(score, k)[keep] for k in names})


def _groups(score: Score, of: NDArray[np.bool_], staves_apart: bool) -> Iterator[NDArray[np.int64]]:
    """Rows of the flagged notes, chord by chord in the score's order; each staff by itself when they are apart."""
    rows = np.flatnonzero(of)
    key = chords(score).index[rows] * 4 + (score.staff[rows].clip(0, 3) if staves_apart else 0)
    for k in np.unique(key):
        yield rows[key == k]


def _rolled(score: Score, e: Expression) -> Expression:
    """Arpeggiated chords are rolled upward, with the highest note on the beat."""
    timing = np.array(e.timing_sec)
    for rows in _groups(score, (score.marks["arpeggio"] > 0) & ~score.grace, staves_apart=False):
        rows = rows[np.argsort(score.pitch[rows], kind="stable")]
        apart, spread = np.diff(timing[rows]), timing[rows[-1]] - timing[rows[0]]
        if len(rows) < 2 or ((apart > 0).all() and ROLL_SEC[0] <= spread <= ROLL_SEC[1]):
            continue
        spread = float(np.clip(_ROLL_STEP_SEC * (len(rows) - 1), 0.04, 0.13))
        timing[rows] = np.clip(timing[rows[-1]], -0.03, 0.03) + spread * np.linspace(-1, 0, len(rows))
    return replace(e, timing_sec=timing)


def _before_the_beat(score: Score, e: Expression) -> Expression:
    """Grace notes precede their main note in written order, in at most half of the time since the previous chord."""
    timing, articulation = np.array(e.timing_sec), np.array(e.articulation_log2)
    c = chords(score)
    gap = np.append(4.0, np.diff(c.beat))[c.index] * e.beat_period  # seconds since the chord before
    for rows in _groups(score, score.grace, staves_apart=True):
        main = np.flatnonzero((c.index == c.index[rows[0]]) & ~score.grace & (score.staff == score.staff[rows[0]]))
        if not len(main):
            continue
        first = timing[main].min()
        steps = np.diff(np.append(timing[rows], first))
        if not ((steps >= GRACE_SEC[0]) & (steps <= GRACE_SEC[1])).all():
            room = max(float(gap[rows[0]]) * 0.5 / len(rows), GRACE_SEC[0])
            step = min(_GRACE_USUAL_SEC, room)
            timing[rows] = first - step * np.arange(len(rows), 0, -1)
            steps = np.full(len(rows), step)
        articulation[rows] = np.log2(steps / (GRACE_BEATS * e.beat_period[rows]))
    return replace(e, timing_sec=timing, articulation_log2=articulation)
