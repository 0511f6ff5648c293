"""The `paper` profile: rendering with MIDI-VALLE's own decoders and codec, from weights that a user has imported.

A prompt of three seconds, sound and notes, then segments of the performance: codebook 0 frame by frame, three passes
for the finer codebooks, and one stream of the codec's decoder over all of them. What the released system does wrong is
put right by default and can be had back (engine.models.midi_valle.decode.Behaviour).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.checkpoints.bundle import BundleError
from engine.checkpoints.importing import IMPORTED, open_encodec, open_valle
from engine.checkpoints.index import are_imported
from engine.models.codec.encodec import DecodeStream, PianoEncodec
from engine.models.midi_valle.decode import FIXED, Behaviour, decode_coarse, decode_fine
from engine.models.midi_valle.decoders import Valle
from engine.models.nn.int8 import quantise
from engine.music.types import AudioClip, BadInput, Performance
from engine.progress import ProgressCallback
from engine.render.rendering import FRAME_RATE, check_drawing, frame_span
from engine.render.streaming import StreamingRenderer
from engine.sound.prompts import Prompt
from engine.tokens.octuple import cut, cut_points, encode, join

PROMPT_FRAMES = 150
FADE_SAMPLES = 640  # 20 ms, the published cross-fade
LONG_FORMS = ("carry", "independent")
COARSE_SHARE = 0.9  # of a segment's time that codebook 0 takes


@dataclass(frozen=True)
class EncodedPrompt:
    """What a segment continues: codes (P, K) and the notes in them, seconds from their start."""

    codes: Tensor
    notes: Performance


class ValleRenderer(StreamingRenderer):
    """The published system. Thread-safe: a render keeps its state to itself.

    long_form  "carry": a segment continues the last three seconds of the one before; "independent", as published:
               every segment continues the prompt
    """

    profile = "paper"

    def __init__(
        self,
        codec: PianoEncodec,
        model: Valle,
        digest: str = "",
        behaviour: Behaviour = FIXED,
        long_form: str = "carry",
    ) -> None:
        if long_form not in LONG_FORMS:
            raise BadInput(f'There is no long form "{long_form}"; choose {" or ".join(LONG_FORMS)}.')
        if model.config.num_codebooks != codec.num_codebooks or model.config.codebook_size != codec.codebook_size:
            raise BadInput(
                "These decoders speak other codes than this codec; import the two files that belong together."
            )
        self.codec, self.model, self.digest = codec.eval(), model.eval(), digest
        self.behaviour, self.long_form = behaviour, long_form

    def render_stream(
        self, performance: Performance, prompt: Prompt, seed: int = 0, temperature: float = 1.0,
        span: tuple[float, float | None] = (0.0, None), progress: ProgressCallback | None = None,
    ) -> Iterator[AudioClip]:  # fmt: skip
        """Sound at 32 kHz, segment by segment; together ceil(50 (end + 2 s)) * 640 samples for a whole piece.

        Arguments as engine.render.rendering.Renderer.render_stream; `temperature` multiplies the behaviour's. The
        length is exact only with `known_length`, `keep_tail` and `exact_joins`. Notes of a prompt without notes are
        transcribed. Raises BadInput for what cannot be rendered.
        """
        first, last = frame_span(performance, span)
        check_drawing(seed, temperature)
        edges = self.edges(first, last)
        if len(edges) < 2:
            raise BadInput("The published cutting leaves a piece under 15 s without a segment; set keep_tail for it.")
        heat = self.behaviour.temperature * temperature, self.behaviour.fine_temperature * temperature
        return self._stream(performance, prompt, seed, heat, edges, progress or (lambda share: None))

    def edges(self, first: int, last: int) -> list[int]:
        """Frames where segments begin and end, the first and the last included.

        With `keep_tail`, segments of one length that fit `longest_sec` beside the prompt; else the published draw.
        """
        room = self.behaviour.longest_sec - PROMPT_FRAMES / FRAME_RATE
        if not self.behaviour.keep_tail:
            return [first + round(FRAME_RATE * p) for p in cut_points((last - first) / FRAME_RATE, keep_tail=False)]
        count = math.ceil((last - first) / (FRAME_RATE * room))
        return [first + round((last - first) * i / count) for i in range(count + 1)]

    def encode_prompt(self, prompt: Prompt) -> EncodedPrompt:
        """The first three seconds of a prompt."""
        samples = torch.from_numpy(prompt.clip.samples[: PROMPT_FRAMES * self.codec.hop_length].copy())
        with torch.inference_mode():
            codes = self.codec.encode(samples[None])[0].T
        notes = prompt.notes
        if notes is None:
            from engine.sound.transcribe import transcribe

            notes = transcribe(prompt.clip)
        piece = cut(notes, 0.0, len(codes) / FRAME_RATE, published=not self.behaviour.clip_notes)
        return EncodedPrompt(codes, piece.notes)

    def _stream(
        self, performance: Performance, prompt: Prompt, seed: int, heat: tuple[float, float], edges: list[int],
        progress: ProgressCallback,
    ) -> Iterator[AudioClip]:  # fmt: skip
        heard, stream = self.encode_prompt(prompt), DecodeStream(self.codec)
        fader, whole = Fader(), edges[-1] - edges[0]
        for start, end in pairwise(edges):

            def step(share: float, start: int = start, end: int = end) -> None:
                progress(min((start - edges[0] + share * (end - start)) / whole, 1.0))

            random = torch.Generator().manual_seed((seed * 1_000_003 + start) % (1 << 62))
            codes = self.segment(performance, heard, start, end, heat, random, step)
            if self.behaviour.exact_joins:
                sound = stream.push(codes.T).numpy()
            else:
                with torch.inference_mode():
                    sound = fader.push(self.codec.decode(codes.T[None])[0].numpy())
            if self.long_form == "carry" and len(codes) >= PROMPT_FRAMES:
                past = cut(performance, end / FRAME_RATE - 3.0, end / FRAME_RATE)
                heard = EncodedPrompt(codes[-PROMPT_FRAMES:], past.notes)
            if len(sound):
                yield AudioClip(np.clip(sound, -1, 1), self.codec.sample_rate)
        rest = stream.finish().numpy() if self.behaviour.exact_joins else fader.finish()
        yield AudioClip(np.clip(rest, -1, 1), self.codec.sample_rate)
        progress(1.0)

    def segment(
        self, performance: Performance, heard: EncodedPrompt, start: int, end: int, heat: tuple[float, float],
        random: torch.Generator, progress: ProgressCallback,
    ) -> Tensor:  # fmt: skip
        """Codes (F, K) of the frames from start to end, continuing the previous codes."""
        rules, absolute = self.behaviour, self.model.config.absolute_time
        target = cut(performance, start / FRAME_RATE, end / FRAME_RATE, published=not rules.clip_notes).notes
        at = len(heard.codes) / FRAME_RATE if rules.place_by_sound else None
        tokens = torch.from_numpy(encode(join(heard.notes, target, at), absolute))
        rows = len(encode(heard.notes, absolute)) - 1
        wanted = end - start if rules.known_length else None
        coarse = list[Tensor]()
        for code in decode_coarse(self.model, tokens, heard.codes, wanted, heat[0], rules.top_k, random):
            coarse.append(code)
            progress(COARSE_SHARE * min(len(coarse) / (end - start), 1.0))
        if not coarse:
            return heard.codes[:0]
        codes = decode_fine(self.model, tokens, heard.codes, torch.stack(coarse), heat[1], random, rows)
        progress(1.0)
        return codes


class Fader:
    """Joins segments as the released script does: 20 ms of each join are mixed, and so lost (defect W14)."""

    def __init__(self) -> None:
        self._held = np.zeros(0, np.float32)

    def push(self, sound: np.ndarray) -> np.ndarray:
        """One more segment; returns what is certain now."""
        over = min(FADE_SAMPLES, len(self._held), len(sound))
        ramp = np.linspace(0, 1, over, dtype=np.float32)
        mixed = self._held[len(self._held) - over :] * (1 - ramp) + sound[:over] * ramp
        joined = np.concatenate([self._held[: len(self._held) - over], mixed, sound[over:]])
        self._held = joined[max(len(joined) - FADE_SAMPLES, 0) :]
        return joined[: len(joined) - len(self._held)]

    def finish(self) -> np.ndarray:
        """What was held back for the next join."""
        return self._held


def open_paper_renderer(
    folder: Path = IMPORTED, behaviour: Behaviour = FIXED, long_form: str = "carry", int8: bool = True
) -> ValleRenderer:
    """The renderer over imported weights, FOLDER/midi-valle and FOLDER/piano-encodec.

    int8  the decoders' layers in eight bits: three times as fast on a processor
    Raises BadInput where they have not been imported, BundleError where they are damaged.
    """
    if not are_imported(folder):
        raise BadInput(
            'The profile "paper" needs the published weights: run `etude import-weights midi-valle FILE` and '
            "`etude import-weights piano-encodec FILE` first."
        )
    valle, codec = open_valle(folder / "midi-valle"), open_encodec(folder / "piano-encodec")
    if codec.model.hop_length * FRAME_RATE != codec.model.sample_rate:
        raise BundleError("The imported codec has another frame rate than 50 Hz; import Piano-Encodec again.")
    model = quantise(valle.model) if int8 else valle.model
    return ValleRenderer(codec.model, model, f"{valle.digest}+{codec.digest}", behaviour, long_form)  # type: ignore[arg-type]
