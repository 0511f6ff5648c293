"""Write a Score as MusicXML: two staves, voices, bars, ties, tuplets, beams, note names and marks."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import numpy as np

from engine.music.edition import mode
from engine.music.engraving.clefs import SIGNS, choose_clefs
from engine.music.engraving.layout import STEPS, Chord, Layout
from engine.music.engraving.note_values import (
    NoteValue,
    Pulse,
    beam_groups,
    beam_states,
    note_values,
    rest_values,
    tuplet_brackets,
)
from engine.music.io.directions import directions
from engine.music.types import TREMOLO, Score

SOFTWARE = "Étude"
_ACCIDENTALS = {-2: "flat-flat", -1: "flat", 0: "natural", 1: "sharp", 2: "double-sharp"}
_ORNAMENTS = {1: "trill-mark", 2: "mordent", 3: "turn", 4: "inverted-mordent", 5: "inverted-turn"}
_ARTICULATIONS = (
    ("accent", {1: "accent", 2: "strong-accent"}),
    ("staccato", {1: "staccato", 2: "staccatissimo"}),
    ("tenuto", {1: "tenuto"}),
)
_GRACE = {False: NoteValue(Fraction(0), "eighth"), True: NoteValue(Fraction(0), "16th")}  # alone, or of several
_DOCTYPE = '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">'


def write_musicxml(score: Score) -> bytes:
    """Write a score as partwise MusicXML 4.0, UTF-8, repeats unfolded as the Score has them.

    Onset, duration, pitch, name, staff and grace flag of every note survive a round trip; voices keep their numbers if
    their notes do not overlap. Rit. and accel. are not written; tempo words are written for composed scores only,
    because a Score otherwise has only classes.
    """
    return MusicXmlWriter(score).document()


@dataclass(frozen=True)
class Span:
    """One written value of a voice: part of a chord, or of a rest.

    start       quarters from the barline
    chord       None is a rest
    head, tail  whether it is the first, the last value of its chord
    """

    start: Fraction
    value: NoteValue
    chord: Chord | None = None
    head: bool = True
    tail: bool = True


@dataclass(frozen=True)
class NoteHead:
    """One <note> to write.

    row        of the score
    bracket    "start" or "stop" of a tuplet, or ""
    beams      one word a level: begin, continue, end, or a hook
    tied_from  tied to the head before; tied_on: tied to the head after
    """

    row: int
    value: NoteValue
    voice: int
    grace: bool = False
    slash: bool = False
    in_chord: bool = False
    bracket: str = ""
    stem: str = ""
    beams: Sequence[str] = ()
    tied_from: bool = False
    tied_on: bool = False
    accidental: str = ""


@dataclass(frozen=True)
class Rest:
    """One rest to write; that of a whole bar has no written value."""

    value: NoteValue
    voice: int
    staff: int
    bracket: str = ""
    visible: bool = True
    whole_bar: bool = False


class MusicXmlWriter:
    """Converts one score to MusicXML.

    engraving  for `engine.music.io.engrave`: note I of the score has the id "note-I", its tied heads "note-I-1",
               "note-I-2" ..., bar K "bar-K"; I and K count from 0. Signs of a whole chord are written once
    heads      after `document`: for each note the onsets of its heads in quarters, tied ones after the first
    """

    def __init__(self, score: Score, engraving: bool = False) -> None:
        self.score, self.engraving = score, engraving
        self.page = Layout(score)
        self.clefs = [choose_clefs(self._pitches(staff), usual) for staff, usual in ((1, "G"), (2, "F"))]
        self.heads: list[list[Fraction]] = [[] for _ in range(len(score))]
        self._reached = list(self.page.onset)

    def document(self) -> bytes:
        root = ET.Element("score-partwise", version="4.0")
        if self.score.title:
            ET.SubElement(ET.SubElement(root, "work"), "work-title").text = _printable(self.score.title)
        about = ET.SubElement(root, "identification")
        if self.score.composer:
            ET.SubElement(about, "creator", type="composer").text = _printable(self.score.composer)
        ET.SubElement(ET.SubElement(about, "encoding"), "software").text = SOFTWARE
        score_part = ET.SubElement(ET.SubElement(root, "part-list"), "score-part", id="P1")
        ET.SubElement(score_part, "part-name", {"print-object": "no"}).text = "Piano"
        part = ET.SubElement(root, "part", id="P1")
        for bar, found in enumerate(directions(self.page)):
            part.append(self._measure(bar, found))
        ending = ET.SubElement(part[-1], "barline", location="right")
        ET.SubElement(ending, "bar-style").text = "light-heavy"
        ET.indent(root)
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n{_DOCTYPE}\n'.encode()
            + ET.tostring(root, encoding="utf-8")
            + b"\n"
        )

    def _pitches(self, staff: int) -> list[list[int]]:
        """MIDI numbers on a staff in each bar."""
        out = []
        for chords, graces in zip(self.page.chords, self.page.graces, strict=True):
            rows = [r for found in chords.values() for chord in found.values() for r in chord.rows]
            rows += [r for found in graces.values() for r in found]
            out.append([int(self.score.pitch[r]) for r in rows if self.page.staff[r] == staff])
        return out

    def _measure(self, bar: int, found: list[tuple[Fraction, ET.Element]]) -> ET.Element:
        m = self.score.measures
        known = min(bar, len(m) - 1)
        number = int(m.number[known]) + bar - known
        pickup = bar == 0 and m.position_quarter[0] > 0
        element = ET.Element("measure", number=str(number), **({"implicit": "yes"} if pickup else {}))
        if self.engraving:
            element.set("id", f"bar-{bar}")
        attributes = self._attributes(bar, known)
        if len(attributes):
            element.append(attributes)
        length = self.page.starts[bar + 1] - self.page.starts[bar]
        cursor = Fraction(0)
        for at, direction in found:
            cursor = self._move(element, cursor, at)
            element.append(direction)
        offset = Fraction(float(m.position_quarter[bar])).limit_denominator(64) if bar < len(m) else Fraction(0)
        pulse = Pulse.of(int(m.ts_num[known]), int(m.ts_den[known]), offset)
        signs = self._accidentals(bar, int(m.fifths[known]))
        for staff in (1, 2):
            used = {
                v
                for v in [*self.page.chords[bar], *(v for v, _ in self.page.graces[bar])]
                if self.page.home[v] == staff
            }
            for voice in sorted(used) or [1 if staff == 1 else 5]:
                cursor = self._move(element, cursor, Fraction(0))
                first = voice == min(used, default=voice)
                for event in self._voice(bar, voice, staff, length, pulse, first, signs):
                    if isinstance(event, Rest):
                        element.append(self._rest(event))
                        cursor += event.value.length
                    else:
                        element.append(self._note(event))
                        cursor += Fraction(0) if event.in_chord else event.value.length
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
            key = ET.SubElement(out, "key")
            ET.SubElement(key, "fifths").text = str(int(m.fifths[known]))
            if name := mode(self.score):
                ET.SubElement(key, "mode").text = name
        if changed[1] or changed[2]:
            time = ET.SubElement(out, "time")
            ET.SubElement(time, "beats").text = str(int(m.ts_num[known]))
            ET.SubElement(time, "beat-type").text = str(int(m.ts_den[known]))
        if bar == 0:
            ET.SubElement(out, "staves").text = "2"
        for number, clefs in enumerate(self.clefs, 1):
            if bar == 0 or clefs[bar] != clefs[bar - 1]:
                clef = ET.SubElement(out, "clef", number=str(number))
                ET.SubElement(clef, "sign").text = clefs[bar]
                ET.SubElement(clef, "line").text = str(SIGNS[clefs[bar]])
        return out

    def _accidentals(self, bar: int, fifths: int) -> dict[int, str]:
        """The accidentals to print in a bar: those not implied by the key or an earlier accidental."""
        heads = [
            (chord.start, 1, r)
            for found in self.page.chords[bar].values() for chord in found.values()
            for r in chord.rows if r not in chord.stop
        ]  # fmt: skip
        heads += [(at, 0, r) for (_, at), rows in self.page.graces[bar].items() for r in rows]
        said: dict[tuple, int] = {}
        out = {}
        for _, _, row in sorted(heads):
            step, alter = self.page.step[row], self.page.alter[row]
            position = STEPS.index(step)
            in_key = 1 if position < fifths else -1 if position >= 7 + fifths else 0
            place = (int(self.page.staff[row]), step, self.page.octave[row])
            if said.get(place, in_key) != alter:
                said[place] = alter
                out[row] = _ACCIDENTALS.get(alter, "")
        return out

    def _voice(
        self, bar: int, voice: int, staff: int, length: Fraction, pulse: Pulse, first: bool, signs: dict[int, str]
    ) -> Iterator[NoteHead | Rest]:
        """Notes and rests of a voice in a bar, in order.

        first  whether it is the first voice of its staff, whose rests are visible
        signs  the accidental to print before a note, by row
        """
        chords = {chord.start: chord for chord in self.page.chords[bar].get(voice, {}).values()}
        graces = {at: rows for (v, at), rows in self.page.graces[bar].items() if v == voice}
        if first and not chords and not graces:
            yield Rest(NoteValue(length, ""), voice, staff, whole_bar=True)
            return
        spans = _spans(chords, sorted({*chords, *graces, length}), pulse)
        brackets = tuplet_brackets([s.value for s in spans])
        groups = beam_groups([s.start for s in spans], [s.value if s.chord else None for s in spans], pulse)
        beams = beam_states([s.value.beams if s.chord else 0 for s in spans], groups)
        stems = self._stems(bar, voice)
        stemmed = {group for s, group in zip(spans, groups, strict=True) if s.start in stems}
        in_tuplet = False
        for s, bracket, words, group in zip(spans, brackets, beams, groups, strict=True):
            in_tuplet = in_tuplet or bracket == "start"
            if s.head:
                yield from self._graces(graces.pop(s.start, []), voice, signs)
            if s.chord is None:
                yield Rest(s.value, voice, staff, bracket, visible=first or in_tuplet)
            else:
                stem = stems.get(s.start, stems[None]) if group in stemmed else ""
                yield from self._heads(s, voice, bracket, stem, words, signs)
            in_tuplet = in_tuplet and bracket != "stop"
        for at in sorted(graces):  # grace notes after the last note
            yield from self._graces(graces[at], voice, signs)

    def _heads(
        self, span: Span, voice: int, bracket: str, stem: str, beams: list[str], signs: dict[int, str]
    ) -> Iterator[NoteHead]:
        """The heads of a chord's value, from the lowest; bracket and beams belong to the lowest."""
        chord = span.chord
        assert chord is not None
        for k, row in enumerate(sorted(chord.rows, key=lambda r: self.score.pitch[r])):
            tied_from, tied_on = not span.head or row in chord.stop, not span.tail or row in chord.go_on
            yield NoteHead(
                row, span.value, voice, in_chord=k > 0, bracket=bracket if k == 0 else "", stem=stem,
                beams=beams if k == 0 else (), tied_from=tied_from, tied_on=tied_on,
                accidental="" if tied_from else signs.get(row, ""),
            )  # fmt: skip

    def _stems(self, bar: int, voice: int) -> dict[Fraction | None, str]:
        """Stem direction at onsets where a voice overlaps others of its staff (and under None): up for the higher
        voice. Empty for a voice that changes staves.
        """
        found = {v: list(chords.values()) for v, chords in self.page.chords[bar].items()}
        staves = {v: {int(self.page.staff[r]) for c in chords for r in c.rows} for v, chords in found.items()}
        height, together = 0.0, set()
        for other, chords in found.items():
            if other == voice or staves[other] != staves.get(voice) or len(staves[other]) > 1:
                continue
            for a, b in product(found[voice], chords):
                if a.start < b.start + b.length and b.start < a.start + a.length:
                    together.add(a.start)
                    height += float(np.sign(self.score.pitch[a.rows].mean() - self.score.pitch[b.rows].mean()))
        way = "up" if height > 0 else "down" if height < 0 else ""
        return {None: way, **dict.fromkeys(together, way)}

    def _graces(self, rows: list[int], voice: int, signs: dict[int, str]) -> Iterator[NoteHead]:
        """Grace notes before a note: a single one is slashed, several are beamed."""
        several = len(rows) > 1
        beams = beam_states([2] * len(rows), [0] * len(rows)) if several else [[]]
        for row, words in zip(rows, beams, strict=False):
            sign = signs.get(row, "")
            yield NoteHead(row, _GRACE[several], voice, grace=True, slash=not several, beams=words, accidental=sign)

    def _rest(self, rest: Rest) -> ET.Element:
        """A hidden rest is still written: a clef after a gap would be lost."""
        note = ET.Element("note", {} if rest.visible else {"print-object": "no"})
        ET.SubElement(note, "rest", {"measure": "yes"} if rest.whole_bar else {})
        ET.SubElement(note, "duration").text = str(int(rest.value.length * self.page.divisions))
        ET.SubElement(note, "voice").text = str(rest.voice)
        self._shape(note, rest.value)
        ET.SubElement(note, "staff").text = str(rest.staff)
        if rest.bracket:
            ET.SubElement(ET.SubElement(note, "notations"), "tuplet", type=rest.bracket)
        return note

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

    def _note(self, head: NoteHead) -> ET.Element:
        row = head.row
        note = ET.Element("note")
        if self.engraving:
            note.set("id", head_id(row, len(self.heads[row])))
        self.heads[row].append(self._reached[row])
        self._reached[row] += head.value.length
        if head.grace:
            ET.SubElement(note, "grace", {"slash": "yes"} if head.slash else {})
        if head.in_chord:
            ET.SubElement(note, "chord")
        pitch = ET.SubElement(note, "pitch")
        ET.SubElement(pitch, "step").text = self.page.step[row]
        if self.page.alter[row]:
            ET.SubElement(pitch, "alter").text = str(self.page.alter[row])
        ET.SubElement(pitch, "octave").text = str(self.page.octave[row])
        if not head.grace:
            ET.SubElement(note, "duration").text = str(int(head.value.length * self.page.divisions))
        for kind, there in (("stop", head.tied_from), ("start", head.tied_on)):
            if there:
                ET.SubElement(note, "tie", type=kind)
        ET.SubElement(note, "voice").text = str(head.voice)
        self._shape(note, head.value, head.accidental)
        if head.stem:
            ET.SubElement(note, "stem").text = head.stem
        ET.SubElement(note, "staff").text = str(int(self.page.staff[row]))
        for level, word in enumerate(head.beams, 1):
            ET.SubElement(note, "beam", number=str(level)).text = word
        self._notations(note, head)
        return note

    def _notations(self, note: ET.Element, head: NoteHead) -> None:
        """Ties, slurs, tuplet bracket, ornaments and articulations of a head."""
        row = head.row
        out = ET.Element("notations")
        for kind, there in (("stop", head.tied_from), ("start", head.tied_on)):
            if there:
                ET.SubElement(out, "tied", type=kind)
        for kind, number in self.page.slurs.get(row, []):
            if (kind == "start" and not head.tied_from) or (kind == "stop" and not head.tied_on):
                ET.SubElement(out, "slur", type=kind, number=str(number))
        if head.bracket:
            ET.SubElement(out, "tuplet", type=head.bracket)
        if not head.tied_from and not (head.in_chord and self.engraving):
            self._marks(out, row)
        if len(out):
            note.append(out)

    def _marks(self, out: ET.Element, row: int) -> None:
        """Ornament, articulations, fermata and arpeggio of a note."""
        marks = self.score.marks
        if marks["ornament"][row]:
            kind, box = int(marks["ornament"][row]), ET.SubElement(out, "ornaments")
            if kind > TREMOLO:
                ET.SubElement(box, "tremolo", type="single").text = str(kind - TREMOLO)
            else:
                ET.SubElement(box, _ORNAMENTS.get(kind, "trill-mark"))
        found = [words[int(marks[name][row])] for name, words in _ARTICULATIONS if int(marks[name][row]) in words]
        if found:
            articulations = ET.SubElement(out, "articulations")
            for sign in found:
                ET.SubElement(articulations, sign)
        if marks["fermata"][row]:
            ET.SubElement(out, "fermata")
        if marks["arpeggio"][row]:
            ET.SubElement(out, "arpeggiate")


def _spans(chords: dict[Fraction, Chord], stops: list[Fraction], pulse: Pulse) -> list[Span]:
    """The written values of a voice: its chords, by start, and the rests up to each of `stops`."""
    spans: list[Span] = []
    cursor = Fraction(0)
    for at in stops:
        for value in rest_values(cursor, at - cursor, pulse):
            spans.append(Span(cursor, value))
            cursor += value.length
        if at in chords:
            values = note_values(at, chords[at].length, pulse)
            for k, value in enumerate(values):
                spans.append(Span(cursor, value, chords[at], k == 0, k == len(values) - 1))
                cursor += value.length
    return spans


def head_id(row: int, part: int) -> str:
    """The id of a note's head: part 0 is the first, the others are tied heads.

    >>> head_id(12, 0), head_id(12, 1)
    ('note-12', 'note-12-1')
    """
    return f"note-{row}-{part}" if part else f"note-{row}"


def _printable(text: str) -> str:
    """Text without the control characters that XML forbids."""
    return "".join(c for c in text if c.isprintable())
