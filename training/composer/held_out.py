"""Held-out nats a note of a Composer's checkpoint, over whole validation works.

`python -m training.composer.held_out --composer checkpoints/composer-v2 --pack data/composer-v2.npz [--half report]`

Every validation score of a source is cut into consecutive windows of the checkpoint's own length, each from the start
of a bar; a note counts once. A Composer with a plan is measured with every bar open (comparable with one without a
plan), and with the score's own plan given; the second figure does not include the nats of the plan itself.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from engine.checkpoints.bundle import open_composer
from training.composer.batches import ScorePiece, example, read_pieces
from training.composer.train import losses
from training.core.halves import half_of


def windows(p: ScorePiece, size: int) -> Iterator[NDArray[np.int64]]:
    """Rows of consecutive windows of at most `size` notes, each from the start of a bar where one is near."""
    n, first = len(p.written), 0
    starts = np.flatnonzero(np.diff(p.written.bar, prepend=-1) > 0)
    while first < n:
        end = min(first + size, n)
        if end < n:
            whole = starts[(starts > first + size // 2) & (starts <= end)]
            end = int(whole[-1]) if len(whole) else end
        yield np.arange(first, end)
        first = end


def with_open_plan(p: ScorePiece) -> ScorePiece:
    """The piece with an open plan."""
    return replace(p, plan=np.zeros_like(p.plan), lag=np.zeros_like(p.lag))


def nats(model: torch.nn.Module, p: ScorePiece, window: int) -> tuple[float, int]:
    """(sum of nats, notes) of one score."""
    total, count = 0.0, 0
    for rows in windows(p, window - 2):
        e = example(p, np.random.default_rng(0), window, 0.0, True, rows)
        b: dict[str, Tensor] = {k: torch.from_numpy(np.asarray(v))[None] for k, v in e.items()}
        b |= {"segment": torch.zeros_like(b["bar"]), "index": torch.arange(b["bar"].shape[1])[None]}
        total += float(losses(model, b, 0.0)["loss"]) * len(rows)
        count += len(rows)
    return total, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--composer", type=Path, required=True, help="a checkpoint folder")
    parser.add_argument("--pack", type=Path, default=Path("data/composer-v2.npz"))
    parser.add_argument("--half", choices=("choose", "report", "all"), default="report")
    parser.add_argument("--source", nargs="+", default=["nasap", "scores"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = open_composer(args.composer).model.model
    planned = bool(model.config.reference_layers)
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0, 0])
    pieces = [p for p in read_pieces(args.pack, "validation") if p.source in args.source]
    with torch.inference_mode():
        for p in tqdm([p for p in pieces if args.half in ("all", half_of(p.work))], unit="score"):
            for name, q in (("plan open", with_open_plan(p)), *((("plan given", p),) if planned else ())):
                total, count = nats(model, q, model.config.window)
                found = sums[p.source, name]
                found[0], found[1], found[2] = found[0] + total, found[1] + count, found[2] + 1
    for (source, name), (total, count, scores) in sorted(sums.items()):
        print(f"{args.composer.name}, {args.half} half, {source}, {name}: {total / count:.3f} nats a note, "
              f"{scores:.0f} scores, {count:.0f} notes")  # fmt: skip


if __name__ == "__main__":
    main()
