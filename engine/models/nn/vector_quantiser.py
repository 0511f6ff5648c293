"""Vector quantisation with an EMA codebook (van den Oord et al. 2017, arXiv 1711.00937, appendix A.1).

k-means on the first batch initialises the codebook; dead codes are reset to vectors of the present batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

DEAD = 0.05  # a code below this share of the mean use is dead
KMEANS_ROUNDS = 8
RESET_EVERY = 10  # steps between two resets of dead codes


@dataclass(frozen=True)
class Quantised:
    """z (..., D) with straight-through gradient, codes (...) int64, and the commitment loss, a scalar."""

    z: Tensor
    codes: Tensor
    commitment: Tensor


def _everywhere(x: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(x)
    return x


def _same(x: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.broadcast(x, 0)
    return x


class VectorQuantiser(nn.Module):
    """K vectors of size D; each forward pass in training is an EMA update (`decay`). A code below `dead` times the mean
    use is reset to a vector of the batch.
    """

    def __init__(self, num_codes: int, size: int, decay: float = 0.99, dead: float = DEAD):
        super().__init__()
        self.num_codes, self.decay, self.dead = num_codes, decay, dead
        self.register_buffer("codebook", torch.randn(num_codes, size))
        self.register_buffer("count", torch.ones(num_codes))  # EMA of each code's use
        self.register_buffer("total", torch.zeros(num_codes, size))  # EMA of the sum of its assigned vectors
        self.register_buffer("moved", torch.zeros((), dtype=torch.int64))  # updates so far
        self.codebook: Tensor
        self.count: Tensor
        self.total: Tensor
        self.moved: Tensor

    def nearest(self, u: Tensor) -> Tensor:
        """Code of the nearest codebook vector, (..., D) -> (...)."""
        u = u.float()
        return (self.codebook.square().sum(1) - 2 * u @ self.codebook.T).argmin(-1)

    def forward(self, u: Tensor, valid: Tensor) -> Quantised:
        """u (..., D); valid (...) bool: the vectors used for the loss and the update."""
        with torch.autocast(u.device.type, enabled=False):
            u = u.float()
            if self.training:
                with torch.no_grad():
                    if not self.moved:
                        self._begin(u[valid])
                    codes = self.nearest(u)
                    self._update_codebook(u[valid], codes[valid])
            else:
                codes = self.nearest(u)
            z = self.codebook[codes]
            commitment = (u - z)[valid].square().sum(-1).mean()
            return Quantised(u + (z - u).detach(), codes, commitment)

    def _begin(self, u: Tensor) -> None:
        """k-means centres of a first batch, (n, D)."""
        centres = u[torch.randint(len(u), (self.num_codes,), device=u.device)].clone()
        for _ in range(KMEANS_ROUNDS):
            self.codebook.copy_(centres)
            codes = self.nearest(u)
            count = torch.bincount(codes, minlength=self.num_codes).float()[:, None]
            total = torch.zeros_like(centres).index_add_(0, codes, u)
            again = u[torch.randint(len(u), (self.num_codes,), device=u.device)]
            centres = torch.where(count > 0, total / count.clamp(min=1), again)
        self.codebook.copy_(_same(centres))
        self.count.fill_(len(u) / self.num_codes)
        self.total.copy_(self.codebook * self.count[:, None])

    def _update_codebook(self, u: Tensor, codes: Tensor) -> None:
        count = _everywhere(torch.bincount(codes, minlength=self.num_codes).float())
        total = _everywhere(torch.zeros_like(self.total).index_add_(0, codes, u))
        self.count.lerp_(count, 1 - self.decay)
        self.total.lerp_(total, 1 - self.decay)
        self.codebook.copy_(self.total / self.count.clamp(min=1e-4)[:, None])
        self.moved += 1
        if int(self.moved) % RESET_EVERY == 0:
            self._revive(u)

    def _revive(self, u: Tensor) -> None:
        """Reset dead codes to random vectors of this batch, with average use."""
        mean = self.count.mean()
        dead = self.count < self.dead * mean
        fresh = _same(u[torch.randint(len(u), (self.num_codes,), device=u.device)].clone())
        self.codebook[dead] = fresh[dead]
        self.count[dead] = mean
        self.total[dead] = fresh[dead] * mean


def perplexity(codes: Tensor, num_codes: int) -> tuple[Tensor, Tensor]:
    """Perplexity of the code use, exp(entropy), and the share of codes that occur."""
    p = torch.bincount(codes.flatten(), minlength=num_codes).float()
    p = p / p.sum()
    return (-(p * p.clamp(min=1e-9).log()).sum()).exp(), (p > 0).float().mean()
