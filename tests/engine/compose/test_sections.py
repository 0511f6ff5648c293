"""One section of a piece is composed again, varied or moved; the bars of the others keep their notes."""

from __future__ import annotations

import numpy as np
import pytest

from engine.compose.form import Form, parse_form
from engine.compose.sections import move_section, recomposing, varying
from engine.engine import Engine
from engine.models.composer.conditions import Conditions
from engine.music.types import BadInput, PageEvents, Score
from engine.requests import ComposeRequest
from tests.engine.compose.test_form import bars

FORM = "A2 A'2 B2 A2"


def form_of(text: str) -> Form:
    form = parse_form(text)
    assert form is not None
    return form


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load()


@pytest.fixture(scope="module")
def piece(engine: Engine) -> Score:
    return engine.compose(ComposeRequest(Conditions(meter="2/4", density=2), form=FORM, seed=5))[0]


@pytest.mark.parametrize(("k", "to", "form"), [(2, 0, "B2 A2 A'2 A2"), (0, 2, "A2 B2 A'2 A'2"), (3, 3, FORM)])
def test_a_move_takes_whole_bars_along(piece: Score, k: int, to: int, form: str):
    moved, changed = move_section(piece, form_of(FORM), k, to)
    assert str(changed) == form
    order = [i for i in range(4) if i != k]
    order.insert(to, k)
    before, after = bars(piece), bars(moved)
    onsets = [{(a, p, s) for a, _, p, s in bar} for bar in after]
    assert onsets == [{(a, p, s) for a, _, p, s in before[2 * i + j]} for i in order for j in (0, 1)]
    assert moved.measures.number.tolist() == piece.measures.number.tolist()
    assert moved.measures.end_quarter == piece.measures.end_quarter
    there, _ = move_section(moved, changed, to, k)
    assert np.array_equal(there.pitch, piece.pitch)
    assert np.array_equal(there.onset_quarter, piece.onset_quarter)


def test_signs_of_the_page_move_with_their_bars(piece: Score):
    from dataclasses import replace

    signed = replace(piece, events=PageEvents.of([(0.0, "dynamic"), (8.0, "fermata"), (9.0, "rit")]))
    moved, _ = move_section(signed, form_of(FORM), 2, 0)
    assert moved.events.at("fermata").tolist() == [0.0]
    assert moved.events.at("rit").tolist() == [1.0]
    assert moved.events.at("dynamic").tolist() == [4.0]


@pytest.mark.parametrize(
    ("make", "k", "form", "changed"),
    [
        (recomposing, 2, FORM, range(4, 6)),
        (recomposing, 1, "A2 C2 B2 A2", range(2, 4)),
        (recomposing, 0, "C2 A2 B2 A'2", range(0, 2)),
        (varying, 3, "A2 A'2 B2 A'2", range(7, 8)),
        (varying, 1, "A2 A''2 B2 A2", range(2, 4)),
        (varying, 0, "A2 A'2 B2 A'2", range(1, 2)),
    ],
)
def test_only_the_section_is_written_again(engine: Engine, piece: Score, make, k, form, changed):
    request, named = make(piece, form_of(FORM), k, ComposeRequest(seed=9))
    assert str(named) == form
    before, after = bars(piece), bars(engine.compose(request)[0])
    differ = [i for i in range(8) if before[i] != after[i]]
    assert differ
    assert set(differ) <= set(changed)


def test_a_second_prime_keeps_the_upper_staff(engine: Engine, piece: Score):
    request, _ = varying(piece, form_of(FORM), 1, ComposeRequest(seed=9))
    assert request.lags == (0, 0)
    before, after = bars(piece), bars(engine.compose(request)[0])
    for i in (2, 3):
        assert {n for n in before[i] if n[3] == 1} <= after[i]


@pytest.mark.parametrize(
    ("form", "k", "sentence"),
    [("A2 B2", 0, "has 4 bars and the score 8"), (FORM, 4, "no section 5"), (FORM, -1, "no section 0")],
)
def test_what_does_not_fit_is_refused(piece: Score, form: str, k: int, sentence: str):
    for act in (recomposing, varying):
        with pytest.raises(BadInput, match=sentence):
            act(piece, form_of(form), k, ComposeRequest())
    with pytest.raises(BadInput, match=sentence):
        move_section(piece, form_of(form), k, 0)
