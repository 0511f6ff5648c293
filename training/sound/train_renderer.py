"""Train the product's renderer on a code pack (`training.sound.prepare_renderer`).

OMP_NUM_THREADS=1 python -m training.sound.train_renderer --pack data/renderer-v3.npz \\
    --out runs/renderer-v4 --minutes 60
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from engine.models.renderer.masked_renderer import MaskedRenderer, RendererConfig
from training.core.finished_run import weights_to_begin_with
from training.core.loop import Batch, Run, add_arguments, join_processes, train
from training.sound.batches import Batches, CodePack

HELD_BATCHES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "data/renderer-v3.npz", "runs/renderer-v4")
    parser.add_argument("--held", type=str, default="", help="another code pack, of pianos and pieces not trained on")
    parser.add_argument("--warm", type=Path, help="another run's last.pt or a checkpoint folder, to begin with")
    parser.add_argument("--iterative", action="store_true", help="show part of the frames, for several passes")
    parser.add_argument("--frames", type=int, default=300, help="of a target, 50 a second")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--heads", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rank, _, device = join_processes()
    torch.manual_seed(args.seed + rank)
    pack = CodePack(args.pack, guided=True)
    config = RendererConfig(args.width, args.layers, args.heads, 4 * args.width)
    seed = args.seed * 1000 + rank * 77 + np.random.randint(1 << 30)
    batches = Batches(pack, "train", args.frames, args.batch, seed, args.limit, None, args.iterative)
    held = [("real", Batches(pack, "validation", args.frames, 6, 1))]
    if args.held:
        others = CodePack(Path(args.held), guided=True)
        held.append(("other_pianos", Batches(others, "validation", args.frames, 6, 2)))
    fixed = {name: [source() for _ in range(HELD_BATCHES)] for name, source in held}

    def validate(model: MaskedRenderer) -> dict[str, float]:
        figures = {}
        for name, rows in fixed.items():
            parts = [model.losses({k: v.to(device) for k, v in b.items()}) for b in rows]
            figures |= {f"{name}_{k}": float(np.mean([float(p[k]) for p in parts])) for k in parts[0]}
        return figures

    def losses(model: MaskedRenderer, batch: Batch) -> Batch:
        return model.losses(batch)

    def make() -> MaskedRenderer:
        return MaskedRenderer(config, pack.codebooks)

    run = Run(make(), args.rate, device, make)
    if args.warm and not (args.out / "last.pt").exists():
        state = {k: v for k, v in weights_to_begin_with(args.warm).items() if k not in ("books", "codebooks", "scale")}
        run.model.load_state_dict(state, strict=False)
        run.average.load_state_dict(run.model.state_dict())
    run.resume(args.out / "last.pt")
    about = {"kind": "renderer", "model": config.to_json(), "pack": str(args.pack), "codec": pack.codec}
    train(run, args, batches, losses, validate, about)


if __name__ == "__main__":
    main()
