"""Sampling from the Composer, note by note, several takes at once: KV cache, grammar constraints, top-p."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.models.composer.composer import CONTEXT, GENRE_COLUMN, NOTE, START, STEP_COLUMNS
from engine.models.composer.guidance import Note, ReturnGuide, bonus, figure_ends, following, rounds, worn_out
from engine.models.composer.inputs import GAP_COLUMN, HAND_COLUMN, bar_columns, gap_class, plan_inputs, step_columns
from engine.models.composer.numpy_network import Heads, Network, PlanInputs, Weights
from engine.tokens.composer_tokens import (
    ADVANCE,
    DURATION,
    FIELD_SIZES,
    MAX_ADVANCE,
    MAX_BAR_TICKS,
    NOTE_TICKS,
    PITCH,
    POSITION,
    STAFF,
    STOP,
    TICKS_PER_QUARTER,
    Bars,
    Written,
)
from engine.tokens.genres import NO_GENRE
from engine.tokens.plan import Plan

MAX_CHORD = 12  # maximum notes with a common onset
LOWEST, HIGHEST = 21, 108
# Sharper sampling in bars with a reference in the plan: more such bars reach a likeness of 0.5 (training/LOG.md).
RETURN_TEMPERATURE, RETURN_TOP_P = 0.35, 0.75
# Classifier-free guidance (Ho and Salimans 2022): logits are moved so many times as far from those without a genre as
# the network moves them for it (training/LOG.md).
GENRE_WEIGHT = 2.5
_ROOM = 96  # free positions in the window before it is moved
_CONTEXT_NOTES = 160  # later notes in the context, nearest first


@dataclass(frozen=True)
class SamplingTask:
    """A passage to sample.

    before    the preceding notes
    later     later notes that are kept: (Written, rows), nearest first
    bars      barlines from the first to the last bar of the passage
    start     ticks: earliest onset
    end       ticks: notes start before this
    home      key signature that stands for none
    shift     semitones from written to the Composer's pitch
    gap       whether it is an infill, with notes after it
    hand      0 both, 1 upper, 2 lower staff
    notes     approximate number of notes; 0: no limit
    conditions  (7,) classes, PLANNED_CONDITION_SIZES; a network without a plan uses the first five
    after     assumed number of bars before the first one; a multiple of eight preserves phrases
    plan      an entry per bar of `bars`, for a network with a plan; None leaves every bar open
    """

    before: Written
    later: NDArray[np.int64]
    bars: Bars
    start: int
    end: int
    home: int
    shift: int
    gap: bool
    hand: int
    notes: int
    conditions: NDArray[np.int64]
    after: int = 0
    plan: Plan | None = None


@dataclass
class SampledTake:
    """State of one take: (tick, pitch, staff, duration class) of each new note, and the present position."""

    rng: np.random.Generator
    notes: list[tuple[int, int, int, int]]
    bar: int
    beat: int
    tick: int  # of the last note, or before the start
    pitch: int
    in_chord: int
    end: int
    last_bar: int
    done: bool = False
    run: int = 0  # notes in a row that repeat the figure before them
    returning: dict[int, list[Note]] = field(default_factory=dict)  # by bar: where the notes that return in it stand


def sample_top_p(
    logits: NDArray, allowed: NDArray[np.bool_], temperature: float, top_p: float, rng: np.random.Generator
) -> int:
    """Sample one allowed class with temperature and nucleus (top-p) sampling, in NumPy.

    logits   (K,); allowed (K,) flags. engine.models.nn.sampling.sample_top_p is the torch version for batches.
    """
    found = np.flatnonzero(allowed)
    if len(found) == 1:
        return int(found[0])
    value = logits[found].astype(np.float64) / max(temperature, 1e-3)
    p = np.exp(value - value.max())
    p /= p.sum()
    if top_p < 1:
        order = np.argsort(-p, kind="stable")
        kept = order[: int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1]
        found, p = found[kept], p[kept] / p[kept].sum()
    return int(found[min(np.searchsorted(np.cumsum(p), rng.random()), len(found) - 1)])


class NoteSampler:
    """Samples `takes` takes of one task. Iterate over it: each item is (take, note)."""

    def __init__(self, weights: Weights, task: SamplingTask, takes: int, seed: int, temperature: float, top_p: float):
        self.weights, self.task, self.temperature, self.top_p = weights, task, temperature, top_p
        self.window = weights.model.config.window
        bars = task.bars
        plan = task.plan or Plan.open(len(bars.start))
        self.plan = (plan.classes(), plan.lag.clip(0), bars.length + bars.offset) if weights.plan else None
        beats = -(-(bars.length + bars.offset) // bars.beat)
        self.guide = ReturnGuide(plan, bars, task.before) if weights.plan else None
        self.bar_of_beat = np.repeat(np.arange(len(bars.start)), beats)
        whole = bars.start - bars.offset  # start of each bar, extrapolated for pickups
        self.beat_start = whole[self.bar_of_beat] + (
            np.arange(len(self.bar_of_beat)) - bars.first[self.bar_of_beat]
        ) * bars.beat[self.bar_of_beat]  # fmt: skip
        self.beat_end = np.minimum(
            self.beat_start + bars.beat[self.bar_of_beat], (bars.start + bars.length)[self.bar_of_beat]
        )
        w = task.before
        off = w.tick + NOTE_TICKS[w.duration].astype(np.int64)
        near = np.flatnonzero((off > task.start) & (w.tick < task.end))
        self.stays = np.stack([w.tick[near], off[near], w.pitch[near]])  # keys held by kept notes
        first_bar = int(np.clip(np.searchsorted(bars.start, task.start, side="right") - 1, 0, None))
        prefix = self._prefix()
        if len(prefix):
            last = prefix[-1]
            beat, tick, pitch = int(task.before.beat[last]), int(task.before.tick[last]), int(task.before.pitch[last])
        else:
            beat, tick, pitch = int(bars.first[first_bar]), task.start - 1, -1
        ends = np.flatnonzero(bars.start < task.end)
        self.first_bar, self.zero, self._last_beat = first_bar, task.start // TICKS_PER_QUARTER, beat
        self.end_beat = int(np.searchsorted(self.beat_start, task.end - 1, side="right"))
        self._idle = np.zeros(len(STEP_COLUMNS), np.int64)
        self.takes = [
            SampledTake(np.random.default_rng([seed, k]), [], int(self.bar_of_beat[beat]), beat, tick, pitch, 0,
                 task.end, int(ends[-1]))
            for k in range(takes)
        ]  # fmt: skip
        self.start_bar = int(task.before.bar[prefix[0]]) if len(prefix) else first_bar
        self.prefix = prefix

    def _prefix(self) -> NDArray[np.int64]:
        """Rows of the preceding notes from the start of a bar, limited to leave room in the window."""
        w = self.task.before
        rows = np.flatnonzero(w.tick < self.task.start)
        rows = np.setdiff1d(rows, self.task.later)
        most = self.window - _ROOM - min(len(self.task.later), _CONTEXT_NOTES) - 2
        if len(rows) > most:
            rows = rows[-most:]
            whole = np.flatnonzero(np.diff(w.bar[rows], prepend=w.bar[rows[0]]) > 0)
            rows = rows[whole[0] :] if len(whole) else rows
        return rows

    def __iter__(self) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
        hidden = self._read_all()
        while True:
            new = self._write_notes(hidden)
            yield from new
            if all(t.done for t in self.takes):
                return
            hidden = self._read_all() if self.networks[0].at >= self.window else self._read_new()

    # ---- encoding

    def _read_all(self) -> list[NDArray[np.float32]]:
        """Encode the context, the preceding notes and the new notes of each take, as far as the window allows."""
        task, w = self.task, self.task.before
        rows = np.sort(task.later[:_CONTEXT_NOTES])
        later, later_quarter = step_columns(w, rows, CONTEXT, task.home, task.shift), self._quarter(w.tick[rows])
        before = step_columns(w, self.prefix, NOTE, task.home, task.shift)
        before_quarter = self._quarter(w.tick[self.prefix])
        written = max(len(t.notes) for t in self.takes)
        skip = max(len(before) + written - (self.window - _ROOM - len(later) - 1), 0)  # the oldest
        all_steps, all_quarters, all_plans = [], [], []
        for t in self.takes:
            own = [self._columns(t, t.notes[min(i, len(t.notes) - 1)]) for i in range(written)] if t.notes else []
            own_tick = [t.notes[min(i, len(t.notes) - 1)][0] for i in range(written)] if t.notes else []
            steps = np.concatenate([before, np.array(own, np.int64).reshape(-1, len(STEP_COLUMNS))])[skip:]
            quarter = np.concatenate([before_quarter, self._quarter(np.array(own_tick))])[skip:]
            bar = self.start_bar
            if skip and len(quarter):
                first = round((quarter[0] + self.zero) * TICKS_PER_QUARTER)
                bar = int(np.searchsorted(task.bars.start, first, side="right") - 1)
            start = np.zeros((1, len(STEP_COLUMNS)), np.int64)
            start[0, 0], start[0, 5:10] = START, self._bar(bar, t)
            steps = np.concatenate([later, start, steps])
            if task.gap:
                inside = len(later) + max(len(before) - skip, 0)
                steps[inside, GAP_COLUMN], steps[inside, HAND_COLUMN] = self._gap(self._last_beat), task.hand
            whole = self._quarter(task.bars.start[bar] - task.bars.offset[bar])
            all_steps.append(steps)
            all_quarters.append(np.concatenate([later_quarter, [whole], quarter]))
            ticks = np.concatenate([w.tick[self.prefix], own_tick])[skip:]
            ticks = np.concatenate([w.tick[rows], [task.bars.start[bar]], ticks])
            all_plans.append(self._plan_at(ticks, steps, len(rows)))
        self.networks = [Network(self.weights, len(self.takes), self.window + 1, c) for c in self._asked()]
        plans = None if self.plan is None else {k: np.stack([p[k] for p in all_plans]) for k in all_plans[0]}
        return [n.read(np.stack(all_steps), np.stack(all_quarters), plans) for n in self.networks]

    def _asked(self) -> list[NDArray[np.int64]]:
        """The conditions of each network that is read: as asked, and of a piece with a genre also without it."""
        asked = self.task.conditions
        if len(self.weights.model.condition) <= GENRE_COLUMN or len(asked) <= GENRE_COLUMN or not asked[GENRE_COLUMN]:
            return [asked]
        plain = asked.copy()
        plain[GENRE_COLUMN] = NO_GENRE
        return [asked, plain]

    def _read_new(self) -> list[NDArray[np.float32]]:
        """Encode the newest note of each take; a finished take repeats its last one."""
        steps = np.stack([self._columns(t, t.notes[-1]) if t.notes else self._idle for t in self.takes])
        tick = np.array([t.notes[-1][0] if t.notes else self.task.start for t in self.takes])
        plan = self._plan_at(tick, steps) if self.plan else None
        return [n.step(steps, self._quarter(tick), plan) for n in self.networks]

    def _plan_at(self, tick: NDArray, steps: NDArray[np.int64], start: int | None = None) -> PlanInputs:
        """The plan's inputs at steps with these ticks; `start` is the position of the start step."""
        if self.plan is None:
            return {}
        classes, lag, bar_ticks = self.plan
        bar = (np.searchsorted(self.task.bars.start, tick, side="right") - 1).clip(0)
        out = plan_inputs(classes, lag, bar, bar_ticks, steps[:, 4])
        if start is not None:
            out["bar"][start] = -1
        return out

    def _quarter(self, tick: NDArray | int) -> NDArray[np.float32]:
        return np.asarray(np.asarray(tick) / TICKS_PER_QUARTER - self.zero, np.float32)

    def _gap(self, beat: int) -> int:
        return int(gap_class(max(self.end_beat - beat, 0)))

    def _bar(self, bar: int, t: SampledTake) -> NDArray[np.int64]:
        bars = self.task.bars
        last = len(bars.start) - 1 if self.task.gap else t.last_bar
        fifths = bars.fifths[bar] - self.task.home
        return bar_columns(bar + self.task.after, max(last - bar, 0), bars.meter[bar], fifths)

    def _columns(self, t: SampledTake, note: tuple[int, int, int, int]) -> NDArray[np.int64]:
        """(12,) input columns of a note of this take."""
        tick, pitch, staff, duration = note
        bars = self.task.bars
        bar = int(np.searchsorted(bars.start, tick, side="right") - 1)
        in_bar = min(tick - int(bars.start[bar]) + int(bars.offset[bar]), MAX_BAR_TICKS - 1)
        out = np.array([NOTE, pitch + self.task.shift, duration, staff, in_bar, 0, 0, 0, 0, 0, 0, 0], np.int64)
        out[5:10] = self._bar(bar, t)
        if self.task.gap:
            beat = int(np.searchsorted(self.beat_start, tick, side="right") - 1)
            out[GAP_COLUMN], out[HAND_COLUMN] = self._gap(beat), self.task.hand
        return out

    # ---- sampling

    def _write_notes(self, hidden: list[NDArray[np.float32]]) -> list[tuple[int, tuple[int, int, int, int]]]:
        """Sample the next note of every unfinished take."""
        heads = [Heads(self.weights, h) for h in hidden]
        live = [not t.done for t in self.takes]
        fields = np.zeros((len(self.takes), len(FIELD_SIZES)), np.int64)
        ticks = np.zeros(len(self.takes), np.int64)
        for j in (ADVANCE, POSITION, STAFF, PITCH, DURATION):
            logits = heads[0].logits(j)
            if len(heads) > 1:
                plain = heads[1].logits(j)
                logits = plain + GENRE_WEIGHT * (logits - plain)
            for k, t in enumerate(self.takes):
                if not live[k]:
                    continue
                allowed = self._allowed(j, t, fields[k], int(ticks[k]))
                leaning = self._leaning(j, t, logits[k], fields[k], int(ticks[k]))
                sharpness = self._sharpness(t, t.beat + int(fields[k, ADVANCE]))
                fields[k, j] = sample_top_p(leaning, allowed, *sharpness, t.rng)
                if j == ADVANCE and fields[k, j] == STOP:
                    t.done, live[k], fields[k, j] = True, False, 0
                elif j == POSITION:
                    ticks[k] = self.beat_start[t.beat + fields[k, ADVANCE]] + fields[k, POSITION]
            if not any(live):
                return []
            for h in heads:
                h.give(j, fields[:, j])
        out = []
        for k, t in enumerate(self.takes):
            if live[k]:
                staff, pitch, duration = (int(v) for v in fields[k, STAFF:])
                note = (int(ticks[k]), pitch - self.task.shift, staff, duration)
                self._advance(t, note, t.beat + int(fields[k, ADVANCE]))
                out.append((k, note))
        return out

    def _leaning(self, j: int, t: SampledTake, logits: NDArray, fields: NDArray, tick: int) -> NDArray:
        """Logits of field j with a bonus for the next note that returns, in a bar that the plan refers to another."""
        if self.guide is None or worn_out(t.run) or fields[ADVANCE] == STOP:
            return logits
        if j == ADVANCE:
            bars, at = (t.bar, t.bar + 1), (t.tick, t.pitch)
        else:
            beat = t.beat + int(fields[ADVANCE])
            bars = (int(self.bar_of_beat[beat]),)
            at = (t.tick, t.pitch) if j == POSITION else (tick, t.pitch if t.notes and tick == t.tick else -1)
            if j == POSITION:
                at = max(at, (int(self.beat_start[beat]) - 1, 127))
        for bar in bars:
            note = following(self._returning(t, bar), *at)
            if note is None:
                continue
            if j in (STAFF, PITCH, DURATION) and note[0] != tick:
                break
            if j == DURATION and note[1] != fields[PITCH] - self.task.shift:
                break
            wanted = self.guide.lean(bar)
            return logits + bonus(j, note, wanted, len(logits), t.beat, self.beat_start, self.task.shift)
        return logits

    def _returning(self, t: SampledTake, bar: int) -> list[Note]:
        """Where notes return in a bar, from the notes before and those of the take."""
        assert self.guide is not None
        if self.task.hand:
            return []
        if bar not in t.returning:
            notes = self.guide.returning(bar, t.notes)
            if bar > t.bar and self.guide.source(bar) == t.bar:
                return notes  # that bar is not complete yet
            t.returning[bar] = notes
        return t.returning[bar]

    def _sharpness(self, t: SampledTake, beat: int) -> tuple[float, float]:
        """(temperature, top-p) in the bar of a beat."""
        if worn_out(t.run):
            return self.temperature, self.top_p
        if self.plan is not None and self.plan[1][self.bar_of_beat[min(beat, len(self.bar_of_beat) - 1)]] > 0:
            return self.temperature * RETURN_TEMPERATURE, min(self.top_p, RETURN_TOP_P)
        return self.temperature, self.top_p

    def _advance(self, t: SampledTake, note: tuple[int, int, int, int], beat: int) -> None:
        """Record the note and update the position of the take."""
        t.in_chord = t.in_chord + 1 if t.notes and note[0] == t.tick else 1
        t.tick, t.pitch, t.beat = note[0], note[1], beat
        t.notes.append(note)
        t.run = rounds(t.notes, t.run)
        bar = int(self.bar_of_beat[beat])
        if self.task.notes and bar > t.bar:
            t.last_bar = self._expected_end(t, bar)
            t.end = int(self.task.bars.start[t.last_bar] + self.task.bars.length[t.last_bar])
        t.bar = bar

    def _expected_end(self, t: SampledTake, bar: int) -> int:
        """Estimated bar in which the requested number of notes is reached."""
        done = len(t.notes) - 1
        if t.last_bar - bar <= 1 and done > 0.8 * self.task.notes:
            return t.last_bar if done < self.task.notes else bar
        a_bar = max(done / max(bar - self.first_bar, 1), 1.0)
        left = round((self.task.notes - done) / a_bar)
        return int(np.clip(bar + left - 1, bar, len(self.task.bars.start) - 1))

    def _span(self, t: SampledTake, beat: int) -> tuple[int, int]:
        """First and past-the-last tick at which the next note may start in a beat."""
        low = max(self.task.start, t.tick)
        if t.notes and low == t.tick and (t.in_chord >= MAX_CHORD or t.pitch >= HIGHEST):
            low += 1
        return max(int(self.beat_start[beat]), low), min(int(self.beat_end[beat]), t.end)

    def _allowed(self, j: int, t: SampledTake, fields: NDArray, tick: int) -> NDArray[np.bool_]:
        """The classes of field j that the grammar allows."""
        out = np.zeros(FIELD_SIZES[j], bool)
        if j == ADVANCE:
            for a in range(min(MAX_ADVANCE + 1, len(self.bar_of_beat) - t.beat)):
                low, high = self._span(t, t.beat + a)
                out[a] = low < high
            at_end = self.task.gap or t.bar >= t.last_bar
            out[STOP] = (at_end and bool(t.notes)) or not out.any()
        elif j == POSITION:
            beat = t.beat + int(fields[ADVANCE])
            low, high = self._span(t, beat)
            out[low - self.beat_start[beat] : high - self.beat_start[beat]] = True
        elif j == STAFF:
            out[:] = True
            if self.task.hand:
                out[2 - self.task.hand] = False
        elif j == PITCH:
            low = t.pitch + 1 if t.notes and tick == t.tick else LOWEST
            out[low + self.task.shift : HIGHEST + 1 + self.task.shift] = True
            ends = figure_ends(t.notes, t.run, tick)
            if ends is not None and out.sum() > 1:
                out[ends + self.task.shift] = False
            free = out.copy()
            on, off, pitch = self.stays
            free[pitch[(on <= tick) & (tick < off)] + self.task.shift] = False
            return free if free.any() else out
        else:
            out[:] = True
        return out
