"""Train the Pianist's flow on the residual after the expected performance: `python -m training.pianist.train_flow
--pack data/pianist-v2.npz --expected data/pianist-expected.npz --out runs/flow --start checkpoints/pianist-v1 --minutes
60`.

The expected values are those of `training.pianist.expected_of_pack`, predicted out of fold. z_p is encoded from the
residual; of the score, the performance encoder only gets each note's position in its chord. An adversary (gradient
reversal, Ganin and Lempitsky 2015) classifies the work from z_p, so that z_p does not contain it. The loop and its
options: `training.core.loop`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.models.expected.base import Base
from engine.models.pianist.pianist import (
    ARTICULATION_CENTRE,
    ARTICULATION_SCALE,
    EXPECTED,
    TEMPO_CENTRE,
    TEMPO_SCALE,
    VELOCITY_CENTRE,
    VELOCITY_SCALE,
    Pianist,
    PianistConfig,
    to_channels,
)
from training.core.loop import Run, add_arguments, join_processes, train
from training.pianist.batches import READINGS, DescriptorRegression, PianistCorpus, make_batch
from training.pianist.expected_of_pack import PackValues
from training.pianist.pack import Pack
from training.pianist.train import WARM_UP_STEPS, adamw, losses_and_style, validate

PENALTIES = (10.0, 30.0, 100.0, 300.0)  # candidates for the linear model of the levels; folds of training works choose
_UNIT = np.array([TEMPO_SCALE, VELOCITY_SCALE, ARTICULATION_SCALE])
_CENTRE = np.array([TEMPO_CENTRE, VELOCITY_CENTRE, ARTICULATION_CENTRE])


class _Reversed(torch.autograd.Function):
    """The identity, with a negated gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradient, None


class FlowTraining(nn.Module):
    """The Pianist and its adversary."""

    def __init__(self, config: PianistConfig, works: int):
        super().__init__()
        self.pianist = Pianist(config)
        self.works = nn.Sequential(nn.Linear(config.style_size, 64), nn.GELU(), nn.Linear(64, works))


def losses(model: FlowTraining, b: dict[str, Tensor], adversary: float) -> dict[str, Tensor]:
    """The Pianist's terms, and the adversary's cross entropy, whose gradient reaches z_p reversed and weighted."""
    parts, mean = losses_and_style(model.pianist, b)
    if not adversary:
        return parts
    named = F.cross_entropy(model.works(_Reversed.apply(mean, adversary)).float(), b["work"])
    return parts | {"loss": parts["loss"] + named, "works": named}


def solve(x: NDArray, y: NDArray, penalty: float) -> NDArray[np.float64]:
    """Ridge with a free constant, (3, G + 1)."""
    mx, my = x.mean(0), y.mean(0)
    w = np.linalg.solve((x - mx).T @ (x - mx) + penalty * np.eye(x.shape[1]), (x - mx).T @ (y - my)).T
    return np.concatenate([w, (my - w @ mx)[:, None]], 1)


def levels_and_slopes(pack: Pack, values: PackValues) -> tuple[dict[int, NDArray], NDArray[np.float64]]:
    """Mean level (3,) of each score's performances, and the slopes (3,) of training performances on the curves."""
    found: dict[int, list[NDArray]] = {}
    top, bottom = np.zeros(3), np.zeros(3)
    for i in range(len(pack)):
        item, k = pack.item(i), int(pack.columns["score"][i])
        ok = np.array(item.expression.played)
        x = to_channels(item.expression)[:, EXPECTED] * _UNIT + _CENTRE
        x[:, 0] -= values.pace[k, "full"]
        x, curve = x[ok], values.curves[k, "full"].T[ok]
        found.setdefault(k, []).append(x.mean(0))
        if item.split == "train":
            x, curve = x - x.mean(0), curve - curve.mean(0)
            top, bottom = top + (x * curve).mean(0), bottom + (curve * curve).mean(0)
    return {k: np.mean(v, 0) for k, v in found.items()}, top / np.maximum(bottom, 1e-9)


def base_of_pack(pack: Pack, values: PackValues) -> tuple[Base, dict[tuple[int, str], NDArray[np.float32]]]:
    """The linear model of the levels, from all training works; and expected channel values of every score and reading,
    their levels predicted out of fold.
    """
    levels, slope = levels_and_slopes(pack, values)
    train = [k for k, fold in values.fold.items() if fold >= 0 and k in levels]
    rows = [(k, r) for k in train for r in READINGS]
    x, y = np.array([values.summary[key] for key in rows], float), np.array([levels[k] for k, _ in rows])
    fold = np.array([values.fold[k] for k, _ in rows])

    def out_of_fold(penalty: float) -> dict[int, NDArray]:
        return {int(f): solve(x[fold != f], y[fold != f], penalty) for f in np.unique(fold)}

    def error(penalty: float) -> NDArray[np.float64]:
        weight = out_of_fold(penalty)
        guess = np.array([weight[int(f)] @ np.append(row, 1) for row, f in zip(x, fold, strict=True)])
        return np.sqrt(((guess - y) ** 2).mean(0)) / y.std(0)

    penalty = min(PENALTIES, key=lambda p: float(error(p).sum()))
    share = error(penalty).round(2)
    print(f"levels: penalty {penalty:g}, rmse over deviation {share}; slopes {slope.round(2)}", flush=True)
    by_fold = out_of_fold(penalty) | {-1: solve(x, y, penalty)}
    low, high = np.quantile(y, (0.01, 0.99), axis=0)
    given = {}
    for (k, reading), curve in values.curves.items():
        level = np.clip(by_fold[values.fold[k]] @ np.append(values.summary[k, reading], 1), low, high)
        expected = level[:, None] + slope[:, None] * curve
        expected[0] += values.pace[k, reading]
        given[k, reading] = ((expected.T - _CENTRE) / _UNIT).astype(np.float32)
    return Base(by_fold[-1], low, high, slope), given


def start_from(model: Pianist, folder: Path) -> None:
    """Load the weights of a published Pianist with equal names and shapes."""
    mine, theirs = model.state_dict(), load_file(folder / "model.safetensors")
    same = {k: v.float() for k, v in theirs.items() if k in mine and mine[k].shape == v.shape}
    model.load_state_dict(mine | same)
    print(f"begins with {len(same)} of {len(mine)} tensors of {folder}", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, "data/pianist-v2.npz", "runs/flow")
    parser.add_argument("--expected", type=Path, default=Path("data/pianist-expected.npz"))
    parser.add_argument("--start", type=Path, help="a published Pianist whose weights are taken where shapes allow")
    parser.add_argument("--width", type=int, default=PianistConfig.width)
    parser.add_argument("--adversary", type=float, default=0.05, help="weight of the reversed gradient; 0 is none")
    parser.add_argument("--share", type=float, default=1.0, help="of the training works, for a learning curve")
    parser.add_argument("--windows", type=int, default=96, help="validation windows at each save")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    rank, _, device = join_processes()
    pack, values = Pack(args.pack), PackValues.load(args.expected)
    if missing := sorted({int(k) for k in pack.columns["score"]} - values.fold.keys()):
        raise SystemExit(f"{args.expected} lacks {len(missing)} scores; run training.pianist.expected_of_pack first")
    base, given = base_of_pack(pack, values)
    learnt = PianistCorpus(pack, "train", args.limit, given, args.share)
    held_out = PianistCorpus(pack, "validation", args.limit, given)
    print(f"{len(learnt)} performances of {len(learnt.labels)} works", flush=True)
    config = PianistConfig(width=args.width, feed_forward=args.width * 8 // 3, expected=len(EXPECTED))
    expected = DescriptorRegression.fit(learnt, config.window)
    torch.manual_seed(args.seed)

    def fresh() -> FlowTraining:
        return FlowTraining(config, len(learnt.labels))

    model = fresh()
    if args.start and not (args.out / "last.pt").exists():
        start_from(model.pianist, args.start)
    run = Run(model, args.rate, device, fresh, adamw)
    run.resume(args.out / "last.pt")
    # a seed for each process and each resumption, so that no batch is drawn twice
    rng = np.random.default_rng([args.seed, run.step, rank])
    torch.manual_seed(args.seed + 1000 * rank + run.step)
    about = {"kind": "pianist flow", "model": config.to_json(), "pack": pack.digest}
    about["base"] = {k: np.asarray(getattr(base, k)).tolist() for k in ("weight", "low", "high", "share")}
    train(
        run, args, lambda: make_batch(learnt, expected, rng, args.batch, config.window, augment=True),
        lambda model, b: losses(model, b, args.adversary),  # type: ignore[arg-type]
        lambda model: validate(model.pianist, held_out, expected, config.window, device, args.windows),  # type: ignore[arg-type]
        about, WARM_UP_STEPS,
    )  # fmt: skip


if __name__ == "__main__":
    main()
