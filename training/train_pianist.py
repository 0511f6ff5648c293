"""Train the Pianist: `python -m training.train_pianist --pack data/pianist-v1.npz --out runs/pianist --minutes 60`.

Needs torch, numpy and the pack. Resumes from OUT/last.pt when it is there, saves every few minutes, stops cleanly
after --minutes. Progress goes to OUT/log.jsonl, one line a report. Data parallel under
`torchrun --nproc_per_node N -m training.train_pianist ...`: each process draws its own batches, gradients are averaged.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.models.pianist import ARTICULATION, PEDAL, TEMPO, TIMING, VELOCITY, Pianist, PianistConfig
from engine.models.style import AXES
from training.batches import Corpus, Expected, make_batch
from training.loop import add_arguments, average_gradients, join_processes, prefetch
from training.pack import Pack

CHANNEL_WEIGHT = (1.5, 1.5, 1.0, 1.0, 0.25, 0.25, 0.25, 0.25)
WARM_UP_STEPS = 200
_MEASURED = {"tempo": TEMPO, "velocity": VELOCITY, "timing": TIMING, "articulation": ARTICULATION, "pedal": PEDAL.start}
_VALIDATION_BATCH = 16


def losses(model: Pianist, b: dict[str, Tensor], train: bool = True, kl_weight: float = 0.01) -> dict[str, Tensor]:
    """Flow matching, axis regression and KL terms of one batch; `loss` is their weighted sum."""
    x, valid, played = b["x"], b["valid"], b["played"]
    size, device = len(x), x.device
    angle = model.angles(b["onset"])
    h = model.read(b["category"], b["value"], angle, valid)
    mean, log_variance = model.style(h, x, played, angle, valid)
    mean, log_variance = mean.float(), log_variance.float()
    axes_mean, free_mean = mean[:, : len(AXES)], mean[:, len(AXES) :]
    axis_error = (axes_mean - b["axes"]) ** 2 * b["axes_known"]
    axis_loss = axis_error.sum() / b["axes_known"].sum().clamp(min=1)
    kl = 0.5 * (free_mean**2 + log_variance.exp() - 1 - log_variance)
    kl_loss = kl.clamp(min=0.1).sum(1).mean()
    free = free_mean + torch.randn_like(free_mean) * (0.5 * log_variance).exp() * float(train)
    # half of the time the axes carry what was measured, so that a slider means what it says
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
    return {"loss": loss, "flow": flow, "axes": axis_loss, "kl": kl.sum(1).mean()}


@torch.inference_mode()
def validate(
    model: Pianist, corpus: Corpus, expected: Expected, window: int, device: str, count: int = 96
) -> dict[str, float]:
    """Held-out figures on `count` fixed windows.

    flow and axes are losses; r_... is the mean correlation of the expected values in the default style with what was
    played.
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
        for name, channel in _MEASURED.items():
            for k, ok in enumerate((b["valid"] & b["played"]).cpu()):
                pair = np.stack([mean[k, :, channel][ok], played[k, :, channel][ok]])
                if pair.std(axis=1).min() > 1e-6:
                    found[f"r_{name}"].append(float(np.corrcoef(pair)[0, 1]))
    return {k: float(np.mean(v)) for k, v in found.items()}


def expected_values(model: Pianist, b: dict[str, Tensor]) -> Tensor:
    """The field at t = 0 in the default style, from the batch's noise: what the model expects, (B, T, 8)."""
    size, device = len(b["x"]), b["x"].device
    angle = model.angles(b["onset"])
    h = model.read(b["category"], b["value"], angle, b["valid"])
    z = torch.zeros(size, model.config.style_size + 1, device=device)
    z[:, -1] = 1
    none, start = torch.zeros_like(b["known"]), torch.zeros(size, device=device)
    return b["noise"] + model.velocity_field(h, b["noise"], start, z, b["x"], none, angle, b["valid"]).float()


class Run:
    """A model in training: its weights, their moving average, the optimizer, and how far it has come.

    step     optimizer steps, over all sessions
    seconds  time trained, over all sessions
    """

    def __init__(self, config: PianistConfig, rate: float, device: str):
        self.model, self.average = Pianist(config).to(device), Pianist(config).to(device)
        self.average.load_state_dict(self.model.state_dict())
        decay = [p for p in self.model.parameters() if p.ndim >= 2]
        plain = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": decay, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
        self.device, self.step, self.seconds = device, 0, 0.0

    def resume(self, path: Path) -> None:
        """Go on from a saved state; nothing happens when there is none."""
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self, path: Path) -> None:
        """Write the state so that an interruption leaves the old one or the new one."""
        parts = {"model": self.model, "average": self.average, "optimizer": self.optimizer}
        state = {k: part.state_dict() for k, part in parts.items()} | {"step": self.step, "seconds": self.seconds}
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def learn(self, batch: dict[str, Tensor], rate: float, ema: float, done: bool) -> tuple[dict[str, float], bool]:
        """One optimizer step; returns the loss terms and whether to stop, as the first process says."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
        self.model.train()
        with torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16):
            parts = losses(self.model, batch)
        self.optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        stop = average_gradients(self.model, done, self.device)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for a, p in zip(self.average.parameters(), self.model.parameters(), strict=True):
                a.lerp_(p, 1 - keep)
        return {k: float(v.detach()) for k, v in parts.items()}, stop


def learning_rate(top: float, step: int, progress: float) -> float:
    """A warm-up over the first steps, then a cosine down to 3 % of `top` at progress 1."""
    warm = min((step + 1) / WARM_UP_STEPS, 1.0)
    return top * warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def report(run: Run, args: argparse.Namespace, pack: Pack, recent: list[dict], figures: dict, world: int) -> None:
    """Print and log where the run stands, and save it: log.jsonl, last.pt, config.json."""
    mean = {k: float(np.mean([r[k] for r in recent])) for k in recent[0]} if recent else {}
    notes = run.step * args.batch * run.model.config.window * world
    line = {"step": run.step, "minutes": round(run.seconds / 60, 2), "notes": notes}
    line |= {"train": mean, "validation": figures}
    with open(args.out / "log.jsonl", "a") as f:
        f.write(json.dumps(line) + "\n")
    short = {k: ({a: round(b, 4) for a, b in v.items()} if isinstance(v, dict) else v) for k, v in line.items()}
    print(json.dumps(short), flush=True)
    run.save(args.out / "last.pt")
    about = {"model": run.model.config.to_json(), "pack": pack.digest, "step": run.step, "minutes": run.seconds / 60}
    about |= {"args": {k: str(v) for k, v in vars(args).items()}, "validation": figures}
    (args.out / "config.json").write_text(json.dumps(about, indent=1))


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
    rank, world, device = join_processes()
    args.out.mkdir(parents=True, exist_ok=True)
    pack = Pack(args.pack)
    train, held_out = Corpus(pack, "train", args.limit), Corpus(pack, "validation", args.limit)
    config = PianistConfig(
        width=args.width, feed_forward=args.width * 8 // 3, score_layers=args.score_layers, flow_layers=args.flow_layers
    )
    expected = Expected.fit(train, config.window)
    torch.manual_seed(args.seed)
    run = Run(config, args.rate, device)
    run.resume(args.out / "last.pt")
    if rank == 0:
        size = sum(p.numel() for p in run.model.parameters()) / 1e6
        played = f"{len(train)} train and {len(held_out)} validation performances"
        print(f"{device} x {world}, {size:.2f} M parameters, {played}, step {run.step}, pack {pack.digest}", flush=True)
    # a seed for each process and each resumption, so that no batch is drawn twice
    rng = np.random.default_rng([args.seed, run.step, rank])
    torch.manual_seed(args.seed + 1000 * rank + run.step)
    batches = prefetch(lambda: make_batch(train, expected, rng, args.batch, config.window, augment=True))
    schedule = 60 * (args.schedule_minutes or args.minutes)
    trained, began = run.seconds, time.monotonic()
    saved, stop, recent = began, False, []
    while not stop:
        run.seconds = trained + time.monotonic() - began
        done = run.step + 1 >= args.steps if args.steps else run.seconds - trained >= 60 * args.minutes
        progress = run.step / args.steps if args.steps else run.seconds / schedule
        rate = learning_rate(args.rate, run.step, progress)
        parts, stop = run.learn(next(batches), rate, args.ema, done)
        recent.append(parts)
        if rank == 0 and (stop or time.monotonic() - saved > 60 * args.save_minutes):
            figures = validate(run.average, held_out, expected, config.window, device)
            report(run, args, pack, recent, figures, world)
            recent.clear()
            saved = time.monotonic()


if __name__ == "__main__":
    main()
