"""Input features of the phrase tagger, one row per beat.

Each beat is cut into four parts. For each part: the pitch classes that sound, those that begin, the lowest and the
highest (12 each), and eight figures of its texture. For each beat: its position in the bar, the metre, the distance to
the end, and the similarity of its bar and the next to other bars.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.measures.form import Likeness, compare_bars
from engine.tokens.composer_tokens import METERS, NOTE_TICKS, TICKS_PER_QUARTER, Written, key_shift

PARTS = 4
CLASS_KINDS = ("sounding", "beginning", "lowest", "highest")
TEXTURE = 8
LAGS = (1, 2, 4, 8)
BAR_FIGURES = 2 * len(LAGS) + 6
BEAT_FEATURES = 6 + len(METERS) + 8 + 2 * BAR_FIGURES


@dataclass(frozen=True)
class BeatFeatures:
    """Features of a score of b beats, counted as `Written.beat`.

    classes  (b, 4 parts, 4 kinds, 12) pitch classes above the tonic of the signature's major key, 0 or 1
    texture  (b, 4 parts, 8) heights, numbers and lengths of notes
    beat     (b, BEAT_FEATURES) metre and bars
    """

    classes: NDArray[np.float32]
    texture: NDArray[np.float32]
    beat: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.beat)


def count_beats(w: Written) -> int:
    """Beats of the score, those of its last bar included."""
    last = -(-(w.bars.length[-1] + w.bars.offset[-1]) // w.bars.beat[-1])
    return int(w.bars.first[-1] + last)


def bar_of_beat(w: Written) -> NDArray[np.int64]:
    """(b,) index of each beat's bar."""
    return np.repeat(np.arange(len(w.bars.first)), np.diff(np.append(w.bars.first, count_beats(w))))


def beat_features(w: Written) -> BeatFeatures:
    """The features of a score."""
    beats, bar = count_beats(w), bar_of_beat(w)
    length = w.bars.beat[bar] / PARTS
    within = np.arange(beats) - w.bars.first[bar]
    bar_end = w.bars.start[bar] + w.bars.length[bar]
    tick = w.bars.start[bar] - w.bars.offset[bar] + within * w.bars.beat[bar]
    part_tick = np.minimum((tick[:, None] + np.arange(PARTS) * length[:, None]), bar_end[:, None]).ravel()
    part_tick = np.maximum.accumulate(part_tick)
    begin = w.beat * PARTS + (w.position * PARTS) // w.bars.beat[w.bar]
    offset = w.tick + NOTE_TICKS[w.duration]
    begin = np.minimum(begin, beats * PARTS - 1)
    end = np.maximum(np.searchsorted(part_tick, offset - 1e-6), begin + 1)
    lasts = end - begin
    note = np.repeat(np.arange(len(w)), lasts)
    at = begin[note] + np.arange(len(note)) - np.repeat(np.cumsum(lasts) - lasts, lasts)

    shift = np.array([key_shift(int(f)) for f in w.bars.fifths])
    parts = beats * PARTS
    part_shift = np.repeat(shift[bar], PARTS)
    low, high = np.full(parts, 128), np.full(parts, -1)
    np.minimum.at(low, at, w.pitch[note])
    np.maximum.at(high, at, w.pitch[note])
    sounds = high >= 0
    classes = np.zeros((parts, len(CLASS_KINDS), 12), np.float32)
    classes[at, 0, (w.pitch[note] + part_shift[at]) % 12] = 1
    classes[begin, 1, (w.pitch + part_shift[begin]) % 12] = 1
    rows = np.flatnonzero(sounds)
    classes[rows, 2, (low[rows] + part_shift[rows]) % 12] = 1
    classes[rows, 3, (high[rows] + part_shift[rows]) % 12] = 1

    sounding, beginning = np.bincount(at, minlength=parts), np.bincount(begin, minlength=parts)
    longest = np.zeros(parts)
    np.maximum.at(longest, begin, NOTE_TICKS[w.duration])
    top_begins, low_begins = np.zeros(parts), np.zeros(parts)
    top_begins[begin[w.pitch == high[begin]]] = 1
    low_begins[begin[w.pitch == low[begin]]] = 1
    texture = np.stack([
        sounds, np.where(sounds, (low - 60) / 24, 0), np.where(sounds, (high - 60) / 24, 0), sounding / 6,
        beginning / 4, np.log2(1 + longest / TICKS_PER_QUARTER), top_begins, low_begins,
    ], 1)  # fmt: skip
    return BeatFeatures(
        classes.reshape(beats, PARTS, len(CLASS_KINDS), 12),
        texture.reshape(beats, PARTS, TEXTURE).astype(np.float32),
        _of_beats(w, bar, within),
    )


def _of_beats(w: Written, bar: NDArray, within: NDArray) -> NDArray[np.float32]:
    """(b, BEAT_FEATURES): place in the bar, metre, distance to the end, likeness of bars."""
    beats = len(bar)
    in_bar = np.diff(np.append(w.bars.first, beats))[bar]
    to_end = beats - 1 - np.arange(beats)
    last = to_end - (beats - 1 - int(w.beat.max()))
    metre = np.zeros((beats, len(METERS)))
    metre[np.arange(beats), w.bars.meter[bar]] = 1
    number = bar - (w.bars.offset[0] > 0)
    hyper = [f(2 * np.pi * number / k) for k in (2, 4, 8, 16) for f in (np.sin, np.cos)]
    place = np.stack([
        within == 0, within == in_bar - 1, 2 * within == in_bar, within / in_bar, last == 0, np.exp(-np.abs(last) / 8),
    ], 1)  # fmt: skip
    likeness = compare_bars(w.bar, w.in_bar / TICKS_PER_QUARTER, w.pitch, len(w.bars.start))
    of_bar = _bar_figures(w, likeness)
    following = np.concatenate([of_bar[1:], np.zeros_like(of_bar[:1])])
    return np.concatenate([place, metre, np.stack(hyper, 1), of_bar[bar], following[bar]], 1).astype(np.float32)


def _bar_figures(w: Written, found: Likeness) -> NDArray[np.float32]:
    """(m, BAR_FIGURES): likeness to the bars 1, 2, 4, 8 before and after, to any earlier and any later bar; number of
    notes; length over the usual one, whether the signature or the metre changes here.
    """
    count = len(found.sizes)
    out = np.zeros((count, BAR_FIGURES), np.float32)
    for i, lag in enumerate(LAGS):
        if lag < count:
            like = found.best.diagonal(-lag)
            out[lag:, 2 * i], out[: count - lag, 2 * i + 1] = like, like
    out[:, -6], out[:, -5], out[:, -4] = found.best.max(1), found.best.max(0), found.sizes / 16
    out[:, -3] = np.minimum(w.bars.length / np.median(w.bars.length), 2)
    out[1:, -2], out[1:, -1] = np.diff(w.bars.fifths) != 0, np.diff(w.bars.meter) != 0
    return out
