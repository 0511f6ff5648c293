"""Train the phrase tagger: `python -m training.tagger.train --data CORPORA --data2 MORE --out runs/phrase-tagger-v1`.

Thresholds are chosen on one part of the held-out works, figures reported on the other
(`training.tagger.data.part_of`). The loop, its options and its files: `training.core.loop`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.models.tagger.network import HEADS, Tagger, TaggerConfig
from engine.models.tagger.tag import probabilities, rows_of
from training.core.loop import Run, add_arguments, join_processes, train
from training.tagger.data import UNKNOWN, Labelled, read_labelled
from training.tagger.scoring import choose, decode, every_fourth_bar, scores

WEIGHT = {"phrase": 1.0, "cadence": 1.0, "tonic": 0.15, "minor": 0.1, "degree": 0.2}
TRANSPOSED = 0.5  # share of windows transposed by a random interval: key signatures may be wrong, and music modulates


def example(p: Labelled, rng: np.random.Generator, window: int) -> dict[str, np.ndarray]:
    """A window of one score, at random transposed, at random without the bar similarities."""
    first = int(rng.integers(max(len(p.features) - window, 0) + 1))
    rows = slice(first, first + window)
    shift = int(rng.integers(12)) if rng.random() < TRANSPOSED else 0
    x = rows_of(p.features, shift)[rows]
    if rng.random() < 0.1:
        x[:, -p.features.beat.shape[1] :] = 0
    y = {k: getattr(p, k)[rows] for k in HEADS}
    y["tonic"] = np.where(y["tonic"] >= 0, (y["tonic"] + shift) % 12, UNKNOWN)
    return {"x": x, **y}


def make_batch(pieces: list[Labelled], rng: np.random.Generator, size: int, window: int) -> dict[str, Tensor]:
    """Windows of `size` scores, longer scores more often: x (B, T, INPUTS), mask (B, T), labels (B, T), -1 unknown."""
    weight = np.array([len(p.features) ** 0.7 for p in pieces])
    found = [example(pieces[i], rng, window) for i in rng.choice(len(pieces), size, p=weight / weight.sum())]
    longest = max(len(e["x"]) for e in found)
    out = {k: np.full((size, longest), UNKNOWN) for k in HEADS}
    x, mask = np.zeros((size, longest, found[0]["x"].shape[1]), np.float32), np.zeros((size, longest), np.float32)
    for i, e in enumerate(found):
        n = len(e["x"])
        x[i, :n], mask[i, :n] = e["x"], 1
        for k in HEADS:
            out[k][i, :n] = e[k]
    return {"x": torch.from_numpy(x), "mask": torch.from_numpy(mask)} | {k: torch.from_numpy(v) for k, v in out.items()}


def losses(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cross-entropy of each head over the beats with a label, and their weighted sum."""
    logits = model(batch["x"], batch["mask"])
    out = {}
    for name in HEADS:
        known = batch[name] >= 0
        found, wanted = logits[name][known].float(), batch[name][known]
        if name == "phrase":
            out[name] = F.binary_cross_entropy_with_logits(found[:, 0], wanted.float())
        else:
            out[name] = F.cross_entropy(found, wanted)
        out[name] = torch.nan_to_num(out[name])  # NaN without a labelled beat
    total = torch.stack([WEIGHT[k] * v for k, v in out.items()]).sum()
    return {"loss": total, **out}


def add_shape(parser: argparse.ArgumentParser) -> None:
    """The options of the network's shape, and the window in beats."""
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--recurrent", type=int, default=0)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--window", type=int, default=320)


def shape_of(args: argparse.Namespace) -> TaggerConfig:
    """The network's shape from the options."""
    return TaggerConfig(width=args.width, recurrent=args.recurrent, dropout=args.dropout)


def begin_from(model: Tagger, folder: Path) -> None:
    """Take the weights of a pretrained tagger."""
    state = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)["average"]
    model.load_state_dict({k.removeprefix("tagger."): v for k, v in state.items() if k.startswith("tagger.")})


def adamw(model: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """AdamW for all weights; weight decay for matrices and kernels."""
    big = [p for p in model.parameters() if p.ndim > 1]
    small = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": big, "weight_decay": 0.05}, {"params": small, "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))]


def measure(model: Tagger, chosen: list[Labelled], reported: list[Labelled]) -> tuple[dict, dict[str, float]]:
    """Decoding thresholds chosen on one part, and figures on the other."""
    decoding = choose(chosen, [probabilities(model, p.features) for p in chosen])
    marks = [decode(probabilities(model, p.features), decoding) for p in reported]
    return {"phrase": decoding.phrase, "cadence": decoding.cadence}, scores(reported, marks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--data2", type=Path, required=True)
    parser.add_argument("--begin", type=Path, help="run folder of training.tagger.pretrain")
    add_shape(parser)
    add_arguments(parser, "", "runs/phrase-tagger-v1")
    args = parser.parse_args()
    rank, _, device = join_processes()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    found = read_labelled(args.data, args.data2, args.limit)
    parts = {name: [p for p in found if p.part == name] for name in ("train", "choose", "report")}
    config = shape_of(args)
    model = Tagger(config)
    if args.begin:
        begin_from(model, args.begin)
    run = Run(model, args.rate, device, lambda: Tagger(config), adamw)
    run.resume(args.out / "last.pt")
    rng = np.random.default_rng(args.seed + 1000 * rank + run.step)

    def validate(model: nn.Module) -> dict[str, float]:
        """Figures on the part "choose", with thresholds chosen on the same part: for monitoring only."""
        return measure(model, parts["choose"], parts["choose"])[1]  # type: ignore[arg-type]

    about = {"model": config.to_json(), "kind": "phrase tagger", "pack": "dcml-labels"}
    train(run, args, lambda: make_batch(parts["train"], rng, args.batch, args.window), losses, validate, about)
    run.average.eval()
    decoding, figures = measure(run.average, parts["choose"], parts["report"])  # type: ignore[arg-type]
    fourth = scores(parts["report"], [every_fourth_bar(p.written, len(p.features)) for p in parts["report"]])
    table = {"decoding": decoding, "report": figures, "every fourth bar": fourth}
    table |= {"scores": {k: len(v) for k, v in parts.items()}}
    (args.out / "figures.json").write_text(json.dumps(table, indent=1))
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
