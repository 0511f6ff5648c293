"""Train the prior over XMVAE's codes: `python -m training.xmvae.train_prior --vae runs/xmvae --out runs/prior`.

The XMVAE (its averaged weights) is frozen; every batch is encoded again, so that the codes are augmented too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engine.models.xmvae.code_prior import CodePrior, PriorConfig
from engine.models.xmvae.network import XMVAE, XMVAEConfig
from training.core.loop import Run, add_arguments, join_processes, train
from training.xmvae.segments import PERFORMANCE, BeatCorpus

HELD_OUT_SEGMENTS = 32


def load_xmvae(folder: Path) -> XMVAE:
    """The averaged weights of a training run's folder, ready to use."""
    shape = json.loads((folder / "config.json").read_text())["model"]
    model = XMVAE(XMVAEConfig(**shape))
    model.load_state_dict(torch.load(folder / "last.pt", map_location="cpu", weights_only=True)["average"])
    return model.eval()


def load_prior(folder: Path) -> CodePrior:
    """The averaged weights of a prior's training folder, ready to use."""
    shape = json.loads((folder / "config.json").read_text())["model"]
    prior = CodePrior(PriorConfig(**shape))
    prior.load_state_dict(torch.load(folder / "last.pt", map_location="cpu", weights_only=True)["average"])
    return prior.eval()


@torch.no_grad()
def codes_of(model: XMVAE, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch of segments as codes (B, T), with its padding, on the model's device."""
    device = next(model.parameters()).device
    batch = {k: v.to(device) for k, v in batch.items()}
    with torch.autocast(batch["tokens"].device.type, dtype=torch.bfloat16):
        codes = model.encode_score(batch, model.scope(batch)).codes
    return {"codes": codes, "pad": batch["pad"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "data/xmvae-v1.npz", "runs/prior")
    parser.add_argument("--vae", type=Path, required=True, help="folder of a training.xmvae.train run")
    parser.add_argument("--small", action="store_true", help="the size for a CPU, else that of the paper")
    parser.add_argument("--fraction", type=float, default=1.0, help="share of the training compositions")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rank, _, device = join_processes()
    vae = load_xmvae(args.vae).to(device)
    corpus = BeatCorpus(args.pack, PERFORMANCE, "train", args.fraction, args.limit)
    others = BeatCorpus(args.pack, PERFORMANCE, "validation", limit=args.limit)
    config = (PriorConfig.small if args.small else PriorConfig)(vae.config.num_codes)
    torch.manual_seed(args.seed)
    prior = CodePrior(config)
    prior.begin_near(vae.quantiser.codebook)
    run = Run(prior, args.rate, device, lambda: CodePrior(config))
    run.resume(args.out / "last.pt")
    rng = np.random.default_rng([args.seed, run.step, rank])
    torch.manual_seed(args.seed + 1000 * rank + run.step)
    fixed = [codes_of(vae, b) for b in others.batches(args.batch, HELD_OUT_SEGMENTS)]

    def terms(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        assert isinstance(model, CodePrior)
        return {"loss": model.loss(batch["codes"], batch["pad"])}

    def validate(model: nn.Module) -> dict[str, float]:
        return {
            "loss": float(
                np.mean([float(terms(model, {k: v.to(device) for k, v in b.items()})["loss"]) for b in fixed])
            )
        }

    about = {"kind": "code_prior", "model": config.to_json(), "pack": corpus.digest, "vae": str(args.vae)}
    train(run, args, lambda: codes_of(vae, corpus.batch(rng, args.batch)), terms, validate, about)


if __name__ == "__main__":
    main()
