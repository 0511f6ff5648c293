"""Transformer layers of XMVAE (arXiv 2507.01582): multiscale encoder, temporal decoder, sub-token decoder.

Attention is written out, softmax(Q K^T) V: on a CPU its backward pass is 3 times faster than the fused one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Multiscale = Literal["serial", "parallel", "off"]
NEVER = -1e4  # added to the score of a forbidden pair


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Absolute positions (length, width): sines, then cosines (Vaswani et al. 2017)."""
    rate = torch.exp(-torch.arange(width // 2, device=device) * (9.21 / (width // 2)))
    angle = torch.arange(length, device=device)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def forbid(allowed: Tensor) -> Tensor:
    """An additive mask of a bool tensor."""
    return torch.where(allowed, 0.0, NEVER)


def heads_first(x: Tensor, heads: int) -> Tensor:
    """(B, T, D) -> (B, H, T, D / H)"""
    return x.view(*x.shape[:-1], heads, -1).transpose(-3, -2)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Queries (B, H, T, D / H) over keys and values (B, H, S, D / H) with an additive mask (B, 1, T, S): (B, T, D)."""
    score = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        score = score + mask.to(score.dtype)
    out = score.softmax(-1).to(v.dtype) @ v
    return out.transpose(-3, -2).flatten(-2)


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        nn.init.normal_(self.out.weight, std=0.02)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (heads_first(y, self.heads) for y in self.qkv(x).chunk(3, dim=-1))
        return q, k, v

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self.out(attend(*self.split(x), mask))


@dataclass(frozen=True)
class Beats:
    """Index of the beats of a batch as a table with one row per beat.

    at     (B, T) index of the step in the flattened table, the last index for padding
    rows, length  of the table
    mask   (rows, 1, 1, length) additive
    """

    at: Tensor
    rows: int
    length: int
    mask: Tensor

    @classmethod
    def of(cls, beat: Tensor, pad: Tensor) -> Beats:
        """beat (B, T), not decreasing; pad (B, T) bool."""
        size, time = beat.shape
        new = torch.ones_like(pad)
        new[:, 1:] = beat[:, 1:] != beat[:, :-1]
        row = new.flatten().cumsum(0).view(size, time) - 1
        step = torch.arange(time, device=beat.device).expand(size, time)
        offset = step - torch.where(new, step, 0).cummax(1).values
        length = int(offset[~pad].max()) + 1
        rows = int(row.max()) + 1
        at = torch.where(pad, rows * length, row * length + offset)
        used = torch.zeros(rows * length + 1, dtype=torch.bool, device=beat.device)
        used[at.flatten()] = True
        return cls(at, rows, length, forbid(used[:-1].view(rows, 1, 1, length)))


class BeatAttention(SelfAttention):
    """Self-attention within each beat."""

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """By one mask (B, 1, T, T) over all pairs: the reference."""
        return super().forward(x, mask)

    def packed(self, x: Tensor, beats: Beats) -> Tensor:
        """The same on the table of beats, without computing pairs across beats."""
        qkv = self.qkv(x)
        table = qkv.new_zeros(beats.rows * beats.length + 1, qkv.shape[-1])
        table = table.index_copy(0, beats.at.flatten(), qkv.flatten(0, 1))[:-1].view(beats.rows, beats.length, -1)
        q, k, v = (heads_first(y, self.heads) for y in table.chunk(3, dim=-1))
        seen = F.pad(attend(q, k, v, beats.mask).flatten(0, 1), (0, 0, 0, 1))
        return self.out(seen[beats.at.flatten()].view(x.shape))


class FeedForward(nn.Sequential):
    def __init__(self, width: int, inner: int):
        super().__init__(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        nn.init.normal_(self[2].weight, std=0.02)


@dataclass(frozen=True)
class Scope:
    """Attention scopes of a batch: `everyone` (B, 1, 1, T) masks the padding; beats as a table or as a mask."""

    everyone: Tensor
    beats: Beats | None
    same_beat: Tensor | None  # (B, 1, T, T)

    @classmethod
    def of(cls, beat: Tensor, pad: Tensor, multiscale: Multiscale, packed: bool | None = None) -> Scope:
        """packed: None uses the table if it is smaller, True or False force one."""
        everyone = forbid(~pad[:, None, None, :])
        if multiscale == "off":
            return cls(everyone, None, None)
        beats = Beats.of(beat, pad)
        if packed is None:
            packed = 2 * beats.rows * beats.length**2 < beat.shape[0] * beat.shape[1] ** 2
        if packed:
            return cls(everyone, beats, None)
        same = (beat[:, :, None] == beat[:, None, :]) & ~pad[:, None, :]
        return cls(everyone, None, forbid(same[:, None]))


class MultiscaleLayer(nn.Module):
    """Attention over the segment, attention within the beat, feed-forward (multiscale encoder, arXiv 2507.01582);
    pre-norm.

    serial    one after the other
    parallel  both from one input, mixed by a learned share of each channel
    off       no attention within the beat: the published ablation
    """

    def __init__(self, width: int, heads: int, inner: int, multiscale: Multiscale, dropout: float):
        super().__init__()
        self.multiscale, self.drop = multiscale, nn.Dropout(dropout)
        self.norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.everyone, self.forward_part = SelfAttention(width, heads), FeedForward(width, inner)
        self.beat = BeatAttention(width, heads) if multiscale != "off" else None
        self.beat_norm = nn.LayerNorm(width) if multiscale == "serial" else None
        self.share = nn.Parameter(torch.zeros(width)) if multiscale == "parallel" else None

    def forward(self, x: Tensor, scope: Scope) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        y = self.norm(x)
        wide = self.everyone(y, scope.everyone)
        if self.beat is None:
            x = x + self.drop(wide)
        elif self.share is not None:
            mix = self.share.sigmoid()
            x = x + self.drop(mix * wide + (1 - mix) * self._within(y, scope))
        else:
            x = x + self.drop(wide)
            assert self.beat_norm is not None
            x = x + self.drop(self._within(self.beat_norm(x), scope))
        return x + self.drop(self.forward_part(self.last_norm(x)))

    def _within(self, y: Tensor, scope: Scope) -> Tensor:
        assert self.beat is not None
        return self.beat(y, scope.same_beat) if scope.beats is None else self.beat.packed(y, scope.beats)


@dataclass
class LayerCache:
    """KV cache of a decoder layer: keys and values so far, (B, H, room, D / H); those of the memory."""

    key: Tensor
    value: Tensor
    memory: tuple[Tensor, Tensor] | None


@dataclass
class Cache:
    """The caches of all layers of a TemporalDecoder, and their number of steps."""

    layers: list[LayerCache] = field(default_factory=list)
    memory_mask: Tensor | None = None
    length: int = 0


class DecoderLayer(nn.Module):
    """Causal self-attention, optional attention to a memory, feed-forward; pre-norm."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float, with_memory: bool):
        super().__init__()
        self.heads, self.drop = heads, nn.Dropout(dropout)
        self.norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.past, self.forward_part = SelfAttention(width, heads), FeedForward(width, inner)
        self.ask_norm = nn.LayerNorm(width) if with_memory else None
        self.ask, self.told = (nn.Linear(width, k * width) if with_memory else None for k in (1, 2))
        self.answer = nn.Linear(width, width) if with_memory else None
        if self.answer is not None:
            nn.init.normal_(self.answer.weight, std=0.02)

    def memory(self, m: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a memory (B, S, D)."""
        assert self.told is not None
        k, v = (heads_first(y, self.heads) for y in self.told(m).chunk(2, dim=-1))
        return k, v

    def _rest(self, x: Tensor, memory: tuple[Tensor, Tensor] | None, memory_mask: Tensor | None) -> Tensor:
        if self.ask is not None and self.ask_norm is not None and self.answer is not None:
            assert memory is not None
            q = heads_first(self.ask(self.ask_norm(x)), self.heads)
            x = x + self.drop(self.answer(attend(q, *memory, memory_mask)))
        return x + self.drop(self.forward_part(self.last_norm(x)))

    def forward(self, x: Tensor, causal: Tensor, memory: Tensor | None, memory_mask: Tensor | None) -> Tensor:
        """x (B, T, D), causal (T, T) additive, memory (B, S, D), memory_mask (B, 1, 1, S)"""
        x = x + self.drop(self.past(self.norm(x), causal))
        return self._rest(x, None if memory is None else self.memory(memory), memory_mask)

    def step(self, x: Tensor, cache: LayerCache, at: int, memory_mask: Tensor | None) -> Tensor:
        """One more step, x (B, 1, D), number `at`."""
        q, k, v = self.past.split(self.norm(x))
        cache.key[:, :, at], cache.value[:, :, at] = k[:, :, 0], v[:, :, 0]
        x = x + self.past.out(attend(q, cache.key[:, :, : at + 1], cache.value[:, :, : at + 1], None))
        return self._rest(x, cache.memory, memory_mask)


class TemporalDecoder(nn.Module):
    """Along time: the hidden state of step i from the inputs up to i and the memory."""

    def __init__(self, width: int, heads: int, inner: int, layers: int, dropout: float, with_memory: bool = True):
        super().__init__()
        self.width, self.heads = width, heads
        self.layers = nn.ModuleList(DecoderLayer(width, heads, inner, dropout, with_memory) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, memory: Tensor | None = None, memory_mask: Tensor | None = None) -> Tensor:
        """x (B, T, D) already shifted: row i has the inputs of step i besides the memory. Returns (B, T, D)."""
        time = x.shape[1]
        causal = forbid(torch.ones(time, time, dtype=torch.bool, device=x.device).tril()).to(x.dtype)
        for layer in self.layers:
            x = layer(x, causal, memory, memory_mask)
        return self.norm(x)

    def cache(self, size: int, room: int, memory: Tensor | None = None, memory_mask: Tensor | None = None) -> Cache:
        """An empty cache for `size` sequences of up to `room` steps."""
        like = next(self.parameters())
        shape = size, self.heads, room, self.width // self.heads
        layers = [
            LayerCache(like.new_zeros(shape), like.new_zeros(shape), None if memory is None else layer.memory(memory))
            for layer in self.layers
            if isinstance(layer, DecoderLayer)
        ]
        return Cache(layers, memory_mask)

    def step(self, x: Tensor, cache: Cache) -> Tensor:
        """The hidden state of one more step, (B, D) -> (B, D)."""
        x = x[:, None]
        for layer, kept in zip(self.layers, cache.layers, strict=True):
            assert isinstance(layer, DecoderLayer)
            x = layer.step(x, kept, cache.length, cache.memory_mask)
        cache.length += 1
        return self.norm(x)[:, 0]


class SubTokenLayer(nn.Module):
    """Causal self-attention over the J sub-tokens of a step, the step's hidden state, feed-forward.

    Attention to a memory of one vector returns its value for any query, so it is added directly.
    """

    def __init__(self, width: int, heads: int, outer: int):
        super().__init__()
        self.heads = heads
        self.norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.past, self.forward_part = SelfAttention(width, heads), FeedForward(width, 2 * width)
        self.told = nn.Linear(outer, width)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """x (N, J, W), h (N, D) -> (N, J, W)"""
        n, j, w = x.shape
        q, k, v = self.past.qkv(self.norm(x)).view(n, j, 3, self.heads, w // self.heads).unbind(2)
        seen = []
        for i in range(j):  # J is 4: sums of products are faster than a batch of 4 x 4 matrices
            score = (q[:, i : i + 1] * k[:, : i + 1]).sum(-1) * q.shape[-1] ** -0.5
            seen.append((score.softmax(1)[..., None].to(v.dtype) * v[:, : i + 1]).sum(1))
        x = x + self.past.out(torch.stack(seen, 1).view(n, j, w))
        x = x + self.told(h)[:, None]
        return x + self.forward_part(self.last_norm(x))


class SubTokenDecoder(nn.Module):
    """Along the sub-tokens: p(x | h) = prod_j p(x_j | x_<j, h) (SubToken Decoder, arXiv 2507.01582). With layers=0 all
    heads read only h.

    sizes  tokens of each of the J fields
    """

    def __init__(self, sizes: tuple[int, ...], outer: int, width: int, heads: int, layers: int):
        super().__init__()
        self.sizes, self.num_layers = sizes, layers
        width = width if layers else outer
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in sizes)
        if layers:
            self.start = nn.Linear(outer, width)
            self.embed = nn.ModuleList(nn.Embedding(size, width) for size in sizes[:-1])
            self.slot = nn.Parameter(torch.randn(len(sizes), width) * 0.02)
            self.norm = nn.LayerNorm(width)
            for table in self.embed:
                nn.init.normal_(table.weight, std=0.1)
        self.layers = nn.ModuleList(SubTokenLayer(width, heads, outer) for _ in range(layers))

    def forward(self, h: Tensor, tokens: Tensor) -> Tensor:
        """h (N, D), tokens (N, j) the fields known so far, j < J or all J: states (N, j + 1 or J, W), one a head."""
        if not self.num_layers:
            return h[:, None].expand(-1, min(tokens.shape[1] + 1, len(self.sizes)), -1)
        parts = [self.start(h)] + [table(tokens[:, i]) for i, table in zip(range(tokens.shape[1]), self.embed)]
        x = torch.stack([p.to(parts[0].dtype) for p in parts], dim=1)
        x = x + self.slot[: x.shape[1]]
        for layer in self.layers:
            x = layer(x, h)
        return self.norm(x)

    def logits(self, states: Tensor, field: int) -> Tensor:
        """Scores of field number `field` from its states (..., W): (..., sizes[field])."""
        return self.heads[field](states)
