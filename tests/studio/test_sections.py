"""The form of a piece in the studio: takes of sections, locks, moves, and what a project keeps of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine.models.composer.conditions import Conditions
from engine.music.types import BadInput
from engine.requests import ComposeRequest
from studio.actions import composing, sections
from studio.actions.document import Document
from studio.project.document import Project, read_project, write_project
from studio.service.shared_engine import SharedEngine
from studio.state import history
from studio.state.session import Controls, Session
from studio.widgets.form.form import form_value
from tests.engine.compose.test_form import bars

FORM = "A2 B2 A'2"


def unheard(*note: object) -> None:
    """A note callback that does nothing."""


@pytest.fixture(scope="module")
def shared() -> SharedEngine:
    return SharedEngine()


@pytest.fixture(scope="module")
def opened(shared: SharedEngine) -> Session:
    """A session with a piece that has a form."""
    request = ComposeRequest(Conditions(meter="2/4", density=2), seed=2, **composing.as_form(FORM))
    session = composing.compose(shared, request, unheard)(Session())
    return composing.accept(shared, session, session.takes[-1].number, Controls(), lambda share: None)(session)


def test_an_accepted_take_brings_its_form(opened: Session):
    assert opened.form == FORM
    rows = json.loads(form_value(opened)["form"])
    assert [(s["name"], s["bars"], s["again"], s["locked"]) for s in rows["sections"]] == [
        ("A", 2, False, False), ("B", 2, False, False), ("A′", 2, True, False)
    ]  # fmt: skip
    assert rows["sections"][2]["spoken"] == "A with one prime"
    assert json.loads(form_value(Session())["form"])["sections"] == []


def test_a_move_leaves_the_other_bars_and_can_be_undone(shared: SharedEngine, opened: Session):
    locked = sections.lock(opened, 2, True)
    moved = sections.move(shared, locked, 1, 0, Controls())(locked)
    assert moved.form == "B2 A2 A'2"
    assert moved.locked == {2}
    assert moved.score is not None
    assert opened.score is not None
    before, after = bars(opened.score), bars(moved.score)
    assert after == [*before[2:4], *before[:2], *before[4:]]
    assert moved.doc != opened.doc
    assert history.back(moved).score is opened.score


def test_a_section_is_written_again_as_a_take(shared: SharedEngine, opened: Session):
    now = sections.change_section(shared, opened, "recompose", 1, ComposeRequest(seed=4), unheard)(opened)
    take = now.takes[-1]
    assert (take.kind, take.form, take.span) == ("infill", FORM, (4.0, 8.0))
    assert opened.score is not None
    before, after = bars(opened.score), bars(take.score)
    assert [b for i, b in enumerate(before) if i not in (2, 3)] == [b for i, b in enumerate(after) if i not in (2, 3)]
    accepted = composing.accept(shared, now, take.number, Controls(), lambda share: None)(now)
    assert accepted.form == FORM


def test_a_locked_section_is_not_written_on(shared: SharedEngine, opened: Session):
    locked = sections.lock(opened, 1, True)
    for number, sentence in ((1, "locked"), (7, "not there any more"), ("1", "not there any more")):
        with pytest.raises(BadInput, match=sentence):
            sections.unlocked_section(locked, number)
    region = composing.whole_bars(locked, 2, 3, "Both hands", Document().selection)
    with pytest.raises(BadInput, match="Bars 3 to 4 are a locked section"):
        composing.infill(shared, locked, region, ComposeRequest(), unheard)
    assert sections.lock(locked, 1, False).locked == frozenset()
    with pytest.raises(BadInput, match="has no form"):
        sections.unlocked_section(replace(opened, form=""), 0)


def test_a_continued_piece_has_one_section_more(shared: SharedEngine, opened: Session):
    now = composing.continue_piece(shared, opened, ComposeRequest(bars=2, seed=1), unheard)(opened)
    assert now.takes[-1].form == "A2 B2 A'2 C2"


def test_a_project_keeps_form_and_locks(opened: Session):
    session = sections.lock(opened, 0, True)
    data, _ = write_project(Project(session))
    again = read_project(data).session
    assert (again.form, again.locked) == (FORM, {0})
    assert again.takes[-1].form == FORM
    with pytest.raises(BadInput, match="damaged"):
        read_project(write_project(Project(replace(session, form="A2 B2")))[0])
