"""From performances to a trained model: the pack, marks carried over to what was played, the command itself."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints.index import CHECKPOINTS, PIANIST
from engine.checkpoints.index import EXPECTED as EXPECTED_FOLDER
from engine.engine import Engine
from engine.models.pianist.features import score_features
from engine.models.pianist.pianist import EXPECTED, VELOCITY, Pianist, PianistConfig
from engine.models.pianist.sampling import EncodedScore
from engine.music.expression import encode_expression
from engine.music.io.alignment import read_match
from engine.music.io.read_musicxml import read_musicxml_file
from engine.music.io.repeats import unfold
from engine.music.types import MARK_NAMES, Alignment, Expression, Marks, Score
from engine.requests import PerformRequest
from tests.helpers.command_line import little_piece
from training.core.loop import WARM_UP_STEPS, learning_rate, prefetch
from training.pianist import export, train_flow
from training.pianist import train as train_pianist
from training.pianist.batches import READINGS, DescriptorRegression, PianistCorpus, make_batch
from training.pianist.expected_of_pack import PackValues, as_read
from training.pianist.export import pianist_of
from training.pianist.marks import attach_marks
from training.pianist.pack import Pack, PackWriter
from training.pianist.train_flow import base_of_pack

DATA = Path(__file__).parents[1] / "data"
PRELUDE = DATA / "bach_prelude_868_GonzalezJ05M.match"


@pytest.fixture(scope="module")
def prelude() -> tuple[Score, Expression]:
    score, performance, alignment = read_match(PRELUDE)
    return score, encode_expression(score, performance, alignment)


@pytest.fixture(scope="module")
def written() -> Score:
    """The same prelude from its MusicXML, with one mark of our own on every note: which bar it stands in."""
    score = read_musicxml_file(DATA / "bach_prelude_868.musicxml")
    table = np.array(score.marks.table)
    bar = np.searchsorted(score.measures.onset_quarter, score.onset_quarter + 1e-6, side="right")
    table[:, MARK_NAMES.index("tenuto")] = bar
    return replace(score, marks=Marks(table))


def test_a_pack_gives_back_what_was_put_in(prelude, tmp_path):
    score, expression = prelude
    writer = PackWriter()
    writer.add("Bach/Prelude/bwv_868/GonzalezJ05M", "Bach/Prelude/bwv_868", "train", 1, score, expression)
    writer.add("again", "Bach/Prelude/bwv_868", "validation", 1, score, expression)
    writer.save(tmp_path / "pack.npz")
    pack = Pack(tmp_path / "pack.npz")
    assert len(pack) == 2
    assert len(pack.columns["score_ptr"]) == 2  # two performances of one score
    item = pack.item(0)
    assert (item.name, item.split, item.composer) == ("Bach/Prelude/bwv_868/GonzalezJ05M", "train", 1)
    for name in ("onset_quarter", "duration_quarter"):
        np.testing.assert_allclose(getattr(item.score, name), getattr(score, name), atol=0.5 / 10_080 + 1e-9)
    for name in ("pitch", "spelling", "staff", "voice", "grace"):
        np.testing.assert_array_equal(getattr(item.score, name), getattr(score, name), err_msg=name)
    np.testing.assert_array_equal(item.score.marks.table, score.marks.table)
    for name in ("onset_quarter", "duration_quarter", "position_quarter", "ts_num", "ts_den", "fifths"):
        np.testing.assert_allclose(getattr(item.score.measures, name), getattr(score.measures, name), atol=1e-4)
    got = item.expression
    half = {"timing_sec": 0.5 / 5000, "velocity": 0.5, "articulation_log2": 0.5 / 24, "pedal": 0.5, "played": 0}
    limits = {"articulation_log2": (-128 / 24, 127 / 24)}
    for name, step in half.items():
        there = np.clip(np.asarray(getattr(expression, name), float), *limits.get(name, (-np.inf, np.inf)))
        np.testing.assert_allclose(np.asarray(getattr(got, name), float), there, atol=step + 1e-9, err_msg=name)
    np.testing.assert_allclose(np.log2(got.beat_period), np.log2(expression.beat_period), atol=0.5 / 2000 + 1e-9)


def test_a_pack_of_another_format_is_refused(tmp_path):
    np.savez(tmp_path / "old.npz", format=0)
    with pytest.raises(ValueError, match="is format 0"):
        Pack(tmp_path / "old.npz")


@pytest.mark.parametrize("order", ["written", "repeated", "cut"])
def test_marks_find_their_bars(written, order):
    """A player repeats bars 3 to 8, or leaves bars 6 and 7 out: every note gets the marks of its own bar."""
    m = len(written.measures)
    path = {
        "written": list(range(m)),
        "repeated": [*range(8), *range(2, m)],
        "cut": [*range(5), *range(7, m)],
    }[order]
    truth = unfold(written, path)
    played = replace(truth, marks=Marks.none(len(truth)))
    marked, overlap = attach_marks(played, written)
    assert overlap > 0.99
    np.testing.assert_array_equal(marked.marks.table, truth.marks.table)


def test_marks_of_what_was_really_played(prelude, written):
    marked, overlap = attach_marks(prelude[0], written)
    assert overlap > 0.9
    bar = np.searchsorted(marked.measures.onset_quarter, marked.onset_quarter + 1e-6, side="right")
    assert (marked.marks["tenuto"] == bar).mean() > 0.97


def test_marks_of_another_piece_are_not_copied(prelude):
    other = read_match(DATA / "bach_fugue_846_Shi05M.match")[0]
    marked, overlap = attach_marks(prelude[0], other)
    assert overlap < 0.6
    assert marked is prelude[0]


@pytest.fixture
def small_pack(tmp_path) -> Path:
    """Three performances to learn from, one held out."""
    source, writer = Pack(DATA / "ten_scores.npz"), PackWriter()
    for i, split in enumerate(("train", "train", "train", "validation")):
        item = source.item(i)
        writer.add(item.name, item.work, split, item.composer, item.score, item.expression)
    writer.save(tmp_path / "small.npz")
    return tmp_path / "small.npz"


def test_the_splits_stay_apart(small_pack):
    pack = Pack(small_pack)
    train, held_out = PianistCorpus(pack, "train"), PianistCorpus(pack, "validation")
    assert (len(train), len(held_out)) == (3, 1)
    assert not set(train.names) & set(held_out.names)
    assert train.weight.sum() == pytest.approx(1)
    assert len(PianistCorpus(pack, "train", limit=2)) == 2


def test_training_runs_saves_and_goes_on(small_pack, tmp_path, monkeypatch):
    """The command, for three seconds, and again: it goes on where it stopped, and can be exported from."""
    out = tmp_path / "run"
    options = ["--minutes", "0.05", "--batch", "4", "--width", "32", "--score-layers", "1", "--flow-layers", "1"]

    def train() -> dict:
        monkeypatch.setattr(sys, "argv", ["train_pianist", "--pack", str(small_pack), "--out", str(out), *options])
        train_pianist.main()
        return torch.load(out / "last.pt", weights_only=True)

    threads = torch.get_num_threads()
    try:
        first, second = train(), train()
    finally:
        torch.set_num_threads(threads)
    assert 0 < first["step"] < second["step"]
    assert 3 <= first["seconds"] < second["seconds"]
    assert set(first) == {"model", "average", "optimizers", "step", "seconds"}
    about = json.loads((out / "config.json").read_text())
    assert about["step"] == second["step"]
    assert about["model"]["width"] == 32
    assert about["args"]["minutes"] == "0.05"
    assert about["pack"] == Pack(small_pack).digest
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [first["step"], second["step"]]
    for line in lines:
        assert np.isfinite([*line["train"].values(), *line["validation"].values()]).all()
        assert {"flow", "axes", "r_velocity", "r_pedal"} <= set(line["validation"])
    assert any((first["average"][k] != v).any() for k, v in second["average"].items())


@pytest.fixture
def pack_values(small_pack, tmp_path) -> Path:
    """Expected curves of the small pack's scores: here its first performance's own loudness, half as wide."""
    pack, values = Pack(small_pack), PackValues({}, {}, {}, {})
    for i in range(len(pack)):
        item, k = pack.item(i), int(pack.columns["score"][i])
        n = len(item.score)
        curves = np.zeros((3, n), np.float32)
        curves[1] = (item.expression.velocity - item.expression.velocity.mean()) / 2
        for reading in READINGS:
            values.curves[k, reading], values.pace[k, reading] = curves, np.full(n, -1.0, np.float32)
            values.summary[k, reading] = np.arange(4.0) + i
        values.fold[k] = -1 if item.split == "validation" else i
    values.save(tmp_path / "expected.npz")
    return tmp_path / "expected.npz"


def test_the_base_has_the_slopes_and_levels_of_the_performances(small_pack, pack_values):
    pack = Pack(small_pack)
    base, given = base_of_pack(pack, PackValues.load(pack_values))
    assert base.share[1] == pytest.approx(2.0, abs=0.05)  # velocity moves twice as far as the curve
    corpus, plain = PianistCorpus(pack, "train", given=given), PianistCorpus(pack, "train")
    expected = DescriptorRegression.fit(plain, 64)
    b, raw = (make_batch(c, expected, np.random.default_rng(0), 2, 64, augment=True) for c in (corpus, plain))
    full = b["x"].clone()
    full[..., EXPECTED] += b["expected"]
    torch.testing.assert_close(full, raw["x"])
    torch.testing.assert_close(b["axes"], raw["axes"])  # sliders measure the playing, not the residual


def test_the_flow_trains_on_the_residual_and_goes_on(small_pack, pack_values, tmp_path, monkeypatch):
    out = tmp_path / "run"
    options = ["--minutes", "0.04", "--batch", "4", "--width", "32", "--expected", str(pack_values), "--no-compile"]

    def run() -> dict:
        monkeypatch.setattr(sys, "argv", ["train_flow", "--pack", str(small_pack), "--out", str(out), *options])
        train_flow.main()
        return torch.load(out / "last.pt", weights_only=True)

    threads = torch.get_num_threads()
    try:
        first, second = run(), run()
    finally:
        torch.set_num_threads(threads)
    assert 0 < first["step"] < second["step"]
    about = json.loads((out / "config.json").read_text())
    assert about["model"]["expected"] == 3
    assert np.isfinite(about["base"]["weight"]).all()
    line = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert {"flow", "axes", "works"} <= set(line["train"])

    folder = tmp_path / "checkpoints" / PIANIST
    command = ["export", "--run", str(out), "--pack", str(small_pack), "--out", str(folder)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):  # without --expected
        export.main()
    monkeypatch.setattr(sys, "argv", [*command, "--expected", str(pack_values), "--sampling", '{"steps": 2}'])
    export.main()
    (folder.parent / EXPECTED_FOLDER).symlink_to(CHECKPOINTS / EXPECTED_FOLDER)
    engine, score = Engine.load(folder.parent), little_piece()
    config = json.loads((folder / "config.json").read_text())
    size = len(engine.expected.model.of(score).summary)
    config["base"]["weight"] = np.zeros((3, size + 1)).tolist()  # the small pack's features are not the real ones
    (folder / "config.json").write_text(json.dumps(config))
    played = engine.perform(PerformRequest(score))
    assert len(played) == len(score)
    assert (
        len(engine.style_from(score, played, Alignment.identity(len(score)))) == engine.pianist.model.config.style_size
    )
    given = engine._base(score)
    assert given is not None
    louder = EncodedScore(engine.pianist.model, score_features(score), given + np.array([0, 1, 0])).expected(
        np.zeros(16), 0
    )
    plain = EncodedScore(engine.pianist.model, score_features(score), given).expected(np.zeros(16), 0)
    assert (louder - plain)[:, VELOCITY].mean() == pytest.approx(1, abs=0.2), "the residual is added to the base"


def test_z_p_of_a_residual_does_not_depend_on_the_score(small_pack):
    model = Pianist(PianistConfig(width=32, feed_forward=64, expected=3)).eval()
    pack = Pack(small_pack)
    value = torch.from_numpy(PianistCorpus(pack, "train").features[0, pack.item(0).composer].value[None, :32].copy())
    h = torch.randn(1, 32, 32)
    torch.testing.assert_close(model.style_context(h, value), model.style_context(-h, value))


def test_a_plain_reading_keeps_loudness_and_tempo_alone(written):
    plain = as_read(written, "midi")
    assert not plain.marks["tenuto"].any()
    assert not len(plain.events)
    np.testing.assert_array_equal(plain.marks["written_velocity"], written.marks["written_velocity"])
    assert not as_read(written, "none").marks.table.any()


def test_batches_come_in_order_and_errors_come_through():
    numbers = iter(range(3))

    def make() -> dict[str, torch.Tensor]:
        number = next(numbers, None)
        if number is None:
            raise ValueError("no more")
        return {"x": torch.tensor(number)}

    batches = prefetch(make, depth=2)
    assert [int(next(batches)["x"]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no more"):
        next(batches)


def test_the_rate_warms_up_and_falls():
    assert learning_rate(0, 0.0) == pytest.approx(1 / WARM_UP_STEPS)
    assert learning_rate(0, 0.0, 200) == pytest.approx(1 / 200)
    assert learning_rate(10_000, 0.0) == pytest.approx(1.0)
    assert learning_rate(10_000, 1.0) == learning_rate(10_000, 1.5) == pytest.approx(0.03)


@pytest.mark.parametrize(
    "name, pianist",
    [
        ("Bach/Fugue/bwv_857/Bult-ItoS02M", "Bult-ItoS"),
        ("Chopin/Etudes_op_25/2/Karpeyev02", "Karpeyev"),
        ("Beethoven/Piano_Sonatas/9-2_no_trio/Tysman05", "Tysman"),
        ("Schumann/Kreisleriana/4/ParkJH07", "ParkJH"),
        ("WangA_", "WangA"),
    ],
)
def test_the_pianist_of_a_performance_id(name, pianist):
    assert pianist_of(name) == pianist
