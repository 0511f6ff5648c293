"""Scan of an XML file before parsing: expands no entities and enforces limits."""

from __future__ import annotations

from xml.parsers import expat

from engine.limits import MAX_SCORE_NOTES, NOTATION_BARS
from engine.music.types import BadInput

MAX_ELEMENTS = 1_000_000
MAX_DEPTH = 100
MAX_TAG_BYTES = 1_000_000  # of one tag with its attributes, or one text
CHUNK = 65_536


def scan_xml(data: bytes) -> str:
    """Scan an XML file as a stream; returns "musicxml" or "mei". Raises BadInput over a limit."""
    root: list[str] = []
    count = {"measure": 0, "note": 0, "element": 0}
    depth, most_measures = 0, 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, most_measures
        tag = tag.rsplit(":", 1)[-1]
        if not root:
            root.append(tag)
        depth += 1
        count["element"] += 1
        if tag in ("measure", "note"):
            count[tag] += 1
        elif tag == "rest":  # MusicXML's <rest> is inside a <note>
            count["note"] -= 1 if root[0] != "mei" else 0
        elif tag == "part":
            count["measure"] = 0
        most_measures = max(most_measures, count["measure"])
        if depth > MAX_DEPTH:
            raise BadInput(f"This XML file is nested over {MAX_DEPTH} deep; that is no score.")
        if most_measures > NOTATION_BARS:
            raise BadInput(f"This score has more than {NOTATION_BARS} measures; open a part of it.")
        if count["note"] > MAX_SCORE_NOTES:
            raise BadInput(f"This score has more than {MAX_SCORE_NOTES} notes; open a part of it.")
        if count["element"] > MAX_ELEMENTS:
            raise BadInput(f"This XML file has more than {MAX_ELEMENTS} elements; open a part of it.")

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1

    stream_xml(data, start, end)
    if root[0] == "score-partwise":
        return "musicxml"
    if root[0] == "mei":
        return "mei"
    if root[0] == "score-timewise":
        raise BadInput("This MusicXML file is timewise; save it as partwise MusicXML, as nearly all programs do.")
    raise BadInput("This XML file is no score; choose a MusicXML (.musicxml, .xml, .mxl) or MEI (.mei) file.")


def stream_xml(data: bytes, start: object, end: object) -> None:
    """Stream XML through the handlers; entities are neither declared nor expanded nor fetched."""

    def doctype(name: str, system: str | None, public: str | None, internal: int) -> None:
        if internal:
            raise BadInput(
                "This XML file declares things of its own (a DOCTYPE with contents); export it again without."
            )

    def entity(*_: object) -> None:
        raise BadInput("This XML file declares entities; export it again without.")

    parser = expat.ParserCreate()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = entity
    parser.StartElementHandler = start  # type: ignore[assignment]
    parser.EndElementHandler = end  # type: ignore[assignment]
    try:
        for first in range(0, len(data), CHUNK):
            parser.Parse(data[first : first + CHUNK], False)
            if first + CHUNK - parser.CurrentByteIndex > MAX_TAG_BYTES:
                raise BadInput("This XML file has a tag of over a megabyte; that is no score.")
        parser.Parse(b"", True)
    except BadInput:
        raise
    except expat.ExpatError as error:
        raise BadInput(
            f"This XML file is damaged at line {error.lineno}; export it again from your notation program."
        ) from error
    except (ValueError, LookupError) as error:  # an unknown encoding
        raise BadInput("This XML file is in an unknown encoding; export it again as UTF-8.") from error
