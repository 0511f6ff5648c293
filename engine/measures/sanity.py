"""Sanity checks of scores: key, loops, copying, valid notation."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from engine.music.keys import MAJOR_PROFILE, MINOR_PROFILE
from engine.music.types import Score

PATTERN = 8  # notes of a looped pattern
WINDOW = 12  # notes of the passages searched in the training music
_TICKS = 24  # a quarter, for comparing rhythms
_MAJOR_SCALE = np.array([1, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1], bool)
_MINOR_SCALE = np.array([1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 1], bool)  # natural minor and the raised leading note
_BASE = np.uint64(0x9E3779B97F4A7C15)


def estimate_key(pitch: NDArray, duration: NDArray) -> tuple[int, bool]:
    """(tonic pitch class, minor) with the Krumhansl-Kessler profile that correlates best with the durations per pitch
    class.

    pitch     (n,) MIDI numbers
    duration  (n,) in any unit; a grace note counts as the shortest other note

    >>> estimate_key(np.array([57, 60, 64, 68, 69]), np.ones(5))
    (9, True)
    """
    duration = np.asarray(duration, float)
    positive = duration[duration > 0]
    weight = np.where(duration > 0, duration, positive.min() if len(positive) else 1.0)
    profile = np.bincount(np.asarray(pitch, int) % 12, weight, 12)
    profile = profile - profile.mean()
    keys = np.stack([np.roll(k - k.mean(), t) for k in (MAJOR_PROFILE, MINOR_PROFILE) for t in range(12)])
    best = int((keys @ profile / np.linalg.norm(keys, axis=1)).argmax())
    return best % 12, best >= 12


def key_share(pitch: NDArray, duration: NDArray) -> float:
    """Share of the notes that belong to the estimated key: a major scale, or natural minor with the leading note.

    >>> key_share(np.array([60, 62, 64, 65, 67, 69, 71, 66]), np.ones(8))
    0.875
    """
    tonic, minor = estimate_key(pitch, duration)
    scale = _MINOR_SCALE if minor else _MAJOR_SCALE
    return float(scale[(np.asarray(pitch, int) - tonic) % 12].mean())


def _rhythm(onset_quarter: NDArray) -> NDArray[np.int64]:
    """Ticks from each onset to the next, 24 a quarter, (n - 1,)."""
    return np.diff(np.round(np.asarray(onset_quarter, float) * _TICKS).astype(np.int64))


def longest_loop(onset_quarter: NDArray, pitch: NDArray, pattern: int = PATTERN) -> int:
    """Maximum consecutive occurrences of a pattern of `pattern` notes, equal in pitch and rhythm; 1 is no repetition.

    onset_quarter, pitch  (n,) sorted by (onset, pitch). A whole note of rhythm is the distance to the next onset.

    >>> longest_loop(np.arange(25.0), np.append(np.tile(np.arange(60, 68), 3), 80))
    3
    """
    step = _rhythm(onset_quarter)
    same = (step[pattern:] == step[:-pattern]) & (np.asarray(pitch)[pattern:-1] == np.asarray(pitch)[: -pattern - 1])
    return 1 + _longest_run(same) // pattern


def looped_notes(onset_quarter: NDArray, pitch: NDArray, longest: int = 32) -> int:
    """The longest run of notes that repeats the previous `k` notes, over k from 1 to `longest`."""
    step, pitch = _rhythm(onset_quarter), np.asarray(pitch)[:-1]
    runs = [_longest_run((step[k:] == step[:-k]) & (pitch[k:] == pitch[:-k])) for k in range(1, longest + 1)]
    return max(runs, default=0)


def _longest_run(same: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def window_hashes(onset_quarter: NDArray, pitch: NDArray, window: int = WINDOW) -> NDArray[np.uint64]:
    """A number for each passage of `window` notes, equal for equal passages in any transposition and at any place.

    It is made of the pitch intervals and the onset differences (24 a quarter) between the notes, sorted by
    (onset, pitch); (n - window + 1,), empty for fewer notes.
    """
    n = len(pitch)
    if n < window:
        return np.zeros(0, np.uint64)
    step = np.diff(np.asarray(pitch, np.int64)) + 128
    token = (_rhythm(onset_quarter) * 256 + step).astype(np.uint64)
    with np.errstate(over="ignore"):
        token = _scramble(token)
        out = np.zeros(n - window + 1, np.uint64)
        for k in range(window - 1):
            out = _scramble(out * _BASE + token[k : k + len(out)])
    return out


def _scramble(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Originality:
    """The passages of the training music, as a sorted array of hashes."""

    def __init__(self, hashes: NDArray[np.uint64]):
        self.hashes = np.unique(hashes)

    @classmethod
    def of(cls, pieces: Iterable[tuple[NDArray, NDArray]], window: int = WINDOW) -> Originality:
        """The index of pieces given as (onset_quarter, pitch), sorted by (onset, pitch)."""
        return cls(np.concatenate([window_hashes(o, p, window) for o, p in pieces] or [np.zeros(0, np.uint64)]))

    def known(self, onset_quarter: NDArray, pitch: NDArray, window: int = WINDOW) -> NDArray[np.bool_]:
        """The passages of a piece that occur in the training music, (n - window + 1,)."""
        wanted = window_hashes(onset_quarter, pitch, window)
        if not len(self.hashes):
            return np.zeros(len(wanted), bool)
        at = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1)
        return self.hashes[at] == wanted


def score_faults(score: Score) -> list[str]:
    """Faults of a score that make it impossible to notate or play, in words; [] for none."""
    onset, end = score.onset_quarter, score.onset_quarter + score.duration_quarter
    ticks = np.concatenate([onset, end]) * _TICKS
    start, length = score.measures.onset_quarter, score.measures.duration_quarter
    struck = np.lexsort((onset, score.pitch))
    again = (np.diff(score.pitch[struck]) == 0) & ~score.grace[struck[1:]] & ~score.grace[struck[:-1]]
    checks = {
        "a pitch outside the piano's 21 to 108": (score.pitch < 21) | (score.pitch > 108),
        "a duration of nothing": ~score.grace & (score.duration_quarter <= 0),
        "a time off the grid of 24 to a quarter": np.abs(ticks - np.round(ticks)) > 1e-3,
        "a note before the first barline or after the last": (onset < start[0] - 1e-6)
        | (onset > score.measures.end_quarter - 1e-6),
        "a hand that is neither upper nor lower": ~np.isin(score.staff, (1, 2)),
        "a name that does not sound its pitch": (score.spelling.astype(int) * 7 - score.pitch) % 12 != 0,
        "one key struck twice at once": again & (np.diff(onset[struck]) < 1e-6),
        "a hole or an overlap between measures": np.abs(start[1:] - (start[:-1] + length[:-1])) > 1e-6,
    }
    return [what for what, found in checks.items() if found.any()]
