"""The Engine, the entry point of the studio, the command line and scripts. It loads each model on first use."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.cache import KeyedCache
from engine.checkpoints.bundle import (
    CodecBundle,
    ComposerBundle,
    ExpectedBundle,
    PianistBundle,
    open_codec,
    open_composer,
    open_expected,
    open_pianist,
    open_renderer,
)
from engine.checkpoints.index import (
    CHECKPOINTS,
    CODEC,
    COMPOSER,
    EXPECTED,
    PIANIST,
    RENDERER,
    paper_models,
    profiles,
    xmvae_directions,
)
from engine.compose.composing import compose, continue_score, infill, stepped
from engine.compose.form_writing import compose_form
from engine.models.composer.conditions import COMPOSERS, KEYS, METER_NAMES, PERIODS
from engine.models.expected.joined import Freedom, joined
from engine.models.expected.marks_law import with_marks, without_grace_notes
from engine.models.expected.performance import ExpectedValues
from engine.models.pianist.features import score_features
from engine.models.pianist.pianist import from_channels, to_channels
from engine.models.pianist.sampling import EncodedScore, encode_style, mix
from engine.models.pianist.style import AXES, Axis, z_from_sliders
from engine.music.expression import apply_strength, decode_expression, encode_expression, in_written_order, steady_pedal
from engine.music.io.alignment import align, kept_notes
from engine.music.ornaments import with_ornaments
from engine.music.pedal_marks import with_pedal_marks
from engine.music.splicing import splice
from engine.music.types import (
    DEFAULT_FREEDOM,
    Alignment,
    AudioClip,
    BadInput,
    Expression,
    NoteStrength,
    Performance,
    Score,
    Strength,
    Style,
)
from engine.progress import NoteCallback, ProgressCallback, no_progress
from engine.requests import (
    ContinueRequest,
    InfillRequest,
    Passage,
    PassageRequest,
    PerformRequest,
    RenderRequest,
    WritingRequest,
)

if TYPE_CHECKING:  # imported where used: importing scipy.signal alone takes 0.7 s of CPU time
    from engine.compose.passages import PaperModels
    from engine.render.ddsp import DdspRenderer
    from engine.render.fitted import FittedRenderer
    from engine.render.physical import PhysicalRenderer
    from engine.render.rendering import Renderer
    from engine.render.streaming import StreamingRenderer
    from engine.render.valle_rendering import ValleRenderer
    from engine.sound.preview import Preview
    from engine.sound.prompts import Prompt

# Scores, and notes of all of them, whose encoding is cached: encoding adds half of the cost of a performance.
_READERS_KEPT, _NOTES_KEPT = 40, 40_000


class Engine:
    """Compose, perform, preview, render. Thread-safe; one instance serves all visitors and holds no visitor state.

    >>> engine = Engine.load()
    >>> engine.axes[0].name
    'tempo'
    """

    def __init__(self, checkpoints: Path):
        self.checkpoints = checkpoints
        self._readers = KeyedCache[EncodedScore](_too_many_scores)
        self._values, self._levels = KeyedCache[ExpectedValues](_too_many), KeyedCache[float](_too_many)
        self._lock = threading.RLock()

    @classmethod
    def load(cls, checkpoints: Path | None = None) -> Engine:
        """An engine over a checkpoints folder (by default the repository's); models load on first use."""
        return cls(Path(checkpoints) if checkpoints is not None else CHECKPOINTS)

    @property
    def ready(self) -> bool:
        """True: models load on first use, in the calling thread."""
        return True

    def wait(self, progress: ProgressCallback) -> None:
        """Return at once; see `ready`."""

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The labelled style sliders, in the order of z; each in standard deviations, -3..3; 0 is the mean of
        pianists."""
        return AXES

    @cached_property
    def pianist(self) -> PianistBundle:
        """The performing model. Raises BundleError if the checkpoint is missing or damaged."""
        with self._lock:
            return open_pianist(self.checkpoints / PIANIST)

    @cached_property
    def expected(self) -> ExpectedBundle:
        """The expected performance. Raises BundleError if the checkpoint is missing or damaged."""
        with self._lock:
            return open_expected(self.checkpoints / EXPECTED)

    @cached_property
    def composer(self) -> ComposerBundle:
        """The composing model. Raises BundleError if the checkpoint is missing or damaged."""
        with self._lock:
            return open_composer(self.checkpoints / COMPOSER)

    composers, periods, keys, meters = COMPOSERS, PERIODS, KEYS, METER_NAMES

    def compose(
        self, request: WritingRequest, on_note: NoteCallback | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[Score]:  # fmt: skip
        """Compose, continue or infill, by the type of the request; one score for each take.

        on_note  called for each note; raise in it to cancel
        progress  called with 0 before each note
        Raises BadInput for a request that is not accepted.
        """
        model, prior, heard = self.composer.model, self.composer.prior, stepped(on_note, progress)
        if isinstance(request, ContinueRequest):
            return continue_score(model, prior, request, heard)
        if isinstance(request, InfillRequest):
            return infill(model, prior, request, heard)
        return (compose if request.parsed_form is None else compose_form)(model, prior, request, heard)

    @property
    def paper_models(self) -> tuple[str, ...]:
        """Names of the systems of the XMVAE paper that have weights here, for `compose_passages`."""
        return paper_models(self.checkpoints)

    @property
    def xmvae_directions(self) -> tuple[str, ...]:
        """Names of the directions in which z_p moves XMVAE's playing, for `PassageRequest.z_p`."""
        return xmvae_directions(self.checkpoints)

    def compose_passages(self, request: PassageRequest, progress: ProgressCallback | None = None) -> list[Passage]:
        """Compose, or vary, passages of up to 256 notes with XMVAE, ECPT or MT, each with the model's own performance.

        progress  called with the finished share; raise in it to cancel
        Raises BadInput for a request that is not accepted, BundleError where the model has no weights.
        """
        return self._paper_models.compose(request, progress or no_progress)

    @cached_property
    def _paper_models(self) -> PaperModels:
        from engine.compose.passages import PaperModels

        return PaperModels(self.checkpoints)

    @cached_property
    def sound(self) -> Preview:
        """The preview pianos."""
        from engine.sound.preview import Preview

        return Preview()

    @property
    def presets(self) -> dict[str, tuple[float, ...]]:
        """Styles by name: "Default", then pianists of (n)ASAP who play at least five pieces there."""
        return {"Default": (0.0,) * self.pianist.model.config.style_size, **self.pianist.presets}

    def style(
        self, z_axes: Sequence[float] = (), base: Sequence[float] = (), strength: Strength = Strength(), seed: int = 0,
        freedom: float = DEFAULT_FREEDOM, ornaments: bool = False,
    ) -> Style:  # fmt: skip
        """A Style: the latent `base` (Default when empty), moved by the sliders `z_axes` (standard deviations each)."""
        z = z_from_sliders(z_axes, base, self.pianist.sliders, self.pianist.model.config.style_size)
        if seed < 0:
            raise BadInput(f"The seed is {seed}; use a whole number from 0.")
        return Style(z, strength, int(seed), float(freedom), ornaments)

    def perform(self, request: PerformRequest, progress: ProgressCallback | None = None) -> Performance:
        """Perform a score, or some of its notes: note i of the result is note i of the score.

        progress  called with the finished share; raise in it to cancel
        Raises BadInput if the style or the kept performance does not fit.
        """
        request.check()
        score, style, size = request.score, request.style, self.pianist.model.config.style_size
        z = np.asarray(style.z or (0.0,) * size)
        if len(z) != size:
            raise BadInput(f"This style has {len(z)} values, this pianist has {size}; make one with Engine.style.")
        if request.keep is None:
            x = self._channels_over_time(request, z, progress)
            strength = style.strength if request.curve is None else request.curve.strengths(score, style.strength)
            played = with_pedal_marks(score, self._decode(score, x, strength))
            return with_ornaments(score, played) if style.ornaments else played
        if request.edited_from is not None:
            return self._perform_edit(request.edited_from, request.keep, score, z, style, progress)
        return self._perform_again(score, request.keep, ~np.asarray(request.redo, bool), z, style, progress)

    def _perform_again(
        self, score: Score, keep: Performance, known: NDArray[np.bool_], z: NDArray, style: Style,
        progress: ProgressCallback | None,
    ) -> Performance:  # fmt: skip
        """Perform the notes that are not `known` (n,) again; all others stay exactly as in `keep`."""
        old = self.expression(score, keep)
        x = self._channels(score, z, style, to_channels(old), known, progress)
        kept = splice(score, keep, self._decode(score, x, style.strength, steady=False), known)
        return replace(kept, pedal_sec=keep.pedal_sec, pedal_value=keep.pedal_value)  # the pedal is unchanged

    def _perform_edit(
        self, old: Score, performance: Performance, new: Score, z: NDArray, style: Style,
        progress: ProgressCallback | None,
    ) -> Performance:  # fmt: skip
        """Perform an edited score: notes that `new` shares with `old` keep their performance, the others are inserted.
        A passage in the middle gets the duration of the old one.
        """
        kept = kept_notes(old, new)
        known = kept >= 0
        if known.sum() < 2:
            return self.perform(PerformRequest(new, style), progress)
        if known.all() and len(new) == len(old):
            return performance
        source = np.where(known, kept, 0)
        carried = Performance(
            performance.onset_sec[source], performance.duration_sec[source], performance.pitch[source],
            performance.velocity[source], performance.pedal_sec, performance.pedal_value,
        )  # fmt: skip
        rows = np.flatnonzero(known)
        heard = self.expression(new, carried, Alignment(rows, rows))
        x = self._channels(new, z, style, to_channels(heard), known, progress)
        fresh = self._decode(new, x, style.strength)
        return splice(new, replace(carried, pitch=new.pitch), fresh, known)

    def expression(self, score: Score, performance: Performance, alignment: Alignment | None = None) -> Expression:
        """Tempo, timing, velocity, articulation and pedal of a performance; alignment None means note i is note i."""
        return encode_expression(score, performance, alignment or Alignment.identity(len(score)))

    def align(self, score: Score, performance: Performance, progress: ProgressCallback | None = None) -> Alignment:
        """Align a performance with a score; see `engine.music.io.alignment.align`."""
        return align(score, performance, progress)

    def style_from(
        self, score: Score, performance: Performance, alignment: Alignment | None = None
    ) -> tuple[float, ...]:
        """z_p of a performance of this score; aligned first if no alignment is given."""
        found = alignment if alignment is not None else align(score, performance)
        if len(found) < 0.5 * len(score):
            share = len(found) / len(score)
            raise BadInput(
                f"Only {share:.0%} of the score's notes match this performance; open a performance of this piece."
            )
        expression, given = self.expression(score, performance, found), self._base(score)
        z = encode_style(self.pianist.model, score_features(score), expression, expected=given)
        return tuple(float(v) for v in np.clip(z, -4, 4))

    def preview(self, performance: Performance, piano: str = "grand") -> AudioClip:
        """The performance on a sampled piano."""
        return self.sound.preview(performance, piano)

    def preview_stream(self, performance: Performance, piano: str = "grand") -> Iterator[AudioClip]:
        """The same sound as a stream of parts of about a second."""
        return self.sound.stream(performance, piano)

    @cached_property
    def codec(self) -> CodecBundle:
        """The piano codec. Raises BundleError if the checkpoint is missing or damaged."""
        with self._lock:
            return open_codec(self.checkpoints / CODEC)

    @cached_property
    def fitted(self) -> FittedRenderer:
        """The default renderer: a sampled piano fitted to the prompt. It has no checkpoint."""
        from engine.render.fitted import FittedRenderer

        return FittedRenderer(self.sound, self.checkpoints)

    @cached_property
    def physical(self) -> PhysicalRenderer:
        """The physical model, modal strings fitted to the prompt. It has no checkpoint."""
        from engine.render.physical import PhysicalRenderer

        return PhysicalRenderer(self.sound, self.checkpoints)

    @cached_property
    def ddsp(self) -> DdspRenderer:
        """DDSP-Piano fitted to the prompt. Raises BundleError on use if the checkpoint is missing or damaged."""
        from engine.render.ddsp import DdspRenderer

        return DdspRenderer(self.sound, self.checkpoints)

    @cached_property
    def renderer(self) -> Renderer:
        """The codec model. Raises BundleError if a checkpoint is missing or damaged."""
        from engine.render.rendering import Renderer

        codec = self.codec
        with self._lock:
            bundle = open_renderer(self.checkpoints / RENDERER, codec)
            return Renderer(codec.model, bundle.model, bundle.digest, decoder=bundle.decoder, preview=self.sound)

    @property
    def prompts(self) -> Mapping[str, Prompt]:
        """The gallery of reference sounds, by name."""
        from engine.sound.prompts import gallery

        return gallery()

    def render(self, request: RenderRequest, progress: ProgressCallback | None = None) -> AudioClip:
        """The whole of `render_stream` as one clip."""
        return AudioClip.joined(self.render_stream(request, progress))

    def render_stream(self, request: RenderRequest, progress: ProgressCallback | None = None) -> Iterator[AudioClip]:
        """Render a performance with the sound of a prompt, as a stream of parts of 0.5 to 4 s.

        progress  called with the finished share; raise in it to cancel
        Raises BadInput for an invalid request, and if the weights of the profile are missing.
        """
        renderer, r = self._sounding(request.profile), request
        return renderer.render_stream(r.performance, r.prompt, r.seed, r.temperature, r.span, progress)

    def transcribe(self, clip: AudioClip, progress: ProgressCallback | None = None) -> Performance:
        """Transcribe a recording to notes and pedal; see `engine.sound.transcribe`."""
        from engine.sound.transcribe import transcribe

        return transcribe(clip, progress, self.checkpoints)

    @cached_property
    def paper(self) -> ValleRenderer:
        """MIDI-VALLE as published, with imported weights. Raises BadInput if they were not imported."""
        from engine.render.valle_rendering import open_paper_renderer

        with self._lock:
            return open_paper_renderer(self.checkpoints / "imported")

    @property
    def profiles(self) -> tuple[str, ...]:
        """The methods of rendering, see `engine.checkpoints.index.profiles`."""
        return profiles(self.checkpoints)

    def weights(self, profile: str = "fitted") -> str:
        """Digest of a profile's weights. Raises BundleError if they are missing or damaged."""
        return self._sounding(profile).digest

    def _sounding(self, profile: str) -> StreamingRenderer:
        if profile == "paper":
            return self.paper
        if profile == "product":
            return self.renderer
        if profile == "physical":
            return self.physical
        if profile == "ddsp" and profile in self.profiles:
            return self.ddsp
        if profile != "fitted":
            raise BadInput(f'There is no method "{profile}"; choose {", ".join(self.profiles)}.')
        return self.fitted

    def _decode(self, score: Score, x: NDArray, strength: Strength | NoteStrength, steady: bool = True) -> Performance:
        """Decode the model's channels to a performance and enforce the marks of single notes."""
        expression = apply_strength(with_marks(score, from_channels(x)), strength)
        performance = in_written_order(score, decode_expression(score, expression))
        return steady_pedal(performance) if steady else performance

    def _channels_over_time(
        self, request: PerformRequest, z: NDArray, progress: ProgressCallback | None
    ) -> NDArray[np.float32]:
        """Channel values (n, 8) of a score in style z, moved along the request's curve if it has one."""
        score, style, curve = request.score, request.style, request.curve
        if curve is None:
            return self._channels(score, z, style, progress=progress)
        points = len(np.unique(curve.axes, axis=0))

        def performed(axes: NDArray, before: float) -> NDArray[np.float32]:
            there = z_from_sliders(axes, z, self.pianist.sliders, len(z))
            step = progress and (lambda share: progress(before + share / points))
            return self._channels(score, np.asarray(there), style, progress=step)

        return curve.channels(score, performed)

    def _channels(
        self, score: Score, z: NDArray, style: Style, known_x: NDArray | None = None,
        known: NDArray[np.bool_] | None = None, progress: ProgressCallback | None = None,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Channel values (n, 8) of a score in style z: the flow's deviation added to the expected performance.

        known_x, known  channel values (n, 8) of the notes flagged in known (n,), which stay unchanged
        """
        reader, sampling, seed = self._reader(score), self.pianist.sampling, style.seed
        expected, sample = reader.draw(z, seed, sampling, known_x, known, progress)
        default = reader.default(seed) if np.any(z) else expected
        mixed = mix(reader.features, expected, sample, sampling)
        values, level = self._curves(score), self._level(score, reader)
        asked = z[: len(AXES)] * np.array(self.pianist.config["axis_deviation"])
        out = joined(score, values, mixed, expected, sample, default, Freedom.of(style.freedom), level, asked)
        if known_x is not None and known is not None:
            out[known] = known_x[known]
        return out

    def _level(self, score: Score, reader: EncodedScore) -> float:
        """The flow model's tempo level; the last few are cached."""

        def make() -> float:
            plain = without_grace_notes(score)  # they take their time from their neighbours, not from the tempo
            return (reader if plain is score else self._reader(plain)).level()

        return self._levels.recall(score.digest, make)

    def _base(self, score: Score) -> NDArray[np.float32] | None:
        """Expected channel values (n, 3) for a model of the residual; None for a model of the whole performance."""
        base = self.pianist.base
        return None if base is None else base.channels(score, self._curves(score))

    def _curves(self, score: Score) -> ExpectedValues:
        """The expected performance of a score; the last few are cached."""
        return self._values.recall(score.digest, lambda: self.expected.model.of(score))

    def _reader(self, score: Score) -> EncodedScore:
        """The encoded score; the last few are cached."""

        def make() -> EncodedScore:
            return EncodedScore(self.pianist.model, score_features(score), self._base(score))

        return self._readers.recall(score.digest, make)


def _too_many_scores(readers: Collection[EncodedScore]) -> bool:
    return _too_many(readers) or sum(len(reader.features) for reader in readers) > _NOTES_KEPT


def _too_many(entries: Collection[object]) -> bool:
    return len(entries) > _READERS_KEPT
