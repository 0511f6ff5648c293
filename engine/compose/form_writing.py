"""Composing by a form: new sections are composed, returns copy their bars, seams are recomposed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.compose.composing import (
    Prior,
    classes_of,
    draw_values,
    in_the_manner_of,
    most_in_bar,
    run,
    send_notes,
)
from engine.compose.finishing import ENDING_BARS, Sheet, closed, in_order, thinned
from engine.compose.form import Form
from engine.compose.scores import make_grid, make_measures, new_score
from engine.models.composer.generate import HIGHEST, LOWEST, SamplingTask
from engine.models.composer.numpy_network import Weights
from engine.music.types import Score
from engine.progress import NoteCallback
from engine.requests import ComposeRequest
from engine.tokens.composer_tokens import METERS, NOTE_TICKS, TICKS_PER_QUARTER, Bars, Written, key_shift, make_written
from engine.tokens.plan import Plan

LOWER, UPPER = 2, 1  # hands of a Task


def compose_form(
    model: Weights, prior: Prior, request: ComposeRequest, on_note: NoteCallback | None = None
) -> list[Score]:
    """Compose new pieces of the request's form, one for each take, of exactly `form.bars` bars.

    The bar before a return is written again when the return is known; the last bar of the piece is written as an end.
    `on_note` as in `engine.compose.composing.compose`. Raises BadInput for a condition or a number that is not
    accepted.
    """
    form = request.check().parsed_form
    assert form is not None
    values = draw_values(prior, request.conditions, request.seed)
    about = in_the_manner_of(values)
    scores = []
    for take in range(request.takes):
        plan = prior.draw_plan(values, form.bars, np.random.default_rng([request.seed, take, 11]), given=form.lags())
        plan = plan.closed() if plan is not None else None
        piece = _Piece(model, form, values, take, request, on_note, plan)
        piece.write()
        scores.append(new_score(piece.rows, piece.measures, values["tempo"], about, exact=True))
    return scores


class _Piece:
    """One take while it is written; `rows` (n, 4) are tick, pitch, staff (0 upper, 1 lower) and duration class."""

    def __init__(
        self, model: Weights, form: Form, values: dict[str, float], take: int, request: ComposeRequest,
        on_note: NoteCallback | None, plan: Plan | None,
    ):  # fmt: skip
        self.plan = plan
        self.model, self.form, self.take, self.request, self.on_note = model, form, take, request, on_note
        num, den = (int(v) for v in METERS[int(values["meter"])].split("/"))
        self.fifths, self.most = int(values["fifths"]), most_in_bar(request.conditions, num, den)
        self.measures = make_measures(0.0, form.bars, num, den, self.fifths, 1)
        self.grid = make_grid(self.measures)
        self.conditions = classes_of(values)
        self.sheet = Sheet(
            model, self.grid, self.fifths, bool(values["minor"]), self.conditions, plan,
            (request.temperature, request.top_p)
        )  # fmt: skip
        self.rows: NDArray[np.int64] = np.zeros((0, 4), np.int64)
        self.passes = 0

    def write(self) -> None:
        """Write all sections from left to right."""
        form = self.form
        starts = form.starts
        for k, section in enumerate(form.sections):
            first, end = starts[k], starts[k] + section.bars
            if self._returns(k):  # copied when the section before it was done
                self._vary(k, first, end)
            else:
                self._new(first, end, hidden=end - 1 if self._returns(k + 1) else end)
            if self._returns(k + 1):
                self._copy(k + 1, form.source(k + 1) or 0)
                self._gap(end - 1, end, 0)
        ending = 1 if self._returns(len(form.sections) - 1) else ENDING_BARS
        rows = closed(self.sheet, self.rows, [self.request.seed, self.take], min(ending, form.sections[-1].bars))
        if rows is not self.rows:
            send_notes(self.on_note, self.take, rows[rows[:, 0] >= self._tick(form.bars - ending)], self.measures)
        self.rows = rows

    def _returns(self, k: int) -> bool:
        return k < len(self.form.sections) and self.form.source(k) is not None

    def _vary(self, k: int, first: int, end: int) -> None:
        """What a return does differently: a staff, its ending, the piece's last bar."""
        section = self.form.sections[k]
        if section.primes >= 2:
            self._gap(first, end, LOWER if section.primes == 2 else UPPER)
        at = self.form.copied_until(k)
        if at < end:
            self._new(at, end, hidden=end - 1 if self._returns(k + 1) else end)

    # ---- passes

    def _new(self, first: int, end: int, hidden: int) -> None:
        """Bars `first` to `end` written as what follows the bars before; notes from `hidden` on are not shown yet."""
        low, high = self._tick(first), self._tick(end)
        kept = self.rows[self.rows[:, 0] < low]
        self._run(kept, np.zeros(0, np.int64), low, high, False, 0, self._tick(hidden))

    def _gap(self, first: int, end: int, hand: int) -> None:
        """Bars `first` to `end` (of one hand) composed again between what stands before and after."""
        low, high = self._tick(first), self._tick(end)
        staff = self.rows[:, 2] == hand - 1 if hand else np.ones(len(self.rows), bool)
        old = (self.rows[:, 0] >= low) & (self.rows[:, 0] < high) & staff
        kept = self.rows[~old]
        self._run(kept, np.flatnonzero(kept[:, 0] >= low), low, high, True, hand, high)

    def _run(
        self, kept: NDArray[np.int64], later: NDArray[np.int64], low: int, high: int, gap: bool, hand: int, shown: int
    ) -> None:
        def heard(_: int, onset: float, duration: float, pitch: int, staff: int) -> None:
            if self.on_note is not None and onset * TICKS_PER_QUARTER < shown - 1e-6:
                self.on_note(self.take, onset, duration, pitch, staff)

        known = self._written(kept)
        later = np.flatnonzero(known.tick >= low) if len(later) else later
        bars = self.grid if gap else _bars_until(self.grid, high)
        plan = None if self.plan is None else self.plan.first(len(bars.start))
        task = SamplingTask(
            known, later, bars, low, high, self.fifths, key_shift(self.fifths), gap, hand, 0, self.conditions, plan=plan
        )  # fmt: skip
        self.passes += 1
        seed = int(np.random.SeedSequence([self.request.seed, self.take, self.passes]).generate_state(1)[0])
        new = run(self.model, task, self.measures, replace(self.request, takes=1, seed=seed), heard)[0]
        rows = in_order(np.concatenate([kept, new]))
        first, end = (int(np.searchsorted(self.grid.start, tick)) for tick in (low, high))
        seeds = [self.request.seed, self.take, self.passes]
        self.rows = rows if hand else thinned(self.sheet, rows, self.most, seeds, first, end)
        if self.rows is not rows:
            inside = (self.rows[:, 0] >= low) & (self.rows[:, 0] < min(high, shown))
            send_notes(self.on_note, self.take, self.rows[inside], self.measures)

    def _copy(self, k: int, source: int) -> None:
        """Copy the bars of section `source` to section k, with its transposition; further bars are composed later."""
        form, section = self.form, self.form.sections[k]
        begin = form.starts[source]
        bars = min(section.bars, form.sections[source].bars)
        rows = self._inside(begin, begin + bars).copy()
        rows[:, 0] += self._tick(form.starts[k]) - self._tick(begin)
        rows[:, 1] += section.transpose
        rows[:, 1] += 12 * (rows[:, 1] < LOWEST) - 12 * (rows[:, 1] > HIGHEST)
        if self.on_note is not None:
            for tick, pitch, staff, duration in rows.tolist():
                length = float(NOTE_TICKS[duration] / TICKS_PER_QUARTER)
                self.on_note(self.take, tick / TICKS_PER_QUARTER, length, pitch, staff + 1)
        self.rows = np.concatenate([self.rows, rows])

    # ---- notes and bars

    def _tick(self, bar: int) -> int:
        return (
            int(self.grid.start[bar])
            if bar < len(self.grid.start)
            else round(self.measures.end_quarter * TICKS_PER_QUARTER)
        )

    def _inside(self, first: int, end: int) -> NDArray[np.int64]:
        return self.rows[(self.rows[:, 0] >= self._tick(first)) & (self.rows[:, 0] < self._tick(end))]

    def _written(self, rows: NDArray[np.int64]) -> Written:
        return make_written(
            rows[:, 0] / TICKS_PER_QUARTER, NOTE_TICKS[rows[:, 3]] / TICKS_PER_QUARTER, rows[:, 1], rows[:, 2] + 1,
            np.zeros(len(rows), bool), self.grid,
        )  # fmt: skip


def _bars_until(grid: Bars, high: int) -> Bars:
    """The barlines before a tick, so that the bars ahead are counted to the end of the section."""
    count = int(np.searchsorted(grid.start, high))
    return replace(grid, **{k: getattr(grid, k)[:count] for k in grid.__dataclass_fields__})
