"""Render a performance with the sound of a prompt: notes to codes (masked frames), codes to sound, as a stream.

The piece is sampled in windows with a discarded margin of a second on both sides. The notes are known beyond every
window's edges, so no note is cut; there is no cross-fade and no drift: frame t of the codes is always time t / 50 s.
All frames of a window are sampled in one pass. Several passes, each continuing the previous codes, measured worse with
the shipped weights: errors of a small model accumulate (training/LOG.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.models.codec.phase import PhaseFinder
from engine.models.codec.piano_codec import FLOOR, PianoCodec
from engine.models.renderer.guide_decoder import GuideDecoder
from engine.models.renderer.masked_renderer import MaskedRenderer, PromptCache
from engine.models.renderer.spectral_envelope import EnvelopeMatcher, band_energy, prompt_envelope, spectral_envelope
from engine.music.types import AudioClip, BadInput, Performance
from engine.progress import ProgressCallback
from engine.render.streaming import StreamingRenderer
from engine.sound.guide import Guide
from engine.sound.preview import Preview
from engine.sound.prompts import Prompt
from engine.tokens.note_frames import WIDTH, note_frames

FRAME_RATE = 50
TAIL_SEC = 2.0
LONGEST_SEC = 3600.0
PROMPT_FRAMES = 150  # of the prompt that the model reads: three seconds, as in training
PAST, FRESH, FUTURE = 50, 200, 50  # frames of a window: before, kept, after
FIRST_FRESH = (40, 80, 120)  # the first windows are short: sound starts early


@dataclass(frozen=True)
class CodeSampling:
    """How codes are drawn.

    passes       over a window; in more than one, the surest frames are decided first
    coarse       temperature of the first codebook
    fine         of the finer ones
    order_noise  in the order of frames
    carry        begin a window with the codes before it
    """

    passes: int = 1
    coarse: float = 0.5
    fine: float = 0.3
    order_noise: float = 1.0
    carry: bool = False


class Renderer(StreamingRenderer):
    """The product renderer. Thread-safe: a render keeps its state to itself."""

    profile = "product"

    def __init__(
        self, codec: PianoCodec, model: MaskedRenderer, digest: str = "", sampling: CodeSampling = CodeSampling(),
        decoder: GuideDecoder | None = None, preview: Preview | None = None,
    ):  # fmt: skip
        self.decoder, self.preview = decoder, preview or Preview()
        self.codec, self.digest, self.sampling = codec.eval(), digest, sampling
        self.model = model.in_int8() if "fbgemm" in torch.backends.quantized.supported_engines else model.eval()

    def render_stream(
        self, performance: Performance, prompt: Prompt, seed: int = 0, temperature: float = 1.0,
        span: tuple[float, float | None] = (0.0, None), progress: ProgressCallback | None = None,
    ) -> Iterator[AudioClip]:  # fmt: skip
        """Sound at 32 kHz in parts as they are made; together ceil(50 (end + 2 s)) * 640 samples for a whole piece.

        prompt       the reference sound; its notes, if known, are an input of the model
        temperature  times the usual one: 0 always takes the likeliest codes, up to 1.5
        span         seconds of the performance; the end None is two seconds after the last release
        progress      called with the finished share after every pass; raise in it to cancel

        Raises BadInput for an empty or over-long performance, a span or temperature out of range.
        """
        first, last = frame_span(performance, span)
        check_drawing(seed, temperature)
        return self._stream(performance, prompt, seed, temperature, first, last, progress)

    def _stream(
        self, performance: Performance, prompt: Prompt, seed: int, temperature: float, first: int, last: int,
        progress: ProgressCallback | None,
    ) -> Iterator[AudioClip]:  # fmt: skip
        report = progress or (lambda share: None)
        count, receptive_field = last - first, self.codec.decoder_receptive_field
        notes = torch.from_numpy(note_frames(performance, FRAME_RATE, first, count + FUTURE + receptive_field))
        of_prompt = None if prompt.notes is None else Guide(self.preview, prompt.notes)
        with torch.inference_mode():
            memory = self._read(prompt, of_prompt)
            colours, recolour = self._colours(prompt, of_prompt)
        codes = torch.zeros(0, self.codec.num_codebooks, dtype=torch.int64)
        guide = Guide(self.preview, performance)
        phases, shown = PhaseFinder(), 0  # shown: frames whose spectra went to the phase finder
        for start, fresh in windows(count):
            ahead = min(FUTURE, max(count - start - fresh, 0))
            past = min(PAST, start)

            def step(share: float, start: int = start, fresh: int = fresh) -> None:
                report((start + share * fresh) / count)

            with torch.inference_mode():
                piece = notes[start - past : start + fresh + ahead]
                drawn = self._guide_codes(guide, first + start - past, first + start + fresh + ahead)
                random = torch.Generator().manual_seed((seed * 1_000_003 + start) % (1 << 62))
                given = codes[start - past :] if self.sampling.carry else codes[:0]
                written = self._write(given, piece, drawn, memory, random, temperature, step)
                codes = torch.cat([codes, written[past : past + fresh]])
                done = len(codes) if len(codes) == count else max(len(codes) - receptive_field, shown)
                low, high = max(shown - receptive_field, 0), min(done + receptive_field, len(codes))
                heard = self._guide_spectra(guide, first + low, first + high)
                log = self._spectra(codes[low:high], heard, notes[low:high], memory[2], colours)
                made, heard = (x[shown - low : done - low].flatten(0, 1).numpy() for x in (log.exp(), heard))
            sound = phases.push(recolour.add(made, heard))
            shown = done
            if len(sound):
                yield AudioClip(np.clip(sound, -1, 1), self.codec.sample_rate)
        yield AudioClip(np.clip(phases.finish(), -1, 1), self.codec.sample_rate)
        report(1.0)

    def _spectra(self, codes: Tensor, guide: Tensor, notes: Tensor, style: Tensor, colours: Tensor) -> Tensor:
        """Log magnitudes (F, 2, 1025) of frames of codes (F, K)."""
        latent = self.codec.quantiser.decode(codes[None])
        if self.decoder is None:
            log = self.codec.spectra(latent, notes[None])
        else:
            log = self.decoder(latent, guide.clamp(min=FLOOR).log()[None], notes[None], style, colours)
        return log[0].float().clamp(math.log(FLOOR), 8)

    def _read(self, prompt: Prompt, of_prompt: Guide | None) -> tuple[PromptCache, Tensor, Tensor]:
        codes = self.codec.encode(torch.from_numpy(np.array(prompt.clip.samples))[None], 1)[0].T[:PROMPT_FRAMES]
        frames = len(codes)
        heard, guide = torch.zeros(frames, WIDTH), torch.zeros_like(codes)
        if prompt.notes is not None and of_prompt is not None:
            heard = torch.from_numpy(note_frames(prompt.notes, FRAME_RATE, 0, frames))
            guide = self._guide_codes(of_prompt, 0, frames)
        noted = torch.tensor([prompt.notes is not None])
        valid = torch.ones(1, frames, dtype=torch.bool)
        return self.model.read_prompt(codes[None], heard[None], guide[None], noted, valid)

    def _guide_spectra(self, guide: Guide, start: int, end: int) -> Tensor:
        """Magnitudes (end - start, 2, 1025) of frames of the sketch."""
        low, hop = start - 2, self.codec.hop_length
        sound = torch.from_numpy(guide.sound(low * hop, (end + 2) * hop))
        return self.codec.magnitudes(sound[None])[0].unflatten(0, (-1, 2))[2:-2]

    def _colours(self, prompt: Prompt, of_prompt: Guide | None) -> tuple[Tensor, EnvelopeMatcher]:
        """The decoder's input for the prompt's spectral envelope, and the matcher of the render's envelope if its notes
        are known."""
        frames = len(prompt.clip.samples) // self.codec.hop_length
        samples = torch.from_numpy(np.array(prompt.clip.samples[: frames * self.codec.hop_length]))
        sound, guide, wanted = self.codec.magnitudes(samples[None])[0].numpy(), None, None
        if of_prompt is not None and prompt.notes is not None and len(prompt.notes):
            guide = self._guide_spectra(of_prompt, 0, frames).flatten(0, 1).numpy()
            wanted = spectral_envelope(band_energy(sound), band_energy(guide))
        return torch.from_numpy(prompt_envelope(sound, guide))[None], EnvelopeMatcher(wanted, FLOOR)

    def _guide_codes(self, guide: Guide, start: int, end: int) -> Tensor:
        """Codes (end - start, K) of frames of the guide, encoded with what stands on both sides."""
        receptive_field, hop = self.codec.encoder_receptive_field, self.codec.hop_length
        low = start - receptive_field
        sound = torch.from_numpy(guide.sound(low * hop, (end + receptive_field) * hop))
        return self.codec.encode(sound[None], 1)[0].T[start - low : end - low]

    def _write(
        self, past: Tensor, notes: Tensor, guide: Tensor, prompt: tuple[PromptCache, Tensor, Tensor],
        random: torch.Generator, temperature: float, progress: ProgressCallback,
    ) -> Tensor:  # fmt: skip
        """Codes (F, K) of a window whose first len(past) frames are given; the surest frames are decided first."""
        model, sampling = self.model, self.sampling
        count = len(notes)
        codes = torch.zeros(count, model.config.num_codebooks, dtype=torch.int64)
        codes[: len(past)] = past
        known = torch.arange(count) < len(past)
        free = count - len(past)
        for i in range(sampling.passes):
            open_ = torch.nonzero(~known)[:, 0]
            if not len(open_):  # a short window is full before the last pass
                break
            h = model.hidden_states(codes[None], known[None], notes[None], guide[None], prompt)[0, open_]
            drawn, sure = codes[open_], torch.zeros(len(open_))
            for codebook in range(model.config.num_codebooks):
                heat = temperature * (sampling.coarse if codebook == 0 else sampling.fine)
                log = model.logits(h, drawn, codebook).float().log_softmax(-1)
                drawn[:, codebook] = sample_codes(log, heat, random)
                if codebook < 2:
                    sure += log.gather(1, drawn[:, codebook : codebook + 1])[:, 0]
            left = int(free * math.cos(math.pi / 2 * (i + 1) / sampling.passes)) if i + 1 < sampling.passes else 0
            noise = -torch.log(-torch.log(torch.rand(len(open_), generator=random).clamp(1e-9, 1 - 1e-7)))
            sure += sampling.order_noise * noise * (1 - (i + 1) / sampling.passes)
            keep = sure.topk(max(len(open_) - left, 1)).indices
            codes[open_[keep]] = drawn[keep]
            known[open_[keep]] = True
            progress((i + 1) / sampling.passes)
        return codes


def sample_codes(log: Tensor, temperature: float, random: torch.Generator) -> Tensor:
    """One class a row of log-probabilities (N, size); temperature 0 takes the likeliest."""
    if temperature == 0:
        return log.argmax(-1)
    share = (log / temperature).softmax(-1).cumsum(-1)
    at = torch.rand(len(log), 1, generator=random) * share[:, -1:]
    return torch.searchsorted(share, at)[:, 0].clamp(max=log.shape[-1] - 1)


def windows(count: int) -> Iterator[tuple[int, int]]:
    """(start, fresh frames) of the windows that write `count` frames."""
    start, sizes = 0, iter(FIRST_FRESH)
    while start < count:
        fresh = min(next(sizes, FRESH), count - start)
        yield start, fresh
        start += fresh


def check_drawing(seed: int, temperature: float) -> None:
    """Raises BadInput when codes cannot be drawn so."""
    if not 0 <= temperature <= 1.5:
        raise BadInput(f"The temperature is {temperature:g}; 0 to 1.5 is accepted, 1 is usual.")
    if seed < 0:
        raise BadInput(f"The seed is {seed}; use a whole number from 0.")


def frame_span(performance: Performance, span: tuple[float, float | None]) -> tuple[int, int]:
    """First and last frame of a part of a performance. Raises BadInput."""
    if len(performance) == 0:
        raise BadInput("This performance has no notes; compose or open a piece first.")
    whole = performance.end_sec + TAIL_SEC
    start, end = span[0], whole if span[1] is None else min(span[1], whole)
    if not (math.isfinite(start) and math.isfinite(end)) or not 0 <= start < end:
        raise BadInput(f"The part {start:g} to {end:g} s is not inside the piece, 0 to {whole:.1f} s; choose another.")
    if end - start > LONGEST_SEC:
        minutes = (end - start) / 60
        raise BadInput(f"This part lasts {minutes:.0f} minutes; up to 60 are rendered at once, choose a shorter one.")
    return math.floor(start * FRAME_RATE), math.ceil(end * FRAME_RATE)
