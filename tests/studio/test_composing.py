"""Composing as actions on a Session: the real composer and pianist, no browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from engine.measures.performance_metrics import MetricRow
from engine.models.composer.conditions import Conditions
from engine.music.io.alignment import kept_notes
from engine.music.types import BadInput, Performance, Score
from engine.progress import Cancelled
from engine.requests import ComposeRequest
from engine.untrusted.scores import open_score
from studio.actions import composing, corpus
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.page.values import field_number
from studio.page.wire import draft_value, roll_document, roll_value, take_draft
from studio.panels.compose.events import as_request
from studio.panels.compose.layout import who_menu
from studio.service.jobs import Job, Jobs
from studio.service.shared_engine import SharedEngine
from studio.state import history
from studio.state.examples import EXAMPLES
from studio.state.session import FIELDS, Controls, Selection, Session
from studio.widgets.takes.picture import figures, picture
from studio.widgets.takes.takes import strip_value

SHORT = "Chopin, Prélude op. 28 no. 7"
WRITTEN = ("onset_quarter", "duration_quarter", "pitch", "spelling", "staff", "voice", "grace")


def unheard(take: int, onset: float, duration: float, pitch: int, staff: int) -> None:
    """A note callback that does nothing."""


@pytest.fixture(scope="module")
def shared() -> SharedEngine:
    return SharedEngine()


@pytest.fixture(scope="module")
def opened(shared: SharedEngine) -> Session:
    """A session with the shortest example open."""
    piece = actions.open_piece(shared, Session(), shared.read_example(EXAMPLES[SHORT]), SHORT, Controls(), SHORT)
    return history.replaced(Session(), piece)


@pytest.fixture(scope="module")
def composed(shared: SharedEngine) -> Session:
    """Two takes of four bars, without an open piece."""
    return composing.compose(
        shared, ComposeRequest(Conditions(meter="3/4", key="G major"), bars=4, takes=2, seed=3), unheard
    )(Session())


def score_of(session: Session) -> Score:
    assert session.score is not None
    return session.score


def test_composing_from_nothing(shared: SharedEngine, composed: Session) -> None:
    assert composed.score is None
    one, two = composed.takes
    assert (one.number, two.number, one.kind, one.seed) == (1, 2, "compose", 3)
    assert one.score.digest != two.score.digest
    assert len(one.score.measures) == 4
    assert "3/4, 4 bars" in figures(one)
    assert one.fresh.all()
    piece = composing.accept(shared, composed, 1, Controls())(composed)
    assert piece.score is one.score
    assert len(piece.performance) == len(one.score)
    assert piece.takes == composed.takes, "the takes stay, another can still be accepted"
    assert (piece.past, piece.doc) == ((), 1)
    with pytest.raises(BadInput, match="nothing to undo"):
        history.back(piece)


def test_the_same_seed_writes_the_same_notes_as_they_came(shared: SharedEngine, composed: Session) -> None:
    heard: list[tuple] = []
    again = composing.compose(
        shared,
        ComposeRequest(Conditions(meter="3/4", key="G major"), bars=4, takes=2, seed=3),
        lambda *note: heard.append(note),
    )(Session())
    assert [t.score.digest for t in again.takes] == [t.score.digest for t in composed.takes]
    for place, take in enumerate(again.takes):
        told = sorted((onset, pitch) for number, onset, _, pitch, _ in heard if number == place)
        assert np.allclose(told, sorted(zip(take.score.onset_quarter, take.score.pitch, strict=True)))


@pytest.mark.parametrize("kind", ["midi", "locked", "musicxml", "wav"])
def test_what_was_composed_can_be_taken_away(shared: SharedEngine, composed: Session, kind: str) -> None:
    piece = composing.accept(shared, composed, 2, Controls())(composed)
    name, data = actions.export(shared, piece, kind, next(iter(shared.pianos)))
    assert name.startswith("Composition-in-")
    if kind == "musicxml":
        read = open_score(data, name)
        assert np.array_equal(read.pitch, score_of(piece).pitch)
        assert np.allclose(read.onset_quarter, score_of(piece).onset_quarter)
    if kind == "locked":
        assert len(open_score(data, name)) == len(score_of(piece))


def test_continuing_keeps_the_piece_and_how_it_is_played(shared: SharedEngine, opened: Session) -> None:
    n = len(score_of(opened))
    mine = actions.edit([[1, 60, 5, 300, 99], [n + 1, 72, 1234, 500, 90]], [3], [[500, 900]])(opened)
    request = ComposeRequest(bars=2, takes=1, seed=4)
    written = composing.continue_piece(shared, mine, request, unheard)(mine)
    take = written.takes[-1]
    assert not take.fresh[:n].any()
    assert take.fresh[n:].all()
    for name in WRITTEN:
        assert np.array_equal(getattr(take.score, name)[:n], getattr(score_of(opened), name)), name
    longer = composing.accept(shared, written, take.number, Controls())(written)
    assert longer.title == f"{SHORT}, continued"
    assert longer.rendered is not None
    assert opened.rendered is not None
    for name in FIELDS:
        assert np.array_equal(getattr(longer.rendered, name)[:n], getattr(opened.rendered, name)), name
    assert longer.edits[1].velocity == 99
    assert longer.edits[len(take.score) + 1].pitch == 72, "the visitor's own note has a number after the score's"
    assert longer.deleted == {3}
    assert longer.pedal is not None
    assert longer.pedal[0] == pytest.approx((0.5, 0.9), abs=1e-6)
    assert all(a >= 0.9 for a, _ in longer.pedal[1:]), "what is new is pedalled by the pianist"
    back = history.back(longer)
    assert back.performance.digest == mine.performance.digest
    assert history.forward(back).performance.digest == longer.performance.digest


def test_infilling_bars_changes_nothing_else(shared: SharedEngine, opened: Session) -> None:
    score = score_of(opened)
    number = score.measures.number
    region = composing.whole_bars(opened, int(number[2]), int(number[3]), "Both hands", Selection())
    m = score.measures
    assert region.span == (m.onset_quarter[2], m.onset_quarter[3] + m.duration_quarter[3])
    written = composing.infill(shared, opened, region, ComposeRequest(seed=6), unheard)(opened)
    take = written.takes[-1]
    new = composing.accept(shared, written, take.number, Controls())(written)
    kept = kept_notes(score, score_of(new))
    assert set(np.flatnonzero(~region.selected)) <= set(kept.tolist()), "every other note is the same in every field"
    assert new.rendered is not None
    assert opened.rendered is not None
    for name in FIELDS:
        sounds, sounded = getattr(new.rendered, name)[kept >= 0], getattr(opened.rendered, name)[kept[kept >= 0]]
        assert np.array_equal(sounds, sounded), name
    assert take.score.onset_quarter[take.fresh].min() >= region.span[0] - 1e-6
    assert take.score.onset_quarter[take.fresh].max() < region.span[1]
    part, start_sec = composing.heard_part(new, take)
    assert 0 < len(part) < len(new.performance)
    assert start_sec >= 0


def test_one_staff_and_single_notes(shared: SharedEngine, opened: Session) -> None:
    number = score_of(opened).measures.number
    both = composing.whole_bars(opened, int(number[2]), int(number[2]), "Both hands", Selection()).selected
    hands = [
        composing.whole_bars(opened, int(number[2]), int(number[2]), hand, Selection()).selected
        for hand in ("Upper staff", "Lower staff")
    ]
    assert np.array_equal(hands[0] | hands[1], both)
    assert not (hands[0] & hands[1]).any()
    selection = composing.selection_of(opened, [10, 11, 12], None)
    region = composing.selected_notes(opened, selection)
    assert np.flatnonzero(region.selected).tolist() == [10, 11, 12]
    assert selection.bars is not None
    first, last = composing.bars_of(opened, selection) or (0, 0)
    assert number[selection.bars[0]] == first <= last == number[selection.bars[1]]
    take = composing.infill(shared, opened, region, ComposeRequest(seed=1), unheard)(opened).takes[-1]
    assert len(take.score) - take.fresh.sum() >= len(score_of(opened)) - 3
    with pytest.raises(BadInput, match="No note is selected"):
        composing.selected_notes(opened, Selection())
    with pytest.raises(BadInput, match="No note is selected"):
        composing.selected_notes(replace(opened, doc=99), selection)
    with pytest.raises(BadInput, match="not in this piece"):
        composing.whole_bars(opened, 900, 901, "Both hands", Selection())
    with pytest.raises(BadInput, match="upper or the lower"):
        composing.whole_bars(opened, int(number[2]), int(number[2]), "Feet", Selection())


def test_a_repeated_bar_number_means_the_selected_bar(opened: Session) -> None:
    score = score_of(opened)
    m = score.measures
    twice = replace(
        opened, score=replace(score, measures=replace(m, number=np.where(np.arange(len(m)) > 7, 2, m.number)))
    )
    assert composing.whole_bars(twice, 2, 2, "Both hands", Selection()).span[0] < m.onset_quarter[8]
    chosen = composing.selection_of(twice, [], [9, 9])
    assert composing.whole_bars(twice, 2, 2, "Both hands", chosen).span[0] == m.onset_quarter[9]


def test_cancelling_leaves_everything_as_it_was(shared: SharedEngine, opened: Session) -> None:
    document, job = Document(), Job()
    document.update(lambda now: opened)

    def on_note(*note: object) -> None:
        job.draft.append((0, 0, 1, 60, 1))
        if len(job.draft) == 5:
            job.stop("visitor")
        job.step(0.5)

    with pytest.raises(Cancelled):
        composing.compose(shared, ComposeRequest(notes=200, takes=2), on_note, job.step)
    assert len(job.draft) == 5
    assert document.session is opened
    assert shared.compose(ComposeRequest(notes=8), unheard), "the composer is free again"


def test_accepting_after_the_piece_has_changed(shared: SharedEngine, opened: Session, composed: Session) -> None:
    """Accepting a take restores its own piece if the visitor has opened another."""
    written = composing.continue_piece(shared, opened, ComposeRequest(bars=1, seed=2), unheard)(opened)
    moved = history.replaced(written, replace(composed, takes=()))
    assert moved.takes == written.takes
    other = composing.accept(shared, moved, written.takes[-1].number, Controls())(moved)
    assert other.title.endswith("continued")
    edited = actions.edit([], [1], False)(written)
    assert composing.accept(shared, edited, written.takes[-1].number, Controls())(edited).deleted == {1}
    with pytest.raises(BadInput, match="no longer available"):
        composing.accept(shared, composing.dismiss(edited, 1), 1, Controls())


def test_takes_are_shown_with_their_piece(shared: SharedEngine, opened: Session, composed: Session) -> None:
    written = composing.continue_piece(shared, opened, ComposeRequest(bars=1, seed=2), unheard)(opened)
    accepted = composing.accept(shared, written, 1, Controls())(written)
    assert numbers_shown(accepted) == [1], "beside what was made of the piece they stay"
    another = history.replaced(accepted, composing.accept(shared, composed, 1, Controls())(composed))
    assert numbers_shown(another) == []
    here = composing.compose(shared, ComposeRequest(notes=8), unheard)(another)
    assert numbers_shown(here) == [2]
    assert numbers_shown(history.back(here)) == [1], "back at the piece before, its takes are back"
    assert numbers_shown(history.forward(history.back(here))) == [2]


def numbers_shown(session: Session) -> list[int]:
    """The takes on the page."""
    return [card["number"] for card in json.loads(strip_value(session)["takes"])]


def test_history_finds_each_piece_as_it_was_left(shared: SharedEngine, composed: Session) -> None:
    one = composing.accept(shared, composed, 1, Controls())(composed)
    edited = actions.edit([], [2], False)(one)
    two = composing.accept(shared, edited, 2, Controls())(edited)
    assert [s.doc for s in (one, two)] == [1, 2]
    back = history.back(two)
    assert (back.doc, back.deleted, back.takes) == (1, {2}, two.takes)
    assert json.loads(roll_document(back))["past"] is None
    assert json.loads(roll_document(back))["future"] == two.title
    assert history.forward(back).score is two.score
    assert history.went_on(back).future == ()
    third = history.replaced(back, one)
    assert third.doc == 3, "a document number is never used twice"
    assert third.future == ()


def tabs_shown(session: Session) -> list[tuple[str, int, bool]]:
    """The roll's tabs: name, document, whether it is open."""
    return [(tab["name"], tab["doc"], tab["here"]) for tab in json.loads(strip_value(session)["tabs"])]


def test_tabs_go_between_the_piece_and_its_takes(shared: SharedEngine, opened: Session) -> None:
    assert tabs_shown(opened) == [], "no takes, no tabs"
    written = composing.compose(shared, ComposeRequest(notes=8, takes=2, seed=3), unheard)(opened)
    piece = written.doc
    assert tabs_shown(written) == [("Piece", piece, True), ("Take 1", 0, False), ("Take 2", 0, False)]
    one = composing.accept(shared, written, 1, Controls())(written)
    edited = actions.edit([], [2], False)(one)
    two = composing.accept(shared, edited, 2, Controls())(edited)
    assert tabs_shown(two) == [("Piece", piece, False), ("Take 1", one.doc, False), ("Take 2", two.doc, True)]
    assert composing.opened_before(two, 1) == one.doc
    again = history.gone_to(two, one.doc)
    assert (again.doc, again.deleted) == (one.doc, {2}), "a take keeps its edits"
    assert tabs_shown(again) == [("Piece", piece, False), ("Take 1", one.doc, True), ("Take 2", two.doc, False)]
    assert history.back(again).doc == two.doc, "undo goes back to the tab before"
    home = history.gone_to(history.back(again), piece)
    assert home.doc == piece
    assert {p.doc for p in history.kin(home)} == {piece, one.doc, two.doc}, "none is lost"
    with pytest.raises(BadInput, match="no longer kept"):
        history.gone_to(home, 999)


def test_takes_are_kept_but_not_forever(composed: Session) -> None:
    many = composed
    for _ in range(20):
        many = composing.with_takes(many, [composed.takes[0]])
    assert len(many.takes) == composing.KEPT_TAKES
    numbers = [t.number for t in many.takes]
    assert numbers == list(range(numbers[0], numbers[0] + composing.KEPT_TAKES))
    assert composing.dismiss(many, numbers[3]).takes == (*many.takes[:3], *many.takes[4:])


def test_cards_and_drafts(shared: SharedEngine, opened: Session, composed: Session) -> None:
    cards = json.loads(strip_value(composed)["takes"])
    assert [c["number"] for c in cards] == [1, 2]
    drawn = picture(composed.takes[0])
    assert drawn.startswith("<svg")
    assert len(re.findall(r"M[\d.-]+,[\d.-]+h", drawn)) == len(composed.takes[0].score)
    take = composed.takes[0]
    played = composing.played(shared, composed, take, Controls())
    alone = json.loads(take_draft(played, take, 0.0, True))
    assert len(alone["rows"]) == len(take.score)
    job = Jobs().start("compose", "Composing", lambda job: lambda: None, about={"alone": True, "start": 0})
    job.wait(5)
    job.draft += [(0, 0, 10, 60, 1), (1, 5, 10, 62, 2)]
    told = json.loads(draft_value(job, 1))
    assert (told["from"], told["rows"], told["running"]) == (1, [[1, 5, 10, 62, 2]], False)
    assert draft_value(Job(), 0) == ""
    empty = roll_value(Session(), score=True)
    assert json.loads(empty["doc"])["notes"] == json.loads(empty["score"])["notes"] == []


def test_excerpt_starts_under_the_pedal_that_is_down() -> None:
    p = Performance([0, 1, 2, 3], [0.5] * 4, [60, 62, 64, 65], [64] * 4, [0.2, 2.5], [127, 0])
    part = composing.excerpt(p, 1.0, 3.0)
    assert part.onset_sec.tolist() == [0, 1]
    assert part.pitch.tolist() == [62, 64]
    assert part.pedal_sec.tolist() == [0, 1.5, 2.5]
    assert part.pedal_value.tolist() == [127, 0, 0]


def test_the_panel_is_checked(shared: SharedEngine) -> None:
    good = ["composer:Chopin", "F minor", "3/4", "96,5", "", 2, "7", 1, 0.97, "waltz"]
    request = as_request(tuple(good), notes=64)
    asked = request.conditions
    assert asked.genre == "waltz"
    assert (asked.composer, asked.period, asked.tempo, asked.density, request.seed) == ("Chopin", "", 96.5, 0, 7)
    assert asked.check()
    assert as_request(("period:Baroque", *good[1:])).conditions.period == "Baroque"
    assert as_request((*good[:6], "", *good[7:])).seed >= 1
    for place, value in (
        (3, "fast"),
        (3, 1000),
        (4, "-1"),
        (5, 9),
        (5, None),
        (6, "x"),
        (7, float("nan")),
        (8, 0),
        (0, 3),
        (9, 1),
    ):
        with pytest.raises(BadInput):
            as_request((*good[:place], value, *good[place + 1 :]))
    with pytest.raises(BadInput, match=r"The length in bars is empty; 1 to 128"):
        field_number(None, "The length in bars", 1, 128)
    assert ("Chopin", "composer:Chopin") in who_menu(shared)
    assert ("Baroque (period)", "period:Baroque") in who_menu(shared)
    with pytest.raises(BadInput, match="metre"):
        shared.compose(replace(request, conditions=replace(asked, meter="13/17")), unheard)


def test_the_corpus_table(opened: Session) -> None:
    rows = corpus.corpus_rows(opened)
    table = corpus.corpus_table(rows)
    assert table.count("<tr>") == len(rows) + 1
    assert "semitones" in table
    row = MetricRow("x", "<b>", "s", 2.0, 1.0, 0.5, 90.0, 3)
    assert "&lt;b&gt;" in corpus.corpus_table([row])
    assert "2.00" in corpus.corpus_table([row])
    with pytest.raises(BadInput, match="No score is open"):
        corpus.corpus_rows(Session())
    assert "&lt;" in corpus.corpus_refusal("<")
