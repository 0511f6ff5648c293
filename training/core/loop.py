"""The training loop of all models: mixed precision, moving average, resumption, data parallel, logs.

A model is trained by `train`, given a function that makes batches and one that computes losses. OUT/last.pt holds the
state and is resumed from; OUT/log.jsonl has one line a report (tensorboard events beside it, where that is installed);
OUT/config.json records the settings. Under `torchrun --nproc_per_node N` each process draws its own batches and
gradients are averaged.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.core.pausing import wait_while_paused

Batch = dict[str, Tensor]
Losses = Callable[[nn.Module, Batch], Batch]
_MALLOC = {"hugetlb": 1, "mmap_max": 0, "trim_threshold": 10**11, "top_pad": 2**28}
WARM_UP_STEPS = 100
LAST_RATE = 0.03  # of the top rate, where the cosine ends


def add_arguments(parser: argparse.ArgumentParser, pack: str, out: str) -> None:
    """Add the options common to all training commands."""
    parser.add_argument("--pack", type=Path, default=Path(pack))
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--minutes", type=float, default=30.0, help="stop after this long")
    parser.add_argument("--steps", type=int, default=0, help="stop at this many steps, and schedule by steps")
    schedule = "length of the cosine schedule, over all sessions (default: --minutes)"
    parser.add_argument("--schedule-minutes", type=float, default=0.0, help=schedule)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save-minutes", type=float, default=4.0)
    parser.add_argument("--limit", type=int, default=0, help="use only this many pieces (rehearsal)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-compile", action="store_true", help="run the losses eagerly")


def join_processes() -> tuple[int, int, str]:
    """(rank, world, device) of this process; under torchrun it joins the others."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device != "cpu" else "gloo")
    return rank, world, device


def compile_layers(model: nn.Module) -> None:
    """Compile the repeated layers of a model in place (torch.compile), and its `sub` decoder if it has one.

    Layers of one shape share their code, so this takes a minute where the whole model takes many. Does nothing where
    no C++ compiler is found.
    """
    if not (torch.cuda.is_available() or any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++")))):
        print("no C++ compiler found: training runs without torch.compile, about a third slower", flush=True)
        return
    for module in model.modules():
        for layer in module if isinstance(module, nn.ModuleList) else ():
            if not isinstance(layer, (nn.Embedding, nn.Linear, nn.ModuleList)):
                layer.compile()
    if isinstance(getattr(model, "sub", None), nn.Module):
        model.sub.compile()  # type: ignore[operator]


def reserve_memory() -> None:
    """Restart this process with an allocator that keeps large buffers instead of returning them to the system.

    With glibc's defaults each large tensor is mapped and cleared again at every use: a fifth of a step's time. Does
    nothing where the variable is set already.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = ":".join(f"glibc.malloc.{k}={v}" for k, v in _MALLOC.items())
        os.execv(sys.executable, sys.orig_argv)


def prefetch(make: Callable[[], Batch], depth: int = 4) -> Iterator[Batch]:
    """Batches made ahead in one thread, in order; exceptions there are raised here."""
    with ThreadPoolExecutor(1) as pool:
        ready = deque(pool.submit(make) for _ in range(depth))
        while True:
            ready.append(pool.submit(make))
            yield ready.popleft().result()


def average_gradients(model: nn.Module, done: bool, device: str) -> bool:
    """Average gradients over all processes; returns whether the first process has run out of time."""
    if not dist.is_initialized():
        return done
    flag = torch.tensor([float(done and dist.get_rank() == 0)], device=device)
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters() if p.requires_grad]
    flat = torch.cat([*(g.flatten() for g in gradients), flag])
    dist.all_reduce(flat)
    flat, stop = flat[:-1] / dist.get_world_size(), bool(flat[-1] > 0)
    at = 0
    for p in (p for p in model.parameters() if p.requires_grad):
        p.grad = flat[at : at + p.numel()].view_as(p).clone()
        at += p.numel()
    return stop


def learning_rate(step: int, progress: float, warm_up: int = WARM_UP_STEPS) -> float:
    """Share of the top rate: a warm-up over the first steps, then a cosine down to 3 % at progress 1."""
    warm = min((step + 1) / warm_up, 1.0)
    return warm * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


Optimizers = list[torch.optim.Optimizer]


def muon_and_adamw(model: nn.Module, rate: float) -> Optimizers:
    """Weight matrices are moved by Muon (Jordan et al. 2024, with AdamW's step size), embeddings, gains and biases by
    AdamW.
    """
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim == 2 and id(p) not in embeddings and min(p.shape) > 1]
    chosen = {id(p) for p in matrices}
    rest = [p for p in trained if id(p) not in chosen]
    optimizers: Optimizers = [torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)]
    if matrices and hasattr(torch.optim, "Muon"):
        optimizers.append(torch.optim.Muon(matrices, lr=rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"))
    elif matrices:
        optimizers.append(torch.optim.AdamW(matrices, lr=rate, betas=(0.9, 0.98), weight_decay=0.02))
    return optimizers


def follow(average: nn.Module, model: nn.Module, keep: float) -> None:
    """EMA update of the weights with decay `keep`; buffers are copied."""
    with torch.no_grad():
        for a, p in zip(average.parameters(), model.parameters(), strict=True):
            a.lerp_(p, 1 - keep)
        for a, p in zip(average.buffers(), model.buffers(), strict=True):
            a.copy_(p)


def write_state(state: dict, path: Path) -> None:
    """Write the state so that an interruption leaves the old one or the new one."""
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


class Run:
    """A model in training: weights, their moving average, optimisers and progress.

    `step` and `seconds` count over all sessions.
    """

    def __init__(
        self, model: nn.Module, rate: float, device: str, make: Callable[[], nn.Module],
        optimizers: Callable[[nn.Module, float], Optimizers] = muon_and_adamw,
    ):  # fmt: skip
        self.model, self.average = model.to(device), make().to(device)
        self.average.load_state_dict(self.model.state_dict())
        self.optimizers = optimizers(self.model, rate)
        self.rate, self.device, self.step, self.seconds = rate, device, 0, 0.0
        self.warmed_from = 0

    def resume(self, path: Path) -> None:
        """Resume from a saved state, if there is one.

        A state without optimizers comes from an exported bundle (`training.core.bundles`): the rate warms up again.
        """
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if "optimizers" not in state:
            self._continue_from_weights(state)
            return
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]

    def _continue_from_weights(self, state: dict) -> None:
        """Start from the weights of an exported bundle, at its step, with new optimisers and a new warm-up."""
        for model in (self.model, self.average):
            missing = model.load_state_dict(state["average"], strict=False).missing_keys
            if missing:
                raise ValueError(f"the bundle has no weights {', '.join(missing[:3])}; it is of another model")
        self.step, self.seconds, self.warmed_from = state["step"], state["seconds"], state["step"]
        print(f"continues from exported weights at step {self.step}; new optimizers and a new warm-up", flush=True)

    def save(self, path: Path) -> None:
        """Write the state to be resumed from."""
        state = {"model": self.model.state_dict(), "average": self.average.state_dict()}
        state |= {"optimizers": [o.state_dict() for o in self.optimizers], "step": self.step, "seconds": self.seconds}
        write_state(state, path)

    def learn(
        self, batch: Batch, losses: Losses, share: float, ema: float, done: bool
    ) -> tuple[dict[str, float], bool]:
        """One optimizer step at `share` of the top rate; returns the loss terms and whether to stop."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.rate * share
        batch = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
        self.model.train()
        with torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16):
            parts = losses(self.model, batch)
        self.model.zero_grad(set_to_none=True)
        parts["loss"].backward()
        stop = average_gradients(self.model, done, self.device)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if torch.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
        self.step += 1
        follow(self.average, self.model, min(ema, (1 + self.step) / (10 + self.step)))
        return {k: float(v.detach()) for k, v in parts.items()}, stop


def drop_lines_after(log: Path, step: int) -> None:
    """Drop the lines of a run's log after a step, and a last line that was not written whole."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            continue
    made = log.with_suffix(".tmp")
    made.write_text("".join(kept))
    made.replace(log)


class Reporter:
    """Writes the progress of a run: a line to the screen and OUT/log.jsonl, OUT/config.json, tensorboard events.

    Lines of OUT/log.jsonl after `step` are dropped: a run that was killed between a line and its save repeats them.
    """

    def __init__(self, args: argparse.Namespace, about: dict, step: int):
        self.args, self.about, self.recent = args, about, list[dict[str, float]]()
        drop_lines_after(args.out / "log.jsonl", step)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(str(args.out / "tensorboard"))

    def report(self, run: Run, figures: dict[str, float]) -> None:
        """Report the mean loss terms since the last report and the held-out `figures`; save the run."""
        names = self.recent[-1] if self.recent else {}
        mean = {k: float(np.mean([r[k] for r in self.recent if k in r])) for k in names}
        self.recent.clear()
        line = {"step": run.step, "minutes": round(run.seconds / 60, 2), "train": mean, "validation": figures}
        with open(self.args.out / "log.jsonl", "a") as f:
            f.write(json.dumps(line) + "\n")
        short = {k: ({a: round(b, 4) for a, b in v.items()} if isinstance(v, dict) else v) for k, v in line.items()}
        print(json.dumps(short), flush=True)
        for group, values in (("train", mean), ("validation", figures)):
            for name, value in values.items():
                if self.board is not None:
                    self.board.add_scalar(f"{group}/{name}", value, run.step)
        run.save(self.args.out / "last.pt")
        state = {"step": run.step, "minutes": run.seconds / 60, "validation": figures}
        state |= {"args": {k: str(v) for k, v in vars(self.args).items()}}
        (self.args.out / "config.json").write_text(json.dumps(self.about | state, indent=1))


def train(
    run: Run,
    args: argparse.Namespace,
    make_batch: Callable[[], Batch],
    losses: Losses,
    validate: Callable[[nn.Module], dict[str, float]],
    about: dict,
    warm_up: int = WARM_UP_STEPS,
) -> None:
    """Train until --minutes have passed or --steps are reached.

    make_batch  one training batch on the CPU
    losses      (model, batch) -> named scalar tensors; "loss" is minimised
    validate    (averaged model) -> held-out figures
    about       entries of config.json besides the arguments: "model" (the model's shape), "kind", "pack", ...
    """
    rank = dist.get_rank() if dist.is_initialized() else 0
    args.out.mkdir(parents=True, exist_ok=True)
    reporter = Reporter(args, about, run.step) if rank == 0 else None
    if reporter:
        size = sum(p.numel() for p in run.model.parameters()) / 1e6
        print(f"{run.device}, {size:.2f} M parameters, step {run.step}, {about.get('pack', '')}", flush=True)
    if not args.no_compile:
        compile_layers(run.model)
    batches = prefetch(make_batch)
    schedule = 60 * (args.schedule_minutes or args.minutes)
    trained, began = run.seconds, time.monotonic()
    saved, stop = began, bool(args.steps) and run.step >= args.steps
    while not stop:
        paused = wait_while_paused()
        began, saved = began + paused, saved + paused
        run.seconds = trained + time.monotonic() - began
        done = run.step + 1 >= args.steps if args.steps else run.seconds - trained >= 60 * args.minutes
        progress = run.step / args.steps if args.steps else run.seconds / schedule
        share = learning_rate(run.step - run.warmed_from, progress, warm_up)
        parts, stop = run.learn(next(batches), losses, share, args.ema, done)
        if reporter:
            reporter.recent.append(parts)
            if stop or time.monotonic() - saved > 60 * args.save_minutes:
                run.average.eval()
                with torch.inference_mode():
                    reporter.report(run, validate(run.average))
                saved = time.monotonic()
