"""MIDI-VALLE's note tokens (six fields, 192 ticks a second), and its cutting of a performance into segments.

After the released tokenizer (an "Octuple" of six): pitch, velocity, duration, time since the previous note, position in
a bar of two seconds, and number of that bar. Bars and positions are time from the start of the segment; tempo, metre
and pedal are omitted. A velocity half-way between two classes is rounded up. Identifiers 0 to 3 of every field are PAD,
BOS, EOS and MASK; value i is 4 + i.

>>> one = Performance([0.0, 0.5], [0.25, 1.0], [60, 64], [64, 127])
>>> encode(one).tolist()
[[1, 1, 1, 1, 1, 1], [43, 36, 51, 388, 4, 4], [47, 67, 195, 484, 100, 4], [2, 2, 2, 2, 2, 2]]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Performance

FIELDS = ("pitch", "velocity", "duration", "ioi", "position", "bar")
PAD, BOS, EOS, MASK = range(4)
SPECIALS = 4
TICKS_PER_SECOND = 192
BAR_TICKS = 384
LOWEST, HIGHEST = 21, 108
VELOCITIES = np.linspace(0, 127, 65)[1:].astype(int)  # 1, 3, 5, ... 127
MAX_TICKS = 1152
MAX_IOI = 383
IOI_ZERO = 384  # value index of no time since the previous note
BARS = 16  # number of bar embeddings of the model
SIZES = (92, 68, 1156, 772, 388, 20)  # identifiers of each field in the model, specials included

SEGMENT_SECONDS = (15.0, 20.0)
SEGMENT_SEED = 42


def encode(performance: Performance, absolute_time: bool = True) -> NDArray[np.int64]:
    """A segment's notes as (S, 6) identifiers between a BOS and an EOS row.

    Notes are sorted by (unrounded onset, pitch), and a velocity half-way between two classes is rounded up, as in the
    published arrays of MIDI-VALLE's prompts. Pitches outside 21 to 108 are omitted; values out of range are clamped.
    With `absolute_time` False, position and bar are MASK, so that the model cannot derive its stopping time from the
    bar (defect W8).
    """
    fits = (performance.pitch >= LOWEST) & (performance.pitch <= HIGHEST)
    onset = np.maximum(_ticks(performance.onset_sec[fits]), 0)
    duration = np.clip(_ticks(performance.duration_sec[fits]), 1, MAX_TICKS)
    pitch, velocity = performance.pitch[fits], performance.velocity[fits]
    order = np.lexsort((pitch, performance.onset_sec[fits]))
    onset, duration, pitch, velocity = onset[order], duration[order], pitch[order], velocity[order]
    ioi = np.clip(np.diff(onset, prepend=onset[:1]), -MAX_IOI, MAX_IOI)
    loudness = len(VELOCITIES) - 1 - np.abs(velocity[:, None] - VELOCITIES[::-1]).argmin(1)
    bar = np.minimum(onset // BAR_TICKS, BARS - 1)
    columns = (pitch - LOWEST, loudness, duration - 1, ioi + IOI_ZERO, onset % BAR_TICKS, bar)
    notes = np.stack(columns, 1).astype(np.int64) + SPECIALS
    if not absolute_time:
        notes[:, 4:] = MASK
    return np.concatenate([np.full((1, 6), BOS), notes, np.full((1, 6), EOS)])


def decode(tokens: NDArray[np.int64]) -> Performance:
    """The notes of (S, 6) identifiers; rows with a special pitch are skipped.

    Onsets are computed from bar and position, or from inter-onset times if those are MASK.
    """
    notes = np.asarray(tokens)[np.asarray(tokens)[:, 0] >= SPECIALS] - SPECIALS
    pitch, loudness, duration, ioi, position, bar = notes.T
    onset = bar * BAR_TICKS + position if (bar >= 0).all() else np.cumsum(ioi - IOI_ZERO)
    return Performance(
        onset / TICKS_PER_SECOND, (duration + 1) / TICKS_PER_SECOND, pitch + LOWEST, VELOCITIES[loudness]
    )


def check(tokens: NDArray[np.int64]) -> None:
    """Raise ValueError for an identifier outside the vocabulary."""
    over = np.argwhere((tokens < 0) | (tokens >= np.array(SIZES)))
    if len(over):
        row, field = over[0]
        raise ValueError(f"{FIELDS[field]} of row {row} is {tokens[row, field]}; 0 to {SIZES[field] - 1} are known")


def join(prompt: Performance, target: Performance, at_sec: float | None = None) -> Performance:
    """The prompt's notes, then the target's from `at_sec` on: the length of the prompt's sound, in seconds.

    None is the published rule, the end of the prompt's last note or pedal movement, up to 0.26 s before the end of its
    sound (defect W11).
    """
    end = max([prompt.end_sec, *prompt.pedal_sec.tolist()]) if at_sec is None else at_sec
    return Performance(
        np.r_[prompt.onset_sec, target.onset_sec + end],
        np.r_[prompt.duration_sec, target.duration_sec],
        np.r_[prompt.pitch, target.pitch],
        np.r_[prompt.velocity, target.velocity],
    )


def cut_points(end_sec: float, longest: float | None = None, keep_tail: bool = True) -> list[float]:
    """Cuts of a performance in seconds: 0, then every 15 to 20 s by the published random draw, the same for every file.

    keep_tail  the end is also a cut; the published rule drops the part after the last draw, so that a piece under about
               15 s has no segment (defect W14)
    longest    maximum length of a segment: draws are scaled by longest / 20
    """
    draw = np.random.RandomState(SEGMENT_SEED)
    scale = 1.0 if longest is None else longest / SEGMENT_SECONDS[1]
    points = [0.0]
    while (following := points[-1] + scale * draw.uniform(*SEGMENT_SECONDS)) < end_sec:
        points.append(float(following))
    return [*points, float(end_sec)] if keep_tail and end_sec > points[-1] else points


@dataclass(frozen=True)
class OctupleSegment:
    """A cut of a performance.

    notes      times in seconds from `start_sec`
    continued  (n,) bool: the note began before the cut
    start_sec, end_sec
    """

    notes: Performance
    continued: NDArray[np.bool_]
    start_sec: float
    end_sec: float


def cut(performance: Performance, start_sec: float, end_sec: float, published: bool = False) -> OctupleSegment:
    """The notes of a window. A note that started before it begins at 0 and is marked as continued.

    published  notes beyond the end of the window are dropped, continued notes keep their full length (defect W13: four
               of five cuts have such notes); else both are clipped to the window
    """
    onset, end = performance.onset_sec, performance.onset_sec + performance.duration_sec
    into = (onset < start_sec) & (end > start_sec)
    within = (onset >= start_sec) & (end < end_sec if published else onset < end_sec)
    chosen = np.flatnonzero(into | within)
    begin = np.maximum(onset[chosen], start_sec)
    stop = end[chosen] if published else np.minimum(end[chosen], end_sec)
    foot = (performance.pedal_sec >= start_sec) & (performance.pedal_sec < end_sec)
    notes = Performance(
        begin - start_sec,
        np.maximum(stop - begin, 1 / TICKS_PER_SECOND),
        performance.pitch[chosen],
        performance.velocity[chosen],
        performance.pedal_sec[foot] - start_sec,
        performance.pedal_value[foot],
    )
    return OctupleSegment(notes, into[chosen], start_sec, end_sec)


def _ticks(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.round(seconds * TICKS_PER_SECOND).astype(np.int64)
