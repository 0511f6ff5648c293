"""What a visitor keeps in order to compare: performances of the open score, and what listeners said of them.

Plain frozen values, part of the Session, so that undo of pieces brings pins back and a project can hold them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.music.types import Alignment, BadInput, Performance

MAX_PINS = 8
KINDS = ("pinned", "pianist", "file")


@dataclass(frozen=True)
class Pin:
    """One performance of a score, kept as it was.

    number     its name in the browser, from 1; never given twice in a visit
    name       what the visitor reads: style, seed and time, or the name of a file
    kind       "pinned" from the roll, "pianist" played on request, "file" opened
    digest     of the score that it plays: a pin is shown only with that score
    alignment  which note of that score each of its notes plays
    """

    number: int
    name: str
    kind: str
    digest: str
    performance: Performance
    alignment: Alignment


@dataclass(frozen=True)
class Vote:
    """One answer of a listener.

    time      when, as "2026-11-22T22:41:05+00:00"
    piece     title of what was heard
    listener  what the listener typed as a name, "" for none
    question  "prefer" (two are heard), "human" (one is rated 1 to 7), "rank" (all are put in order)
    shown     names of what was heard, in the order in which it was shown
    choice    names, best first: the preferred one, or the whole ranking; () for no preference, or a rating
    rating    1 to 7; 0 where none was asked for
    bars      "" for the whole piece, or such as "5-8"
    seed      of the study's order
    trial     place in the study, from 1
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
    """What is kept of one piece, and the votes of the whole visit.

    left_out  keys (see studio.actions.comparing) of the performances that are not drawn
    """

    pins: tuple[Pin, ...] = ()
    left_out: frozenset[str] = frozenset()
    votes: tuple[Vote, ...] = ()
    last_number: int = 0

    def pinned(self, name: str, kind: str, digest: str, performance: Performance, alignment: Alignment) -> Comparison:
        """One more pin; a name that is taken gets a number. Raises BadInput when MAX_PINS are kept already."""
        if len(self.pins) >= MAX_PINS:
            raise BadInput(f"{MAX_PINS} performances are kept already; remove one before adding another.")
        names, plain, k = {pin.name for pin in self.pins}, name, 2
        while name in names:
            name, k = f"{plain} ({k})", k + 1
        number = self.last_number + 1
        pin = Pin(number, name, kind, digest, performance, alignment)
        return replace(self, pins=(*self.pins, pin), last_number=number)

    def without(self, number: int) -> Comparison:
        """The same without one pin."""
        return replace(self, pins=tuple(pin for pin in self.pins if pin.number != number))

    def with_votes_of(self, other: Comparison) -> Comparison:
        """Another piece's pins, the same visit's votes and numbering."""
        return replace(self, votes=other.votes, last_number=max(self.last_number, other.last_number))
