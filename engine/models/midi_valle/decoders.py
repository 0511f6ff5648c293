"""MIDI-VALLE's two decoders over codes of Piano-Encodec, compatible with the released weights.

Tang et al. 2025 (arXiv 2507.08530), after VALL-E (Wang et al. 2023, arXiv 2301.02111). The notes of a segment (six
identifiers each, engine.tokens.octuple) come first, then the frames of codes:

- AR: codebook 0, one frame from those before it. Notes attend to all notes, a frame to all notes and the frames up to
  itself.
- NAR: codebooks 1 to 3, one pass a codebook over all frames at once; adaptive norms are conditioned on the codebook's
  number.

Frame 0 is never predicted and there is no BOS, so that generation needs a prompt of codes. Code 2048 of codebook 0 is
EOS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.tokens.octuple import SIZES as NOTE_SIZES

NOTE_WIDTHS = (32, 32, 256, 128, 64, 32)


@dataclass(frozen=True)
class ValleConfig:
    """The shape of both decoders; the defaults are the published ones (371 M parameters).

    tied         the output table of codebook j + 1 is the input table of codebook j + 2, as in the released weights
                 (off by one from the natural pairing; harmless)
    prefix_mode  what the NAR decoder's prompt was in training: 0 none, 1 the segment's own beginning (published),
                 2 a random slice of it, 4 a slice of a neighbouring segment
    absolute_time  whether notes have their position and bar (published), or only their distances
    """

    width: int = 1024
    heads: int = 16
    layers: int = 12
    num_codebooks: int = 4
    codebook_size: int = 2048
    dropout: float = 0.1
    tied: bool = True
    prefix_mode: int = 1
    absolute_time: bool = True

    @property
    def eos(self) -> int:
        return self.codebook_size


PUBLISHED = ValleConfig()


class EmbeddingTable(nn.Module):
    """An embedding, named as in the released weights."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(rows, width)
        nn.init.normal_(self.word_embeddings.weight, std=0.02)

    @property
    def weight(self) -> nn.Parameter:
        return self.word_embeddings.weight  # type: ignore[return-value]

    def forward(self, ids: Tensor) -> Tensor:
        return self.word_embeddings(ids)


class Position(nn.Module):
    """x + alpha * sinusoids of the position; alpha is learned in the AR decoder and 1 in the NAR."""

    def __init__(self, learned: bool, dropout: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1), requires_grad=learned)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """(B, T, D), whose first row stands at position `first`."""
        return self.dropout(x + self.alpha * sinusoids(first, x.shape[1], x.shape[2], x.device))


def sinusoids(first: int, count: int, width: int, device: torch.device | None = None) -> Tensor:
    """Sine in even and cosine in odd channels of positions first to first + count - 1: (count, width)."""
    rate = torch.exp(torch.arange(0, width, 2, device=device) * -(math.log(10000.0) / width))
    angle = torch.arange(first, first + count, device=device)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


class LayerNorm(nn.LayerNorm):
    """A plain norm that ignores the codebook."""

    def forward(self, x: Tensor, codebook: Tensor | None = None) -> Tensor:
        return super().forward(x)


class AdaptiveNorm(nn.Module):
    """gain(codebook) * norm(x) + shift(codebook), both computed from the codebook's embedding (1, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project_layer = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, codebook: Tensor) -> Tensor:
        gain, shift = self.project_layer(codebook).chunk(2, -1)
        return gain * self.norm(x) + shift


class KVCache:
    """KV cache of one layer for up to `capacity` positions."""

    def __init__(self, config: ValleConfig, capacity: int, batch: int = 1) -> None:
        shape = (batch, config.heads, capacity, config.width // config.heads)
        self.keys, self.values, self.length = torch.empty(shape), torch.empty(shape), 0

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, H, T, D) and return all so far."""
        stop = self.length + k.shape[2]
        self.keys[:, :, self.length : stop], self.values[:, :, self.length : stop] = k, v
        self.length = stop
        return self.keys[:, :, :stop], self.values[:, :, :stop]


class Attention(nn.Module):
    """Multi-head self-attention with one projection for query, key and value."""

    def __init__(self, config: ValleConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.dropout = config.heads, config.dropout
        self.fast: nn.Module | None = None  # an int8 stand-in for the projection, see engine.models.nn.int8
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def project(self, x: Tensor) -> Tensor:
        """Query, key and value side by side, (B, T, 3 D)."""
        return self.fast(x) if self.fast is not None else F.linear(x, self.in_proj_weight, self.in_proj_bias)

    def forward(self, x: Tensor, mask: Tensor | None, memory: KVCache | None) -> Tensor:
        parts = self.project(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = (part.transpose(1, 2) for part in parts.unbind(2))
        if memory is not None:
            k, v = memory.extend(k, v)
        out = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class ValleLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), ReLU inside."""

    def __init__(self, config: ValleConfig, adaptive: bool) -> None:
        super().__init__()
        width = config.width
        self.self_attn = Attention(config)
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1: nn.Module = AdaptiveNorm(width) if adaptive else LayerNorm(width)
        self.norm2: nn.Module = AdaptiveNorm(width) if adaptive else LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, codebook: Tensor | None, mask: Tensor | None, memory: KVCache | None = None) -> Tensor:
        x = x + self.dropout(self.self_attn(self.norm1(x, codebook), mask, memory))
        inside = self.dropout(torch.relu(self.linear1(self.norm2(x, codebook))))
        return x + self.dropout(self.linear2(inside))


class Stack(nn.Module):
    """Twelve layers and a last norm."""

    def __init__(self, config: ValleConfig, adaptive: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([ValleLayer(config, adaptive) for _ in range(config.layers)])
        self.norm: nn.Module = AdaptiveNorm(config.width) if adaptive else LayerNorm(config.width)

    def forward(
        self, x: Tensor, codebook: Tensor | None, mask: Tensor | None, memories: Sequence[KVCache] | None = None
    ) -> Tensor:
        """(B, T, D); mask broadcasts to (B, heads, T, keys), True for visible keys."""
        for i, layer in enumerate(self.layers):
            x = layer(x, codebook, mask, memories[i] if memories is not None else None)
        return self.norm(x, codebook)


def seen(lengths: Tensor | None, longest: int) -> Tensor | None:
    """(B, longest) True within each item's length; None without padding."""
    if lengths is None or bool((lengths == longest).all()):
        return None
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


class Valle(nn.Module):
    """Both decoders. Notes (B, S, 6) and codes (B, F, K) int64; lengths (B,) where items are padded."""

    def __init__(self, config: ValleConfig = PUBLISHED) -> None:
        super().__init__()
        self.config = config
        width, size, codebooks = config.width, config.codebook_size, config.num_codebooks
        self.feat_emb = nn.ModuleList([EmbeddingTable(rows, w) for rows, w in zip(NOTE_SIZES, NOTE_WIDTHS)])
        self.ar_text_embedding, self.nar_text_embedding = (nn.Linear(sum(NOTE_WIDTHS), width) for _ in range(2))
        self.ar_audio_embedding = EmbeddingTable(size + 1, width)
        self.ar_text_position, self.ar_audio_position = (Position(True, config.dropout) for _ in range(2))
        self.ar_decoder = Stack(config, adaptive=False)
        self.ar_predict_layer = nn.Linear(width, size + 1, bias=False)
        self.nar_audio_embeddings = nn.ModuleList([EmbeddingTable(size + (j == 0), width) for j in range(codebooks)])
        self.nar_text_position, self.nar_audio_position = Position(False, 0.0), Position(False, config.dropout)
        self.nar_decoder = Stack(config, adaptive=True)
        self.nar_predict_layers = nn.ModuleList([nn.Linear(width, size, bias=False) for _ in range(codebooks - 1)])
        self.nar_stage_embeddings = nn.ModuleList([EmbeddingTable(1, width) for _ in range(codebooks - 1)])
        self.tie()

    def tie(self) -> None:
        """Share the tables that are one in the released weights."""
        for j in range(self.config.num_codebooks - 2 if self.config.tied else 0):
            self.nar_predict_layers[j].weight = self.nar_audio_embeddings[j + 2].weight  # type: ignore[assignment]

    def notes(self, tokens: Tensor) -> Tensor:
        """(B, S, 6) identifiers -> (B, S, 544), the six embeddings side by side."""
        return torch.cat([table(tokens[..., i]) for i, table in enumerate(self.feat_emb)], -1)

    def ar_inputs(self, tokens: Tensor) -> Tensor:
        """The notes as the AR decoder takes them, (B, S, D)."""
        return self.ar_text_position(self.ar_text_embedding(self.notes(tokens)))

    def ar_frames(self, codes: Tensor, first: int = 0) -> Tensor:
        """Inputs (B, F, D) of the AR decoder for frames (B, F) of codebook 0, the first at position `first`."""
        return self.ar_audio_position(self.ar_audio_embedding(codes), first)

    def ar_logits(
        self, tokens: Tensor, codes: Tensor, note_lengths: Tensor | None = None, frame_lengths: Tensor | None = None
    ) -> Tensor:
        """Logits of the next codes of codebook 0, teacher-forced: tokens (B, S, 6), codes (B, F) -> (B, F, 2049)."""
        x = torch.cat([self.ar_inputs(tokens), self.ar_frames(codes)], 1)
        notes, frames = tokens.shape[1], codes.shape[1]
        mask = ar_mask(notes, frames, x.device)
        padding = _both_seen(note_lengths, notes, frame_lengths, frames)
        if padding is not None:
            mask = mask & padding[:, None, None]
        return self.ar_predict_layer(self.ar_decoder(x, None, mask)[:, notes:])

    def nar_frames(self, codes: Tensor, codebooks: int) -> Tensor:
        """Sum of the input tables of the first `codebooks` codebooks: (B, F, >= codebooks) -> (B, F, D)."""
        return torch.stack([self.nar_audio_embeddings[j](codes[..., j]) for j in range(codebooks)]).sum(0)

    def nar_logits(
        self,
        tokens: Tensor,
        frames: Tensor,
        codebook: int,
        first: int,
        note_lengths: Tensor | None = None,
        frame_lengths: Tensor | None = None,
    ) -> Tensor:
        """Logits of `codebook` (1 to 3) for the frames from `first` on.

        frames  (B, F, D), nar_frames of a prompt (all codebooks) and of the rest (the codebooks before this one)
        returns (B, F - first, 2048)
        """
        notes = tokens.shape[1]
        x = self.nar_text_position(self.nar_text_embedding(self.notes(tokens)))
        x = torch.cat([x, self.nar_audio_position(frames)], 1)
        padding = _both_seen(note_lengths, notes, frame_lengths, frames.shape[1])
        mask = padding[:, None, None] if padding is not None else None
        h = self.nar_decoder(x, self.nar_stage_embeddings[codebook - 1].weight, mask)
        return self.nar_predict_layers[codebook - 1](h[:, notes + first :])


def ar_mask(notes: int, frames: int, device: torch.device | None = None) -> Tensor:
    """(S + F, S + F) attention mask, True if a row attends to a column: notes to notes, frames to notes and past
    frames."""
    total = notes + frames
    mask = torch.ones(total, total, dtype=torch.bool, device=device).tril()
    mask[:notes, :notes] = True
    return mask


def _both_seen(note_lengths: Tensor | None, notes: int, frame_lengths: Tensor | None, frames: int) -> Tensor | None:
    """(B, S + F) True for keys that are not padding, or None."""
    a, b = seen(note_lengths, notes), seen(frame_lengths, frames)
    if a is None and b is None:
        return None
    batch = len(a) if a is not None else len(b)  # type: ignore[arg-type]
    device = a.device if a is not None else b.device  # type: ignore[union-attr]
    a = torch.ones(batch, notes, dtype=torch.bool, device=device) if a is None else a
    b = torch.ones(batch, frames, dtype=torch.bool, device=device) if b is None else b
    return torch.cat([a, b], 1)
