"""Train the prior over plans; this takes minutes on one core.

`python -m training.composer.train_plan --pack data/composer-v2.npz --out runs/plan --minutes 6 --batch 32`

Trains on the scores as written (repeats not unfolded); all works of a source have the same weight. The loop, its
options and its files: `training.core.loop`.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from engine.models.composer.conditions import PERIODS
from engine.models.composer.plan_prior import MAX_LAG, PlanPrior, PlanPriorConfig, PlanRows, before_and_place
from engine.tokens.plan import CLOSE
from training.composer.batches import SOURCE_SHARE
from training.core.loop import Batch, Run, add_arguments, join_processes, train

MAX_BARS = 128
NAMES = ("lag", "exact", "transpose", "phrase", "cadence")
_OPEN_SHARE = 0.3  # probability that metre, period or genre is left open


class Plans:
    """The bars of the pack's scores of one split, as written."""

    def __init__(self, path: Path, split: str, limit: int = 0):
        with np.load(path) as z:
            keys = [k for k in z.files if k.startswith("bar_")]
            c = {k: z[k] for k in (*keys, "split", "source", "work", "period", "unfolded")}
            self.genre = z["genre"] if "genre" in z.files else np.zeros(len(c["split"]), np.int64)
            self.accompaniment = z["accompaniment"].astype(np.int64)
        rows = np.flatnonzero((c["split"] == split) & ~c["unfolded"].astype(bool))
        self.rows, self.columns = rows[:limit] if limit else rows, c
        works = c["work"][self.rows]
        weight = 1 / np.unique(works, return_counts=True)[1][np.unique(works, return_inverse=True)[1]]
        for source, share in SOURCE_SHARE.items():
            mine = c["source"][self.rows] == source
            weight[mine] *= share / max(weight[mine].sum(), 1e-9)
        self.weight = weight / weight.sum()

    def example(self, i: int, rng: np.random.Generator | None) -> tuple[NDArray, NDArray, bool]:
        """(inputs (m, 13), targets (m, 5), whether phrases are known) of one score; cut at random with a `rng`."""
        c, ptr = self.columns, self.columns["bar_ptr"]
        first, last = int(ptr[i]), int(ptr[i + 1])
        count = last - first
        size = min(count, MAX_BARS)
        if rng is not None and count > 24 and rng.random() < 0.5:
            size = int(rng.integers(16, size + 1))
        bars = slice(first, first + size)
        lag = c["bar_lag"][bars].astype(np.int64)
        lag = np.where(lag <= np.minimum(np.arange(size), MAX_LAG), lag, 0)
        phrase = c["bar_phrase_end"][bars] > 0
        known = bool((c["bar_phrase_end"][first:last] > 0).any())
        rows = PlanRows(
            lag, (c["bar_likeness"][bars] >= round(255 * CLOSE)) & (lag > 0),
            np.where(lag > 0, c["bar_transpose"][bars], 0), phrase, c["bar_cadence"][bars].astype(np.int64),
        )  # fmt: skip
        left = count - 1 - np.arange(size) if rng is None or rng.random() < 0.5 else np.arange(size)[::-1]
        if rng is not None and rng.random() < 0.3:
            left = np.full(size, -1)
        period = str(c["period"][i])
        piece = np.array([1 + int(c["bar_meter"][first]), 1 + PERIODS.index(period) if period else 0, self.genre[i]])
        if rng is not None:
            piece[rng.random(3) < _OPEN_SHARE] = 0
        piece = np.repeat(np.append(piece, self.accompaniment[i])[None], size, axis=0)
        return np.concatenate([before_and_place(rows, 0, left), piece], axis=-1), rows.targets(), known

    def batch(self, examples: list[tuple[NDArray, NDArray, bool]]) -> Batch:
        """inputs (B, m, 13), target (B, m, 5), known (B, m, 5): which targets count."""
        most = max(len(e[0]) for e in examples)
        out = {
            "inputs": np.zeros((len(examples), most, examples[0][0].shape[1]), np.int64),
            "target": np.zeros((len(examples), most, 5), np.int64), "known": np.zeros((len(examples), most, 5), bool),
        }  # fmt: skip
        for k, (inputs, target, labelled) in enumerate(examples):
            n = len(inputs)
            out["inputs"][k, :n], out["target"][k, :n] = inputs, target
            out["known"][k, :n, 0] = True
            out["known"][k, :n, 1:3] = target[:, :1] > 0
            out["known"][k, :n, 3:] = labelled
        return {k: torch.from_numpy(v) for k, v in out.items()}

    def draw(self, rng: np.random.Generator, size: int) -> Batch:
        """A training batch."""
        return self.batch([self.example(int(i), rng) for i in rng.choice(self.rows, size, p=self.weight)])


def losses(model: nn.Module, b: Batch) -> dict[str, Tensor]:
    """Cross entropy in nats a bar; a term of returns counts the bars that return."""
    logits = model(b["inputs"], b["target"])
    out = {}
    for j, (name, value) in enumerate(zip(NAMES, logits, strict=True)):
        error = F.cross_entropy(value.float().flatten(0, 1), b["target"][..., j].flatten(), reduction="none")
        counts = b["known"][..., j].flatten()
        out[name] = (error * counts).sum() / b["known"][..., 0].sum()
    return {"loss": torch.stack(list(out.values())).sum(), **out}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, "data/composer-v2.npz", "runs/plan")
    parser.add_argument("--width", type=int, default=PlanPriorConfig.width)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rank, _, device = join_processes()
    learnt, held_out = Plans(args.pack, "train", args.limit), Plans(args.pack, "validation", args.limit)
    config = PlanPriorConfig(args.width)
    torch.manual_seed(args.seed)
    run = Run(PlanPrior(config), args.rate, device, lambda: PlanPrior(config))
    run.resume(args.out / "last.pt")
    rng = np.random.default_rng([args.seed, run.step, rank])
    check = held_out.batch([held_out.example(int(i), None) for i in held_out.rows])

    def validate(model: nn.Module) -> dict[str, float]:
        return {k: float(v) for k, v in losses(model, {k: v.to(device) for k, v in check.items()}).items()}

    about = {"kind": "plan-prior", "model": config.to_json()}
    about["pack"] = hashlib.sha256(args.pack.read_bytes()).hexdigest()[:12]
    args.no_compile = True  # one small recurrent layer
    train(run, args, lambda: learnt.draw(rng, args.batch), losses, validate, about)


if __name__ == "__main__":
    main()
