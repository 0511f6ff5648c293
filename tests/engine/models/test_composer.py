"""The Composer's note grammar, its training examples, and its drawing loop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.models.composer.composer import CONTEXT, NOTE, START, Composer, ComposerConfig, References
from engine.models.composer.generate import sample_top_p
from engine.models.composer.inputs import GAP_COLUMN, gap_class
from engine.models.composer.numpy_network import Heads, Network, Weights
from engine.music.io.read_musicxml import read_musicxml_file
from engine.tokens.composer_tokens import (
    ADVANCE,
    FIELD_SIZES,
    NOTE_TICKS,
    PITCH,
    POSITION,
    STOP,
    is_minor,
    key_shift,
    make_bars,
    make_written,
    write_tokens,
)
from engine.untrusted.scores import open_score
from training.composer.batches import example, make_batch, piece_weights, read_pieces
from training.composer.held_out import windows
from training.composer.prepare import write_pack
from training.composer.train import losses
from training.core.score_packs import PackedScore

DATA = Path(__file__).parents[2] / "data"
TINY = ComposerConfig(width=32, layers=2, heads=2, feed_forward=64, head_width=32, window=96)


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "pack.npz"
    written = {
        "prelude": write_tokens(read_musicxml_file(DATA / "bach_prelude_868.musicxml")),
        "etude": write_tokens(open_score((DATA / "chopin_etude_25_2.mxl").read_bytes(), "etude.mxl")),
    }
    items = [PackedScore("1", "prelude", "Bach", "train", "nasap", written["prelude"], tempo=80.0)]
    items += [PackedScore("2", "etude", "Chopin", "train", "scores", written["etude"])]
    items += [PackedScore("3", "prelude", "Bach", "validation", "nasap", written["prelude"], tempo=80.0)]
    write_pack(path, items)
    return path


@pytest.fixture(scope="module")
def model() -> Composer:
    torch.manual_seed(0)
    model = Composer(TINY)
    for layer in model.layers:  # as made, they add nothing
        torch.nn.init.normal_(layer.out.weight, std=0.2)
        torch.nn.init.normal_(layer.down.weight, std=0.2)
    return model.eval()


def two_bars(num: int, den: int):
    length = 4 * num / den
    one = np.ones(2, int)
    return make_bars(np.array([0, length]), length * one, 0 * one, num * one, den * one, 2 * one)


def test_six_eight_has_two_beats_of_thirty_six_ticks_in_a_bar():
    bars = two_bars(6, 8)
    assert bars.beat.tolist() == [36, 36]
    assert bars.first.tolist() == [0, 2]
    # an eighth into the second beat of bar 1, and the third eighth of bar 2
    w = make_written(np.array([2.0, 4.0]), np.array([0.5, 1]), np.array([60, 62]), np.array([1, 2]), np.zeros(2), bars)
    assert w.tick.tolist() == [48, 96]
    assert w.beat.tolist() == [1, 2]
    assert w.position.tolist() == [12, 24]
    assert w.in_bar.tolist() == [48, 24]
    assert w.staff.tolist() == [0, 1]
    assert NOTE_TICKS[w.duration].tolist() == [12, 24]


def test_a_pickup_counts_its_beats_from_where_the_whole_bar_would_start():
    bars = make_bars(np.array([-1.0, 0]), np.array([1.0, 4]), np.array([3.0, 0]), np.array([4, 4]), np.array([4, 4]),
                     np.array([0, 0]))  # fmt: skip
    w = make_written(np.array([-1.0, 0]), np.ones(2), np.array([60, 62]), np.ones(2), np.zeros(2), bars)
    assert w.beat.tolist() == [3, 4]
    assert w.in_bar.tolist() == [72, 0]


def test_grace_notes_and_doubled_keys_are_left_out_and_the_longer_note_stays():
    bars = two_bars(4, 4)
    w = make_written(
        np.array([0.0, 0, 0, 1]), np.array([0.0, 1, 2, 1]), np.array([59, 60, 60, 64]), np.ones(4),
        np.array([True, False, False, False]), bars,
    )  # fmt: skip
    assert w.pitch.tolist() == [60, 64]
    assert NOTE_TICKS[w.duration].tolist() == [48, 24]
    assert w.source.tolist() == [2, 3]


def test_a_note_rounded_onto_the_next_barline_belongs_to_the_next_bar():
    w = make_written(np.array([3.999]), np.ones(1), np.array([60]), np.ones(1), np.zeros(1), two_bars(4, 4))
    assert (w.bar.tolist(), w.position.tolist()) == ([1], [0])


@pytest.mark.parametrize("fifths", range(-7, 8))
def test_the_shift_takes_the_signatures_major_tonic_to_c(fifths):
    assert (7 * fifths + key_shift(fifths)) % 12 == 0
    assert -6 <= key_shift(fifths) <= 5


def test_major_and_minor_are_distinguished_without_a_signature():
    major, minor = np.array([60, 64, 67, 72, 62, 65, 71]), np.array([57, 60, 64, 69, 68, 59, 62])
    weight = np.array([4, 2, 3, 4, 1, 1, 1])
    assert not is_minor(major, weight)
    assert is_minor(minor, weight)


def replay(start_beat: int, target: np.ndarray) -> list[tuple[int, int, int]]:
    """(beat, position, pitch) of each note that targets spell out, walked step by step."""
    beat, out = start_beat, []
    for row in target:
        if row[ADVANCE] == STOP:
            break
        beat += int(row[ADVANCE])
        out.append((beat, int(row[POSITION]), int(row[PITCH])))
    return out


def test_targets_spell_out_the_window_note_by_note(pack):
    piece = read_pieces(pack, "train")[0]
    e = example(piece, np.random.default_rng(3), 96, 0.0, keep=True)
    w = piece.written
    shift = key_shift(int(w.bars.fifths[0]))
    truth = list(zip(w.beat.tolist(), w.position.tolist(), (w.pitch + shift).tolist(), strict=True))
    found = replay(0, e["target"])
    begins = [i for i in range(len(truth)) if truth[i][1:] == found[0][1:]]
    assert any(  # the same notes, counted from the start of the window's first bar
        [(b - truth[i][0] + found[0][0], p, q) for b, p, q in truth[i : i + len(found)]] == found for i in begins
    )
    assert e["steps"][0, 0] == START
    assert (e["steps"][1:, 0] == NOTE).all()


def test_a_passage_to_fill_in_is_marked_and_what_stays_is_read_first(pack):
    piece = read_pieces(pack, "train")[0]
    rng = np.random.default_rng(0)
    found = [example(piece, rng, 96, 1.0, keep=True) for _ in range(20)]
    gaps = [e for e in found if (e["steps"][:, 0] == CONTEXT).any()]
    assert len(gaps) > 10
    for e in gaps:
        kind, gap = e["steps"][:, 0], e["steps"][:, GAP_COLUMN]
        seen = int((kind == CONTEXT).sum())
        assert (kind[:seen] == CONTEXT).all()
        assert kind[seen] == START
        assert not e["known"][:seen].any()
        inside = np.flatnonzero(gap > 0)
        assert (np.diff(inside) == 1).all()  # one stretch, up to the end
        assert inside[-1] == len(gap) - 1
        assert e["target"][-1, ADVANCE] == STOP
        assert e["known"][-1]
        assert (np.diff(gap[inside]) <= 0).all()  # fewer and fewer beats are left
    assert gap_class(0) == 1


def test_conditions_are_those_of_the_piece(pack):
    piece = read_pieces(pack, "train")[0]
    conditions = example(piece, np.random.default_rng(0), 96, 0.0, keep=True)["conditions"]
    assert (conditions == conditions[0]).all()
    composer, period, _, tempo, density, genre, accompanies = conditions[0]
    assert (genre, accompanies) == (0, 1)  # no genre known, a solo
    assert (composer, period, tempo) == (4, 1, 4)  # J. S. Bach, baroque, 75 to 90
    assert 10 <= density <= 13  # running sixteenths over slower voices: some six notes a quarter
    weights = piece_weights(read_pieces(pack, "train"))
    np.testing.assert_allclose(weights, [0.25, 0.75])


def test_the_network_knows_only_earlier_notes(pack, model):
    batch = make_batch(read_pieces(pack, "train"), np.array([0.5, 0.5]), np.random.default_rng(0), 2, 64)
    with torch.no_grad():
        before = model(batch["steps"], batch["quarter"], batch["conditions"])
        steps = batch["steps"].clone()
        steps[:, 40, 1] = (steps[:, 40, 1] + 5) % 128
        after = model(steps, batch["quarter"], batch["conditions"])
    torch.testing.assert_close(before[:, :40], after[:, :40])
    assert (before[:, 40:] - after[:, 40:]).abs().amax(-1).min() > 1e-5


def test_a_sub_token_depends_on_the_ones_before_it_and_not_on_later_ones(model):
    h = torch.randn(1, TINY.width)
    base = torch.tensor([[1, 2, 0, 60, 10]])
    with torch.no_grad():
        a = model.sub(h, base)
        for j in range(len(FIELD_SIZES)):
            other = base.clone()
            other[0, j] = (base[0, j] + 1) % FIELD_SIZES[j]
            b = model.sub(h, other)
            for k in range(len(FIELD_SIZES)):
                same = torch.equal(a[k], b[k])
                assert same == (k <= j)


def test_steps_in_numpy_are_the_network_in_torch(pack, model):
    batch = make_batch(read_pieces(pack, "train"), np.array([1.0, 0]), np.random.default_rng(1), 2, 64, 0.0)
    batch = {k: v[:, :63] for k, v in batch.items()}  # the last place of the window is padding
    steps, quarter = batch["steps"].numpy(), batch["quarter"].numpy()
    conditions = batch["conditions"][:1, 0, :5].expand(2, -1)
    with torch.no_grad():
        whole = model(batch["steps"], batch["quarter"], conditions).numpy()
        logits = model.sub(torch.from_numpy(whole[:, -1]), batch["target"][:, -1])
    net = Network(Weights(model), 2, 64, conditions[0].numpy())
    np.testing.assert_allclose(net.read(steps[:, :20], quarter[:, :20]), whole[:, 19], atol=2e-4)
    for t in range(20, steps.shape[1]):
        hidden = net.step(steps[:, t], quarter[:, t])
        np.testing.assert_allclose(hidden, whole[:, t], atol=2e-4)
    heads = Heads(Weights(model), hidden)
    for j in range(len(FIELD_SIZES)):
        np.testing.assert_allclose(heads.logits(j), logits[j].numpy(), atol=2e-3)
        heads.give(j, batch["target"][:, -1, j].numpy())


def test_drawing_keeps_to_the_allowed_and_to_the_nucleus():
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05]))
    every = np.ones(4, bool)
    rng = np.random.default_rng(0)
    assert {sample_top_p(logits, every, 1.0, 0.7, rng) for _ in range(200)} == {0, 1}
    assert {sample_top_p(logits, np.array([False, False, True, True]), 1.0, 1.0, rng) for _ in range(200)} == {2, 3}
    assert sample_top_p(logits, every, 1e-3, 1.0, rng) == 0
    share = np.mean([sample_top_p(logits, every, 1.0, 1.0, rng) == 0 for _ in range(2000)])
    assert abs(share - 0.5) < 0.04


def train(pack: Path, out: Path, *options: str, processes: int = 1) -> list[dict]:
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", "29617", "-m"]
    shape = "--width 32 --layers 1 --heads 2 --feed-forward 64 --head-width 32 --window 64 --batch 2 --save-minutes 9"
    command = [*start, "training.composer.train", "--pack", str(pack), "--out", str(out), *shape.split(), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=DATA.parents[1])
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_the_command_learns_stops_at_its_steps_and_resumes(pack, tmp_path):
    first = train(pack, tmp_path, "--steps", "40", "--rate", "0.01")
    assert first[-1]["step"] == 40
    again = train(pack, tmp_path, "--steps", "80", "--rate", "0.01")
    assert [line["step"] for line in again] == [40, 80]
    assert again[-1]["train"]["loss"] < again[0]["train"]["loss"]
    assert set(again[-1]["validation"]) == {"nasap", "nasap_infill"}
    assert list(tmp_path.glob("tensorboard/events*"))


def test_two_processes_train_one_model(pack, tmp_path):
    lines = train(pack, tmp_path, "--steps", "6", processes=2)
    assert [line["step"] for line in lines] == [6]


def test_losses_count_what_is_known_only(pack, model):
    batch = make_batch(read_pieces(pack, "train"), np.array([1.0, 0]), np.random.default_rng(1), 2, 64, 1.0)
    with torch.no_grad():
        a = losses(model, batch, 0.0)["loss"]
        batch["target"][~batch["known"]] = 1
        b = losses(model, batch, 0.0)["loss"]
    torch.testing.assert_close(a, b)


def planned(**shape: int) -> Composer:
    """A small Composer with a plan and reference attention, its zero-initialised matrices filled."""
    torch.manual_seed(0)
    model = Composer(ComposerConfig(64, 2, 2, 128, 32, 128, 2)).eval()
    for p in model.parameters():
        if p.ndim == 2 and not p.any():
            torch.nn.init.normal_(p, std=0.05)
    return model


def test_a_reference_reaches_the_notes_of_the_named_bar_and_no_others(pack):
    model, b = planned(), make_batch(read_pieces(pack, "train"), np.array([1.0, 0]), np.random.default_rng(1), 1, 128)
    bar = torch.arange(128)[None] // 8
    target = torch.full((1, 128, 2), -2)
    y = torch.randn(1, 128, 64)
    heads = model.layers[1].reference
    with torch.no_grad():
        assert not heads(y, References(bar, target, b["time"])).any()  # no reference: exactly nothing
        target[:, 80:88, 0] = 3
        before = heads(y, References(bar, target, b["time"]))
        for changed, expected in ((3, True), (4, False)):
            other = y.clone()
            other[:, changed * 8 : changed * 8 + 8] += 1
            after = heads(other, References(bar, target, b["time"]))
            assert torch.equal(before[:, 80:88], after[:, 80:88]) != expected
    assert not before[:, :80].any()
    assert not before[:, 88:].any()


def test_steps_in_numpy_follow_the_plan_as_the_network_in_torch_does(pack):
    model, pieces = planned(), read_pieces(pack, "train")
    b = make_batch(pieces, np.array([1.0, 0]), np.random.default_rng(4), 1, 128, 0.0, keep=True)
    columns = ("plan", "bar", "target_bar", "time")
    read = {k: b[k][:, :100] for k in ("steps", "quarter", *columns)}
    read["bar"] = torch.arange(100)[None] // 8
    read["target_bar"] = torch.full((1, 100, 2), -2)
    read["target_bar"][:, 30:, 0], read["target_bar"][:, 50:70, 1] = 2, 5
    conditions = b["conditions"][:, 0]
    references = References(read["bar"], read["target_bar"], read["time"])
    with torch.no_grad():
        whole = model(read["steps"], read["quarter"], conditions, 0.0, read["plan"], references).numpy()
        plain = model(read["steps"], read["quarter"], conditions, 0.0, read["plan"]).numpy()
    assert np.abs(whole - plain).max() > 0.01
    a = {k: v.numpy() for k, v in read.items()}
    net = Network(Weights(model), 1, 128, conditions[0].numpy())
    first = net.read(a["steps"][:, :40], a["quarter"][:, :40], {k: a[k][:, :40] for k in columns})
    np.testing.assert_allclose(first, whole[:, 39], atol=2e-4)
    for t in range(40, 100):
        hidden = net.step(a["steps"][:, t], a["quarter"][:, t], {k: a[k][:, t] for k in columns})
        np.testing.assert_allclose(hidden, whole[:, t], atol=2e-4)


def test_examples_that_share_a_row_do_not_see_each_other(pack):
    piece = read_pieces(pack, "train")[0]
    model, rng = planned(), np.random.default_rng(2)
    e = [
        {k: torch.from_numpy(np.asarray(v))[None] for k, v in example(piece, rng, 62, 0.0, True).items()} for _ in "ab"
    ]
    row = {k: torch.cat([e[0][k], e[1][k]], dim=1) for k in e[0]}
    sizes = [x["quarter"].shape[1] for x in e]
    row["segment"] = torch.repeat_interleave(torch.arange(2), torch.tensor(sizes))[None]
    row["index"] = torch.cat([torch.arange(n) for n in sizes])[None]

    def run(x):
        references = References(x["bar"], x["target_bar"], x["time"])
        return model(
            x["steps"], x["quarter"], x["conditions"], 0.0, x["plan"], references, x.get("segment"), x.get("index")
        )

    with torch.no_grad():
        row["bar"][:, sizes[0] :] += 1000
        row["target_bar"][:, sizes[0] :] += 1000
        together, alone = run(row), run(e[1])
    torch.testing.assert_close(together[:, sizes[0] :], alone, atol=1e-5, rtol=1e-4)


def test_training_embeds_by_a_product_what_it_looks_up_otherwise(pack):
    model, b = planned(), make_batch(read_pieces(pack, "train"), np.array([1.0, 0]), np.random.default_rng(1), 2, 64)
    with torch.no_grad():
        looked_up = model.embed(b["steps"], b["conditions"], b["plan"])
        fields = model.sub(looked_up, b["target"])
        model.train()
        torch.testing.assert_close(model.embed(b["steps"], b["conditions"], b["plan"]), looked_up)
        for a, other in zip(model.sub(looked_up, b["target"]), fields, strict=True):
            torch.testing.assert_close(a, other)


def test_held_out_windows_hold_every_note_once(pack):
    p = read_pieces(pack, "train")[0]
    found = list(windows(p, 40))
    np.testing.assert_array_equal(np.concatenate(found), np.arange(len(p.written)))
    assert max(map(len, found)) <= 40
    e = example(p, np.random.default_rng(0), 42, 0.0, True, found[1])
    assert e["target"][:-1, PITCH].tolist() == e["steps"][1:, 1].tolist()
