"""The product Composer: a decoder over the notes of a score, with one head for each sub-token of a note.

It is the score decoder of XMVAE (arXiv 2507.01582) turned into a language model: a Temporal Decoder along the notes
gives a hidden state h_i, and a SubToken Decoder writes the note's five fields one after the other from h_i and the
fields already written, p(x_i | h_i) = prod_j p(x_ij | x_i<j, h_i). What the paper's latent code z_s carries is here
carried by the conditions and by the notes themselves (training/LOG.md compares the two). To fill in a passage, the
notes that stand after it or stay inside it are read first ("suffix, prefix, middle").

Attention knows both the order of notes and written time: half of each head turns with the note's index, the other half
with its onset in quarters, so that "one bar ago" is the same angle everywhere.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.models.conditions import COMPOSERS, DENSITY_EDGES, PERIODS, TEMPO_EDGES
from engine.tokens.writing import FIELD_SIZES, MAX_BAR_TICKS, METERS

# kinds of input step
PAD, NOTE, START, CONTEXT = range(4)
# input columns of a step: what the last note was and where the writing stands
STEP_COLUMNS = (
    "kind", "pitch", "duration", "staff", "in_bar", "meter", "fifths", "bar_of_eight", "since_start", "to_end",
    "gap", "hand",
)  # fmt: skip
STEP_SIZES = (4, 128, FIELD_SIZES[4], 2, MAX_BAR_TICKS, len(METERS), 15, 8, 6, 17, 20, 3)
# columns of a piece's conditions; 0 is "open" in each
CONDITION_COLUMNS = ("composer", "period", "mode", "tempo", "density")
CONDITION_SIZES = (len(COMPOSERS) + 1, len(PERIODS) + 1, 3, len(TEMPO_EDGES) + 2, len(DENSITY_EDGES) + 2)


@dataclass(frozen=True)
class ComposerConfig:
    """The Composer's shape.

    window  notes that it sees at once, context and all
    """

    width: int = 256
    layers: int = 8
    heads: int = 4
    feed_forward: int = 1024
    head_width: int = 384
    window: int = 384

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
    """Turn the pairs (x_k, x_k+half) of (B, H, T, head_size) by the angles whose cos and sin are (B, 1, T, half)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Layer(nn.Module):
    """Causal self-attention and a squared-ReLU feed-forward, pre-norm."""

    def __init__(self, c: ComposerConfig):
        super().__init__()
        self.heads = c.heads
        self.norm_a, self.norm_f = nn.RMSNorm(c.width), nn.RMSNorm(c.width)
        self.qkv = nn.Linear(c.width, 3 * c.width, bias=False)
        self.out = nn.Linear(c.width, c.width, bias=False)
        self.up = nn.Linear(c.width, c.feed_forward, bias=False)
        self.down = nn.Linear(c.feed_forward, c.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, drop: float) -> Tensor:
        """x (B, T, D); mask (T, T) is added to the scores."""
        size, time, width = x.shape
        q, k, v = self.qkv(self.norm_a(x)).view(size, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        scores = torch.baddbmm(
            mask.expand(size * self.heads, time, time).to(q.dtype), q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2),
            alpha=q.shape[-1] ** -0.5,
        )  # fmt: skip
        mixed = torch.bmm(scores.softmax(-1).to(v.dtype), v.flatten(0, 1)).view(size, self.heads, time, -1)
        x = x + channel_dropout(self.out(mixed.transpose(1, 2).reshape(size, time, width)), drop)
        return x + channel_dropout(self.down(F.relu(self.up(self.norm_f(x))).square()), drop)


def channel_dropout(x: Tensor, p: float) -> Tensor:
    """Drop whole channels of a sequence: as good a regulariser here as element dropout, and much cheaper."""
    if p == 0:
        return x
    keep = (torch.rand(len(x), 1, x.shape[-1], device=x.device) >= p).to(x.dtype) / (1 - p)
    return x * keep


class SubTokenDecoder(nn.Module):
    """Writes a note's fields in order: each from the hidden state and the fields before it."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.enter = nn.Linear(width, len(FIELD_SIZES) * hidden)
        self.given = nn.ModuleList(
            nn.ModuleList(nn.Embedding(FIELD_SIZES[i], hidden) for i in range(j)) for j in range(len(FIELD_SIZES))
        )
        self.leave = nn.ModuleList(nn.Linear(hidden, size) for size in FIELD_SIZES)

    def forward(self, h: Tensor, fields: Tensor) -> list[Tensor]:
        """Logits of every field, [(..., size_j)], with the true earlier fields (..., 5) given."""
        parts = self.enter(self.norm(h)).chunk(len(FIELD_SIZES), dim=-1)
        out = []
        for j, part in enumerate(parts):
            for i, table in enumerate(self.given[j]):
                part = part + table(fields[..., i]).to(part.dtype)
            out.append(self.leave[j](F.relu(part).square()))
        return out


class Composer(nn.Module):
    """The network: `forward` for training; `engine.models.writer` draws from it note by note."""

    def __init__(self, config: ComposerConfig):
        super().__init__()
        self.config = config
        self.step = nn.ModuleList(nn.Embedding(size, config.width) for size in STEP_SIZES)
        self.pitch_class, self.octave = nn.Embedding(12, config.width), nn.Embedding(11, config.width)
        self.condition = nn.ModuleList(nn.Embedding(size, config.width) for size in CONDITION_SIZES)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.sub = SubTokenDecoder(config.width, config.head_width)
        for table in self.modules():
            if isinstance(table, nn.Embedding):
                nn.init.normal_(table.weight, std=0.02 if table in set(self.step) else 0.05)
        for layer in self.layers:
            nn.init.zeros_(layer.out.weight)  # type: ignore[attr-defined]
            nn.init.zeros_(layer.down.weight)  # type: ignore[attr-defined]

    def embed(self, steps: Tensor, conditions: Tensor) -> Tensor:
        """Input vectors (B, T, D) of steps (B, T, 12) under conditions (B, 5)."""
        x = self.pitch_class(steps[..., 1] % 12) + self.octave(steps[..., 1] // 12)
        x = x * (steps[..., :1] % 2 == 1)  # notes and context notes have a pitch, a start has none
        for k, table in enumerate(self.step):
            x = x + table(steps[..., k])
        for k, table in enumerate(self.condition):
            x = x + table(conditions[..., k])[:, None]
        return x

    def forward(self, steps: Tensor, quarter: Tensor, conditions: Tensor, drop: float = 0.0) -> Tensor:
        """Hidden states (B, T, D): the one at step i knows steps up to i.

        steps       (B, T, 12) int, STEP_COLUMNS
        quarter     (B, T) onset of each step in quarters
        conditions  (B, 5) int, CONDITION_COLUMNS
        """
        size, time = quarter.shape
        x = self.embed(steps, conditions)
        turn = angles(torch.arange(time, device=x.device).expand(size, time), quarter, x.shape[-1] // self.config.heads)
        cos, sin = turn.cos()[:, None].to(x.dtype), turn.sin()[:, None].to(x.dtype)
        mask = torch.full((1, time, time), -1e4, device=x.device).triu(1)
        for layer in self.layers:
            x = layer(x, cos, sin, mask, drop)
        return x
