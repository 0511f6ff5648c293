"""MEI as a `Page`. The format: music-encoding.org, versions 3 to 5. An unknown element gives a remark.

Of ten small hand-counted files (tests/data/reading) partitura 1.9 reads none correctly, music21 10.5 4, verovio 6.4 6
and this reader all. In the public files that differ the other readers play no repeats (docs/reading.md).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from engine.limits import MAX_BARS
from engine.music.engraving.spelling import FIFTHS
from engine.music.io.musicxml_page import number
from engine.music.io.page_events import BAR_END, word_events
from engine.music.io.written import Bar, Note, Page, Part, Sign
from engine.music.types import TREMOLO

_ID = "{http://www.w3.org/XML/1998/namespace}id"
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ACCIDENTALS = {"s": 1, "f": -1, "ss": 2, "x": 2, "ff": -2, "n": 0, "ns": 1, "nf": -1, "ts": 3, "tf": -3}
_LONG = {"breve": 8, "long": 16, "maxima": 32}
_ARTICULATIONS = {
    "acc": ("accent", 1), "marc": ("accent", 2), "stacc": ("staccato", 1), "stacciss": ("staccato", 2),
    "spicc": ("staccato", 2), "ten": ("tenuto", 1),
}  # fmt: skip
_ORNAMENTS = {"trill": 1, "mordent": 2, "turn": 3}
_FORMS = {("mordent", "upper"): 4, ("turn", "lower"): 5}
_SILENT = {
    "clef", "keySig", "meterSig", "barLine", "dot", "artic", "accid", "verse", "syl", "custos", "sb", "pb", "del",
    "beamSpan", "tupletSpan",
}  # fmt: skip
_CHOICES = {"choice": ("corr", "reg", "expan"), "app": ("lem",), "subst": ("add",)}

_MOST_RESTS = 1000  # bars of one <multiRest>
Place = tuple[int, int, int]  # part, staff, voice
_TRANSPARENT = {"beam", "bTrem", "supplied", "unclear", "damage", "add", "corr", "sic", "orig", "reg", *_CHOICES}


class _Reader:
    def __init__(self, root: Any) -> None:
        self.page = Page()
        self.meter, self.fifths = (4, 4), 0
        self.staves: dict[str, tuple[int, int]] = {}  # n: part, staff
        self.notes: dict[str, list[tuple[int, Note]]] = {}  # xml:id: bar and notes (of a chord several)
        self.places: dict[str, tuple[int, Fraction]] = {}
        self.controls: list[tuple[int, Any]] = []
        self.last: dict[tuple[str, str], Any] = {}  # staff and layer: the previous bar's content
        self.spans: dict[str, tuple[Fraction, str]] = {}  # of each <tupletSpan>: first id, (ratio, last id)
        self.span: tuple[Fraction, str] | None = None  # the one that is open in this layer
        self.title = root.findtext(".//titleStmt/title") or ""

    def page_of(self, root: Any) -> Page:
        self.page.title = " ".join(self.title.split())
        names = [e for e in root.iter("composer", "persName") if e.tag == "composer" or e.get("role") == "composer"]
        self.page.composer = " ".join("".join(names[0].itertext()).split()) if names else ""
        scores = list(root.iterfind("music//score"))
        for score in scores:
            self.sections(score, frozenset())
        if len(scores) > 1 and self.page.bars:
            self.page.remark(0, "<mdiv>", f"{len(scores)} movements follow each other")
        for bar, control in self.controls:
            self.control(bar, control)
        return self.page

    def sections(self, element: Any, endings: frozenset[int]) -> None:
        for child in element:
            if child.tag in ("scoreDef", "staffDef", "staffGrp"):
                self.definitions(child)
            elif child.tag == "measure":
                self.measure(child, endings)
            elif child.tag == "ending":
                found = re.findall(r"\d{1,2}", child.get("n") or child.get("label") or "1")
                self.sections(child, frozenset(int(n) for n in found) or frozenset({1}))
            elif child.tag in ("section", "parts", "part", "score", *_CHOICES, "lem", "corr", "supplied", "add"):
                self.sections(chosen(child), endings)

    def definitions(self, element: Any) -> None:
        for e in element.iter("scoreDef", "staffDef", "meterSig", "keySig"):
            own = e.tag == "meterSig"
            counts = e.get("count" if own else "meter.count")
            unit = e.get("unit" if own else "meter.unit")
            if counts and unit and re.fullmatch(r"\s*\d{1,2}(\s*\+\s*\d{1,2})*\s*", counts) and unit.isdecimal():
                total = sum(int(c) for c in counts.split("+"))
                if 1 <= total <= 64 and int(unit) in (1, 2, 4, 8, 16, 32, 64):
                    self.meter = total, int(unit)
            elif symbol := {"common": (4, 4), "cut": (2, 2)}.get(e.get("sym" if own else "meter.sym") or ""):
                self.meter = symbol
            key = e.get("sig") if e.tag == "keySig" else e.get("keysig") or e.get("key.sig")
            if key and (found := re.fullmatch(r"(\d)([sf])", key)):
                self.fifths = max(-7, min(7, int(found[1]) * (1 if found[2] == "s" else -1)))
            elif key == "0":
                self.fifths = 0
        for staff in element.iter("staffDef"):
            n = staff.get("n") or "1"
            if n in self.staves:
                continue
            group = staff.getparent()
            signs = [group, *group.findall("grpSym")] if group is not None else []
            braced = any(g.get("symbol") == "brace" for g in signs)
            mates = [s.get("n") for s in group.findall("staffDef")] if braced and group is not None else [n]
            known = next((self.staves[m] for m in mates if m in self.staves), None)
            if known is None:
                label = (group if braced and group is not None else staff).findtext("label") or staff.get("label") or ""
                self.page.parts.append(Part(" ".join(label.split()), len(mates)))
            self.staves[n] = (len(self.page.parts) - 1 if known is None else known[0], mates.index(n) + 1)

    def measure(self, element: Any, endings: frozenset[int]) -> None:
        bar = Bar((element.get("n") or "").strip(), self.meter, self.fifths)
        bar.order.endings = endings
        i = len(self.page.bars)
        if i and self.fifths != self.page.bars[-1].fifths:
            self.page.events[i].append((0.0, "key"))
        self.page.bars.append(bar)
        kind = {"dbl": "double", "rptend": "repeat", "rptboth": "repeat"}.get(element.get("right") or "")
        if kind:
            self.page.events[i].append((BAR_END, kind))
        if element.get("left") in ("rptstart", "rptboth") or (i and self.begins):
            bar.order.forward = True
        self.begins = element.get("right") in ("rptboth", "rptstart")
        if element.get("right") in ("rptend", "rptboth"):
            bar.order.backward = 2
        if i and element.get("left") in ("rptend", "rptboth"):
            self.page.bars[i - 1].order.backward = 2
        for e in element.iter("tupletSpan"):
            first, last = ((e.get(name) or "").lstrip("#") for name in ("startid", "endid"))
            if first and last:
                self.spans[first] = _ratio(e), last
            else:
                self.page.remark(i, "<tupletSpan>", "a tuplet without startid and endid is left out")
        for child in element:
            if child.tag != "staff":
                self.controls.append((i, child))
                continue
            n = child.get("n") or "1"
            if n not in self.staves:
                self.page.parts.append(Part())
                self.staves[n] = (len(self.page.parts) - 1, 1)
            for k, layer in enumerate(child.iter("layer")):
                place = n, layer.get("n") or str(k + 1)
                if layer.find("mRpt") is not None and place in self.last:
                    layer = self.last[place]
                self.last[place] = layer
                self.span = None
                voice = int(place[1]) if place[1].isdecimal() else k + 1
                end = self.events(layer, Fraction(0), Fraction(1), False, i, (*self.staves[n], voice))
                bar.length = max(bar.length, end)
        if not bar.notes:
            self.rests(element, bar)

    def rests(self, measure: Any, bar: Bar) -> None:
        """The further silent bars of a <multiRest>, which stands in one <measure> for `num` bars."""
        counts = [number(e.get("num")) or Fraction(1) for e in measure.iter("multiRest")]
        most = min(_MOST_RESTS, MAX_BARS - len(self.page.bars))
        for k in range(1, min(int(max(counts, default=Fraction(1))), most)):
            name = str(int(bar.name) + k) if bar.name.isdecimal() and len(bar.name) < 7 else ""
            self.page.bars.append(Bar(name, self.meter, self.fifths))
            self.page.bars[-1].order.endings = bar.order.endings

    begins = False

    def events(self, element: Any, at: Fraction, ratio: Fraction, grace: bool, i: int, where: Place) -> Fraction:
        """Read the contents of a layer from `at` on; returns their end. where  part, staff, voice"""
        for e in chosen(element):
            tag = e.tag
            if not isinstance(tag, str) or tag in _SILENT:
                continue
            if tag in ("note", "chord", "rest", "space"):
                ornamental = grace or e.get("grace") is not None
                self.span = self.spans.get(e.get(_ID) or "", self.span)
                length = Fraction(0) if ornamental else _length(e) * ratio * (self.span[0] if self.span else 1)
                if self.span and self.span[1] == e.get(_ID):
                    self.span = None
                if e.get(_ID):
                    self.places[e.get(_ID)] = i, at
                for note in [e] if tag == "note" else e.iter("note") if tag == "chord" else []:
                    self.note(note, e, at, length, ornamental, i, where)
                at += length
            elif tag == "tuplet":
                at = self.events(e, at, ratio * _ratio(e), grace, i, where)
            elif tag == "graceGrp":
                at = self.events(e, at, ratio, True, i, where)
            elif tag == "fTrem":
                at = self.events(e, at, ratio / 2, grace, i, where)
            elif tag not in ("mRest", "mSpace", "multiRest"):
                if tag not in _TRANSPARENT:
                    self.page.remark(i, f"<{tag}>", "this element is not known here; only notes in it are read")
                at = self.events(e, at, ratio, grace, i, where)
        return at

    def note(self, e: Any, whole: Any, at: Fraction, length: Fraction, grace: bool, i: int, where: Place) -> None:
        step = (e.get("pname") or "").upper()
        octave = number(e.get("oct.ges") or e.get("oct"))
        if step not in _STEPS or octave is None:
            self.page.remark(i, "<note>", "a note without a pitch is left out")
            return
        inner = e.find(".//accid")
        signs = [e.get("accid.ges"), e.get("accid")]
        if inner is not None:
            signs += [inner.get("accid.ges"), inner.get("accid")]
        alter = next((_ACCIDENTALS[s] for s in signs if s in _ACCIDENTALS), 0)
        pitch = 12 * (int(octave) + 1) + _STEPS[step] + alter
        if not 0 <= pitch <= 127:
            self.page.remark(i, "<note>", "a note outside the range of MIDI is left out")
            return
        tie = (e.get("tie") or "") + (whole.get("tie") or "")
        marks: dict[str, int] = {}
        for x in (e, whole):
            words = " ".join([x.get("artic") or "", *(a.get("artic") or "" for a in x.iter("artic"))]).split()
            marks |= dict(_ARTICULATIONS[w] for w in words if w in _ARTICULATIONS)
            if x.get("fermata"):
                marks["fermata"] = 1
        if whole.getparent().tag in ("bTrem", "fTrem"):
            marks["ornament"] = _tremolo(whole)
        note = Note(
            at, length, pitch, FIFTHS[step] + 7 * alter, *where, grace, any(c in tie for c in "mt"),
            any(c in tie for c in "im"), marks,
        )  # fmt: skip
        self.page.bars[i].notes.append(note)
        for x in (e, whole) if e is not whole else (e,):
            if x.get(_ID):
                self.notes.setdefault(x.get(_ID), []).append((i, note))
                self.places[x.get(_ID)] = i, at

    # ---- control elements
    def place(self, i: int, e: Any) -> tuple[int, Fraction]:
        found = self.places.get((e.get("startid") or "").lstrip("#"))
        stamp = number(e.get("tstamp"))
        if found is None and stamp is not None and i < len(self.page.bars):
            found = i, max((stamp - 1) * 4 / self.page.bars[i].meter[1], Fraction(0))
        return found or (i, Fraction(0))

    def ending_place(self, i: int, e: Any) -> tuple[int, Fraction] | None:
        found = self.places.get((e.get("endid") or "").lstrip("#"))
        stamp = re.fullmatch(r"(?:(\d{1,4})m\s*\+\s*)?(\d{1,4}(?:\.\d*)?)", e.get("tstamp2") or "")
        if found is None and stamp and i + int(stamp[1] or 0) < len(self.page.bars):
            k = i + int(stamp[1] or 0)
            found = k, max((Fraction(stamp[2]) - 1) * 4 / self.page.bars[k].meter[1], Fraction(0))
        return found

    def control(self, i: int, e: Any) -> None:
        k, at = self.place(i, e)
        bar, end = self.page.bars[k], self.ending_place(i, e)
        start = self.notes.get((e.get("startid") or "").lstrip("#"), [])
        stop = self.notes.get((e.get("endid") or "").lstrip("#"), [])
        text = " ".join("".join(e.itertext()).split()) if isinstance(e.tag, str) else ""
        self.page.events[k] += [(float(at), kind) for kind in _events(e, text)]
        if e.tag in ("dynam", "dir", "tempo"):
            bar.signs.append(Sign(at, "words", text, end))
            bpm = number(e.get("midi.bpm"))
            beats, unit = number(e.get("mm")), number(e.get("mm.unit"))
            if bpm is None and beats and unit:
                bpm = _dotted(beats * 4 / unit, e.get("mm.dots"))
            if bpm:
                bar.signs.append(Sign(at, "bpm", float(bpm)))
        elif e.tag == "hairpin":
            bar.signs.append(Sign(at, "wedge", 1 if e.get("form") == "cres" else -1, end))
        elif e.tag == "tie":
            for _, note in start:
                note.tie_on = True
            for _, note in stop:
                note.tie_from = True
        elif e.tag == "slur" and start and end:
            note = start[0][1]
            self.page.slurs.append((note.part, note.staff, note.voice, (k, at), end))
        elif e.tag in ("fermata", "arpeg", *_ORNAMENTS):
            name = {"fermata": "fermata", "arpeg": "arpeggio"}.get(e.tag, "ornament")
            for ref in (e.get("plist") or "").split():
                start = start + self.notes.get(ref.lstrip("#"), [])
            for _, note in start:
                note.marks[name] = _FORMS.get((e.tag, e.get("form") or ""), _ORNAMENTS.get(e.tag, 1))
        elif e.tag == "repeatMark":
            kind = {"daCapo": "dacapo", "dalSegno": "dalsegno"}.get(e.get("func") or "", e.get("func") or "")
            bar.order.jumps.add(kind)


def _tremolo(whole: Any) -> int:
    """The value of "ornament" of a note or chord in a tremolo; one between two notes has no number of beams."""
    around = whole.getparent()
    slashes = re.fullmatch(r"([1-5])slash", around.get("stem.mod") or whole.get("stem.mod") or "")
    beams = {"8": 1, "16": 2, "32": 3, "64": 4}.get(around.get("unitdur") or "", int(slashes[1]) if slashes else 0)
    return TREMOLO + beams if beams and around.tag == "bTrem" else 1


def _events(e: Any, text: str) -> list[str]:
    """Kinds of page event of a control element."""
    if e.tag == "fermata":
        return ["fermata"]
    if e.tag == "pedal":
        return {"down": ["pedal_down"], "up": ["pedal_up"], "bounce": ["pedal_up", "pedal_down"]}.get(
            e.get("dir") or "", []
        )
    if e.tag not in ("dynam", "dir", "tempo"):
        return []
    found = word_events(text)
    found += ["dynamic"] * (e.tag == "dynam" and re.fullmatch(r"[pmfszr]{1,6}", text) is not None)
    return found + ["metronome"] * bool(e.tag == "tempo" and e.get("mm") and "metronome" not in found)


def chosen(element: Any) -> Any:
    """The performed reading of an <app>, <choice> or <subst>; any other element itself."""
    if element.tag not in _CHOICES:
        return element
    found = next((c for name in _CHOICES[element.tag] for c in element.findall(name)), None)
    return found if found is not None else element[0] if len(element) else element


def _ratio(e: Any) -> Fraction:
    """By how much a tuplet shortens its notes; 3 without `numbase` are in the time of 2, 5 and 7 in that of 4."""
    num, base = number(e.get("num")) or Fraction(3), number(e.get("numbase"))
    return (base or Fraction(2 ** max((int(num) - 1).bit_length() - 1, 0))) / max(num, 1)


def _length(e: Any) -> Fraction:
    """Quarters of a note's or chord's written value."""
    inner = next((n for n in e.iter("note") if n.get("dur")), e)
    name = e.get("dur") or inner.get("dur") or "4"
    value = (
        Fraction(_LONG[name]) if name in _LONG else Fraction(4, int(name)) if re.fullmatch("[1-9]\\d{0,3}", name) else 1
    )
    return _dotted(Fraction(value), e.get("dots") or inner.get("dots") or str(len(inner.findall("dot"))))


def _dotted(value: Fraction, dots: str | None) -> Fraction:
    """A note value with so many dots; 0 to 4 are read."""
    return value * (2 - Fraction(1, 2 ** min(max(int(number(dots) or 0), 0), 4)))


def page_of_mei(root: Any) -> Page:
    """Read an <mei> element (lxml), namespaces already removed."""
    return _Reader(root).page_of(root)
