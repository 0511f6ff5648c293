"""Change notes in one <measure> of a MusicXML part; everything else in it stays unchanged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import lcm
from typing import Any

from lxml import etree

from engine.music.document.note_elements import (
    STEPS,
    alter_of,
    bare_copy,
    insert_child,
    place_of,
    set_pitch,
    time_step,
)
from engine.music.engraving.note_values import NoteValue, Pulse, beam_groups, beam_states, note_values, rest_values
from engine.music.io.musicxml_page import number

_ACCIDENTALS = {-2: "flat-flat", -1: "flat", 0: "natural", 1: "sharp", 2: "double-sharp"}
_OF_REST = {"duration", "voice", "type", "dot", "time-modification", "staff", "beam", "footnote", "level"}
_OF_CHORD = {"duration", "voice", "type", "dot", "time-modification", "stem", "staff"}
_MAX_DIVISIONS = 100_000


class CannotPatch(Exception):
    """The change cannot be written into the old file; the message names it."""


class OnePlaying(CannotPatch):
    """A repeated bar was changed in one of its passes only."""


@dataclass(frozen=True)
class Piece:
    """A new note inside one bar; start and length in quarters from the barline."""

    start: Fraction
    length: Fraction
    pitch: int
    spelling: int
    tied_from: bool = False
    tied_on: bool = False


class BarEditor:
    """One bar of one part.

    divisions  of a quarter, in force in the bar
    pulse      division of notes and rests in its metre
    """

    def __init__(self, measure: Any, divisions: Fraction, pulse: Pulse) -> None:
        own = measure.findall("attributes/divisions")
        if len(own) > 1:
            raise CannotPatch("the divisions change inside the bar")
        self.measure, self.divisions, self.pulse = measure, divisions, pulse
        self.scaled = 1  # divisions of the bar over those of the document
        self.several = measure.find("note/staff") is not None
        self.places: set[tuple[int, str, int]] = set()  # (staff, step, octave) whose accidentals must be checked

    # ---- contents of the bar
    def timed(self) -> list[tuple[Any, Fraction, Fraction]]:
        """Each <note> with its onset and length in quarters; grace notes have length 0."""
        out = []
        here, before = Fraction(0), Fraction(0)
        for element in self.measure:
            length = (number(element.findtext("duration")) or Fraction(0)) / self.divisions
            if element.tag == "note":
                length = Fraction(0) if element.find("grace") is not None else length
                if element.find("chord") is not None:
                    out.append((element, before, length))
                else:
                    out.append((element, here, length))
                    before, here = here, here + length
            elif element.tag in ("backup", "forward"):
                here = max(here + (length if element.tag == "forward" else -length), Fraction(0))
        return out

    def _cursor(self, at: int) -> Fraction:
        """The time in quarters before the child number `at`."""
        here = Fraction(0)
        for element in self.measure[:at]:
            length = (number(element.findtext("duration")) or Fraction(0)) / self.divisions
            moves = element.tag == "note" and element.find("chord") is None and element.find("grace") is None
            here += length if moves or element.tag == "forward" else -length if element.tag == "backup" else 0
            here = max(here, Fraction(0))
        return here

    # ---- changes
    def repitch(self, note: Any, pitch: int, spelling: int) -> None:
        """Change the pitch of a note; its lyrics, fingering, stem and slurs stay."""
        found = note.find("pitch")
        self._place(note)
        set_pitch(found, pitch, spelling)
        self._drop(note, "accidental")
        self._place(note)

    def remove(self, note: Any) -> None:
        """Remove a note from its chord, or replace it by a rest."""
        self._place(note)
        follower = next((n for n in note.itersiblings("note")), None)
        if note.find("grace") is not None or note.find("chord") is not None:
            self._detach(note)
        elif follower is not None and follower.find("chord") is not None:
            self._drop(follower, "chord")
            for child in note:
                if child.tag in ("beam", "lyric") and (child.tag == "lyric" or follower.find("beam") is None):
                    insert_child(follower, deepcopy(child))
            signs = [deepcopy(c) for n in note.findall("notations") for c in n if c.tag != "tied"]
            if signs:
                target = follower.find("notations")
                if target is None:
                    target = etree.Element("notations")
                    insert_child(follower, target)
                target.extend(signs)
            self._detach(note)
        else:
            self._to_rest(note)

    def _to_rest(self, note: Any) -> None:
        for child in list(note):
            if child.tag == "notations":
                for sign in list(child):
                    if sign.tag not in ("tuplet", "slur"):
                        child.remove(sign)
                if not len(child):
                    note.remove(child)
            elif child.tag not in _OF_REST:
                note.remove(child)
        for name in ("dynamics", "end-dynamics", "attack", "release", "pizzicato"):
            note.attrib.pop(name, None)
        note.insert(0, etree.Element("rest"))

    def replace_staff(self, staff: int, written: Any, hand: int, divisions: Fraction) -> None:
        """Replace one staff by that of a bar of write_musicxml.

        staff, hand  its number here and there
        divisions    of the written bar
        """
        for note, _, _ in self.timed():
            here = int(number(note.findtext("staff")) or 1)
            if here == staff and note.find("cue") is None and note.find("unpitched") is None:
                self._blank(note)
        voices: dict[str, list[Any]] = defaultdict(list)
        for note in written.findall("note"):
            voices[note.findtext("voice") or ""].append(note)
        self._fit([Fraction(str(n.findtext("duration"))) / divisions for n in written.findall("note[duration]")])
        for notes in voices.values():
            if not any(n.findtext("staff") == str(hand) and n.find("pitch") is not None for n in notes):
                continue
            layer, voice = [], self._free_voice(staff)
            for note in notes:
                duration = note.findtext("duration")
                ours = Fraction(duration) / divisions * self.divisions if duration else Fraction(0)
                if note.findtext("staff") != str(hand):
                    if note.find("chord") is None and duration:
                        layer.append(time_step("forward", ours))
                    continue
                copy = deepcopy(note)
                copy.tail = None
                for name, text in (("duration", str(ours)), ("voice", str(voice)), ("staff", str(staff))):
                    if (found := copy.find(name)) is not None:
                        found.text = text
                if not self.several and staff == 1:
                    self._drop(copy, "staff")
                layer.append(copy)
            self._layer(layer)

    def add(self, pieces: Sequence[Piece], staff: int) -> None:
        """Add notes to a staff: to a chord, in a rest, else as a new voice."""
        groups: dict[tuple[Fraction, Fraction], list[Piece]] = defaultdict(list)
        for piece in sorted(pieces, key=lambda p: (p.start, p.pitch)):
            groups[piece.start, piece.length].append(piece)
        left = []
        for (start, length), chord in groups.items():
            if not self._into_chord(start, length, chord, staff) and not self._into_rest(start, length, chord, staff):
                left.append((start, length, chord))
        while left:
            reached, layer, rest = Fraction(0), [], []
            for start, length, chord in left:
                if start < reached:
                    rest.append((start, length, chord))
                else:
                    layer.append((start, length, chord))
                    reached = start + length
            self._new_voice(layer, staff)
            left = rest

    def finish(self, fifths: int) -> None:
        """Add required accidentals, and state the divisions. fifths: the key signature of the bar."""
        self._tidy()
        said: dict[tuple, int] = {}
        for note, _, _ in sorted(self.timed(), key=lambda t: t[1]):
            place, alter = place_of(note), alter_of(note)
            if place is None or place not in self.places:
                continue
            at = STEPS.index(place[1])
            in_key = 1 if at < fifths else -1 if at >= 7 + fifths else 0
            if note.find("accidental") is not None:
                said[place] = alter
            elif said.get(place, in_key) != alter and note.find("tie[@type='stop']") is None:
                sign = etree.Element("accidental")
                sign.text = _ACCIDENTALS.get(alter, "natural")
                insert_child(note, sign)
                said[place] = alter
        if self.scaled > 1:
            self._state_divisions()

    # ---- new notes
    def _into_chord(self, start: Fraction, length: Fraction, chord: list[Piece], staff: int) -> bool:
        for note, at, lasts in self.timed():
            plain = note.find("pitch") is not None and note.find("cue") is None and note.find("chord") is None
            if not plain or note.find("grace") is not None or (at, lasts) != (start, length):
                continue
            if int(number(note.findtext("staff")) or 1) != staff:
                continue
            last = note
            for follower in note.itersiblings("note"):
                if follower.find("chord") is None:
                    break
                last = follower
            for piece in chord:
                new = self._shell(piece, note)
                new.insert(0, etree.Element("chord"))
                last.addnext(new)
                new.tail, last = last.tail, new
            return True
        return False

    def _shell(self, piece: Piece, like: Any) -> Any:
        """A new <note> of a piece's pitch and ties, with the duration and voice of another note."""
        note = etree.Element("note")
        set_pitch(etree.SubElement(note, "pitch"), piece.pitch, piece.spelling)
        for child in like:
            if child.tag in _OF_CHORD:
                insert_child(note, bare_copy(child))
        self._tie(note, piece.tied_from, piece.tied_on)
        self._place(note)
        return note

    def _tie(self, note: Any, tied_from: bool, tied_on: bool) -> None:
        kinds = [kind for kind, there in (("stop", tied_from), ("start", tied_on)) if there]
        for kind in kinds:
            insert_child(note, etree.Element("tie", type=kind))
        if kinds:
            notations = etree.Element("notations")
            for kind in kinds:
                etree.SubElement(notations, "tied", type=kind)
            insert_child(note, notations)

    def _into_rest(self, start: Fraction, length: Fraction, chord: list[Piece], staff: int) -> bool:
        """Put a chord into consecutive rests of one voice; return whether there was room."""
        runs: list[list[tuple[Any, Fraction, Fraction]]] = []
        for note, at, lasts in self.timed():
            plain = note.find("rest") is not None and note.find("time-modification") is None
            plain = plain and note.find("cue") is None and note.find("notations") is None
            if not plain or int(number(note.findtext("staff")) or 1) != staff:
                continue
            last = runs[-1][-1][0] if runs else None
            if last is not None and last.getnext() is note and last.findtext("voice") == note.findtext("voice"):
                runs[-1].append((note, at, lasts))
            else:
                runs.append([(note, at, lasts)])
        for run in runs:
            begin, end = run[0][1], run[-1][1] + run[-1][2]
            if not (begin <= start and start + length <= end):
                continue
            voice = run[0][0].findtext("voice") or "1"
            before = rest_values(begin, start - begin, self.pulse) if start > begin else []
            after = rest_values(start + length, end - start - length, self.pulse) if end > start + length else []
            values = note_values(start, length, self.pulse)
            self._fit([v.length for v in (*before, *values, *after)])
            new = [self._rest(v, voice, staff) for v in before]
            new += self._heads(chord, values, voice, staff, [[]] * len(values))
            new += [self._rest(v, voice, staff) for v in after]
            first, tail = run[0][0], run[-1][0].tail
            for element in new:
                element.tail = first.tail
                first.addprevious(element)
            for note, _, _ in run:
                self.measure.remove(note)
            new[-1].tail = tail
            return True
        return False

    def _new_voice(self, groups: list[tuple[Fraction, Fraction, list[Piece]]], staff: int) -> None:
        """Add a voice, without rests in its gaps."""
        stream: list[tuple[Fraction, NoteValue, list[Piece], bool, bool]] = []
        for start, length, chord in groups:
            at, values = start, note_values(start, length, self.pulse)
            for k, value in enumerate(values):
                stream.append((at, value, chord, k > 0, k < len(values) - 1))
                at += value.length
        self._fit([x for at, value, *_ in stream for x in (at, value.length)])
        grouped = beam_groups([at for at, *_ in stream], [value for _, value, *_ in stream], self.pulse)
        for k in range(1, len(stream)):  # no beam across a gap
            if stream[k][0] != stream[k - 1][0] + stream[k - 1][1].length:
                grouped[k:] = [g + 1000 for g in grouped[k:]]
        beams = beam_states([value.beams for _, value, *_ in stream], grouped)
        voice, here, layer = str(self._free_voice(staff)), Fraction(0), []
        for (at, value, chord, from_, on), words in zip(stream, beams, strict=True):
            if at > here:
                layer.append(time_step("forward", (at - here) * self.divisions))
            layer += self._heads(chord, [value], voice, staff, [words], from_, on)
            here = at + value.length
        self._layer(layer)

    def _heads(
        self, chord: list[Piece], values: list[NoteValue], voice: str, staff: int, beams: list[list[str]],
        from_: bool = False, on: bool = False,
    ) -> list[Any]:  # fmt: skip
        """The notes of a chord for each of its values, tied together."""
        out = []
        for k, (value, words) in enumerate(zip(values, beams, strict=True)):
            for n, piece in enumerate(chord):
                note = etree.Element("note")
                if n:
                    etree.SubElement(note, "chord")
                set_pitch(etree.SubElement(note, "pitch"), piece.pitch, piece.spelling)
                self._written(note, value, voice, staff)
                for level, word in enumerate(words if n == 0 else [], 1):
                    etree.SubElement(note, "beam", number=str(level)).text = word
                last = k == len(values) - 1
                self._tie(note, piece.tied_from or from_ if k == 0 else True, piece.tied_on or on if last else True)
                self._place(note)
                out.append(note)
        return out

    def _rest(self, value: NoteValue, voice: str, staff: int) -> Any:
        note = etree.Element("note")
        etree.SubElement(note, "rest")
        self._written(note, value, voice, staff)
        return note

    def _written(self, note: Any, value: NoteValue, voice: str, staff: int) -> None:
        etree.SubElement(note, "duration").text = str(value.length * self.divisions)
        etree.SubElement(note, "voice").text = voice
        if value.type:
            etree.SubElement(note, "type").text = value.type
        for _ in range(value.dots):
            etree.SubElement(note, "dot")
        if value.tuplet != (1, 1):
            found = etree.SubElement(note, "time-modification")
            etree.SubElement(found, "actual-notes").text = str(value.tuplet[0])
            etree.SubElement(found, "normal-notes").text = str(value.tuplet[1])
        if self.several or staff > 1:
            etree.SubElement(note, "staff").text = str(staff)

    def _layer(self, layer: list[Any]) -> None:
        """Append a voice that starts at the barline; restore the time position afterwards."""
        at = max((k for k, e in enumerate(self.measure) if e.tag in ("note", "backup", "forward")), default=-1) + 1
        here = self._cursor(at)
        length = Fraction(0)
        for e in layer:
            if e.find("chord") is None:
                length += Fraction(e.findtext("duration") or 0)
        back = [time_step("backup", here * self.divisions)] if here else []
        over = here * self.divisions - length
        close = [time_step("forward" if over > 0 else "backup", abs(over))] if over else []
        tail = self.measure[at - 1].tail if at else None
        for k, element in enumerate([*back, *layer, *close]):
            element.tail = tail
            self.measure.insert(at + k, element)

    def _free_voice(self, staff: int) -> int:
        """An unused voice number."""
        used = {n.findtext("voice") for n in self.measure.findall("note")}
        mine = range(4 * staff - 3, 4 * staff + 1)
        return next(v for v in (*mine, *range(9, 1000)) if str(v) not in used)

    # ---- the tree
    def _detach(self, element: Any) -> None:
        before = element.getprevious()
        if before is not None:
            before.tail = element.tail
        self.measure.remove(element)

    def _drop(self, note: Any, tag: str) -> None:
        for child in note.findall(tag):
            note.remove(child)

    def _blank(self, note: Any) -> None:
        """Replace a note by a <forward> of its duration."""
        duration = note.findtext("duration")
        if note.find("grace") is None and note.find("chord") is None and duration:
            step = time_step("forward", Fraction(duration.strip()))
            step.tail = note.tail
            note.addprevious(step)
        self._detach(note)

    def _tidy(self) -> None:
        """Merge consecutive <forward> and <backup> elements."""
        elements = list(self.measure)
        for a, b in pairwise(elements):
            tags = {a.tag, b.tag}
            if not tags <= {"forward", "backup"} or tags == {"backup"} or a.getparent() is None:
                continue
            signed = [Fraction(e.findtext("duration").strip()) * (1 if e.tag == "forward" else -1) for e in (a, b)]
            total = sum(signed)
            self._detach(a)
            if total == 0:
                self._detach(b)
            else:
                b.tag = "forward" if total > 0 else "backup"
                b.find("duration").text = str(abs(total))
                for name in ("voice", "staff"):
                    self._drop(b, name)

    def _place(self, note: Any) -> None:
        place = place_of(note)
        if place is not None:
            self.places.add(place)

    def _fit(self, lengths: Sequence[Fraction]) -> None:
        """Increase the divisions so that all these lengths are integers."""
        factor = lcm(*[(x * self.divisions).denominator for x in lengths], 1)
        if factor == 1:
            return
        if self.divisions * factor > _MAX_DIVISIONS:
            raise CannotPatch("the new notes are too short to be counted in this file")
        for element in [*self.measure.iter("duration"), *self.measure.iter("offset")]:
            if element.getparent().tag in ("note", "backup", "forward", "direction", "figured-bass"):
                element.text = str((number(element.text) or Fraction(0)) * factor)
        self.divisions *= factor
        self.scaled *= factor

    def _state_divisions(self) -> None:
        """State the bar's divisions at its beginning, and the document's at its end."""
        own = self.measure.find("attributes/divisions")
        if own is None:
            first = next((e for e in self.measure if e.tag in ("attributes", "note")), None)
            if first is not None and first.tag == "attributes":
                attributes = first
            else:
                attributes = etree.Element("attributes")
                self.measure.insert(0, attributes)
            own = etree.Element("divisions")
            attributes.insert(0, own)
        own.text = str(self.divisions)
        ending = etree.SubElement(self.measure, "attributes")
        etree.SubElement(ending, "divisions").text = str(self.divisions / self.scaled)
