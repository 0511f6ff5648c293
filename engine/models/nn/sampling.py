"""Sampling from logits with temperature and nucleus (top-p), in torch. The Composer samples with the NumPy version,
engine.models.composer.generate.sample_top_p."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_top_p(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> Tensor:
    """Draw one class a row from the smallest set of classes whose probability reaches top_p (arXiv 1904.09751).

    logits       (..., K); -inf forbids a class, one class at least is allowed
    temperature  0 takes the likeliest class
    returns      (...) int64
    """
    if temperature <= 0:
        return logits.argmax(-1)
    flat = (logits.float() / temperature).reshape(-1, logits.shape[-1]).softmax(-1)
    if top_p < 1:
        ordered, index = flat.sort(dim=-1, descending=True)
        ordered = ordered.masked_fill(ordered.cumsum(-1) - ordered >= top_p, 0.0)
        flat = torch.zeros_like(flat).scatter(-1, index, ordered)
    return torch.multinomial(flat, 1, generator=generator).reshape(logits.shape[:-1])
