"""A Score as engraved pages: SVG by verovio, with a name on every note head, so that sounding notes can be lit.

verovio is a large C++ library that is given whatever a stranger's file held, so it runs in the child process of
`engine.process.notation_reader`, and what comes back is looked through before any page may show it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from xml.parsers import expat

from engine.music.io.write_musicxml import Writer, head_id
from engine.music.types import BadInput, Score

WIDTHS = (360, 560, 800, 1100, 1400)  # pixels of a page that are worth a layout of its own
CANNOT_ENGRAVE = "This score cannot be engraved here; save it as MusicXML and open it in a notation program."
_PAGE_HEIGHT = 1100  # pixels
_SCALE, _SMALL_SCALE = 40, 34  # per cent of verovio's size; small below _SMALL_WIDTH
_SMALL_WIDTH = 600
_ELEMENTS = frozenset({
    "svg", "g", "defs", "use", "path", "text", "tspan", "rect", "polygon", "polyline", "ellipse", "circle", "line",
    "desc", "style", "title", "symbol",
})  # fmt: skip
_LOADS = re.compile(r"url\s*\(|@|\\|javascript:", re.IGNORECASE)  # in a style sheet or an attribute
_PLAIN_NOTES = str.maketrans({"\ueca5": "♩", "\ueca7": "♪", "\ueca3": "𝅗𝅥"})  # of metronome marks: no music font needed


@dataclass(frozen=True)
class Engraving:
    """Pages of a score.

    pages     SVG documents, each with a viewBox as wide as the page; they hold no scripts and load nothing
    heads     for each note of the score the quarters at which its heads begin: one where it is struck, more where it
              is tied on
    barlines  quarters of every barline, the last bar's end included; bars may follow those of the Score, for notes
              that sound on
    bar_page  for each bar the page (from 0) that it stands on
    width     pixels
    """

    pages: tuple[str, ...]
    heads: tuple[tuple[float, ...], ...]
    barlines: tuple[float, ...]
    bar_page: tuple[int, ...]
    width: int

    @cached_property
    def note_ids(self) -> tuple[tuple[str, ...], ...]:
        """For each note of the score the ids of its SVG elements, in the order of `heads`."""
        return tuple(tuple(head_id(row, k) for k in range(len(heads))) for row, heads in enumerate(self.heads))

    @cached_property
    def onset_quarter(self) -> dict[str, float]:
        """Quarters at which each SVG element of a note begins."""
        return {head_id(row, k): quarter for row, heads in enumerate(self.heads) for k, quarter in enumerate(heads)}


def engraving_to_bytes(engraving: Engraving) -> bytes:
    """As JSON, an array."""
    return json.dumps(
        [engraving.pages, engraving.heads, engraving.barlines, engraving.bar_page, engraving.width]
    ).encode()


def engraving_from_bytes(data: bytes) -> Engraving:
    """The inverse of `engraving_to_bytes`."""
    pages, heads, barlines, bar_page, width = json.loads(data)
    return Engraving(tuple(pages), tuple(map(tuple, heads)), tuple(barlines), tuple(bar_page), width)


def engrave_here(score: Score, width: int) -> Engraving:
    """`engrave` in this very process, without limits. Raises BadInput when verovio refuses."""
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    kit = verovio.toolkit()
    scale = _SMALL_SCALE if width < _SMALL_WIDTH else _SCALE
    kit.setOptions({
        "pageWidth": width * 100 // scale, "pageHeight": _PAGE_HEIGHT * 100 // scale, "scale": scale,
        "adjustPageHeight": True, "breaks": "auto", "header": "none", "footer": "none", "svgViewBox": True,
        "svgRemoveXlink": True, "svgFormatRaw": True, "smuflTextFont": "none", "xmlIdSeed": 1,
        "pageMarginLeft": 30, "pageMarginRight": 30, "pageMarginTop": 40, "pageMarginBottom": 40,
    })  # fmt: skip
    writer = Writer(score, engraving=True)
    if not kit.loadData(writer.document().decode()):
        raise BadInput(CANNOT_ENGRAVE)
    pages = tuple(kit.renderToSVG(k + 1).translate(_PLAIN_NOTES) for k in range(kit.getPageCount()))
    where = {int(bar): k for k, page in enumerate(pages) for bar in re.findall(r'<g id="bar-(\d+)"', page)}
    bar_page, last = [], 0
    for bar in range(len(writer.page.chords)):
        last = where.get(bar, last)
        bar_page.append(last)
    heads = tuple(tuple(round(float(q), 6) for q in quarters) for quarters in writer.heads)
    return Engraving(pages, heads, tuple(round(float(q), 6) for q in writer.page.starts), tuple(bar_page), width)


def check_svg(page: str) -> None:
    """Refuse a page that could do anything but be looked at: only shapes and text, no handlers, no links outside."""
    css: list[str] = []
    inside: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        inside.append(tag)
        for name, value in attributes.items():
            linked = name in ("href", "xlink:href") and not value.startswith("#")
            if linked or name.lower().startswith("on") or name == "style" or _LOADS.search(value):
                raise BadInput(CANNOT_ENGRAVE)
        if tag not in _ELEMENTS:
            raise BadInput(CANNOT_ENGRAVE)

    def end(tag: str) -> None:
        inside.pop()

    def text(words: str) -> None:
        if inside[-1] == "style":
            css.append(words)

    parser = expat.ParserCreate()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text
    try:
        parser.Parse(page, True)
    except expat.ExpatError as error:
        raise BadInput(CANNOT_ENGRAVE) from error
    if _LOADS.search("".join(css)):
        raise BadInput(CANNOT_ENGRAVE)
