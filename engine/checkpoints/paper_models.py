"""Checkpoint folders of the systems of the XMVAE paper (arXiv 2507.01582): XMVAE with the prior over its codes, and the
baselines ECPT and MT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.checkpoints.bundle import fits, load_weights, read_folder, take_part
from engine.models.xmvae.code_prior import CodePrior, PriorConfig
from engine.models.xmvae.ecpt import Ecpt, EcptConfig
from engine.models.xmvae.music_transformer import MtConfig, MusicTransformer
from engine.models.xmvae.network import XMVAE, XMVAEConfig
from engine.models.xmvae.style_prior import StylePrior, StylePriorConfig
from engine.music.types import BadInput, BundleError

PRIOR_WEIGHTS = "prior."  # beginning of the names of the prior's weights
STYLE_WEIGHTS = "style_prior."  # of the prior of z_p, if there is one


@dataclass(frozen=True)
class XmvaeBundle:
    """XMVAE and its prior, in evaluation mode, float32; digest and config as of the other bundles.

    directions  name of each direction of z_p -> (Z,) one deviation between performances
    style       the prior of z_p given the score; None: N(0, I), as in the paper
    """

    model: XMVAE
    prior: CodePrior
    directions: dict[str, Tensor]
    style: StylePrior | None
    digest: str
    config: dict

    def shift(self, z_p: Sequence[tuple[str, float]]) -> Tensor:
        """(Z,) sum of the directions, each times its deviations. Raises BadInput for an unknown name."""
        total = torch.zeros(self.model.config.z_size)
        for name, value in z_p:
            if name not in self.directions:
                known = ", ".join(self.directions) or "none"
                raise BadInput(f'XMVAE has no direction "{name}"; it has: {known}.')
            total = total + value * self.directions[name]
        return total


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
        style = None
        if config.get("style_prior"):
            style = StylePrior(StylePriorConfig(**config["style_prior"]))
            style.load_state_dict(take_part(tensors, STYLE_WEIGHTS))
            style.eval()
        model = XMVAE(XMVAEConfig(**config["model"]))
        load_weights(model, tensors, _of_training)
        size = model.config.z_size
        directions = {d["name"]: torch.tensor(d["vector"]).reshape(size) for d in config.get("z_p", [])}
    return XmvaeBundle(model.eval(), prior.eval(), directions, style, config["weights_sha256"][:12], config)


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
