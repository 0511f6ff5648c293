"""Saving a score as MusicXML in a child process, since the file that is patched came from outside."""

from __future__ import annotations

from collections.abc import Callable

from engine.music.io.write_musicxml import write_musicxml
from engine.music.score_bytes import score_to_bytes
from engine.music.types import BadInput, Score
from engine.process.notation_reader import READING
from engine.untrusted.scores import call_apart


def save_musicxml(score: Score, check: Callable[[], None] | None = None) -> bytes:
    """A score as MusicXML: the file that it was read from, patched where notes changed; else written anew.

    check  called several times a second; an exception that it raises ends the work
    A file whose patching passes a limit of `ReaderChild.read` is written anew, too.
    """
    if not score.document:
        return write_musicxml(score)
    try:
        return call_apart("engine.music.document.patch:saved_bytes", score_to_bytes(score), READING, check)
    except BadInput:
        return write_musicxml(score)
