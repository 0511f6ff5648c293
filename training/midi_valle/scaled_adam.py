"""ScaledAdam and the Eden schedule, with which MIDI-VALLE was trained.

After icefall (Povey et al.; "Zipformer", Yao et al. 2023, arXiv 2310.11230, section 3.5): Adam whose step is
proportional to each tensor's root mean square, and which also learns that scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

SCALAR_RATE = 0.1  # of the rate, for scales and for parameters of one number
MIN_RMS, MAX_RMS, MAX_SCALAR = 1e-5, 3.0, 10.0
SIZE_PERIOD = 4  # steps between two updates of the scales
EPS = 1e-8


def eden(batch: int, epoch: float, warm_up: int = 20, batches: float = 5000, epochs: float = 4) -> float:
    """Share of the base rate after `batch` micro-batches and `epoch` epochs.

    >>> round(eden(0, 0), 3), round(0.05 * eden(5000, 0), 3), round(0.05 * eden(50000, 4), 3)
    (0.5, 0.042, 0.013)
    """
    fall = ((batch**2 + batches**2) / batches**2) ** -0.25 * ((epoch**2 + epochs**2) / epochs**2) ** -0.25
    return fall * min(0.5 + 0.5 * batch / max(warm_up, 1), 1.0)


class ScaledAdam(torch.optim.Optimizer):
    """Adam with steps of rate times each tensor's own size; scales are learned in log space.

    clipping_scale   gradients are clipped at this multiple of the median norm over the last `clipping_period` steps; in
                     the norm, each tensor is weighted by its root mean square. None for no clipping
    clip_all         clip the gradients of the tensors too. The published code clips only those of the scales, because
                     it does not pass on the clipped gradient (False)
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 0.05, betas: tuple[float, float] = (0.9, 0.95),
        clipping_scale: float | None = 2.0, clipping_period: int = 1000, clip_all: bool = False,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "betas": betas, "clipping_scale": clipping_scale}
        super().__init__(params, defaults | {"clipping_period": clipping_period, "clip_all": clip_all})
        for group in self.param_groups:
            group["norms"], group["threshold"] = list[float](), None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; a parameter without gradient counts as one whose gradient is 0."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            params = [p for p in group["params"] if p.requires_grad]
            grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in params]
            clip = self._clip(group, params, grads)
            for p, grad in zip(params, grads):
                self._update(group, p, grad, clip)
        return loss

    def _clip(self, group: dict[str, Any], params: list[nn.Parameter], grads: list[Tensor]) -> float:
        """Factor of the gradients: 1, or less if their norm exceeds the threshold."""
        if group["clipping_scale"] is None or not params or "step" not in self.state[params[0]]:
            return 1.0
        parts = [(g * (self.state[p]["rms"] if p.numel() > 1 else 1.0)).square().sum() for p, g in zip(params, grads)]
        norm, step, period = (
            float(torch.stack(parts).sum().sqrt()),
            self.state[params[0]]["step"],
            group["clipping_period"],
        )
        group["norms"] = [*group["norms"], norm][-period:]
        if step % period == 0:
            ordered = sorted([0.0] * (period - len(group["norms"])) + group["norms"])
            group["threshold"] = group["clipping_scale"] * ordered[min(period - 1, period // 4 * 2)]
        return min(1.0, group["threshold"] / (norm + 1e-20)) if step >= period and group["threshold"] else 1.0

    def _update(self, group: dict[str, Any], p: nn.Parameter, grad: Tensor, clip: float) -> None:
        state = self.state[p]
        if not state:
            state |= {"step": 0, "delta": torch.zeros_like(p), "square": torch.zeros_like(p)}
            if p.numel() > 1:
                state["rms"] = p.square().mean().sqrt()
                state["scale_square"], state["scale_grads"] = torch.zeros_like(state["rms"]), p.new_zeros(SIZE_PERIOD)
        step, (beta1, beta2) = state["step"], group["betas"]
        state["delta"] *= beta1
        if p.numel() > 1:
            state["scale_grads"][step % SIZE_PERIOD] = clip * (p * grad).sum()
            if step % SIZE_PERIOD == SIZE_PERIOD - 1:
                state["rms"].copy_(p.square().mean().sqrt())
                self._rescale(group, p, state)
        if group["clip_all"]:
            grad = grad * clip
        state["square"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        correction = 1 - beta2 ** (step + 1)
        if p.numel() > 1:
            square = state["square"] / correction if correction < 0.99 else state["square"]
            size = group["lr"] * state["rms"].clamp(min=MIN_RMS)
        else:
            square, size = state["square"] / correction, group["lr"] * SCALAR_RATE
            p.clamp_(-MAX_SCALAR, MAX_SCALAR)
        state["delta"] -= (1 - beta1) * size * grad / (square.sqrt() + EPS)
        p += state["delta"]
        state["step"] = step + 1

    def _rescale(self, group: dict[str, Any], p: nn.Parameter, state: dict[str, Any]) -> None:
        """Update the tensor's scale: an Adam step on s, with the tensor multiplied by exp(s)."""
        beta1, beta2 = group["betas"][0], group["betas"][1] ** SIZE_PERIOD
        rate, grads = group["lr"] * SCALAR_RATE, state["scale_grads"]
        state["scale_square"].mul_(beta2).add_((1 - beta2) * grads.square().mean())
        correction = 1 - beta2 ** ((state["step"] + 1) // SIZE_PERIOD)
        by = -rate * correction**0.5 * grads.sum() / (state["scale_square"].sqrt() + EPS)
        if state["rms"] < MIN_RMS:
            by = torch.zeros_like(by)
        elif state["rms"] > MAX_RMS:
            by = torch.full_like(by, -rate * SIZE_PERIOD)
        state["delta"].add_(p * by, alpha=1 - beta1)
