"""The systems of the XMVAE paper's table: from the published checkpoints, else from training runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from engine.checkpoints.index import CHECKPOINTS, PAPER_MODELS
from engine.checkpoints.paper_models import XmvaeBundle, open_baseline, open_xmvae
from engine.models.xmvae.code_prior import CodePrior
from engine.models.xmvae.ecpt import Ecpt
from engine.models.xmvae.music_transformer import MusicTransformer
from engine.models.xmvae.network import XMVAE
from engine.models.xmvae.style_prior import StylePrior
from training.xmvae.train_baselines import load as load_baseline
from training.xmvae.train_prior import load_prior, load_xmvae

# row of the paper's table -> (kind, folder of the run, folder of its prior)
PAPER_RUNS = {
    "XMVAE paper": ("xmvae", "xmvae", "xmvae-prior"),
    "without beat attention": ("xmvae", "no-beat", "no-beat-prior"),
    "without SubToken": ("xmvae", "no-subtoken", "no-subtoken-prior"),
    "without pretraining": ("xmvae", "no-pretraining", "no-pretraining-prior"),
    "MT": ("baseline", "mt", ""),
    "ECPT": ("baseline", "ecpt", ""),
}
PUBLISHED_AS = {"XMVAE paper": "xmvae", "MT": "mt", "ECPT": "ecpt"}  # row -> name of the studio's model


@dataclass(frozen=True)
class Trained:
    """A system with its weights.

    prior  over the codes of an XMVAE, else None
    style  the published prior of z_p of an XMVAE, if there is one; the paper's is N(0, I)
    about  fingerprint of weights and shape
    steps  training steps, of an XMVAE those of its joint training
    """

    model: XMVAE | Ecpt | MusicTransformer
    prior: CodePrior | None
    about: dict
    steps: int
    style: StylePrior | None = None


def find(name: str, runs: Path, checkpoints: Path | None = None) -> Trained:
    """A row of PAPER_RUNS. Raises FileNotFoundError, with one sentence, if it is neither published nor in `runs`."""
    folder = (checkpoints or CHECKPOINTS) / PAPER_MODELS[PUBLISHED_AS[name]] if name in PUBLISHED_AS else None
    kind, run, prior = PAPER_RUNS[name]
    if folder is not None and (folder / "config.json").exists():
        bundle = open_xmvae(folder) if kind == "xmvae" else open_baseline(folder)
        steps = int(bundle.config["training"]["steps"])
        if isinstance(bundle, XmvaeBundle):
            return Trained(bundle.model, bundle.prior, {"weights": bundle.digest}, steps, bundle.style)
        return Trained(bundle.model, None, {"weights": bundle.digest}, steps)
    parts = [runs / run] + ([runs / prior] if prior else [])
    for part in parts:
        for file in ("config.json", "last.pt"):
            if not (part / file).exists():
                raise FileNotFoundError(f"{name}: there is no {part / file}")
    configs = [json.loads((part / "config.json").read_text()) for part in parts]
    about = {"run": [{k: c[k] for k in ("model", "step", "pack")} for c in configs]}
    model = load_xmvae(parts[0]) if kind == "xmvae" else load_baseline(parts[0])
    return Trained(model, load_prior(parts[1]) if prior else None, about, int(configs[0]["step"]))
