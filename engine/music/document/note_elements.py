"""Elements of a MusicXML <note>: create, insert in the order of the schema, read pitch and alteration."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from fractions import Fraction
from typing import Any

import numpy as np
from lxml import etree

from engine.music.engraving.spelling import spelling_of_pitch
from engine.music.io.musicxml_page import number

STEPS = "FCGDAEB"
_CHROMA = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))
_ORDER = (
    "grace", "cue", "chord", "pitch", "unpitched", "rest", "duration", "tie", "instrument", "footnote", "level",
    "voice", "type", "dot", "accidental", "time-modification", "stem", "notehead", "notehead-text", "staff", "beam",
    "notations", "lyric", "play", "listen",
)  # fmt: skip  # children of a <note>, in the order of the schema


def bare_copy(element: Any) -> Any:
    """A copy of an element without the white space after it."""
    copy = deepcopy(element)
    copy.tail = None
    return copy


def time_step(tag: str, duration: Fraction) -> Any:
    """A <forward> or <backup> of a duration in divisions."""
    element = etree.Element(tag)
    etree.SubElement(element, "duration").text = str(duration)
    return element


def insert_child(note: Any, child: Any) -> None:
    """Insert a child at its place in the schema's order, after children of the same kind."""
    rank: Callable[[Any], int] = lambda e: _ORDER.index(e.tag) if e.tag in _ORDER else 0  # noqa: E731
    at = sum(rank(e) <= rank(child) for e in note)
    note.insert(at, child)


def set_pitch(element: Any, pitch: int, spelling: int) -> None:
    """Rewrite a <pitch>: MIDI number `pitch`, spelled as `spelling` (steps on the circle of fifths)."""
    name = int(spelling_of_pitch(np.array([pitch]), np.array([spelling]))[0])
    step, alter = STEPS[(name + 1) % 7], (name + 1) // 7
    for child in list(element):
        element.remove(child)
    etree.SubElement(element, "step").text = step
    if alter:
        etree.SubElement(element, "alter").text = str(alter)
    etree.SubElement(element, "octave").text = str((pitch - alter - _CHROMA[step]) // 12 - 1)


def place_of(note: Any) -> tuple[int, str, int] | None:
    """(staff, step, octave) of a <note>; None for a rest."""
    pitch = note.find("pitch")
    if pitch is None:
        return None
    staff = int(number(note.findtext("staff")) or 1)
    return staff, (pitch.findtext("step") or "C").strip(), int(number(pitch.findtext("octave")) or 0)


def alter_of(note: Any) -> int:
    """Chromatic alteration of a <note>: -1 is a flat, 1 a sharp."""
    return int(number(note.findtext("pitch/alter")) or 0)
