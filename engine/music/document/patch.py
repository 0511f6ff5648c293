"""Patch the source MusicXML file of a score: only bars with changed notes are rewritten.

Contents that a `Score` lacks are preserved: lyrics, fingering, words, layout, clefs, stems, slurs. New notes are added.
If a bar now differs between two passes of a repeat, the repeats of the file are unfolded first. A score whose bars or
marks were changed is not patched, but rewritten as a whole.
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from lxml import etree

from engine.limits import SCORE_BYTES
from engine.music.document.bars import BarEditor, CannotPatch, OnePlaying, Piece
from engine.music.document.unfold import unfold
from engine.music.engraving.note_values import Pulse
from engine.music.engraving.spelling import spelling_of_pitch
from engine.music.io.musicxml_page import page_of
from engine.music.io.read_musicxml import read_musicxml
from engine.music.io.write_musicxml import write_musicxml
from engine.music.io.written import Page, score_of
from engine.music.io.xml_scan import scan_xml
from engine.music.score_bytes import score_from_bytes
from engine.music.types import BadInput, Score

_GRID = 10_080  # times are compared in these parts of a quarter


def saved(score: Score) -> bytes:
    """The score as MusicXML: its patched source file; a new file if it has none or more than notes changed."""
    if not score.document:
        return write_musicxml(score)
    try:
        return patched(document_of(score), score)
    except CannotPatch:
        return write_musicxml(score)


def saved_bytes(data: bytes) -> bytes:
    """`saved` for a score as bytes."""
    return saved(score_from_bytes(data))


def document_of(score: Score) -> bytes:
    """The source file of the score, scanned as an untrusted file. Raises CannotPatch if it is damaged or too large."""
    unpack = zlib.decompressobj()
    try:
        data = unpack.decompress(score.document, SCORE_BYTES)
    except zlib.error as error:
        raise CannotPatch("the kept document is damaged") from error
    if not unpack.eof:
        raise CannotPatch("the kept document is too large")
    try:
        if scan_xml(data) != "musicxml":
            raise CannotPatch("the kept document is no MusicXML")
    except BadInput as error:
        raise CannotPatch("the kept document is refused") from error
    return data


def patched(document: bytes, score: Score) -> bytes:
    """The file with the score's changes; the same bytes if nothing changed. Raises CannotPatch."""
    root = _tree(document)
    if any("}" in e.tag for e in root.iter(etree.Element)):
        return _unchanged(document, score)
    page = page_of(root)
    old = score_of(page)
    change = compare(old, score)
    title = _retitled(root, page, score)
    if not change and not title:
        return document
    if change and root.find("part/measure/attributes/transpose") is not None:
        raise CannotPatch("the parts are written for transposing instruments")
    try:
        if change:
            _Patch(page, root, old, score, change).write()
    except OnePlaying:
        root = _tree(document)
        unfold(root, page.played_bars)
        page = page_of(root)
        old = score_of(page)
        _Patch(page, root, old, score, compare(old, score, marks=False)).write()
        _retitled(root, page, score)
    tree = root.getroottree()
    data = etree.tostring(tree, xml_declaration=True, encoding=tree.docinfo.encoding or "UTF-8")
    if compare(read_musicxml(data), score, marks=False):
        raise CannotPatch("the patched document reads otherwise")
    return data


def _tree(document: bytes) -> Any:
    """The root of the file's tree. Raises CannotPatch."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(document, parser)
    except etree.XMLSyntaxError as error:
        raise CannotPatch("the kept document is no XML") from error


def _unchanged(document: bytes, score: Score) -> bytes:
    """Handle a file with namespaces, which cannot be patched: raises CannotPatch if anything changed."""
    if compare(read_musicxml(document), score):
        raise CannotPatch("the document has namespaces")
    return document


@dataclass(frozen=True)
class Change:
    """Removed rows of the old score, added rows of the new one, and pairs (old, new) with a changed pitch."""

    gone: tuple[int, ...]
    came: tuple[int, ...]
    moved: tuple[tuple[int, int], ...]
    new_bars: int

    def __bool__(self) -> bool:
        return bool(self.gone or self.came or self.moved or self.new_bars)


def _ticks(quarters: Any) -> list[int]:
    return np.round(np.asarray(quarters) * _GRID).astype(np.int64).tolist()


def compare(old: Score, new: Score, marks: bool = True) -> Change:
    """Differences in the notes. Raises CannotPatch for changes of bars, metre or key; with `marks`, also of marks."""
    a, b, m = old.measures, new.measures, len(old.measures)
    if len(b) < m or any((getattr(a, k) != getattr(b, k)[:m]).any() for k in ("ts_num", "ts_den", "fifths")):
        raise CannotPatch("bars, metre or key changed")
    if _ticks(a.onset_quarter) != _ticks(b.onset_quarter[:m]):
        raise CannotPatch("bars changed their length")
    waiting: dict[tuple, list[int]] = defaultdict(list)
    for i, key in enumerate(_keys(new)):
        waiting[key].append(i)
    gone, kept = [], []
    for i, key in enumerate(_keys(old)):
        if waiting[key]:
            kept.append((i, waiting[key].pop(0)))
        else:
            gone.append(i)
    if marks and any((old.marks.table[i] != new.marks.table[j]).any() for i, j in kept):
        raise CannotPatch("marks changed")
    came = sorted(i for rows in waiting.values() for i in rows)
    moved = _moved(old, new, gone, came)
    left, right = {i for i, _ in moved}, {j for _, j in moved}
    return Change(
        tuple(i for i in gone if i not in left), tuple(j for j in came if j not in right), tuple(moved), len(b) - m
    )


def _keys(score: Score) -> list[tuple]:
    spelling = spelling_of_pitch(score.pitch, score.spelling)
    return list(zip(
        _ticks(score.onset_quarter), _ticks(score.duration_quarter), score.pitch.tolist(), spelling.tolist(),
        score.grace.tolist(), np.where(score.staff == 2, 2, 1).tolist(), strict=True,
    ))  # fmt: skip


def _moved(old: Score, new: Score, gone: list[int], came: list[int]) -> list[tuple[int, int]]:
    """Pairs of a removed and an added note with the same time, length, staff and marks."""
    places: dict[tuple, list[int]] = defaultdict(list)
    keys = _keys(new)
    for j in came:
        places[(*keys[j][:2], *keys[j][4:])].append(j)
    out = []
    keys = _keys(old)
    for i in gone:
        found = places[(*keys[i][:2], *keys[i][4:])]
        found = [j for j in found if (old.marks.table[i] == new.marks.table[j]).all()]
        if found:
            j = min(found, key=lambda k: abs(int(new.pitch[k]) - int(old.pitch[i])))
            places[(*keys[i][:2], *keys[i][4:])].remove(j)
            out.append((i, j))
    return out


def _retitled(root: Any, page: Page, score: Score) -> bool:
    """Write a new title into the file; return whether it changed."""
    if " ".join(page.title.split())[:200] == score.title or not score.title:
        return False
    found = root.find("movement-title")
    if found is None:
        found = root.find("work/work-title")
    if found is None:
        work = etree.Element("work")
        root.insert(0, work)
        found = etree.SubElement(work, "work-title")
    found.text = score.title
    return True


class _Patch:
    """Applies one change to the document."""

    def __init__(self, page: Page, root: Any, old: Score, new: Score, change: Change) -> None:
        self.page, self.root, self.old, self.new, self.change = page, root, old, new, change
        self.parts = [p.findall("measure") for p in root.findall("part")]
        self.order = page.played_bars + list(range(len(page.bars), len(page.bars) + change.new_bars))
        if change.new_bars and page.played_bars[-1] != len(page.bars) - 1:
            raise CannotPatch("bars were added after a jump")
        self.home = self._homes()

    def write(self) -> None:
        """Change the tree. Raises CannotPatch."""
        if any(self.new.grace[j] for j in self.change.came):
            raise CannotPatch("grace notes were added")
        self._append_bars()
        editors: dict[tuple[int, int], BarEditor] = {}

        def editor(part: int, bar: int) -> BarEditor:
            if (part, bar) not in editors:
                editors[part, bar] = BarEditor(self.parts[part][bar], self._divisions(part, bar), self._pulse(bar))
            return editors[part, bar]

        for i, j in self._once_for_all([i for i, _ in self.change.moved], dict(self.change.moved)):
            for bar, note in self.page.heads[i]:
                editor(note.part, bar).repitch(note.element, int(self.new.pitch[j]), int(self.new.spelling[j]))
        gone: dict[tuple[int, int, int], int] = Counter()
        for i, _ in self._once_for_all(list(self.change.gone), {}):
            for bar, note in self.page.heads[i]:
                editor(note.part, bar).remove(note.element)
                gone[note.part, note.staff, bar] += 1
        self._add(gone, editor)
        for (_, bar), found in editors.items():
            found.finish(self._fifths(bar))

    def _homes(self) -> dict[int, tuple[int, int]]:
        """Target of new notes for each staff of the Score: (part, staff of the part)."""
        votes: dict[int, Counter] = {1: Counter(), 2: Counter()}
        self.hands: dict[tuple[int, int], int] = {}  # of each (part, staff)
        for row, heads in enumerate(self.page.heads):
            hand, place = 2 if self.old.staff[row] == 2 else 1, (heads[0][1].part, heads[0][1].staff)
            votes[hand][place] += 1
            self.hands[place] = hand
        home = {hand: count.most_common(1)[0][0] for hand, count in votes.items() if count}
        for hand, other in ((1, 2), (2, 1)):
            if hand not in home:
                part = home[other][0]
                if self.page.parts[part].staves < 2:
                    continue
                home[hand] = (part, hand)
        return home

    def _once_for_all(self, rows: list[int], to: dict[int, int]) -> list[tuple[int, int]]:
        """One row for each written note. Raises CannotPatch unless every pass of it was changed alike."""
        played = Counter(id(note) for heads in self.page.heads for _, note in heads)
        seen: dict[int, set] = defaultdict(set)
        count: Counter[int] = Counter()
        first: list[tuple[int, int]] = []
        done: set[int] = set()
        for i in rows:
            pitch = (int(self.new.pitch[to[i]]), int(self.new.spelling[to[i]])) if i in to else None
            for _, note in self.page.heads[i]:
                count[id(note)] += 1
                seen[id(note)].add(pitch)
            if all(id(note) not in done for _, note in self.page.heads[i]):
                first.append((i, to.get(i, -1)))
            done |= {id(note) for _, note in self.page.heads[i]}
        if any(count[k] != played[k] or len(seen[k]) > 1 for k in count):
            raise OnePlaying("a repeated bar was changed in one of its playings only")
        return first

    def _add(self, gone: dict[tuple[int, int, int], int], editor: Any) -> None:
        """Write the new notes: a bar in which a hand has only new notes gets the layout of `write_musicxml`, others are
        extended note by note.
        """
        pieces, turns = self._pieces(), Counter(self.order)
        kept: Counter = Counter()
        for bar, found in enumerate(self.page.bars):
            for note in found.notes:
                kept[note.part, note.staff, bar] += 1
        written: list[Any] = []
        for (hand, bar), by_turn in pieces.items():
            if hand not in self.home:
                raise CannotPatch("there is no staff for the new notes")
            if len(by_turn) != turns[bar] or any(_alike(p) != _alike(by_turn[0]) for p in by_turn[1:]):
                raise OnePlaying("a repeated bar was changed in one of its playings only")
            part, staff = self.home[hand]
            target = editor(part, bar)
            mine = [place for place, its in {**self.hands, (part, staff): hand}.items() if its == hand]
            if all(kept[(*place, bar)] == gone.get((*place, bar), 0) for place in mine):
                written = written or etree.fromstring(write_musicxml(self.new)).findall("part/measure")
                divisions = Fraction(written[0].findtext("attributes/divisions"))
                target.replace_staff(staff, written[self.order.index(bar)], hand, divisions)
            else:
                target.add(by_turn[0], staff)

    def _pieces(self) -> dict[tuple[int, int], list[list[Piece]]]:
        """New notes cut at barlines: (hand, bar of the document) -> one list for each pass of that bar."""
        m = self.new.measures
        starts = [*_ticks(m.onset_quarter), _ticks([m.end_quarter])[0]]
        out: dict[tuple[int, int], dict[int, list[Piece]]] = defaultdict(lambda: defaultdict(list))
        for j in self.change.came:
            at = _ticks([self.new.onset_quarter[j]])[0]
            end = at + _ticks([self.new.duration_quarter[j]])[0]
            hand, begin = 2 if self.new.staff[j] == 2 else 1, at
            k = max(int(np.searchsorted(starts, at, side="right")) - 1, 0)
            if end > starts[-1] or at >= end:
                raise CannotPatch("a note sounds past the last bar")
            while at < end:
                stop = min(end, starts[k + 1])
                out[hand, self.order[k]][k].append(Piece(
                    Fraction(at - starts[k], _GRID), Fraction(stop - at, _GRID), int(self.new.pitch[j]),
                    int(self.new.spelling[j]), at > begin, stop < end,
                ))  # fmt: skip
                at, k = stop, k + 1
        return {place: list(by_bar.values()) for place, by_bar in out.items()}

    # ---- what is in force
    def _divisions(self, part: int, bar: int) -> Fraction:
        for measure in reversed(self.parts[part][: bar + 1]):
            found = measure.findall("attributes/divisions")
            if found:
                return Fraction(str(found[-1].text).strip())
        return Fraction(1)

    def _measure_index(self, bar: int) -> int:
        return self.order.index(bar) if bar in self.order else 0

    def _pulse(self, bar: int) -> Pulse:
        m, k = self.new.measures, self._measure_index(bar)
        return Pulse.of(
            int(m.ts_num[k]), int(m.ts_den[k]), Fraction(float(m.position_quarter[k])).limit_denominator(64)
        )

    def _fifths(self, bar: int) -> int:
        return int(self.new.measures.fifths[self._measure_index(bar)])

    def _append_bars(self) -> None:
        """Empty bars of rest at the end of every part; the final barline moves to the last."""
        m = self.new.measures
        for part, measures in enumerate(self.parts):
            if not self.change.new_bars:
                return
            if len(measures) != len(self.page.bars):
                raise CannotPatch("the parts differ in length")
            final = measures[-1].find("barline[@location='right']")
            if final is not None and final.find("repeat") is None and final.find("ending") is None:
                measures[-1].remove(final)
            else:
                final = None
            for k in range(len(self.page.played_bars), len(m)):
                measure = etree.SubElement(measures[0].getparent(), "measure", number=str(int(m.number[k])))
                measure.tail = "\n"
                divisions = self._divisions(part, len(self.page.bars) - 1)
                self._new_attributes(measure, k)
                length = Fraction(float(m.duration_quarter[k])).limit_denominator(_GRID)
                for staff in range(1, self.page.parts[part].staves + 1):
                    _whole_rest(measure, staff, length * divisions, self.page.parts[part].staves > 1)
                measures.append(measure)
            if final is not None:
                measures[-1].append(final)

    def _new_attributes(self, measure: Any, k: int) -> None:
        m = self.new.measures
        key = m.fifths[k] != m.fifths[k - 1]
        time = (m.ts_num[k], m.ts_den[k]) != (m.ts_num[k - 1], m.ts_den[k - 1])
        if not key and not time:
            return
        attributes = etree.SubElement(measure, "attributes")
        if key:
            etree.SubElement(etree.SubElement(attributes, "key"), "fifths").text = str(int(m.fifths[k]))
        if time:
            found = etree.SubElement(attributes, "time")
            etree.SubElement(found, "beats").text = str(int(m.ts_num[k]))
            etree.SubElement(found, "beat-type").text = str(int(m.ts_den[k]))


def _alike(pieces: list[Piece]) -> Counter:
    return Counter(pieces)


def _whole_rest(measure: Any, staff: int, duration: Fraction, several: bool) -> None:
    """A whole-bar rest in one staff, after a <backup> for the second and later staves."""
    if staff > 1:
        etree.SubElement(etree.SubElement(measure, "backup"), "duration").text = str(duration)
    note = etree.SubElement(measure, "note")
    etree.SubElement(note, "rest", measure="yes")
    etree.SubElement(note, "duration").text = str(duration)
    etree.SubElement(note, "voice").text = str(4 * staff - 3)
    if several:
        etree.SubElement(note, "staff").text = str(staff)
