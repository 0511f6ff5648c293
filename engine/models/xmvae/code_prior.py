"""The prior over XMVAE's code sequences: a decoder-only transformer (our choice; arXiv 2507.01582 specifies none)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.models.nn.sampling import sample_top_p
from engine.models.xmvae.layers import TemporalDecoder, sinusoids

IGNORED = -100


@dataclass(frozen=True)
class PriorConfig:
    """Shape of the prior; num_codes is the codebook's. Two more tokens are begin and end."""

    num_codes: int = 512
    width: int = 512
    heads: int = 8
    feed_forward: int = 2048
    layers: int = 8
    dropout: float = 0.1

    @property
    def begin(self) -> int:
        return self.num_codes

    @property
    def end(self) -> int:
        return self.num_codes + 1

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def small(cls, num_codes: int = 512) -> PriorConfig:
        """A size that trains in minutes on a CPU."""
        return cls(num_codes, width=128, heads=2, feed_forward=384, layers=3, dropout=0.0)


class CodePrior(nn.Module):
    """p(codes) = prod_i p(code_i | code_<i)."""

    def __init__(self, config: PriorConfig = PriorConfig()):
        super().__init__()
        self.config = c = config
        self.embed = nn.Embedding(c.num_codes + 2, c.width)
        nn.init.normal_(self.embed.weight, std=0.5)
        self.decoder = TemporalDecoder(c.width, c.heads, c.feed_forward, c.layers, c.dropout, with_memory=False)
        self.head = nn.Linear(c.width, c.num_codes + 2)

    @torch.no_grad()
    def begin_near(self, codebook: Tensor) -> None:
        """Initialise the embeddings from the codebook (K, D), so that near codes have near embeddings."""
        spread = (codebook - codebook.mean(0)) / codebook.std(0).clamp(min=1e-6)
        turned = spread @ torch.randn(codebook.shape[1], self.config.width) / codebook.shape[1] ** 0.5
        self.embed.weight[: self.config.num_codes] = 0.5 * turned

    def forward(self, codes: Tensor) -> Tensor:
        """Scores of each code from those before it: (B, T) -> (B, T + 1, K + 2), the last row predicts the next
        code."""
        c = self.config
        x = self.embed(F.pad(codes, (1, 0), value=c.begin))
        return self.head(self.decoder(x + sinusoids(x.shape[1], c.width, x.device)))

    def loss(self, codes: Tensor, pad: Tensor) -> Tensor:
        """Nats a code, the end included; codes (B, T), pad (B, T) bool at the end of rows."""
        return self._cross_entropy(codes, pad, "mean")

    def nats(self, codes: Tensor, pad: Tensor) -> Tensor:
        """Nats of each sequence with its end, (B,); arguments as of `loss`."""
        return self._cross_entropy(codes, pad, "none").view(len(codes), -1).sum(1)

    def _cross_entropy(self, codes: Tensor, pad: Tensor, reduction: str) -> Tensor:
        length = (~pad).sum(1, keepdim=True)
        wanted = F.pad(codes.masked_fill(pad, IGNORED), (0, 1), value=IGNORED)
        wanted = wanted.scatter(1, length, self.config.end)
        score = self(codes.masked_fill(pad, 0))
        return F.cross_entropy(score.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction=reduction)

    @torch.inference_mode()
    def sample(
        self, n: int, generator: torch.Generator, max_steps: int = 512, temperature: float = 1.0, top_p: float = 0.95,
        min_steps: int = 1, progress: Callable[[int], None] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """n code sequences: codes (n, T), pad (n, T) bool after each one's end; T is the longest, at most max_steps.

        progress  called with the number of codes written; an exception it raises stops
        """
        c = self.config
        self.eval()
        cache = self.decoder.cache(n, max_steps + 1)
        position = sinusoids(max_steps + 1, c.width, self.head.weight.device)
        last = torch.full((n,), c.begin, device=position.device)
        going, codes, pads = torch.ones_like(last, dtype=torch.bool), [], []
        for i in range(max_steps):
            score = self.head(self.decoder.step(self.embed(last) + position[i], cache))
            score[:, c.begin] = -torch.inf
            if i < min_steps:
                score[:, c.end] = -torch.inf
            last = sample_top_p(score, temperature, top_p, generator)
            going = going & (last != c.end)
            if not going.any():
                break
            last = torch.where(going, last, 0)
            codes.append(last)
            pads.append(~going)
            if progress is not None:
                progress(i + 1)
        return torch.stack(codes, 1), torch.stack(pads, 1)

    @torch.inference_mode()
    def redrawn(
        self, codes: Tensor, chosen: Tensor, generator: torch.Generator, temperature: float = 1.0, top_p: float = 0.95
    ) -> Tensor:
        """Codes (T,) with those `chosen`, (T,) bool, sampled again from left to right, given all previous codes."""
        c = self.config
        self.eval()
        cache = self.decoder.cache(1, len(codes) + 1)
        position = sinusoids(len(codes) + 1, c.width, self.head.weight.device)
        out, last = codes.clone(), torch.tensor([c.begin])
        for i in range(len(codes)):
            score = self.head(self.decoder.step(self.embed(last) + position[i], cache))
            if chosen[i]:
                score[:, c.num_codes :] = -torch.inf  # neither begin nor end
                out[i] = sample_top_p(score, temperature, top_p, generator)[0]
            last = out[i : i + 1]
        return out
