"""Codes of sound from notes and a prompt of codes, with MIDI-VALLE's decoders: cached, and with its defects selectable.

`Behaviour` has one field for each known defect of the released inference; `PUBLISHED` keeps them all, `FIXED` none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.models.midi_valle.decoders import KVCache, Valle, ar_mask

FRAMES_PER_NOTE = 16  # the published limit of an utterance: 16 frames for every row of notes


@dataclass(frozen=True)
class Behaviour:
    """How the released system is run, and what is changed of it.

    longest_sec      prompt and target together; the published 23 s lie beyond the 20 s of training (W9)
    place_by_sound   the target's notes follow the prompt's sound; published: the prompt's last note (W11)
    known_length     the length comes from the notes; published: an EOS code, or 16 frames a note at most (W12)
    clip_notes       notes that cross a cut are clipped to it; published: lost or kept too long (W13)
    keep_tail        the piece is rendered to its end; published: up to the last cut, short pieces not at all (W14)
    exact_joins      segments join sample by sample; published: each join eats a cross-fade, and the sound drifts (W14)
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
    """One code of each row of logits (..., n); the likeliest where the temperature is 0."""
    if temperature <= 0:
        return logits.argmax(-1)
    logits = logits.float() / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k, -1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    flat = logits.softmax(-1).flatten(0, -2) if logits.dim() > 1 else logits.softmax(-1)
    return torch.multinomial(flat, 1, generator=generator).view(logits.shape[:-1])


class AR:
    """The AR decoder with its keys and values kept: a new frame costs one step, whatever came before."""

    def __init__(self, model: Valle, tokens: Tensor, capacity: int) -> None:
        """tokens (S, 6) of prompt and target; `capacity` frames at most, the prompt's included."""
        self.model, self.tokens, self.frames = model, tokens[None], 0
        self.memories = [KVCache(model.config, len(tokens) + capacity) for _ in range(model.config.layers)]

    @torch.inference_mode()
    def begin(self, codes: Tensor) -> Tensor:
        """Take in the notes and the prompt's codebook 0 (P,); returns the logits of frame P, (2049,)."""
        x = torch.cat([self.model.ar_inputs(self.tokens), self.model.ar_frames(codes[None])], 1)
        self.frames = len(codes)
        return self._through(x, ar_mask(self.tokens.shape[1], len(codes)))

    @torch.inference_mode()
    def step(self, code: Tensor) -> Tensor:
        """Take in one more frame (); returns the logits of the next, (2049,)."""
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
    """Book 0 of the target, frame by frame, each ().

    tokens  (S, 6) notes of prompt and target, BOS and EOS around them
    prompt  (P, K) codes of the prompt, P >= 1
    frames  how many to make, known from the notes; None stops as published, at EOS or after 16 frames a row of notes
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
    prompt_rows  rows of `tokens` up to the prompt's last note, BOS included; they are left out where the model was
                 trained with prefix mode 2 or 4, whose prompt has no notes (the released code keeps the last row)
    returns      (F, K)
    """
    first, codebooks, mode = len(prompt), model.config.num_codebooks, model.config.prefix_mode
    if mode in (2, 4) and prompt_rows:
        tokens = torch.cat([tokens[:1], tokens[prompt_rows:]])
    codes = torch.zeros(1, first + len(coarse), codebooks, dtype=torch.long)
    codes[0, :first], codes[0, first:, 0] = prompt, coarse
    for codebook in range(1, codebooks):
        frames = model.nar_frames(codes, codebook)
        if mode != 0:  # the prompt is heard with all its codebooks
            frames[:, :first] = model.nar_frames(codes[:, :first], codebooks)
        logits = model.nar_logits(tokens[None], frames, codebook, first)[0]
        codes[0, first:, codebook] = sample_top_k(logits, temperature, None, generator)
    return codes[0, first:]
