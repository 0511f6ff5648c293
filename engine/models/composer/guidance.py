"""Rules that steer the drawing of notes: returns lean towards the bar that they return to, and no figure goes round for
ever. The strengths were chosen on composed pieces (training/LOG.md).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.tokens.composer_tokens import ADVANCE, DURATION, PITCH, POSITION, STAFF, Bars, Written
from engine.tokens.plan import CLOSE, MAX_TRANSPOSE, Plan

Note = tuple[int, int, int, int]  # tick, pitch, staff (0 upper, 1 lower), duration class
LEAN_NEAR, LEAN_EXACT = 1.2, 1.6  # added to the logit of what the referenced bar has, by the likeness that is asked for
FIGURE = 8  # notes of a figure, as in `engine.measures.sanity.longest_loop`
MAX_ROUNDS = 4  # times that a figure is played in a row: 99 % of real segments have no more
_BREAK_FROM = 2  # rounds after which a return is no longer followed


class ReturnGuide:
    """The notes of the bars that a plan refers to, by the place to which they return."""

    def __init__(self, plan: Plan, bars: Bars, before: Written):
        self.plan, self.bars = plan, bars
        self.before = before
        self._order = np.argsort(before.bar, kind="stable")
        self._bar = before.bar[self._order]

    def returning(self, bar: int, own: Sequence[Note]) -> list[Note]:
        """Notes of the referenced bar, shifted to `bar`, sorted by (tick, pitch); [] if `bar` has no reference.

        They are looked up among the given notes and the take's `own`.
        """
        source = self.source(bar)
        if source < 0:
            return []
        start, move = int(self.bars.start[source]), int(self.bars.start[bar])
        shift = int(np.clip(self.plan.transpose[bar], -MAX_TRANSPOSE, MAX_TRANSPOSE))
        rows = self._order[slice(*np.searchsorted(self._bar, [source, source + 1]))]
        w = self.before
        found = list(zip(*(c[rows].tolist() for c in (w.tick, w.pitch, w.staff, w.duration)), strict=True))
        end = start + int(self.bars.length[source])
        found += [n for n in own if start <= n[0] < end]
        return sorted((t - start + move, p + shift, s, d) for t, p, s, d in found)

    def source(self, bar: int) -> int:
        """The bar that a bar refers to, -1 for none."""
        refers = 0 <= bar < len(self.plan) and 0 < self.plan.lag[bar] <= bar
        return bar - int(self.plan.lag[bar]) if refers else -1

    def lean(self, bar: int) -> float:
        """How much is added to the logits in a bar."""
        return LEAN_EXACT if self.plan.likeness[bar] >= CLOSE else LEAN_NEAR


def following(notes: Sequence[Note], tick: int, pitch: int) -> Note | None:
    """The first of sorted notes after a tick and pitch, None when there is none."""
    at = bisect_right(notes, (tick, pitch, 9, 0))
    return notes[at] if at < len(notes) else None


def rounds(notes: Sequence[Note], run: int) -> int:
    """How many notes in a row, the last one included, equal those FIGURE notes before in pitch and in the distance to
    the note before. `run` is the number without the last note.
    """
    if len(notes) <= FIGURE + 1:
        return 0
    (t1, p1), (t0, _) = notes[-1][:2], notes[-2][:2]
    (s1, q1), (s0, _) = notes[-1 - FIGURE][:2], notes[-2 - FIGURE][:2]
    return run + 1 if p1 == q1 and t1 - t0 == s1 - s0 else 0


def worn_out(run: int) -> bool:
    """Whether a figure has been repeated so often that a return is not followed any more."""
    return run >= _BREAK_FROM * FIGURE


def figure_ends(notes: Sequence[Note], run: int, tick: int) -> int | None:
    """The forbidden pitch at this tick: it would repeat the figure more than MAX_ROUNDS times. None if none is."""
    if run < (MAX_ROUNDS - 1) * FIGURE + FIGURE // 2 or len(notes) <= FIGURE:
        return None
    before = notes[-FIGURE]
    same = tick - notes[-1][0] == before[0] - notes[-FIGURE - 1][0]
    return before[1] if same else None


def bonus(
    field: int, note: Note, wanted: float, size: int, beat: int, beat_start: NDArray[np.int64], shift: int
) -> NDArray:
    """What is added to the logits of a field so that this note becomes likelier, (size,).

    beat  the beat from which an advance counts; `beat_start` ticks of every beat; `shift` as in SamplingTask
    """
    out = np.zeros(size, np.float32)
    tick, pitch, staff, duration = note
    ahead = int(np.searchsorted(beat_start, tick, side="right")) - 1
    place = {
        ADVANCE: ahead - beat, POSITION: tick - int(beat_start[ahead]), STAFF: staff, PITCH: pitch + shift,
        DURATION: duration,
    }[field]  # fmt: skip
    if 0 <= place < size:
        out[place] = wanted
    return out
