"""A Score as MusicXML: two staves, voices, bars, ties, tuplets, beams, note names and the marks that can be written."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from fractions import Fraction

import numpy as np

from engine.music.expression import beat_quarters
from engine.music.layout import STEPS, Chord, Layout
from engine.music.notation import DYNAMIC_VELOCITY
from engine.music.note_values import NoteValue, beam_states, note_values, tuplet_brackets
from engine.music.types import Score

_ACCIDENTALS = {-2: "flat-flat", -1: "flat", 0: "natural", 1: "sharp", 2: "double-sharp"}
_ORNAMENTS = {1: "trill-mark", 2: "mordent", 3: "turn"}
_ARTICULATIONS = (
    ("accent", {1: "accent", 2: "strong-accent"}),
    ("staccato", {1: "staccato", 2: "staccatissimo"}),
    ("tenuto", {1: "tenuto"}),
)
_MAX_TEMPI = 60  # more changes of tempo than this are a performance, not marks
_DOCTYPE = '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">'


def write_musicxml(score: Score, ids: bool = False) -> bytes:
    """Write a score as partwise MusicXML 4.0, UTF-8, repeats unfolded as the Score has them.

    ids  name the elements for `engine.music.engrave`: note I of the score is "note-I", the parts tied on to it
         "note-I-1", "note-I-2" ..., measure K is "bar-K"; I and K count from 0

    Read back, every note has its onset, duration, pitch, name, staff and grace flag; voices keep their numbers where no
    two notes of one overlap. Tempo words and rit./accel. are not written: a Score has only their classes.
    """
    return Writer(score, ids).document()


class Writer:
    """One score on its way to MusicXML.

    heads  after `document`: for each note the quarters at which its heads begin, the tied ones after the first
    """

    def __init__(self, score: Score, ids: bool = False) -> None:
        self.score, self.ids = score, ids
        self.page = Layout(score)
        self.heads: list[list[Fraction]] = [[] for _ in range(len(score))]
        self._reached = list(self.page.onset)

    def document(self) -> bytes:
        root = ET.Element("score-partwise", version="4.0")
        if self.score.title:
            ET.SubElement(ET.SubElement(root, "work"), "work-title").text = _printable(self.score.title)
        if self.score.composer:
            creator = ET.SubElement(ET.SubElement(root, "identification"), "creator", type="composer")
            creator.text = _printable(self.score.composer)
        score_part = ET.SubElement(ET.SubElement(root, "part-list"), "score-part", id="P1")
        ET.SubElement(score_part, "part-name", {"print-object": "no"}).text = "Piano"
        part = ET.SubElement(root, "part", id="P1")
        directions = self._directions()
        for bar in range(len(self.page.chords)):
            part.append(self._measure(bar, directions[bar]))
        ET.indent(root)
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n{_DOCTYPE}\n'.encode()
            + ET.tostring(root, encoding="utf-8")
            + b"\n"
        )

    def _measure(self, bar: int, directions: list[tuple[Fraction, ET.Element]]) -> ET.Element:
        m = self.score.measures
        known = min(bar, len(m) - 1)
        number = int(m.number[known]) + bar - known
        pickup = bar == 0 and m.position_quarter[0] > 0
        element = ET.Element("measure", number=str(number), **({"implicit": "yes"} if pickup else {}))
        if self.ids:
            element.set("id", f"bar-{bar}")
        attributes = self._attributes(bar, known)
        if len(attributes):
            element.append(attributes)
        length = self.page.starts[bar + 1] - self.page.starts[bar]
        cursor = Fraction(0)
        for at, direction in sorted(directions, key=lambda d: d[0]):
            cursor = self._move(element, cursor, at)
            element.append(direction)
        beat = Fraction(
            float(beat_quarters(m.ts_num[known : known + 1], m.ts_den[known : known + 1])[0])
        ).limit_denominator(64)
        accidentals: dict[tuple, int] = {}
        for staff in (1, 2):
            used = {
                v
                for v in [*self.page.chords[bar], *(v for v, _ in self.page.graces[bar])]
                if self.page.home[v] == staff
            }
            for voice in sorted(used) or [1 if staff == 1 else 5]:
                cursor = self._move(element, cursor, Fraction(0))
                first = voice == min(used, default=voice)
                cursor = self._write_voice(element, bar, voice, staff, length, beat, first, accidentals)
        self._move(element, cursor, length)
        return element

    def _move(self, element: ET.Element, cursor: Fraction, to: Fraction) -> Fraction:
        if cursor != to:
            step = ET.SubElement(element, "backup" if to < cursor else "forward")
            ET.SubElement(step, "duration").text = str(int(abs(to - cursor) * self.page.divisions))
        return to

    def _attributes(self, bar: int, known: int) -> ET.Element:
        """Divisions and clefs at the start, key and metre where they change."""
        m = self.score.measures
        out = ET.Element("attributes")
        changed = [
            bar == 0 or (bar == known and values[known] != values[known - 1])
            for values in (m.fifths, m.ts_num, m.ts_den)
        ]
        if bar == 0:
            ET.SubElement(out, "divisions").text = str(self.page.divisions)
        if changed[0]:
            ET.SubElement(ET.SubElement(out, "key"), "fifths").text = str(int(m.fifths[known]))
        if changed[1] or changed[2]:
            time = ET.SubElement(out, "time")
            ET.SubElement(time, "beats").text = str(int(m.ts_num[known]))
            ET.SubElement(time, "beat-type").text = str(int(m.ts_den[known]))
        if bar == 0:
            ET.SubElement(out, "staves").text = "2"
            for number, sign, line in (("1", "G", "2"), ("2", "F", "4")):
                clef = ET.SubElement(out, "clef", number=number)
                ET.SubElement(clef, "sign").text = sign
                ET.SubElement(clef, "line").text = line
        return out

    def _write_voice(
        self,
        element: ET.Element,
        bar: int,
        voice: int,
        staff: int,
        length: Fraction,
        beat: Fraction,
        first: bool,
        accidentals: dict,
    ) -> Fraction:
        """Append one voice's notes, and rests if it is the staff's first; returns where it ends."""
        chords = sorted(self.page.chords[bar].get(voice, {}).values(), key=lambda c: c.start)
        graces = {at: rows for (v, at), rows in self.page.graces[bar].items() if v == voice}
        if first and not chords and not graces:
            rest = ET.SubElement(element, "note")
            ET.SubElement(rest, "rest", measure="yes")
            ET.SubElement(rest, "duration").text = str(int(length * self.page.divisions))
            ET.SubElement(rest, "voice").text = str(voice)
            ET.SubElement(rest, "staff").text = str(staff)
            return length
        # start, value, the chord (None is a rest), whether its first and last value; a gap without rests is neither
        stream: list[tuple[Fraction, NoteValue, Chord | None, bool, bool]] = []
        cursor = Fraction(0)
        stops: list[Fraction] = sorted({*(c.start for c in chords), *graces, *([length] if first else [])})
        by_start = {c.start: c for c in chords}
        for at in stops:
            if at > cursor and first:
                for value in note_values(cursor, at - cursor):
                    stream.append((cursor, value, None, True, True))
                    cursor += value.length
            elif at > cursor:
                stream.append((cursor, NoteValue(at - cursor, ""), None, False, False))
                cursor = at
            if at in by_start:
                values = note_values(at, by_start[at].length)
                for k, value in enumerate(values):
                    stream.append((cursor, value, by_start[at], k == 0, k == len(values) - 1))
                    cursor += value.length
        brackets = tuplet_brackets([value for _, value, _, _, _ in stream])
        beams = beam_states([v.beams if c else 0 for _, v, c, _, _ in stream], [int(at // beat) for at, *_ in stream])
        for (at, value, chord, head, tail), bracket, words in zip(stream, brackets, beams, strict=True):
            if head:
                for row in graces.pop(at, []):
                    self._note(element, row, NoteValue(Fraction(0), "eighth"), voice, bar, accidentals, grace=True)
            if chord is None and not head:
                self._move(element, at, at + value.length)
            elif chord is None:
                self._rest(element, value, voice, staff, bracket)
            else:
                for k, row in enumerate(sorted(chord.rows, key=lambda r: self.score.pitch[r])):
                    self._note(
                        element, row, value, voice, bar, accidentals, in_chord=k > 0, bracket=bracket if k == 0 else "",
                        beams=words if k == 0 else [], tied_from=not head or row in chord.stop,
                        tied_on=not tail or row in chord.go_on,
                    )  # fmt: skip
        for at in sorted(graces):  # those after the last note
            cursor = self._move(element, cursor, at)
            for row in graces[at]:
                self._note(element, row, NoteValue(Fraction(0), "eighth"), voice, bar, accidentals, grace=True)
        return cursor

    def _rest(self, element: ET.Element, value: NoteValue, voice: int, staff: int, bracket: str) -> None:
        note = ET.SubElement(element, "note")
        ET.SubElement(note, "rest")
        ET.SubElement(note, "duration").text = str(int(value.length * self.page.divisions))
        ET.SubElement(note, "voice").text = str(voice)
        self._shape(note, value)
        ET.SubElement(note, "staff").text = str(staff)
        if bracket:
            ET.SubElement(ET.SubElement(note, "notations"), "tuplet", type=bracket)

    def _shape(self, note: ET.Element, value: NoteValue, accidental: str = "") -> None:
        if value.type:
            ET.SubElement(note, "type").text = value.type
        for _ in range(value.dots):
            ET.SubElement(note, "dot")
        if accidental:
            ET.SubElement(note, "accidental").text = accidental
        if value.tuplet != (1, 1):
            modification = ET.SubElement(note, "time-modification")
            ET.SubElement(modification, "actual-notes").text = str(value.tuplet[0])
            ET.SubElement(modification, "normal-notes").text = str(value.tuplet[1])

    def _note(
        self, element: ET.Element, row: int, value: NoteValue, voice: int, bar: int, accidentals: dict, *,
        grace: bool = False, in_chord: bool = False, bracket: str = "", beams: list[str] | None = None,
        tied_from: bool = False, tied_on: bool = False,
    ) -> None:  # fmt: skip
        note = ET.SubElement(element, "note")
        if self.ids:
            note.set("id", head_id(row, len(self.heads[row])))
        self.heads[row].append(self._reached[row])
        self._reached[row] += value.length
        if grace:
            ET.SubElement(note, "grace", slash="yes")
        if in_chord:
            ET.SubElement(note, "chord")
        pitch = ET.SubElement(note, "pitch")
        ET.SubElement(pitch, "step").text = self.page.step[row]
        if self.page.alter[row]:
            ET.SubElement(pitch, "alter").text = str(self.page.alter[row])
        ET.SubElement(pitch, "octave").text = str(self.page.octave[row])
        if not grace:
            ET.SubElement(note, "duration").text = str(int(value.length * self.page.divisions))
        for kind, there in (("stop", tied_from), ("start", tied_on)):
            if there:
                ET.SubElement(note, "tie", type=kind)
        ET.SubElement(note, "voice").text = str(voice)
        self._shape(note, value, "" if tied_from else self._accidental(row, bar, accidentals))
        ET.SubElement(note, "staff").text = str(int(self.page.staff[row]))
        for level, word in enumerate(beams or [], 1):
            ET.SubElement(note, "beam", number=str(level)).text = word
        self._notations(note, row, voice, bracket, tied_from, tied_on)

    def _accidental(self, row: int, bar: int, accidentals: dict) -> str:
        """The sign to print, "" where the key or an earlier sign in the bar says it."""
        fifths = int(self.score.measures.fifths[min(bar, len(self.score.measures) - 1)])
        position = STEPS.index(self.page.step[row])
        in_key = 1 if position < fifths else -1 if position >= 7 + fifths else 0
        place = (int(self.page.staff[row]), self.page.step[row], self.page.octave[row])
        if accidentals.get(place, in_key) == self.page.alter[row]:
            return ""
        accidentals[place] = self.page.alter[row]
        return _ACCIDENTALS.get(self.page.alter[row], "")

    def _notations(self, note: ET.Element, row: int, voice: int, bracket: str, tied_from: bool, tied_on: bool) -> None:
        marks = self.score.marks
        out = ET.Element("notations")
        for kind, there in (("stop", tied_from), ("start", tied_on)):
            if there:
                ET.SubElement(out, "tied", type=kind)
        slurs = self.page.slurs.get(row, [])
        for kind in slurs:
            if (kind == "start" and not tied_from) or (kind == "stop" and not tied_on):
                ET.SubElement(out, "slur", type=kind, number=str((voice - 1) % 6 + 1))
        if bracket:
            ET.SubElement(out, "tuplet", type=bracket)
        if not tied_from:
            if marks["ornament"][row]:
                ET.SubElement(
                    ET.SubElement(out, "ornaments"), _ORNAMENTS.get(int(marks["ornament"][row]), "trill-mark")
                )
            signs = [words[int(marks[name][row])] for name, words in _ARTICULATIONS if int(marks[name][row]) in words]
            if signs:
                articulations = ET.SubElement(out, "articulations")
                for sign in signs:
                    ET.SubElement(articulations, sign)
            if marks["fermata"][row]:
                ET.SubElement(out, "fermata")
            if marks["arpeggio"][row]:
                ET.SubElement(out, "arpeggiate")
        if len(out):
            note.append(out)

    def _directions(self) -> list[list[tuple[Fraction, ET.Element]]]:
        """Dynamics, hairpins and metronome marks of each bar, as (quarters from the barline, element)."""
        out: list[list[tuple[Fraction, ET.Element]]] = [[] for _ in self.page.chords]
        first = np.flatnonzero(np.diff(self.score.onset_quarter.round(6), prepend=np.nan) != 0)  # one note a chord
        names = {v: k for k, v in DYNAMIC_VELOCITY.items()}
        velocity, hairpin, bpm = (self.score.marks[k][first] for k in ("written_velocity", "hairpin", "tempo_bpm"))
        level = 0
        dynamics = []
        for i, (v, h) in enumerate(zip(velocity.tolist(), hairpin.tolist(), strict=True)):
            if v != level and v in names and (h == 0 or hairpin[i - 1] == 0 or i == 0):
                dynamics.append((i, names[v]))
                level = v
        if hairpin.any() or len(np.unique(velocity)) <= len(names):
            for i, name in dynamics:
                kind = self._direction(out, first[i], "below")
                ET.SubElement(ET.SubElement(kind, "dynamics"), name)
            for i in np.flatnonzero(np.diff(hairpin, prepend=0) != 0).tolist():
                if i > 0 and hairpin[i - 1]:
                    ET.SubElement(self._direction(out, first[i], "below"), "wedge", type="stop")
                if hairpin[i]:
                    kind = self._direction(out, first[i], "below")
                    ET.SubElement(kind, "wedge", type="crescendo" if hairpin[i] > 0 else "diminuendo")
        changes = [i for i in np.flatnonzero(np.diff(bpm, prepend=0) != 0).tolist() if bpm[i] > 0]
        for i in changes if len(changes) <= _MAX_TEMPI else []:
            metronome = ET.SubElement(self._direction(out, first[i], "above", {"tempo": str(int(bpm[i]))}), "metronome")
            ET.SubElement(metronome, "beat-unit").text = "quarter"
            ET.SubElement(metronome, "per-minute").text = str(int(bpm[i]))
        return out

    def _direction(self, out: list, row: int, placement: str, sound: dict[str, str] | None = None) -> ET.Element:
        """A new direction at a note's onset; returns its <direction-type> to be filled."""
        onset = self.page.onset[row]
        bar = max(i for i in range(len(self.page.chords)) if i == 0 or self.page.starts[i] <= onset)
        direction = ET.Element("direction", placement=placement)
        kind = ET.SubElement(direction, "direction-type")
        ET.SubElement(direction, "staff").text = "1"
        if sound:
            ET.SubElement(direction, "sound", sound)
        out[bar].append((max(onset - self.page.starts[bar], Fraction(0)), direction))
        return kind


def head_id(row: int, part: int) -> str:
    """The name of a note's head: part 0 is where it is struck, the others are tied on.

    >>> head_id(12, 0), head_id(12, 1)
    ('note-12', 'note-12-1')
    """
    return f"note-{row}-{part}" if part else f"note-{row}"


def _printable(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(c for c in text if c.isprintable())
