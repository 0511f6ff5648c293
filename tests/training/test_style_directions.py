"""Directions of XMVAE's z_p: principal components, measured on what the model plays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.models.xmvae.code_prior import CodePrior, PriorConfig
from engine.models.xmvae.network import XMVAE, XMVAEConfig
from engine.models.xmvae.xmvae import sample_tokens
from training.xmvae.passages import DESCRIPTORS
from training.xmvae.style_directions import components, directions, measured


def test_components_are_orthogonal_and_as_long_as_the_deviation() -> None:
    rng = np.random.default_rng(0)
    styles = rng.standard_normal((4000, 3)) * [0.2, 3.0, 1.0] + 5
    first, second = components(styles, 2)
    assert np.abs(first) == pytest.approx([0, 3, 0], abs=0.1)
    assert np.abs(second) == pytest.approx([0, 0, 1], abs=0.1)


def test_directions_of_an_untrained_model_are_measured_against_no_change() -> None:
    torch.manual_seed(0)
    sizes = {"width": 32, "feed_forward": 48, "encoder_layers": 1, "decoder_layers": 1, "subtoken_width": 16}
    model = XMVAE(XMVAEConfig.small(**(sizes | {"num_codes": 16, "code_size": 8, "z_size": 4}))).eval()
    segments = sample_tokens(model, CodePrior(PriorConfig(16, 32, 2, 48, 1, 0.0)).eval(), 4, notes=16)

    class Corpus:
        def segments(self) -> list:
            return [(None, segment) for segment in segments]

    still = measured(model, segments, np.zeros((1, 4)), np.ones(len(DESCRIPTORS)))
    assert still.tolist() == [[0.0] * len(DESCRIPTORS)]
    found = directions(model, Corpus(), 2)
    assert len({direction.name for direction in found}) == len(found) <= 2
    for direction in found:
        assert direction.vector.shape == (4,)
        assert max(direction.effect.values()) > 0
