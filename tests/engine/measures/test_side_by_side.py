"""Performances of one score side by side: counted by hand, on real human playing, written by the command."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.measures.csv_text import csv_text
from engine.measures.side_by_side import (
    MEASURES,
    Played,
    Shape,
    agreement,
    bar_beats,
    measures_of,
    places,
    shape_of,
    smoothed,
    table_rows,
    tables_html,
    trajectory,
)
from engine.measures.side_by_side_figures import COLOURS, DASHES, TAIL, stacked_figure, worm_figure
from engine.music.expression import deadpan
from engine.music.io.alignment import align
from engine.music.io.midi import write_midi
from engine.music.io.write_musicxml import write_musicxml
from engine.music.types import Alignment, Marks, Measures, Performance, Score
from engine.untrusted.scores import open_performance, open_score
from studio.state.examples import EXAMPLES, FIRST
from tests.engine.cli.test_cli import little_piece, run


def eight_quarters() -> Score:
    """Two bars of 4/4, a quarter on every beat, going up."""
    n, zero = 8, np.zeros(8)
    bars = Measures([0, 4], [4, 4], [0, 0], [4, 4], [4, 4], [0, 0], [1, 2])
    return Score(np.arange(n), zero + 1, 60 + np.arange(n), zero, zero + 1, zero + 1, zero > 0, Marks.none(n), bars)


def slowing(velocity: list[int]) -> Performance:
    """Four beats of half a second, then of a second; every key held for half its beat."""
    onset = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 5])
    held = np.array([0.25] * 4 + [0.5] * 4)
    return Performance(onset, held, 60 + np.arange(8), np.array(velocity))


def played(name: str, performance: Performance) -> Played:
    return Played(name, performance, Alignment.identity(len(performance)))


RISING = [40, 50, 60, 70, 80, 90, 100, 110]


def shape(name: str = "a", velocity: list[int] = RISING) -> Shape:
    return shape_of(eight_quarters(), played(name, slowing(velocity)))


def test_a_shape_counted_by_hand() -> None:
    found = shape()
    assert found.beat.tolist() == list(range(8))
    assert found.tempo == pytest.approx([120, 120, 120, 120, 60, 60, 60, 60])
    assert found.velocity.tolist() == RISING
    assert found.timing_ms == pytest.approx([0] * 8, abs=1e-6)
    assert found.articulation == pytest.approx([0.5] * 8)
    assert places(eight_quarters())[5] == "bar 2, beat 2"
    assert bar_beats(eight_quarters()) == 4
    rows = measures_of(eight_quarters(), found)
    assert rows["duration"] == pytest.approx(5.5)
    assert rows["loudness"] == 75
    assert rows["tempo"] == pytest.approx(60 * np.sqrt(2))  # half the notes at 120, half at 60
    assert rows["articulation"] == pytest.approx(0.5)
    assert (rows["found"], rows["extra"]) == (100, 0)
    assert np.isnan(rows["lead"]), "there is no chord"


def test_an_unplayed_beat_is_no_beat() -> None:
    whole = slowing(RISING)
    kept = np.array([0, 1, 2, 4, 5, 6, 7])
    part = Performance(whole.onset_sec[kept], whole.duration_sec[kept], whole.pitch[kept], whole.velocity[kept])
    found = shape_of(eight_quarters(), Played("part", part, Alignment(kept, np.arange(7))))
    assert np.isnan(found.velocity[3])
    assert found.velocity[[2, 4]].tolist() == [60, 80]
    assert measures_of(eight_quarters(), found)["found"] == 87.5


def test_agreement_by_hand() -> None:
    a, same, down = shape(), shape("b"), shape("c", RISING[::-1])
    assert agreement(a, same).velocity == pytest.approx(1)
    assert agreement(a, down).velocity == pytest.approx(-1)
    assert agreement(a, down).tempo == pytest.approx(1)
    assert agreement(a, down).shared == 8
    steady = shape_of(eight_quarters(), played("d", deadpan(eight_quarters())))
    assert agreement(a, steady).tempo == 0, "nothing varies in it"
    few = replace(a, expression=replace(a.expression, played=np.arange(8) < 7))
    assert np.isnan(agreement(few, same).velocity), "seven notes say nothing"


def test_smoothing_keeps_what_is_even_and_the_middle() -> None:
    assert smoothed(np.full(9, 5.0), 4) == pytest.approx(np.full(9, 5.0))
    peak = smoothed(np.eye(1, 21, 10)[0], 4)
    assert int(peak.argmax()) == 10
    assert peak[8] / peak[10] == pytest.approx(np.exp(-0.5), rel=0.01)  # the point of inflection, half a width away
    tempo, loud = trajectory(shape(), 4)
    assert 60 < tempo[3] < 120
    assert (np.diff(loud) > 0).all()


@pytest.fixture(scope="module")
def fugue() -> tuple[Score, list[Shape]]:
    """A fugue: evenly played, and by a human."""
    example = EXAMPLES[FIRST]
    score = open_score(example.score_bytes(), example.score)
    human = open_performance(example.human_bytes(), example.human)
    return score, [
        shape_of(score, played("even", deadpan(score))),
        shape_of(score, Played("human", human, align(score, human))),
    ]


def test_a_human_is_freer_than_a_machine(fugue: tuple[Score, list[Shape]]) -> None:
    score, (even, human) = fugue
    machine, found = measures_of(score, even), measures_of(score, human)
    assert machine["rubato"] == pytest.approx(0, abs=0.01)
    assert machine["contrast"] == 0
    assert 5 < found["rubato"] < 40
    assert 5 < found["contrast"] < 30
    assert found["found"] > 95
    assert found["duration"] == pytest.approx(146, abs=1)
    pair = agreement(human, human)
    assert min(pair.tempo, pair.velocity, pair.timing, pair.articulation) == pytest.approx(1)
    assert agreement(even, human).velocity == 0


def test_figures_of_real_playing(fugue: tuple[Score, list[Shape]]) -> None:
    score, shapes = fugue
    shapes = [replace(shapes[0], name="<b>a&b</b>"), shapes[1]]
    curves = json.loads(stacked_figure(score, shapes, [3, 5]).to_json())
    assert [t["yaxis"] for t in curves["data"]] == ["y", "y2", "y3", "y4"] * 2
    assert {t["line"]["color"] for t in curves["data"]} == {COLOURS[3], COLOURS[5]}
    assert curves["data"][0]["name"] == "&lt;b&gt;a&amp;b&lt;/b&gt;"
    worm = worm_figure(score, shapes)
    steps = worm.layout.sliders[0].steps
    assert len(steps) == len(score.measures)
    assert [s.label for s in steps[:2]] == ["1", "2"]
    for step in steps:
        assert all(len(axis) == TAIL for name in ("x", "y") for axis in step.args[0][name])
        assert step.args[1] == (2, 3)
    assert steps[0].args[0]["x"][1][:-1] == [None] * (TAIL - 1), "before the first beat there is no tail"
    assert steps[-1].args[0]["y"][1][-1] == pytest.approx(worm.data[1].y[len(places(score)) - 4], abs=20)
    page = tables_html(score, shapes)
    assert "<b>" not in page
    assert page.count("<tr>") == 2 + len(MEASURES) + 1
    assert len(table_rows(score, shapes)) == 2 * len(MEASURES) + 5


def luminance(colour: np.ndarray) -> float:
    return float(colour @ [0.2126, 0.7152, 0.0722])


def test_colours_are_distinct_with_colour_blindness_on_light_and_dark() -> None:
    """3 to 1 against white and near-black; apart also as simulated by Machado et al. 2009, at full severity."""
    deutan = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    protan = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    raw = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in COLOURS]) / 255
    linear = np.where(raw <= 0.04045, raw / 12.92, ((raw + 0.055) / 1.055) ** 2.4)
    for colour in linear:
        assert 1.05 / (luminance(colour) + 0.05) >= 3
        assert (luminance(colour) + 0.05) / (luminance(np.array([0.009] * 3)) + 0.05) >= 3
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    for eye in (np.eye(3), np.array(deutan), np.array(protan)):
        t = np.cbrt(np.clip(linear @ eye.T, 0, 1) @ to_xyz.T / [0.9505, 1, 1.089])
        lab = np.stack([116 * t[:, 1] - 16, 500 * (t[:, 0] - t[:, 1]), 200 * (t[:, 1] - t[:, 2])], 1)
        apart = np.linalg.norm(lab[:, None] - lab, axis=2)[np.triu_indices(len(COLOURS), 1)]
        assert apart.min() > 20
    assert len(set(DASHES)) == len(COLOURS)


def test_a_table_cell_is_never_a_formula() -> None:
    cells = ["=1+1", "+1", "-1", "@a", "\tx", "plain", -2.5, 3]
    row = list(csv.reader(io.StringIO(csv_text(["a"], [cells]).decode("utf-8-sig"))))[1]
    assert row == ["'=1+1", "'+1", "'-1", "'@a", "'\tx", "plain", "-2.5", "3"]


# ---- the command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a piece and two performances of it."""
    monkeypatch.chdir(tmp_path)
    score = little_piece()
    (tmp_path / "piece.musicxml").write_bytes(write_musicxml(score))
    (tmp_path / "even.mid").write_bytes(write_midi(deadpan(score)))
    loud = replace(deadpan(score, bpm=60), velocity=np.clip(score.pitch, 1, 127))
    (tmp_path / "=loud.mid").write_bytes(write_midi(loud))
    return tmp_path


def test_the_command_writes_a_page_and_a_table(folder: Path, capsys: pytest.CaptureFixture) -> None:
    status, out, err = run("compare piece.musicxml even.mid =loud.mid -o two.html --csv two.csv --json", capsys)
    assert status == 0, err
    told = json.loads(out)
    assert [p["name"] for p in told["performances"]] == ["even", "=loud"]
    assert told["performances"][1]["tempo"] == pytest.approx(60, abs=0.5)
    assert told["agreement"][0]["shared"] == 112
    page = (folder / "two.html").read_text()
    assert page.count("<table") == 2
    assert "<script src=" not in page
    rows = list(csv.DictReader(io.StringIO((folder / "two.csv").read_text(encoding="utf-8-sig"))))
    assert {row["performance"] for row in rows} == {"even", "'=loud"}
    status, out, _ = run("compare piece.musicxml even.mid =loud.mid -o two.html", capsys)
    assert "112 notes, 2 performances" in out


@pytest.mark.parametrize(
    "command, sentence",
    [
        ("compare piece.musicxml even.mid -o a.html", "1 performances are named"),
        ("compare piece.musicxml " + "even.mid " * 9 + "-o a.html", "9 performances are named"),
        ("compare piece.musicxml even.mid =loud.mid -o a.pdf", "is not an HTML page"),
        ("compare piece.musicxml even.mid =loud.mid -o a.html --csv even.mid", "would replace an input"),
        ("compare piece.musicxml even.mid none.mid -o a.html", "There is no file none.mid"),
    ],
)
def test_the_command_refuses_in_a_sentence(
    folder: Path, capsys: pytest.CaptureFixture, command: str, sentence: str
) -> None:
    status, out, err = run(command + " --quiet", capsys)
    assert (status, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert not list(folder.glob("a.*"))
