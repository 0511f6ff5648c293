"""Saving a score as MusicXML, MEI, SVG or PDF in a child process, because the patched document is untrusted."""

from __future__ import annotations

import json
from collections.abc import Callable

from engine.music.io.engrave import clean_svg
from engine.music.io.write_musicxml import write_musicxml
from engine.music.score_bytes import pair_to_bytes, score_to_bytes
from engine.music.types import BadInput, Performance, Score
from engine.process.notation_reader import ENGRAVING, READING
from engine.untrusted.scores import call_apart


def save_musicxml(score: Score, check: Callable[[], None] | None = None) -> bytes:
    """A score as MusicXML: its source document with changed bars patched, else a new document.

    check  called several times a second; an exception that it raises ends the work
    A document whose patching exceeds a limit of `ReaderChild.read` is also rewritten.
    """
    if not score.document:
        return write_musicxml(score)
    try:
        return call_apart("engine.music.document.patch:saved_bytes", score_to_bytes(score), READING, check)
    except BadInput:
        return write_musicxml(score)


def save_as_played(score: Score, performance: Performance, check: Callable[[], None] | None = None) -> bytes:
    """A score as MusicXML with a performance of it, note for note the score's, for playback. Raises BadInput."""
    pair = pair_to_bytes(score, performance)
    return call_apart("engine.music.document.as_played:played_bytes", pair, READING, check)


def save_mei(score: Score, check: Callable[[], None] | None = None) -> bytes:
    """A score as MEI. Raises BadInput if verovio fails."""
    return call_apart("engine.music.document.pages:mei", score_to_bytes(score), ENGRAVING, check)


def save_svg(score: Score, check: Callable[[], None] | None = None) -> list[str]:
    """A score as engraved A4 pages in SVG without external resources. Raises BadInput if engraving fails."""
    pages = json.loads(call_apart("engine.music.document.pages:svg", score_to_bytes(score), ENGRAVING, check))
    return [clean_svg(page) for page in pages]


def save_pdf(score: Score, check: Callable[[], None] | None = None) -> bytes:
    """A score as a PDF file of A4 pages with title and composer. Raises BadInput if engraving fails."""
    return call_apart("engine.music.document.pdf:pdf", score_to_bytes(score), ENGRAVING, check)
