"""A prior of z_p given the score: XMVAE's performances without it draw z_p from N(0, I), each note by itself.

Our addition to arXiv 2507.01582, where z_p ~ N(0, I). The posterior of a trained XMVAE holds over 13 nats a note, and
neighbouring notes are not independent under it: loudness drawn note by note jumps.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

_LEAST_SCALE, _SCALE_RANGE = -4.0, 5.0  # log of the standard deviations: -4 to 1
_BEGIN = 1.4  # a sigmoid of it makes the standard deviations 1 before training


@dataclass(frozen=True)
class StylePriorConfig:
    """Shape of the prior; z_size and memory are those of its XMVAE (memory: its width)."""

    z_size: int = 16
    memory: int = 192
    width: int = 128
    components: int = 16

    def to_json(self) -> dict:
        return asdict(self)


class StylePrior(nn.Module):
    """p(z_1..n | score) = prod_i p(z_i | z_<i, m_<=i): a GRU over the notes, a mixture of Gaussians for each."""

    def __init__(self, config: StylePriorConfig = StylePriorConfig()):
        super().__init__()
        self.config = c = config
        self.enter = nn.Linear(c.z_size + c.memory + 1, c.width)
        self.recurrent = nn.GRU(c.width, c.width, batch_first=True)
        self.leave = nn.Linear(2 * c.width, c.width)
        self.weight = nn.Linear(c.width, c.components)
        self.mean = nn.Linear(c.width, c.components * c.z_size)
        self.scale = nn.Linear(c.width, c.components * c.z_size)

    def _mixture(self, h: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c = self.config
        u = torch.nn.functional.gelu(self.leave(torch.cat([h, x], -1)))
        shape = (*u.shape[:-1], c.components, c.z_size)
        log_scale = _LEAST_SCALE + _SCALE_RANGE * torch.sigmoid(self.scale(u).view(shape) + _BEGIN)
        return self.weight(u).log_softmax(-1), self.mean(u).view(shape), log_scale

    def log_density(self, z: Tensor, memory: Tensor, chord: Tensor) -> Tensor:
        """Nats log p(z_i | ...) of each note, (B, N).

        z       (B, N, Z) of the notes in order
        memory  (B, N, D) XMVAE's memory of the codes at the notes
        chord   (B, N) bool: the note begins with the note before it
        """
        past = torch.nn.functional.pad(z[:, :-1], (0, 0, 1, 0))
        x = self.enter(torch.cat([past, memory, chord[..., None].to(z.dtype)], -1))
        weight, mean, log_scale = self._mixture(self.recurrent(x)[0], x)
        unit = (z[:, :, None] - mean) * (-log_scale).exp()
        each = -0.5 * (unit.square() + 2 * log_scale + math.log(2 * math.pi)).sum(-1)
        return torch.logsumexp(weight + each, -1)

    @torch.inference_mode()
    def sample(self, memory: Tensor, chord: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """z_p of the notes, (B, N, Z). temperature: factor of the standard deviations."""
        self.eval()
        size, notes, _ = memory.shape
        z = memory.new_zeros(size, 1, self.config.z_size)
        hidden, out = memory.new_zeros(1, size, self.config.width), []
        for i in range(notes):
            x = self.enter(torch.cat([z, memory[:, i : i + 1], chord[:, i : i + 1, None].to(memory.dtype)], -1))
            h, hidden = self.recurrent(x, hidden)
            weight, mean, log_scale = (t[:, 0] for t in self._mixture(h, x))
            chosen = torch.multinomial(weight.exp(), 1, generator=generator)[..., None]
            chosen = chosen.expand(-1, 1, self.config.z_size)
            noise = torch.randn(size, 1, self.config.z_size, generator=generator)
            z = mean.gather(1, chosen) + temperature * log_scale.gather(1, chosen).exp() * noise
            out.append(z)
        return torch.cat(out, 1)
