"""What verovio reads: notes, onsets, durations, the order of the bars, dynamics and tempi.

Grace notes are not compared: verovio gives them time of the note that follows, so they are taken out of its MEI before
its times are used.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from lxml import etree

from engine.untrusted.scores import unpack_mxl
from training.bench.reading.facts import Facts, Sign

_NS = "{http://www.music-encoding.org/ns/mei}"
_SIGNS = {f"{_NS}{name}": name for name in ("dynam", "hairpin", "tempo", "dir")}
_MARKS = re.compile(r"[pmf]{1,6}|s?fz?p{0,2}|sffz|s?f?fz|rfz?")


def verovio_facts(path: Path) -> Facts:
    """Read a file with verovio. Raises ValueError when verovio refuses it."""
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    kit = verovio.toolkit()
    kit.setOptions({"mdivAll": True, "expandNever": True})
    if not (kit.loadData(_unzipped(path)) if path.suffix == ".mxl" else kit.loadFile(str(path))):
        raise ValueError("verovio refuses this file")
    tree = etree.fromstring(kit.getMEI().encode(errors="replace"))
    for element in [e for e in tree.iter(f"{_NS}note", f"{_NS}chord") if e.get("grace")]:
        if element.getparent() is not None:
            element.getparent().remove(element)
    kit.setOptions({"expandNever": False, "expandAlways": True})
    if not kit.loadData(etree.tostring(tree).decode()):
        raise ValueError("verovio refuses its own MEI of this file")
    ties = {(t.get("startid") or "")[1:]: (t.get("endid") or "")[1:] for t in tree.iter(f"{_NS}tie")}
    return _of_timemap(kit, ties, tree)


def _unzipped(path: Path) -> str:
    """The MusicXML of a compressed file as text: verovio's Python package cannot load the bytes of one."""
    return etree.tostring(etree.fromstring(unpack_mxl(path.read_bytes()))).decode()


def _of_timemap(kit: Any, ties: dict[str, str], tree: Any) -> Facts:
    """Times and pitches of all notes; verovio strikes tied notes again, so they are merged here by its own ties."""
    index: dict[str, int] = {}
    facts = Facts(bars=[], places=False)
    on: dict[str, float] = {}
    began: dict[str, float] = {}  # a note that is tied to one before: when that one began
    begins: list[tuple[str, float]] = []  # of the bars as played
    written: dict[str, tuple[str, float]] = {}  # of each note its bar, and its onset in the bar
    at = 0.0
    for event in kit.renderToTimemap({"includeMeasures": True}):
        at = float(event["qstamp"])
        if "measureOn" in event and facts.bars is not None:
            name = event["measureOn"].split("-rend")[0]
            facts.bars.append(index.setdefault(name, len(index)))
            begins.append((name, at))
        starting = {name.split("-rend")[0]: name for name in event.get("on", [])}
        if begins:
            written |= dict.fromkeys(starting, (begins[-1][0], at - begins[-1][1]))
        for name in event.get("off", []):
            if name not in on:
                continue
            begin = began.pop(name, on.pop(name))
            following = starting.get(ties.get(name.split("-rend")[0], ""))
            if following is not None:
                began[following] = begin
            else:
                facts.notes.append((begin, at - begin, int(kit.getMIDIValuesForElement(name)["pitch"]), False))
        on |= dict.fromkeys(event.get("on", []), at)
    facts.notes.sort()
    lengths = {name: end - begin for (name, begin), (_, end) in pairwise([*begins, ("", at)])}
    facts.signs = _signs(tree, lengths, written)
    return facts


def _signs(tree: Any, lengths: dict[str, float], written: dict[str, tuple[str, float]]) -> list[Sign]:
    """The dynamics, hairpins, words and metronome marks of verovio's MEI, in quarters of the written page.

    lengths  quarters of every bar that is played
    written  for each note its bar, and its onset in the bar in quarters
    """
    out: list[Sign] = []
    begin, unit, count = 0.0, 4.0, 4.0
    bars: list[tuple[Any, float, float]] = []  # element, quarters before it, quarters of a beat
    for e in tree.iter():
        if e.get("meter.unit") or (e.tag == f"{_NS}meterSig" and e.get("unit")):
            unit = float(e.get("meter.unit") or e.get("unit"))
            count = float(sum(map(float, re.findall(r"\d+", e.get("meter.count") or e.get("count") or "")))) or count
        elif e.tag == f"{_NS}measure":
            bars.append((e, begin, 4 / unit))
            begin += lengths.get(_id(e), 4 * count / unit)
    starts = {_id(e): quarter for e, quarter, _ in bars}
    for k, (bar, quarter, beat) in enumerate(bars):
        for e in bar:
            if e.tag not in _SIGNS:
                continue
            note = written.get((e.get("startid") or "")[1:])
            if note is not None:
                at = starts[note[0]] + note[1]
            else:
                at = quarter + (float(e.get("tstamp") or 1) - 1) * beat
            out += _values(_SIGNS[e.tag], e, at, _end(e, k, bars, starts, written))
    return sorted(out, key=lambda s: s[0])


def _id(element: Any) -> str:
    return element.get("{http://www.w3.org/XML/1998/namespace}id") or ""


def _end(
    element: Any, k: int, bars: list[tuple[Any, float, float]], starts: dict[str, float],
    written: dict[str, tuple[str, float]],
) -> float | None:  # fmt: skip
    """Where the line of a sign in bar `k` ends, in quarters of the written page; None without one."""
    if found := re.fullmatch(r"(?:(\d+)m\+)?([\d.]+)", element.get("tstamp2") or ""):
        _, quarter, beat = bars[min(k + int(found[1] or 0), len(bars) - 1)]
        return quarter + max(float(found[2]) - 1, 0) * beat
    note = written.get((element.get("endid") or "")[1:])
    return None if note is None else starts[note[0]] + note[1]


def _metronome(element: Any) -> float:
    """Quarters a minute of a printed metronome mark, 0 without one."""
    unit, count = (element.get(name) or "" for name in ("mm.unit", "mm"))
    if not (unit.isdecimal() and re.fullmatch(r"[0-9.]+", count)):
        return 0.0
    dotted = 1.5 if element.get("mm.dots") == "1" else 1.0
    return float(count) * 4 / float(unit) * dotted


def _values(kind: str, element: Any, at: float, end: float | None) -> list[Sign]:
    if kind == "hairpin":
        return [(at, "wedge", 1 if element.get("form") == "cres" else -1, end)]
    bpm = float(element.get("midi.bpm") or 0) or _metronome(element)
    words = "".join(e.text or "" for e in element.iter() if isinstance(e.tag, str) and not e.get("glyph.auth"))
    words = " ".join(words.split()).strip("( ")
    out: list[Sign] = [(at, "bpm", bpm, None)] if bpm else []
    if words:
        out.append((at, "mark" if kind == "dynam" and _MARKS.fullmatch(words) else "words", words, end))
    return out
