"""Notation of lengths: note heads, dots, tuplets, beams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

TYPES = ("breve", "whole", "half", "quarter", "eighth", "16th", "32nd", "64th", "128th", "256th")  # 8 quarters and down
_TUPLETS = {3: (3, 2), 5: (5, 4), 7: (7, 4), 9: (9, 8)}  # odd part of the denominator: actual in the time of normal
_FIRST_BEAMED = TYPES.index("eighth")


@dataclass(frozen=True)
class Pulse:
    """Beat structure of a bar in notation: notes that start off a beat are tied across the next one, rests are split at
    beats.

    beat      quarters: 1, or 1.5 where eighths go in threes
    middle    quarters into the bar of the beat that must be visible, 0 for none: 2 in 4/4
    wide      quarters that a beam of plain eighths spans
    offset    quarters missing before a pickup
    """

    beat: Fraction = Fraction(1)
    middle: Fraction = Fraction(0)
    wide: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)

    @classmethod
    def of(cls, ts_num: int, ts_den: int, offset: Fraction = Fraction(0)) -> Pulse:
        """The pulse of a time signature.

        >>> Pulse.of(6, 8).beat, Pulse.of(4, 4).middle
        (Fraction(3, 2), Fraction(2, 1))
        """
        bar = Fraction(4 * ts_num, ts_den)
        if ts_den >= 8 and ts_num % 3 == 0:
            beat = Fraction(12, ts_den)
            return cls(beat, Fraction(0), beat, offset)
        middle = bar / 2 if (bar / 2) % 1 == 0 and bar >= 4 else Fraction(0)
        return cls(Fraction(1), middle, middle or bar, offset)

    @property
    def threes(self) -> bool:
        """Whether a beat has three parts."""
        return self.beat.numerator % 3 == 0

    def shows(self, start: Fraction, length: Fraction) -> bool:
        """Whether one head of this length, `start` quarters into the whole bar, leaves the beats visible."""
        end, off = start + length, start % self.beat
        if end <= (start // self.beat + 1) * self.beat:
            return True
        if self.threes:
            return off == 0 and length % self.beat == 0
        if off == 0:
            return True
        if off != self.beat / 2:
            return False
        hidden = self.middle and (start // self.middle + 1) * self.middle < end
        return length == self.beat or (length == self.beat * 3 / 2 and not hidden)


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


def note_values(start: Fraction, length: Fraction, pulse: Pulse | None = None) -> list[NoteValue]:
    """Split a length into note heads to be tied, in order; a length that fits one head stays whole.

    start   quarters into the measure: tuplets are split at the beat
    length  quarters, positive
    pulse   given, a head that would hide the beats is split too

    >>> [(v.type, v.dots) for v in note_values(Fraction(0), Fraction(5, 2))]
    [('half', 0), ('eighth', 0)]
    """
    out: list[NoteValue] = []
    todo = [(start, length, pulse)]  # a stack, not recursion: a bar may last thousands of quarters
    while todo:
        at, size, beats = todo.pop()
        first, beats = _first_head(at, size, beats)
        if isinstance(first, NoteValue):
            out.append(first)
            if first.length < size:
                todo.append((at + first.length, size - first.length, beats))
        else:
            todo += [(at + first, size - first, beats), (at, first, beats)]
    return out


def _first_head(start: Fraction, length: Fraction, pulse: Pulse | None) -> tuple[NoteValue | Fraction, Pulse | None]:
    """The first head of a note, or the length at which it must be split before; and the pulse for its parts."""
    whole, binary = _single(length), _binary(length)
    if pulse is not None and binary and _binary(start):
        cut = _cut(start + pulse.offset, length, pulse, bool(whole))
        if cut:
            return cut, pulse
    if whole:
        return whole, None
    to_beat = Fraction(-(-start // 1)) - start or Fraction(1)
    if not binary and length > to_beat:
        return to_beat, None
    if not binary and length > 1:
        return Fraction(length // 1), None
    odd = length.denominator
    while odd % 2 == 0:
        odd //= 2
    if odd > 1 and odd not in _TUPLETS:
        return NoteValue(length, ""), None
    actual, normal = _TUPLETS.get(odd, (1, 1))
    for k in range(len(TYPES)):
        head = Fraction(8, 2**k) * normal / actual
        first = _single(head) if head < length else None
        if first:
            return first, None
    return NoteValue(length, ""), None


def _binary(x: Fraction) -> bool:
    """Whether halving a quarter often enough leads to x."""
    return x.denominator & (x.denominator - 1) == 0


def _cut(at: Fraction, length: Fraction, pulse: Pulse, single: bool) -> Fraction:
    """Position at which a note at `at` must be split to show the beats; 0 for none."""
    end = at + length
    beat = (at // pulse.beat + 1) * pulse.beat
    if single:
        return beat - at if not pulse.shows(at, length) else Fraction(0)
    if at % pulse.beat and beat < end:
        return beat - at
    if pulse.middle and at < (middle := (at // pulse.middle + 1) * pulse.middle) < end:
        return middle - at
    if pulse.threes and length > pulse.beat:
        return max(k * pulse.beat for k in (1, 2, 4) if k * pulse.beat < length)
    return Fraction(0)


def rest_values(start: Fraction, length: Fraction, pulse: Pulse) -> list[NoteValue]:
    """Split a silence into rests along the beats.

    >>> [(v.type, v.dots) for v in rest_values(Fraction(1, 2), Fraction(7, 2), Pulse.of(4, 4))]
    [('eighth', 0), ('quarter', 0), ('half', 0)]
    """
    out: list[NoteValue] = []
    at, end = start + pulse.offset, start + pulse.offset + length
    while at < end:
        beat = (at // pulse.beat + 1) * pulse.beat
        if not (_binary(at) and _binary(end)):  # inside a tuplet, up to the beat
            stop = min((at // 1 + 1) * Fraction(1), end)
            values = note_values(at, stop - at)
        elif at % pulse.beat == 0 and beat <= end:
            wide = pulse.middle == 2 and at % 2 == 0 and at + 2 <= end
            values = note_values(at, Fraction(2) if wide else pulse.beat)
        else:
            part = Fraction(1)
            while at % part or at + part > min(beat, end):
                part /= 2
            values = note_values(at, part)
        out += values
        at += sum(v.length for v in values)
    return out


def beam_groups(starts: Sequence[Fraction], values: Sequence[NoteValue | None], pulse: Pulse) -> list[int]:
    """Beam group of each note: the notes of a beat, or plain eighths that fill `pulse.wide`.

    starts  quarters into the measure; values None for rests and gaps
    """
    places = [at + pulse.offset for at in starts]
    groups = [int(at // pulse.beat) for at in places]
    if pulse.wide <= pulse.beat:
        return groups
    spans: dict[int, list[int]] = {}
    for i, at in enumerate(places):
        spans.setdefault(int(at // pulse.wide), []).append(i)
    for inside in spans.values():
        found = [values[i] for i in inside]
        plain = all(v is not None and v.type == "eighth" and not v.dots and v.tuplet == (1, 1) for v in found)
        if plain and len(found) * Fraction(1, 2) == pulse.wide:
            for i in inside:
                groups[i] = groups[inside[0]]
    return groups


def beam_states(beams: Sequence[int], group: Sequence[int]) -> list[list[str]]:
    """MusicXML's beam words for each note of a voice, a list of one word per beam level.

    beams  number of beams of each note, 0 for a rest or a long note
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
