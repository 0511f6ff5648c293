"""MusicXML as a `Page`: the contents of each bar, in quarters.

The format: W3C MusicXML 4.0. Decimal values are read wherever the schema allows them. Of eleven small hand-counted
files (tests/data/reading) partitura 1.9 reads 4 correctly, music21 10.5 9 and this reader all. 89.3 % of 805 public
files agree with music21 in every field and 90.8 % with it or verovio; music21 takes 0.36 s per file on average, this
reader a tenth of a second (docs/reading.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from engine.music.engraving.spelling import FIFTHS
from engine.music.io.words import UNITS, jumps
from engine.music.io.written import FASTEST_MARK, SLOWEST_MARK, Bar, Note, Page, Part, Sign
from engine.music.types import TREMOLO

_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ORNAMENTS = {
    "trill-mark": 1, "wavy-line": 1, "shake": 1, "mordent": 2, "inverted-mordent": 4, "schleifer": 2, "turn": 3,
    "inverted-turn": 5, "delayed-turn": 3, "delayed-inverted-turn": 5, "haydn": 3,
}  # fmt: skip
_ARTICULATIONS = {
    "accent": ("accent", 1), "stress": ("accent", 1), "soft-accent": ("accent", 1), "strong-accent": ("accent", 2),
    "staccato": ("staccato", 1), "detached-legato": ("staccato", 1), "staccatissimo": ("staccato", 2),
    "spiccato": ("staccato", 2), "tenuto": ("tenuto", 1),
}  # fmt: skip
_ACCIDENTALS = {
    "sharp": 1, "natural": 0, "flat": -1, "double-sharp": 2, "sharp-sharp": 2, "flat-flat": -2, "natural-sharp": 1,
    "natural-flat": -1,
}  # fmt: skip
_MOST = Fraction(100_000)


def number(text: str | None) -> Fraction | None:
    """A decimal number as the schema allows it; None for anything else.

    >>> number(" 8.0 "), number("-1.5"), number(""), number("x")
    (Fraction(8, 1), Fraction(-3, 2), None, None)
    """
    if text is None or not re.fullmatch(r"\s*[+-]?(\d{1,9}(\.\d{0,9})?|\.\d{1,9})\s*", text):
        return None
    return Fraction(text.strip())


@dataclass
class _State:
    """State of the reader in one part."""

    part: int
    divisions: Fraction = Fraction(1)
    shift: int = 0  # sounding minus written, semitones
    shift_fifths: int = 0  # the same on the line of fifths
    meter: tuple[int, int] = (4, 4)
    metered: bool = True
    fifths: int = 0
    endings: frozenset[int] = frozenset()
    voices: dict[str, int] = field(default_factory=dict)
    slurs: dict[str, list] = field(default_factory=dict)  # number: open [note, place, is_start]
    wedges: dict[str, Sign] = field(default_factory=dict)
    dashes: dict[str, Sign] = field(default_factory=dict)
    last_words: Sign | None = None


def page_of(root: Any) -> Page:
    """Read a <score-partwise> element (lxml), namespaces already removed."""
    page = Page(title=_title(root), composer=_composer(root))
    names = {p.get("id"): (p.findtext("part-name") or "").strip() for p in root.iter("score-part")}
    ends: list[list[_Ends]] = []  # per bar, for each non-empty part
    for k, element in enumerate(root.findall("part")):
        page.parts.append(Part(names.get(element.get("id"), "")))
        state = _State(k)
        for i, measure in enumerate(element.findall("measure")):
            if i == len(page.bars):
                page.bars.append(Bar((measure.get("number") or "").strip(), metered=False))
                ends.append([])
            found = _measure(measure, i, page, state)
            if found.all:
                ends[i].append(found)
    for i, found in enumerate(ends):
        _set_length(i, found, page)
    return page


def _title(root: Any) -> str:
    return (root.findtext("movement-title") or root.findtext("work/work-title") or "").strip()


def _composer(root: Any) -> str:
    for creator in root.iterfind("identification/creator"):
        if creator.get("type") == "composer" and creator.text:
            return creator.text.strip()
    return ""


# ---- a bar of a part
@dataclass(frozen=True)
class _Ends:
    """End of a bar of one part, in quarters: of its notes, and including its rests."""

    notes: Fraction
    all: Fraction
    implicit: bool  # the bar is not counted: a pickup, or the part of a bar after a repeat


def _set_length(i: int, ends: list[_Ends], page: Page) -> None:
    """Set a bar's length to that of its longest part. If another part is shorter, rests beyond the metre are ignored:
    programs write a rest of four quarters for a silent bar of any metre, even in a pickup.
    """
    bar = page.bars[i]
    found = [(e.notes, e.all) for e in ends]
    if any(e.notes for e in ends) and any(e.implicit for e in ends):
        found = [(notes, end) for notes, end in found if notes]
        if max(end for _, end in found) < max(e.all for e in ends):
            page.remark(
                i, "measure", "the rests of silent parts are longer than this uncounted bar; it ends with its notes"
            )
    longest = max((end for _, end in found), default=Fraction(0))
    nominal = Fraction(4 * bar.meter[0], bar.meter[1])
    if bar.metered and longest > nominal and any(end < longest for _, end in found):
        if any(max(notes, nominal) < end for notes, end in found):
            page.remark(i, "measure", "a rest in one part goes past the end of the bar; it is cut there")
        found = [(notes, max(notes, min(end, nominal))) for notes, end in found]
    bar.length = max((end for _, end in found), default=Fraction(0))
    if any(end < bar.length for _, end in found):
        page.remark(i, "measure", "the parts differ in length; the bar lasts as long as the longest")


def _measure(measure: Any, i: int, page: Page, s: _State) -> _Ends:
    bar = page.bars[i]
    here, furthest, before = Fraction(0), Fraction(0), Fraction(0)  # now, the end so far, onset of the last note
    sounded = Fraction(0)  # the end of the notes so far
    for element in measure:
        tag = element.tag
        if tag == "note":
            onset = before if element.find("chord") is not None else here
            length = _note(element, onset, i, page, s)
            if element.find("chord") is None:
                before, here = here, here + length
            furthest = max(furthest, onset + length)
            sounded = sounded if element.find("rest") is not None else max(sounded, onset + length)
        elif tag in ("backup", "forward"):
            length = (number(element.findtext("duration")) or Fraction(0)) / s.divisions
            here = max(here + (length if tag == "forward" else -length), Fraction(0))
            furthest = max(furthest, here)
        elif tag == "attributes":
            _attributes(element, i, page, s)
        elif tag == "direction":
            _direction(element, here, i, page, s)
        elif tag == "sound":
            _sound(element, here, bar)
        elif tag == "barline":
            _barline(element, bar, s)
    if s.endings and not bar.order.endings:
        bar.order.endings = s.endings
    for element in measure.iterfind("barline/ending"):
        if element.get("type") in ("stop", "discontinue"):
            s.endings = frozenset()
    if s.part == 0 or not bar.notes or page.parts[s.part].staves >= 2:
        bar.meter, bar.fifths, bar.metered = s.meter, s.fifths, s.metered
    return _Ends(sounded, furthest, measure.get("implicit") == "yes")


def _attributes(element: Any, i: int, page: Page, s: _State) -> None:
    divisions = number(element.findtext("divisions"))
    if divisions and divisions > 0:
        s.divisions = divisions
    if staves := number(element.findtext("staves")):
        page.parts[s.part].staves = max(page.parts[s.part].staves, int(staves))
    if (transpose := element.find("transpose")) is not None:
        chromatic = int(number(transpose.findtext("chromatic")) or 0)
        diatonic = number(transpose.findtext("diatonic"))
        octaves = int(number(transpose.findtext("octave-change")) or 0)
        steps = round(chromatic * 7 / 12) if diatonic is None else int(diatonic)
        s.shift, s.shift_fifths = chromatic + 12 * octaves, 7 * chromatic - 12 * steps
    if (key := element.find("key")) is not None:
        fifths = number(key.findtext("fifths"))
        if fifths is None:
            page.remark(i, "<key-step>", "this key signature is not of the major and minor kind; none is kept")
        concert = int(fifths or 0) + s.shift_fifths
        s.fifths = concert - 12 if concert > 7 else concert + 12 if concert < -7 else concert
    if (time := element.find("time")) is not None:
        meter = _meter(time)
        s.metered = time.find("senza-misura") is None
        if meter is not None:
            s.meter = meter
        elif s.metered:
            page.remark(i, "<time>", "this time signature cannot be read; the one before stays")


def _meter(time: Any) -> tuple[int, int] | None:
    """Numerator and denominator, summed for an additive metre: 3+2/8 is 5/8, 2/4+3/8 is 7/8."""
    total, finest = Fraction(0), 1
    for beats, unit in zip(time.findall("beats"), time.findall("beat-type"), strict=False):
        counts = [number(x) for x in re.split(r"[+*]", beats.text or "")]
        den = number(unit.text)
        if den is None or den not in (1, 2, 4, 8, 16, 32, 64, 128) or any(c is None for c in counts):
            return None
        total += sum(c for c in counts if c is not None) / den
        finest = max(finest, int(den))
    num = total * finest
    return (int(num), finest) if num.denominator == 1 and 1 <= num <= 64 else None


def _note(element: Any, onset: Fraction, i: int, page: Page, s: _State) -> Fraction:
    """Add one note; returns its time advance in quarters."""
    grace = element.find("grace") is not None
    duration = number(element.findtext("duration"))
    length = Fraction(0) if grace or duration is None else min(max(duration, Fraction(0)) / s.divisions, _MOST)
    if duration is None and not grace and element.find("pitch") is not None:
        page.remark(i, "<duration>", "a note without a readable duration is left out")
        return Fraction(0)
    pitch = element.find("pitch")
    staff = max(int(number(element.findtext("staff")) or 1), 1)
    page.parts[s.part].staves = max(page.parts[s.part].staves, min(staff, 8))
    if pitch is None:
        if element.find("unpitched") is not None:
            page.remark(i, "<unpitched>", "notes without a pitch are left out")
        return length
    if element.find("cue") is not None and element.get("print-object") != "no":  # hidden cue notes are for playback
        page.remark(i, "<cue>", "cue notes are not played")
        return length
    step, octave = (pitch.findtext("step") or "").strip().upper(), number(pitch.findtext("octave"))
    if step not in _STEPS or octave is None:
        page.remark(i, "<pitch>", "a note without a readable pitch is left out")
        return length
    alter = number(pitch.findtext("alter")) or Fraction(0)
    whole = int(alter) if alter.denominator == 1 else round(alter)
    if alter.denominator != 1:
        page.remark(i, "<alter>", "quarter tones are rounded to semitones")
    elif _ACCIDENTALS.get((element.findtext("accidental") or "").strip(), whole) != whole:
        page.remark(i, "<accidental>", "a printed accidental contradicts the pitch of its note; the pitch is played")
    if length == 0 and not grace:
        page.remark(i, "<duration>", "a note without length is left out")
        return length
    midi = 12 * (int(octave) + 1) + _STEPS[step] + whole + s.shift
    if not 0 <= midi <= 127:
        page.remark(i, "<pitch>", "a note outside the range of MIDI is left out")
        return length
    tied = element.findall("tie") or element.findall("notations/tied")
    ties = {t.get("type") for t in tied}
    note = Note(
        onset, length, midi, FIFTHS[step] + 7 * whole + s.shift_fifths, s.part, staff,
        _voice(element.findtext("voice"), s), grace, "stop" in ties, "start" in ties, _marks_of(element),
    )  # fmt: skip
    note.element = element
    page.bars[i].notes.append(note)
    for slur in element.iterfind("notations/slur"):
        _slur(slur, note, i, page, s)
    for dynamics in element.iterfind("notations/dynamics"):
        page.bars[i].signs += [Sign(onset, "mark", mark.tag) for mark in dynamics if mark.tag != "other-dynamics"]
    return length


def _voice(text: str | None, s: _State) -> int:
    text = (text or "").strip()
    if text.isdecimal() and len(text) < 4:
        return int(text)
    return s.voices.setdefault(text, 0 if not text else 100 + len(s.voices))


def _marks_of(element: Any) -> dict[str, int]:
    out: dict[str, int] = {}
    for notations in element.findall("notations"):
        for child in notations:
            if child.tag == "articulations":
                for sign in child:
                    name, value = _ARTICULATIONS.get(sign.tag, ("", 0))
                    if name:
                        out[name] = max(out.get(name, 0), value)
            elif child.tag == "ornaments":
                kind = max((_ornament(sign) for sign in child), default=0)
                if kind:
                    out["ornament"] = kind
            elif child.tag == "fermata":
                out["fermata"] = 1
            elif child.tag == "arpeggiate":
                out["arpeggio"] = 1
    return out


def _ornament(sign: Any) -> int:
    """The value of "ornament" in MARK_NAMES; 0 for a tremolo between two notes, which is not realised."""
    if sign.tag == "tremolo":
        beams = number(sign.text)
        return TREMOLO + int(min(max(beams, 1), 5)) if beams and sign.get("type", "single") == "single" else 0
    return _ORNAMENTS.get(sign.tag, 0)


def _slur(slur: Any, note: Note, i: int, page: Page, s: _State) -> None:
    """Pair the ends of slurs by their number; an end may precede its beginning in the file (other voices)."""
    kind, open_ = slur.get("type"), s.slurs.setdefault(slur.get("number") or "1", [])
    if kind not in ("start", "stop"):
        return
    place = (i, note.at)
    other = next((o for o in reversed(open_) if o[2] != (kind == "start")), None)
    if other is not None and (other[1] <= place if kind == "stop" else place <= other[1]):
        open_.remove(other)
        first, (a, b) = (other[0], (other[1], place)) if kind == "stop" else (note, (place, other[1]))
        page.slurs.append((s.part, first.staff, first.voice, a, b))
    else:
        open_.append((note, place, kind == "start"))


# ---- between the notes
def _direction(element: Any, here: Fraction, i: int, page: Page, s: _State) -> None:
    at = max(here + (number(element.findtext("offset")) or Fraction(0)) / s.divisions, Fraction(0))
    bar = page.bars[i]
    words, printed = [], None
    for child in element.iterfind("direction-type/*"):
        if child.tag == "words" and child.text:
            words.append(child.text)
        elif child.tag == "dynamics":
            bar.signs += [Sign(at, "mark", m.tag) for m in child if m.tag != "other-dynamics"]
            bar.signs += [Sign(at, "words", m.text) for m in child if m.tag == "other-dynamics" and m.text]
        elif child.tag == "wedge":
            _wedge(child, (i, at), bar, s)
        elif child.tag == "metronome":
            printed = child
        elif child.tag in ("segno", "coda"):
            bar.order.jumps.add(child.tag if at == 0 or child.tag == "segno" else "tocoda")
        elif child.tag == "octave-shift":
            pass  # the pitches are the sounding ones
    if words:
        text = " ".join(" ".join(words).split())
        bar.order.jumps |= jumps(text)
        s.last_words = Sign(at, "words", text)
        bar.signs.append(s.last_words)
    for dashes in element.iterfind("direction-type/dashes"):
        name = dashes.get("number") or "1"
        if dashes.get("type") == "start" and s.last_words is not None:
            s.dashes[name] = s.last_words
        elif dashes.get("type") == "stop" and name in s.dashes:
            s.dashes.pop(name).end = (i, at)
    sound = element.find("sound")
    kept = printed is not None and _metronome(printed, at, bar, i, page, sound is not None and "tempo" in sound.attrib)
    if sound is not None:
        _sound(sound, at, bar, tempo=not kept)


def _wedge(element: Any, place: tuple[int, Fraction], bar: Bar, s: _State) -> None:
    kind, name = element.get("type"), element.get("number") or "1"
    if kind in ("crescendo", "diminuendo"):
        s.wedges[name] = Sign(place[1], "wedge", 1 if kind == "crescendo" else -1)
        bar.signs.append(s.wedges[name])
    elif kind == "stop" and name in s.wedges:
        s.wedges.pop(name).end = place


def _metronome(element: Any, at: Fraction, bar: Bar, i: int, page: Page, sounds: bool) -> bool:
    """A number of beats a minute, or an equation: the former first value now lasts as long as the second.

    sounds  whether there is also a <sound tempo>. A printed number overrides it, because programs keep an old one after
            a change; it overrides an equation, whose tempo it states as a number.
    Returns whether to ignore the <sound tempo>.
    """
    units = _beat_units(element)
    count = re.search(r"\d+(\.\d+)?", element.findtext("per-minute") or "")
    if count and len(units) == 1:
        bpm = float(count[0]) * float(units[0])
        bar.signs.append(Sign(at, "bpm", bpm))
        if not SLOWEST_MARK < bpm < FASTEST_MARK:
            page.remark(i, "<metronome>", f"a tempo of {bpm:g} quarters a minute is not kept")
            return False
        return True
    if len(units) == 2 and units[0] and not sounds:
        bar.signs.append(Sign(at, "ratio", float(units[1] / units[0])))
    return False


def _beat_units(element: Any) -> list[Fraction]:
    """The note values on both sides of a metronome mark, in quarters."""
    out: list[Fraction] = []
    groups: list[Fraction] = [Fraction(0)]
    for child in element:
        if child.tag == "beat-unit":
            out.append(UNITS.get((child.text or "").strip(), Fraction(0)))
        elif child.tag == "beat-unit-dot" and out:
            out[-1] *= Fraction(3, 2)
        elif child.tag == "metronome-note":
            value = UNITS.get((child.findtext("metronome-type") or "").strip(), Fraction(0))
            actual, normal = (number(child.findtext(f"metronome-tuplet/{k}-notes")) for k in ("actual", "normal"))
            value *= Fraction(3, 2) if child.find("metronome-dot") is not None else 1
            groups[-1] += value * (normal / actual if actual and normal else 1)
        elif child.tag == "metronome-relation":
            groups.append(Fraction(0))
    return out or (groups if len(groups) == 2 and all(groups) else [])


def _sound(element: Any, at: Fraction, bar: Bar, tempo: bool = True) -> None:
    """Playback instructions: a tempo if none is printed (`tempo`), and jumps."""
    if tempo and (bpm := number(element.get("tempo"))):
        bar.signs.append(Sign(at, "bpm", float(bpm)))
    for name in ("dacapo", "dalsegno", "fine", "tocoda", "segno", "coda"):
        if element.get(name) not in (None, "", "no"):
            bar.order.jumps.add(name)


def _barline(element: Any, bar: Bar, s: _State) -> None:
    left = element.get("location") == "left"
    repeat, ending = element.find("repeat"), element.find("ending")
    if repeat is not None and repeat.get("direction") == "forward":
        bar.order.forward = True
    elif repeat is not None and not left:
        times = number(repeat.get("times"))
        bar.order.backward = max(bar.order.backward, int(times) if times and 1 < times < 33 else 2)
    if ending is not None and ending.get("type") == "start":
        numbers = frozenset(int(n) for n in re.findall(r"\d{1,2}", ending.get("number") or "")) or frozenset({1})
        s.endings = bar.order.endings = numbers
    if element.find("segno") is not None:
        bar.order.jumps.add("segno")
    if element.find("coda") is not None:
        bar.order.jumps.add("coda" if left else "tocoda")
