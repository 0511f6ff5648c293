"""Inference of MIDI-VALLE's decoders with KV cache: codes of sound from notes and a prompt of codes.

`Behaviour` has one field for each known defect of the released inference; `PUBLISHED` reproduces all, `FIXED` none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.models.midi_valle.decoders import KVCache, Valle, ar_mask

FRAMES_PER_NOTE = 16  # published length limit: 16 frames per row of notes


@dataclass(frozen=True)
class Behaviour:
    """Settings of inference, with the published alternative of each.

    longest_sec      prompt and target together; the published 23 s exceed the 20 s of training (W9)
    place_by_sound   the target's notes follow the prompt's sound; published: the prompt's last note (W11)
    known_length     the length is derived from the notes; published: an EOS code, or 16 frames a note at most (W12)
    clip_notes       notes that cross a cut are clipped to it; published: lost or kept too long (W13)
    keep_tail        render to the end; published: only up to the last cut (W14)
    exact_joins      segments are joined sample-exactly; published: each join loses a cross-fade, and the sound drifts
                     (W14)
    temperature, top_k   of codebook 0; published: 1 and none (W15)
    fine_temperature     of the finer codebooks; published: 0, the likeliest code (W17)
    """

    longest_sec: float = 20.0
    place_by_sound: bool = True
    known_length: bool = True
    clip_notes: bool = True
    keep_tail: bool = True
    exact_joins: bool = True
    temperature: float = 0.9
    top_k: int | None = 50
    fine_temperature: float = 0.7


FIXED = Behaviour()
PUBLISHED = Behaviour(23.0, False, False, False, False, False, 1.0, None, 0.0)


def sample_top_k(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None) -> Tensor:
    """Sample one code per row of logits (..., n); argmax if the temperature is 0."""
    if temperature <= 0:
        return logits.argmax(-1)
    logits = logits.float() / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k, -1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    flat = logits.softmax(-1).flatten(0, -2) if logits.dim() > 1 else logits.softmax(-1)
    return torch.multinomial(flat, 1, generator=generator).view(logits.shape[:-1])


class AR:
    """The AR decoder with a KV cache."""

    def __init__(self, model: Valle, tokens: Tensor, capacity: int) -> None:
        """tokens (S, 6) of prompt and target; `capacity` frames at most, the prompt's included."""
        self.model, self.tokens, self.frames = model, tokens[None], 0
        self.memories = [KVCache(model.config, len(tokens) + capacity) for _ in range(model.config.layers)]

    @torch.inference_mode()
    def begin(self, codes: Tensor) -> Tensor:
        """Encode the notes and the prompt's codebook 0 (P,); returns the logits of frame P, (2049,)."""
        x = torch.cat([self.model.ar_inputs(self.tokens), self.model.ar_frames(codes[None])], 1)
        self.frames = len(codes)
        return self._through(x, ar_mask(self.tokens.shape[1], len(codes)))

    @torch.inference_mode()
    def step(self, code: Tensor) -> Tensor:
        """Append one frame (); returns the logits of the next, (2049,)."""
        x = self.model.ar_frames(code.view(1, 1), self.frames)
        self.frames += 1
        return self._through(x, None)

    def _through(self, x: Tensor, mask: Tensor | None) -> Tensor:
        h = self.model.ar_decoder(x, None, mask, self.memories)
        return self.model.ar_predict_layer(h[:, -1])[0]


def decode_coarse(
    model: Valle,
    tokens: Tensor,
    prompt: Tensor,
    frames: int | None,
    temperature: float = FIXED.temperature,
    top_k: int | None = FIXED.top_k,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Sample codebook 0 of the target; yields frames ().

    tokens  (S, 6) notes of prompt and target, BOS and EOS around them
    prompt  (P, K) codes of the prompt, P >= 1
    frames  number of frames, derived from the notes; None stops as published, at EOS or after 16 frames per row of
            notes
    """
    eos, limit = model.config.eos, frames if frames is not None else FRAMES_PER_NOTE * len(tokens) + 1
    ar = AR(model, tokens, len(prompt) + limit)
    logits = ar.begin(prompt[:, 0])
    for made in range(limit):
        if frames is not None:
            logits = logits.clone()
            logits[eos] = -torch.inf
        code = sample_top_k(logits, temperature, top_k, generator)
        if frames is None and eos in (int(code), int(logits.argmax())):
            return
        yield code
        if made + 1 < limit:
            logits = ar.step(code)


@torch.inference_mode()
def decode_fine(
    model: Valle,
    tokens: Tensor,
    prompt: Tensor,
    coarse: Tensor,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    prompt_rows: int = 0,
) -> Tensor:
    """All codebooks of the target from its codebook 0: three passes over all frames.

    coarse       (F,) codes of codebook 0
    prompt_rows  rows of `tokens` up to the prompt's last note, BOS included; omitted for a model trained with prefix
                 mode 2 or 4, whose prompt has no notes (the released code keeps the last row)
    returns      (F, K)
    """
    first, codebooks, mode = len(prompt), model.config.num_codebooks, model.config.prefix_mode
    if mode in (2, 4) and prompt_rows:
        tokens = torch.cat([tokens[:1], tokens[prompt_rows:]])
    codes = torch.zeros(1, first + len(coarse), codebooks, dtype=torch.long)
    codes[0, :first], codes[0, first:, 0] = prompt, coarse
    for codebook in range(1, codebooks):
        frames = model.nar_frames(codes, codebook)
        if mode != 0:  # the prompt has all its codebooks
            frames[:, :first] = model.nar_frames(codes[:, :first], codebooks)
        logits = model.nar_logits(tokens[None], frames, codebook, first)[0]
        codes[0, first:, codebook] = sample_top_k(logits, temperature, None, generator)
    return codes[0, first:]
