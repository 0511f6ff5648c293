"""The prior of XMVAE's z_p."""

from __future__ import annotations

import math

import pytest
import torch

from engine.models.xmvae.style_prior import StylePrior, StylePriorConfig
from engine.models.xmvae.xmvae import draw_z_p
from engine.tokens.tables import FAMILY, METRIC, NOTE

CONFIG = StylePriorConfig(z_size=3, memory=5, width=8, components=4)


@pytest.fixture
def prior() -> StylePrior:
    torch.manual_seed(0)
    return StylePrior(CONFIG).eval()


@torch.inference_mode()
def test_the_density_of_a_note_integrates_to_one(prior: StylePrior) -> None:
    one = StylePrior(StylePriorConfig(z_size=1, memory=5, width=8, components=4)).eval()
    z = torch.linspace(-12, 12, 4001)[:, None, None]
    density = one.log_density(z, torch.ones(4001, 1, 5), torch.zeros(4001, 1, dtype=torch.bool)).exp()
    assert float(torch.trapezoid(density[:, 0], z[:, 0, 0])) == pytest.approx(1, abs=1e-3)


@torch.inference_mode()
def test_each_note_is_drawn_from_its_own_density_given_those_before(prior: StylePrior) -> None:
    """Without noise every sample is a component's mean in the pass over all notes at once."""
    memory, chord = torch.randn(2, 6, 5), torch.rand(2, 6) > 0.5
    z = prior.sample(memory, chord, torch.Generator().manual_seed(1), temperature=0)
    past = torch.nn.functional.pad(z[:, :-1], (0, 0, 1, 0))
    x = prior.enter(torch.cat([past, memory, chord[..., None].float()], -1))
    _, mean, _ = prior._mixture(prior.recurrent(x)[0], x)
    assert float((z[:, :, None] - mean).norm(dim=-1).amin(-1).max()) < 1e-5
    again = prior.sample(memory, chord, torch.Generator().manual_seed(1), temperature=0)
    assert torch.equal(z, again)


def test_a_prior_that_is_trained_finds_what_depends_on_score_and_past() -> None:
    torch.manual_seed(0)
    prior = StylePrior(StylePriorConfig(z_size=1, memory=1, width=16, components=2))
    optimiser = torch.optim.Adam(prior.parameters(), 1e-2)
    for _ in range(200):
        memory = torch.randn(16, 12, 1)
        z = 0.1 * torch.randn(16, 12, 1) + memory
        loss = -prior.log_density(z, memory, torch.zeros(16, 12, dtype=torch.bool)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    floor = 0.5 * math.log(2 * math.pi * math.e) + math.log(0.1)  # nats of the noise
    assert loss.item() == pytest.approx(floor, abs=0.3)


def test_z_p_is_drawn_at_the_notes_in_their_order(prior: StylePrior) -> None:
    score = torch.zeros(2, 7, 4, dtype=torch.int64)
    score[0, :, FAMILY] = torch.tensor([0, METRIC, NOTE, NOTE, METRIC, NOTE, 0])
    score[1, :, FAMILY] = torch.tensor([0, METRIC, NOTE, METRIC, 0, 0, 0])
    memory = torch.randn(2, 9, 5)
    z = draw_z_p(None, score, memory, torch.Generator().manual_seed(3), prior)  # type: ignore[arg-type]
    assert z.shape == (2, 7, 3)
    assert (z[score[..., FAMILY] != NOTE] == 0).sum() >= z[score[..., FAMILY] != NOTE].numel() - 6  # rows are padded
    chord = torch.tensor([[False, True, False], [False, False, False]])
    at = torch.tensor([[2, 3, 5], [2, 0, 1]])
    own = prior.sample(memory.gather(1, at[..., None].expand(-1, -1, 5)), chord, torch.Generator().manual_seed(3))
    assert torch.equal(z[0, [2, 3, 5]], own[0])
    assert torch.equal(z[1, 2], own[1, 0])
