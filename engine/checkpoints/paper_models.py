"""Checkpoint folders of the systems of the XMVAE paper (arXiv 2507.01582): XMVAE with the prior over its codes, and the
baselines ECPT and MT.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.checkpoints.bundle import fits, load_weights, read_folder, take_part
from engine.models.xmvae.code_prior import CodePrior, PriorConfig
from engine.models.xmvae.ecpt import Ecpt, EcptConfig
from engine.models.xmvae.music_transformer import MtConfig, MusicTransformer
from engine.models.xmvae.network import XMVAE, XMVAEConfig
from engine.music.types import BundleError

PRIOR_WEIGHTS = "prior."  # beginning of the names of the prior's weights


@dataclass(frozen=True)
class XmvaeBundle:
    """XMVAE and its prior, in evaluation mode, float32; digest and config as of the other bundles."""

    model: XMVAE
    prior: CodePrior
    digest: str
    config: dict


@dataclass(frozen=True)
class BaselineBundle:
    """ECPT or MT, in evaluation mode, float32; digest and config as of the other bundles."""

    model: Ecpt | MusicTransformer
    digest: str
    config: dict


def open_xmvae(folder: Path) -> XmvaeBundle:
    """Load an XMVAE folder. Raises BundleError when a file is missing, altered, of another format or not finite."""
    config, tensors = read_folder(folder, "xmvae")
    with fits(folder):
        prior = CodePrior(PriorConfig(**config["prior"]))
        prior.load_state_dict(take_part(tensors, PRIOR_WEIGHTS))
        model = XMVAE(XMVAEConfig(**config["model"]))
        load_weights(model, tensors, _of_training)
    return XmvaeBundle(model.eval(), prior.eval(), config["weights_sha256"][:12], config)


def open_baseline(folder: Path) -> BaselineBundle:
    """Load a folder of ECPT or MT. Raises BundleError as open_xmvae does."""
    config, tensors = read_folder(folder, "xmvae baseline")
    kind = config.get("baseline")
    if kind not in ("ecpt", "mt"):
        raise BundleError(f"Checkpoint {folder.name} has an unknown baseline {kind!r}; fetch the folder again.")
    with fits(folder):
        model = Ecpt(EcptConfig(**config["model"])) if kind == "ecpt" else MusicTransformer(MtConfig(**config["model"]))
        model.load_state_dict(tensors)
    return BaselineBundle(model.eval(), config["weights_sha256"][:12], config)


def _of_training(name: str) -> bool:
    """Counts of the quantiser, which only training uses."""
    return name.startswith("quantiser.") and name != "quantiser.codebook"
