"""The phrase tagger's network: dilated convolutions over beats, both ways, then two recurrent passes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.models.tagger.features import BEAT_FEATURES, CLASS_KINDS, PARTS, TEXTURE

CADENCES = ("", "PAC", "HC", "other")
DEGREES = 21
HEADS = {"phrase": 1, "cadence": len(CADENCES), "tonic": 12, "minor": 2, "degree": DEGREES}
INPUTS = PARTS * (12 * len(CLASS_KINDS) + TEXTURE) + BEAT_FEATURES


@dataclass(frozen=True)
class TaggerConfig:
    """Shape of the tagger; `dilations` has one entry a convolution of five beats; recurrent 0 leaves that part out."""

    width: int = 128
    dilations: tuple[int, ...] = (1, 2, 4, 8, 1, 2, 4, 8)
    recurrent: int = 64
    dropout: float = 0.25

    def to_json(self) -> dict:
        return asdict(self)


class TaggerBlock(nn.Module):
    """x + W gelu(conv(norm(x))), five beats apart by the dilation."""

    def __init__(self, width: int, dilation: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, 5, dilation=dilation, padding=2 * dilation)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = (self.norm(x) * mask).transpose(1, 2)
        return x + self.dropout(self.out(F.gelu(self.conv(h).transpose(1, 2))))


class Tagger(nn.Module):
    """Features of beats (B, T, INPUTS) to logits of each head (B, T, size); mask (B, T) is 1 where a beat is."""

    def __init__(self, config: TaggerConfig = TaggerConfig()):
        super().__init__()
        self.config = c = config
        self.stem = nn.Sequential(nn.Linear(INPUTS, c.width), nn.GELU(), nn.Dropout(c.dropout))
        self.blocks = nn.ModuleList(TaggerBlock(c.width, d, c.dropout) for d in c.dilations)
        self.recurrent = nn.GRU(c.width, c.recurrent, batch_first=True, bidirectional=True) if c.recurrent else None
        wide = c.width + 2 * c.recurrent
        self.norm = nn.LayerNorm(wide)
        self.dropout = nn.Dropout(c.dropout)
        self.heads = nn.ModuleDict({name: nn.Linear(wide, size) for name, size in HEADS.items()})

    def hidden(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) what the heads read."""
        mask = mask[..., None].to(x.dtype)
        h = self.stem(x)
        for block in self.blocks:
            h = block(h, mask)
        h = h * mask
        if self.recurrent is not None:
            h = torch.cat([h, self.recurrent(h)[0].to(h.dtype)], -1)
        return self.dropout(self.norm(h))

    def forward(self, x: Tensor, mask: Tensor) -> dict[str, Tensor]:
        h = self.hidden(x, mask)
        return {name: head(h) for name, head in self.heads.items()}
