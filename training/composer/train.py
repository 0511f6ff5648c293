"""Train the product Composer: `python -m training.composer.train --pack data/composer-v1.npz --out runs/composer`.

Needs torch, numpy and the pack (`training.composer.prepare`). The loop, its options and its files:
`training.core.loop`.
"""

from __future__ import annotations

import argparse
import hashlib

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.models.composer.composer import Composer, ComposerConfig, References
from engine.tokens.composer_tokens import ADVANCE, FIELD_NAMES, STOP
from training.composer.batches import make_batch, piece_weights, read_pieces
from training.core.loop import Batch, Run, add_arguments, join_processes, reserve_memory, train

DROPOUT = 0.1
_VALIDATION_BATCH = 8


def losses(model: nn.Module, b: Batch, drop: float = DROPOUT) -> dict[str, Tensor]:
    """Cross entropy of the notes' fields in nats; `loss` is their sum, nats a note."""
    assert isinstance(model, Composer)
    planned = bool(model.config.reference_layers)
    conditions = b["conditions"][..., : len(model.config.condition_sizes)]
    references = References(b["bar"], b["target_bar"], b["time"]) if planned else None
    plan = b["plan"] if planned else None
    hidden = model(b["steps"], b["quarter"], conditions, drop, plan, references, b["segment"], b["index"])
    known, target = b["known"].flatten(), b["target"].flatten(0, 1)
    logits = model.sub(hidden.flatten(0, 1), target)
    note = known & (target[:, ADVANCE] != STOP)
    out = {}
    for j, (name, value) in enumerate(zip(FIELD_NAMES, logits, strict=True)):
        error = F.cross_entropy(value.float(), target[:, j], reduction="none")
        counts = known if j == ADVANCE else note
        out[name] = (error * counts).sum() / counts.sum().clamp(min=1)
    return {"loss": torch.stack(list(out.values())).sum(), **out}


def main() -> None:
    reserve_memory()
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, "data/composer-v1.npz", "runs/composer")
    for name in ("width", "layers", "heads", "feed_forward", "head_width", "window", "reference_layers"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(ComposerConfig, name))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rank, _, device = join_processes()
    pieces = read_pieces(args.pack, "train", args.limit)
    held_out = read_pieces(args.pack, "validation", args.limit)
    weights = piece_weights(pieces)
    config = ComposerConfig(
        args.width, args.layers, args.heads, args.feed_forward, args.head_width, args.window, args.reference_layers
    )  # fmt: skip
    torch.manual_seed(args.seed)
    run = Run(Composer(config), args.rate, device, lambda: Composer(config))
    run.resume(args.out / "last.pt")
    # a seed for each process and each resumption, so that no batch is drawn twice
    rng = np.random.default_rng([args.seed, run.step, rank])
    torch.manual_seed(args.seed + 1000 * rank + run.step)
    checks: dict[str, list[Batch]] = {}
    for source in ("nasap", "scores"):
        mine = [p for p in held_out if p.source == source]
        for name, gap in (("", 0.0), ("_infill", 1.0)):
            fixed = np.random.default_rng(1)
            checks[source + name] = [
                make_batch(mine, piece_weights(mine), fixed, _VALIDATION_BATCH, config.window, gap, keep=True)
                for _ in range(4 if mine and not args.limit else bool(mine))
            ]

    def validate(model: nn.Module) -> dict[str, float]:
        """Nats a note on fixed held-out windows, by source, plain and with passages to fill in."""
        out = {}
        for name, batches in checks.items():
            found = [losses(model, {k: v.to(device) for k, v in b.items()}, 0.0) for b in batches]
            if found:
                out[name] = float(np.mean([float(f["loss"]) for f in found]))
        return out

    about = {"kind": "composer", "model": config.to_json()}
    about["pack"] = hashlib.sha256(args.pack.read_bytes()).hexdigest()[:12]
    train(
        run, args, lambda: make_batch(pieces, weights, rng, args.batch, config.window), losses, validate, about
    )  # fmt: skip


if __name__ == "__main__":
    main()
