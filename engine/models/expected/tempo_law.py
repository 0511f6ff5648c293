"""Enforce the written tempo: marks, words and changes set the tempo of every beat; the expected curve varies around it.

Of a hidden playback tempo (`<sound tempo>`, a MIDI tempo) only the changes are used, not the level, because most
programs write a default. One mechanism handles metronome marks, tempo words, `Score.tempo_bpm`, ritardando and
accelerando; the networks get the same marks only as features. Units: log2 seconds per quarter.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from engine.models.expected.beats import BeatGrid
from engine.music.expression import beat_quarters, measure_of
from engine.music.types import Score

# usual range of each class of tempo words (`in_force.TEMPO_WORDS`), felt beats a minute
WORD_RANGE = {1: (40, 66), 2: (54, 80), 3: (66, 104), 4: (84, 132), 5: (108, 176), 6: (160, 208)}
RIT_OCTAVES, ACCEL_OCTAVES = 0.22, 0.20  # minimum effect of a written change at its end
PRINTED_GIVE = 0.10  # tolerance of a metronome mark towards the predicted tempo, 7 %
FERMATA_OCTAVES = 0.8  # minimum lengthening of the last beat under a fermata
CURVE_LIMITS = (-1.2, 2.2)  # of a beat relative to the written tempo; estimated, not measured
STEP_LIMITS = (-1.6, 1.8)  # from one beat to the next, likewise


def pace(score: Score, grid: BeatGrid, curve: NDArray, own: float) -> NDArray[np.float64]:
    """log2 seconds a quarter on each beat, (b,): written tempo plus expected curve.

    curve  (b,) octaves about the written tempo
    own    mean log2 seconds a quarter of the performer without a written tempo
    """
    step = np.log2(np.diff(grid.seconds) / np.diff(grid.quarter))
    moved = _with_changes(score, grid, guarded(curve))
    moved = _with_holds(score, grid, moved - np.median(moved))
    printed = len(score.events.at("metronome")) > 0 and bool((score.marks["tempo_bpm"] > 0).any())
    if score.tempo_bpm > 0:  # the average over the piece
        length = (np.diff(grid.quarter) * np.exp2(step + moved)).sum()
        return step + moved + np.log2(60.0 / score.tempo_bpm * np.diff(grid.quarter).sum() / length)
    if printed:
        return step + moved + float(np.clip(own - (step + moved).mean(), -PRINTED_GIVE, PRINTED_GIVE))
    free = own - float((step + moved).mean())
    return step + moved + free + _into_range(score, grid, step + free)


def _into_range(score: Score, grid: BeatGrid, pace: NDArray) -> float:
    """Octaves that move the tempo into the range of the most frequent tempo word; 0 without a word or with a playback
    tempo."""
    word = score.marks["tempo_word"].clip(0, 6)
    if not (word > 0).any() or (score.marks["tempo_bpm"] > 0).any():
        return 0.0
    first = np.clip(np.searchsorted(score.onset_quarter, grid.quarter[:-1] + 0.02), 0, len(score) - 1)
    of_beat = word[first].astype(int)
    kind = int(np.bincount(of_beat[of_beat > 0]).argmax()) if (of_beat > 0).any() else int(word.max())
    here = of_beat == kind if (of_beat == kind).any() else np.ones(len(of_beat), bool)
    m = score.measures
    felt = beat_quarters(m.ts_num, m.ts_den)[measure_of(score)][first][here]
    now = float(np.median(pace[here] + np.log2(felt)))  # log2 seconds a felt beat
    low, high = WORD_RANGE[kind]
    return float(np.clip(now, np.log2(60.0 / high), np.log2(60.0 / low))) - now


def guarded(curve: NDArray) -> NDArray[np.float64]:
    """The curve with limited steps between beats."""
    out = np.clip(np.asarray(curve, np.float64) - np.median(curve), *CURVE_LIMITS)
    for i in range(1, len(out)):
        out[i] = np.clip(out[i], out[i - 1] + STEP_LIMITS[0], out[i - 1] + STEP_LIMITS[1])
    return out


def _with_changes(score: Score, grid: BeatGrid, curve: NDArray) -> NDArray[np.float64]:
    """The curve with every written ritardando and accelerando moving the pace by at least its usual amount."""
    change = score.marks["tempo_change"]
    if not change.any():
        return curve
    first = np.clip(np.searchsorted(score.onset_quarter, grid.quarter[:-1] - 0.02), 0, len(score) - 1)
    sign = np.sign(change[first]).astype(int)
    out = curve.copy()
    edges = np.flatnonzero(np.diff(sign, prepend=0, append=0))
    for start, end in pairwise(edges):
        if sign[start] == 0:
            continue
        slower = sign[start] < 0
        before = np.median(out[max(start - 8, 0) : start]) if start else 0.0
        wanted = RIT_OCTAVES if slower else -ACCEL_OCTAVES
        there = out[start + (end - start) // 2 : end].mean() - before
        lacking = max(wanted - there, 0.0) if slower else min(wanted - there, 0.0)
        ramp = np.linspace(0, 1, end - start + 1)[1:]
        out[start:end] += lacking * ramp * 4 / 3
        if not slower and not (sign[end:] != 0).any() and not _resets(score, grid, end):
            out[end:] += lacking  # without a new tempo the piece keeps the faster tempo
    return out


def _with_holds(score: Score, grid: BeatGrid, curve: NDArray) -> NDArray[np.float64]:
    """The curve with the last beat of every note or rest under a fermata held."""
    under = score.marks["fermata"] > 0
    ends = (score.onset_quarter + score.duration_quarter)[under] - 0.05
    places = np.concatenate([np.maximum(ends, score.onset_quarter[under]), score.events.at("fermata")])
    out = curve.copy()
    for i in np.unique(grid.beat_of(places)):
        near = [out[k] for k in (i - 1, i + 1) if 0 <= k < len(out)]
        if near:
            out[i] = max(out[i], float(np.log2(np.mean(np.exp2(near)))) + FERMATA_OCTAVES)
    return out


def _resets(score: Score, grid: BeatGrid, beat: int) -> bool:
    """Whether a tempo is written at or after this beat."""
    at = np.concatenate([score.events.at("a_tempo"), score.events.at("slower"), score.events.at("faster")])
    return bool((at >= grid.quarter[min(beat, len(grid) - 1)] - 0.02).any())
