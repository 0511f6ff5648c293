"""Edit a composed score for print: derive dynamics, hairpins, slurs and pedal marks from its performance.

The marks are for display only. They describe the performance, so a pianist model that reads them would apply them
twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.music.keys import in_minor
from engine.music.types import EVENT_NAMES, MARK_NAMES, Marks, PageEvents, Performance, Score

COMPOSED = "Étude"  # prefix of `composer` in composed scores
# sign: (MuseScore's velocity, the mean velocity of a pianist's bar)
_LEVELS = {"pp": (33, 34.0), "p": (49, 46.0), "mp": (64, 56.0), "mf": (80, 67.0), "f": (96, 79.0), "ff": (112, 92.0)}
_CHANGE = 16.0  # cost of a new sign, in velocity deviation summed over bars
_SWELL = 9.0  # minimum change of velocity for a hairpin
_NEAR = 8.0  # quarters between a hairpin and the change of level that it leads to
_MAX_HAIRPIN, _MIN_HAIRPIN = 8.0, 1.5  # quarters
_LEGATO_SEC = 0.03  # largest gap between legato notes
_MIN_BOUND = 3  # minimum onsets under a slur
_PEDAL_DOWN = 64
_MIN_PEDAL = 0.5  # beats
_CHANGE_SEC = 0.35  # a release and press within this time is a pedal change
_EARLY_SEC = 0.06  # by which the pedal may precede its chord
# tempo word: upper bound in beats a minute
_TEMPO_WORDS = (
    (46, "Largo"), (60, "Adagio"), (72, "Andante"), (84, "Andantino"), (98, "Moderato"), (114, "Allegretto"),
    (144, "Allegro"), (168, "Vivace"), (np.inf, "Presto"),
)  # fmt: skip


def is_composed(score: Score) -> bool:
    """Whether the Composer wrote the whole score."""
    return score.composer.startswith(COMPOSED)


def beat_quarters(ts_num: int, ts_den: int) -> float:
    """Beat unit of a metronome mark: a dotted quarter in 6/8, a half in 2/2.

    >>> beat_quarters(6, 8), beat_quarters(3, 4), beat_quarters(2, 2)
    (1.5, 1.0, 2.0)
    """
    return 1.5 if ts_den == 8 and ts_num % 3 == 0 else 2.0 if ts_den == 2 else 1.0


def tempo_words(score: Score) -> str:
    """The tempo word of a composed score, "" for one that is not composed or has no tempo."""
    if not is_composed(score) or score.tempo_bpm <= 0:
        return ""
    m = score.measures
    beats = score.tempo_bpm / beat_quarters(int(m.ts_num[0]), int(m.ts_den[0]))
    return next(word for most, word in _TEMPO_WORDS if beats <= most)


def mode(score: Score) -> str:
    """ "major" or "minor" for a composed score, "" if unknown."""
    if not is_composed(score):
        return ""
    return "minor" if in_minor(score) else "major"


def edited(score: Score, performance: Performance) -> Score:
    """The score with dynamics, hairpins, slurs and pedal marks from the performance, each kind only if it has none.

    performance  note i plays note i of the score; one with fewer notes, or a score of one onset, changes nothing

    Scores from files stay unchanged.
    """
    moves = np.ptp(score.onset_quarter) > 0 and len(performance) > 0 and np.ptp(performance.onset_sec) > 0
    if not is_composed(score) or len(performance) < len(score) or not moves:
        return score
    chords = _Chords.of(score, performance)
    table = np.array(score.marks.table)
    if not score.marks["written_velocity"].any() and not score.marks["hairpin"].any():
        velocity, hairpin = _dynamics(score, performance, chords)
        table[:, MARK_NAMES.index("written_velocity")] = velocity[chords.of_note]
        table[:, MARK_NAMES.index("hairpin")] = hairpin[chords.of_note]
    if not score.marks["slur"].any():
        table[:, MARK_NAMES.index("slur")] = _slurs(score, performance)
    events = score.events
    if not len(events.at("pedal_down")) and not len(events.at("pedal_up")):
        known = [(float(q), EVENT_NAMES[k]) for q, k in zip(events.quarter, events.kind, strict=True)]
        events = PageEvents.of([*known, *_pedal(score, performance, chords)])
    return replace(score, marks=Marks(table), events=events)


@dataclass(frozen=True)
class _Chords:
    """The onsets of a score with their performance.

    quarter  (c,) ascending
    sec      (c,) ascending: mean onset of their notes
    of_note  (n,) the onset of each note
    """

    quarter: NDArray[np.float64]
    sec: NDArray[np.float64]
    of_note: NDArray[np.int64]

    @classmethod
    def of(cls, score: Score, performance: Performance) -> _Chords:
        quarter, of_note = np.unique(score.onset_quarter.round(6), return_inverse=True)
        count = np.bincount(of_note)
        sec = np.bincount(of_note, performance.onset_sec[: len(score)]) / count
        return cls(quarter, np.maximum.accumulate(sec), of_note)


# ---- loudness


def _dynamics(score: Score, performance: Performance, chords: _Chords) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(c,) velocity of the sign in force, (c,) hairpin, at each onset."""
    starts = score.measures.onset_quarter
    bar = np.clip(np.searchsorted(starts, chords.quarter + 1e-6, side="right") - 1, 0, None)
    velocity = performance.velocity[: len(score)].astype(float)
    loudness = np.bincount(chords.of_note, velocity) / np.bincount(chords.of_note)
    level = _levels_of_bars(loudness, bar)
    names = np.array([asked for asked, _ in _LEVELS.values()])
    hairpin = np.zeros(len(loudness), np.int64)
    for first, last, sign in _swells(chords.quarter, loudness):
        hairpin[first:last] = sign
        _meet(level, chords.quarter, first, last, sign)
    return names[level], hairpin


def _meet(level: NDArray[np.int64], quarter: NDArray, first: int, last: int, sign: int) -> None:
    """Move a nearby change of level in a hairpin's direction to the hairpin's end; remove others under it."""
    changes = np.flatnonzero(np.sign(np.diff(level)) == sign) + 1
    end = quarter[min(last, len(quarter) - 1)]
    near = changes[(quarter[changes] >= quarter[first] - _NEAR) & (quarter[changes] <= end + _NEAR)]
    if len(near):
        before, after = level[near[0] - 1], level[near[-1]]
        level[near[0] : last], level[last : near[-1]] = before, after
    level[first:last] = level[max(first - 1, 0)] if first else level[0]


def _levels_of_bars(loudness: NDArray, bar: NDArray) -> NDArray[np.int64]:
    """(c,) index into _LEVELS: the signs closest to the loudness of each bar, with changes at barlines only."""
    bars = int(bar[-1]) + 1
    count = np.bincount(bar, minlength=bars)
    mean = np.bincount(bar, loudness, bars) / np.maximum(count, 1)
    asked = np.array([heard for _, heard in _LEVELS.values()])
    off = np.where(count[:, None] > 0, np.abs(mean[:, None] - asked), 0.0)
    steps = _CHANGE * (1 - np.eye(len(asked)))
    best, came = off[0], np.zeros((bars, len(asked)), np.int64)
    for b in range(1, bars):
        total = best[:, None] + steps
        came[b] = total.argmin(0)
        best = total.min(0) + off[b]
    level = np.zeros(bars, np.int64)
    level[-1] = best.argmin()
    for b in range(bars - 1, 0, -1):
        level[b - 1] = came[b, level[b]]
    return level[bar]


def _swells(quarter: NDArray, loudness: NDArray) -> list[tuple[int, int, int]]:
    """Hairpins as (first onset, onset after the last, 1 or -1), largest changes first; none overlap or touch."""
    grid = np.arange(quarter[0], quarter[-1] + 0.5, 0.5)
    smooth = np.interp(grid, quarter, loudness)
    kernel = np.hanning(7)[1:-1]
    smooth = np.convolve(np.pad(smooth, len(kernel) // 2, mode="edge"), kernel / kernel.sum(), "valid")
    turns = [0, *(np.flatnonzero(np.diff(np.sign(np.diff(smooth))) != 0) + 1), len(grid) - 1]
    found = []
    for a, b in pairwise(turns):
        change = smooth[b] - smooth[a]
        length = grid[b] - grid[a]
        if abs(change) >= _SWELL and length >= _MIN_HAIRPIN:
            begin = max(grid[a], grid[b] - _MAX_HAIRPIN)
            found.append((abs(change), begin, grid[b], 1 if change > 0 else -1))
    out: list[tuple[int, int, int]] = []
    for _, begin, end, sign in sorted(found, key=lambda f: (-f[0], f[1])):
        first, last = (int(np.searchsorted(quarter, q - 1e-6)) for q in (begin, end))
        free = all(last + 1 < a or first > b + 1 for a, b, _ in out)
        if last - first >= 2 and free:
            out.append((first, last, sign))
    return sorted(out)


# ---- slurs


def _slurs(score: Score, performance: Performance) -> NDArray[np.int64]:
    """(n,) the mark "slur": legato lines, divided at rests, repeated and long notes and barlines."""
    out = np.zeros(len(score), np.int64)
    for staff in (1, 2):
        line = _line(score, performance, staff)
        for first, last in _bound(line, score.measures.onset_quarter) if len(line.rows) else ():
            for k in range(first, last + 1):
                out[line.rows[k]] = 2 if k == last else 1
    return out


@dataclass(frozen=True)
class _Line:
    """The onsets of a staff: the rows of the notes, the top pitch, quarters of onset and end, whether the key is held
    until the next onset, number of notes.
    """

    rows: list[NDArray[np.int64]]
    top: NDArray[np.int64]
    onset: NDArray[np.float64]
    end: NDArray[np.float64]
    held: NDArray[np.bool_]
    size: NDArray[np.int64]


def _line(score: Score, performance: Performance, staff: int) -> _Line:
    mine = np.flatnonzero((score.staff == staff) & ~score.grace & (score.duration_quarter > 0))
    quarter, group = np.unique(score.onset_quarter[mine].round(6), return_inverse=True)
    rows = [mine[group == k] for k in range(len(quarter))]
    highest = [r[np.argmax(score.pitch[r])] for r in rows]
    release = (performance.onset_sec + performance.duration_sec)[highest] if rows else np.zeros(0)
    attack = np.append(performance.onset_sec[highest][1:], np.inf) if rows else np.zeros(0)
    return _Line(
        rows, score.pitch[highest].astype(np.int64) if rows else np.zeros(0, np.int64), quarter,
        (score.onset_quarter + score.duration_quarter)[highest] if rows else np.zeros(0),
        release >= attack - _LEGATO_SEC, np.array([len(r) for r in rows], np.int64),
    )  # fmt: skip


def _bound(line: _Line, barlines: NDArray) -> Iterator[tuple[int, int]]:
    """First and last onset of each slur of a staff."""
    bar = np.searchsorted(barlines, line.onset + 1e-6, side="right")
    typical = float(np.median(np.diff(line.onset))) if len(line.onset) > 1 else 1.0
    first = 0
    for k in range(1, len(line.onset) + 1):
        over = k == len(line.onset) or not (
            line.held[k - 1] and abs(line.end[k - 1] - line.onset[k]) < 1e-3 and line.top[k - 1] != line.top[k]
            and max(line.size[k - 1], line.size[k]) <= 2
        )  # fmt: skip
        long = k < len(line.onset) and line.onset[k] - line.onset[k - 1] >= max(1.0, 2 * typical)
        bars_full = k < len(line.onset) and bar[k] > bar[first] and (bar[k] - bar[first] >= 2 or k - first >= 6)
        if over or long or bars_full:
            if k - first >= _MIN_BOUND:
                yield first, k - 1
            first = k


# ---- pedal


def _pedal(score: Score, performance: Performance, chords: _Chords) -> list[tuple[float, str]]:
    """(quarter, "pedal_down" or "pedal_up") at onsets of the score, in order; up and down at one place is a change."""
    down = performance.pedal_value >= _PEDAL_DOWN
    edges = np.flatnonzero(np.diff(np.concatenate([[False], down]).astype(np.int8)) != 0)
    times = performance.pedal_sec[edges].tolist()
    spans = list(zip(times[::2], [*times[1::2], np.inf], strict=False))
    m = score.measures
    beat = beat_quarters(int(m.ts_num[0]), int(m.ts_den[0]))
    out: list[tuple[float, float, bool]] = []  # quarters of start and end, whether the end is a change
    for k, (on, off) in enumerate(spans):
        at = int(np.clip(np.searchsorted(chords.sec, on + _EARLY_SEC, side="right") - 1, 0, None))
        start = float(chords.quarter[at])
        changes = k + 1 < len(spans) and spans[k + 1][0] - off <= _CHANGE_SEC
        until = spans[k + 1][0] + _EARLY_SEC if changes else off
        stop = int(np.searchsorted(chords.sec, until, side="right")) - 1 if changes else int(
            np.searchsorted(chords.sec, off - _EARLY_SEC)
        )  # fmt: skip
        end = float(chords.quarter[stop]) if 0 <= stop < len(chords.quarter) else m.end_quarter
        if out and start < out[-1][1] - 1e-6:
            start = out[-1][1]
        if end - start >= _MIN_PEDAL * beat - 1e-6:
            out.append((start, end, changes))
    return [event for start, end, _ in out for event in ((start, "pedal_down"), (end, "pedal_up"))]
