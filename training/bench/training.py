"""Speed of training, before and after: `python -m training.bench.training --packs data [--only composer-v1 ...]`.

Each model is trained for a few steps by its own command on its own pack, once as before ("before": eager, the system's
allocator) and once with the current settings ("after": compiled layers, an allocator that keeps its buffers). Speeds
are per second of processor time of one core, so that other processes have little influence. The product rate is that
of bfloat16 matrix products of 2048 by 2048, measured in the same process. A model whose pack is missing is left out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from training.core.loop import Batch, Losses, Run, compile_layers, reserve_memory

WARM_STEPS, STEPS = 3, 8
_PRODUCT = 2048
_RESULT = "result "


@dataclass(frozen=True)
class Job:
    """One training to be measured.

    module   the training command
    pack     its pack's name
    options  of the command
    unit     unit of `count`
    compiled  whether its layers are compiled by default; not if compiling makes the model slower
    """

    module: str
    pack: str
    options: str
    unit: str = "notes"
    compiled: bool = True


_V1 = "--width 192 --heads 4 --feed-forward 768 --head-width 256 --window 384 --batch 16"
_XMVAE = "--small --width 192 --feed-forward 576 --encoder-layers 2 --decoder-layers 3 --batch 16"
JOBS = {
    "composer-v1": Job("training.composer.train", "composer-v2.npz", _V1),
    "composer-v2": Job(
        "training.composer.train", "composer-v2.npz",
        "--width 320 --heads 5 --feed-forward 1280 --window 1024 --reference-layers 4 --batch 8",
    ),
    "composer-15m": Job(
        "training.composer.train", "composer-v2.npz", "--width 384 --heads 6 --feed-forward 1536 --window 512 --batch 8"
    ),
    "pianist": Job("training.pianist.train", "pianist-v1.npz", "--batch 16", compiled=False),
    "xmvae": Job("training.xmvae.train", "xmvae-v2.npz", _XMVAE),
    "ecpt": Job(
        "training.xmvae.train_baselines", "xmvae-v2.npz",
        "--model ecpt --batch 16 --width 192 --heads 4 --layers 6 --feed-forward 768",
    ),
    "mt": Job(
        "training.xmvae.train_baselines", "xmvae-v2.npz",
        "--model mt --batch 16 --width 192 --heads 4 --layers 6 --feed-forward 768", compiled=False,
    ),
    "renderer": Job("training.sound.train_renderer", "renderer-v3.npz", "--iterative --batch 8", "frames"),
}  # fmt: skip


def count(batch: Batch, unit: str) -> int:
    """Notes or frames of a batch."""
    if unit == "frames":
        return batch["codes"].shape[0] * batch["codes"].shape[-1]
    if "known" in batch and "target" in batch:  # the Composer's
        return int(batch["known"].sum())
    if "played" in batch:  # the Pianist's
        return int(batch["valid"].sum())
    from training.xmvae.train_baselines import notes_in

    return notes_in(batch)


def product_rate() -> float:
    """GFLOP a second of processor time in bfloat16 matrix products."""
    a = torch.randn(_PRODUCT, _PRODUCT, dtype=torch.bfloat16)
    for _ in range(2):
        torch.mm(a, a)
    start, done = time.process_time(), 0
    while time.process_time() - start < 1:
        torch.mm(a, a)
        done += 1
    return done * 2 * _PRODUCT**3 / (time.process_time() - start) / 1e9


def measure(name: str, packs: Path, compiled: bool) -> dict[str, float]:
    """Train one model for a few steps in this process; the `train` of its command is replaced by a timed loop."""
    job = JOBS[name]
    module = importlib.import_module(job.module)
    found: dict[str, float] = {}

    def clock(run: Run, args: argparse.Namespace, make_batch: Callable[[], Batch], losses: Losses, *_: object) -> None:
        batches = [make_batch() for _ in range(4)]
        with FlopCounterMode(display=False) as counter:
            parts: dict[str, Tensor] = losses(run.model, batches[0])
            parts["loss"].backward()
        found["parameters"] = sum(p.numel() for p in run.model.parameters())
        if compiled and job.compiled:
            compile_layers(run.model)
        for k in range(WARM_STEPS):
            run.learn(batches[k % 4], losses, 0.1, 0.9, False)
        start, units = time.process_time(), 0
        for k in range(STEPS):
            run.learn(batches[k % 4], losses, 0.1, 0.9, False)
            units += count(batches[k % 4], job.unit)
        spent = time.process_time() - start
        found["units_a_second"] = units / spent
        found["gflops"] = counter.get_total_flops() / count(batches[0], job.unit) * units / spent / 1e9
        found["product_gflops"] = product_rate()

    setattr(module, "train", clock)  # noqa: B010
    with tempfile.TemporaryDirectory() as out:
        sys.argv = [job.module, "--pack", str(packs / job.pack), "--out", out, *job.options.split()]
        module.main()
    return found


def in_a_process(name: str, packs: Path, compiled: bool) -> dict[str, float]:
    """`measure` in a separate process, with the allocator under test."""
    env = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"} | {"OMP_NUM_THREADS": "1"}
    if not compiled:
        env["GLIBC_TUNABLES"] = ""  # reserve_memory then leaves the allocator as it is
    command = [sys.executable, "-m", "training.bench.training", "--packs", str(packs), "--child", name]
    done = subprocess.run(
        [*command, *(("--compiled",) if compiled else ())], env=env, capture_output=True, text=True, check=False
    )
    rows = [line for line in done.stdout.splitlines() if line.startswith(_RESULT)]
    if not rows:
        raise RuntimeError(f"{name} could not be measured: {done.stderr.strip()[-300:]}")
    return json.loads(rows[-1].removeprefix(_RESULT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packs", type=Path, default=Path("data"))
    parser.add_argument("--only", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--child", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--compiled", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        if args.compiled:
            reserve_memory()
        torch.set_num_threads(1)
        print(_RESULT + json.dumps(measure(args.child, args.packs.resolve(), args.compiled)))
        return
    print("| model | parameters | before, a CPU second | after | times | GFLOP/s before, after | of the product rate |")
    print("|---|---|---|---|---|---|---|")
    for name in args.only:
        job = JOBS[name]
        if not (args.packs / job.pack).exists():
            print(f"| {name} | {job.pack} is not in {args.packs} | | | | | |", flush=True)
            continue
        before, after = (in_a_process(name, args.packs, compiled) for compiled in (False, True))
        print(
            f"| {name} | {after['parameters'] / 1e6:.1f} M | {before['units_a_second']:,.0f} {job.unit} "
            f"| {after['units_a_second']:,.0f} | {after['units_a_second'] / before['units_a_second']:.2f} "
            f"| {before['gflops']:.0f}, {after['gflops']:.0f} "
            f"| {before['gflops'] / before['product_gflops']:.0%}, {after['gflops'] / after['product_gflops']:.0%} "
            f"of {after['product_gflops']:,.0f} |", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
