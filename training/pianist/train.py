"""Train the Pianist: `python -m training.pianist.train --pack data/pianist-v1.npz --out runs/pianist --minutes 60`.

Needs torch, numpy and the pack (`training.pianist.prepare`). The loop, its options and its files: `training.core.loop`.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor, nn

from engine.models.pianist.pianist import ARTICULATION, EXPECTED, PEDAL, TEMPO, TIMING, VELOCITY, Pianist, PianistConfig
from engine.models.pianist.style import AXES
from training.core.loop import Optimizers, Run, add_arguments, join_processes, train
from training.pianist.batches import DescriptorRegression, PianistCorpus, make_batch
from training.pianist.pack import Pack

CHANNEL_WEIGHT = (1.5, 1.5, 1.0, 1.0, 0.25, 0.25, 0.25, 0.25)
WARM_UP_STEPS = 200
_MEASURED = {"tempo": TEMPO, "velocity": VELOCITY, "timing": TIMING, "articulation": ARTICULATION, "pedal": PEDAL.start}
_VALIDATION_BATCH = 16


def losses(model: Pianist, b: dict[str, Tensor], train: bool = True, kl_weight: float = 0.01) -> dict[str, Tensor]:
    """Flow matching, axis regression and KL terms of one batch; `loss` is their weighted sum."""
    return losses_and_style(model, b, train, kl_weight)[0]


def losses_and_style(
    model: Pianist, b: dict[str, Tensor], train: bool = True, kl_weight: float = 0.01
) -> tuple[dict[str, Tensor], Tensor]:
    """The terms of `losses`, and the mean (B, Z) of z_p that they were computed with."""
    x, valid, played = b["x"], b["valid"], b["played"]
    size, device = len(x), x.device
    angle = model.angles(b["onset"])
    h = model.read(b["category"], b["value"], angle, valid, b.get("expected"))
    mean, log_variance = model.style(model.style_context(h, b["value"]), x, played, angle, valid)
    mean, log_variance = mean.float(), log_variance.float()
    axes_mean, free_mean = mean[:, : len(AXES)], mean[:, len(AXES) :]
    axis_error = (axes_mean - b["axes"]) ** 2 * b["axes_known"]
    axis_loss = axis_error.sum() / b["axes_known"].sum().clamp(min=1)
    kl = 0.5 * (free_mean**2 + log_variance.exp() - 1 - log_variance)
    kl_loss = kl.clamp(min=0.1).sum(1).mean()
    free = free_mean + torch.randn_like(free_mean) * (0.5 * log_variance).exp() * float(train)
    # with probability 0.5 the axes are set to the measured descriptors, so that the sliders control them
    measured = (torch.rand(size, 1, device=device) < 0.5) & b["axes_known"]
    axes = torch.where(measured, b["axes"], axes_mean)
    given = (torch.rand(size, 1, device=device) > 0.12).float() if train else torch.ones(size, 1, device=device)
    keep_free = (torch.rand(size, 1, device=device) > 0.3).float()
    z = torch.cat([torch.cat([axes, free * keep_free], dim=1) * given, given], dim=1)
    t = torch.where(
        torch.rand(size, device=device) < 0.4, torch.zeros(size, device=device), torch.rand(size, device=device)
    )
    x_t = (1 - t[:, None, None]) * b["noise"] + t[:, None, None] * x
    v = model.velocity_field(h, x_t, t, z, x, b["known"], angle, valid).float()
    error = (v - (x - b["noise"])) ** 2
    mask = (valid & played & ~b["known"])[..., None].float()
    weight = torch.tensor(CHANNEL_WEIGHT, device=device)
    per_channel = (error * mask).sum((0, 1)) / mask.sum().clamp(min=1)
    flow = (per_channel * weight).sum() / weight.sum()
    loss = flow + 0.1 * axis_loss + kl_weight * kl_loss
    return {"loss": loss, "flow": flow, "axes": axis_loss, "kl": kl.sum(1).mean()}, mean


@torch.inference_mode()
def validate(
    model: Pianist, corpus: PianistCorpus, expected: DescriptorRegression, window: int, device: str, count: int = 96
) -> dict[str, float]:
    """Held-out figures on `count` fixed windows.

    flow and axes are losses; r_... is the mean correlation of the expected values in the default style with the
    performance.
    """
    model.eval()
    rng = np.random.default_rng(1)
    torch.manual_seed(0)
    found: dict[str, list[float]] = {k: [] for k in ("flow", "axes", *(f"r_{name}" for name in _MEASURED))}
    for _ in range(count // _VALIDATION_BATCH):
        b = make_batch(corpus, expected, rng, _VALIDATION_BATCH, window, augment=False)
        b = {k: v.to(device) for k, v in b.items()}
        parts = losses(model, b, train=False)
        found["flow"].append(float(parts["flow"]))
        found["axes"].append(float(parts["axes"]))
        mean, played = expected_values(model, b).cpu(), b["x"].cpu()
        if "expected" in b:  # x is the performance minus the expected values
            base = torch.zeros_like(played)
            base[..., EXPECTED] = b["expected"].cpu()
            mean, played = mean + base, played + base
        for name, channel in _MEASURED.items():
            for k, ok in enumerate((b["valid"] & b["played"]).cpu()):
                pair = np.stack([mean[k, :, channel][ok], played[k, :, channel][ok]])
                if pair.std(axis=1).min() > 1e-6:
                    found[f"r_{name}"].append(float(np.corrcoef(pair)[0, 1]))
    return {k: float(np.mean(v)) for k, v in found.items()}


def expected_values(model: Pianist, b: dict[str, Tensor]) -> Tensor:
    """Expected values (B, T, 8): the field at t = 0 in the default style, from the batch's noise."""
    size, device = len(b["x"]), b["x"].device
    angle = model.angles(b["onset"])
    h = model.read(b["category"], b["value"], angle, b["valid"], b.get("expected"))
    z = torch.zeros(size, model.config.style_size + 1, device=device)
    z[:, -1] = 1
    none, start = torch.zeros_like(b["known"]), torch.zeros(size, device=device)
    return b["noise"] + model.velocity_field(h, b["noise"], start, z, b["x"], none, angle, b["valid"]).float()


def adamw(model: nn.Module, rate: float) -> Optimizers:
    """AdamW for everything: the published Pianist was trained with it."""
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, "data/pianist-v1.npz", "runs/pianist")
    parser.add_argument("--width", type=int, default=PianistConfig.width)
    parser.add_argument("--score-layers", type=int, default=PianistConfig.score_layers)
    parser.add_argument("--flow-layers", type=int, default=PianistConfig.flow_layers)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    rank, _, device = join_processes()
    pack = Pack(args.pack)
    learnt, held_out = PianistCorpus(pack, "train", args.limit), PianistCorpus(pack, "validation", args.limit)
    config = PianistConfig(
        width=args.width, feed_forward=args.width * 8 // 3, score_layers=args.score_layers, flow_layers=args.flow_layers
    )
    expected = DescriptorRegression.fit(learnt, config.window)
    torch.manual_seed(args.seed)
    run = Run(Pianist(config), args.rate, device, lambda: Pianist(config), adamw)
    run.resume(args.out / "last.pt")
    # a seed for each process and each resumption, so that no batch is drawn twice
    rng = np.random.default_rng([args.seed, run.step, rank])
    torch.manual_seed(args.seed + 1000 * rank + run.step)
    about = {"kind": "pianist", "model": config.to_json(), "pack": pack.digest}
    train(
        run, args, lambda: make_batch(learnt, expected, rng, args.batch, config.window, augment=True), losses,
        lambda model: validate(model, held_out, expected, config.window, device), about, WARM_UP_STEPS,
    )  # fmt: skip


if __name__ == "__main__":
    main()
