"""Residual vector quantisation: each codebook quantises the residual of the previous ones (Zeghidour et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.models.nn.renamed import accept_old_names
from engine.models.nn.vector_quantiser import VectorQuantiser

_SEARCHED = 1024  # vectors per block of the beam search
FEWER = 0.25  # quantiser dropout: share of training items that use only their first codebooks
DECAY, DEAD = 0.98, 0.25  # EMA decay; dead-code threshold. A codec's encoder changes fast at first


@dataclass
class QuantisedResidual:
    """latent (..., D) the quantised vector, straight through; codes (..., K) int64; commitment a scalar."""

    latent: Tensor
    codes: Tensor
    commitment: Tensor


class ResidualQuantiser(nn.Module):
    """K EMA codebooks of `size` vectors in D dimensions.

    In training a quarter of the items use only the first few codebooks, chosen at random, so that any number of
    codebooks can be decoded (quantiser dropout).
    """

    def __init__(self, codebooks: int, size: int, width: int):
        super().__init__()
        accept_old_names(self, {"books": "codebooks"})
        self.codebooks = nn.ModuleList(VectorQuantiser(size, width, decay=DECAY, dead=DEAD) for _ in range(codebooks))

    def listed(self) -> list[VectorQuantiser]:
        """The codebooks, the coarsest first."""
        return [codebook for codebook in self.codebooks if isinstance(codebook, VectorQuantiser)]

    def forward(self, u: Tensor) -> QuantisedResidual:
        """u (B, F, D)"""
        with torch.autocast(u.device.type, enabled=False):
            u = u.float()
            depth = self.depths(len(u), u.device, FEWER if self.training else 0.0)
            left, latent, codes, commitment = u, torch.zeros_like(u), [], u.new_zeros(())
            for k, codebook in enumerate(self.listed()):
                used = (depth > k)[:, None].expand(u.shape[:2])
                found = codebook(left, used)
                z = codebook.codebook[found.codes] * used[..., None]
                commitment = commitment + (left - z.detach())[used].square().mean()
                latent, left = latent + z, left - z.detach()
                codes.append(found.codes)
            return QuantisedResidual(u + (latent - u).detach(), torch.stack(codes, -1), commitment)

    def depths(self, count: int, device: torch.device, fewer: float) -> Tensor:
        """Number of codebooks that each of `count` items uses, (count,): fewer, drawn, for a share `fewer` of them."""
        whole = torch.full((count,), len(self.codebooks), device=device)
        if not fewer or len(self.codebooks) == 1:
            return whole
        some = torch.randint(1, len(self.codebooks), (count,), device=device)
        return torch.where(torch.rand(count, device=device) < fewer, some, whole)

    def encode(self, u: Tensor, beam: int = 1) -> Tensor:
        """(..., D) -> codes (..., K), beam search of width `beam` over the codebooks; 1 is greedy. A wider beam reduces
        the error, because the nearest code may leave a worse residual.
        """
        flat = u.reshape(-1, u.shape[-1]).float()
        codes = torch.cat([self._search(part, beam) for part in flat.split(_SEARCHED)])
        return codes.reshape(*u.shape[:-1], -1)

    def _search(self, u: Tensor, beam: int) -> Tensor:
        """(n, D) -> (n, K)"""
        left, codes = u[:, None], torch.zeros(len(u), 1, 0, dtype=torch.int64, device=u.device)
        for codebook in self.listed():
            entries = codebook.codebook
            distance = left.square().sum(-1, keepdim=True) - 2 * left @ entries.T + entries.square().sum(-1)
            best = distance.flatten(1).topk(min(beam, distance[0].numel()), largest=False).indices
            before, code = best // len(entries), best % len(entries)
            left = left.take_along_dim(before[..., None], 1) - entries[code]
            codes = torch.cat([codes.take_along_dim(before[..., None], 1), code[..., None]], -1)
        nearest = left.square().sum(-1).argmin(1)
        return codes[torch.arange(len(u), device=u.device), nearest]

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (..., K' <= K) -> (..., D), from the first K' codebooks"""
        parts = [codebook.codebook[codes[..., k]] for k, codebook in enumerate(self.listed()[: codes.shape[-1]])]
        return torch.stack(parts).sum(0)
