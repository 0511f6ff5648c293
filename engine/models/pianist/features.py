"""Input features of the Pianist, one row per note, the same in training and use.

Every optional notation (dynamics, slurs, staff, composer) has a value for "unknown", so a plain MIDI file works too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.music.expression import beat_quarters, chords, measure_of, score_beats
from engine.music.types import TREMOLO, Score

COMPOSERS = (
    "", "Bach", "Balakirev", "Beethoven", "Brahms", "Chopin", "Debussy", "Glinka", "Haydn", "Liszt", "Mozart",
    "Prokofiev", "Rachmaninoff", "Ravel", "Schubert", "Schumann", "Scriabin",
)  # fmt: skip
# categorical columns and their sizes; index 0 is "unknown" if that can occur
CATEGORIES = {"pitch": 128, "tonal": 16, "staff": 3, "tempo_word": 7, "metre": 16, "composer": len(COMPOSERS)}
STRUCTURE = (
    "bar_sin1", "bar_cos1", "bar_sin2", "bar_cos2", "bar_sin4", "bar_cos4",
    "beat_sin", "beat_cos", "on_beat", "downbeat",
    "duration", "duration_quarter", "gap_next", "gap_previous", "overlap", "grace", "chord_size", "highest", "lowest",
    "below_top", "above_bottom", "pitch_local",
    "melody_step_back", "melody_step_on", "voice_step_back", "voice_step_on",
    "density_1", "density_4", "density_16", "beat_length", "to_end", "from_start",
    "piece_density", "piece_pitch", "piece_duration",
)  # fmt: skip
MARKED = (
    "velocity", "velocity_known", "velocity_step", "velocity_piece", "crescendo", "diminuendo",
    "accent", "marcato", "staccato", "staccatissimo", "tenuto", "slurred", "slur_end", "fermata",
    "arpeggio", "trill", "mordent", "turn",
    "beat_period", "beat_period_known", "slower", "faster", "tempo_known",
)  # fmt: skip
DYNAMICS = (
    "velocity", "velocity_known", "velocity_step", "velocity_piece", "crescendo", "diminuendo", "accent", "marcato",
)  # fmt: skip
NUM_FEATURES = len(STRUCTURE) + len(MARKED)


@dataclass(frozen=True)
class Features:
    """Input of the Pianist for n notes.

    category    (n, 6) int64, columns as in CATEGORIES
    value       (n, F) float32, columns STRUCTURE then MARKED, roughly -3..3
    onset_beat  (n,) float32 beats
    beat_index  (n,) int64 which beat a note falls in (notes of one beat share their tempo)
    chord_index (n,) int64 which chord a note belongs to (notes of one chord share the pedal)
    """

    category: NDArray[np.int64]
    value: NDArray[np.float32]
    onset_beat: NDArray[np.float32]
    beat_index: NDArray[np.int64]
    chord_index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.onset_beat)


def composer_index(name: str) -> int:
    """Index into COMPOSERS of the composer whose surname stands in `name`; 0 for any other.

    >>> COMPOSERS[composer_index("J. S. Bach (1685-1750)")]
    'Bach'
    """
    for i, surname in enumerate(COMPOSERS[1:], 1):
        if re.search(rf"\b{surname[:9]}", name, re.IGNORECASE) and not re.search(r"[CJ]\. ?(P\. ?E|C)\. ?Bach", name):
            return i
    return 0


def score_features(score: Score, composer: int | None = None) -> Features:
    """Compute the Pianist's input from a score; `composer` overrides the score's composer."""
    n, m, marks = len(score), score.measures, score.marks
    c = chords(score)
    onset_beat, duration_beat = score_beats(score)
    measure = measure_of(score)
    beat_length = beat_quarters(m.ts_num, m.ts_den)[measure]
    bar_length = (m.ts_num * 4.0 / m.ts_den)[measure]
    in_bar = score.onset_quarter - m.onset_quarter[measure] + m.position_quarter[measure]
    phase_bar, phase_beat = in_bar / bar_length, in_bar / beat_length
    beat_index = np.unique(np.floor(in_bar / beat_length + 1e-4) + 4096 * measure, return_inverse=True)[1]
    pitch = score.pitch.astype(float)
    f: dict[str, NDArray] = {}
    for k in (1, 2, 4):
        f[f"bar_sin{k}"], f[f"bar_cos{k}"] = np.sin(2 * np.pi * k * phase_bar), np.cos(2 * np.pi * k * phase_bar)
    f["beat_sin"], f["beat_cos"] = np.sin(2 * np.pi * phase_beat), np.cos(2 * np.pi * phase_beat)
    f["on_beat"] = np.abs(phase_beat - phase_beat.round()) < 1e-3
    f["downbeat"] = np.abs(phase_bar - phase_bar.round()) < 1e-3
    f["duration"] = np.log2(np.maximum(duration_beat, 1 / 16)) / 2
    f["duration_quarter"] = np.log2(np.maximum(score.duration_quarter, 1 / 16)) / 2
    gap = np.diff(c.beat)
    gap_next, gap_back = np.append(gap, 4.0)[c.index], np.append(4.0, gap)[c.index]
    f["gap_next"], f["gap_previous"] = (
        np.log2(np.clip(gap_next, 1 / 16, 16)) / 2,
        np.log2(np.clip(gap_back, 1 / 16, 16)) / 2,
    )
    f["overlap"] = np.clip(np.log2(np.maximum(duration_beat, 1 / 16) / np.maximum(gap_next, 1 / 16)), -3, 3) / 2
    f["grace"] = score.grace
    groups = len(c.quarter)
    top, bottom = np.full(groups, -1.0), np.full(groups, 200.0)
    np.maximum.at(top, c.index, pitch)
    np.minimum.at(bottom, c.index, pitch)
    size = np.bincount(c.index, minlength=groups)
    f["chord_size"] = np.log2(size)[c.index] / 2
    f["highest"], f["lowest"] = (pitch == top[c.index]), (pitch == bottom[c.index])
    f["below_top"], f["above_bottom"] = (top[c.index] - pitch) / 12, (pitch - bottom[c.index]) / 12
    f["pitch_local"] = (pitch - _running_mean(onset_beat, pitch, 4.0)) / 12
    step = np.clip(np.diff(top), -24, 24) / 6
    f["melody_step_back"], f["melody_step_on"] = np.append(0, step)[c.index], np.append(step, 0)[c.index]
    f["voice_step_back"], f["voice_step_on"] = _voice_steps(score)
    for width in (1, 4, 16):
        f[f"density_{width}"] = np.log2(_density(onset_beat, width)) / 2 - 1
    f["beat_length"] = np.log2(beat_length)
    f["to_end"] = np.log2(1 + onset_beat[-1] - onset_beat) / 3 - 1
    f["from_start"] = np.log2(1 + onset_beat - onset_beat[0]) / 3 - 1
    span = max(onset_beat[-1] - onset_beat[0], 1.0)
    f["piece_density"] = np.full(n, np.log2(n / span) / 2 - 1)
    f["piece_pitch"] = np.full(n, (pitch.mean() - 64) / 6)
    f["piece_duration"] = np.full(n, f["duration"].mean())
    f |= _mark_features(score, beat_length)
    value = np.stack([np.asarray(f[k], np.float32) for k in STRUCTURE + MARKED], axis=1)
    known_composer = composer_index(score.composer) if composer is None else composer
    category = np.stack(
        [
            score.pitch.clip(0, 127), (score.spelling - m.fifths[measure] + 7).clip(0, 14) + 1, score.staff.clip(0, 2),
            marks["tempo_word"].clip(0, 6), m.ts_num[measure].clip(0, 15), np.full(n, known_composer),
        ],
        axis=1,
    )  # fmt: skip
    return Features(category.astype(np.int64), value, onset_beat.astype(np.float32), beat_index, c.index)


def _mark_features(score: Score, beat_length: NDArray) -> dict[str, NDArray]:
    marks = score.marks
    velocity = marks["written_velocity"].astype(float)
    known = velocity > 0
    mean = velocity[known].mean() if known.any() else 0.0
    bpm = marks["tempo_bpm"].astype(float)
    period = np.log2(60.0 / np.clip(np.where(bpm > 0, bpm, 60.0), 10, 400) * beat_length)
    return {
        "velocity": np.where(known, (velocity - 70) / 25, 0), "velocity_known": known,
        "velocity_step": np.where(known, (velocity - _running_mean(score.onset_quarter, velocity, 16.0)) / 16, 0),
        "velocity_piece": np.where(known, (velocity - mean) / 16, 0),
        "crescendo": marks["hairpin"] > 0, "diminuendo": marks["hairpin"] < 0,
        "accent": marks["accent"] == 1, "marcato": marks["accent"] == 2,
        "staccato": marks["staccato"] == 1, "staccatissimo": marks["staccato"] == 2, "tenuto": marks["tenuto"] > 0,
        "slurred": marks["slur"] == 1, "slur_end": marks["slur"] == 2, "fermata": marks["fermata"] > 0,
        "arpeggio": marks["arpeggio"] > 0,
        "trill": (marks["ornament"] == 1) | (marks["ornament"] > TREMOLO),
        "mordent": np.isin(marks["ornament"], (2, 4)),
        "turn": np.isin(marks["ornament"], (3, 5)),
        "beat_period": np.where(bpm > 0, period + 1, 0), "beat_period_known": bpm > 0,
        "slower": marks["tempo_change"] < 0, "faster": marks["tempo_change"] > 0,
        "tempo_known": marks["tempo_word"] > 0,
    }  # fmt: skip


def _running_mean(position: NDArray, values: NDArray, width: float) -> NDArray:
    """Mean of `values` over all notes within `width` either side of each note."""
    low = np.searchsorted(position, position - width, side="left")
    high = np.searchsorted(position, position + width, side="right")
    total = np.concatenate([[0.0], np.cumsum(values)])
    return (total[high] - total[low]) / (high - low)


def _density(onset_beat: NDArray, width: float) -> NDArray:
    """Notes per beat within `width` beats either side."""
    low = np.searchsorted(onset_beat, onset_beat - width, side="left")
    high = np.searchsorted(onset_beat, onset_beat + width, side="right")
    return (high - low) / (2 * width)


def _voice_steps(score: Score) -> tuple[NDArray, NDArray]:
    """Interval from the previous and to the next note of the same staff and voice, in half octaves, clipped."""
    key = score.staff.astype(np.int64) * 1000 + score.voice
    order = np.lexsort((score.pitch, score.onset_quarter, key))
    step = np.clip(np.diff(score.pitch[order].astype(float)), -24, 24) / 6
    step[np.diff(key[order]) != 0] = 0
    back, on = np.empty(len(score)), np.empty(len(score))
    back[order], on[order] = np.append(0, step), np.append(step, 0)
    return back, on
