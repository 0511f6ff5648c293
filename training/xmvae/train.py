"""Train XMVAE: `python -m training.xmvae.train --pack data/xmvae-v1.npz --out runs/xmvae --steps 600 --small`.

First the Composer alone on the score corpora (--pretrain), then both branches on performances (--init of that run).
The published ablations are flags: --multiscale off, --no-subtoken, and leaving --init away. --fraction trains on a
share of the compositions (question X3). Resumes, logs and runs under torchrun as `training.core.loop` says.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engine.models.xmvae.network import XMVAE, XMVAEConfig, code_use_gap, composer_losses, losses, pianist_losses
from training.core.loop import Run, add_arguments, join_processes, train
from training.xmvae.segments import PERFORMANCE, SCORE, BeatCorpus

WARM_SHARE = 0.3  # share of the steps in which the weight of the KL term grows
HELD_OUT_SEGMENTS = 32


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "data/xmvae-v1.npz", "runs/xmvae")
    parser.add_argument("--small", action="store_true", help="the size for a CPU, else that of the paper")
    parser.add_argument("--pretrain", action="store_true", help="the Composer alone, on scores")
    parser.add_argument("--init", type=Path, help="begin with the weights of this run's folder")
    parser.add_argument("--multiscale", choices=("serial", "parallel", "off"), default="serial")
    parser.add_argument("--no-subtoken", action="store_true", help="all fields from the hidden state alone")
    parser.add_argument("--scope", choices=("step", "beat"), default="step", help="one code a step or a beat")
    parser.add_argument("--fraction", type=float, default=1.0, help="share of the training compositions")
    parser.add_argument("--kl-weight", type=float, default=XMVAEConfig.kl_weight)
    for name in ("width", "feed_forward", "encoder_layers", "decoder_layers", "num_codes"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help="overrides the size")
    return parser.parse_args()


def config_of(args: argparse.Namespace) -> XMVAEConfig:
    known = {f.name for f in fields(XMVAEConfig)}
    chosen = {k: v for k, v in vars(args).items() if k in known and v is not None}
    if args.no_subtoken:
        chosen["subtoken_layers"] = 0
    return XMVAEConfig.small(**chosen) if args.small else XMVAEConfig(**chosen)


def begin_with(model: XMVAE, folder: Path) -> None:
    """Load the weights of another run with the same shapes."""
    shape = json.loads((folder / "config.json").read_text())["model"]
    changed = sorted(k for k, v in model.config.to_json().items() if shape.get(k) != v)
    if changed:
        raise SystemExit(f"{folder} differs in {', '.join(changed)}; pretrain a model of the same shape first")
    model.load_state_dict(torch.load(folder / "last.pt", map_location="cpu", weights_only=True)["model"])


def held_out(batches: list[dict[str, Tensor]], pretrain: bool, device: str) -> Callable[[nn.Module], dict[str, float]]:
    """A validation function with fixed segments."""

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, XMVAE)
        rows: list[dict[str, float]] = []
        for batch in batches:
            b = {k: v.to(device) for k, v in batch.items()}
            scope = model.scope(b)
            known = model.latents(b, scope)
            parts = composer_losses(model, b, known) | {"code_use_gap": code_use_gap(model, b, known)}
            if not pretrain:
                parts |= pianist_losses(model, b, known, scope, "z_s+score")
                parts["performance_z_s"] = pianist_losses(model, b, known, scope, "z_s")["performance"]
            rows.append({k: float(v) for k, v in parts.items()})
        return {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}

    return validate


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    rank, _, device = join_processes()
    kind = SCORE if args.pretrain else PERFORMANCE
    corpus = BeatCorpus(args.pack, kind, "train", args.fraction, args.limit)
    others = BeatCorpus(args.pack, kind, "validation", limit=args.limit)
    config = config_of(args)
    torch.manual_seed(args.seed)
    model = XMVAE(config)
    if args.init:
        begin_with(model, args.init)
    run = Run(model, args.rate, device, lambda: XMVAE(config))
    run.resume(args.out / "last.pt")
    # a seed for each process and each resumption, so that no batch is drawn twice
    rng = np.random.default_rng([args.seed, run.step, rank])
    torch.manual_seed(args.seed + 1000 * rank + run.step)

    def terms(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        assert isinstance(model, XMVAE)
        whole = args.steps or 1000
        return losses(model, batch, min(run.step / (WARM_SHARE * whole), 1.0), args.pretrain)

    about = {"kind": "xmvae", "model": config.to_json(), "pack": corpus.digest, "works": len(corpus.works)}
    batches = others.batches(args.batch, HELD_OUT_SEGMENTS)
    validate = held_out(batches, args.pretrain, device)
    train(run, args, lambda: corpus.batch(rng, args.batch), terms, validate, about)


if __name__ == "__main__":
    main()
