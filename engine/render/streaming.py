"""What every method of rendering has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from engine.music.types import AudioClip, Performance
from engine.progress import ProgressCallback
from engine.sound.prompts import Prompt


class StreamingRenderer(ABC):
    """A method of rendering: sound in parts as they are made.

    profile  its name
    digest   version of what it renders with, "" where that has none
    """

    profile: str
    digest: str

    @abstractmethod
    def render_stream(
        self, performance: Performance, prompt: Prompt, seed: int = 0, temperature: float = 1.0,
        span: tuple[float, float | None] = (0.0, None), progress: ProgressCallback | None = None,
    ) -> Iterator[AudioClip]:  # fmt: skip
        """The performance with the prompt's sound, part by part.

        span     seconds of the performance; the end None is two seconds after the last release
        progress  called with the finished share; raise in it to cancel
        """

    def render(
        self, performance: Performance, prompt: Prompt, seed: int = 0, temperature: float = 1.0,
        span: tuple[float, float | None] = (0.0, None), progress: ProgressCallback | None = None,
    ) -> AudioClip:  # fmt: skip
        """The whole of `render_stream` as one clip."""
        return AudioClip.joined(self.render_stream(performance, prompt, seed, temperature, span, progress))
