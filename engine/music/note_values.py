"""Lengths as notation writes them: note heads, dots, tuplets, beams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

TYPES = ("breve", "whole", "half", "quarter", "eighth", "16th", "32nd", "64th", "128th", "256th")  # 8 quarters and down
_TUPLETS = {3: (3, 2), 5: (5, 4), 7: (7, 4), 9: (9, 8)}  # odd part of the denominator: actual in the time of normal
_FIRST_BEAMED = TYPES.index("eighth")


@dataclass(frozen=True)
class NoteValue:
    """One note head's worth of time.

    length  quarters
    type    a name in TYPES, "" for a length that notation cannot write
    dots    0, 1, 2
    tuplet  (actual, normal), (1, 1) for none
    """

    length: Fraction
    type: str
    dots: int = 0
    tuplet: tuple[int, int] = (1, 1)

    @property
    def beams(self) -> int:
        """1 for an eighth, 2 for a sixteenth, ... 0 for longer notes."""
        return max(0, TYPES.index(self.type) - _FIRST_BEAMED + 1) if self.type else 0


def _single(length: Fraction) -> NoteValue | None:
    """The one note head, plain, dotted or in a tuplet, that lasts `length` quarters."""
    odd = length.denominator
    while odd % 2 == 0:
        odd //= 2
    actual, normal = _TUPLETS.get(odd, (1, 1))
    written = length * actual / normal
    for k, name in enumerate(TYPES):
        head = Fraction(8, 2**k)
        for dots in (0, 1, 2):
            if head * (2 - Fraction(1, 2**dots)) == written:
                return NoteValue(length, name, dots, (actual, normal))
    return None


def note_values(start: Fraction, length: Fraction) -> list[NoteValue]:
    """Split a length into note heads to be tied, in order; a length that fits one head stays whole.

    start   quarters into the measure: tuplets are split at the beat
    length  quarters, positive

    >>> [(v.type, v.dots) for v in note_values(Fraction(0), Fraction(5, 2))]
    [('half', 0), ('eighth', 0)]
    """
    whole = _single(length)
    if whole:
        return [whole]
    binary = length.denominator & (length.denominator - 1) == 0
    to_beat = Fraction(-(-start // 1)) - start or Fraction(1)
    if not binary and length > to_beat:
        return note_values(start, to_beat) + note_values(start + to_beat, length - to_beat)
    if not binary and length > 1:
        return note_values(start, Fraction(length // 1)) + note_values(start + length // 1, length % 1)
    odd = length.denominator
    while odd % 2 == 0:
        odd //= 2
    if odd > 1 and odd not in _TUPLETS:
        return [NoteValue(length, "")]
    actual, normal = _TUPLETS.get(odd, (1, 1))
    for k in range(len(TYPES)):
        head = Fraction(8, 2**k) * normal / actual
        if head < length:
            first = _single(head)
            if first:
                return [first, *note_values(start + head, length - head)]
    return [NoteValue(length, "")]


def beam_states(beams: Sequence[int], group: Sequence[int]) -> list[list[str]]:
    """MusicXML's beam words for each note of a voice, a list of one word per beam level.

    beams  how many beams each note has, 0 for a rest or a long note
    group  the beat each note lies in; beams do not leave a beat
    """
    out: list[list[str]] = []
    for i, count in enumerate(beams):
        words = []
        for level in range(1, count + 1):
            before = i > 0 and group[i - 1] == group[i] and beams[i - 1] >= level
            after = i + 1 < len(beams) and group[i + 1] == group[i] and beams[i + 1] >= level
            if before and after:
                words.append("continue")
            elif before or after:
                words.append("end" if before else "begin")
            elif level > 1 and i > 0 and group[i - 1] == group[i] and beams[i - 1]:
                words.append("backward hook")
            elif level > 1 and i + 1 < len(beams) and group[i + 1] == group[i] and beams[i + 1]:
                words.append("forward hook")
            else:
                break
        out.append(words)
    return out


def tuplet_brackets(values: Sequence[NoteValue]) -> list[str]:
    """ "start", "stop" or "" for each value of a voice: a bracket closes where its sum is no tuplet any more."""
    out = [""] * len(values)
    first, total = -1, Fraction(0)
    for i, value in enumerate(values):
        if value.tuplet == (1, 1) or (first >= 0 and values[first].tuplet != value.tuplet):
            first, total = -1, Fraction(0)
        if value.tuplet == (1, 1):
            continue
        first = i if first < 0 else first
        total += value.length
        if total.denominator & (total.denominator - 1) == 0:
            out[first], out[i] = "start", "stop"
            first, total = -1, Fraction(0)
    return out
