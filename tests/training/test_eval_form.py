"""The evaluation of form: composed pieces, measures, resumption."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from engine.checkpoints.bundle import open_composer
from engine.checkpoints.index import CHECKPOINTS, COMPOSER
from engine.compose.form import parse_form
from engine.compose.scores import make_measures, new_score
from engine.engine import Engine
from engine.measures.form_metrics import FormRow
from engine.music.types import Score
from engine.tokens.plan import Plan
from training.composer import eval_form


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Pieces of two bars: 48 take seconds each."""
    monkeypatch.setattr(eval_form, "BARS", 2)
    monkeypatch.setattr(eval_form, "KEPT_EVERY", 1)


def test_an_interrupted_run_resumes_and_other_settings_start_again(tmp_path):
    composer = CHECKPOINTS / COMPOSER
    about = eval_form.recipe(open_composer(composer), "", 3, 1.0)
    whole = eval_form.compose_pieces(composer, tmp_path / "a.npz", about, 2)
    first = eval_form.compose_pieces(composer, tmp_path / "b.npz", about, 1)
    both = eval_form.compose_pieces(composer, tmp_path / "b.npz", about, 2)
    assert [s.digest for s in whole] == [s.digest for s in both]
    assert first[0].digest == both[0].digest
    other = eval_form.compose_pieces(composer, tmp_path / "b.npz", about | {"seed": 4}, 1)
    assert other[0].digest != first[0].digest


def test_the_command_prints_a_table_and_keeps_its_figures(tmp_path, monkeypatch, capsys):
    arguments = ["eval_form", "--pieces", "1", "--form", "A1 A1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    eval_form.main()
    printed = capsys.readouterr().out
    assert "| composer-v2, A1 A1 | 1 |" in printed
    assert "| real scores |" in printed
    assert "| dances |" in printed
    found = json.loads((tmp_path / "composer-v2-A1-A1.json").read_text())
    assert found["bars"] == [2]
    assert found["about"]["weights"] == open_composer(CHECKPOINTS / COMPOSER).digest


def test_a_missing_composer_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["eval_form", "--composer", str(tmp_path / "none"), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"Checkpoint none lacks config\.json"):
        eval_form.main()


def a_piece(*bars: list[int]) -> Score:
    """Bars of 4/4 with a quarter for each pitch."""
    rows = [(24 * (4 * b + k), pitch, 0, 10) for b, bar in enumerate(bars) for k, pitch in enumerate(bar)]
    return new_score(np.array(rows), make_measures(0.0, len(bars), 4, 4, 0, 1), 100.0, "", exact=True)


def test_obedience_is_the_share_of_planned_returns():
    """In both plans bar 2 refers to bar 1 and bar 3 is free; one of the pieces obeys."""
    up, down = [60, 62, 64, 65], [72, 70, 67, 63]
    open_, zero = np.full(3, -1), np.zeros(3, int)
    plan = Plan(np.array([0, 1, 0]), zero.astype(float), zero, open_, open_)
    found = eval_form.obedience_target([a_piece(up, up, down), a_piece(up, down, up)], [plan, plan])
    assert found is not None
    assert found.found.startswith("50.0 [0.0, 100.0]")
    assert not found.reached
    assert eval_form.obedience_target([a_piece(up, up, down)], [Plan.open(3)]) is None
    assert len(eval_form.drawn_plans(Engine.load().composer, 2, 0)) == 2


def test_ranges_are_two_sided():
    row = FormRow("x", 3, {"far": 0.5, "exact": 0.1}, {"far": (0.4, 0.6), "exact": (0.0, 0.2)})
    far, exact = eval_form.range_targets(row)
    assert (far.reached, exact.reached) == (False, True)
    assert (far.found, far.goal) == ("50.0 [40.0, 60.0]", "22 to 35 %")


def test_copied_bars_of_a_form():
    """A4 A'4 B4 A4: bars 5-7 and 13-15 are copied; endings, seams and B are not."""
    form = parse_form("A4 A'4 B4 A4")
    assert form is not None
    assert np.flatnonzero(form.copied).tolist() == [4, 5, 6, 12, 13, 14]
    new_staff = parse_form("A4 A''4 A6")
    assert new_staff is not None
    assert np.flatnonzero(new_staff.copied).tolist() == [8, 9, 10, 11]
