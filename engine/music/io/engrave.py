"""Engraved pages of a Score: SVG by verovio, with an id on every note head, so that sounding notes can be highlighted.

verovio is a large C++ library that gets contents of untrusted files, so it runs in the child process of
`engine.process.notation_reader`, and its output is sanitised.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from engine.music.io.write_musicxml import MusicXmlWriter, head_id
from engine.music.types import BadInput, Score

WIDTHS = (360, 560, 800, 1100, 1400)  # page widths in pixels with a separate layout
CANNOT_ENGRAVE = "This score cannot be engraved here; save it as MusicXML and open it in a notation program."
_PAGE_HEIGHT = 1100  # pixels
_SCALE, _SMALL_SCALE = 40, 34  # per cent of verovio's size; small below _SMALL_WIDTH
_SMALL_WIDTH = 600
_ELEMENTS = frozenset({
    "svg", "g", "defs", "use", "path", "text", "tspan", "rect", "polygon", "polyline", "ellipse", "circle", "line",
    "desc", "style", "title", "symbol",
})  # fmt: skip
_ATTRIBUTES = frozenset({
    "class", "color", "cx", "cy", "d", "dx", "dy", "fill", "fill-opacity", "fill-rule", "font-family", "font-size",
    "font-style", "font-weight", "height", "href", "id", "letter-spacing", "opacity", "overflow", "points", "r", "rx",
    "ry", "stroke", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "stroke-opacity", "stroke-width",
    "text-anchor", "text-rendering", "transform", "type", "version", "viewBox", "visibility", "width", "x", "x1", "x2",
    "xlink:href", "xml:space", "xmlns", "xmlns:xlink", "y", "y1", "y2",
})  # fmt: skip
_WORDS = frozenset({"desc", "title", "style"})  # may contain text only
_LOADS = re.compile(r"url\s*\(|image-set|image\s*\(|@|\\|javascript:", re.IGNORECASE)  # in CSS or an attribute
_RULE, _CSS_COMMENT = re.compile(r"([^{}]*)\{([^{}]*)\}"), re.compile(r"/\*.*?\*/", re.DOTALL)
_ID = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
# Metronome marks: SMuFL's private characters need a music font, which no page has; Unicode's need none.
_UNIT = re.compile(r'<tspan font-family="[^"]*" font-size="(\d+)px">([\ueca2-\uecab\uecb7 ]+)</tspan>')
_AFTER_WORDS = re.compile(r"([^\s>](?:</tspan>)+(?:<tspan[^>]*>)+)(?=[\u2669\u266a\U0001d15d-\U0001d162])")
_UNIT_SIZE = 0.8  # Unicode's notes are larger than SMuFL's at one font size
_UNICODE_NOTES = str.maketrans({
    "\ueca2": "\U0001d15d", "\ueca3": "\U0001d15e", "\ueca5": "\u2669", "\ueca7": "\u266a", "\ueca9": "\U0001d161",
    "\uecab": "\U0001d162", "\uecb7": ".",
})  # fmt: skip


@dataclass(frozen=True)
class Engraving:
    """Pages of a score.

    pages     SVG documents, each with a viewBox as wide as the page; without scripts and external resources
    heads     for each note of the score the onsets of its heads in quarters: its own and those of tied heads
    barlines  quarters of every barline, the last bar's end included; bars may follow those of the Score, for long last
              notes
    bar_page  page (from 0) of each bar
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
    """`engrave` in this process, without limits. Raises BadInput if verovio fails."""
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
    writer = MusicXmlWriter(score, engraving=True)
    if not kit.loadData(writer.document().decode()):
        raise BadInput(CANNOT_ENGRAVE)
    pages = tuple(plain_notes(kit.renderToSVG(k + 1)) for k in range(kit.getPageCount()))
    where = {int(bar): k for k, page in enumerate(pages) for bar in re.findall(r'<g id="bar-(\d+)"', page)}
    bar_page, last = [], 0
    for bar in range(len(writer.page.chords)):
        last = where.get(bar, last)
        bar_page.append(last)
    heads = tuple(tuple(round(float(q), 6) for q in quarters) for quarters in writer.heads)
    return Engraving(pages, heads, tuple(round(float(q), 6) for q in writer.page.starts), tuple(bar_page), width)


def plain_notes(page: str) -> str:
    """An SVG page of verovio with the note values of its metronome marks in Unicode characters, a space before them.

    >>> plain_notes('<tspan font-family="Leipzig" font-size="720px">\ueca5 \uecb7</tspan>')
    '<tspan font-size="576px">♩.</tspan>'
    >>> plain_notes('<tspan>Lento</tspan><tspan><tspan font-family="L" font-size="10px">\ueca5</tspan></tspan>')
    '<tspan>Lento</tspan><tspan><tspan font-size="8px">\\xa0♩</tspan></tspan>'
    """

    def unicode(found: re.Match[str]) -> str:
        size = round(int(found[1]) * _UNIT_SIZE)
        return f'<tspan font-size="{size}px">{found[2].replace(" ", "").translate(_UNICODE_NOTES)}</tspan>'

    return _AFTER_WORDS.sub("\\1\u00a0", _UNIT.sub(unicode, page))


def clean_svg(page: str) -> str:
    """The page rebuilt from its elements, without scripts or outside links.

    Keeps shapes and text, attributes of ATTRIBUTES, and style rules for elements of this page. Removes comments,
    processing instructions and CDATA sections, in which an HTML parser would see elements. Refuses event handlers,
    external links and resources. Raises BadInput.
    """
    out: list[str] = []
    inside: list[str] = []
    css: list[str] = []
    own_id = ""

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal own_id
        for name, value in attributes.items():
            linked = name in ("href", "xlink:href") and not value.startswith("#")
            if linked or name.lower().startswith("on") or name == "style" or _LOADS.search(value):
                raise BadInput(CANNOT_ENGRAVE)
        if tag not in _ELEMENTS or (inside and inside[-1] in _WORDS):
            raise BadInput(CANNOT_ENGRAVE)
        if not inside:
            own_id = attributes.get("id", "")
        inside.append(tag)
        kept = "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items() if _known(name))
        out.append(f"<{tag}{kept}>")

    def end(tag: str) -> None:
        if tag == "style":
            out.append(escape(_own_rules("".join(css), own_id)))
            css.clear()
        out.append(f"</{tag}>")
        inside.pop()

    def text(words: str) -> None:
        if inside[-1] == "style":
            css.append(words)
        else:
            out.append(escape(words))

    parser = expat.ParserCreate()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text
    try:
        parser.Parse(page, True)
    except expat.ExpatError as error:
        raise BadInput(CANNOT_ENGRAVE) from error
    return "".join(out)


def _known(attribute: str) -> bool:
    return attribute in _ATTRIBUTES or attribute.startswith("data-")


def _own_rules(css: str, own_id: str) -> str:
    """The rules whose selectors all begin with the id of the page. Raises BadInput for external resources."""
    if _LOADS.search(css):
        raise BadInput(CANNOT_ENGRAVE)
    rules = _RULE.findall(_CSS_COMMENT.sub("", css)) if _ID.fullmatch(own_id) else []
    own = [
        f"{selectors.strip()}{{{body}}}"
        for selectors, body in rules
        if all(selector.strip().startswith(f"#{own_id} ") for selector in selectors.split(","))
    ]
    return "".join(own)
