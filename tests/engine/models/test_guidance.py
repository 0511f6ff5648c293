"""The rules that steer the drawing of notes: where notes return, and when a figure has gone round often enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.compose.finishing import Sheet, is_authentic
from engine.compose.scores import make_grid, make_measures
from engine.measures.sanity import longest_loop
from engine.models.composer.guidance import (
    FIGURE,
    LEAN_EXACT,
    LEAN_NEAR,
    MAX_ROUNDS,
    ReturnGuide,
    bonus,
    figure_ends,
    following,
    rounds,
    worn_out,
)
from engine.tokens.composer_tokens import ADVANCE, DURATION, PITCH, POSITION, STAFF, Bars, make_written
from engine.tokens.plan import CADENCES, Plan

QUARTER = 24  # ticks


@pytest.fixture
def bars() -> Bars:
    """Four bars of 4/4."""
    return make_grid(make_measures(0.0, 4, 4, 4, 0, 1))


def test_notes_return_where_the_plan_refers_to(bars: Bars):
    before = make_written(
        np.array([0.0, 1.0]), np.ones(2), np.array([60, 64]), np.ones(2, int), np.zeros(2, bool), bars
    )  # fmt: skip
    plan = replace(
        Plan.open(4), lag=np.array([-1, 0, 2, 2]), likeness=np.array([0, 0, 0.6, 0.9]),
        transpose=np.array([0, 0, 2, 0]),
    )  # fmt: skip
    guide = ReturnGuide(plan, bars, before)
    bar = 4 * QUARTER
    assert [n[:3] for n in guide.returning(2, [])] == [(2 * bar, 62, 0), (2 * bar + QUARTER, 66, 0)]
    assert guide.returning(1, []) == []
    assert guide.returning(7, []) == []
    assert guide.returning(3, [(bar + 5, 50, 1, 3)]) == [(3 * bar + 5, 50, 1, 3)]
    assert (guide.lean(2), guide.lean(3)) == (LEAN_NEAR, LEAN_EXACT)
    assert following(guide.returning(2, []), 2 * bar, 62) == guide.returning(2, [])[1]
    assert following(guide.returning(2, []), 3 * bar, 0) is None


def test_the_bonus_is_where_the_note_is():
    beats = QUARTER * np.arange(16)
    note = (5 * QUARTER + 6, 62, 1, 4)
    for field, place in ((ADVANCE, 2), (POSITION, 6), (STAFF, 1), (PITCH, 64), (DURATION, 4)):
        out = bonus(field, note, 0.5, 128, 3, beats, 2)
        assert np.flatnonzero(out).tolist() == [place]
        assert out[place] == 0.5
    assert not bonus(ADVANCE, note, 0.5, 2, 3, beats, 2).any()  # further away than an advance reaches


def test_a_figure_goes_round_four_times_and_no_more():
    figure = [60, 64, 67, 72, 67, 64, 62, 65]
    notes: list = []
    run = 0
    while True:
        tick, pitch = 6 * len(notes), figure[len(notes) % FIGURE]
        if figure_ends(notes, run, tick) == pitch:
            break
        notes.append((tick, pitch, 0, 3))
        run = rounds(notes, run)
        assert len(notes) < 100
    assert worn_out(run)
    onset, pitches = np.array([n[0] for n in notes]) / QUARTER, np.array([n[1] for n in notes])
    assert longest_loop(onset, pitches) == MAX_ROUNDS
    assert figure_ends(notes, run, notes[-1][0] + 12) is None, "another rhythm is another figure"
    assert rounds([*notes, (notes[-1][0] + 6, 90, 0, 3)], run) == 0


def test_a_closed_plan_ends_with_an_authentic_cadence():
    plan = Plan.open(3).closed()
    assert plan.phrase.tolist() == [-1, -1, 1]
    assert CADENCES[plan.cadence[-1]] == "PAC"


@pytest.mark.parametrize(
    ("pitches", "authentic"),
    [((43, 71, 36, 72), True), ((41, 69, 36, 72), False), ((43, 71, 36, 76), False), ((43, 71, 45, 72), False)],
)
def test_an_authentic_cadence_by_the_outer_voices(bars: Bars, pitches: tuple[int, ...], authentic: bool):
    sheet = Sheet(None, bars, 0, False, np.zeros(7, int), None, (1.0, 1.0))  # type: ignore[arg-type]
    first, last = 3 * 4 * QUARTER, (3 * 4 + 2) * QUARTER
    rows = [(first, pitches[0], 1, 5), (first, pitches[1], 0, 5), (last, pitches[2], 1, 5), (last, pitches[3], 0, 5)]
    assert is_authentic(sheet, np.array(rows)) == authentic
