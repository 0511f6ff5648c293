"""Decoding of ECP tokens, from the encoder or a model, to a score and its performance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.music.expression import (
    GRACE_BEATS,
    MAX_DURATION_SEC,
    MIN_DURATION_SEC,
    end_before_repeat,
    group_median,
)  # fmt: skip
from engine.music.types import PEDAL_SAMPLES, Performance, Score
from engine.tokens.encode import UNKNOWN_PERIOD, chord_ends
from engine.tokens.grid import score_of_ticks, token_ticks
from engine.tokens.tables import (
    ARTICULATION,
    ARTICULATIONS,
    BEAT_PERIOD,
    BEAT_PERIODS,
    BOS,
    COLUMN_SIZES,
    DURATION,
    DURATION_TICKS,
    EOS,
    FAMILY,
    IGN,
    METRIC,
    NOTE,
    PEDAL,
    PITCH,
    PITCH_LOW,
    POSITION,
    TICKS_PER_BEAT,
    TIMING,
    TIMINGS,
    VELOCITIES,
    VELOCITY,
)  # fmt: skip

MAX_REPAIRED = 0.01  # of the events; more means a failed generation
UNKNOWN_VELOCITY = 64.0


@dataclass(frozen=True)
class Repairs:
    """Counts of repairs by the decoder.

    events            notes and Metric steps that were there
    stray_steps       a BOS inside, a Metric without position or before the first beat: skipped
    disordered_steps  a Metric that steps back within its beat: accepted
    orphan_notes      before any Metric, or without pitch or duration: dropped
    doubled_notes     a second note on one key at one position: dropped
    incomplete_notes  some performance columns missing: taken from the chord
    overlaps          overlaps the next stroke of its key by over 5 % of its length: shortened
    """

    events: int
    stray_steps: int
    disordered_steps: int
    orphan_notes: int
    doubled_notes: int
    incomplete_notes: int
    overlaps: int

    @property
    def total(self) -> int:
        return (
            self.stray_steps + self.disordered_steps + self.orphan_notes
            + self.doubled_notes + self.incomplete_notes + self.overlaps
        )  # fmt: skip

    @property
    def share(self) -> float:
        return self.total / max(self.events, 1)

    @property
    def failed(self) -> bool:
        """Whether more than 1 % of the events were repaired: a failed generation."""
        return self.share > MAX_REPAIRED


@dataclass(frozen=True)
class Decoded:
    """A score whose quarters are the tokens' beats, counted from the first Metric, and its performance.

    performance  note i is note i of the score
    step         (n,) token row of note i
    """

    score: Score
    performance: Performance
    step: NDArray[np.int64]
    repairs: Repairs


@dataclass(frozen=True)
class _Notes:
    """Notes in token order, (k,) each."""

    step: NDArray[np.int64]
    tick: NDArray[np.int64]
    duration_class: NDArray[np.int64]
    pitch: NDArray[np.int64]


def _check(tokens: NDArray, columns: tuple[int, ...]) -> NDArray[np.int64]:
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or tokens.shape[1] not in columns:
        wanted = " or ".join(map(str, columns))
        raise ValueError(f"tokens are (T, {wanted}), got {tokens.shape}; pass one segment, without a batch axis")
    sizes = np.array(COLUMN_SIZES[: tokens.shape[1]])
    if (tokens < 0).any() or (tokens >= sizes).any():
        raise ValueError(f"tokens lie in 0..size-1 with sizes {sizes.tolist()}; clip or mask before decoding")
    return tokens.astype(np.int64)


def _walk(tokens: NDArray) -> tuple[_Notes, dict[str, int]]:
    """Find the notes and their positions; count disorder."""
    family = tokens[:, FAMILY]
    ends = np.flatnonzero((family == EOS) | (family == IGN))
    tokens = tokens[: ends[0]] if len(ends) else tokens
    family = tokens[:, FAMILY]
    metric = family == METRIC
    stray = (family == BOS) & (np.arange(len(family)) > 0)
    stray |= metric & (tokens[:, POSITION] == IGN)
    begun = np.cumsum(metric & (tokens[:, POSITION] == 1)) > 0
    stray |= metric & ~begun
    kept = np.flatnonzero(~stray)
    _, tick = token_ticks(tokens[kept])
    note = family[kept] == NOTE
    orphan = note & ((tick < 0) | (tokens[kept][:, PITCH] == IGN) | (tokens[kept][:, DURATION] == IGN))
    moments = tick[family[kept] == METRIC]
    found = np.flatnonzero(note & ~orphan)
    step, t = kept[found], tick[found]
    duration, pitch = tokens[step, DURATION] - 1, tokens[step, PITCH] - 1 + PITCH_LOW
    plain = np.flatnonzero(duration > 0)
    _, first = np.unique(np.stack([t[plain], pitch[plain]]), axis=1, return_index=True)
    chosen = np.sort(np.concatenate([np.flatnonzero(duration == 0), plain[first]]))
    counts = {
        "events": int(note.sum()) + int(metric.sum()),
        "stray_steps": int(stray.sum()),
        "disordered_steps": int((np.diff(moments) <= 0).sum()),
        "orphan_notes": int(orphan.sum()),
        "doubled_notes": len(found) - len(chosen),
    }
    return _Notes(step[chosen], t[chosen], duration[chosen], pitch[chosen]), counts


def decode_score(tokens: NDArray) -> Score:
    """Read score tokens, (T, 4) or more columns, as a Score in 4/4 whose quarters are the tokens' beats.

    Raises BadInput when there is no note, ValueError when the array is not one of tokens.
    """
    notes, _ = _walk(_check(tokens, (4, 8, 9)))
    return score_of_ticks(notes.tick, notes.duration_class, notes.pitch)[0]


def decode(tokens: NDArray, start_sec: float | None = None) -> Decoded:
    """Decode a segment of tokens to score and performance.

    tokens     (T, 8 or 9), one segment
    start_sec  when the first played chord's grid time falls (a Segment's own start_sec); None: the earliest note at 0 s

    A chord has one beat period, the median of its notes'; a note without performance columns takes its chord's values,
    a chord without any those of the chord before. Durations are 10 ms to 30 s. Raises BadInput when there is no note,
    ValueError when the array is not one of tokens.
    """
    tokens = _check(tokens, (8, 9))
    notes, counts = _walk(tokens)
    score, order = score_of_ticks(notes.tick, notes.duration_class, notes.pitch)
    step, tick = notes.step[order], notes.tick[order]
    rows = tokens[step]
    ticks, group = np.unique(tick, return_inverse=True)
    live = rows[:, BEAT_PERIOD : ARTICULATION + 1] > 0
    period = _chord_values(BEAT_PERIODS[rows[:, BEAT_PERIOD] - 1], live[:, 0], group, len(ticks), UNKNOWN_PERIOD)
    velocity = _filled(VELOCITIES[rows[:, VELOCITY] - 1], live[:, 1], group, len(ticks), UNKNOWN_VELOCITY)
    timing = np.where(live[:, 2], TIMINGS[rows[:, TIMING] - 1], 0.0)
    articulation = _filled(ARTICULATIONS[rows[:, ARTICULATION] - 1], live[:, 3], group, len(ticks), 0.0)
    grid = np.concatenate([[0.0], np.cumsum(period[:-1] * np.diff(ticks) / TICKS_PER_BEAT)])
    heard = np.unique(group[live[:, 0]])
    grid -= grid[heard[0]] if len(heard) else 0.0
    length = np.maximum(DURATION_TICKS[notes.duration_class[order]] / TICKS_PER_BEAT, GRACE_BEATS)
    onset = grid[group] + timing
    shift = start_sec if start_sec is not None else -float(onset.min())
    onset, grid = onset + shift, grid + shift
    held = np.clip(np.exp2(articulation) * length * period[group], MIN_DURATION_SEC, MAX_DURATION_SEC)
    duration = end_before_repeat(onset, held, score.pitch)
    pedal = np.zeros(0), np.zeros(0, np.int16)
    if tokens.shape[1] == 9 and len(heard):
        last = float(length[group == heard[-1]].max() * period[heard[-1]])
        pedal = _pedal_events(rows[:, PEDAL], group, heard, grid, last, float((onset + duration).max()))
    counts["incomplete_notes"] = int((live.any(1) & ~live.all(1)).sum())
    by_key = np.lexsort((onset, score.pitch))
    told = np.all(live, axis=1)[by_key]  # filled-in notes were never played and may overlap
    cut = duration[by_key] < 0.95 * held[by_key]
    counts["overlaps"] = int((cut[:-1] & told[:-1] & told[1:]).sum())
    performance = Performance(onset, duration, score.pitch, np.clip(velocity.round(), 1, 127), *pedal)
    return Decoded(score, performance, step, Repairs(**counts))


def _chord_values(values: NDArray, live: NDArray, group: NDArray, count: int, default: float) -> NDArray[np.float64]:
    """The median of each chord's known values, (count,); chords without any take the one before, else after."""
    if not live.any():
        return np.full(count, default)
    present, index = np.unique(group[live], return_inverse=True)
    medians = group_median(values[live], index)
    return medians[np.clip(np.searchsorted(present, np.arange(count), side="right") - 1, 0, None)]


def _filled(values: NDArray, live: NDArray, group: NDArray, count: int, default: float) -> NDArray[np.float64]:
    return np.where(live, values, _chord_values(values, live, group, count, default)[group])


def _pedal_events(
    classes: NDArray, group: NDArray, heard: NDArray, grid: NDArray, last_sec: float, end_sec: float
) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Controller events from 16 classes per chord; the pedal is up before, and released after the last note."""
    first = np.searchsorted(group, heard)
    last_row = np.append(first[1:], len(group))
    known = [classes[a:b][classes[a:b] > 0] for a, b in zip(first, last_row)]
    bits = [(int(k[0]) - 1 if len(k) else 0) for k in known]
    begin = grid[heard]
    end = chord_ends(begin, last_sec)
    at = (begin[:, None] + (end - begin)[:, None] * np.arange(PEDAL_SAMPLES) / PEDAL_SAMPLES).ravel()
    down = (np.array(bits)[:, None] >> np.arange(PEDAL_SAMPLES)[::-1] & 1).ravel()
    changed = np.concatenate([[down[0] > 0], np.diff(down) != 0])
    at, value = at[changed], (127 * down[changed]).astype(np.int16)
    if len(value) and value[-1] > 0:
        at, value = np.append(at, max(end_sec, float(at[-1])) + 0.5), np.append(value, np.int16(0))
    return at, value


def grammar_faults(tokens: NDArray) -> list[str]:
    """Every way in which tokens break the grammar of ECP, in words; empty when they are well formed.

    tokens  (T, 4, 8 or 9), without padding
    """
    tokens = _check(tokens, (4, 8, 9))
    faults: list[str] = []
    family = tokens[:, FAMILY]
    if len(tokens) < 2 or family[0] != BOS or family[-1] != EOS or np.isin(family[1:-1], (IGN, BOS, EOS)).any():
        faults.append("a segment is one BOS, then Metric and Note steps, then one EOS")
    metric, note = family == METRIC, family == NOTE
    wanted = np.zeros((len(tokens), 4), bool)
    wanted[metric, POSITION] = True
    wanted[note, PITCH] = wanted[note, DURATION] = True
    if ((tokens[:, 1:4] > 0) != wanted[:, 1:]).any():
        faults.append("a Metric has a position, a Note pitch and duration, BOS and EOS neither")
    if (tokens[~note, 4:] > 0).any():
        faults.append("only Note steps have performance columns")
    live = tokens[note, 4:] > 0
    if live.shape[1] and (live.any(1) != live.all(1)).any():
        faults.append("a Note has all performance columns or none")
    _, tick = token_ticks(tokens)
    if (tick[note] < 0).any() or (len(tokens) > 2 and not (metric[1] and tokens[1, POSITION] == 1)):
        faults.append("the first step after BOS is a Metric at position 0")
    if (np.diff(tick[metric]) <= 0).any():
        faults.append("positions rise within a beat")
    silent = metric[:-1] & (tokens[:-1, POSITION] > 1) & ~note[1:]
    if silent.any():
        faults.append("a Metric inside a beat is followed by a note")
    together = note[:-1] & note[1:]
    key = np.where(tokens[:, DURATION] > 1, 1000, 0) + tokens[:, PITCH]  # grace notes first, then by pitch
    rise = np.diff(key)
    if (together & ((rise < 0) | ((rise == 0) & (tokens[1:, DURATION] > 1)))).any():
        faults.append("notes of one onset stand in ascending pitch, grace notes first, no key twice")
    if tokens.shape[1] > 4:
        known = note & (tokens[:, BEAT_PERIOD] > 0)
        order = np.argsort(tick[known], kind="stable")
        t, b = tick[known][order], tokens[known, BEAT_PERIOD][order]
        if ((np.diff(t) == 0) & (np.diff(b) != 0)).any():
            faults.append("the notes of one onset share a beat period")
    return faults
