"""Entries of a comparison: performances of one score, and a blind study of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from engine.music.types import Alignment, Performance
from studio.actions.rendering import Render
from studio.state.session import Grid


@dataclass(frozen=True)
class Entry:
    """One performance of a comparison.

    slot    its colour, see engine.measures.side_by_side_figures
    drawn   whether the curves and the table include it
    grid    where the beats fall in it; None if its alignment gives them
    render  the render that supplies its sound; None for the recording or the preview piano
    sound   file of the recording that supplies its sound; None as above
    found   share of the score's notes that were found in it, 0 to 1; None for a performance of the Pianist
    """

    key: str
    name: str
    slot: int
    drawn: bool
    performance: Performance
    alignment: Alignment
    grid: Grid | None = None
    render: Render | None = None
    sound: Path | None = None
    found: float | None = None

    def sound_id(self, piano: str) -> str:
        """Key of its sound; it changes with every change of notes or piano."""
        if self.render is not None:
            return f"{self.key}.{self.render.made}"
        if self.sound is not None:
            return f"{self.key}.{self.performance.digest[:12]}"
        return f"{self.key}.{hashlib.sha256(f'{self.performance.digest} {piano}'.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Study:
    """A study in progress.

    number   its name on the page, from 1
    doc      the document that the performances belong to
    heard    the entry of each code 0, 1, ...
    trials   codes in the order in which each trial shows them as A, B, ...
    at       the trial that is answered next
    span     (from, to) quarters that are played
    bars     the same in words, "" for the whole piece
    title    title of its votes' piece; "" for the open piece
    """

    number: int
    doc: int
    question: str
    listener: str
    seed: int
    heard: tuple[Entry, ...]
    trials: tuple[tuple[int, ...], ...]
    span: tuple[float, float]
    bars: str = ""
    at: int = 0
    title: str = ""

    @property
    def over(self) -> bool:
        """Whether every trial has an answer."""
        return self.at >= len(self.trials)
