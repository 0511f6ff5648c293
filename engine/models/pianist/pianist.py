"""The Pianist: predicts expression from a score and a style z_p, all notes of a window at once.

Conditional flow matching (Lipman et al. 2023; for piano PianoFlow, arXiv 2511.03425) over eight values a note: tempo,
velocity, timing, articulation and four pedal samples. A performance encoder gives the segment-level z_p (after XMVAE,
arXiv 2507.01582): nine axes tied to measured descriptors and a small free part with a KL term.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.models.pianist.features import CATEGORIES, MARKED, NUM_FEATURES, STRUCTURE
from engine.models.pianist.style import AXES
from engine.music.types import PEDAL_SAMPLES, Expression

CHANNELS = 4 + PEDAL_SAMPLES  # tempo, velocity, timing, articulation, pedal x 4
TEMPO, VELOCITY, TIMING, ARTICULATION, PEDAL = 0, 1, 2, 3, slice(4, CHANNELS)
# channel = (quantity - CENTRE) / SCALE, measured once on the training split
TEMPO_CENTRE, TEMPO_SCALE = -0.95, 0.95
VELOCITY_CENTRE, VELOCITY_SCALE = 64.0, 19.0
_TIMING_UNIT_SEC, _TIMING_SCALE = 0.010, 1.1
ARTICULATION_CENTRE, ARTICULATION_SCALE = -0.6, 1.25
EXPECTED = (TEMPO, VELOCITY, ARTICULATION)  # channels with expected values in a model of the residual
_STYLE_COLUMNS = [(*STRUCTURE, *MARKED).index(k) for k in ("highest", "lowest", "chord_size", "below_top")]


@dataclass(frozen=True)
class PianistConfig:
    """Shape of the model; the defaults are the shipped size."""

    width: int = 192
    heads: int = 4
    feed_forward: int = 512
    score_layers: int = 4
    flow_layers: int = 2
    style_layers: int = 1
    free_style: int = 7
    kernel: int = 7
    dropout: float = 0.1
    window: int = 256  # notes
    expected: int = (
        0  # channels with expected values, subtracted from the target: 0, or 3 (tempo, velocity, articulation)
    )

    @property
    def style_size(self) -> int:
        return len(AXES) + self.free_style

    def to_json(self) -> dict:
        return asdict(self)


def to_channels(expression: Expression) -> NDArray[np.float32]:
    """Expression to the model's standardised values, (n, 8) float32."""
    timing = expression.timing_sec
    return np.concatenate(
        [
            np.stack(
                [
                    (np.log2(expression.beat_period) - TEMPO_CENTRE) / TEMPO_SCALE,
                    (expression.velocity - VELOCITY_CENTRE) / VELOCITY_SCALE,
                    np.sign(timing) * np.log1p(np.abs(timing) / _TIMING_UNIT_SEC) / _TIMING_SCALE,
                    (np.clip(expression.articulation_log2, -5, 4) - ARTICULATION_CENTRE) / ARTICULATION_SCALE,
                ],
                axis=1,
            ),
            expression.pedal / 63.5 - 1,
        ],
        axis=1,
    ).astype(np.float32)


def from_channels(x: NDArray) -> Expression:
    """The inverse of `to_channels`, clipped to playable values."""
    x = np.asarray(x, np.float64)
    scaled = np.clip(x[:, TIMING] * _TIMING_SCALE, -5.3, 5.3)  # at most 2 s off the grid
    return Expression(
        beat_period=np.exp2(np.clip(x[:, TEMPO] * TEMPO_SCALE + TEMPO_CENTRE, -4.5, 3.5)),
        timing_sec=np.sign(scaled) * np.expm1(np.abs(scaled)) * _TIMING_UNIT_SEC,
        velocity=np.clip(x[:, VELOCITY] * VELOCITY_SCALE + VELOCITY_CENTRE, 1, 127),
        articulation_log2=np.clip(x[:, ARTICULATION] * ARTICULATION_SCALE + ARTICULATION_CENTRE, -5, 4),
        pedal=np.clip((x[:, PEDAL] + 1) * 63.5, 0, 127),
        played=np.ones(len(x), bool),
    )


def _rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Rotary position embedding of (B, H, T, D) by angles (B, 1, T, D/2)."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def rotary_angles(onset_beat: Tensor, head_width: int) -> Tensor:
    """Angles (B, 1, T, D/2): half of the frequencies use the note's index, half its beat."""
    count = head_width // 4
    frequency = 1.0 / 1000.0 ** (torch.arange(count, device=onset_beat.device) / count)
    index = torch.arange(onset_beat.shape[1], device=onset_beat.device, dtype=torch.float32).expand(onset_beat.shape)
    beat = (onset_beat - onset_beat[:, :1]) * 2
    return torch.cat([index[..., None] * frequency, beat[..., None] * frequency], dim=-1)[:, None]


def _attend(q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
    """Attention of (B, H, T, D) over valid notes.

    The fused kernel is faster forward; on a CPU the backward pass of the explicit softmax is 3 times faster.
    """
    if torch.is_inference_mode_enabled():
        return F.scaled_dot_product_attention(q, k, v, None if valid.all() else valid[:, None, None, :])
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return scores.masked_fill(~valid[:, None, None, :], -1e4).softmax(dim=-1).to(v.dtype) @ v


class PianistBlock(nn.Module):
    """Pre-norm attention, depthwise convolution and feed-forward; `condition` shifts and scales each norm (adaLN)."""

    def __init__(self, c: PianistConfig, conditioned: bool):
        super().__init__()
        self.heads, self.dropout = c.heads, c.dropout
        self.norms = nn.ModuleList(nn.LayerNorm(c.width, elementwise_affine=not conditioned) for _ in range(3))
        self.qkv, self.out = nn.Linear(c.width, 3 * c.width), nn.Linear(c.width, c.width)
        self.gate = nn.Linear(c.width, 2 * c.width)
        self.conv = nn.Conv1d(c.width, c.width, c.kernel, padding=c.kernel // 2, groups=c.width)
        self.mix = nn.Linear(c.width, c.width)
        self.up, self.down = nn.Linear(c.width, c.feed_forward), nn.Linear(c.feed_forward, c.width)
        self.modulate = nn.Linear(c.width, 6 * c.width) if conditioned else None
        if self.modulate is not None:
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)
        for last in (self.out, self.mix, self.down):
            nn.init.normal_(last.weight, std=0.02)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, angle: Tensor, valid: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (B, T, D), angle (B, 1, T, D/2H), valid (B, T) bool, condition (B, D) or None -> (B, T, D)."""
        shifts = self.modulate(condition)[:, None].chunk(6, dim=-1) if self.modulate is not None else None

        def norm(i: int, x: Tensor) -> Tensor:
            y = self.norms[i](x)
            return y if shifts is None else y * (1 + shifts[2 * i]) + shifts[2 * i + 1]

        b, t, d = x.shape
        q, k, v = self.qkv(norm(0, x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = _attend(_rotate(q, angle), _rotate(k, angle), v, valid)
        x = x + self.drop(self.out(y.transpose(1, 2).reshape(b, t, d)))
        y = F.glu(self.gate(norm(1, x)), dim=-1) * valid[..., None].to(x.dtype)
        x = x + self.drop(self.mix(F.silu(self.conv(y.transpose(1, 2)).transpose(1, 2))))
        return x + self.drop(self.down(F.gelu(self.up(norm(2, x)))))

    def drop(self, x: Tensor) -> Tensor:
        """Dropout of whole channels of a window: as effective here as element dropout, and much cheaper on a CPU."""
        if not self.training or not self.dropout:
            return x
        keep = torch.rand(len(x), 1, x.shape[2], device=x.device) >= self.dropout
        return x * (keep.to(x.dtype) / (1 - self.dropout))


class Pianist(nn.Module):
    """Score encoder, performance encoder (z_p) and flow decoder."""

    def __init__(self, config: PianistConfig = PianistConfig()):
        super().__init__()
        self.config = c = config
        self.embed = nn.ModuleDict({k: nn.Embedding(size, c.width) for k, size in CATEGORIES.items()})
        self.value_in = nn.Sequential(nn.Linear(NUM_FEATURES, c.width), nn.GELU(), nn.Linear(c.width, c.width))
        self.score_blocks = nn.ModuleList(PianistBlock(c, conditioned=False) for _ in range(c.score_layers))
        self.score_norm = nn.LayerNorm(c.width)
        if c.expected:
            self.expected_in = nn.Linear(c.expected, c.width)
            self.style_score_in = nn.Linear(len(_STYLE_COLUMNS), c.width)
            nn.init.zeros_(self.expected_in.weight)
            nn.init.zeros_(self.expected_in.bias)
        self.style_in = nn.Linear(CHANNELS + 1, c.width)
        self.style_blocks = nn.ModuleList(PianistBlock(c, conditioned=False) for _ in range(c.style_layers))
        self.style_out = nn.Sequential(
            nn.Linear(2 * c.width, c.width), nn.GELU(), nn.Linear(c.width, c.style_size + c.free_style)
        )
        self.time_in = nn.Sequential(nn.Linear(64, c.width), nn.SiLU(), nn.Linear(c.width, c.width))
        self.z_in = nn.Sequential(nn.Linear(c.style_size + 1, c.width), nn.SiLU(), nn.Linear(c.width, c.width))
        self.z_note = nn.Linear(c.style_size + 1, c.width)
        self.flow_in = nn.Linear(2 * CHANNELS + 1, c.width)
        self.flow_blocks = nn.ModuleList(PianistBlock(c, conditioned=True) for _ in range(c.flow_layers))
        self.flow_norm = nn.LayerNorm(c.width)
        self.flow_out = nn.Linear(c.width, CHANNELS)
        nn.init.zeros_(self.flow_out.weight)
        nn.init.zeros_(self.flow_out.bias)

    def angles(self, onset_beat: Tensor) -> Tensor:
        return rotary_angles(onset_beat, self.config.width // self.config.heads)

    def read(
        self, category: Tensor, value: Tensor, angle: Tensor, valid: Tensor, expected: Tensor | None = None
    ) -> Tensor:
        """Score encoder: category (B, T, 6), value (B, T, F) -> hidden (B, T, D).

        expected  (B, T, 3) expected tempo, velocity and articulation, for a model of the residual
        """
        h = self.value_in(value)
        if expected is not None:
            h = h + self.expected_in(expected)
        for i, table in enumerate(self.embed.values()):
            h = h + table(category[..., i])
        for block in self.score_blocks:
            h = block(h, angle, valid)
        return self.score_norm(h)

    def style_context(self, h: Tensor, value: Tensor) -> Tensor:
        """Score input of the performance encoder, (B, T, D); for a residual only the note's position in its chord,
        because with the whole score z_p would encode the piece.
        """
        return self.style_score_in(value[..., _STYLE_COLUMNS]) if self.config.expected else h

    def style(self, h: Tensor, x: Tensor, played: Tensor, angle: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Performance encoder: h from `style_context`, x (B, T, 8), played (B, T) -> mean (B, Z), log variance
        (B, free) of z_p.
        """
        seen = (played & valid)[..., None].to(x.dtype)
        y = h + self.style_in(torch.cat([x * seen, seen], dim=-1))
        for block in self.style_blocks:
            y = block(y, angle, valid)
        w = valid[..., None].to(y.dtype)
        mean = (y * w).sum(1) / w.sum(1)
        deviation = (((y - mean[:, None]) ** 2 * w).sum(1) / w.sum(1) + 1e-5).sqrt()
        out = self.style_out(torch.cat([mean, deviation], dim=-1))
        return out[:, : self.config.style_size], out[:, self.config.style_size :].clamp(-8, 4)

    def velocity_field(
        self, h: Tensor, x_t: Tensor, t: Tensor, z: Tensor, known_x: Tensor, known: Tensor, angle: Tensor, valid: Tensor
    ) -> Tensor:
        """dx/dt of the flow.

        x_t  (B, T, 8)
        t    (B,)
        z    (B, Z + 1), its last entry 1 when z is given, 0 when dropped
        """
        mask = known[..., None].to(x_t.dtype)
        y = h + self.flow_in(torch.cat([x_t, known_x * mask, mask], dim=-1)) + self.z_note(z)[:, None]
        frequency = torch.exp(torch.arange(32, device=t.device) / 32 * 6.0)
        phase = t[:, None] * frequency
        condition = F.silu(self.time_in(torch.cat([phase.sin(), phase.cos()], dim=-1)) + self.z_in(z))
        for block in self.flow_blocks:
            y = block(y, angle, valid, condition)
        return self.flow_out(self.flow_norm(y))
