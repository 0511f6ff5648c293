"""Encoding of ECP: from an aligned performance to segments of tokens, with error feedback (spec in `ecp.py`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from math import log2
from statistics import median

import numpy as np
from numpy.typing import NDArray

from engine.music.expression import GRACE_BEATS, MIN_DURATION_SEC, BeatUnit
from engine.music.types import PEDAL_SAMPLES, TREMOLO, Alignment, Performance, Score
from engine.tokens.grid import Span, TickNotes, score_steps, spans, tick_notes
from engine.tokens.tables import (
    ARTICULATIONS,
    BEAT_PERIOD,
    BEAT_PERIODS,
    COLUMN_SIZES,
    DURATION_TICKS,
    LOG2_BEAT_PERIODS,
    NOTE,
    PEDAL_DOWN,
    TICKS_PER_BEAT,
    TIMINGS,
    VALUE_MEAN,
    VALUE_STD,
    nearest,
    signed_log,
    table_digest,
)  # fmt: skip

MIN_MATCHED = 0.85  # of a segment's score notes
MAX_ASKED_PERIOD = 16.0  # seconds per beat
MAX_ERROR_SEC = 1.0  # of a segment's own round trip
UNKNOWN_PERIOD = 0.5  # seconds per beat where a segment has a single onset


@dataclass(frozen=True)
class EcpConfig:
    """beat_unit as in `score_beats`; pedal adds the ninth column. Off, the tokens are the paper's eight."""

    beat_unit: BeatUnit = "musical"
    pedal: bool = False

    @property
    def column_sizes(self) -> tuple[int, ...]:
        """Tokens of each column, the 0 of PAD and IGN included."""
        return COLUMN_SIZES if self.pedal else COLUMN_SIZES[:8]

    @property
    def digest(self) -> str:
        """Key of the vocabulary: two models with one digest speak the same tokens."""
        return hashlib.sha1(f"{table_digest()} {self.beat_unit} {self.pedal}".encode()).hexdigest()


@dataclass(frozen=True)
class Segment:
    """At most 256 notes and 512 steps of an aligned performance.

    tokens      (T, 8 or 9) int16
    values      (T, 4) float32, the performance before rounding, standardised by VALUE_MEAN and VALUE_STD: log2 beat
                period, velocity / 127, signed log timing, articulation_log2; zeros where no note was played
    note_index  (T,) the score note of each Note step, else -1
    start_sec   performed time of the first played chord, from which the grid counts
    first_beat  beat of the piece that the first Metric opens
    """

    tokens: NDArray[np.int16]
    values: NDArray[np.float32]
    note_index: NDArray[np.int32]
    start_sec: float
    first_beat: int

    @property
    def is_note(self) -> NDArray[np.bool_]:
        return self.tokens[:, 0] == NOTE

    @property
    def played(self) -> NDArray[np.bool_]:
        """Steps whose performance columns are known: the loss mask."""
        return self.tokens[:, BEAT_PERIOD] > 0


@dataclass(frozen=True)
class Rejected:
    """A span of the piece that cannot be encoded, with the reason and its score notes [first, last]."""

    reason: str
    first_note: int
    last_note: int


@dataclass(frozen=True)
class Encoding:
    """Result of encoding an aligned performance."""

    segments: tuple[Segment, ...]
    rejected: tuple[Rejected, ...]
    num_outside: int  # notes off the piano's keys, dropped
    num_merged: int  # duplicates of a pitch and tick, encoded once


@dataclass(frozen=True)
class _Played:
    """What was played of each TickNotes row, (k,) each; NaN where nothing was."""

    onset_sec: NDArray[np.float64]
    duration_sec: NDArray[np.float64]
    velocity: NDArray[np.float64]
    tier: NDArray[np.int64]  # whose onsets make the chord's: the lowest tier that is present


def encode(
    score: Score, performance: Performance, alignment: Alignment | None = None, config: EcpConfig = EcpConfig()
) -> Encoding:
    """Encode an aligned performance as segments of tokens.

    alignment  None when note i of the performance is note i of the score

    Inserted notes are dropped; a written note that was not played keeps its score tokens and has 0 in the performance
    columns. A span is rejected when less than 85 % of its notes were played, when a beat lasts more than 16 s, or when
    its round-trip error exceeds 1 s.
    """
    alignment = Alignment.identity(len(score)) if alignment is None else alignment
    notes = tick_notes(score, config.beat_unit)
    played = _played(score, performance, alignment, notes)
    segments: list[Segment] = []
    rejected: list[Rejected] = []
    for span in spans(notes):
        made = _encode_span(score, performance, notes, played, span, config)
        if isinstance(made, str):
            index = notes.index[span.chosen]
            rejected.append(Rejected(made, int(index.min()), int(index.max())))
        else:
            segments.append(made)
    return Encoding(tuple(segments), tuple(rejected), notes.num_outside, notes.num_merged)


def _played(score: Score, performance: Performance, alignment: Alignment, notes: TickNotes) -> _Played:
    row = notes.kept[alignment.score_index]
    row, p = row[row >= 0], alignment.performance_index[row >= 0]
    k = len(notes.index)
    onset, duration, velocity = np.full(k, np.inf), np.full(k, -np.inf), np.full(k, -np.inf)
    np.minimum.at(onset, row, performance.onset_sec[p])  # two voices on one key: longer, louder
    np.maximum.at(duration, row, performance.duration_sec[p])
    np.maximum.at(velocity, row, performance.velocity[p])
    unknown = ~np.isfinite(onset)
    onset[unknown] = duration[unknown] = velocity[unknown] = np.nan
    rolled = score.marks["arpeggio"][notes.index] > 0
    ornament = score.marks["ornament"][notes.index]
    trill = (ornament == 1) | (ornament > TREMOLO)
    tier = np.where(notes.grace, 3, np.where(trill, 2, np.where(rolled, 1, 0)))
    return _Played(onset, duration, velocity, np.where(unknown, 9, tier))


def chord_onset(onset_sec: NDArray, tier: NDArray) -> float:
    """Performed onset of one chord in seconds, NaN when nothing of it was played.

    The mean over its plain notes (tier 0); without any, its lowest rolled note (1), else its trills (2), else its
    grace notes (3). Notes are in ascending pitch; 9 is "not played".

    >>> chord_onset(np.array([1.0, 1.2, 0.9]), np.array([0, 0, 3]))
    1.1
    """
    best = tier.min()
    if best == 9:
        return float("nan")
    of = onset_sec[tier == best]
    return float(of[0] if best == 1 else of.mean())


def rising(position: NDArray, time: NDArray) -> NDArray[np.float64]:
    """Make performed chord onsets non-decreasing: running maximum, then a straight line across each plateau.

    >>> rising(np.array([0., 1., 2., 3.]), np.array([0., 2., 1., 3.]))
    array([0. , 2. , 2.5, 3. ])
    """
    top = np.maximum.accumulate(time)
    keep = np.concatenate([[True], np.diff(top) > 0])
    return np.interp(position, position[keep], top[keep])


def feedback_grid(beat: NDArray, time: NDArray) -> tuple[list[int], list[float]]:
    """Round the beat periods left to right against what the decoder will reconstruct.

    beat, time  (K,) chord onsets in beats and in seconds from the first, K >= 2, non-decreasing times
    returns     K-1 beat period classes, and the K decoded grid times
    """
    low, step, top = float(LOG2_BEAT_PERIODS[0]), 0.05, len(LOG2_BEAT_PERIODS) - 1
    classes, grid = [], [0.0]
    for k in range(len(beat) - 1):
        beats = float(beat[k + 1] - beat[k])
        asked = (float(time[k + 1]) - grid[-1]) / beats
        c = min(max(round((log2(asked) - low) / step), 0), top) if asked > 0 else 0
        classes.append(c)
        grid.append(grid[-1] + float(BEAT_PERIODS[c]) * beats)
    return classes, grid


def _encode_span(
    score: Score, performance: Performance, notes: TickNotes, played: _Played, span: Span, config: EcpConfig
) -> Segment | str:
    """One segment, or the reason why there is none."""
    if not span.fits:
        return "one beat holds more than 256 notes or 510 positions"
    a, b = span.chosen.start, span.chosen.stop
    known = np.isfinite(played.onset_sec[a:b])
    if known.mean() < MIN_MATCHED:
        return "less than 85 % of the notes are matched"
    tick = notes.onset_tick[a:b]
    ticks, group = np.unique(tick, return_inverse=True)
    onset, tier = played.onset_sec[a:b], played.tier[a:b]
    edges = np.searchsorted(group, np.arange(len(ticks) + 1))
    chord = np.array([chord_onset(onset[i:j], tier[i:j]) for i, j in pairwise(edges)])
    heard = np.flatnonzero(np.isfinite(chord))
    beat, time = ticks[heard] / TICKS_PER_BEAT, chord[heard]
    follows = _next_chord(notes, played, b)
    if follows is not None:
        beat, time = np.append(beat, follows[0]), np.append(time, follows[1])
    start = float(time[0])
    time = rising(beat, time - start)
    period = np.diff(time) / np.diff(beat)
    if len(period) and period.max() > MAX_ASKED_PERIOD + 1e-6:
        return "a beat lasts more than 16 seconds"
    classes, grid = feedback_grid(beat, time)
    if follows is None:
        classes.append(_last_class([BEAT_PERIODS[c] for c in classes]))
        period = np.append(period, median(period[-4:]) if len(period) else UNKNOWN_PERIOD)
    at = np.searchsorted(heard, group[known])  # index into `heard` of each played note
    grid_sec, classes_of = np.array(grid[: len(heard)]), np.array(classes)[: len(heard)]
    late = onset[known] - start
    held = np.maximum(played.duration_sec[a:b][known], MIN_DURATION_SEC)
    length = np.maximum(DURATION_TICKS[notes.duration_class[a:b][known]] / TICKS_PER_BEAT, GRACE_BEATS)
    rows = np.zeros((b - a, len(config.column_sizes) - 4), np.int16)
    rows[known, 0] = 1 + classes_of[at]
    rows[known, 1] = 1 + played.velocity[a:b][known].astype(int) // 4
    timing = nearest(late - grid_sec[at], TIMINGS)
    rows[known, 2] = 1 + timing
    rows[known, 3] = 1 + nearest(np.log2(held / (BEAT_PERIODS[classes_of[at]] * length)), ARTICULATIONS)
    if np.abs(grid_sec[at] + TIMINGS[timing] - late).max() > MAX_ERROR_SEC:
        return "its round trip errs by more than 1 second"
    if config.pedal:
        last_sec = float(BEAT_PERIODS[classes_of[-1]] * length[at == len(grid_sec) - 1].max())
        ends = chord_ends(grid_sec, last_sec)
        rows[known, 4] = 1 + _pedal_classes(performance, start + grid_sec, start + ends)[at]
    smooth = np.clip(np.log2(np.maximum(period[: len(heard)], 1e-9)), LOG2_BEAT_PERIODS[0], LOG2_BEAT_PERIODS[-1])[at]
    values = np.zeros((b - a, 4), np.float32)
    continuous = [
        smooth, played.velocity[a:b][known] / 127, signed_log(late - time[at]),
        np.clip(np.log2(held / (np.exp2(smooth) * length)), ARTICULATIONS[0], ARTICULATIONS[-1]),
    ]  # fmt: skip
    values[known] = (np.stack(continuous, 1) - VALUE_MEAN) / VALUE_STD
    return _lay_out(notes, span, rows, values, start)


def _last_class(periods: list[float]) -> int:
    """Beat period of the last chord, which has no successor: the median of the four before."""
    return int(nearest(log2(median(periods[-4:]) if periods else UNKNOWN_PERIOD), LOG2_BEAT_PERIODS))


def _next_chord(notes: TickNotes, played: _Played, row: int) -> tuple[float, float] | None:
    """Beat and seconds of the first chord from `row` on of which something was played."""
    while row < len(notes.index):
        end = int(np.searchsorted(notes.onset_tick, notes.onset_tick[row], side="right"))
        time = chord_onset(played.onset_sec[row:end], played.tier[row:end])
        if time == time:
            return float(notes.onset_tick[row]) / TICKS_PER_BEAT, time
        row = end
    return None


def chord_ends(grid_sec: NDArray, last_sec: float) -> NDArray[np.float64]:
    """Where each chord's pedal samples end: at the next chord; the last one's after its longest written length."""
    return np.append(grid_sec[1:], grid_sec[-1] + last_sec)


def _pedal_classes(performance: Performance, begin: NDArray, end: NDArray) -> NDArray[np.int64]:
    """Sustain pedal down or up at 0, 1/4, 1/2, 3/4 of each chord's time: 16 classes, the first sample weighs 8."""
    at = begin[:, None] + (end - begin)[:, None] * np.arange(PEDAL_SAMPLES) / PEDAL_SAMPLES
    event = np.searchsorted(performance.pedal_sec, at, side="right")
    down = np.concatenate([[False], performance.pedal_value >= PEDAL_DOWN])[event]
    return down @ (1 << np.arange(PEDAL_SAMPLES)[::-1])


def _lay_out(notes: TickNotes, span: Span, rows: NDArray, values: NDArray, start: float) -> Segment:
    """Put the performance columns of the notes beside their score tokens."""
    steps = score_steps(notes, span.chosen, span.first_beat, span.last_beat)
    is_note = steps.note >= 0
    tokens = np.zeros((len(steps.note), 4 + rows.shape[1]), np.int16)
    tokens[:, :4] = steps.tokens
    tokens[is_note, 4:] = rows
    laid = np.zeros((len(steps.note), 4), np.float32)
    laid[is_note] = values
    index = np.full(len(steps.note), -1, np.int32)
    index[is_note] = notes.index[steps.note[is_note]]
    for array in (tokens, laid, index):
        array.setflags(write=False)
    return Segment(tokens, laid, index, start, span.first_beat)
