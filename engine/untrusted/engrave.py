"""Engraving in a child process, because verovio gets contents of untrusted files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engine.music.io.engrave import WIDTHS, Engraving, clean_svg, engraving_from_bytes
from engine.music.score_bytes import score_to_bytes
from engine.music.types import BadInput, Score
from engine.process.notation_reader import ENGRAVING
from engine.process.reader_pool import borrow_child


def engrave(score: Score, width: int = 1100, check: Callable[[], None] | None = None) -> Engraving:
    """Engrave a score on pages of `width` pixels, within the limits of `ReaderChild.read`; 0.3 s for 1,000 notes.

    width  one of WIDTHS
    check  called several times a second; an exception that it raises ends the work
    Raises BadInput if the score is too long or verovio cannot engrave it. Deterministic; callers may cache by
    (score.digest, width). Thread-safe.
    """
    if width not in WIDTHS:
        raise BadInput(f"Pages of {width} pixels are not engraved; {', '.join(map(str, WIDTHS))} are the widths.")
    with borrow_child(check) as child:
        answer = child.ask(f"engrave{width}", score_to_bytes(score), ENGRAVING, check)
    engraving = engraving_from_bytes(answer)
    return replace(engraving, pages=tuple(clean_svg(page) for page in engraving.pages))
