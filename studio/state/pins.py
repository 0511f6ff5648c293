"""Pinned performances of the open score, and the votes of listeners.

Frozen values in the Session, so that undo restores pins and a project can contain them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from engine.music.types import Alignment, BadInput, Performance

MAX_PINS = 8
KINDS = ("pinned", "pianist", "file", "recording")


@dataclass(frozen=True)
class Pin:
    """One pinned performance of a score.

    number     its id in the browser, from 1; unique in a visit
    name       display name: style, seed and time, or a file name
    kind       "pinned" from the roll, "pianist" performed on request, "file" opened, "recording" transcribed
    digest     digest of its score: a pin is shown only with that score
    alignment  score note of each of its notes
    sound      file of the recording; None if there is none, and after a project was opened
    """

    number: int
    name: str
    kind: str
    digest: str
    performance: Performance
    alignment: Alignment
    sound: Path | None = None


@dataclass(frozen=True)
class Vote:
    """One answer of a listener.

    time      when, as "2026-11-22T22:41:05+00:00"
    piece     title of the piece
    listener  name typed by the listener, "" for none
    question  "prefer" (one of two), "human" (a rating from 1 to 7), "rank" (an order of all)
    shown     names of the performances, in the order of presentation
    choice    names, best first: the preferred one, or the whole ranking; () for no preference, or a rating
    rating    1 to 7; 0 for other questions
    bars      "" for the whole piece, or such as "5-8"
    seed      of the study's order
    trial     position in the study, from 1
    """

    time: str
    piece: str
    listener: str
    question: str
    shown: tuple[str, ...]
    choice: tuple[str, ...]
    rating: int
    bars: str
    seed: int
    trial: int


@dataclass(frozen=True)
class Comparison:
    """The pins of one piece, and the votes of the whole visit.

    left_out  keys (see studio.actions.comparing) of the performances that are not drawn
    """

    pins: tuple[Pin, ...] = ()
    left_out: frozenset[str] = frozenset()
    votes: tuple[Vote, ...] = ()
    last_number: int = 0

    def pinned(
        self, name: str, kind: str, digest: str, performance: Performance, alignment: Alignment,
        sound: Path | None = None,
    ) -> Comparison:  # fmt: skip
        """Add a pin; a duplicate name gets a number. Raises BadInput if there are MAX_PINS already."""
        if len(self.pins) >= MAX_PINS:
            raise BadInput(f"{MAX_PINS} performances are pinned already; remove one before adding another.")
        names, plain, k = {pin.name for pin in self.pins}, name, 2
        while name in names:
            name, k = f"{plain} ({k})", k + 1
        number = self.last_number + 1
        pin = Pin(number, name, kind, digest, performance, alignment, sound)
        return replace(self, pins=(*self.pins, pin), last_number=number)

    def without(self, number: int) -> Comparison:
        """The same without one pin."""
        return replace(self, pins=tuple(pin for pin in self.pins if pin.number != number))

    def with_votes_of(self, other: Comparison) -> Comparison:
        """Another piece's pins, the same visit's votes and numbering."""
        return replace(self, votes=other.votes, last_number=max(self.last_number, other.last_number))
