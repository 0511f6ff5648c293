"""The engine for the server: the methods of Engine in two subprocesses, with recovery from crashes.

One process has the models, the other the preview pianos, so that the sound of a note never waits for a render. This
process reads axes, presets and styles from the checkpoints folder, so that the page need not wait for the models.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engine.checkpoints.index import (
    CHECKPOINTS,
    Styles,
    paper_models,
    profiles,
    renderer_digest,
    styles,
    xmvae_directions,
)
from engine.models.composer.conditions import COMPOSERS, KEYS, METER_NAMES, PERIODS
from engine.models.pianist.style import AXES, Axis, z_from_sliders
from engine.music.types import DEFAULT_FREEDOM, Alignment, AudioClip, BadInput, Performance, Score, Strength, Style
from engine.process.client import GRACE_SEC, MEMORY_BYTES, Worker
from engine.progress import NoteCallback, ProgressCallback
from engine.protocol import EngineApi
from engine.requests import FITTED_METHODS, Passage, PassageRequest, PerformRequest, RenderRequest, WritingRequest
from engine.sound.prompts import Prompt, gallery

if TYPE_CHECKING:
    from collections.abc import Sequence


LEAST_SEC = 60.0  # minimum time limit of a job
NOTE_SEC = 0.2  # more per performed or aligned note; typical: 1 ms
WRITTEN_SEC = 2.0  # per composed note; typical: 10 ms
BAR_SEC = 60.0  # per composed bar
SOUND_SEC = 5.0  # per rendered second, in addition to RENDER_SEC; typical: 0.1 s
RENDER_SEC = 300.0


class RemoteEngine:
    """Compose, perform, preview, render: see `engine.engine.Engine`, whose methods these are. Thread-safe.

    patience   factor on the time limits
    memory     resident bytes above which an idle process is replaced
    grace_sec  from an ignored cancel to the kill
    """

    axes: tuple[Axis, ...] = AXES
    composers, periods, keys, meters = COMPOSERS, PERIODS, KEYS, METER_NAMES

    def __init__(
        self, checkpoints: Path | None = None, patience: float = 1.0, memory: int = MEMORY_BYTES,
        grace_sec: float = GRACE_SEC,
    ) -> None:  # fmt: skip
        self.checkpoints, self.patience = Path(checkpoints) if checkpoints is not None else CHECKPOINTS, patience
        self.models = Worker("models", self.checkpoints, memory, grace_sec)
        self.sound = Worker("sound", None, memory, grace_sec)
        self._styles: Styles | None = None
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether the models are loaded."""
        return self.models.ready

    def wait(self, progress: ProgressCallback) -> None:
        """Wait until the models are loaded; calls `progress` meanwhile, which may raise. Raises EngineStopped."""
        self.models.wait(progress)

    def start(self) -> None:
        """Start loading without waiting."""
        self.models.start()
        self.sound.start()

    def close(self) -> None:
        """End both processes."""
        self.models.close()
        self.sound.close()

    # ---- in this process
    @property
    def presets(self) -> dict[str, tuple[float, ...]]:
        """Styles by name. Raises BundleError if the checkpoint has none."""
        return self._known.presets

    @property
    def profiles(self) -> tuple[str, ...]:
        """The methods of rendering."""
        return profiles(self.checkpoints)

    @property
    def paper_models(self) -> tuple[str, ...]:
        """The systems of the XMVAE paper that have weights here."""
        return paper_models(self.checkpoints)

    @property
    def xmvae_directions(self) -> tuple[str, ...]:
        """Names of the directions of XMVAE's z_p."""
        return xmvae_directions(self.checkpoints)

    @property
    def prompts(self) -> Mapping[str, Prompt]:
        """The gallery of reference sounds, by name."""
        return gallery()

    @property
    def _known(self) -> Styles:
        with self._lock:
            if self._styles is None:
                self._styles = styles(self.checkpoints)
            return self._styles

    def style(
        self, z_axes: Sequence[float] = (), base: Sequence[float] = (), strength: Strength = Strength(), seed: int = 0,
        freedom: float = DEFAULT_FREEDOM, ornaments: bool = False,
    ) -> Style:  # fmt: skip
        """A Style: the latent `base` (Default when empty), moved by the sliders `z_axes` (standard deviations each)."""
        z = z_from_sliders(z_axes, base, self._known.sliders, self._known.size)
        if seed < 0:
            raise BadInput(f"The seed is {seed}; use a whole number from 0.")
        return Style(z, strength, int(seed), float(freedom), ornaments)

    def weights(self, profile: str = "fitted") -> str:
        """Digest of the weights that a render is made with. Raises BundleError if there are none."""
        if profile in FITTED_METHODS:
            return FITTED_METHODS[profile]
        if profile == "product":
            return renderer_digest(self.checkpoints)
        return self.models.call("weights", profile, limit_sec=self._limit(LEAST_SEC))

    # ---- in the models' process
    def compose(
        self, request: WritingRequest, on_note: NoteCallback | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[Score]:  # fmt: skip
        """Compose, continue or infill, by the type of the request."""
        (notes, bars), takes = request.check().length, request.takes
        limit = self._limit(LEAST_SEC + takes * (BAR_SEC * bars if bars else WRITTEN_SEC * notes))
        return self.models.call("compose", request, limit_sec=limit, on_note=on_note, progress=progress)

    def compose_passages(self, request: PassageRequest, progress: ProgressCallback | None = None) -> list[Passage]:
        """Compose, or vary, passages with a system of the XMVAE paper."""
        limit = self._limit(LEAST_SEC + request.check().takes * WRITTEN_SEC * request.notes)
        return self.models.call("compose_passages", request, limit_sec=limit, progress=progress)

    def perform(self, request: PerformRequest, progress: ProgressCallback | None = None) -> Performance:
        """Perform a score, or some of its notes."""
        points = 1 if request.curve is None else len(request.curve.bar)
        limit = self._limit(LEAST_SEC + NOTE_SEC * len(request.score) * points)
        return self.models.call("perform", request, limit_sec=limit, progress=progress)

    def align(self, score: Score, performance: Performance, progress: ProgressCallback | None = None) -> Alignment:
        """Align a performance with a score."""
        limit = self._limit(LEAST_SEC + NOTE_SEC * len(score))
        return self.models.call("align", score, performance, limit_sec=limit, progress=progress)

    def style_from(
        self, score: Score, performance: Performance, alignment: Alignment | None = None
    ) -> tuple[float, ...]:
        """z_p of a performance of this score."""
        limit = self._limit(LEAST_SEC + NOTE_SEC * len(score))
        return self.models.call("style_from", score, performance, alignment, limit_sec=limit)

    def render_stream(self, request: RenderRequest, progress: ProgressCallback | None = None) -> Iterator[AudioClip]:
        """Render a performance with the sound of a prompt, as a stream of parts."""
        end_sec, (start, end) = request.performance.end_sec, request.span
        seconds = (end_sec if end is None else min(end, end_sec)) - start
        slow = 10.0 if request.profile == "paper" else 1.0  # MIDI-VALLE takes seconds per second
        limit = self._limit(RENDER_SEC + slow * SOUND_SEC * max(0.0, seconds))
        return self.models.stream("render_stream", request, progress=progress, limit_sec=limit)

    def render(self, request: RenderRequest, progress: ProgressCallback | None = None) -> AudioClip:
        """The same as one clip."""
        return AudioClip.joined(self.render_stream(request, progress))

    def transcribe(self, clip: AudioClip, progress: ProgressCallback | None = None) -> Performance:
        """Transcribe a recording to notes and pedal."""
        limit = self._limit(RENDER_SEC + SOUND_SEC * clip.duration_sec)
        return self.models.call("transcribe", clip, limit_sec=limit, progress=progress)

    # ---- in the pianos' process
    def preview_stream(self, performance: Performance, piano: str = "grand") -> Iterator[AudioClip]:
        """The performance on a sampled piano, in parts of about a second."""
        limit = self._limit(LEAST_SEC + performance.end_sec)
        return self.sound.stream("stream", performance, piano, limit_sec=limit)

    def preview(self, performance: Performance, piano: str = "grand") -> AudioClip:
        """The same as one clip."""
        return AudioClip.joined(self.preview_stream(performance, piano))

    def _limit(self, seconds: float) -> float:
        return self.patience * seconds


def open_engine() -> EngineApi:
    """The engine of a server: in subprocesses, which start to load; in this process on ZeroGPU, whose accelerator
    belongs to the server process, or if ETUDE_WORKER is 0.
    """
    if os.environ.get("SPACES_ZERO_GPU") or os.environ.get("ETUDE_WORKER") == "0":
        from engine.engine import Engine

        return Engine.load()
    engine = RemoteEngine()
    engine.start()
    return engine
