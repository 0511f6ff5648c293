"""Performances of one score side by side: counted by hand, on real human playing, kept, voted on, written."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from test_cli import little_piece, run

from engine.csv_text import csv_text
from engine.music.alignment import align
from engine.music.expression import deadpan
from engine.music.midi import write_midi
from engine.music.musicxml import write_musicxml
from engine.music.safe import open_performance, open_score
from engine.music.types import Alignment, BadInput, Marks, Measures, Performance, Score
from engine.side_by_side import (
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
from engine.side_figures import COLOURS, DASHES, TAIL, stacked_figure, worm_figure
from studio import actions, comparing, history
from studio.compare.compare import look, study_value
from studio.desk import Desk
from studio.examples import EXAMPLES, FIRST
from studio.pins import MOST_PINS, Comparison
from studio.session import Controls, Document, Grid, Session
from studio.study import Study, answered, begin_study, order_of, tally, votes_csv, with_vote

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)


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


def test_colours_are_told_apart_by_every_eye_on_light_and_dark() -> None:
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


def test_a_cell_is_never_a_formula() -> None:
    cells = ["=1+1", "+1", "-1", "@a", "\tx", "plain", -2.5, 3]
    row = list(csv.reader(io.StringIO(csv_text(["a"], [cells]).decode("utf-8-sig"))))[1]
    assert row == ["'=1+1", "'+1", "'-1", "'@a", "'\tx", "plain", "-2.5", "3"]


# ---- what is kept


def a_session(doc: int = 1) -> Session:
    """The eight quarters, slowing down."""
    score, performance = eight_quarters(), slowing(RISING)
    grid = Grid.through(score.onset_quarter, performance.onset_sec)
    return Session(score=score, title="Eight", rendered=performance, grid=grid, doc=doc, docs=doc)


def test_pins_have_names_of_their_own_and_an_end() -> None:
    session = a_session()
    for _ in range(MOST_PINS):
        session = comparing.pin_now(session, NOON)
    names = [pin.name for pin in comparing.pins(session)]
    assert names[:3] == ["Default, seed 0, 12:00", "Default, seed 0, 12:00 (2)", "Default, seed 0, 12:00 (3)"]
    assert len(set(names)) == MOST_PINS
    with pytest.raises(BadInput, match="8 performances"):
        comparing.pin_now(session, NOON)
    session = comparing.unpinned("pin1")(session)
    assert [pin.number for pin in session.comparison.pins] == list(range(2, 9))
    assert comparing.unpinned("pinx")(session) is session
    assert comparing.pin_now(session, NOON).comparison.pins[-1].number == 9
    with pytest.raises(BadInput, match="No score"):
        comparing.pin_now(Session(), NOON)


def test_a_pin_stays_as_it_was_and_with_its_score() -> None:
    session = comparing.pin_now(a_session(), NOON)
    edited = actions.edit([[1, 60, 0, 250, 99]], [], False)(session)
    assert edited.performance.velocity[0] == 99
    assert edited.comparison.pins[0].performance.velocity[0] == 40
    assert comparing.pin_now(edited, NOON).comparison.pins[1].name == "Default, seed 0, edited, 12:00"
    other = replace(edited, score=little_piece())
    assert comparing.pins(other) == []
    opened = history.replaced(edited, a_session(2))
    assert opened.comparison.pins == ()
    assert opened.comparison.last_number == 1
    assert history.back(opened).comparison.pins == edited.comparison.pins


def test_entries_keep_their_colours_and_change_their_sound_with_the_notes() -> None:
    document = Document()
    document.update(lambda _: comparing.pin_now(comparing.pin_now(a_session(), NOON), NOON))
    first = comparing.entries(document)
    assert [(e.key, e.slot, e.drawn) for e in first] == [("now", 0, True), ("pin1", 1, True), ("pin2", 2, True)]
    document.update(comparing.left_out("pin1", True))
    assert [(e.slot, e.drawn) for e in comparing.entries(document)] == [(0, True), (1, False), (2, True)]
    document.update(actions.edit([[1, 60, 0, 250, 99]], [], False))
    now, pin, _ = comparing.entries(document)
    assert now.sound_id("grand") != first[0].sound_id("grand") != first[0].sound_id("upright")
    assert pin.sound_id("grand") == first[1].sound_id("grand")
    grid = comparing.grid_of_entry(document.session, pin)
    assert grid.sec_at(np.array([3.0, 4.5])).tolist() == [1.5, 2.5]
    with pytest.raises(BadInput, match="not kept"):
        comparing.named(document, "pin9")
    name, data = comparing.measured_csv(document)
    assert name == "Eight-compared.csv"
    assert b"Dynamic" not in data
    assert b"contrast" in data


# ---- studies


def entry(name: str, key: str) -> comparing.Entry:
    return comparing.Entry(key, name, 0, True, slowing(RISING), Alignment.identity(8))


def study(question: str = "prefer", count: int = 3, seed: int = 5, listener: str = "=Ann") -> Study:
    names = [entry(name, f"pin{k}") for k, name in enumerate("pqrstuvw"[:count])]
    return begin_study(a_session(), names, question, listener, seed, 1, (2, 2))


def test_a_study_can_be_repeated_and_shows_every_pair_once() -> None:
    order = order_of("prefer", 4, 7)
    assert order == order_of("prefer", 4, 7)
    assert order != order_of("prefer", 4, 8)
    assert sorted(tuple(sorted(t)) for t in order) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert sorted(order_of("human", 3, 1)) == [(0,), (1,), (2,)]
    assert [sorted(t) for t in order_of("rank", 3, 1)] == [[0, 1, 2]]
    firsts = [order_of("prefer", 2, seed)[0][0] for seed in range(200)]
    assert 60 < sum(firsts) < 140, "A is the one as often as the other"
    assert study().span == (4.0, 8.0)
    for seed in range(20):  # codes and order together come to the same names
        s = study(seed=seed)
        shown = [tuple(s.heard[c].name for c in trial) for trial in s.trials]
        assert shown == [tuple("pqr"[k] for k in trial) for trial in order_of("prefer", 3, seed)]


def test_the_page_is_told_no_names() -> None:
    document = Document()
    document.update(lambda _: a_session())
    document.study = study()
    told = json.dumps(study_value(document.study))
    assert not any(f'"{name}"' in told for name in "pqr")
    assert "pin" not in told
    document.update(lambda now: replace(now, doc=2))
    assert '"study":null' in look(document, [], "grand")["news"], "another piece ends it"


def test_votes_arrive_once_and_as_csv() -> None:
    s, session = study(), a_session()
    names = [tuple(s.heard[c].name for c in trial) for trial in s.trials]
    s, first = answered(s, "Eight", 0, "B", 0, NOON)
    assert first is not None
    assert (first.shown, first.choice, first.trial, first.bars) == (names[0], (names[0][1],), 1, "2-2")
    assert answered(s, "Eight", 0, "A", 0, NOON) == (s, None), "pressed twice"
    with pytest.raises(BadInput, match="could not be read"):
        answered(s, "Eight", 1, "C", 0, NOON)
    s, second = answered(s, "Eight", 1, "", 0, NOON)
    s, third = answered(s, "Eight", 2, "A", 0, NOON)
    assert s.over
    for vote in (first, second, third):
        assert vote is not None
        session = with_vote(session, vote)
    rows = list(csv.DictReader(io.StringIO(votes_csv(session.comparison.votes).decode("utf-8-sig"))))
    assert len(rows) == 3
    assert rows[0]["time"] == "2026-11-22T12:00:00+00:00"
    assert rows[0]["listener"] == "'=Ann"
    assert rows[0]["order_shown"] == " | ".join(names[0])
    assert rows[0]["pair"] == " | ".join(sorted(names[0]))
    assert (rows[0]["choice"], rows[1]["choice"], rows[1]["seed"]) == (names[0][1], "", "5")
    assert sum(int(words.split()[1]) for _, words in tally(session.comparison.votes)) == 2
    opened = history.replaced(session, a_session(2))
    assert opened.comparison.votes == session.comparison.votes, "votes are of the visit, not of the piece"
    with pytest.raises(BadInput, match="no vote"):
        votes_csv(Comparison().votes)


def test_ratings_and_rankings() -> None:
    rated, votes = study("human"), []
    for trial, stars in enumerate((2, 7, 4)):
        rated, vote = answered(rated, "Eight", trial, "", stars, NOON)
        votes.append(vote)
    assert [words for _, words in tally(votes)] == ["7.0 of 7", "4.0 of 7", "2.0 of 7"]
    for wrong in (0, 8, True, "5", 2.5, None):
        with pytest.raises(BadInput, match="1 to 7"):
            answered(study("human"), "Eight", 0, "", wrong, NOON)
    ranked = study("rank")
    _, vote = answered(ranked, "Eight", 0, "CAB", 0, NOON)
    assert vote is not None
    assert vote.choice == (vote.shown[2], vote.shown[0], vote.shown[1])
    assert tally([vote])[0] == (vote.shown[2], "place 1")
    for wrong in ("CA", "AAB", "", "ABCD", 3):
        with pytest.raises(BadInput, match="could not be read"):
            answered(ranked, "Eight", 0, wrong, 0, NOON)


def test_what_no_study_can_be_is_said() -> None:
    with pytest.raises(BadInput, match="2 to 8"):
        study(count=1)
    with pytest.raises(BadInput, match="question"):
        study("best")
    with pytest.raises(BadInput, match="Bars 3 to 9"):
        begin_study(a_session(), [entry("p", "now"), entry("q", "pin1")], "prefer", "", 1, 1, (3, 9))


# ---- with the pianist


def test_named_pianists_and_files_are_pinned() -> None:
    desk, example = Desk(), EXAMPLES["Bach, Prelude in C, BWV 846"]
    score = desk.read_example(example)
    session = actions.open_piece(desk, Session(), score, example.title, Controls(), example.title)
    name = next(n for n in desk.presets if n != "Default")
    session = comparing.pin_pianist(desk, session, name, 3)(session)
    human = open_performance(example.human_bytes(), example.human)
    session = comparing.pin_files(desk, session, [("hers.mid", human)])(session)
    assert [(p.name, p.kind) for p in session.comparison.pins] == [(f"{name}, seed 3", "pianist"), ("hers", "file")]
    assert session.comparison.pins[0].performance.digest != session.performance.digest
    document = Document()
    document.update(lambda _: session)
    drawn = comparing.entries(document)
    shapes, slots, refused = comparing.shapes(session, drawn)
    assert (len(shapes), slots, refused) == (3, [0, 1, 2], "")
    clip, start = comparing.sound_of(desk, drawn[2], "grand")
    assert (start, round(clip.duration_sec)) == (0.0, pytest.approx(human.end_sec, abs=6))
    other = Performance(human.onset_sec, human.duration_sec, 127 - human.pitch, human.velocity)
    with pytest.raises(BadInput):
        comparing.pin_files(desk, session, [("other.mid", other)])


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
        ("compare piece.musicxml even.mid =loud.mid -o a.pdf", "written as .html"),
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
