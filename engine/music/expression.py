"""Encoding and decoding of expression: partitura's performance codec (CPJKU/partitura, performance_codec.py) with the
four changes listed in `encode_expression`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.music.passes import left_out, measure_of
from engine.music.types import PEDAL_SAMPLES, Alignment, Expression, NoteStrength, Performance, Score, Strength

BeatUnit = Literal["musical", "denominator", "quarter"]
MIN_DURATION_SEC, MAX_DURATION_SEC = 0.01, 30.0
GRACE_STEP_SEC = 0.04  # minimum distance between grace notes, about the fastest turn
GRACE_BEATS = 1 / 8  # nominal length of a grace note
LOG2_BEAT_PERIOD_LIMITS = (-4.5, 3.5)  # 0.044 to 11.3 seconds per beat, the range of the ECP table
_SAME = 1e-4  # quarters: onsets closer than this are one chord


def beat_quarters(ts_num: NDArray, ts_den: NDArray, unit: BeatUnit = "musical") -> NDArray[np.float64]:
    """Length of one beat in quarters, per measure.

    unit  "musical": the felt beat, so 6/8 has two, 9/8 three, 12/8 four (partitura's use_musical_beat);
          "denominator": the lower number of the time signature; "quarter": always 1

    >>> beat_quarters(np.array([4, 6, 3]), np.array([4, 8, 8]))
    array([1. , 1.5, 0.5])
    """
    if unit == "quarter":
        return np.ones(len(ts_num))
    length = 4.0 / np.asarray(ts_den, float)
    if unit == "musical":
        length = np.where(np.isin(ts_num, (6, 9, 12)), length * 3, length)
    return length


def score_beats(score: Score, unit: BeatUnit = "musical") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Onsets and durations in beats from the first barline, each (n,)."""
    m = score.measures
    length = beat_quarters(m.ts_num, m.ts_den, unit)
    start = np.concatenate([[0.0], np.cumsum(np.diff(m.onset_quarter) / length[:-1])])
    start += m.onset_quarter[0] / length[0]
    i = measure_of(score)
    return start[i] + (score.onset_quarter - m.onset_quarter[i]) / length[i], score.duration_quarter / length[i]


def beat_positions(score: Score, unit: BeatUnit = "musical") -> NDArray[np.float64]:
    """Positions of all beats in quarters, ascending; each barline is one of them."""
    m = score.measures
    length = beat_quarters(m.ts_num, m.ts_den, unit)
    beats = []
    for onset, duration, position, step in zip(
        m.onset_quarter, m.duration_quarter, m.position_quarter, length, strict=True
    ):
        first = np.ceil(position / step - 1e-6) * step - position
        beats.append(onset + np.arange(first, max(duration - 1e-6, first + 1e-9), step))
    return np.unique(np.concatenate(beats).round(6))


@dataclass(frozen=True)
class Chords:
    """The onset groups of a score.

    index       (n,) group of each note
    quarter     (g,) onset of each group, quarters
    beat        (g,) the same in beats
    """

    index: NDArray[np.int64]
    quarter: NDArray[np.float64]
    beat: NDArray[np.float64]


def chords(score: Score) -> Chords:
    """Group the notes with a common onset (within 1e-4 quarter)."""
    onset = score.onset_quarter
    index = np.concatenate([[0], np.cumsum(np.diff(onset) > _SAME)])
    first = np.flatnonzero(np.concatenate([[True], np.diff(index) > 0]))
    return Chords(index, onset[first], score_beats(score)[0][first])


def _group_onsets(score: Score, index: NDArray, onset_sec: NDArray, known: NDArray) -> NDArray[np.float64]:
    """Mean performed onset of each chord, NaN if none of its notes was played. Grace notes and rolled or ornamented
    notes are excluded if the chord has others.
    """
    groups = index[-1] + 1
    marks = score.marks
    plain = known & ~score.grace & (marks["arpeggio"] == 0) & (marks["ornament"] == 0)

    def mean(of: NDArray) -> NDArray:
        count = np.bincount(index[of], minlength=groups)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.bincount(index[of], onset_sec[of], minlength=groups) / np.where(count, count, np.nan)

    out = mean(plain)
    return np.where(np.isnan(out), mean(known), out)


def _rising_knots(
    position: NDArray, time: NDArray, min_period: float = 2.0 ** LOG2_BEAT_PERIOD_LIMITS[0]
) -> NDArray[np.int64]:
    """Indices of a subset along which time rises by at least `min_period` seconds per beat; first and last stay."""
    keep = [0]
    for k in range(1, len(position)):
        while keep and time[k] - time[keep[-1]] < min_period * (position[k] - position[keep[-1]]):
            if len(keep) == 1 or k < len(position) - 1:
                break
            keep.pop()  # the last knot must stay: remove earlier ones
        if time[k] - time[keep[-1]] >= min_period * (position[k] - position[keep[-1]]):
            keep.append(k)
    return np.array(keep)


def encode_expression(
    score: Score, performance: Performance, alignment: Alignment, tempo: Literal["beat", "onset"] = "beat"
) -> Expression:
    """Measure the expression of a performance, one row per score note.

    tempo  "onset": a beat period for every chord, (O_{k+1} - O_k) / (S_{k+1} - S_k), as in ECP and partitura; "beat":
           one for every beat, from the chords on beats, so that fast notes do not distort the tempo; the residual is
           timing

    Differences from partitura: timing is positive when late; grace and rolled notes are excluded from a chord's mean
    onset; the last beat period is the median of the four before; a grace note counts as 1/8 beat long. Unplayed notes
    get their neighbours' values and `played` False. An omitted repeat takes no time: the beats before and after it are
    adjacent. Raises ValueError with fewer than 2 matched onsets.
    """
    n = len(score)
    onset_sec, held, velocity = np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan)
    s, p = alignment.score_index, alignment.performance_index
    onset_sec[s], held[s], velocity[s] = performance.onset_sec[p], performance.duration_sec[p], performance.velocity[p]
    known = np.isfinite(onset_sec)
    c = _without(score, chords(score), alignment)
    played_at = _group_onsets(score, c.index, onset_sec, known)
    usable = np.flatnonzero(np.isfinite(played_at))
    if len(usable) < 2:
        raise ValueError(f"{len(usable)} onsets are matched, two or more are needed; check the alignment")
    if tempo == "beat":
        on_beat = np.isin(c.quarter.round(4), beat_positions(score).round(4))
        only_grace = np.bincount(c.index, ~score.grace, minlength=len(c.quarter)) == 0
        inner = usable[on_beat[usable] & ~only_grace[usable]]
        usable = np.unique(np.concatenate([usable[:1], inner, usable[-1:]]))
    knots = usable[_rising_knots(c.beat[usable], played_at[usable])]
    if len(knots) < 2:
        raise ValueError("the matched onsets do not move forward in time; check the alignment")
    period = np.diff(played_at[knots]) / np.diff(c.beat[knots])
    limits = np.exp2(LOG2_BEAT_PERIOD_LIMITS)
    period = np.clip(np.append(period, np.median(period[-4:])), *limits)
    segment = np.clip(np.searchsorted(knots, np.arange(len(c.quarter)), side="right") - 1, 0, None)
    group_period = period[segment]
    grid = played_at[knots[0]] + _grid(c.beat, group_period, knots[0])
    beat_period = group_period[c.index]
    timing = np.where(known, onset_sec - grid[c.index], 0.0)
    length = np.maximum(score_beats(score)[1], GRACE_BEATS)
    articulation = np.log2(np.maximum(held, MIN_DURATION_SEC) / (beat_period * length))
    i = np.arange(n)
    fill = {"velocity": velocity, "articulation": articulation}
    fill = {k: np.interp(i, i[known], v[known]) for k, v in fill.items()}
    return Expression(
        beat_period, timing, fill["velocity"], fill["articulation"],
        _sample_pedal(performance, grid, period[-1])[c.index], known,
    )  # fmt: skip


def _without(score: Score, c: Chords, alignment: Alignment) -> Chords:
    """The chords on a beat axis that excludes omitted repeats."""
    beat, m = c.beat.copy(), score.measures
    for p in left_out(score, alignment):
        start = m.onset_quarter[p.start]
        end = m.onset_quarter[p.stop] if p.stop < len(m) else np.inf
        inside, after = (c.quarter >= start - _SAME) & (c.quarter < end - _SAME), c.quarter >= end - _SAME
        if inside.any() and after.any():
            length = c.beat[np.argmax(after)] - c.beat[np.argmax(inside)]
            beat[after] -= length
            beat[inside] = beat[np.argmax(inside)]
    return Chords(c.index, c.quarter, beat)


def _grid(beat: NDArray, period: NDArray, origin: int = 0) -> NDArray[np.float64]:
    """Seconds of each chord on the beat grid, zero at chord `origin`."""
    grid = np.concatenate([[0.0], np.cumsum(period[:-1] * np.diff(beat))])
    return grid - grid[origin]


def _sample_pedal(performance: Performance, grid: NDArray, last_period: float) -> NDArray[np.float64]:
    """Sustain pedal (g, 4) at 0, 1/4, 1/2, 3/4 of the time from each chord to the next."""
    step = np.diff(np.append(grid, grid[-1] + last_period))
    at = grid[:, None] + np.maximum(step, 0)[:, None] * np.arange(PEDAL_SAMPLES) / PEDAL_SAMPLES
    if not len(performance.pedal_sec):
        return np.zeros_like(at)
    i = np.searchsorted(performance.pedal_sec, at, side="right") - 1
    return np.where(i >= 0, performance.pedal_value[np.maximum(i, 0)], 0).astype(float)


def decode_expression(score: Score, expression: Expression) -> Performance:
    """Decode expression to a performance: note i of the result is note i of the score; the first onset is at 0 s.

    A chord gets the median of its beat periods (arXiv 2507.01582, ECP decoding). Durations are 10 ms to 30 s; a note
    ends 1 ms before the next stroke of its key; unisons of two voices are one stroke. The pedal is released after the
    last note.
    """
    c = chords(score)
    period = group_median(expression.beat_period, c.index)
    grid = _grid(c.beat, period)
    stroke = _strokes(score, c.index, expression.played)
    onset = grid[c.index] + expression.timing_sec[stroke]
    length = np.maximum(score_beats(score)[1], GRACE_BEATS)
    duration = np.clip(
        np.exp2(expression.articulation_log2) * length * period[c.index], MIN_DURATION_SEC, MAX_DURATION_SEC
    )
    shift = onset.min()
    onset, grid = onset - shift, grid - shift
    velocity = np.clip(np.round(expression.velocity[stroke]), 1, 127)
    step = np.asarray(np.diff(np.append(grid, grid[-1] + period[-1])), float)
    first = np.flatnonzero(np.concatenate([[True], np.diff(c.index) > 0]))
    at = (grid[:, None] + step[:, None] * np.arange(PEDAL_SAMPLES) / PEDAL_SAMPLES).ravel()
    value = np.clip(np.round(expression.pedal[first]), 0, 127).ravel().astype(np.int16)
    changed = np.concatenate([[value[0] > 0], np.diff(value) != 0])
    at, value = np.maximum(at[changed], 0.0), value[changed]
    duration = end_before_repeat(onset, duration, score.pitch)
    if len(value) and value[-1] > 0:
        at, value = np.append(at, max(at[-1], float((onset + duration).max())) + 0.5), np.append(value, 0)
    return Performance(onset, duration, score.pitch, velocity, at, value)


def in_written_order(score: Score, performance: Performance) -> Performance:
    """A performance in score order with its grace notes in written order.

    The grace notes of one chord and staff keep their times, sorted; where two, or the last and its main note, are
    closer than `GRACE_STEP_SEC`, the earlier ones move forward. If one would start before 0 s, everything moves later.
    """
    rows = np.flatnonzero(score.grace)
    if not len(rows):
        return performance
    c, onset = chords(score), performance.onset_sec.copy()
    group, staff = c.index[rows], score.staff[rows]
    for g in np.unique(group):
        main = onset[(c.index == g) & ~score.grace]
        for hand in np.unique(staff[group == g]):
            here = rows[(group == g) & (staff == hand)]
            following = float(main.min()) if len(main) else np.inf
            for i, time in zip(here[::-1].tolist(), np.sort(onset[here])[::-1].tolist(), strict=True):
                onset[i] = following = min(time, following - GRACE_STEP_SEC)
    moved = rows[onset[rows] != performance.onset_sec[rows]]
    if not len(moved):
        return performance
    shift = max(0.0, -float(onset.min()))
    onset += shift
    duration = end_before_repeat(onset, performance.duration_sec, score.pitch)
    return replace(performance, onset_sec=onset, duration_sec=duration, pedal_sec=performance.pedal_sec + shift)


def _strokes(score: Score, chord: NDArray, played: NDArray) -> NDArray[np.int64]:
    """For each note the first performed note of its pitch in its chord, (n,): a unison of two voices is one stroke."""
    key = (chord * 2 + ~score.grace) * 128 + score.pitch
    order = np.lexsort((~played, key))
    _, first, inverse = np.unique(key[order], return_index=True, return_inverse=True)
    out = np.empty(len(key), np.int64)
    out[order] = order[first][inverse]
    return out


def group_median(values: NDArray, index: NDArray) -> NDArray[np.float64]:
    """Median of each chord's values, (g,).

    index  (n,) chord of each note, ascending, as in `Chords`

    >>> group_median(np.array([1.0, 5.0, 3.0, 7.0]), np.array([0, 0, 0, 1]))
    array([3., 7.])
    """
    order = np.lexsort((values, index))
    start = np.flatnonzero(np.concatenate([[True], np.diff(index) > 0]))
    count = np.diff(np.append(start, len(index)))
    v = values[order]
    return (v[start + (count - 1) // 2] + v[start + count // 2]) / 2


def end_before_repeat(onset: NDArray, duration: NDArray, pitch: NDArray) -> NDArray[np.float64]:
    """Durations (n,) shortened so that a note ends 1 ms before the next stroke of its key.

    Unisons of two voices keep their lengths. onset and duration (n,) in seconds.

    >>> end_before_repeat(np.array([0.0, 1.0]), np.array([2.0, 2.0]), np.array([60, 60]))
    array([0.999, 2.   ])
    """
    order = np.lexsort((onset, pitch))
    o, p, d = onset[order], pitch[order], duration[order].copy()
    stroke = np.concatenate(
        [[0], np.cumsum((np.diff(p) != 0) | (np.diff(o) > 1e-3))]
    )  # one key stroke of 1 or 2 voices
    start = np.flatnonzero(np.concatenate([[True], np.diff(stroke) > 0]))
    same_key = np.append(p[start[1:]] == p[start[:-1]], False)
    until = np.where(same_key, np.append(o[start[1:]], np.inf), np.inf)[stroke] - o - 1e-3
    d = np.where(d > until, np.maximum(until, 1e-3), d)
    out = np.empty_like(d)
    out[order] = d
    return out


def steady_pedal(
    performance: Performance, low: int = 52, high: int = 83, min_down_sec: float = 0.08, min_up_sec: float = 0.02
) -> Performance:
    """Apply hysteresis to a sampled pedal: down above `high`, up below `low`, in between unchanged. Lifts shorter than
    `min_up_sec` and presses shorter than `min_down_sec` are removed. Half-pedal depths stay within their side of 64,
    where "down" begins.
    """
    at, value = performance.pedal_sec, performance.pedal_value
    if not len(at):
        return performance
    decided = np.where(value > high, 1, np.where(value < low, 0, -1))
    last = np.maximum.accumulate(np.where(decided >= 0, np.arange(len(at)), 0))
    down = np.maximum(decided[last], 0)
    for state, shortest in ((0, min_up_sec), (1, min_down_sec)):
        edge = np.flatnonzero(np.diff(down)) + 1
        bounds = np.concatenate([[0], edge, [len(at)]])
        for start, end in pairwise(bounds[1:-1]):  # the first and last stretch stay
            if down[start] == state and at[end] - at[start] < shortest:
                down[start:end] = 1 - state
    depth = np.where(down > 0, np.maximum(value, 64), np.minimum(value, 63))
    return replace(performance, pedal_value=depth)


def deadpan(score: Score, bpm: float | None = None, velocity: float = 64.0) -> Performance:
    """The score as written: steady tempo, one velocity, full lengths, no pedal.

    bpm  quarters per minute; by default the first metronome mark, or 90
    """
    written = score.marks["tempo_bpm"]
    quarter_sec = 60.0 / (bpm or (float(written[written > 0][0]) if (written > 0).any() else 90.0))
    onset = (score.onset_quarter - score.onset_quarter[0]) * quarter_sec
    duration = np.clip(
        np.where(score.grace, 1 / 8, score.duration_quarter) * quarter_sec, MIN_DURATION_SEC, MAX_DURATION_SEC
    )
    return Performance(
        onset, end_before_repeat(onset, duration, score.pitch), score.pitch, np.full(len(score), velocity)
    )


def apply_strength(expression: Expression, strength: Strength | NoteStrength) -> Expression:
    """Scale each kind of expression: 0 is deadpan (steady mean tempo, on the grid, one loudness, full lengths, dry).

    Tempo scales about its median in log2, velocity about its mean, articulation about full length, pedal in depth.
    """
    log_period = np.log2(expression.beat_period)
    centre = np.median(log_period)
    mean, pedal = expression.velocity.mean(), strength.pedal
    if isinstance(strength, NoteStrength):
        count = np.maximum(np.bincount(strength.group), 1)
        mean = (np.bincount(strength.group, expression.velocity) / count)[strength.group]
        pedal = strength.pedal[:, None]
    return Expression(
        np.exp2(centre + strength.tempo * (log_period - centre)),
        expression.timing_sec * strength.timing,
        np.clip(mean + strength.velocity * (expression.velocity - mean), 1, 127),
        expression.articulation_log2 * strength.articulation,
        np.clip(expression.pedal * pedal, 0, 127),
        expression.played,
    )


def beat_times(
    score: Score, performance: Performance
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Times of the beats in a performance whose first notes are the score's, in order.

    returns  beat (k,) from the first barline; sec (k,) strictly increasing; quarter (k,)
    """
    c = chords(score)
    n = len(score)
    at = _group_onsets(score, c.index, np.asarray(performance.onset_sec[:n]), np.ones(n, bool))
    knots = _rising_knots(c.beat, at)
    quarter = beat_positions(score)
    quarter = quarter[(quarter >= c.quarter[0] - 1e-6)]
    beat = np.interp(quarter, *_beat_axis(score))
    x, y = c.beat[knots], at[knots]
    if len(x) < 2:
        return beat, y[0] + (beat - beat[0]) * 0.5, quarter
    slope = np.diff(y) / np.diff(x)
    tail = np.median(slope[-4:])
    sec = np.interp(beat, x, y)
    sec = np.where(beat > x[-1], y[-1] + tail * (beat - x[-1]), sec)
    sec = np.where(beat < x[0], y[0] - slope[0] * (x[0] - beat), sec)
    return beat, sec, quarter


def _beat_axis(score: Score) -> tuple[NDArray, NDArray]:
    """Corner points of the map from quarters to beats: at each barline and at the end."""
    m = score.measures
    length = beat_quarters(m.ts_num, m.ts_den)
    quarter = np.append(m.onset_quarter, m.end_quarter)
    beat = np.concatenate([[0.0], np.cumsum(np.diff(quarter) / length)]) + m.onset_quarter[0] / length[0]
    return quarter, beat
