"""The methods of an engine, whether it computes in this process (`engine.engine.Engine`) or in others
(`engine.process.remote_engine.RemoteEngine`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from engine.models.pianist.style import Axis
from engine.music.types import DEFAULT_FREEDOM, Alignment, AudioClip, Performance, Score, Strength, Style
from engine.progress import NoteCallback, ProgressCallback
from engine.requests import Passage, PassageRequest, PerformRequest, RenderRequest, WritingRequest

if TYPE_CHECKING:
    from engine.sound.prompts import Prompt


class EngineApi(Protocol):
    """Compose, perform, preview, render. Thread-safe; methods keep no state of the caller.

    A progress callback is called with the finished share; an exception raised in it cancels the work. Every method
    raises BadInput for invalid input and BundleError if a checkpoint is missing or damaged.
    """

    @property
    def axes(self) -> tuple[Axis, ...]: ...
    @property
    def presets(self) -> dict[str, tuple[float, ...]]: ...
    @property
    def profiles(self) -> tuple[str, ...]: ...
    @property
    def paper_models(self) -> tuple[str, ...]: ...
    @property
    def xmvae_directions(self) -> tuple[str, ...]: ...
    @property
    def prompts(self) -> Mapping[str, Prompt]: ...
    @property
    def ready(self) -> bool: ...

    def wait(self, progress: ProgressCallback) -> None: ...

    def style(
        self, z_axes: Sequence[float] = (), base: Sequence[float] = (), strength: Strength = Strength(), seed: int = 0,
        freedom: float = DEFAULT_FREEDOM, ornaments: bool = False,
    ) -> Style: ...  # fmt: skip

    def weights(self, profile: str = "fitted") -> str: ...

    def compose(
        self, request: WritingRequest, on_note: NoteCallback | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[Score]: ...  # fmt: skip

    def compose_passages(self, request: PassageRequest, progress: ProgressCallback | None = None) -> list[Passage]: ...

    def perform(self, request: PerformRequest, progress: ProgressCallback | None = None) -> Performance: ...

    def align(self, score: Score, performance: Performance, progress: ProgressCallback | None = None) -> Alignment: ...

    def style_from(
        self, score: Score, performance: Performance, alignment: Alignment | None = None
    ) -> tuple[float, ...]: ...

    def preview(self, performance: Performance, piano: str = "grand") -> AudioClip: ...

    def preview_stream(self, performance: Performance, piano: str = "grand") -> Iterator[AudioClip]: ...

    def render(self, request: RenderRequest, progress: ProgressCallback | None = None) -> AudioClip: ...

    def render_stream(
        self, request: RenderRequest, progress: ProgressCallback | None = None
    ) -> Iterator[AudioClip]: ...

    def transcribe(self, clip: AudioClip, progress: ProgressCallback | None = None) -> Performance: ...
