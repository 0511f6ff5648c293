"""Export with verovio: MEI, engraved pages as SVG, and one HTML page to print."""

from __future__ import annotations

import html
import io
import json
import zipfile
from typing import Any

from engine.music.document.patch import saved
from engine.music.io.engrave import CANNOT_ENGRAVE, plain_notes
from engine.music.score_bytes import score_from_bytes
from engine.music.types import BadInput, Score

_A4 = (2100, 2970)  # tenths of a millimetre, verovio's own unit
_STYLE = """
@page { size: A4; margin: 0 }
body { margin: 0; background: #fff }
h1 { font: 600 22px serif; text-align: center; margin: 24px 0 0 }
h2 { font: 400 15px serif; text-align: right; margin: 4px 40px 0 }
svg { display: block; width: 100%; height: auto; break-after: page }
"""


def mei(data: bytes) -> bytes:
    """A score's bytes as MEI, converted by verovio from its MusicXML. Raises BadInput."""
    return _kit(score_from_bytes(data)).getMEI().encode()


def svg(data: bytes) -> bytes:
    """A score's bytes as JSON, an array of A4 pages in SVG. Raises BadInput."""
    kit = _kit(score_from_bytes(data))
    return json.dumps([plain_notes(kit.renderToSVG(k + 1)) for k in range(kit.getPageCount())]).encode()


def _kit(score: Score) -> Any:
    """A verovio toolkit loaded with the score."""
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    kit = verovio.toolkit()
    kit.setOptions({
        "pageWidth": _A4[0], "pageHeight": _A4[1], "scale": 50, "breaks": "auto", "header": "none", "footer": "none",
        "svgViewBox": True, "svgRemoveXlink": True, "svgFormatRaw": True, "smuflTextFont": "none", "xmlIdSeed": 1,
        "pageMarginLeft": 100, "pageMarginRight": 100, "pageMarginTop": 100, "pageMarginBottom": 100,
        "scaleToPageSize": True, "inputFrom": "xml",
    })  # fmt: skip
    if not kit.loadData(saved(score).decode("utf-8", "replace")):
        raise BadInput(CANNOT_ENGRAVE)
    return kit


def print_page(score: Score, pages: list[str]) -> bytes:
    """One HTML page with the engraved pages under title and composer; without external resources, for A4."""
    title, composer = html.escape(score.title or "Untitled"), html.escape(score.composer)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1><h2>{composer}</h2>{''.join(pages)}</body></html>"
    ).encode()


def zipped_pages(pages: list[str]) -> bytes:
    """Engraved pages as a zip file of page-1.svg, page-2.svg ..."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for k, page in enumerate(pages, 1):
            archive.writestr(f"page-{k}.svg", page)
    return out.getvalue()
