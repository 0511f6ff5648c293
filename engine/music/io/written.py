"""A `Page` of bars, and its conversion to a `Score`: common time of all parts, repeats unfolded, ties merged.

The readers of MusicXML, MEI and kern fill a `Page`; `score_of` has the steps that do not depend on the format.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from engine.limits import MAX_SCORE_NOTES
from engine.music.io.playing_order import Signs, playing_order
from engine.music.io.score_marks import WORD_REACH, fill_directions, tempo_word
from engine.music.io.words import (
    IMPULSES,
    LOUDER,
    SOFTER,
    dynamic_marks,
    jumps,
    level,
    metronome,
    tempo_change,
    unread_jump,
)
from engine.music.remarks import LEFT_OUT, PLAYED_TOO
from engine.music.types import MARK_NAMES, BadInput, Marks, Measures, Remark, Score

_KEYBOARD = re.compile(r"piano|klavier|pno|pf\b|keyboard|harpsichord|cembalo|clavecin|celesta|harp|organ", re.I)
_JUMP_WORDS = 8  # words of the longest usual jump, as in "D.C. al segno e poi la coda"
SLOWEST_MARK, FASTEST_MARK = 5, 1000  # exclusive bounds of metronome marks, quarters a minute


@dataclass
class Note:
    """One written note; times in quarters from its bar's beginning. `marks` by the names of `types.MARK_NAMES`."""

    at: Fraction
    length: Fraction  # 0 for a grace note
    pitch: int
    spelling: int
    part: int
    staff: int
    voice: int
    grace: bool = False
    tie_from: bool = False  # tied to a note before
    tie_on: bool = False
    marks: dict[str, int] = field(default_factory=dict)
    element: Any = None  # its source <note>


@dataclass
class Sign:
    """A sign between the notes.

    kind   "mark" (a dynamic mark), "wedge" (1 or -1), "words", "bpm" (quarters a minute), "ratio" (new to old tempo)
    value  text or number
    at     quarters from the bar's beginning
    end    (bar, quarters) end of its line, None without one
    """

    at: Fraction
    kind: str
    value: str | float
    end: tuple[int, Fraction] | None = None


@dataclass
class Bar:
    """One bar of all parts.

    name     as printed
    length   length of the longest part in quarters
    meter    numerator, denominator in force; fifths the key signature in force
    """

    name: str
    meter: tuple[int, int] = (4, 4)
    fifths: int = 0
    length: Fraction = Fraction(0)
    notes: list[Note] = field(default_factory=list)
    signs: list[Sign] = field(default_factory=list)
    order: Signs = field(default_factory=Signs)
    metered: bool = True  # False: without a time signature, as long as its notes
    position: Fraction | None = None  # position in the metre in quarters; None: derived from the first bar's length


@dataclass
class Part:
    """An instrument: number of staves and printed name."""

    name: str = ""
    staves: int = 1


@dataclass
class Page:
    """The contents of a file.

    slurs   (part, staff, voice, start, end), start and end (bar, quarters)
    events  the page events by bar, as for `page_events.placed`, if the reader has them
    """

    bars: list[Bar] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    slurs: list[tuple[int, int, int, tuple[int, Fraction], tuple[int, Fraction]]] = field(default_factory=list)
    events: dict[int, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    title: str = ""
    composer: str = ""
    remarks: list[Remark] = field(default_factory=list)
    played_bars: list[int] = field(default_factory=list)  # after score_of: the bar of each measure of the Score
    heads: list[list[tuple[int, Note]]] = field(default_factory=list)  # after score_of: (bar, note) of each row's ties
    order: list[int] | None = None  # playing order, if the file lists it

    def starts(self) -> list[Fraction]:
        """Start of each bar, and end of the last, in quarters from the first."""
        out = [Fraction(0)]
        for bar in self.bars:
            out.append(out[-1] + bar.length)
        return out

    def remark(self, bar: int, element: str, text: str) -> None:
        """Add a remark about bar number `bar` (an index)."""
        self.remarks.append(Remark(self.number(bar), element, text))

    def number(self, bar: int) -> int:
        """The printed number of a bar by its index, else its place on the page, counted from 1."""
        name = self.bars[bar].name if bar < len(self.bars) else ""
        return int(name) if name.isdecimal() and len(name) < 7 and int(name) else bar + 1

    def numbers(self) -> list[int]:
        """The printed number of each bar; a bar without one has that of the bar before."""
        out, last = [], 0
        for bar in self.bars:
            last = int(bar.name) if bar.name.isdecimal() and len(bar.name) < 7 else last
            out.append(last)
        return out


def score_of(page: Page, all_parts: bool = False) -> Score:
    """Unfold a page, repeats and jumps included. With `all_parts` a song's voice part is included. Raises BadInput if
    there is no note.
    """
    if not any(bar.notes for bar in page.bars):
        raise BadInput("This score has no notes; a score needs at least one note. Choose another file.")
    hand = _hands(page, all_parts)
    for bar in page.bars:
        bar.notes = [n for n in bar.notes if (n.part, n.staff) in hand]
        if not bar.length:
            bar.length = Fraction(4 * bar.meter[0], bar.meter[1])
    first = page.bars[0]
    if first.position is None:
        first.position = Fraction(0)
        if len(page.bars) > 1 and first.metered and first.length < _nominal(first):
            first.position = _nominal(first) - first.length
    starts = page.starts()
    zero = starts[1] if first.position and len(page.bars) > 1 else Fraction(0)
    notes = [(k, n) for k, bar in enumerate(page.bars) for n in bar.notes]
    table = _marks(page, [float(starts[k] + n.at - zero) for k, n in notes], float(zero), notes)
    if page.order is None:
        _guessed_order(page)
    return _played(page, _order(page), notes, table, hand)


def _nominal(bar: Bar) -> Fraction:
    return Fraction(4 * bar.meter[0], bar.meter[1])


def _order(page: Page) -> list[int]:
    order = page.order or playing_order([bar.order for bar in page.bars])
    if sum(len(page.bars[k].notes) for k in order) > MAX_SCORE_NOTES:
        page.remarks.append(Remark(page.number(0), "repeat", "the repeats are not played; the score would be too long"))
        return list(range(len(page.bars)))
    return order


def _guessed_order(page: Page) -> None:
    """Remarks where the repeat signs and jumps of the page are not complete, so that their order is a guess."""
    begun, repeated = False, False
    for k, bar in enumerate(page.bars):
        begun = begun or bar.order.forward
        _guessed_ending(page, k)
        words = [str(s.value) for s in bar.signs if s.kind == "words"]
        long = any((jumps(text) or unread_jump(text)) and len(text.split()) > _JUMP_WORDS for text in words)
        if any(map(unread_jump, words)) and not bar.order.jumps:
            page.remark(k, "words", "this da capo or dal segno is not played")
        elif long:
            page.remark(k, "words", "only the da capo or dal segno of this text is played")
        if not bar.order.backward or (bar.order.endings and 1 not in bar.order.endings):
            continue
        if repeated and not begun:
            page.remark(k, "repeat", "this repeat has no beginning; it is played from the end of the one before")
        begun, repeated = False, True


def _guessed_ending(page: Page, k: int) -> None:
    """A remark if bar k closes a first ending that has no second, or begins a second one that has no first."""
    bar = page.bars[k].order
    before = page.bars[k - 1].order if k else None
    after = page.bars[k + 1].order if k + 1 < len(page.bars) else None
    if bar.endings == {1} and bar.backward and (after is None or after.forward or not after.endings):
        page.remark(k, "ending", "this first ending has no second; the second pass goes on after it")
    if bar.endings and 1 not in bar.endings and not bar.forward and (before is None or not before.endings):
        page.remark(k, "ending", "this ending has no first; the bars before it are played in every pass")


def _hands(page: Page, all_parts: bool) -> dict[tuple[int, int], int]:
    """1 upper or 2 lower for each (part, staff) that is played. A part of two or more staves is the keyboard; other
    parts are omitted. Among three or more single parts, two neighbours named as a keyboard are the keyboard. Else the
    first part is the upper staff and the others the lower.
    """
    used = sorted({(n.part, n.staff) for bar in page.bars for n in bar.notes})
    parts = sorted({part for part, _ in used})
    pianos = [k for k in parts if page.parts[k].staves >= 2]
    named = [k for k in parts if _KEYBOARD.search(page.parts[k].name)]
    if pianos and len(parts) > len(pianos):
        hand = {(p, s): min(s, 2) for p, s in used if p in pianos}
    elif not pianos and len(parts) > 2 and len(named) == 2 and parts.index(named[1]) == parts.index(named[0]) + 1:
        hand = {(p, s): 1 + (p == named[1]) for p, s in used if p in named}
    elif pianos or len(parts) == 1:
        return {(p, s): min(max(s, 1), 2) for p, s in used}
    else:
        return {(p, s): 1 if p == parts[0] else 2 for p, s in used}
    for k in parts:
        if all(p != k for p, _ in hand):
            first = next(i for i, bar in enumerate(page.bars) if any(n.part == k for n in bar.notes))
            name = page.parts[k].name or f"part {k + 1}"
            if all_parts:
                hand |= {(p, s): 1 for p, s in used if p == k}
                page.remark(first, f"part “{name}”", PLAYED_TOO)
            else:
                page.remark(first, f"part “{name}”", LEFT_OUT)
    return hand


# ---- marks
Direction = tuple[float, float | None, str, "str | float"]  # start and end in quarters; kind and value as of a `Sign`


def directions_of(page: Page, zero: float = 0.0) -> list[Direction]:
    """The signs of a page by their score position, in quarters after `zero`."""
    starts = [float(s) - zero for s in page.starts()]
    out: list[Direction] = []
    for k, bar in enumerate(page.bars):
        for sign in bar.signs:
            start = starts[k] + float(sign.at)
            end = None if sign.end is None else starts[min(sign.end[0], len(page.bars) - 1)] + float(sign.end[1])
            out.append((start, end if end is not None and end > start else None, sign.kind, sign.value))
    return sorted(out, key=lambda d: d[0])


def _marks(page: Page, onset: list[float], zero: float, notes: list[tuple[int, Note]]) -> np.ndarray:
    """The marks (n, 12) of all notes in the page's order."""
    table = np.zeros((len(notes), len(MARK_NAMES)), np.int16)
    for i, (_, n) in enumerate(notes):
        for name, value in n.marks.items():
            table[i, MARK_NAMES.index(name)] = value
    at = np.array(onset)
    _slur_marks(page, at, [float(s) - zero for s in page.starts()], notes, table)
    fill_signs(table, at, directions_of(page, zero))
    return table


def fill_signs(table: np.ndarray, at: np.ndarray, directions: list[Direction]) -> None:
    """Fill the columns of a marks table (n, 12) that depend on directions, for notes at `at` (n,) quarters."""
    levels, impulses, wedges, changes, words, bpms = [], [], [], [], [], []
    for start, end, kind, value in directions:
        text = str(value).strip() if kind in ("mark", "words") else ""
        found = [text] if kind == "mark" else dynamic_marks(text)
        for j, mark in enumerate(found):
            place = start + 1e-3 * j  # "f p": the second from just after the first
            if mark in IMPULSES:
                impulses.append((start, IMPULSES[mark]))
                if mark.endswith("p"):
                    levels.append((start + 1e-3, level("pp" if mark.endswith("pp") else "p")))
            elif (velocity := level(mark)) is not None:
                levels.append((place, velocity))
        if kind == "wedge":
            wedges.append((start, end or start + WORD_REACH, int(value)))
        elif kind == "bpm" and SLOWEST_MARK < float(value) < FASTEST_MARK:
            bpms.append((start, float(value)))
        elif kind == "ratio" and bpms:
            bpms.append((start, bpms[-1][1] * float(value)))
        if kind != "words":
            continue
        if LOUDER.search(text):
            wedges.append((start, end or start + WORD_REACH, 1))
        elif SOFTER.search(text):
            wedges.append((start, end or start + WORD_REACH, -1))
        if (change := tempo_change(text)) is not None:
            changes.append((start, end if change else start, change))
        word = tempo_word(text.lower())
        if word and "poco a poco" not in text.lower():
            words.append((start, word))
        bpm, ratio = metronome(text)
        if SLOWEST_MARK < bpm < FASTEST_MARK:
            bpms.append((start, bpm))
        elif ratio and bpms:
            bpms.append((start, bpms[-1][1] * float(ratio)))
    fill_directions(table, at, levels, impulses, wedges, bpms, words, changes)


def _slur_marks(
    page: Page, at: np.ndarray, starts: list[float], notes: list[tuple[int, Note]], table: np.ndarray
) -> None:
    """1 inside a slur of the note's own voice and staff, 2 the last note of one."""
    spans = defaultdict(list)
    for part, staff, voice, start, end in page.slurs:
        span = tuple(starts[k] + float(t) for k, t in (start, end))
        spans[part, staff, voice].append(span)
    column = MARK_NAMES.index("slur")
    for i, (_, n) in enumerate(notes):
        for a, b in spans.get((n.part, n.staff, n.voice), ()):
            if a - 1e-6 <= at[i] < b - 1e-6:
                table[i, column] = 1
            elif abs(at[i] - b) <= 1e-6 and not table[i, column]:
                table[i, column] = 2


# ---- playing
def _played(
    page: Page, order: list[int], notes: list[tuple[int, Note]], table: np.ndarray,
    hand: dict[tuple[int, int], int],
) -> Score:  # fmt: skip
    first_of_bar = [bisect_left(notes, k, key=lambda x: x[0]) for k in range(len(page.bars) + 1)]
    begins = [Fraction(0)]
    for k in order:
        begins.append(begins[-1] + page.bars[k].length)
    zero = begins[1] if page.bars[0].position and order[0] == 0 and len(order) > 1 else Fraction(0)
    struck = []  # onset, document order, row, note
    for begin, k in zip(begins, order, strict=False):
        struck += [(begin - zero + notes[i][1].at, i) for i in range(first_of_bar[k], first_of_bar[k + 1])]
    rows = _tied(struck, notes)
    rows.sort(key=lambda r: (r[0], not r[2], 0 if r[2] else notes[r[3]][1].pitch, r[4] if r[2] else -r[1]))
    if not rows:
        raise BadInput("This score has no notes; a score needs at least one note. Choose another file.")
    which = [r[3] for r in rows]
    page.played_bars, page.heads = order, [[notes[i] for i in r[6]] for r in rows]
    marks = table[which].copy()
    for i, r in enumerate(rows):
        if r[5]:
            marks[i, MARK_NAMES.index("fermata")] = 1
    kept = [notes[i][1] for i in which]
    bars = [page.bars[k] for k in order]
    numbers = page.numbers()
    position = np.array([float(bar.position or 0) for bar in bars])
    measures = Measures(
        np.array([float(b - zero) for b in begins[:-1]]), np.array([float(b.length) for b in bars]), position,
        np.array([b.meter[0] for b in bars]), np.array([b.meter[1] for b in bars]),
        np.array([b.fifths for b in bars]), np.array([numbers[k] for k in order]),
    )  # fmt: skip
    return Score(
        np.array([float(r[0]) for r in rows]), np.array([float(r[1]) for r in rows]),
        np.array([n.pitch for n in kept]), np.array([n.spelling for n in kept]),
        np.array([hand[n.part, n.staff] for n in kept]), np.array([n.voice for n in kept]),
        np.array([r[2] for r in rows]), Marks(marks), measures, title=page.title, composer=page.composer,
        remarks=tuple(page.remarks),
    )  # fmt: skip


def _tied(struck: list[tuple[Fraction, int]], notes: list[tuple[int, Note]]) -> list[list]:
    """Key strokes: [onset, length, grace, row, place, fermata, rows tied], tied notes merged in playing order.

    A tie continues in the same voice if it has the pitch, else on the same staff, else anywhere in the part.
    """
    out: list[list] = []
    open_: dict[tuple[int, int], list[tuple[Fraction, Note, list]]] = defaultdict(list)
    for place, (onset, i) in enumerate(sorted(struck, key=lambda s: s[0])):
        n = notes[i][1]
        key = (n.part, n.pitch)
        before = None
        if n.tie_from:
            waiting = [w for w in open_[key] if w[0] == onset and not (n.grace and w[1].grace)]
            waiting.sort(key=lambda w: (w[1].voice != n.voice, w[1].staff != n.staff))
            before = waiting[0] if waiting else None
        if before is not None:
            open_[key] = [w for w in open_[key] if w is not before]
            stroke = before[2]
            stroke[1] += n.length
            stroke[2] = stroke[2] and n.grace
            if before[1].grace:  # a grace note tied to its main note is an early onset of it
                stroke[3] = i
        else:
            stroke = [onset, n.length, n.grace, i, place, False, []]
            out.append(stroke)
        stroke[6].append(i)
        stroke[5] = stroke[5] or bool(n.marks.get("fermata"))
        if n.tie_on:
            open_[key] = [w for w in open_[key] if w[0] >= onset]
            open_[key].append((onset + n.length, n, stroke))
    return out
