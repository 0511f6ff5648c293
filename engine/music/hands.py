"""Which hand plays which note, where nothing says so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FINGERS = 20  # more notes at one time are no chord of two hands


def split_hands(onset: NDArray, duration: NDArray, pitch: NDArray) -> NDArray[np.int8]:
    """Divide one stream between two hands: each chord is cut where both hands move least and no span passes a tenth.

    onset, duration  (n,) quarters, ascending onsets; pitch (n,) MIDI numbers, ascending within a chord
    returns          (n,) staff, 1 or 2; notes still sounding count for the span

    >>> split_hands(np.array([0, 0, 1, 2]), np.array([3, 1, 1, 1]), np.array([48, 72, 74, 76])).tolist()
    [2, 1, 1, 1]
    """
    staff = np.ones(len(pitch), np.int8)
    right, left = 72.0, 48.0  # where the hands are, a running mean
    held: list[tuple[float, int, int]] = []  # (end, pitch, staff)
    starts = np.flatnonzero(np.concatenate([[True], np.diff(onset) > 1e-9]))
    for first, stop in zip(starts, [*starts[1:], len(pitch)], strict=True):
        held = [h for h in held[-_FINGERS:] if h[0] > onset[first] + 1e-9]
        chord = pitch[first:stop]  # ascending
        if len(chord) > _FINGERS:
            staff[first:stop][chord < (left + right) / 2] = 2
            continue
        costs = []
        for cut in range(len(chord) + 1):
            low, high = chord[:cut], chord[cut:]
            cost = np.abs(low - left).sum() + np.abs(high - right).sum()
            for hand, notes in ((2, low), (1, high)):
                reach = [*notes, *(p for _, p, s in held if s == hand)] if len(notes) else []
                cost += 20 * max(0, max(reach) - min(reach) - 16) if reach else 0
            costs.append(cost)
        cut = int(np.argmin(costs))
        staff[first : first + cut] = 2
        if cut:
            left += 0.3 * (chord[:cut].mean() - left)
        if cut < len(chord):
            right += 0.3 * (chord[cut:].mean() - right)
        right = max(right, left + 5)
        held += [(onset[i] + duration[i], int(pitch[i]), int(staff[i])) for i in range(first, stop)]
    return staff
