"""The prior over plans: what it is trained on, what it draws, and a checkpoint that holds it."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.checkpoints.bundle import FORMAT_VERSION, PLAN_WEIGHTS, grammar_digest, open_composer
from engine.compose.composing import compose
from engine.compose.form_writing import compose_form
from engine.models.composer.composer import Composer, ComposerConfig
from engine.models.composer.plan_prior import (
    MAX_LAG,
    SAME,
    PlanPrior,
    PlanPriorConfig,
    PlanRows,
    before_and_place,
)
from engine.requests import ComposeRequest
from engine.tokens.plan import MAX_TRANSPOSE

ROWS = PlanRows(
    lag=np.array([0, 1, 1, 3, 0]), exact=np.array([0, 1, 0, 1, 0], bool), transpose=np.array([0, 0, 5, -30, 0]),
    phrase=np.array([0, 0, 1, 0, 1], bool), cadence=np.array([0, 0, 2, 0, 1]),
)  # fmt: skip


@pytest.fixture(scope="module")
def prior() -> PlanPrior:
    torch.manual_seed(0)
    return PlanPrior(PlanPriorConfig(16)).eval()


def test_targets_count_a_kept_lag_as_the_same_and_clip_transpositions():
    target = ROWS.targets()
    assert target[:, 0].tolist() == [0, 2, SAME, 4, 0]
    assert (target[:, 2] - MAX_TRANSPOSE).tolist() == [0, 0, 5, -MAX_TRANSPOSE, 0]
    assert target[:, 4].tolist() == [0, 0, 2, 0, 1]


def test_inputs_hold_the_bar_before_and_the_place():
    inputs = before_and_place(ROWS, 0, np.array([4, 3, 2, 1, 0]))
    assert not inputs[0, :5].any()
    assert inputs[2, :5].tolist() == [2, 2, 1 + MAX_TRANSPOSE, 0, 0]
    assert inputs[3, :5].tolist() == [2, 1, 1 + MAX_TRANSPOSE + 5, 1, 2]
    assert inputs[:, 5].tolist() == [0, 1, 2, 0, 1]  # bars since a phrase ended
    assert before_and_place(ROWS, 0, np.full(5, -1))[:, 8].tolist() == [0] * 5


def test_training_and_drawing_read_the_same_states(prior):
    """Step by step, as `draw` goes, the state is that of the whole sequence."""
    inputs = torch.from_numpy(np.concatenate([before_and_place(ROWS, 0, np.arange(5)[::-1]), np.ones((5, 4), int)], 1))
    with torch.no_grad():
        whole, _ = prior.states(inputs[None])
        state, steps = None, []
        for row in inputs:
            h, state = prior.states(row[None, None], state)
            steps.append(h[0, 0])
    torch.testing.assert_close(torch.stack(steps), whole[0])


def test_draws_refer_to_bars_that_are_there_and_keep_given_lags(prior):
    given = np.full(40, -1)
    given[8:12], given[20] = 8, 0
    for seed in range(8):
        plan = prior.draw(40, np.random.default_rng(seed), meter=2, period=1, left=0, given=given)
        assert (plan.lag >= 0).all()
        assert (plan.lag <= np.minimum(np.arange(40), MAX_LAG)).all()
        assert (plan.lag[8:12] == 8).all()
        assert plan.lag[20] == 0
        assert not plan.likeness[plan.lag == 0].any()
        assert (plan.likeness[plan.lag > 0] >= 0.5).all()
    again = prior.draw(40, np.random.default_rng(7), meter=2, period=1, left=0, given=given)
    assert (again.lag == plan.lag).all()


def test_a_checkpoint_with_a_plan_opens_and_composes(tmp_path, prior):
    torch.manual_seed(1)
    config = ComposerConfig(32, 2, 2, 64, 32, 128, 1)
    rows = torch.tensor([[1.0, 1, 0, 0, 4, 100, 4]] * 4)
    weights = Composer(config).state_dict() | {PLAN_WEIGHTS + k: v for k, v in prior.state_dict().items()}
    save_file({k: v.contiguous() for k, v in weights.items()} | {"pieces": rows}, tmp_path / "model.safetensors")
    about = {
        "format_version": FORMAT_VERSION, "kind": "composer", "model": config.to_json(), "grammar": grammar_digest(),
        "plan_prior": prior.config.to_json(),
        "weights_sha256": hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest(),
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(about))
    bundle = open_composer(tmp_path)
    free = compose(bundle.model, bundle.prior, ComposeRequest(bars=4, seed=3))[0]
    assert len(free) > 0
    score = compose_form(bundle.model, bundle.prior, ComposeRequest(form="A2 B2 A2", seed=3))[0]
    assert len(score.measures) == 6
