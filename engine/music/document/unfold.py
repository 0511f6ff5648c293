"""Unfold repeats and jumps of a MusicXML document, so that one pass of a bar can be changed alone."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from lxml import etree

from engine.music.io.words import jumps

_JUMPS = ("dacapo", "dalsegno", "fine", "tocoda", "segno", "coda", "forward-repeat")


def unfold(root: Any, order: Sequence[int]) -> None:
    """Put the bars of every part in playing order and remove the repeat signs.

    order  indices of bars as played
    Divisions, key, metre and clefs are restated after every jump.
    """
    for part in root.findall("part"):
        measures = part.findall("measure")
        states = _states(measures)
        for measure in measures:
            part.remove(measure)
        before = -1
        for k in order:
            if k >= len(measures):
                continue
            copy = deepcopy(measures[k])
            _without_jumps(copy)
            if k != before + 1:
                _restate(copy, states[k])
            part.append(copy)
            before = k


def _states(measures: Sequence[Any]) -> list[dict[tuple, Any]]:
    """Attributes in force at the beginning of each bar: (tag, number) -> element."""
    out: list[dict[tuple, Any]] = []
    now: dict[tuple, Any] = {}
    for measure in measures:
        out.append(dict(now))
        for child in measure.iterfind("attributes/*"):
            if child.tag in ("divisions", "key", "time", "clef"):
                now[child.tag, child.get("number") or "1"] = child
    return out


def _restate(measure: Any, state: dict[tuple, Any]) -> None:
    own = measure[0] if len(measure) and measure[0].tag == "attributes" else None
    there = {(c.tag, c.get("number") or "1") for c in own} if own is not None else set()
    attributes = etree.Element("attributes")
    for tag in ("divisions", "key", "time", "clef"):
        attributes.extend(deepcopy(e) for key, e in sorted(state.items()) if key[0] == tag and key not in there)
    if len(attributes):
        attributes.tail = "\n"
        measure.insert(0, attributes)


def _without_jumps(measure: Any) -> None:
    for barline in measure.findall("barline"):
        for child in list(barline):
            if child.tag in ("repeat", "ending", "segno", "coda") or (
                child.tag == "bar-style" and barline.find("repeat") is not None
            ):
                barline.remove(child)
        if not len(barline):
            _detach(barline)
    for sound in list(measure.iter("sound")):
        for name in _JUMPS:
            sound.attrib.pop(name, None)
        if not sound.attrib and not len(sound):
            _detach(sound)
    for direction in measure.findall("direction"):
        kinds = direction.findall("direction-type")
        for kind in kinds:
            text = " ".join((w.text or "") for w in kind.findall("words"))
            if kind.find("segno") is not None or kind.find("coda") is not None or jumps(text):
                _detach(kind)
        if direction.find("direction-type") is None:
            _detach(direction)


def _detach(element: Any) -> None:
    before, parent = element.getprevious(), element.getparent()
    if before is not None:
        before.tail = element.tail
    parent.remove(element)
