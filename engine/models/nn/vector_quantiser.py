"""Vector quantisation with a moving-average codebook (van den Oord et al. 2017, arXiv 1711.00937, appendix A.1).

The codebook starts as the k-means centres of the first batch; codes that are hardly used are set on vectors of the
present batch again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

DEAD = 0.05  # a code that is chosen less than this times the mean has died
KMEANS_ROUNDS = 8
RESET_EVERY = 10  # steps between two looks for dead codes


@dataclass(frozen=True)
class Quantised:
    """z (..., D) with the gradient passed straight through, codes (...) int64, and the commitment loss, a scalar."""

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
    """K vectors of size D; in training every forward pass moves them (`decay`). A code that is chosen less than `dead`
    times the mean is set on a vector of the batch again.
    """

    def __init__(self, num_codes: int, size: int, decay: float = 0.99, dead: float = DEAD):
        super().__init__()
        self.num_codes, self.decay, self.dead = num_codes, decay, dead
        self.register_buffer("codebook", torch.randn(num_codes, size))
        self.register_buffer("count", torch.ones(num_codes))  # moving average of how often each code is chosen
        self.register_buffer("total", torch.zeros(num_codes, size))  # and of the sum of what chose it
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
        """u (..., D); valid (...) bool: the vectors that count for the loss and move the codebook."""
        with torch.autocast(u.device.type, enabled=False):
            u = u.float()
            if self.training:
                with torch.no_grad():
                    if not self.moved:
                        self._begin(u[valid])
                    codes = self.nearest(u)
                    self._move(u[valid], codes[valid])
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

    def _move(self, u: Tensor, codes: Tensor) -> None:
        count = _everywhere(torch.bincount(codes, minlength=self.num_codes).float())
        total = _everywhere(torch.zeros_like(self.total).index_add_(0, codes, u))
        self.count.lerp_(count, 1 - self.decay)
        self.total.lerp_(total, 1 - self.decay)
        self.codebook.copy_(self.total / self.count.clamp(min=1e-4)[:, None])
        self.moved += 1
        if int(self.moved) % RESET_EVERY == 0:
            self._revive(u)

    def _revive(self, u: Tensor) -> None:
        """Set dead codes on random vectors of this batch, with the use of an average code."""
        mean = self.count.mean()
        dead = self.count < self.dead * mean
        fresh = _same(u[torch.randint(len(u), (self.num_codes,), device=u.device)].clone())
        self.codebook[dead] = fresh[dead]
        self.count[dead] = mean
        self.total[dead] = fresh[dead] * mean


def perplexity(codes: Tensor, num_codes: int) -> tuple[Tensor, Tensor]:
    """How many codes are in even use, exp(entropy), and the share of the codes that occur at all."""
    p = torch.bincount(codes.flatten(), minlength=num_codes).float()
    p = p / p.sum()
    return (-(p * p.clamp(min=1e-9).log()).sum()).exp(), (p > 0).float().mean()
