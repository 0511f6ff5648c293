"""The engine shared by all visitors: started on first use, with an LRU cache of results."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, TypeVar

from engine.checkpoints.index import styles
from engine.limits import PERFORMANCES_AT_ONCE, PREVIEWS_AT_ONCE, WAITING_SHORT
from engine.models.pianist.style import units
from engine.music.types import Alignment, AudioClip, BadInput, BundleError, Performance, Score
from engine.progress import NoteCallback, ProgressCallback, no_progress
from engine.requests import ComposeRequest, Passage, PassageRequest, PerformRequest, RenderRequest, WritingRequest
from studio.service.admission import AdmissionGate
from studio.service.jobs import Job
from studio.state.examples import EXAMPLES, FIRST, Example

if TYPE_CHECKING:
    from engine.models.pianist.style import Axis
    from engine.music.io.engrave import Engraving
    from engine.protocol import EngineApi

T = TypeVar("T")


class LruCache:
    """LRU cache of pure functions, keyed by digests of their inputs. Thread-safe: results are frozen."""

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, threading.Lock()
        self._known: OrderedDict[Hashable, object] = OrderedDict()

    def recall(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the cached result for this key, or compute it with `make`."""
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

    def recall_in_turn(self, key: Hashable, make: Callable[[], T], gate: AdmissionGate, step: ProgressCallback) -> T:
        """`recall`, but computed in a turn of `gate`. The cache is read again in the turn: if several visitors open the
        same piece at the same time, it is performed for the first of them only.
        """
        with self._lock:
            known = key in self._known
        with nullcontext() if known else gate.turn(step):
            return self.recall(key, make)


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class SharedEngine:
    """Facade of the engine with admission control and a cache; one per process. It holds no visitor state.

    engine  an Engine in this process (the default), or a RemoteEngine with its own processes
    """

    def __init__(self, engine: EngineApi | None = None) -> None:
        self._engine, self._loading = engine, threading.Lock()
        self.pianist = AdmissionGate(min(PERFORMANCES_AT_ONCE, processors()), WAITING_SHORT)
        self.pianos_free = AdmissionGate(PREVIEWS_AT_ONCE, WAITING_SHORT)
        self.composer, self.renderer = AdmissionGate(1), AdmissionGate(1)
        self._performances, self._clips, self._other = LruCache(64), LruCache(4), LruCache(32)
        self._engravings = LruCache(16)

    @property
    def engine(self) -> EngineApi:
        """The engine, created on first use."""
        with self._loading:
            if self._engine is None:
                from engine.engine import Engine

                self._engine = Engine.load()
            return self._engine

    def await_models(self, job: Job) -> None:
        """Wait until a new engine process has loaded its models; the job shows this stage."""
        if not self.engine.ready:
            doing = job.text
            job.begin("Loading the models")
            self.engine.wait(job.step)
            job.begin(doing)

    def warm(self) -> None:
        """Load models and libraries before the first visitor needs them; call it from its own thread."""
        from engine.measures.curves import curves_figure
        from engine.music.expression import deadpan

        score = self.read_example(EXAMPLES[FIRST])
        curves_figure(score, deadpan(score)).to_json()  # plotly is slow to import
        self.engine.preview(deadpan(score))
        self.perform(PerformRequest(score, self.engine.style(base=self.presets["Default"])))
        self.engine.compose(ComposeRequest(notes=8))
        prompt = next(iter(self.engine.prompts.values()))
        next(self.engine.render_stream(RenderRequest(deadpan(score), prompt, span=(0.0, 1.0))), None)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The style sliders."""
        return self.engine.axes

    @property
    def units(self) -> tuple[str, ...]:
        """One standard deviation of each slider in musical units; "1" if the checkpoint has none."""
        try:
            deviation = styles(self.engine.checkpoints).deviation
        except BundleError:
            return ("1 deviation",) * len(self.engine.axes)
        return units(deviation)

    @property
    def presets(self) -> dict[str, tuple[float, ...]]:
        """Named styles; only the default if the checkpoint is missing."""
        try:
            return self.engine.presets
        except BundleError:
            return {"Default": ()}

    @property
    def pianos(self) -> dict[str, str]:
        """The installed pianos: name to label."""
        from engine.sound.preview import Preview

        return Preview().available()

    @property
    def profiles(self) -> tuple[str, ...]:
        """The methods of rendering that can be used, the default first."""
        return self.engine.profiles

    @property
    def paper_models(self) -> tuple[str, ...]:
        """The systems of the XMVAE paper whose weights are installed."""
        return self.engine.paper_models

    @property
    def xmvae_directions(self) -> tuple[str, ...]:
        """Names of the directions of XMVAE's z_p."""
        return self.engine.xmvae_directions

    def render_weights(self, profile: str) -> str:
        """Digest of the weights that a render is made with. Raises BundleError when they are missing or damaged."""
        if profile not in self.profiles:
            raise BadInput(f"There is no such renderer; choose one of {', '.join(self.profiles)}.")
        return self.engine.weights(profile)

    def read_example(self, example: Example, step: ProgressCallback = no_progress) -> Score:
        """The cached score of an example."""
        from engine.untrusted.scores import open_score

        def make() -> Score:
            return open_score(example.score_bytes(), example.score, lambda: step(0.0))

        return self._other.recall(("read", example.score), make)

    def perform(self, request: PerformRequest, step: ProgressCallback = no_progress) -> Performance:
        """Perform a score, or some of its notes; `step` receives the finished share and may raise to cancel."""

        def make() -> Performance:
            return self.engine.perform(request, progress=step)

        if request.redo is not None:
            with self.pianist.turn(step):
                return make()
        old = [item.digest for item in (request.edited_from, request.keep, request.curve) if item is not None]
        key = ("perform", *old, request.score.digest, request.style)
        return self._performances.recall_in_turn(key, make, self.pianist, step)

    def compose(
        self, request: WritingRequest, on_note: NoteCallback, step: ProgressCallback = no_progress
    ) -> list[Score]:
        """Compose, continue or rewrite; `on_note` and `step` may raise to cancel; `step` is also called while the job
        waits."""
        with self.composer.turn(step):
            return self.engine.compose(request, on_note=on_note, progress=step)

    def compose_passages(self, request: PassageRequest, step: ProgressCallback = no_progress) -> list[Passage]:
        """Compose or vary passages with a system of the XMVAE paper; `step` as in compose."""
        with self.composer.turn(step):
            return self.engine.compose_passages(request, step)

    def preview(self, performance: Performance, piano: str, step: ProgressCallback = no_progress) -> AudioClip:
        """The sound of a performance; `step` as in perform."""
        from engine.sound.preview import sounding_end

        def make() -> AudioClip:
            parts, made_sec = list[AudioClip](), 0.0
            for clip in self.engine.preview_stream(performance, piano):
                parts.append(clip)
                made_sec += clip.duration_sec
                step(min(1.0, made_sec / sounding_end(performance)))
            return AudioClip.joined(parts)

        return self._clips.recall_in_turn(("preview", performance.digest, piano), make, self.pianos_free, step)

    def render(self, request: RenderRequest, step: ProgressCallback = no_progress) -> Iterator[AudioClip]:
        """Render a performance with a prompt's sound, as a stream of parts; `step` as in perform."""
        with self.renderer.turn(step):
            yield from self.engine.render_stream(request, progress=step)

    def transcribe(self, clip: AudioClip, step: ProgressCallback = no_progress) -> Performance:
        """Transcribe a recording; `step` as in perform."""
        with self.renderer.turn(step):
            return self.engine.transcribe(clip, progress=step)

    def engraving(self, score: Score, width: int, step: ProgressCallback = no_progress) -> Engraving:
        """Engrave a score on pages of a width in pixels; `step` may raise to cancel."""
        from engine.untrusted.engrave import engrave

        key = ("engraving", score.digest, width)
        return self._engravings.recall(key, lambda: engrave(score, width, lambda: step(0.0)))

    def align(self, score: Score, performance: Performance, step: ProgressCallback = no_progress) -> Alignment:
        """Align a performance with a score; `step` as in perform."""

        def make() -> Alignment:
            with self.pianist.turn(step):
                return self.engine.align(score, performance, step)

        return self._other.recall(("align", score.digest, performance.digest), make)

    def style_from(self, score: Score, performance: Performance, alignment: Alignment) -> tuple[float, ...]:
        """The latent style of a human performance."""
        key = ("style", score.digest, performance.digest)
        return self._other.recall(key, lambda: self.engine.style_from(score, performance, alignment))
