"""int8 linear layers on CPUs: weights quantised per row, activations dynamically.

Decoding steps are memory-bound, and int8 reads a quarter of the memory. Kernels are torch's (fbgemm, oneDNN). CPUs
without VNNI sum pairs of products in 16 bits, which can overflow: there, activations use 7 bits.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn


def sums_overflow() -> bool:
    """Whether int8 sums can overflow on this CPU, so that activations need 7 bits."""
    return not getattr(torch.cpu, "_is_vnni_supported", lambda: False)()


class Int8Linear(nn.Module):
    """y = W x + b with W in int8, one scale a row; x is quantised by its own range at every call."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scale = (weight.detach().abs().amax(1) / 127).clamp(min=1e-12).double()
        zero = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's deprecation warning
            rounded = torch.quantize_per_channel(weight.detach().float(), scale, zero, 0, torch.qint8)
        self.spare_bit = sums_overflow()
        self.packed = torch.ops.quantized.linear_prepack(rounded, None if bias is None else bias.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic(x, self.packed, self.spare_bit)


def quantise(model: nn.Module) -> nn.Module:
    """Replace every linear layer and attention projection of a model by its int8 form, in place; for inference only.

    An attention projection is `in_proj_weight` and `in_proj_bias` of a module whose `fast` is None; `fast` receives it.
    """
    for module in list(model.modules()):
        if getattr(module, "fast", module) is None and hasattr(module, "in_proj_weight"):
            module.fast = Int8Linear(module.in_proj_weight, module.in_proj_bias)
            module.in_proj_weight = None  # type: ignore[assignment]
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, Int8Linear(child.weight, child.bias))
    return model
