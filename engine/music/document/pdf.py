"""A score as PDF: A4 pages engraved by verovio, typeset by Typst, which embeds the fonts of titles and words.

The music font needs no embedding: verovio draws its signs as outlines.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from engine.music.document.patch import saved
from engine.music.io.engrave import CANNOT_ENGRAVE, clean_svg, plain_notes
from engine.music.score_bytes import score_from_bytes
from engine.music.types import BadInput, Score

_MARGIN_MM, _FOOT_MM = 15, 12
_WIDTH, _HEIGHT = 1800, 2640  # tenths of a millimetre: A4 within its margins, verovio's own unit
_STAFF_SCALE = 60  # per cent; a staff is 6.5 mm high
_LAST_EMBEDDED = 0x52F  # Latin, Greek and Cyrillic are in Typst's own fonts; other scripts need the system's
_SIGNS = frozenset("♩♪♫♭♮♯–—‘’“”…")
_TYPST = """
#import sys: inputs
#set document(title: inputs.title, author: inputs.composer, date: none)
#let edge = %(margin)dmm
#set page(paper: "a4", margin: (x: edge, top: edge, bottom: edge + %(foot)dmm), footer: context {
  let page = counter(page).get().first()
  if page > 1 { set text(9pt); align(center)[#inputs.title · #page] }
})
#for k in range(int(inputs.pages)) { image("page" + str(k) + ".svg", width: 100%%) }
"""


def pdf(data: bytes) -> bytes:
    """A score's bytes as a PDF file with title and composer. Raises BadInput if it cannot be engraved."""
    import typst

    score = score_from_bytes(data)
    engraved = pages(score)
    files = {f"page{k}.svg": page.encode() for k, page in enumerate(engraved)}
    files["main"] = (_TYPST % {"margin": _MARGIN_MM, "foot": _FOOT_MM}).encode()
    words = {"title": score.title or "Untitled", "composer": score.composer, "pages": str(len(engraved))}
    plain = all(ord(c) <= _LAST_EMBEDDED or c in _SIGNS for c in "".join((*words.values(), *engraved)))
    try:
        return typst.compile(files, format="pdf", sys_inputs=words, ignore_system_fonts=plain)
    except typst.TypstError as error:
        raise BadInput(CANNOT_ENGRAVE) from error


def pages(score: Score) -> list[str]:
    """Engraved pages in SVG, (210 - 30) mm wide, without external resources. Raises BadInput."""
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    kit = verovio.toolkit()
    kit.setOptions({
        "pageWidth": _WIDTH, "pageHeight": _HEIGHT, "scale": _STAFF_SCALE, "scaleToPageSize": True, "breaks": "auto",
        "header": "encoded", "footer": "none", "svgViewBox": True, "svgRemoveXlink": True, "svgFormatRaw": True,
        "smuflTextFont": "none", "xmlIdSeed": 1, "inputFrom": "xml", "adjustPageHeight": True,
        "pageMarginLeft": 0, "pageMarginRight": 0, "pageMarginTop": 0, "pageMarginBottom": 0,
    })  # fmt: skip
    if not kit.loadData(saved(score).decode("utf-8", "replace")):
        raise BadInput(CANNOT_ENGRAVE)
    kit.setOptions({"inputFrom": "mei"})
    if not kit.loadData(_titled(kit.getMEI(), score)):
        raise BadInput(CANNOT_ENGRAVE)
    return [clean_svg(plain_notes(kit.renderToSVG(k + 1))) for k in range(kit.getPageCount())]


def _titled(mei: str, score: Score) -> str:
    """The MEI document with the score's title and composer as its page head, in place of its own head and foot."""
    from lxml import etree

    root: Any = etree.fromstring(mei.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
    space = root.tag.partition("}")[0] + "}"
    for name in ("pgHead", "pgHead2", "pgFoot", "pgFoot2"):
        for old in list(root.iter(space + name)):
            old.getparent().remove(old)
    head = etree.fromstring(
        f'<pgHead xmlns="{space[1:-1]}" func="first"><rend halign="center" valign="top"><rend fontsize="20pt">'
        f'{escape(score.title or "Untitled")}</rend></rend><rend halign="right" valign="bottom">'
        f'<rend fontsize="11pt">{escape(score.composer)}</rend></rend></pgHead>'
    )
    definition = next(root.iter(space + "scoreDef"), None)
    if definition is None:
        raise BadInput(CANNOT_ENGRAVE)
    definition.insert(0, head)
    return etree.tostring(root, encoding="unicode")
