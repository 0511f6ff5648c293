"""The product Composer: a decoder over the notes of a score, with one head for each sub-token of a note.

It is the score decoder of XMVAE (arXiv 2507.01582) turned into a language model: a Temporal Decoder along the notes
gives a hidden state h_i, and a SubToken Decoder predicts the note's five fields in order from h_i and the previous
fields, p(x_i | h_i) = prod_j p(x_ij | x_i<j, h_i). Conditions and the notes themselves replace the paper's latent code
z_s (training/LOG.md compares the two). For infilling, later notes and kept notes come first in the input ("suffix,
prefix, middle").

Rotary embeddings use the note's index in half of each head and its onset in quarters in the other half, so that "one
bar ago" is the same angle everywhere.

With `reference_layers` above 0 (version 2) the network also reads a plan. For the bar of each note and for the bar
after it, the plan gives the distance to the earlier bar that it resembles, how closely, the transposition, and whether
a phrase or a cadence ends there (`engine.tokens.plan`). Two extra heads in every second layer attend to the notes of
those earlier bars, rotated by time within the bar: the same place in the bar is angle 0. MELONS (arXiv 2110.05020) and
Museformer (arXiv 2210.10349) also attend to selected bars.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.models.composer.conditions import COMPOSERS, DENSITY_EDGES, PERIODS, TEMPO_EDGES
from engine.tokens.composer_tokens import FIELD_SIZES, MAX_BAR_TICKS, METERS
from engine.tokens.plan import PLAN_SIZES

# kinds of input step
PAD, NOTE, START, CONTEXT = range(4)
# input columns of a step: the last note and the present position
STEP_COLUMNS = (
    "kind", "pitch", "duration", "staff", "in_bar", "meter", "fifths", "bar_of_eight", "since_start", "to_end",
    "gap", "hand",
)  # fmt: skip
STEP_SIZES = (4, 128, FIELD_SIZES[4], 2, MAX_BAR_TICKS, len(METERS), 15, 8, 6, 17, 20, 3)
# columns of a piece's conditions; 0 is "open" in each
CONDITION_COLUMNS = ("composer", "period", "mode", "tempo", "density")
CONDITION_SIZES = (len(COMPOSERS) + 1, len(PERIODS) + 1, 3, len(TEMPO_EDGES) + 2, len(DENSITY_EDGES) + 2)
# version 2 adds genre and vocal accompaniment
MAX_GENRES = 32
PLANNED_CONDITION_SIZES = (*CONDITION_SIZES, MAX_GENRES, 3)
GENRE_COLUMN = len(CONDITION_COLUMNS)  # of PLANNED_CONDITION_SIZES
REFERENCE_HEADS = 2  # the reference of the current bar, the reference of the next bar
REFERENCE_HEAD_SIZE = 64
_QUERY_BLOCK = 256  # queries per block of causal attention


@dataclass(frozen=True)
class ComposerConfig:
    """The Composer's shape.

    window            context length in notes
    reference_layers  layers with reference attention to the plan's bars; 0 is version 1, without a plan
    """

    width: int = 256
    layers: int = 8
    heads: int = 4
    feed_forward: int = 1024
    head_width: int = 384
    window: int = 384
    reference_layers: int = 0

    @property
    def condition_sizes(self) -> tuple[int, ...]:
        return PLANNED_CONDITION_SIZES if self.reference_layers else CONDITION_SIZES

    def to_json(self) -> dict:
        return asdict(self)


def angles(index: Tensor, quarter: Tensor, head_size: int) -> Tensor:
    """Rotary angles (B, T, head_size / 2): the first half by note index, the second by onset in quarters."""
    quarter_of = head_size // 4
    by_index = 2000.0 ** (-torch.arange(quarter_of, device=index.device) / quarter_of)
    # periods of 1/4 quarter to 512 quarters
    by_time = 2 * torch.pi / (0.25 * 2048.0 ** (torch.arange(quarter_of, device=index.device) / (quarter_of - 1)))
    return torch.cat([index[..., None].float() * by_index, quarter[..., None].float() * by_time], dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding: rotate the pairs (x_k, x_k+half) of (B, H, T, head_size) by angles with cos and sin (B, 1, T,
    half)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


@dataclass(frozen=True)
class References:
    """Inputs of the reference heads for a batch.

    bar     (B, T) int, number of the bar of each step, unique within a row; -1 for none
    target  (B, T, 2) int, number of the bar that the current bar and the next bar refer to; -2 for none
    time    (B, T, 2) quarters since the start of the current bar and (negative) until the start of the next one
    """

    bar: Tensor
    target: Tensor
    time: Tensor


def reference_angles(quarter: Tensor) -> Tensor:
    """Rotary angles (..., REFERENCE_HEAD_SIZE / 4) of a time within the bar; periods of 1/4 to 64 quarters."""
    pairs = REFERENCE_HEAD_SIZE // 4
    rate = 2 * torch.pi / (0.25 * 256.0 ** (torch.arange(pairs, device=quarter.device) / (pairs - 1)))
    return quarter[..., None].float() * rate


def turn_half(x: Tensor, angle: Tensor) -> Tensor:
    """Rotate the first half of the channels of x (..., REFERENCE_HEAD_SIZE); the second half has no position."""
    a, b, rest = x.split([angle.shape[-1], angle.shape[-1], x.shape[-1] // 2], dim=-1)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], dim=-1)


class ReferenceAttention(nn.Module):
    """Attention to the notes of the plan's reference bars. Both heads share keys and values. A constant zero score
    allows attention to nothing: without a reference the output is zero.
    """

    def __init__(self, width: int):
        super().__init__()
        size = REFERENCE_HEAD_SIZE
        self.enter = nn.Linear(width, (REFERENCE_HEADS + 2) * size, bias=False)
        self.leave = nn.Linear(REFERENCE_HEADS * size, width, bias=False)

    def split(self, y: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, T, 2, S), keys (B, T, S) and values (B, T, S) of normalised states (B, T, D), rotated."""
        size = REFERENCE_HEAD_SIZE
        q, k, v = self.enter(y).split([REFERENCE_HEADS * size, size, size], dim=-1)
        q = turn_half(q.unflatten(-1, (REFERENCE_HEADS, size)), reference_angles(time))
        return q, turn_half(k, reference_angles(time[..., 0])), v

    def forward(self, y: Tensor, references: References) -> Tensor:
        """Normalised states (B, T, D) -> (B, T, D)."""
        q, k, v = self.split(y, references.time)
        q, out = q.transpose(1, 2), []
        for first in range(0, y.shape[1], _QUERY_BLOCK):
            rows = slice(first, min(first + _QUERY_BLOCK, y.shape[1]))
            seen = slice(0, rows.stop)
            target = references.target[:, rows].transpose(1, 2)[..., None]
            hidden = target != references.bar[:, None, None, seen]
            score = q[:, :, rows] @ k[:, None, seen].transpose(-1, -2) * REFERENCE_HEAD_SIZE**-0.5
            score = score.masked_fill(hidden, -1e4)
            share = F.pad(score, (1, 0)).softmax(-1)[..., 1:].to(v.dtype)
            out.append(share @ v[:, None, seen])
        return self.leave(torch.cat(out, dim=2).transpose(1, 2).flatten(2))


class ComposerLayer(nn.Module):
    """Causal self-attention and a squared-ReLU feed-forward, pre-norm."""

    def __init__(self, c: ComposerConfig, reference: bool = False):
        super().__init__()
        self.heads = c.heads
        self.norm_a, self.norm_f = nn.RMSNorm(c.width), nn.RMSNorm(c.width)
        self.qkv = nn.Linear(c.width, 3 * c.width, bias=False)
        self.out = nn.Linear(c.width, c.width, bias=False)
        self.up = nn.Linear(c.width, c.feed_forward, bias=False)
        self.down = nn.Linear(c.feed_forward, c.width, bias=False)
        self.reference = ReferenceAttention(c.width) if reference else None

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, segment: Tensor | None, drop: float,
        references: References | None = None,
    ) -> Tensor:  # fmt: skip
        """x (B, T, D); segment (B, T) separates the examples that share a row."""
        y = self.norm_a(x)
        change = self.out(self._attend(y, cos, sin, segment))
        if self.reference is not None and references is not None:
            change = change + self.reference(y, references)
        x = x + channel_dropout(change, drop)
        return x + channel_dropout(self.down(F.relu(self.up(self.norm_f(x))).square()), drop)

    def _attend(self, y: Tensor, cos: Tensor, sin: Tensor, segment: Tensor | None) -> Tensor:
        """Explicit causal softmax attention in blocks of queries."""
        size, time, width = y.shape
        q, k, v = self.qkv(y).view(size, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, out = rotate(q, cos, sin) * q.shape[-1] ** -0.5, rotate(k, cos, sin), []
        for first in range(0, time, _QUERY_BLOCK):
            rows = slice(first, min(first + _QUERY_BLOCK, time))
            score = q[:, :, rows] @ k[:, :, : rows.stop].transpose(-1, -2)
            index = torch.arange(rows.stop, device=y.device)
            hidden = index > index[rows, None]
            if segment is not None:
                hidden = hidden | (segment[:, None, rows, None] != segment[:, None, None, : rows.stop])
            share = score.masked_fill(hidden, -1e4).softmax(-1).to(v.dtype)
            out.append(share @ v[:, :, : rows.stop])
        return torch.cat(out, dim=2).transpose(1, 2).reshape(size, time, width)


def channel_dropout(x: Tensor, p: float) -> Tensor:
    """Dropout of whole channels of a sequence: as effective here as element dropout, and much cheaper."""
    if p == 0:
        return x
    keep = (torch.rand(len(x), 1, x.shape[-1], device=x.device) >= p).to(x.dtype) / (1 - p)
    return x * keep


class FieldDecoder(nn.Module):
    """SubToken Decoder: predicts a note's fields in order, each from the hidden state and the previous fields."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.enter = nn.Linear(width, len(FIELD_SIZES) * hidden)
        self.given = nn.ModuleList(
            nn.ModuleList(nn.Embedding(FIELD_SIZES[i], hidden) for i in range(j)) for j in range(len(FIELD_SIZES))
        )
        self.leave = nn.ModuleList(nn.Linear(hidden, size) for size in FIELD_SIZES)

    def forward(self, h: Tensor, fields: Tensor) -> list[Tensor]:
        """Logits of every field, [(..., size_j)], teacher-forced with fields (..., 5)."""
        parts = self.enter(self.norm(h)).chunk(len(FIELD_SIZES), dim=-1)
        given = self._given(fields, parts[0].dtype) if self.training else None
        out = []
        for j, part in enumerate(parts):
            if given is not None:
                part = part + given[j]
            else:
                for i, table in enumerate(self.given[j]):
                    part = part + table(fields[..., i]).to(part.dtype)
            out.append(self.leave[j](F.relu(part).square()))
        return out

    def _given(self, fields: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Contribution of the previous fields to each part, as products of one-hot rows and tables."""
        first = torch.tensor([0, *FIELD_SIZES[:-1]], device=fields.device).cumsum(0)
        ones = torch.ones(fields.shape, device=fields.device, dtype=dtype)
        counts = ones.new_zeros(*fields.shape[:-1], sum(FIELD_SIZES)).scatter_(-1, fields + first, ones)
        out = [torch.zeros((), device=fields.device, dtype=dtype)]
        for j in range(1, len(FIELD_SIZES)):
            weight = torch.cat([t.weight for t in self.given[j]])  # type: ignore[union-attr]
            out.append(counts[..., : len(weight)] @ weight.to(dtype))
        return out


class Composer(nn.Module):
    """The network: `forward` for training; `engine.models.composer.generate` samples from it."""

    def __init__(self, config: ComposerConfig):
        super().__init__()
        self.config = config
        self.step = nn.ModuleList(nn.Embedding(size, config.width) for size in STEP_SIZES)
        self.pitch_class, self.octave = nn.Embedding(12, config.width), nn.Embedding(11, config.width)
        self.condition = nn.ModuleList(nn.Embedding(size, config.width) for size in config.condition_sizes)
        sizes = 2 * PLAN_SIZES if config.reference_layers else ()
        self.plan = nn.ModuleList(nn.Embedding(size, config.width) for size in sizes)
        refer = {config.layers - 1 - 2 * k for k in range(config.reference_layers)}
        self.layers = nn.ModuleList(ComposerLayer(config, k in refer) for k in range(config.layers))
        self.sub = FieldDecoder(config.width, config.head_width)
        for table in self.modules():
            if isinstance(table, nn.Embedding):
                nn.init.normal_(table.weight, std=0.02 if table in set(self.step) else 0.05)
        for layer in self.layers:
            nn.init.zeros_(layer.out.weight)  # type: ignore[attr-defined]
            nn.init.zeros_(layer.down.weight)  # type: ignore[attr-defined]
            if layer.reference is not None:
                nn.init.zeros_(layer.reference.leave.weight)  # type: ignore[union-attr]

    def embed(self, steps: Tensor, conditions: Tensor, plan: Tensor | None = None) -> Tensor:
        """Input vectors (B, T, D) of steps (B, T, 12) under conditions (B, C) or (B, T, C) with plans (B, T, 10)."""
        if self.training:
            return self._embed_by_product(steps, conditions, plan)
        x = self.pitch_class(steps[..., 1] % 12) + self.octave(steps[..., 1] // 12)
        x = x * (steps[..., :1] % 2 == 1)  # notes and context notes have a pitch, a start has none
        for k, table in enumerate(self.step):
            x = x + table(steps[..., k])
        each = conditions if conditions.ndim == 3 else conditions[:, None]
        for k, table in enumerate(self.condition):
            x = x + table(each[..., k])
        if plan is not None:
            for k, table in enumerate(self.plan):
                x = x + table(plan[..., k])
        return x

    def _embed_by_product(self, steps: Tensor, conditions: Tensor, plan: Tensor | None) -> Tensor:
        """The same sum as one matrix product of counts and tables, whose backward pass needs no scatter."""
        tables = [self.pitch_class, self.octave, *self.step, *self.condition, *(self.plan if plan is not None else ())]
        each = conditions if conditions.ndim == 3 else conditions[:, None].expand(-1, steps.shape[1], -1)
        pitch = steps[..., 1:2]
        columns = torch.cat([pitch % 12, pitch // 12, steps, each, *(() if plan is None else (plan,))], dim=-1)
        sizes = [t.num_embeddings for t in tables]  # type: ignore[union-attr]
        first = torch.tensor([0, *sizes[:-1]], device=steps.device).cumsum(0)
        share = torch.ones(columns.shape, device=steps.device, dtype=torch.bfloat16)
        share[..., :2] = (steps[..., :1] % 2 == 1).to(share.dtype)
        counts = share.new_zeros(*steps.shape[:2], sum(sizes)).scatter_(-1, columns + first, share)
        weight = torch.cat([t.weight for t in tables])  # type: ignore[misc]
        return counts.to(weight.dtype) @ weight

    def forward(
        self, steps: Tensor, quarter: Tensor, conditions: Tensor, drop: float = 0.0, plan: Tensor | None = None,
        references: References | None = None, segment: Tensor | None = None, index: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Hidden states (B, T, D): row i depends on steps up to i.

        steps       (B, T, 12) int, STEP_COLUMNS
        quarter     (B, T) onset of each step in quarters
        conditions  (B, C) or (B, T, C) int, CONDITION_COLUMNS
        plan        (B, T, 10) int, PLAN_COLUMNS of the step's bar, then of the bar after it
        references  the bars that the plan names
        segment     (B, T) int, where several examples share a row; None is one example a row
        index       (B, T) place of each step in its example; None counts from the row's start
        """
        size, time = quarter.shape
        x = self.embed(steps, conditions, plan)
        if index is None:
            index = torch.arange(time, device=x.device).expand(size, time)
        turn = angles(index, quarter, x.shape[-1] // self.config.heads)
        cos, sin = turn.cos()[:, None].to(x.dtype), turn.sin()[:, None].to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin, segment, drop, references)
        return x
