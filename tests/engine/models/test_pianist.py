"""The Pianist: a tiny model learns; the shipped one keeps given notes, has no seams, follows its sliders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints.bundle import BundleError, open_pianist
from engine.checkpoints.index import CHECKPOINTS
from engine.models.pianist.features import NUM_FEATURES, composer_index, score_features
from engine.models.pianist.pianist import CHANNELS, Pianist, PianistConfig, _attend, from_channels, to_channels
from engine.models.pianist.sampling import EncodedScore, FlowSampling, encode_style, render_windows
from engine.models.pianist.style import AXES
from training.pianist.batches import DescriptorRegression, PianistCorpus, make_batch
from training.pianist.eval_style import effects, monotony, read_scores, sweep
from training.pianist.pack import Pack
from training.pianist.train import losses

DATA = Path(__file__).parents[2] / "data"
TINY = PianistConfig(width=32, heads=2, feed_forward=64, score_layers=1, flow_layers=1, window=64)
POSITIONS = (-2.5, -1.0, 0.0, 1.0, 2.5)
SHIPPED = CHECKPOINTS / "pianist-v1"


@pytest.fixture(scope="module")
def pack() -> Pack:
    return Pack(DATA / "ten_scores.npz")


@pytest.fixture(scope="module")
def corpus(pack) -> PianistCorpus:
    return PianistCorpus(pack, "validation")


@pytest.fixture(scope="module")
def shipped():
    return open_pianist(SHIPPED)


def test_features_are_finite_and_named(pack):
    for i in range(len(pack)):
        f = score_features(pack.item(i).score)
        assert f.value.shape == (len(pack.item(i).score), NUM_FEATURES)
        assert np.isfinite(f.value).all()
        assert (np.diff(f.beat_index) >= 0).mean() > 0.99
        assert (np.diff(f.chord_index) >= 0).all()
    assert composer_index("Fryderyk Chopin") == 5
    assert composer_index("Carl Philipp Emanuel Bach, C. P. E. Bach") == 0


def test_channels_and_back(pack):
    e = pack.item(0).expression
    back = from_channels(to_channels(e))
    np.testing.assert_allclose(back.beat_period, e.beat_period, rtol=1e-4)
    np.testing.assert_allclose(back.timing_sec, np.clip(e.timing_sec, -2, 2), atol=1e-4)
    np.testing.assert_allclose(back.velocity, e.velocity, atol=1e-3)
    np.testing.assert_allclose(back.pedal, e.pedal, atol=1e-3)


def test_steps_lower_the_loss(corpus):
    torch.manual_seed(0)
    model = Pianist(TINY)
    expected = DescriptorRegression.fit(corpus, TINY.window)
    rng = np.random.default_rng(0)
    fixed = make_batch(corpus, expected, np.random.default_rng(9), 16, TINY.window, augment=False)

    def held() -> float:
        torch.manual_seed(1)
        with torch.no_grad():
            return float(losses(model.eval(), fixed, train=False)["flow"])

    before = held()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        loss = losses(model.train(), make_batch(corpus, expected, rng, 8, TINY.window, augment=True))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert held() < 0.9 * before


def test_padding_changes_nothing(corpus):
    torch.manual_seed(0)
    model = Pianist(TINY).eval()
    b = make_batch(
        corpus, DescriptorRegression.fit(corpus, TINY.window), np.random.default_rng(0), 2, TINY.window, augment=False
    )
    angle = model.angles(b["onset"])
    short = b["valid"].clone()
    short[:, 40:] = False
    with torch.no_grad():
        padded = model.read(b["category"], b["value"], angle, short)[:, :40]
        cut = model.read(b["category"][:, :40], b["value"][:, :40], model.angles(b["onset"][:, :40]), short[:, :40])
    torch.testing.assert_close(padded, cut, atol=1e-5, rtol=1e-4)


def test_same_seed_same_notes_and_kept_notes_stay(shipped, pack):
    item = pack.item(1)
    reader = EncodedScore(shipped.model, score_features(item.score, item.composer))
    z = np.zeros(shipped.model.config.style_size)
    one, two, other = (reader.play(z, seed, shipped.sampling) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 1e-3
    known = np.ones(len(item.score), bool)
    known[50:80] = False
    given = to_channels(item.expression)
    filled = reader.play(z, 0, shipped.sampling, given, known)
    np.testing.assert_array_equal(filled[known], given[known])
    assert np.abs(filled[~known] - given[~known]).max() > 1e-3


def test_attention_is_the_same_with_and_without_gradients():
    """The fused kernel of inference computes what training computes, with notes that are padding, too."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 9, 12)
    valid = torch.ones(2, 9, dtype=torch.bool)
    for count in (9, 5):
        valid[1, count:] = False
        explicit = _attend(q, k, v, valid)
        with torch.inference_mode():
            torch.testing.assert_close(_attend(q, k, v, valid), explicit)


def test_no_seams_between_windows(shipped):
    """Neighbouring notes across a window's edge differ no more than neighbours elsewhere, in every channel."""
    item = Pack(DATA / "long_score.npz").item(0)
    features = score_features(item.score, item.composer)
    x = EncodedScore(shipped.model, features).play(np.zeros(shipped.model.config.style_size), 0, shipped.sampling)
    edges = {e for span in render_windows(len(features), shipped.model.config.window) for e in span} - {
        0,
        len(features),
    }
    step = np.abs(np.diff(x, axis=0))
    at_edge = np.array(sorted(e - 1 for e in edges))
    assert len(at_edge) >= 6
    elsewhere = np.setdiff1d(np.arange(len(step)), at_edge)
    for channel in range(CHANNELS):
        assert np.median(step[at_edge, channel]) <= np.quantile(step[elsewhere, channel], 0.9) + 1e-6


@pytest.mark.timeout(900)
def test_sliders_move_what_they_name(shipped):
    found = sweep(shipped.model, shipped.sampling, shipped.sliders, read_scores(DATA / "ten_scores.npz")[:6], POSITIONS)
    rho = dict(zip((a.name for a in AXES), monotony(found, POSITIONS), strict=True))
    assert min(rho.values()) >= 0.9, rho
    matrix = effects(found, np.array(shipped.config["axis_deviation"]), POSITIONS)
    assert (np.abs(matrix).argmax(axis=1) == np.arange(len(AXES))).all(), matrix.round(2)


def test_style_of_a_performance_says_what_was_done(shipped, pack):
    """Playing one performance louder and faster moves its encoded style along those axes."""
    item = pack.item(3)
    features = score_features(item.score, item.composer)
    base = to_channels(item.expression)
    louder, faster = base.copy(), base.copy()
    louder[:, 1] += 0.6
    faster[:, 0] -= 0.4
    z, z_loud, z_fast = (encode_style(shipped.model, features, from_channels(x)) for x in (base, louder, faster))
    names = [a.name for a in AXES]
    assert z_loud[names.index("loudness")] > z[names.index("loudness")] + 0.2
    assert z_fast[names.index("tempo")] > z[names.index("tempo")] + 0.2


def test_guidance_one_is_off(shipped, pack):
    features = score_features(pack.item(2).score)
    z = np.zeros(shipped.model.config.style_size)
    z[2] = 2.0
    reader = EncodedScore(shipped.model, features)
    plain, strong = (reader.play(z, 0, FlowSampling(steps=2, guidance=g)) for g in (1.0, 2.0))
    assert strong[:, 1].mean() > plain[:, 1].mean()  # more guidance, louder still


@pytest.fixture
def copy(tmp_path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "pianist-v1"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "presets.json"])
def test_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        open_pianist(copy)


def test_altered_weights_are_refused(copy):
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(BundleError, match="not the ones"):
        open_pianist(copy)


def test_wrong_shape_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["model"]["width"] = 64
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match="do not fit"):
        open_pianist(copy)


def test_config_without_sliders_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    del config["sliders"]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match="sliders"):
        open_pianist(copy)


def test_weights_that_are_not_numbers_are_refused(copy):
    from safetensors.torch import load_file, save_file

    from engine.checkpoints.bundle import weights_digest

    tensors = load_file(copy / "model.safetensors")
    tensors["flow_out.bias"][0] = float("nan")
    save_file(tensors, copy / "model.safetensors")
    config = json.loads((copy / "config.json").read_text())
    config["weights_sha256"] = weights_digest(copy / "model.safetensors")
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match="not finite"):
        open_pianist(copy)
