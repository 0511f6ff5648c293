"""What verovio reads: notes, onsets, durations and the order of the bars.

Grace notes, dynamics and tempi are not compared: verovio gives grace notes time of the note that follows, so they are
taken out of its MEI before its times are used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lxml import etree

from training.bench.reading.facts import Facts

_NS = "{http://www.music-encoding.org/ns/mei}"


def verovio_facts(path: Path) -> Facts:
    """Read a file with verovio. Raises ValueError when verovio refuses it."""
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    kit = verovio.toolkit()
    kit.setOptions({"mdivAll": True, "expandNever": True})
    zipped = path.suffix == ".mxl"
    read = kit.loadZipDataBuffer(path.read_bytes()) if zipped else kit.loadFile(str(path))  # pyright: ignore
    if not read:
        raise ValueError("verovio refuses this file")
    tree = etree.fromstring(kit.getMEI().encode(errors="replace"))
    for element in [e for e in tree.iter(f"{_NS}note", f"{_NS}chord") if e.get("grace")]:
        if element.getparent() is not None:
            element.getparent().remove(element)
    kit.setOptions({"expandNever": False, "expandAlways": True})
    if not kit.loadData(etree.tostring(tree).decode()):
        raise ValueError("verovio refuses its own MEI of this file")
    ties = {(t.get("startid") or "")[1:]: (t.get("endid") or "")[1:] for t in tree.iter(f"{_NS}tie")}
    return _of_timemap(kit, ties)


def _of_timemap(kit: Any, ties: dict[str, str]) -> Facts:
    """Times and pitches of all notes; verovio strikes tied notes again, so they are merged here by its own ties."""
    index: dict[str, int] = {}
    facts = Facts(bars=[], places=False)
    on: dict[str, float] = {}
    began: dict[str, float] = {}  # a note that is tied to one before: when that one began
    for event in kit.renderToTimemap({"includeMeasures": True}):
        at = float(event["qstamp"])
        if "measureOn" in event and facts.bars is not None:
            name = event["measureOn"].split("-rend")[0]
            facts.bars.append(index.setdefault(name, len(index)))
        starting = {name.split("-rend")[0]: name for name in event.get("on", [])}
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
    return facts
