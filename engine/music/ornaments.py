"""Realisation of trills, mordents, turns and tremolos by the rules of their period.

C. P. E. Bach (Versuch, 1753) and Türk (1789) begin a trill on the note above; Hummel (1828) on the written note. The
auxiliary notes are those of the key signature. A note's strokes fill its written length.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.music.expression import beat_times, end_before_repeat, measure_of
from engine.music.types import TREMOLO, Performance, Score

TRILL, MORDENT, TURN, UPPER_MORDENT, INVERTED_TURN = 1, 2, 3, 4, 5
STROKE_SEC = 0.078  # of a trill, about 13 a second
SHORTEST_SEC = 0.045
_QUICK_SEC = 0.085  # of the quick notes of a mordent or turn
_SOFTER = 5  # velocity of an auxiliary note below the written one
_FROM_ABOVE = (
    r"\bJ\. ?S\. ?Bach|\bBach\b|Händel|Handel|Haendel|Scarlatti|Couperin|Rameau|Haydn|Mozart|Telemann|Froberger|Purcell"
)
_MAJOR = (0, 2, 4, 5, 7, 9, 11)


def from_above(composer: str) -> bool:
    """Whether trills of this composer begin on the note above: up to Mozart.

    >>> from_above("W. A. Mozart"), from_above("Frédéric Chopin"), from_above("")
    (True, False, False)
    """
    return re.search(_FROM_ABOVE, composer, re.IGNORECASE) is not None


def neighbour(pitch: int, fifths: int, up: bool) -> int:
    """The next note of the key signature above or below.

    >>> neighbour(64, 0, up=True), neighbour(64, 0, up=False), neighbour(64, 1, up=True)
    (65, 62, 66)
    """
    scale = {(7 * fifths + k) % 12 for k in _MAJOR}
    step = 1 if up else -1
    return next(pitch + step * k for k in (1, 2, 3) if (pitch + step * k) % 12 in scale)


def with_ornaments(score: Score, performance: Performance) -> Performance:
    """The performance with realised ornaments; only notes of the score's own length, no grace notes.

    Note i stays note i of the score: the first stroke on its written key. The other strokes follow after all notes.
    """
    kind = _of_chords(score)
    rows = np.flatnonzero((kind > 0) & ~score.grace & (score.duration_quarter > 0))
    if not len(rows):
        return performance
    _, sec, quarter = beat_times(score, performance)
    fifths = score.measures.fifths[measure_of(score)]
    onset, duration = np.array(performance.onset_sec), np.array(performance.duration_sec)
    velocity = np.array(performance.velocity)
    extra: list[tuple[float, float, int, int]] = []
    for i in rows.tolist():
        end = score.onset_quarter[i] + score.duration_quarter[i]
        at = np.asarray(np.interp(np.array([score.onset_quarter[i], end]), quarter, sec))
        if end > quarter[-1]:
            at[1] = sec[-1] + (end - quarter[-1]) * (sec[-1] - sec[-2]) / max(quarter[-1] - quarter[-2], 1e-6)
        length = max(float(at[1] - at[0]), 2 * SHORTEST_SEC)
        begin, held = float(onset[i]), float(duration[i])
        strokes = _strokes(int(kind[i]), int(score.pitch[i]), int(fifths[i]), length, float(score.duration_quarter[i]),
                           from_above(score.composer))  # fmt: skip
        times = begin + np.cumsum([0.0, *(seconds for _, seconds in strokes)])
        own = next(k for k, (pitch, _) in enumerate(strokes) if pitch == score.pitch[i])
        for k, (pitch, seconds) in enumerate(strokes):
            last = k == len(strokes) - 1
            sounding = max(held - (times[k] - begin), SHORTEST_SEC) if last else 0.95 * seconds
            loud = max(int(velocity[i]) - (0 if pitch == score.pitch[i] else _SOFTER), 1)
            if k == own:
                onset[i], duration[i] = times[k], sounding
            else:
                extra.append((float(times[k]), float(sounding), pitch, loud))
    added = np.array(extra, float).reshape(-1, 4)
    onset, pitch = np.concatenate([onset, added[:, 0]]), np.concatenate([performance.pitch, added[:, 2].astype(int)])
    duration = end_before_repeat(onset, np.concatenate([duration, added[:, 1]]), pitch)
    return replace(
        performance, onset_sec=onset, duration_sec=duration, pitch=pitch,
        velocity=np.concatenate([velocity, added[:, 3].astype(int)]),
    )  # fmt: skip


def _of_chords(score: Score) -> NDArray[np.int64]:
    """The ornament of each note, (n,); a tremolo applies to the whole chord, although one note has the sign."""
    kind = score.marks["ornament"].astype(np.int64)
    for i in np.flatnonzero(kind > TREMOLO):
        chord = (
            (np.abs(score.onset_quarter - score.onset_quarter[i]) < 1e-6) & (score.voice == score.voice[i])
            & (score.staff == score.staff[i]) & (score.duration_quarter == score.duration_quarter[i]) & ~score.grace
        )  # fmt: skip
        kind[chord] = np.maximum(kind[chord], kind[i])
    return kind


def _strokes(
    kind: int, pitch: int, fifths: int, length: float, quarters: float, above: bool
) -> list[tuple[int, float]]:
    """Key and seconds of each stroke of one note; the seconds add up to its length."""
    upper, lower = (neighbour(pitch, fifths, up) for up in (True, False))
    if kind >= TREMOLO:
        count = int(np.clip(round(quarters * 2 ** (kind - TREMOLO)), 2, max(length / SHORTEST_SEC, 2)))
        return [(pitch, length / count)] * count
    if kind == TRILL and length >= 4 * SHORTEST_SEC:
        count = int(np.clip(round(length / STROKE_SEC), 4, length / SHORTEST_SEC))
        first, second = (upper, pitch) if above else (pitch, upper)
        count -= count % 2 if above else 1 - count % 2  # end on the written note
        count = max(count, 4 if above else 5)
        return [((first, second)[k % 2], length / count) for k in range(count)]
    shape = {
        MORDENT: (pitch, lower, pitch), UPPER_MORDENT: (pitch, upper, pitch), TURN: (upper, pitch, lower, pitch),
        INVERTED_TURN: (lower, pitch, upper, pitch),
    }.get(kind, (pitch, upper, pitch))  # fmt: skip
    quick = min(_QUICK_SEC, length / len(shape))
    return [*((p, quick) for p in shape[:-1]), (shape[-1], length - quick * (len(shape) - 1))]
