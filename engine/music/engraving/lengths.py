"""Simplified note lengths for notation: common ends of chords, no small gaps or overlaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NEAR = 0.13  # quarters: an end this close to the next onset is moved to it
_GAP = 0.34  # of the time to the next onset: a smaller gap is articulation, not a rest
_SHORTEST = 0.25  # quarters: minimum length, if there is room


def plain_lengths(onset: NDArray, duration: NDArray, pitch: NDArray, staff: NDArray, bar_end: NDArray) -> NDArray:
    """Durations (n,) in quarters without small differences between notes of a staff.

    onset, duration, bar_end  (n,) quarters, bar_end that of the note's bar; pitch (n,) MIDI numbers, staff (n,)
    A note that clearly overlaps the next onset of its staff keeps its length, rounded to the bar's end or a nearby
    onset.

    >>> one = np.ones(3)
    >>> plain_lengths(np.array([0, 0, 1.0]), np.array([0.9, 0.5, 2.95]), np.array([60, 64, 62]), one, 4 * one)
    array([1., 1., 3.])
    """
    out = np.array(duration, float)
    for hand in np.unique(staff):
        rows = np.flatnonzero(staff == hand)
        times = np.unique(onset[rows].round(6))
        for k, at in enumerate(times):
            chord = rows[np.abs(onset[rows] - at) < 1e-5]
            end_of_bar = float(bar_end[chord[0]])
            following = [t for t in times[k + 1 : k + 2] if t < end_of_bar - 1e-6]
            until = float(following[0]) if following else end_of_bar
            out[chord] = _of_chord(at, out[chord], until, times)
    struck = np.lexsort((onset, pitch))
    again = np.flatnonzero(np.diff(pitch[struck]) == 0)  # a key is released before its next stroke
    room = onset[struck[again + 1]] - onset[struck[again]]
    out[struck[again]] = np.where(room > 1e-6, np.minimum(out[struck[again]], room), out[struck[again]])
    return out


def _of_chord(at: float, lengths: NDArray, until: float, times: NDArray) -> NDArray:
    """Lengths of the notes of a staff that begin together; `until` is its next onset or the end of the bar."""
    room = until - at
    ends = at + lengths
    held = ends > until + _NEAR
    out = lengths.copy()
    if (~held).any():
        longest = float(lengths[~held].max())
        longest = room if room - longest <= max(_NEAR, _GAP * room) else max(longest, min(_SHORTEST, room))
        out[~held] = longest
    for i in np.flatnonzero(held):
        near = times[np.abs(times - ends[i]) <= _NEAR]
        out[i] = float(near[0]) - at if len(near) else out[i]
    return out
