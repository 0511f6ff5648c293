"""What is compared: performances of one score, and a blind study of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from engine.music.types import Alignment, Performance
from studio.actions.rendering import Render
from studio.state.session import Grid


@dataclass(frozen=True)
class Entry:
    """One performance beside the others.

    slot    its colour, see engine.measures.side_by_side_figures
    drawn   whether it is in the curves and the table
    grid    where the beats fall in it, None where that is found by its alignment
    render  the render whose sound it has, None for a preview piano's
    """

    key: str
    name: str
    slot: int
    drawn: bool
    performance: Performance
    alignment: Alignment
    grid: Grid | None = None
    render: Render | None = None

    def sound_id(self, piano: str) -> str:
        """Names its sound: another after every change of notes or piano."""
        if self.render is not None:
            return f"{self.key}.{self.render.made}"
        return f"{self.key}.{hashlib.sha256(f'{self.performance.digest} {piano}'.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Study:
    """One study under way.

    number   its name on the page, from 1
    doc      the document whose performances are heard
    heard    what is behind each code: entry of code 0, 1, ...
    trials   codes in the order in which each trial shows them as A, B, ...
    at       the trial that is answered next
    span     (from, to) quarters that are heard
    bars     the same in words, "" for the whole piece
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

    @property
    def over(self) -> bool:
        """Every trial has been answered."""
        return self.at >= len(self.trials)
