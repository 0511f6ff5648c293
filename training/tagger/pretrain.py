"""Pretrain the phrase tagger on scores without labels: prediction of the pitch classes of masked beats.

`python -m training.tagger.pretrain --pack data/composer-v2.npz --out runs/tagger-pretrained`; then
`training.tagger.train --begin runs/tagger-pretrained`. Works on which the tagger is reported are left out.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from engine.models.tagger.features import BEAT_FEATURES, CLASS_KINDS, PARTS, beat_features
from engine.models.tagger.network import INPUTS, Tagger, TaggerConfig
from engine.models.tagger.tag import rows_of
from training.composer.batches import ScorePiece, read_pieces
from training.core.loop import Run, add_arguments, join_processes, train
from training.tagger.data import part_of
from training.tagger.train import adamw, add_shape, shape_of

CLASSES = 12 * PARTS * len(CLASS_KINDS)  # the first columns of a row
HIDDEN = 0.3  # share of masked beats
MAX_HOLE = 8  # beats


class Filler(nn.Module):
    """A tagger with an additional head for the pitch classes of every beat."""

    def __init__(self, config: TaggerConfig):
        super().__init__()
        self.tagger = Tagger(config)
        self.head = nn.Linear(config.width + 2 * config.recurrent, CLASSES)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.tagger.hidden(x, mask))


def holes(count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(count,) mask of hidden beats: stretches of up to MAX_HOLE beats, a share HIDDEN of all."""
    out = np.zeros(count, bool)
    while out.mean() < HIDDEN:
        first = int(rng.integers(count))
        out[first : first + int(rng.integers(1, MAX_HOLE + 1))] = True
    return out


def make_batch(rows: list[NDArray], rng: np.random.Generator, size: int, window: int) -> dict[str, Tensor]:
    """x (B, T, INPUTS) with holes, mask (B, T), target (B, T, CLASSES), hidden (B, T)."""
    weight = np.array([len(r) ** 0.7 for r in rows])
    chosen = rng.choice(len(rows), size, p=weight / weight.sum())
    longest = min(window, max(len(rows[i]) for i in chosen))
    x, target = np.zeros((size, longest, INPUTS), np.float32), np.zeros((size, longest, CLASSES), np.float32)
    mask, hidden = np.zeros((size, longest), np.float32), np.zeros((size, longest), bool)
    for b, i in enumerate(chosen):
        first = int(rng.integers(max(len(rows[i]) - window, 0) + 1))
        row = rows[i][first : first + window].astype(np.float32)
        n = len(row)
        shift = int(rng.integers(12))
        row[:, :CLASSES] = np.roll(row[:, :CLASSES].reshape(n, -1, 12), shift, -1).reshape(n, -1)
        x[b, :n], target[b, :n], mask[b, :n], hidden[b, :n] = row, row[:, :CLASSES], 1, holes(n, rng)
    x[..., :-BEAT_FEATURES][hidden] = 0
    return {k: torch.from_numpy(v) for k, v in (("x", x), ("target", target), ("mask", mask), ("hidden", hidden))}


def losses(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Binary cross-entropy of the pitch classes in hidden beats."""
    logits = model(batch["x"], batch["mask"])[batch["hidden"]].float()
    return {"loss": F.binary_cross_entropy_with_logits(logits, batch["target"][batch["hidden"]])}


def read_rows(pieces: list[ScorePiece]) -> list[NDArray[np.float16]]:
    """Rows of features of each piece, in half precision."""
    found = tqdm(pieces, unit="score", mininterval=5)
    return [rows_of(beat_features(p.written)).astype(np.float16) for p in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_shape(parser)
    add_arguments(parser, "data/composer-v2.npz", "runs/tagger-pretrained")
    args = parser.parse_args()
    rank, _, device = join_processes()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    pieces = [p for p in read_pieces(args.pack, "train", args.limit) if part_of(p.work, "train") != "report"]
    rows, held_out = read_rows(pieces), read_rows(read_pieces(args.pack, "validation", args.limit or 60))
    config = shape_of(args)
    run = Run(Filler(config), args.rate, device, lambda: Filler(config), adamw)
    run.resume(args.out / "last.pt")
    rng = np.random.default_rng(args.seed + 1000 * rank + run.step)

    def validate(model: nn.Module) -> dict[str, float]:
        batch = make_batch(held_out, np.random.default_rng(0), 64, args.window)
        return {"hidden": float(losses(model, batch)["loss"])}

    about = {"model": config.to_json(), "kind": "phrase tagger, pretrained", "pack": str(args.pack)}
    train(run, args, lambda: make_batch(rows, rng, args.batch, args.window), losses, validate, about)


if __name__ == "__main__":
    main()
