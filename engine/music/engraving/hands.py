"""Assignment of notes to hands, for scores without staves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FINGERS = 20  # larger chords are not split
_REACH = 16  # largest span of one hand in semitones, a tenth


def split_hands(onset: NDArray, duration: NDArray, pitch: NDArray) -> NDArray[np.int8]:
    """Divide one stream between two hands: each chord is split to minimise hand movement with spans up to a tenth.

    onset, duration  (n,) quarters, ascending onsets; pitch (n,) MIDI numbers, ascending within a chord
    returns          (n,) staff, 1 or 2; sounding notes are included in the span

    >>> split_hands(np.array([0, 0, 1, 2]), np.array([3, 1, 1, 1]), np.array([48, 72, 74, 76])).tolist()
    [2, 1, 1, 1]
    """
    staff = np.ones(len(pitch), np.int8)
    right, left = 72.0, 48.0  # positions of the hands, running means
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
                cost += 20 * max(0, max(reach) - min(reach) - _REACH) if reach else 0
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


def within_reach(onset: NDArray, duration: NDArray, pitch: NDArray, staff: NDArray) -> NDArray[np.int8]:
    """Split chords that are too wide for one hand if the other hand is free.

    onset, duration  (n,) quarters, ascending onsets; pitch (n,) MIDI numbers; staff (n,) 1 upper, 2 lower
    returns          (n,) staff; a chord is split to minimise the wider part

    >>> within_reach(np.zeros(4), np.ones(4), np.array([36, 43, 64, 72]), np.array([2, 2, 2, 2])).tolist()
    [2, 2, 1, 1]
    """
    out = np.array(staff, np.int8)
    end = onset + duration
    starts = np.flatnonzero(np.concatenate([[True], np.diff(onset) > 1e-9]))
    for first, stop in zip(starts, [*starts[1:], len(pitch)], strict=True):
        rows = np.arange(first, stop)
        rows = rows[np.argsort(pitch[rows], kind="stable")]
        hands = [rows[out[rows] == hand] for hand in (2, 1)]
        widths = [np.ptp(pitch[found]) if len(found) else 0 for found in hands]
        held = np.flatnonzero(end[:first] > onset[first] + 1e-9)
        alone = not (len(hands[0]) and len(hands[1]))
        if max(widths) <= _REACH or (alone and (out[held] != out[first]).any()):
            continue
        chord = pitch[rows]
        cut = min(range(1, len(rows)), key=lambda k: _width_of_cut(chord, k))
        if _width_of_cut(chord, cut) < max(widths):
            out[rows[:cut]], out[rows[cut:]] = 2, 1
    return out


def _width_of_cut(chord: NDArray, cut: int) -> int:
    """Semitones of the wider part of an ascending chord that is divided between two hands."""
    return max(int(np.ptp(chord[:cut])), int(np.ptp(chord[cut:])))


def too_wide(onset: NDArray, pitch: NDArray, staff: NDArray) -> NDArray[np.bool_]:
    """(n,) flags of chords to roll: notes of one staff with a common onset that span more than a tenth.

    >>> too_wide(np.array([0, 0, 0, 1]), np.array([36, 48, 64, 36]), np.array([2, 2, 2, 2])).tolist()
    [True, True, True, False]
    """
    out = np.zeros(len(pitch), bool)
    _, chord = np.unique(np.stack([np.round(onset * 480), staff]), axis=1, return_inverse=True)
    order = np.argsort(chord, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(chord[order])) + 1):
        out[rows] = np.ptp(pitch[rows]) > _REACH if len(rows) else False
    return out
