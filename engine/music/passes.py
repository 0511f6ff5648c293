"""Passes of repeats in an unfolded score, and those that a performance omits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Alignment, BadInput, Measures, Remark, Score

MIN_SHARE = 0.3  # minimum share of the score in a performance to measure
MIN_MATCH = 0.5  # of the notes of the shorter one, score or performance, that match: chance alone finds up to 0.42


def passes(measures: Measures) -> list[range]:
    """Measures of each pass that can be omitted: those before or after a jump back.

    >>> m = Measures(*(np.zeros(5) for _ in range(3)), *(np.ones(5, int) for _ in range(3)), np.array([1, 2, 1, 2, 3]))
    >>> passes(m)
    [range(0, 2), range(2, 4)]
    """
    number = measures.number.tolist()
    out = []
    for k in range(1, len(number)):
        if number[k] >= number[k - 1]:
            continue
        first = next((j for j in range(k - 1, -1, -1) if number[j] == number[k]), None)
        if first is None:
            continue
        last = max(number[first:k])
        after = next((i for i in range(k, len(number)) if number[i] > last), len(number))
        same = next((i for i in range(k, after) if i > k and number[i] <= number[i - 1]), after)
        out += [range(first, k), range(k, same)]
    return list(dict.fromkeys(out))


def measure_of(score: Score) -> NDArray[np.int64]:
    """Index of the measure in which each note starts, (n,)."""
    i = np.searchsorted(score.measures.onset_quarter, score.onset_quarter + 1e-6, side="right") - 1
    return np.clip(i, 0, len(score.measures) - 1)


def left_out(score: Score, alignment: Alignment) -> list[range]:
    """The omitted passes, in order, none inside another. The other pass must be played, so a missing passage is not
    one.
    """
    measure = measure_of(score)
    written = np.bincount(measure, minlength=len(score.measures))
    played = np.bincount(measure[alignment.score_index], minlength=len(score.measures))
    out: list[range] = []
    for p in passes(score.measures):
        inside = slice(p.start, p.stop)
        numbers = set(score.measures.number[inside].tolist())
        elsewhere = np.isin(score.measures.number, list(numbers))
        elsewhere[inside] = False
        missing = written[inside].sum() > 0 and played[inside].sum() == 0 and played[elsewhere].sum() > 0
        if missing and not any(p.start < o.stop and o.start < p.stop for o in out):
            out.append(p)
    return sorted(out, key=lambda p: p.start)


def found_share(score: Score, alignment: Alignment) -> float:
    """The share of the written notes that were played, omitted repeats excluded."""
    measure = measure_of(score)
    asked = ~np.isin(measure, [k for p in left_out(score, alignment) for k in p])
    return len(alignment) / max(int(asked.sum()), 1)


def check_found(score: Score, alignment: Alignment) -> float:
    """The found share. Raises BadInput if it is under MIN_SHARE, or if fewer than two onsets are matched."""
    share = found_share(score, alignment)
    if share < MIN_SHARE or len(np.unique(score.onset_quarter[alignment.score_index])) < 2:
        raise BadInput(
            f"{share:.0%} of the score's notes are found in this performance; {MIN_SHARE:.0%} are needed, choose a "
            "performance of this piece."
        )
    return share


def repeat_remarks(score: Score, alignment: Alignment) -> list[Remark]:
    """One remark for each omitted repeat."""
    out = []
    for p in left_out(score, alignment):
        first, last = (int(score.measures.number[k]) for k in (p.start, p.stop - 1))
        out.append(Remark(first, "repeat", f"the performance plays bars {first} to {last} once less than written"))
    return out
