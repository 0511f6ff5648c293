"""Convert tokens to a written score. Tokens contain beats only; bars, keys and staves are estimated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.models.composer.conditions import key_name
from engine.music.edition import COMPOSED
from engine.music.engraving.hands import split_hands, too_wide, within_reach
from engine.music.engraving.spelling import spell, within_key
from engine.music.keys import MAJOR_PROFILE, MINOR_PROFILE, in_minor, major_tonic
from engine.music.types import MARK_NAMES, Marks, Measures, Performance, Remark, Score

BEATS_IN_BAR = (4, 3, 2)
PREFERENCE = (0.0, 0.05, 0.15)  # of downbeat contrast that a metre of 4, 3, 2 beats has to be ahead
_SHARPEST = 6  # signatures have up to six sharps or flats
_GUESSED = Remark(0, "", "the model writes beats only: barlines, key and staves are estimated")


def metre_of(onset: NDArray, duration: NDArray, pitch: NDArray) -> tuple[int, int]:
    """Beats in a bar (2, 3 or 4) and the beat, counted from 0, on which the first whole bar begins.

    onset, duration  (n,) beats
    pitch            (n,) MIDI numbers

    Each beat weighs as much as the notes that begin on it: longer and lower notes more. The metre is the one whose
    downbeats weigh most against its other beats, in standard deviations of all beats.
    """
    on_beat = np.abs(onset - np.round(onset)) < 1e-6
    beat = np.round(onset[on_beat]).astype(int)
    if not len(beat):
        return 4, 0
    low = np.clip((72 - pitch[on_beat]) / 24, 0.25, 2)
    weight = np.bincount(beat, weights=np.minimum(duration[on_beat], 4) * low)
    if len(weight) < 2 * max(BEATS_IN_BAR) or weight.std() == 0:
        return 4, 0
    place, best = np.arange(len(weight)), (-np.inf, 4, 0)
    for beats, behind in zip(BEATS_IN_BAR, PREFERENCE, strict=True):
        for first in range(beats):
            down = place % beats == first
            contrast = (weight[down].mean() - weight[~down].mean()) / weight.std() - behind
            best = max(best, (contrast, beats, first), key=lambda found: found[0])
    return best[1], best[2]


def signature_of(pitch: NDArray, duration: NDArray) -> int:
    """The key signature (sharps positive) whose major or minor profile (Krumhansl and Kessler 1982) correlates best."""
    weight = np.bincount(pitch % 12, weights=np.maximum(duration, 0.1), minlength=12)
    if weight.std() == 0:
        return 0

    def fit(fifths: int) -> float:
        around = np.roll(weight, -major_tonic(fifths))
        minor = np.roll(MINOR_PROFILE, 9)
        return max(float(np.corrcoef(around, profile)[0, 1]) for profile in (MAJOR_PROFILE, minor))

    return max(sorted(range(-_SHARPEST, _SHARPEST + 1), key=abs), key=fit)


def engraved(score: Score, performance: Performance, model: str) -> Score:
    """The same notes in the same order with barlines, key, hands and tempo.

    score        quarters are the tokens' beats, as `engine.tokens.decode` returns it
    performance  note i is note i of the score; its pace becomes the tempo
    model        named as the composer
    """
    onset, length, pitch = score.onset_quarter, score.duration_quarter, score.pitch.astype(int)
    beats, first = metre_of(onset, length, pitch)
    fifths, tempo = signature_of(pitch, length), tempo_of(onset, performance.onset_sec[: len(score)])
    pickup = first % beats
    bars = int(np.ceil(max(float((onset + length).max()) - pickup, 1) / beats))
    start, span = pickup + beats * np.arange(bars, dtype=float), np.full(bars, float(beats))
    position = np.zeros(bars)
    if pickup and (onset < pickup - 1e-6).any():
        start, span = np.concatenate([[0.0], start]), np.concatenate([[float(pickup)], span])
        position = np.concatenate([[float(beats - pickup)], position])
    shift = float(start[1]) if len(start) > bars else float(start[0])  # a pickup lies before the first barline
    m = len(start)
    number = np.arange(m) + (0 if m > bars else 1)
    measures = Measures(start - shift, span, position, np.full(m, beats), np.full(m, 4), np.full(m, fifths), number)
    staff = within_reach(onset, length, pitch, split_hands(onset, length, pitch))
    marks = np.zeros((len(score), len(MARK_NAMES)), np.int16)
    marks[:, MARK_NAMES.index("tempo_bpm")] = round(tempo)
    marks[:, MARK_NAMES.index("arpeggio")] = too_wide(onset, pitch, staff)
    made = replace(
        score, onset_quarter=onset - shift, spelling=within_key(spell(pitch, fifths), fifths), staff=staff,
        marks=Marks(marks), measures=measures, composer=f"{COMPOSED}, {model}", tempo_bpm=tempo, remarks=(_GUESSED,),
    )  # fmt: skip
    return replace(made, title=f"Passage in {key_name(fifths, in_minor(made))}")


def tempo_of(onset_quarter: NDArray, onset_sec: NDArray) -> float:
    """Quarters a minute of a performance, 20 to 300: the slope through all its onsets."""
    if len(onset_sec) < 2 or np.ptp(onset_quarter) < 1e-6 or np.ptp(onset_sec) < 1e-6:
        return 100.0
    slope = np.polyfit(onset_quarter, onset_sec, 1)[0]
    return float(np.clip(60 / max(slope, 1e-3), 20, 300))
