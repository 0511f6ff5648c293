"""Bar structure: the most similar earlier bar of each bar of a score.

Two bars are compared as sets of (onset in the bar, pitch) on a grid of 12 to a quarter. Their likeness is the Jaccard
index (common notes over all notes), after the best transposition of the second bar. A bar with fewer than three
different notes resembles no other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

GRID = 12  # positions to a quarter
MIN_NOTES = 3
MAX_TRANSPOSE = 24
RETURN = 0.5  # minimum likeness of similar bars
EXACT = 0.8  # without transposition
FAR = 8  # bars; minimum lag of a far return
_SHIFTS = np.array(sorted(range(-MAX_TRANSPOSE, MAX_TRANSPOSE + 1), key=abs), np.int8)
_RANK = np.argsort(_SHIFTS.astype(int))  # of shift + MAX_TRANSPOSE; ties prefer the smaller shift
_CELLS = 1 << 22  # counted at once: bounds the memory


@dataclass(frozen=True)
class Likeness:
    """Likeness of each bar to each earlier one; entries at and above the diagonal are 0.

    best       (m, m) 0 to 1, after the transposition that fits best
    transpose  (m, m) semitones from the earlier bar to the later one
    exact      (m, m) 0 to 1, without transposition
    sizes      (m,) different notes in each bar
    """

    best: NDArray[np.float32]
    transpose: NDArray[np.int8]
    exact: NDArray[np.float32]
    sizes: NDArray[np.int64]


@dataclass(frozen=True)
class BarStructure:
    """For each of m bars its most similar earlier bar.

    lag        (m,) bars back, the nearest of equally similar ones; 0 if no earlier bar reaches RETURN
    likeness   (m,) 0 to 1; 0 where lag is 0
    transpose  (m,) semitones from the earlier bar to this one
    """

    lag: NDArray[np.int64]
    likeness: NDArray[np.float32]
    transpose: NDArray[np.int8]


def compare_bars(bar: ArrayLike, in_bar_quarter: ArrayLike, pitch: ArrayLike, count: int) -> Likeness:
    """Compare all bars of a score.

    bar (n,) index of each note's bar, in_bar_quarter (n,) quarters from the start of its bar, pitch (n,) MIDI numbers;
    `count` bars in all. Time and memory grow with the square of `count`.
    """
    place = np.round(np.asarray(in_bar_quarter, float) * GRID).astype(np.int64)
    note = np.unique(np.stack([np.asarray(bar, np.int64), place, np.asarray(pitch, np.int64)]), axis=1)
    bars, place, pitches = note
    sizes = np.bincount(bars, minlength=count)
    best, exact = np.zeros((count, count), np.float32), np.zeros((count, count), np.float32)
    transpose = np.zeros((count, count), np.int8)
    # notes with the same place in the bar stand together, by bar: those of earlier bars are one stretch for each note
    order = np.lexsort((bars, place))
    sorted_bar, sorted_pitch = bars[order], pitches[order]
    key = place[order] * count + sorted_bar
    begin, end = np.searchsorted(key, place * count), np.searchsorted(key, place * count + bars)
    first_note = np.concatenate([[0], np.cumsum(sizes)])
    rows = max(1, _CELLS // max(count * len(_SHIFTS), 1))
    for low in range(0, count, rows):
        high = min(low + rows, count)
        mine = slice(first_note[low], first_note[high])
        partners = end[mine] - begin[mine]
        note_of = np.repeat(np.arange(mine.start, mine.stop), partners)
        offset = np.arange(len(note_of)) - np.repeat(np.cumsum(partners) - partners, partners)
        partner = begin[note_of] + offset
        shift = pitches[note_of] - sorted_pitch[partner]
        near = np.abs(shift) <= MAX_TRANSPOSE
        cell = (bars[note_of] - low) * count + sorted_bar[partner]
        cell = cell[near] * len(_SHIFTS) + _RANK[shift[near] + MAX_TRANSPOSE]
        shared = np.bincount(cell, minlength=(high - low) * count * len(_SHIFTS))
        shared = shared.reshape(high - low, count, len(_SHIFTS))
        either = sizes[low:high, None] + sizes[None]
        enough = np.minimum(sizes[low:high, None], sizes[None]) >= MIN_NOTES
        most = shared.argmax(-1)
        for out, common in ((best, np.take_along_axis(shared, most[..., None], -1)[..., 0]), (exact, shared[..., 0])):
            out[low:high] = np.where(enough, common / np.maximum(either - common, 1), 0)
        transpose[low:high] = np.where(best[low:high] > 0, _SHIFTS[most], 0)
    return Likeness(best, transpose, exact, sizes)


def bar_structure(likeness: Likeness) -> BarStructure:
    """The most similar earlier bar of each bar."""
    count = len(likeness.sizes)
    if not count:
        return BarStructure(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.int8))
    bars = np.arange(count)
    lag = 1 + likeness.best[bars[:, None], (bars[:, None] - 1 - bars[None]).clip(0)].argmax(1)
    lag = np.minimum(lag, bars)  # the first bar has none before it
    value = likeness.best[bars, bars - lag]
    found = value >= RETURN
    return BarStructure(
        np.where(found, lag, 0), np.where(found, value, 0).astype(np.float32),
        np.where(found, likeness.transpose[bars, bars - lag], 0).astype(np.int8),
    )  # fmt: skip


def returns(
    likeness: Likeness, first: int = 16, last: int = 48, only: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """Shares of returning bars in bars `first` to `last`; {} for a score that is too short.

    only     (m,) the bars to count, all by default

    far      share of bars like one at least FAR bars earlier
    exact    share of bars that repeat such a bar without transposition (likeness EXACT)
    near     share of bars like one of the last FAR - 1
    longest  longest run of bars in the first `last` that returns at one lag of at least FAR bars

    Bars with fewer than MIN_NOTES different notes are not counted.
    """
    count = min(last, len(likeness.sizes))
    counts = np.ones(len(likeness.sizes), bool) if only is None else only
    rows = [i for i in range(max(first, FAR), count) if likeness.sizes[i] >= MIN_NOTES and counts[i]]
    if not rows:
        return {}
    longest = 0
    for lag in range(FAR, count):
        run = 0
        for like in (likeness.best.diagonal(-lag)[: count - lag] >= RETURN) & counts[lag:count]:
            run = run + 1 if like else 0
            longest = max(longest, run)
    best, exact = likeness.best, likeness.exact
    return {
        "far": float(np.mean([best[i, : i - FAR + 1].max() >= RETURN for i in rows])),
        "exact": float(np.mean([exact[i, : i - FAR + 1].max() >= EXACT for i in rows])),
        "near": float(np.mean([best[i, i - FAR + 1 : i].max() >= RETURN for i in rows])),
        "longest": float(longest),
    }


def obeyed(likeness: Likeness, lag: ArrayLike) -> NDArray[np.bool_]:
    """For each planned return, whether the bar resembles its reference (likeness RETURN).

    lag (m,) bars back to that bar; 0 and less: no planned return. References before the first bar are ignored.
    """
    asked = np.asarray(lag, np.int64)
    bars = np.flatnonzero((asked > 0) & (asked <= np.arange(len(asked))))
    return likeness.best[bars, bars - asked[bars]] >= RETURN
