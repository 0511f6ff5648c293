"""Pitch spelling: note names for MIDI numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FIFTHS = {"F": -1, "C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5}  # each letter on the line of fifths
# Position on the line of fifths (F -1, C 0, G 1 ...) of the interval of 0..11 semitones above a tonic: P1 m2 M2 m3 ...
_INTERVAL = np.array([0, -5, 2, -3, 4, -1, 6, 1, -4, 3, -2, 5])
_FIRST_NAME = np.array([0, 7, 2, -3, 4, -1, 6, 1, -4, 3, -2, 5])  # C C# D Eb E F F# G Ab A Bb B
_FAR = 7  # fifths from the middle of a key beyond which a name is replaced
_BEFORE, _AFTER = 10, 40  # notes of context, Meredith's values


def spell(pitch: NDArray, fifths: int | None = None) -> NDArray[np.int8]:
    """Spell notes given in playing order: algorithm ps13s1 of Meredith (J. New Music Research 35, 2006).

    pitch    (n,) MIDI numbers in order of onset, then pitch
    fifths   the key signature at the start, if known; it decides between F sharp and G flat major, for example
    returns  (n,) tonal pitch class on the line of fifths: F -1, C 0, G 1, ... F# 6, Bb -2

    >>> spell(np.array([62, 64, 66, 67, 69, 71, 73, 74])).tolist()
    [2, 4, 6, 1, 3, 5, 7, 2]
    """
    chroma = np.asarray(pitch, int) % 12
    n = len(chroma)
    if n == 0:
        return np.zeros(0, np.int8)
    total = np.vstack([np.zeros((1, 12), int), np.cumsum(np.eye(12, dtype=int)[chroma], axis=0)])
    i = np.arange(n)
    # weight (n, 12): weight of each tonic; tonic (12,): its name, from the first note
    weight = total[np.minimum(i + _AFTER, n)] - total[np.maximum(i - _BEFORE, 0)]
    tonic = _FIRST_NAME[chroma[0]] - _INTERVAL[(chroma[0] - np.arange(12)) % 12]
    name = tonic + _INTERVAL[(chroma[:, None] - np.arange(12)) % 12]  # (n, 12) the note's name under each tonic
    strength = np.zeros((n, 7))
    for letter in range(7):
        strength[:, letter] = np.where(name % 7 == letter, weight, 0).sum(1)
    letter = strength.argmax(1)
    spelling = np.where(name % 7 == letter[:, None], name, 99).min(1)
    return _near_key(spelling, fifths).astype(np.int8)


def _near_key(spelling: NDArray, fifths: int | None) -> NDArray:
    """Move all names by an enharmonic (12 fifths) to lie around the key, and no name past double accidentals."""
    centre = 2 + (fifths if fifths is not None else 0)  # a major scale lies around its tonic's second fifth
    spelling = spelling - 12 * int(np.round((np.median(spelling) - centre) / 12))
    low, high = -15, 19  # F double flat, B double sharp
    return np.where(spelling < low, spelling + 12, np.where(spelling > high, spelling - 12, spelling))


def spelling_of_pitch(pitch: NDArray, spelling: NDArray) -> NDArray[np.int8]:
    """Replace each name that does not match its pitch by the default one (C, C#, D, Eb ...), both (n,)."""
    chroma = np.asarray(pitch, int) % 12
    return np.where((np.asarray(spelling, int) * 7) % 12 == chroma, spelling, _FIRST_NAME[chroma]).astype(np.int8)


def within_key(spelling: NDArray, fifths: int) -> NDArray[np.int8]:
    """Names with enharmonic replacement of those far from the key signature: E for F flat in C major.

    spelling  (n,) tonal pitch classes on the line of fifths

    >>> within_key(np.array([-8, -3, 6, 10]), 0).tolist()
    [4, -3, 6, -2]
    """
    off = np.asarray(spelling, int) - (fifths + 2.5)  # centre of the major scale, slightly sharper for minor
    return (np.asarray(spelling, int) - 12 * np.sign(off) * (np.abs(off) > _FAR)).astype(np.int8)
