"""The engine as all visitors share it: loaded once, on first use, its results remembered by their content."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar

from engine.music.types import Alignment, AudioClip, Performance, Score, Style
from studio.examples import EXAMPLES, FIRST, Example

if TYPE_CHECKING:
    from engine.pipeline import Axis, Engine

T = TypeVar("T")
PLAYING = 2  # previews made at one time, for all visitors together


class Memory:
    """The last few results of pure functions, by the digests of what went in. Safe to share: results are frozen."""

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, threading.Lock()
        self._known: OrderedDict[Hashable, object] = OrderedDict()

    def recall(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returned for this key before, or make it now."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]  # type: ignore[return-value]
        value = make()
        with self._lock:
            self._known[key] = value
            while len(self._known) > self._size:
                self._known.popitem(last=False)
        return value


class Desk:
    """One per process. Nothing of a visitor is kept here, only answers that depend on their questions alone."""

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine, self._loading = engine, threading.Lock()
        self._pianos = threading.Semaphore(PLAYING)
        self._performances, self._clips, self._other = Memory(64), Memory(8), Memory(32)

    @property
    def engine(self) -> Engine:
        """The engine, loaded by whoever asks first."""
        with self._loading:
            if self._engine is None:
                from engine.pipeline import Engine

                self._engine = Engine.load()
            return self._engine

    def warm(self) -> None:
        """Load what the first visitor would have to wait for; call it from a thread of its own."""
        import plotly.graph_objects  # noqa: F401  slow to import

        from engine.music.expression import deadpan

        score = self.read_example(EXAMPLES[FIRST])
        self.engine.preview(deadpan(score))
        self.perform(score, self.engine.style(base=self.presets["Default"]))

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The style sliders."""
        return self.engine.axes

    @property
    def presets(self) -> dict[str, tuple[float, ...]]:
        """Named styles."""
        return self.engine.presets

    @property
    def pianos(self) -> dict[str, str]:
        """The pianos whose sound is on this computer: name to label."""
        from engine.sound.preview import Preview

        return Preview().available()

    def read_example(self, example: Example) -> Score:
        """An example's score, read once."""
        from engine.music.safe import open_score

        return self._other.recall(("read", example.score), lambda: open_score(example.score_bytes(), example.score))

    def perform(self, score: Score, style: Style) -> Performance:
        """The score played in a style."""
        key = ("perform", score.digest, style)
        return self._performances.recall(key, lambda: self.engine.perform(score, style))

    def preview(self, performance: Performance, piano: str) -> AudioClip:
        """The sound of a performance."""
        key = ("preview", performance.digest, piano)
        with self._pianos:
            return self._clips.recall(key, lambda: self.engine.preview(performance, piano))

    def align(self, score: Score, performance: Performance) -> Alignment:
        """Which played note is which written one."""
        from engine.music.alignment import align

        key = ("align", score.digest, performance.digest)
        return self._other.recall(key, lambda: align(score, performance))

    def style_from(self, score: Score, performance: Performance, alignment: Alignment) -> tuple[float, ...]:
        """The latent style of a human performance."""
        key = ("style", score.digest, performance.digest)
        return self._other.recall(key, lambda: self.engine.style_from(score, performance, alignment))
