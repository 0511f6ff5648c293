"""The baselines MT and ECPT: attention against a slow reference, causality, cached sampling, learning, the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.models.nn.sampling import sample_top_p
from engine.models.xmvae import ecpt, music_transformer
from engine.models.xmvae.ecpt import Ecpt, EcptConfig, sample_tokens
from engine.models.xmvae.music_transformer import CausalLayer, MtConfig, MusicTransformer, sample_events
from engine.music.io.alignment import read_match
from engine.tokens.decode import decode, grammar_faults
from engine.tokens.ecp import encode
from engine.tokens.events import BOS, EOS, decode_events, encode_events
from engine.tokens.tables import BEAT_PERIOD, FAMILY, METRIC, NOTE, POSITION
from training.xmvae import train_baselines
from training.xmvae.segments import FORMAT, collate
from training.xmvae.train_baselines import collate_events, played_notes, validate

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def segments() -> list[np.ndarray]:
    """The first three segments of a Chopin étude as played."""
    found = encode(*read_match(DATA / "chopin_etude_25_2_Karpeyev02.match")).segments[:3]
    return [s.tokens.astype(np.int64) for s in found]


def make(kind: str) -> MusicTransformer | Ecpt:
    torch.manual_seed(1)
    if kind == "mt":
        return MusicTransformer(MtConfig(32, 2, 2, 64, max_distance=24, dropout=0.1)).eval()
    return Ecpt(EcptConfig(32, 2, 2, 64, dropout=0.1)).eval()


def ref_attend(layer: CausalLayer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Equation 3 of Music Transformer, pair by pair; (H, B, T, head)."""
    heads, size, time, head = q.shape
    out = torch.zeros_like(q)
    for h in range(heads):
        for b in range(size):
            for i in range(time):
                scores = []
                for j in range(i + 1):
                    e = torch.zeros(head)
                    if layer.distance is not None:
                        most = layer.distance.shape[1] - 1
                        e = layer.distance[h, most - min(i - j, most)]
                    scores.append((q[h, b, i] @ k[h, b, j] + q[h, b, i] @ e) / head**0.5)
                out[h, b, i] = torch.stack(scores).softmax(0) @ v[h, b, : i + 1]
    return out


@pytest.mark.parametrize("max_distance", [0, 5, 40])
def test_blocked_relative_attention_equals_the_definition(max_distance, monkeypatch):
    monkeypatch.setattr(music_transformer, "QUERY_BLOCK", 4)
    torch.manual_seed(0)
    layer = CausalLayer(12, 2, 8, max_distance, 0.0)
    if layer.distance is not None:
        torch.nn.init.normal_(layer.distance)
    q, k, v = torch.randn(3, 2, 3, 11, 6).unbind(0)
    torch.testing.assert_close(layer.attend(q, k, v), ref_attend(layer, q, k, v))


def test_the_gradient_of_attention_is_right(monkeypatch):
    monkeypatch.setattr(music_transformer, "QUERY_BLOCK", 3)
    torch.manual_seed(0)
    layer = CausalLayer(4, 2, 4, 4, 0.0).double()
    assert layer.distance is not None
    torch.nn.init.normal_(layer.distance)
    q, k, v = (x.requires_grad_() for x in torch.randn(3, 2, 1, 7, 2, dtype=torch.double).unbind(0))
    assert torch.autograd.gradcheck(lambda *x: layer.attend(*x), (q, k, v))
    layer.attend(q, k, v).square().sum().backward()
    mine = layer.distance.grad
    layer.distance.grad = None
    assert mine is not None
    step = torch.randn_like(mine)

    def value(size: float) -> Tensor:
        moved = CausalLayer(4, 2, 4, 4, 0.0).double()
        moved.distance = torch.nn.Parameter(layer.distance.detach() + size * step)
        return moved.attend(q, k, v).square().sum()

    torch.testing.assert_close((value(1e-5) - value(-1e-5)) / 2e-5, (mine * step).sum(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["mt", "ecpt"])
def test_a_step_sees_nothing_of_what_follows(kind, segments):
    model = make(kind)
    if kind == "mt":
        told = collate_events(segments[:1])["events"][:, :60]
        changed = told.clone()
        changed[:, 40:] = 100
        a, b = model(told), model(changed)
        torch.testing.assert_close(a[:, :40], b[:, :40])
        assert not torch.allclose(a[:, 40:], b[:, 40:], atol=1e-3)
        return
    tokens = torch.from_numpy(segments[0])[None, :60]
    changed = tokens.clone()
    changed[:, 40:] = tokens[:, 20:40]
    family = tokens[..., FAMILY]
    for a, b in zip(model(tokens, family), model(changed, family), strict=True):
        torch.testing.assert_close(a[:, :40], b[:, :40])


def test_only_the_other_seven_heads_get_the_family(segments):
    model, tokens = make("ecpt"), torch.from_numpy(segments[0])[None, :20]
    note, metric = torch.full((1, 20), NOTE), torch.full((1, 20), METRIC)
    a, b = model(tokens, note), model(tokens, metric)
    torch.testing.assert_close(a[0], b[0])
    assert all(not torch.allclose(x, y) for x, y in zip(a[1:], b[1:], strict=True))


def test_cached_greedy_sampling_of_events_equals_the_whole_network():
    """40 notes pass the model's 24 distances; what is forbidden is taken from the sampler's own rule."""
    model = make("mt")
    drawn = sample_events(model, 2, 0, notes=40, temperature=0.0)
    keys = music_transformer._Keys(2, 40, torch.device("cpu"))
    with torch.no_grad():
        logits = model(drawn[:, :-1])
    ended = torch.zeros(2, dtype=torch.bool)
    for at in range(drawn.shape[1] - 1):
        best = logits[:, at].masked_fill(keys.forbidden(), -torch.inf).argmax(-1)
        best[ended] = 0
        assert torch.equal(best, drawn[:, at + 1]), at
        keys.take(best)
        ended |= (best == EOS) | ((keys.struck >= 40) & ~keys.down.any(1))
    assert drawn.shape[1] > 60


def test_cached_greedy_sampling_of_ecp_equals_the_whole_network():
    """Family first, the others given it: wherever the grammar leaves the likeliest class open, it is what was drawn."""
    model, agreed = make("ecpt"), 0
    drawn = sample_tokens(model, 2, 0, notes=30, temperature=(0.0,) * 8)
    with torch.no_grad():
        logits = model(drawn[:, :-1], drawn[:, 1:, FAMILY])
    grammar = ecpt._Grammar(2, 30, torch.device("cpu"))
    grammar.take(drawn[:, 0])
    for at in range(drawn.shape[1] - 1):
        going, step = drawn[:, at + 1, FAMILY] > 0, drawn[:, at + 1]
        best = logits[0][:, at].masked_fill(~grammar.family(), -torch.inf).argmax(-1)
        assert torch.equal(best[going], step[going, FAMILY])
        for k in range(BEAT_PERIOD + 1, 8):
            note = step[:, FAMILY] == NOTE
            likeliest = logits[k][:, at, 1:].argmax(-1) + 1
            assert torch.equal(likeliest[note], step[note, k])
            agreed += int(note.sum())
        metric = step[:, FAMILY] == METRIC
        place = logits[POSITION][:, at].masked_fill(~grammar.positions(), -torch.inf).argmax(-1)
        assert torch.equal(place[metric], step[metric, POSITION])
        grammar.take(step)
    assert agreed == 2 * 30 * 3


def test_nucleus_keeps_the_likeliest_classes_only():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(2000, 4)
    drawn = sample_top_p(logits, 1.0, 0.7, torch.Generator().manual_seed(0))
    share = torch.bincount(drawn, minlength=4) / 2000
    torch.testing.assert_close(share, torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=0.04, rtol=0)
    assert sample_top_p(logits, 0.0, 1.0, torch.Generator()).unique().tolist() == [0]


@pytest.mark.parametrize("kind", ["mt", "ecpt"])
def test_samples_are_whole_and_follow_the_seed(kind):
    model = make(kind)
    draw = music_transformer.sample if kind == "mt" else ecpt.sample
    a, b, c = draw(model, 3, 5, notes=20, batch=2), draw(model, 3, 5, notes=20, batch=2), draw(model, 3, 6, notes=20)
    assert [len(p) for p in a] == [20, 20, 20]
    assert [p.digest for p in a] == [p.digest for p in b]
    assert a[0].digest != c[0].digest
    assert all((p.velocity > 0).all() and (p.duration_sec > 0).all() for p in a)


def test_what_the_untrained_compound_model_writes_is_well_formed():
    for row in sample_tokens(make("ecpt"), 6, 2, notes=80).numpy():
        tokens = ecpt.played(row)
        assert grammar_faults(tokens) == []
        assert (tokens[:, FAMILY] == NOTE).sum() == 80
        assert len(decode(tokens).performance) == 80


def test_what_the_untrained_event_model_plays_could_be_played():
    for row in sample_events(make("mt"), 4, 2, notes=30, max_events=600).numpy():
        _, repairs = decode_events(row)
        assert (repairs.stray_offs, repairs.restruck) == (0, 0)


def test_events_of_a_segment_are_those_of_its_played_notes(segments):
    tokens = segments[0].copy()
    known = np.flatnonzero(tokens[:, BEAT_PERIOD])
    tokens[known[3], 4:] = 0
    assert len(played_notes(tokens)) == len(known) - 1
    row = collate_events([tokens, segments[1]])["events"][0]
    told = encode_events(played_notes(tokens))
    assert row[0] == BOS
    assert row[1 : len(told) + 1].tolist() == told.tolist()
    assert row[len(told) + 1] == EOS


@pytest.mark.parametrize("kind", ["mt", "ecpt"])
def test_learning_lowers_the_loss_and_the_figures_add_up(kind, segments):
    model = make(kind)
    batch = collate_events(segments) if kind == "mt" else collate(segments)
    losses = music_transformer.losses if kind == "mt" else ecpt.losses
    before = validate(model, [batch], losses)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(4):
        optimizer.zero_grad()
        losses(model, batch)["loss"].backward()
        optimizer.step()
    after = validate(model, [batch], losses)
    assert after["loss"] < before["loss"] - 0.1
    predictions = int((batch["events"][:, 1:] > 0).sum()) if kind == "mt" else int((~batch["pad"][:, 1:]).sum())
    assert after["nats_per_note"] == pytest.approx(after["loss"] * predictions / train_baselines.notes_in(batch))


def write_pack(path: Path, tokens: list[np.ndarray]) -> None:
    """A pack of one performance a split."""
    columns: dict[str, np.ndarray] = {}
    for kind, width in (("performance", 8), ("score", 4)):
        rows = [t[1:-1, :width].astype(np.uint8) for t in tokens]
        columns |= {f"{kind}_{k}": np.array(["a", "b"]) for k in ("name", "work", "composer", "performer")}
        columns |= {f"{kind}_split": np.array(["train", "validation"]), f"{kind}_run_item": np.arange(2)}
        columns |= {f"{kind}_tokens": np.concatenate(rows).T, f"{kind}_run_ptr": np.cumsum([0, *map(len, rows)])}
    np.savez(path, format=FORMAT, **columns)


@pytest.mark.parametrize("kind", ["mt", "ecpt"])
def test_the_command_trains_stops_and_resumes(kind, segments, tmp_path, monkeypatch):
    write_pack(tmp_path / "pack.npz", segments[:2])
    out = tmp_path / "run"

    def command(steps: int) -> None:
        arguments = ["x", "--model", kind, "--pack", tmp_path / "pack.npz", "--out", out, "--steps", steps]
        arguments += ["--batch", 2, "--width", 16, "--layers", 1, "--heads", 2, "--feed-forward", 32]
        monkeypatch.setattr(sys, "argv", list(map(str, [*arguments, "--max-distance", 64, "--validation", 2])))
        train_baselines.main()

    command(2)
    command(3)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3]
    assert all(np.isfinite(line["validation"]["nats_per_note"]) for line in lines)
    about = json.loads((out / "config.json").read_text())
    assert about["kind"] == kind
    model = train_baselines.load(out)
    draw = music_transformer.sample if kind == "mt" else ecpt.sample
    assert len(draw(model, 1, 0, notes=4)[0]) == 4  # type: ignore[arg-type]
