"""Conversion between a Score, the tick grid of ECP and score tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.music.engraving.spelling import spell
from engine.music.expression import BeatUnit, beat_quarters, measure_of
from engine.music.types import Marks, Measures, Score
from engine.tokens.tables import (
    BOS,
    DURATION,
    DURATION_TICKS,
    EOS,
    FAMILY,
    IGN,
    METRIC,
    NOTE,
    PITCH,
    PITCH_HIGH,
    PITCH_LOW,
    POSITION,
    TICKS_PER_BEAT,
    nearest,
)  # fmt: skip

MAX_NOTES, MAX_STEPS = 256, 512  # of one segment, BOS and EOS included in the steps


def _round(x: NDArray) -> NDArray[np.int64]:
    return np.floor(x + 0.5 + 1e-6).astype(
        np.int64
    )  # rounds halves up, with a tolerance for the float error of a third


def measure_ticks(measures: Measures, unit: BeatUnit = "musical") -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Tick of each measure's first moment, (m,), and the length of its beat in quarters, (m,).

    Every bar starts on a beat, a multiple of 24 ticks, so that onsets are quantised within their measure and never
    against the piece (15 % of nASAP onsets are off a piece-wide grid, 2 % off this one). After a measure that ends
    inside a beat, the next beat follows; a pickup keeps its position in its bar. Only with unit="quarter", where a bar
    of 3/8 is not a whole number of beats, measures follow one another directly.
    """
    length = beat_quarters(measures.ts_num, measures.ts_den, unit)
    position = _round(TICKS_PER_BEAT * measures.position_quarter / length)
    lasts = np.append(np.diff(measures.onset_quarter), measures.duration_quarter[-1])
    lasts = _round(TICKS_PER_BEAT * lasts / length)
    whole = 1 if unit == "quarter" else TICKS_PER_BEAT
    start = np.empty(len(measures), np.int64)
    end = int(position[0])
    for m in range(len(measures)):
        bar = -(-(end - int(position[m])) // whole) * whole
        start[m] = bar + position[m]
        end = int(start[m] + lasts[m])
    return start, length


@dataclass(frozen=True)
class TickNotes:
    """The notes of a score on the grid, in the order of emission: tick, then grace notes first, then pitch.

    index           (k,) the score note; of a unison only the longer note is kept
    onset_tick      (k,) 24 per beat
    duration_class  (k,) index into DURATION_TICKS, 0 for a grace note
    pitch           (k,) 21..108
    kept            (n,) row of each score note, -1 if its pitch is outside the piano
    """

    index: NDArray[np.int64]
    onset_tick: NDArray[np.int64]
    duration_class: NDArray[np.int64]
    pitch: NDArray[np.int64]
    kept: NDArray[np.int64]

    @property
    def grace(self) -> NDArray[np.bool_]:
        return self.duration_class == 0

    @property
    def num_outside(self) -> int:
        """Notes dropped because their pitch is outside 21..108."""
        return int((self.kept < 0).sum())

    @property
    def num_merged(self) -> int:
        """Notes merged with another one of the same pitch and tick."""
        return int((self.kept >= 0).sum()) - len(self.index)


def tick_notes(score: Score, unit: BeatUnit = "musical") -> TickNotes:
    """Quantise a score: onsets to 24 ticks per beat within their measure, durations to 51 classes."""
    start, length = measure_ticks(score.measures, unit)
    m = measure_of(score)
    tick = start[m] + _round(TICKS_PER_BEAT * (score.onset_quarter - score.measures.onset_quarter[m]) / length[m])
    tick = np.maximum.accumulate(tick)
    grace = score.grace | (score.duration_quarter <= 0)
    duration = 1 + nearest(TICKS_PER_BEAT * score.duration_quarter / length[m] - 1e-9, DURATION_TICKS[1:])
    duration = np.where(grace, 0, duration)
    pitch = score.pitch.astype(np.int64)
    row = np.arange(len(score))
    inside = np.flatnonzero((pitch >= PITCH_LOW) & (pitch <= PITCH_HIGH))
    order = inside[np.lexsort((row[inside], pitch[inside], ~grace[inside], tick[inside]))]
    t, p, g = tick[order], pitch[order], grace[order]
    # repeated grace notes are separate strokes; other duplicates at one tick are merged
    new = np.concatenate([[True], (np.diff(t) != 0) | (np.diff(p) != 0) | g[1:] | (g[1:] != g[:-1])])[: len(order)]
    group = np.cumsum(new) - 1
    longest = np.zeros(int(new.sum()), np.int64)
    np.maximum.at(longest, group, duration[order])
    kept = np.full(len(score), -1)
    kept[order] = group
    best = order[np.lexsort((row[order], -duration[order], group))]
    first = best[np.searchsorted(group, np.arange(len(longest)))]
    return TickNotes(first, tick[first], longest, pitch[first], kept)


@dataclass(frozen=True)
class ScoreSteps:
    """Score tokens with the index of their notes.

    tokens  (T, 4) int16: family, beat position, pitch, duration
    note    (T,) row of the TickNotes, -1 on Metric, BOS and EOS
    """

    tokens: NDArray[np.int16]
    note: NDArray[np.int64]


def score_steps(notes: TickNotes, chosen: slice, first_beat: int, last_beat: int) -> ScoreSteps:
    """Write the chosen notes as steps, with a Metric for each beat of first_beat..last_beat, empty or not."""
    rows: list[tuple[int, int, int, int]] = [(BOS, IGN, IGN, IGN)]
    note = [-1]
    i, end = chosen.start, chosen.stop
    for beat in range(first_beat, last_beat + 1):
        position = 0
        rows.append((METRIC, 1, IGN, IGN))
        note.append(-1)
        while i < end and notes.onset_tick[i] < (beat + 1) * TICKS_PER_BEAT:
            here = int(notes.onset_tick[i]) - beat * TICKS_PER_BEAT
            if here != position:
                position = here
                rows.append((METRIC, 1 + position, IGN, IGN))
                note.append(-1)
            rows.append((NOTE, IGN, 1 + int(notes.pitch[i]) - PITCH_LOW, 1 + int(notes.duration_class[i])))
            note.append(i)
            i += 1
    assert i == end, "the notes lie within the beats"
    rows.append((EOS, IGN, IGN, IGN))
    note.append(-1)
    return ScoreSteps(np.array(rows, np.int16), np.array(note))


@dataclass(frozen=True)
class Span:
    """A run of whole beats: notes[chosen], first and last beat, and whether it is within the limits of a segment."""

    chosen: slice
    first_beat: int
    last_beat: int
    fits: bool


def spans(notes: TickNotes, max_notes: int = MAX_NOTES, max_steps: int = MAX_STEPS) -> list[Span]:
    """Cut a piece at beat starts into runs of at most max_notes notes and max_steps steps, as long as they can be.

    A single beat that is already too full becomes a span of its own with fits=False. Every span begins and ends with a
    beat that has a note; silent beats between two spans belong to neither.
    """
    beat = notes.onset_tick // TICKS_PER_BEAT
    moment = np.unique(notes.onset_tick)
    moment = moment[moment % TICKS_PER_BEAT != 0]
    beats, first = np.unique(beat, return_index=True)
    count = np.diff(np.append(first, len(beat)))
    inner = np.searchsorted(moment, (beats + 1) * TICKS_PER_BEAT) - np.searchsorted(moment, beats * TICKS_PER_BEAT)
    out: list[Span] = []
    i = 0
    while i < len(beats):
        j, num_notes, steps = i, 0, 2
        while j < len(beats):
            silent = int(beats[j] - beats[j - 1]) - 1 if j > i else 0
            more = silent + 1 + int(inner[j]) + int(count[j])
            if j > i and (num_notes + count[j] > max_notes or steps + more > max_steps):
                break
            num_notes, steps, j = num_notes + int(count[j]), steps + more, j + 1
        fits = num_notes <= max_notes and steps <= max_steps
        out.append(Span(slice(int(first[i]), int(first[i]) + num_notes), int(beats[i]), int(beats[j - 1]), fits))
        i = j
    return out


def encode_score(score: Score, unit: BeatUnit = "musical") -> NDArray[np.int16]:
    """Score tokens of a whole piece, (T, 4): BOS, for each beat a Metric and its notes, EOS.

    Raises ValueError if no note is on the piano.
    """
    notes = tick_notes(score, unit)
    if not len(notes.index):
        raise ValueError("no note of this score is on the piano (pitch 21 to 108)")
    beat = notes.onset_tick // TICKS_PER_BEAT
    return score_steps(notes, slice(0, len(notes.index)), int(beat[0]), int(beat[-1])).tokens


def score_of_ticks(onset_tick: NDArray, duration_class: NDArray, pitch: NDArray) -> tuple[Score, NDArray[np.int64]]:
    """A Score in 4/4 whose quarters are the tokens' beats, and the token row of each note. Raises BadInput if there is
    no note.
    """
    order = np.lexsort((np.arange(len(pitch)), pitch, duration_class != 0, onset_tick))
    onset = onset_tick[order] / TICKS_PER_BEAT
    duration = DURATION_TICKS[duration_class[order]] / TICKS_PER_BEAT
    n = len(order)
    bars = np.arange(0, (onset[-1] if n else 0) + 1e-9, 4.0)
    m = len(bars)
    measures = Measures(
        bars, np.full(m, 4.0), np.zeros(m), np.full(m, 4), np.full(m, 4), np.zeros(m), np.arange(1, m + 1)
    )
    keys, zeros = pitch[order], np.zeros(n)
    grace = duration_class[order] == 0
    return Score(onset, duration, keys, spell(keys), zeros, zeros, grace, Marks.none(n), measures), order


def token_ticks(tokens: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Beat index and tick of each step, (T,) each, from Metric steps alone; -1 before the first Metric."""
    metric = tokens[:, FAMILY] == METRIC
    position = np.where(metric, tokens[:, POSITION].astype(np.int64) - 1, -1)
    beat = np.cumsum(metric & (position == 0)) - 1
    last = np.maximum.accumulate(np.where(metric, np.arange(len(tokens)), -1))
    tick = beat * TICKS_PER_BEAT + np.where(last >= 0, position[last], 0)
    return beat, np.where(beat < 0, -1, tick)


def note_columns(tokens: NDArray, step: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Duration class and pitch of the Note steps named, (k,) each."""
    return tokens[step, DURATION].astype(np.int64) - 1, tokens[step, PITCH].astype(np.int64) - 1 + PITCH_LOW
