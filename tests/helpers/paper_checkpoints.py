"""Checkpoint folders of XMVAE, ECPT and MT with tiny untrained weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from engine.checkpoints.index import CHECKPOINTS, PAPER_MODELS
from engine.models.xmvae.code_prior import CodePrior, PriorConfig
from engine.models.xmvae.ecpt import Ecpt, EcptConfig
from engine.models.xmvae.music_transformer import MtConfig, MusicTransformer
from engine.models.xmvae.network import XMVAE, XMVAEConfig
from engine.models.xmvae.style_prior import StylePrior, StylePriorConfig
from training.xmvae.export import export_baseline, export_xmvae


def link_shipped(folder: Path) -> Path:
    """Links to the shipped checkpoints in `folder`, without those of the three systems, which tests write there."""
    for shipped in CHECKPOINTS.iterdir():
        if shipped.name not in PAPER_MODELS.values():
            (folder / shipped.name).symlink_to(shipped)
    return folder


def write_paper_checkpoints(out: Path, runs: Path) -> None:
    """Write the three folders into `out`; `runs` is an empty folder for the training runs that they come from."""
    torch.manual_seed(0)
    sizes = {"width": 32, "feed_forward": 48, "encoder_layers": 1, "decoder_layers": 1, "subtoken_width": 16}
    vae = XMVAE(XMVAEConfig.small(**(sizes | {"num_codes": 16, "code_size": 8, "z_size": 4})))
    prior = CodePrior(PriorConfig(16, 32, 2, 48, 1, 0.0))
    style = StylePrior(StylePriorConfig(z_size=4, memory=32, width=8, components=2))
    export_xmvae(
        _finished_run(runs / "xmvae", "xmvae", vae), _finished_run(runs / "prior", "prior", prior), out / "xmvae-v1",
        style=_finished_run(runs / "style", "style_prior", style),
    )  # fmt: skip
    config = json.loads((out / "xmvae-v1" / "config.json").read_text())  # as if measured on performances
    config["z_p"] = [{"name": "Tempo", "vector": [3.0, 0.0, 0.0, 0.0], "effect": {"tempo": 1.0}}]
    (out / "xmvae-v1" / "config.json").write_text(json.dumps(config))
    ecpt, mt = Ecpt(EcptConfig(32, 1, 2, 48, 0.0)), MusicTransformer(MtConfig(32, 1, 2, 48, 64, 0.0))
    export_baseline("ecpt", _finished_run(runs / "ecpt", "ecpt", ecpt), out / "ecpt-v1")
    export_baseline("mt", _finished_run(runs / "mt", "mt", mt), out / "mt-v1")


def _finished_run(folder: Path, kind: str, model: torch.nn.Module) -> Path:
    """What `training.core.loop` leaves of a run, of untrained weights."""
    folder.mkdir()
    about = {"kind": kind, "model": model.config.to_json(), "args": {"batch": 1}, "pack": "none", "validation": {}}
    (folder / "config.json").write_text(json.dumps(about))
    torch.save({"average": model.state_dict(), "step": 1, "seconds": 60.0}, folder / "last.pt")
    return folder
