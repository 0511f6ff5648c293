"""One section of a piece with a form: composed again, varied or moved. The bars of all other sections keep their notes.

A score has a form when its bars are those of the form's sections, in order. Composing again and varying are infilling:
the functions here give the request for it, and the form that the result has.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.compose.form import MAX_PRIMES, Form, Section
from engine.music.types import BadInput, Marks, Measures, PageEvents, Score
from engine.requests import ComposeRequest, InfillRequest

_SLACK = 1e-6  # quarters: a note on the barline belongs to the bar that begins there
LOWER, UPPER = 2, 1  # staves


def check_section(score: Score, form: Form, k: int) -> None:
    """Raise BadInput when the score does not have this form, or the form no section k (from 0)."""
    if form.bars != len(score.measures):
        raise BadInput(
            f"The form has {form.bars} bars and the score {len(score.measures)}; give each bar of the score a section."
        )
    if not 0 <= k < len(form.sections):
        raise BadInput(f"The form has no section {k + 1}; its sections are 1 to {len(form.sections)}.")


def recomposing(score: Score, form: Form, k: int, settings: ComposeRequest) -> tuple[InfillRequest, Form]:
    """New music for section k. A section that shares its letter with others gets a letter of its own.

    Raises BadInput as check_section does.
    """
    check_section(score, form, k)
    section = form.sections[k]
    alone = [s.letter for s in form.sections].count(section.letter) == 1
    letter = section.letter if alone else form.new_letter()
    first = form.starts[k]
    selected, span = _bars(score, first, first + section.bars)
    changed = _with(form, k, Section(letter, 0, section.bars, 0))
    return settings.rewriting(score, selected, span), changed


def varying(score: Score, form: Form, k: int, settings: ComposeRequest) -> tuple[InfillRequest, Form]:
    """A return with one prime more: a new ending, then a new lower staff, then a new upper staff. The first section of
    a letter gets a new ending, and its later returns the prime.

    Raises BadInput as check_section does.
    """
    check_section(score, form, k)
    section, source, first = form.sections[k], form.source(k), form.starts[k]
    end = first + section.bars
    if source is None:
        begin, staff, changed = end - max(1, section.bars // 4), 0, _primed(form, k)
    else:
        primes = min(section.primes + 1, MAX_PRIMES)
        begin = end - max(1, section.bars // 4) if primes == 1 else first
        staff = (0, 0, LOWER, UPPER)[primes]
        changed = _with(form, k, replace(section, primes=primes))
    selected, span = _bars(score, begin, end, staff)
    # a bar that is asked to resemble the theme comes out as a copy of it, so a new staff is asked to resemble none
    return settings.rewriting(score, selected, span, (0,) * (end - begin)), changed


def move_section(score: Score, form: Form, k: int, to: int) -> tuple[Score, Form]:
    """The piece with section k as the one at place `to` (both from 0); bars are renumbered.

    Every bar keeps its notes. A note that is held into the next bar ends where its key is struck again, or with the
    piece. Raises BadInput as check_section does.
    """
    check_section(score, form, k)
    check_section(score, form, to)
    order = [i for i in range(len(form.sections)) if i != k]
    order.insert(to, k)
    moved = Form(tuple(form.sections[i] for i in order)).relabelled()
    bars = np.concatenate([np.arange(form.starts[i], form.starts[i] + form.sections[i].bars) for i in order])
    return _in_bar_order(score, bars), moved


def _in_bar_order(score: Score, bars: NDArray[np.int64]) -> Score:
    """The score with its bars in another order, (m,) indices."""
    m = score.measures
    length = m.duration_quarter[bars]
    begin = float(m.onset_quarter[0]) if bars[0] == 0 else 0.0  # a pickup that is not first any more is a short bar
    start = begin + np.concatenate([[0.0], np.cumsum(length)[:-1]])
    columns = {k: getattr(m, k)[bars] for k in ("position_quarter", "ts_num", "ts_den", "fifths")}
    measures = Measures(start, length, **columns, number=m.number)
    place = np.empty(len(bars), np.int64)
    place[bars] = np.arange(len(bars))
    at = (np.searchsorted(m.onset_quarter, score.onset_quarter + _SLACK, side="right") - 1).clip(0)
    rows = np.lexsort((np.arange(len(score)), place[at]))  # within a bar notes stay in their order
    onset = (score.onset_quarter + (start[place[at]] - m.onset_quarter[at]))[rows]
    pitch = score.pitch[rows]
    names = ("spelling", "staff", "voice", "grace")
    duration = _held(onset, score.duration_quarter[rows], pitch, measures.end_quarter)
    quarter = score.events.quarter
    bar = (np.searchsorted(m.onset_quarter, quarter, side="right") - 1).clip(0)
    quarter = quarter + start[place[bar]] - m.onset_quarter[bar]
    signs = np.argsort(quarter, kind="stable")
    return replace(
        score, onset_quarter=onset, duration_quarter=duration, pitch=pitch, measures=measures,
        marks=Marks(score.marks.table[rows]), events=PageEvents(quarter[signs], score.events.kind[signs]),
        document=b"", **{k: getattr(score, k)[rows] for k in names},
    )  # fmt: skip


def _held(onset: NDArray, duration: NDArray, pitch: NDArray, end: float) -> NDArray[np.float64]:
    """Durations up to the next stroke of the same key and to the end of the piece at most."""
    out = np.minimum(duration, np.maximum(end - onset, 0.0))
    for key in np.unique(pitch):
        rows = np.flatnonzero(pitch == key)
        gap = np.diff(onset[rows])
        out[rows[:-1]] = np.where(gap > _SLACK, np.minimum(out[rows[:-1]], gap), out[rows[:-1]])
    return out


def _bars(score: Score, first: int, end: int, staff: int = 0) -> tuple[NDArray[np.bool_], tuple[float, float]]:
    """The notes that begin in bars `first` to `end` (not included), (n,), of one staff or both; and the span."""
    m = score.measures
    span = float(m.onset_quarter[first]), float(m.onset_quarter[end - 1] + m.duration_quarter[end - 1])
    inside = (score.onset_quarter >= span[0] - _SLACK) & (score.onset_quarter < span[1] - _SLACK)
    return inside & (score.staff == staff) if staff else inside, span


def _with(form: Form, k: int, section: Section) -> Form:
    return Form((*form.sections[:k], section, *form.sections[k + 1 :])).relabelled()


def _primed(form: Form, k: int) -> Form:
    """The form once the ending of section k, the first of its letter, has changed."""
    letter = form.sections[k].letter
    others = (
        replace(s, primes=max(s.primes, 1)) if s.letter == letter and i != k else s for i, s in enumerate(form.sections)
    )
    return Form(tuple(others))
