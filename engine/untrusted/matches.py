"""Untrusted match files, parsed by partitura in the child process under its limits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from engine.limits import MAX_SCORE_NOTES
from engine.music.types import Alignment, BadInput, Performance, Score
from engine.process.notation_reader import READ_SECONDS, Refusals
from engine.process.wire import from_bytes, to_bytes
from engine.untrusted.scores import call_apart, check_score, shown

MAX_BYTES = 8_000_000
FIRST_BYTES = b"info(matchFileVersion"
_REFUSALS = Refusals(
    "This match file cannot be read; choose a .match file of version 1.0.0 or older, with its score.",
    f"Reading this match file took over {READ_SECONDS} seconds; choose a shorter piece.",
    "Reading this match file took too much memory; choose a shorter piece.",
)


def is_match(data: bytes) -> bool:
    """Whether bytes begin like a match file."""
    return data[:4000].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(FIRST_BYTES)


def open_match(
    data: bytes, filename: str, check: Callable[[], None] | None = None
) -> tuple[Score, Performance, Alignment]:
    """Read an untrusted match file: unfolded score, performance, alignment.

    check  called several times a second; an exception that it raises ends the reading
    Raises BadInput.
    """
    name = shown(filename)
    if not is_match(data):
        raise BadInput(f"{name} is not a match file; one begins with info(matchFileVersion,...).")
    if len(data) > MAX_BYTES:
        raise BadInput(f"{name} has {len(data) / 1e6:.1f} MB; match files up to {MAX_BYTES / 1e6:.0f} MB are accepted.")
    answer = call_apart(f"{__name__}:read_here", data, _REFUSALS, check, needs="partitura")
    _, score, performance, alignment = from_bytes(answer)
    if len(performance) > MAX_SCORE_NOTES:
        raise BadInput(f"{name} has a performance of {len(performance)} notes; up to {MAX_SCORE_NOTES} are accepted.")
    return check_score(score), performance, alignment


def read_here(data: bytes) -> bytes:
    """The child's side: a match file as a message of Score, Performance and Alignment. Raises BadInput."""
    from engine.music.io.alignment import read_match

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sent.match"
        path.write_bytes(data)
        return to_bytes(("match", *read_match(path)))
