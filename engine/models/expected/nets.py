"""The two networks of the expected performance: tempo over beats, velocity and articulation over notes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class TempoShape:
    """Size of the tempo network; it reaches 250 beats either way."""

    inputs: int
    width: int = 64
    layers: int = 7
    kernel: int = 5
    dropout: float = 0.2

    def to_json(self) -> dict:
        return asdict(self)


class TempoNet(nn.Module):
    """A linear model of nine beats plus dilated convolutions."""

    def __init__(self, shape: TempoShape):
        super().__init__()
        s = shape
        self.linear = nn.Conv1d(s.inputs, 1, 9, padding=4)
        nn.init.zeros_(self.linear.weight)
        self.first, self.last, self.drop = nn.Linear(s.inputs, s.width), nn.Linear(s.width, 1), nn.Dropout(s.dropout)
        self.conv = nn.ModuleList(
            nn.Conv1d(s.width, s.width, s.kernel, padding=s.kernel // 2 << i, dilation=1 << i) for i in range(s.layers)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(s.width) for _ in range(s.layers))
        self.mix = nn.ModuleList(nn.Linear(s.width, s.width) for _ in range(s.layers))

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """x (B, n, F) standardised beat features, known (B, n) 1 for a beat, 0 for padding -> (B, n) z-scores."""
        h = self.drop(self.first(x))
        for conv, norm, mix in zip(self.conv, self.norm, self.mix, strict=True):
            h = h + self.drop(mix(F.gelu(conv((norm(h) * known[..., None]).transpose(1, 2)).transpose(1, 2))))
        return self.last(h)[..., 0] + self.linear(x.transpose(1, 2))[:, 0]


@dataclass(frozen=True)
class TouchShape:
    """Size of the network of velocity and articulation."""

    inputs: int
    beat_inputs: int
    width: int = 64
    note_layers: int = 6
    beat_layers: int = 6
    kernel: int = 5
    dropout: float = 0.2

    def to_json(self) -> dict:
        return asdict(self)


class TouchNet(nn.Module):
    """A linear model of five notes plus convolutions over notes, over beats, and over notes again.

    Every second note layer processes notes by line (staff and voice), the others in score order.
    """

    def __init__(self, shape: TouchShape):
        super().__init__()
        s = shape
        self.linear = nn.Conv1d(s.inputs, 2, 5, padding=2)
        nn.init.zeros_(self.linear.weight)
        self.first, self.first_beat = nn.Linear(s.inputs, s.width), nn.Linear(s.beat_inputs, s.width)
        self.last, self.drop = nn.Linear(s.width, 2), nn.Dropout(s.dropout)
        self.down, self.up = nn.Linear(s.width, s.width), nn.Linear(s.width, s.width)
        self.notes, self.before = s.note_layers, s.note_layers // 2
        dilation = [1 << (i // 2) * 2 for i in range(s.note_layers)] + [1 << i for i in range(s.beat_layers)]
        self.conv = nn.ModuleList(
            nn.Conv1d(s.width, s.width, s.kernel, padding=s.kernel // 2 * d, dilation=d) for d in dilation
        )
        self.norm = nn.ModuleList(nn.LayerNorm(s.width) for _ in dilation)
        self.mix = nn.ModuleList(nn.Linear(s.width, s.width) for _ in dilation)

    def _block(self, i: int, h: Tensor, mask: Tensor | float, order: Tensor | None = None) -> Tensor:
        a = self.norm[i](h) * mask
        if order is not None:
            a = a.gather(1, order)
        a = self.mix[i](F.relu(self.conv[i](a.transpose(1, 2)).transpose(1, 2)))
        if order is not None:
            a = torch.zeros_like(a).scatter(1, order, a)
        # dropout of whole channels of a crop: cheaper than of single values
        return h + a * self.drop(torch.ones(len(a), 1, a.shape[-1], dtype=a.dtype, device=a.device))

    def forward(self, x: Tensor, beats: Tensor, beat: Tensor, order: Tensor, valid: Tensor) -> Tensor:
        """z-scores (B, 2, n) of velocity and articulation.

        x (B, n, F) note features, beats (B, b, G) beat features, beat (B, n) beat of each note,
        order (B, n) the notes line by line, valid (B, n) 1 for a note, 0 for padding
        """
        mask, at = valid[..., None], beat[..., None]
        h = self.drop(self.first(x))
        width = h.shape[-1]
        index, lines = at.expand(-1, -1, width), order[..., None].expand(-1, -1, width)
        g = self.drop(self.first_beat(beats))
        h = h + g.gather(1, index)
        for i in range(self.before):
            h = self._block(i, h, mask, lines if i % 2 else None)
        total = torch.zeros(*g.shape, dtype=torch.float32, device=g.device).scatter_add(1, index, (h * mask).float())
        count = torch.zeros(*g.shape[:2], 1, device=g.device).scatter_add(1, at, mask)
        g = g + self.down((total / count.clamp(min=1)).to(g.dtype))
        for i in range(self.notes, len(self.conv)):
            g = self._block(i, g, 1.0)
        h = h + self.up(g).gather(1, index)
        for i in range(self.before, self.notes):
            h = self._block(i, h, mask, lines if i % 2 else None)
        return self.last(h).transpose(1, 2).float() + self.linear(x.transpose(1, 2)).float()


class LinearTempo(nn.Module):
    """Linear model of five beats, one member of the ensemble."""

    def __init__(self, inputs: int):
        super().__init__()
        self.beats = nn.Conv1d(inputs, 1, 5, padding=2, bias=False)

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        return self.beats(x.transpose(1, 2))[:, 0]


class LinearTouch(nn.Module):
    """Linear model of a note, its neighbours and its beat."""

    def __init__(self, inputs: int, beat_inputs: int):
        super().__init__()
        self.notes, self.beats = nn.Conv1d(inputs, 2, 3, padding=1, bias=False), nn.Linear(beat_inputs, 2, bias=False)

    def forward(self, x: Tensor, beats: Tensor, beat: Tensor, order: Tensor, valid: Tensor) -> Tensor:
        of_beat = self.beats(beats).gather(1, beat[..., None].expand(-1, -1, 2))
        return self.notes(x.transpose(1, 2)) + of_beat.transpose(1, 2)
