"""The paper's model, tiny: shapes, ablations, causality, quantiser, training and sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.models.nn.vector_quantiser import VectorQuantiser, perplexity
from engine.models.xmvae.code_prior import CodePrior, PriorConfig
from engine.models.xmvae.layers import Beats, MultiscaleLayer, Scope, SubTokenDecoder
from engine.models.xmvae.network import (
    XMVAE,
    XMVAEConfig,
    code_use_gap,
    composer_losses,
    losses,
    pianist_losses,
    smoothed,
)
from engine.models.xmvae.score_grammar import ScoreGrammar
from engine.models.xmvae.xmvae import XmvaeSampling, encode_performance, render_tokens, sample, sample_tokens, style_of
from engine.tokens.ecp import decode, grammar_faults
from engine.tokens.tables import BEAT_PERIOD, BOS, EOS, METRIC, NOTE
from training.core.loop import Run
from training.xmvae.segments import collate, values_of

# two beats: a chord of two notes, a grace note before the note at tick 12, then one note on the second beat
SEGMENT = np.array([
    [BOS, 0, 0, 0, 0, 0, 0, 0],
    [METRIC, 1, 0, 0, 0, 0, 0, 0],
    [NOTE, 0, 40, 25, 80, 16, 21, 50],
    [NOTE, 0, 44, 25, 80, 18, 20, 48],
    [METRIC, 13, 0, 0, 0, 0, 0, 0],
    [NOTE, 0, 47, 1, 82, 17, 22, 40],
    [NOTE, 0, 45, 13, 82, 17, 21, 52],
    [METRIC, 1, 0, 0, 0, 0, 0, 0],
    [NOTE, 0, 40, 25, 81, 15, 21, 50],
    [EOS, 0, 0, 0, 0, 0, 0, 0],
])  # fmt: skip
SHORT = np.concatenate([SEGMENT[:4], SEGMENT[-1:]])


def tiny(**changes: object) -> XMVAEConfig:
    sizes = {"width": 32, "feed_forward": 48, "encoder_layers": 1, "decoder_layers": 2, "subtoken_width": 16}
    return XMVAEConfig.small(**(sizes | {"num_codes": 16, "code_size": 8, "z_size": 4} | changes))


def model_of(**changes: object) -> XMVAE:
    torch.manual_seed(0)
    return XMVAE(tiny(**changes))


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    return collate([SEGMENT, SHORT])


def test_shapes_through_the_network(batch):
    model = model_of()
    scope = model.scope(batch)
    known = model.latents(batch, scope)
    assert known.memory.shape == (2, 10, 32)
    assert known.quantised.codes.shape == (2, 10)
    mu, log_variance = model.encode_performance(batch, scope)
    assert mu.shape == log_variance.shape == (2, 10, 4)
    parts = losses(model, batch)
    assert all(v.ndim == 0 and torch.isfinite(v) for v in parts.values())
    weighted = parts["score"] + parts["vq"] + parts["performance"] + model.config.kl_weight * parts["kl"]
    assert float(parts["loss"].detach()) == pytest.approx(float(weighted.detach()), rel=1e-5)


def test_padding_changes_nothing():
    model = model_of().eval()
    for segment in (SEGMENT, SHORT):
        alone, beside = (model.latents(b, model.scope(b)) for b in (collate([segment]), collate([SEGMENT, SHORT])))
        row = 0 if segment is SEGMENT else 1
        torch.testing.assert_close(alone.memory[0], beside.memory[row, : len(segment)], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("multiscale", ["serial", "parallel"])
def test_beats_side_by_side_are_the_masked_attention(batch, multiscale):
    torch.manual_seed(0)
    layer = MultiscaleLayer(32, 2, 48, multiscale, 0.0).eval()
    x = torch.randn(2, 10, 32)
    packed, masked = (layer(x, Scope.of(batch["beat"], batch["pad"], multiscale, way)) for way in (True, False))
    real = ~batch["pad"]
    torch.testing.assert_close(packed[real], masked[real], atol=1e-5, rtol=1e-4)


def test_attention_within_a_beat_is_local(batch):
    assert Beats.of(batch["beat"], batch["pad"]).length == 6  # the first beat of SEGMENT
    layer = MultiscaleLayer(32, 2, 48, "serial", 0.0).eval()
    assert layer.beat is not None
    x = torch.randn(2, 10, 32)
    other = x.clone()
    other[0, 7] += 1.0  # the Metric of the second beat
    beats = Beats.of(batch["beat"], batch["pad"])
    moved = (layer.beat.packed(x, beats) - layer.beat.packed(other, beats)).abs().sum(-1) > 1e-6
    assert moved[0].nonzero()[:, 0].tolist() == [7, 8, 9]  # EOS belongs to the last beat
    assert not moved[1].any()


def test_each_ablation_is_one_flag(batch):
    sizes = {}
    for name, changes in {
        "whole": {}, "parallel": {"multiscale": "parallel"}, "no beat": {"multiscale": "off"},
        "no subtoken": {"subtoken_layers": 0}, "beat scope": {"scope": "beat"}, "paper's attention": {"aligned": False},
    }.items():  # fmt: skip
        model = model_of(**changes)
        losses(model, batch)["loss"].backward()
        sizes[name] = sum(p.numel() for p in model.parameters())
        names = {k for k, _ in model.named_parameters()}
        assert any(".beat." in k for k in names) == (name != "no beat")
        assert any("fields.layers" in k for k in names) == (name != "no subtoken")
        if name == "beat scope":
            codes = model.eval().latents(batch, model.scope(batch)).quantised.codes[0]
            assert len(set(codes[1:7].tolist())) == 1
            assert len(set(codes[7:].tolist())) == 1
    assert sizes["no beat"] < sizes["parallel"] < sizes["whole"]
    with torch.no_grad():  # without the sub-token decoder the pitch does not depend on the family drawn before
        for layers, depends in ((1, True), (0, False)):
            torch.manual_seed(1)
            fields = SubTokenDecoder((5, 25, 89, 52), 32, 16, 2, layers)
            h = torch.randn(1, 32)
            a, b = (fields.logits(fields(h, torch.tensor([[f, 0]]))[:, -1], 2) for f in (NOTE, METRIC))
            assert bool(((a - b).abs() > 1e-6).any()) == depends


def test_decoders_do_not_look_ahead(batch):
    model = model_of().eval()
    scope = model.scope(batch)
    known = model.latents(batch, scope)
    z_p = torch.randn(2, 10, 4)

    def states(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        conditions = model.performance_conditions(tokens, z_p, known.memory, None)
        played = model.performance_states(tokens, conditions, known.memory, known.memory_mask)
        return model.score_states(tokens, known.memory, known.memory_mask)[0], played[0]

    for column in (2, 5):  # a pitch, a velocity
        other = batch["tokens"].clone()
        other[0, 5, column] += 1
        moved = [(a - b).abs().sum(-1) > 1e-6 for a, b in zip(states(batch["tokens"]), states(other), strict=True)]
        mine, rest = moved if column == 2 else moved[::-1]
        assert not mine[:6].any()
        assert mine[6:].all()
        assert not rest.any()


def test_sub_tokens_do_not_look_ahead():
    torch.manual_seed(0)
    fields = SubTokenDecoder((5, 25, 89, 52), 32, 16, 2, 2)
    h, tokens = torch.randn(3, 32), torch.tensor([[1, 0, 40, 25]] * 3)
    other = tokens.clone()
    other[:, 1] = 7
    moved = (fields(h, tokens) - fields(h, other)).abs().sum(-1) > 1e-6
    assert moved[0].tolist() == [False, False, True, True]
    prefix = fields(h, tokens[:, :2])
    torch.testing.assert_close(prefix, fields(h, tokens)[:, :3])


def test_step_by_step_is_the_whole(batch):
    model = model_of().eval()
    known = model.latents(batch, model.scope(batch))
    whole = model.score_states(batch["tokens"], known.memory, known.memory_mask)
    inputs = model.score_inputs(batch["tokens"], known.memory)
    cache, _ = model.caches(2, 10, known.memory, known.memory_mask)
    with torch.no_grad():
        steps = torch.stack([model.score_decoder.step(inputs[:, i], cache) for i in range(10)], 1)
    torch.testing.assert_close(steps, whole, atol=1e-5, rtol=1e-4)


def test_codes_move_to_their_inputs_and_dead_codes_are_reset():
    torch.manual_seed(0)
    vq = VectorQuantiser(8, 2, decay=0.5)
    centres = torch.tensor([[5.0, 0.0], [-5.0, 0.0], [0.0, 5.0], [0.0, -5.0]])
    valid = torch.ones(400, dtype=torch.bool)
    for _ in range(12):
        vq(centres.repeat(100, 1) + 0.1 * torch.randn(400, 2), valid)
    at = torch.cdist(centres, vq.codebook).min(1)
    assert (at.values < 0.3).all()
    # the music moves away: the codes follow, or die and are set on it again
    for _ in range(40):
        vq(20 + centres.repeat(100, 1) + 0.1 * torch.randn(400, 2), valid)
    assert (torch.cdist(vq.codebook, 20 + centres).min(1).values < 1).all()
    held = vq.codebook.clone()
    vq.eval()(centres, torch.ones(4, dtype=torch.bool))
    assert torch.equal(held, vq.codebook)


def test_perplexity_by_hand():
    spread, used = perplexity(torch.tensor([0, 0, 1, 1]), 8)
    assert float(spread) == pytest.approx(2.0)
    assert float(used) == pytest.approx(0.25)
    assert float(perplexity(torch.tensor([3, 3]), 4)[0]) == pytest.approx(1.0)


def test_smoothed_targets_sum_to_one_and_spare_the_first():
    target = smoothed(6, torch.device("cpu"))
    torch.testing.assert_close(target.sum(1), torch.ones(6))
    assert (target[1:, 0] == 0).all()
    assert target[3].argmax() == 3
    assert float(target[3, 2] / target[3, 3]) == pytest.approx(np.exp(-0.5))


def test_training_lowers_the_loss_and_goes_on_where_it_stopped(batch, tmp_path):
    def fresh() -> Run:
        torch.manual_seed(0)
        return Run(XMVAE(tiny()), 3e-3, "cpu", lambda: XMVAE(tiny()))

    run = fresh()
    history = [run.learn(batch, losses, 1.0, 0.99, False)[0]["loss"] for _ in range(25)]
    assert np.mean(history[-3:]) < 0.8 * np.mean(history[:3])
    run.save(tmp_path / "last.pt")
    again = fresh()
    again.resume(tmp_path / "last.pt")
    assert again.step == 25
    for r in (run, again):
        torch.manual_seed(5)
        r.learn(batch, losses, 1.0, 0.99, False)
    for one, two in ((run.model, again.model), (run.average, again.average)):
        for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, msg=name)


def test_pretraining_does_not_change_the_pianist():
    run = Run(model_of(), 3e-3, "cpu", model_of)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    run.learn(collate([SEGMENT[:, :4], SHORT[:, :4]]), lambda m, b: losses(m, b, pretrain=True), 1.0, 0.9, False)
    moved = {k for k, v in run.model.state_dict().items() if not torch.equal(v, before[k])}
    pianist = ("value_in", "read_embed", "performance", "z_", "score_given")
    assert moved
    assert not [k for k in moved if k.startswith(pianist)]


def test_logged_loss_terms(batch):
    model = model_of().eval()
    scope = model.scope(batch)
    known = model.latents(batch, scope)
    assert {"family", "pitch", "vq", "perplexity"} <= composer_losses(model, batch, known).keys()
    blind, reading = (pianist_losses(model, batch, known, scope, via) for via in ("z_s", "z_s+score"))
    assert float(blind["performance"].detach()) != float(reading["performance"].detach())
    assert torch.isfinite(code_use_gap(model, batch, known))


def test_samples_obey_the_grammar_and_come_again():
    model, prior = model_of(), CodePrior(PriorConfig(16, 32, 2, 48, 1, 0.0))
    wild = XmvaeSampling(1.0, 1.0, 1.5, (1.0,) * 4, 1.0, 1.0)
    tokens = sample_tokens(model, prior, 3, seed=4, sampling=wild)
    for t in tokens:
        assert grammar_faults(t) == []
        assert 1 <= (t[:, 0] == NOTE).sum() <= 256
        assert len(t) <= 512
        assert decode(t).repairs.orphan_notes == decode(t).repairs.doubled_notes == 0
    performances = sample(model, prior, 3, seed=4, sampling=wild)
    assert [len(p) for p in performances] == [int((t[:, 0] == NOTE).sum()) for t in tokens]
    assert [len(p) for p in sample(model, prior, 3, seed=5, sampling=wild)] != [len(p) for p in performances]

    def stop(share: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        sample(model, prior, 1, progress=stop)


def test_the_grammar_by_hand():
    grammar = ScoreGrammar(1, max_notes=3)
    room = torch.tensor([20])

    def families() -> list[int]:
        return grammar.allowed(torch.zeros(1, 0, dtype=torch.int64), room)[0].nonzero()[:, 0].tolist()

    def allowed(*row: int) -> list[int]:
        return grammar.allowed(torch.tensor([row]), room)[0].nonzero()[:, 0].tolist()

    assert families() == [METRIC]
    assert allowed(METRIC) == [1]
    grammar.take(torch.tensor([[METRIC, 1, 0, 0]]))
    assert families() == [NOTE, METRIC]
    assert allowed(METRIC) == list(range(1, 25))
    grammar.take(torch.tensor([[METRIC, 13, 0, 0]]))
    assert families() == [NOTE]  # an inner position waits for its note
    grammar.take(torch.tensor([[NOTE, 0, 50, 1]]))  # a grace note
    assert 1 not in allowed(NOTE, 0, 49)
    assert 1 in allowed(NOTE, 0, 50)
    grammar.take(torch.tensor([[NOTE, 0, 40, 9]]))
    assert allowed(NOTE, 0) == list(range(41, 89))
    assert 1 not in allowed(NOTE, 0, 60)
    assert allowed(METRIC) == [1, *range(14, 25)]
    grammar.take(torch.tensor([[NOTE, 0, 60, 9]]))
    assert families() == [EOS]  # three notes are enough


def test_a_given_score_is_played_as_it_stands(batch):
    model = model_of()
    out = render_tokens(model, [SEGMENT, SHORT], via="z_s+score", seed=1)
    for tokens, segment in zip(out, (SEGMENT, SHORT), strict=True):
        np.testing.assert_array_equal(tokens[:, :4], segment[:, :4])
        assert grammar_faults(tokens) == []
        assert (tokens[tokens[:, 0] == NOTE][:, BEAT_PERIOD] > 0).all()
    mu = encode_performance(model, SEGMENT, values_of(SEGMENT))
    assert mu.shape == (10, 4)
    assert (mu[[0, 1, 4, 7, 9]] == 0).all()
    style = style_of(model, SEGMENT, values_of(SEGMENT))
    np.testing.assert_allclose(style, mu[[2, 3, 5, 6, 8]].mean(0), rtol=1e-5)
    still = XmvaeSampling(performance_temperature=0.0)
    for given in (mu, style):
        one, two = (render_tokens(model, [SEGMENT], z_p=[given], seed=s, sampling=still)[0] for s in (1, 2))
        np.testing.assert_array_equal(one, two)


def test_the_prior_learns_a_sequence_and_ends_it():
    torch.manual_seed(0)
    prior = CodePrior(PriorConfig(6, 32, 2, 48, 1, 0.0))
    codes = torch.tensor([[0, 1, 2, 3, 4, 5], [5, 4, 3, 0, 0, 0]])
    pad = torch.tensor([[False] * 6, [False] * 3 + [True] * 3])
    run = Run(prior, 1e-2, "cpu", lambda: CodePrior(prior.config))

    def term(model: torch.nn.Module, b: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        assert isinstance(model, CodePrior)
        return {"loss": model.loss(b["codes"], b["pad"])}

    data = {"codes": codes, "pad": pad}
    history = [run.learn(data, term, 1.0, 0.9, False) for _ in range(60)]
    assert history[-1][0]["loss"] < 0.3 < history[0][0]["loss"]
    drawn, gone = prior.sample(20, torch.Generator().manual_seed(0), max_steps=12)
    found = {tuple(row[~end].tolist()) for row, end in zip(drawn, gone, strict=True)}
    assert {(0, 1, 2, 3, 4, 5), (5, 4, 3)} <= found
