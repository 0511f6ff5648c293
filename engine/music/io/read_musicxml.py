"""Read MusicXML or MEI to a `Score` with performance marks."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from lxml import etree

from engine.music.io.mei_page import page_of_mei
from engine.music.io.musicxml_page import page_of
from engine.music.io.page_events import musicxml_events, placed
from engine.music.io.written import Page, score_of
from engine.music.types import Score


def read_musicxml(data: bytes, all_parts: bool = False) -> Score:
    """Read trusted MusicXML; untrusted bytes go through `engine.untrusted.scores`. Repeats, endings, da capo and dal
    segno are unfolded. Of a song the keyboard part is read; with `all_parts` also the voice. Raises BadInput if there
    is no note.
    """
    root = _plain(data)
    score = score_of(_page(root), all_parts)
    return replace(score, events=musicxml_events(root, score.measures))


def musicxml_page(data: bytes) -> Page:
    """The page of a MusicXML file, not unfolded."""
    return _page(_plain(data))


def mei_page(data: bytes) -> Page:
    """The page of an MEI file, not unfolded."""
    return page_of_mei(_plain(data))


def _page(root: Any) -> Page:
    page = page_of(root)
    page.composer = page.composer or _credited_composer(root)
    return page


def _credited_composer(root: Any) -> str:
    """The name before life dates, "(1770 - 1827)", among the credits; "" without one."""
    words = " ".join((e.text or "").strip() for e in root.iter("credit-words"))
    found = re.search(r"([^\W\d_][\w. '-]{3,60}?)\s*\(\s*1\d{3}\s*[-–—]", words)
    name = found.group(1).split()[-4:] if found else []
    while name and not name[0].isalpha():  # "op. 8, no. 11" before it
        name = name[1:]
    return " ".join(name)


def read_mei(data: bytes, all_parts: bool = False) -> Score:
    """`read_musicxml` for MEI."""
    page = mei_page(data)
    score = score_of(page, all_parts)
    return replace(score, events=placed(page.events, page.numbers(), score.measures))


def _plain(data: bytes) -> Any:
    """The root of an XML document, its names without namespaces."""
    # recover: libxml2 rejects an xml:id that is not a name; `scan_xml` has refused malformed files
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, recover=True)
    root = etree.fromstring(data, parser)
    for element in root.iter(etree.Element):
        if "}" in element.tag:
            element.tag = element.tag.rsplit("}", 1)[-1]
    return root


def read_musicxml_file(path: str | Path) -> Score:
    """`read_musicxml` for a trusted file."""
    return read_musicxml(Path(path).read_bytes())
