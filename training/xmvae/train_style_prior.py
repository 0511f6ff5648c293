"""Train the prior of XMVAE's z_p: `python -m training.xmvae.train_style_prior --vae runs/xmvae --out runs/style-prior`.

The XMVAE (its averaged weights) is frozen. --segments training segments are encoded once, then drawn in batches; z_p is
sampled from the posterior at each draw.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engine.models.xmvae.network import XMVAE, played_steps
from engine.models.xmvae.style_prior import StylePrior, StylePriorConfig
from engine.tokens.tables import FAMILY, METRIC
from training.core.loop import Run, add_arguments, join_processes, train
from training.xmvae.segments import PERFORMANCE, BeatCorpus
from training.xmvae.train_prior import load_xmvae

HELD_OUT_SEGMENTS, _TOGETHER = 64, 8


@dataclass(frozen=True)
class Encoded:
    """The played notes of a segment under an XMVAE: mu, log_variance (N, Z), memory (N, D), chord (N,) bool."""

    mu: Tensor
    log_variance: Tensor
    memory: Tensor
    chord: Tensor


@torch.inference_mode()
def encode(model: XMVAE, batch: dict[str, Tensor]) -> list[Encoded]:
    """One entry for each segment of a batch."""
    scope = model.scope(batch)
    memory = model.latents(batch, scope).memory
    mu, log_variance = model.encode_performance(batch, scope)
    onset = (batch["tokens"][..., FAMILY] == METRIC).cumsum(1)
    out = []
    for i, played in enumerate(played_steps(batch["tokens"])):
        at = onset[i][played]
        chord = torch.cat([torch.zeros(1, dtype=torch.bool), at[1:] == at[:-1]])
        out.append(Encoded(mu[i][played], log_variance[i][played], memory[i][played], chord))
    return out


def together(segments: list[Encoded], generator: torch.Generator) -> dict[str, Tensor]:
    """A batch with z sampled from the posterior: z (B, N, Z), memory (B, N, D), chord, there (B, N) bool, and
    posterior (B, N), the log density of z under the posterior.
    """
    longest = max(len(s.mu) for s in segments)

    def padded(rows: list[Tensor]) -> Tensor:
        out = rows[0].new_zeros(len(rows), longest, *rows[0].shape[1:])
        for k, row in enumerate(rows):
            out[k, : len(row)] = row
        return out

    mu, log_variance = (padded([getattr(s, name) for s in segments]) for name in ("mu", "log_variance"))
    noise = torch.randn(mu.shape, generator=generator)
    density = -0.5 * (noise.square() + log_variance + np.log(2 * np.pi)).sum(-1)
    there = padded([torch.ones(len(s.mu), dtype=torch.bool) for s in segments])
    return {
        "z": mu + (0.5 * log_variance).exp() * noise, "memory": padded([s.memory for s in segments]),
        "chord": padded([s.chord for s in segments]), "there": there, "posterior": density,
    }  # fmt: skip


def load_style_prior(folder: Path) -> StylePrior:
    """The averaged weights of a training folder, ready to use."""
    shape = json.loads((folder / "config.json").read_text())["model"]
    prior = StylePrior(StylePriorConfig(**shape))
    prior.load_state_dict(torch.load(folder / "last.pt", map_location="cpu", weights_only=True)["average"])
    return prior.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "data/xmvae-v2.npz", "runs/style-prior")
    parser.add_argument("--vae", type=Path, required=True, help="folder of a training.xmvae.train run")
    parser.add_argument("--segments", type=int, default=1200, help="training segments to encode")
    parser.add_argument("--width", type=int, default=StylePriorConfig.width)
    parser.add_argument("--components", type=int, default=StylePriorConfig.components)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rank, _, device = join_processes()
    vae = load_xmvae(args.vae)
    corpus = BeatCorpus(args.pack, PERFORMANCE, "train", limit=args.limit)
    others = BeatCorpus(args.pack, PERFORMANCE, "validation", limit=args.limit)
    config = StylePriorConfig(vae.config.z_size, vae.config.width, args.width, args.components)
    torch.manual_seed(args.seed)
    prior = StylePrior(config)
    run = Run(prior, args.rate, device, lambda: StylePrior(config))
    run.resume(args.out / "last.pt")
    rng = np.random.default_rng([args.seed, run.step, rank])
    generator = torch.Generator().manual_seed(args.seed + 1000 * rank + run.step)
    known: list[Encoded] = []
    while len(known) < args.segments:
        known += encode(vae, corpus.batch(rng, _TOGETHER))
        if len(known) % 200 < _TOGETHER:
            print(f"{len(known)} of {args.segments} segments encoded", flush=True)
    held_out = [e for b in others.batches(_TOGETHER, HELD_OUT_SEGMENTS) for e in encode(vae, b)]
    fixed = [
        together(held_out[i : i + _TOGETHER], torch.Generator().manual_seed(i))
        for i in range(0, len(held_out), _TOGETHER)
    ]

    def terms(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        assert isinstance(model, StylePrior)
        nats = batch["posterior"] - model.log_density(batch["z"], batch["memory"], batch["chord"]).float()
        return {"loss": nats[batch["there"]].mean()}

    def validate(model: nn.Module) -> dict[str, float]:
        parts = [terms(model, {k: v.to(device) for k, v in b.items()})["loss"] for b in fixed]
        notes = [float(b["there"].sum()) for b in fixed]
        return {"kl": float(np.average([float(p) for p in parts], weights=notes))}

    def batch() -> dict[str, Tensor]:
        return together([known[int(i)] for i in rng.integers(len(known), size=args.batch)], generator)

    about = {"kind": "style_prior", "model": config.to_json(), "pack": corpus.digest, "vae": str(args.vae)}
    train(run, args, batch, terms, validate, about)


if __name__ == "__main__":
    main()
