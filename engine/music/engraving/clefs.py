"""Choice of clefs: minimise ledger lines plus the cost of clef changes."""

from __future__ import annotations

from collections.abc import Sequence

SIGNS = {"G": 2, "F": 4}  # and their lines
_RANGE = {"G": (57, 84), "F": (36, 64)}  # MIDI numbers within two ledger lines
_CHANGE = 36.0  # cost of a change, in semitones beyond that range


def choose_clefs(bars: Sequence[Sequence[int]], usual: str) -> list[str]:
    """ "G" or "F" for each bar of a staff, with minimum total cost.

    bars   MIDI numbers in each bar
    usual  the staff's default clef

    >>> choose_clefs([[48, 52], [72, 76, 79, 84, 79, 76], [72, 76, 79, 84], []], "F")
    ['F', 'G', 'G', 'G']
    """
    signs = tuple(SIGNS)
    best = [0.0 if sign == usual else _CHANGE for sign in signs]
    came: list[list[int]] = []
    for pitches in bars:
        from_ = [min(range(2), key=lambda k, to=to: best[k] + _CHANGE * (k != to)) for to in range(2)]
        came.append(from_)
        best = [
            best[k] + _CHANGE * (k != to) + sum(_beyond(p, signs[to]) for p in pitches) for to, k in enumerate(from_)
        ]
    at = min(range(2), key=lambda k: best[k])
    out = []
    for from_ in reversed(came):
        out.append(signs[at])
        at = from_[at]
    return out[::-1]


def _beyond(pitch: int, sign: str) -> float:
    low, high = _RANGE[sign]
    far = max(low - pitch, pitch - high, 0)
    return far + far * far / 16  # one note on six ledger lines is worse than six on one
