"""Finishing of a new piece: recompose overfull bars, and end on the tonic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.limits import REQUEST_BARS
from engine.models.composer.generate import NoteSampler, SamplingTask
from engine.models.composer.numpy_network import Weights
from engine.music.keys import last_bass, major_tonic, minor_fit
from engine.tokens.composer_tokens import NOTE_TICKS, TICKS_PER_QUARTER, Bars, Written, key_shift, make_written
from engine.tokens.plan import Plan

MAX_IN_BAR = 40  # maximum notes of a bar, unless the requested density needs more
MEAN_IN_BAR = 32.0  # notes a bar up to which a density is drawn
ENDING_BARS = 2
_CANDIDATES = 8  # of an ending
_ENDING_TEMPERATURE = 0.8  # at most: endings are conventional
_THIN_CANDIDATES, _THIN_BARS = 3, 8  # of a bar that is too full; bars that are mended at most
_DOMINANT = 7  # semitones above the tonic
_RELATIVE = 9  # semitones from a major tonic up to that of the relative minor

Rows = NDArray[np.int64]  # (n, 4) tick, pitch, staff (0 upper, 1 lower) and duration class, by (tick, pitch)


@dataclass(frozen=True)
class Sheet:
    """Context of a piece: the Composer, barlines on the grid, key signature and conditions.

    conditions  classes as in Task
    plan        an entry a bar, or None
    sampling    temperature and top-p
    """

    model: Weights
    grid: Bars
    fifths: int
    minor: bool
    conditions: NDArray[np.int64]
    plan: Plan | None
    sampling: tuple[float, float]

    @property
    def tonic(self) -> int:
        """Pitch class of the tonic."""
        return (major_tonic(self.fifths) + _RELATIVE * self.minor) % 12

    def tick(self, bar: int) -> int:
        """Where a bar begins; after the last one, its end."""
        start, length = self.grid.start, self.grid.length
        return int(start[bar]) if bar < len(start) else int(start[-1] + length[-1])

    def rewrite(
        self, rows: Rows, first: int, end: int, seed: list[int], candidates: int, temperature: float = 2.0
    ) -> list[Rows]:
        """The piece with bars `first` to `end` (not included) recomposed several times: as an infill if notes follow,
        else as an ending. `temperature` bounds the sheet's.
        """
        low, high = self.tick(first), self.tick(end)
        kept = rows[(rows[:, 0] < low) | (rows[:, 0] >= high)]
        known = self.written(kept)
        later = np.flatnonzero(known.tick >= low)
        bars = self.grid if len(later) else _until(self.grid, end)
        plan = None if self.plan is None else self.plan.first(len(bars.start))
        task = SamplingTask(
            known, later, bars, low, high, self.fifths, key_shift(self.fifths), bool(len(later)), 0, 0,
            self.conditions, plan=plan,
        )  # fmt: skip
        number = int(np.random.SeedSequence(seed).generate_state(1)[0])
        temperature = min(self.sampling[0], temperature)
        writer = NoteSampler(self.model, task, candidates, number, temperature, self.sampling[1])
        with self.model.one_thread():
            for _ in writer:
                pass
        return [in_order(np.concatenate([kept, np.array(t.notes, np.int64).reshape(-1, 4)])) for t in writer.takes]

    def written(self, rows: Rows) -> Written:
        """Rows on this sheet's grid."""
        return make_written(
            rows[:, 0] / TICKS_PER_QUARTER, NOTE_TICKS[rows[:, 3]] / TICKS_PER_QUARTER, rows[:, 1], rows[:, 2] + 1,
            np.zeros(len(rows), bool), self.grid,
        )  # fmt: skip


def in_order(rows: Rows) -> Rows:
    """Rows by (tick, pitch)."""
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def _until(grid: Bars, end: int) -> Bars:
    return Bars(*(getattr(grid, k)[:end] for k in grid.__dataclass_fields__))


def bar_counts(sheet: Sheet, rows: Rows) -> NDArray[np.int64]:
    """(bars,) notes that begin in each bar."""
    bar = np.searchsorted(sheet.grid.start, rows[:, 0], side="right") - 1
    return np.bincount(bar.clip(0), minlength=len(sheet.grid.start))


def thinned(sheet: Sheet, rows: Rows, most: int, seed: list[int], first: int = 0, end: int = REQUEST_BARS) -> Rows:
    """Bars `first` to `end` with more than `most` notes composed again, the fullest first, each where a candidate has
    fewer.
    """
    for k in range(_THIN_BARS):
        count = bar_counts(sheet, rows)
        count[:first], count[end:] = 0, 0
        bar = int(count.argmax())
        if count[bar] <= most:
            break
        tries = sheet.rewrite(rows, bar, bar + 1, [*seed, 3, k], _THIN_CANDIDATES)
        best = min(tries, key=lambda made: int(bar_counts(sheet, made)[bar]))
        if not 0 < bar_counts(sheet, best)[bar] < count[bar]:
            break
        rows = best
    return rows


def ends_at_home(sheet: Sheet, rows: Rows) -> bool:
    """Whether the lowest note that sounds at the last onset is the tonic."""
    return last_bass(rows[:, 0], NOTE_TICKS[rows[:, 3]], rows[:, 1]) == sheet.tonic


def is_authentic(sheet: Sheet, rows: Rows) -> bool:
    """Whether the piece ends with an authentic cadence by the outer voices: the bass goes from the dominant to the
    tonic, and the highest note of the last onset is the tonic, too.
    """
    onsets = np.unique(rows[:, 0])
    if len(onsets) < 2 or not ends_at_home(sheet, rows):
        return False
    top = int(rows[rows[:, 0] == onsets[-1], 1].max())
    home = int(rows[rows[:, 0] == onsets[-1], 1].min())
    lower = rows[(rows[:, 2] == 1) & (rows[:, 0] >= sheet.tick(max(0, _bar_of(sheet, onsets[-1]) - 1)))]
    bass = [int(lower[lower[:, 0] == t, 1].min()) for t in np.unique(lower[:, 0])] or [home]
    before = next((p % 12 for p in reversed(bass) if p % 12 != sheet.tonic), -1)
    return top % 12 == sheet.tonic and before == (sheet.tonic + _DOMINANT) % 12


def _bar_of(sheet: Sheet, tick: int) -> int:
    return int(np.searchsorted(sheet.grid.start, tick, side="right")) - 1


def closed(sheet: Sheet, rows: Rows, seed: list[int], ending: int = ENDING_BARS) -> Rows:
    """The piece with an ending that reaches the tonic, if possible by an authentic cadence: the last `ending` bars
    composed again where they have none and one of several tries is better. Of equals the one nearest to the key counts.
    """
    bars = int(np.flatnonzero(bar_counts(sheet, rows))[-1]) + 1
    first = max(bars - ending, 1)
    if first >= bars or is_authentic(sheet, rows) or not (rows[:, 0] < sheet.tick(first)).any():
        return rows
    made = sheet.rewrite(rows, first, bars, [*seed, 5], _CANDIDATES, _ENDING_TEMPERATURE)
    tries = [one for one in made if ends_at_home(sheet, one)]
    best = max(tries, key=lambda one: (is_authentic(sheet, one), _fit(sheet, one, first)), default=rows)
    return rows if ends_at_home(sheet, rows) and not is_authentic(sheet, best) else best


def begun_at_once(sheet: Sheet, rows: Rows, seed: list[int]) -> Rows:
    """The piece moved to its first bar where it began with bars of rest; the bars that lack at the end are added."""
    bars = len(sheet.grid.start)
    empty = int(np.flatnonzero(bar_counts(sheet, rows))[0])
    if not empty:
        return rows
    moved = np.array(rows)
    moved[:, 0] -= sheet.tick(empty)
    return sheet.rewrite(moved, bars - empty, bars, [*seed, 7], 1)[0]


def _fit(sheet: Sheet, rows: Rows, first: int) -> float:
    """How well the bars from `first` on fit the mode."""
    last = rows[rows[:, 0] >= sheet.tick(first)]
    fit = minor_fit(last[:, 1], NOTE_TICKS[last[:, 3]], sheet.fifths)
    return fit if sheet.minor else -fit
