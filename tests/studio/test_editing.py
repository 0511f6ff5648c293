"""A visitor's document and what can be done with it: the real pianist, no browser."""

from __future__ import annotations

import copy
import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from engine.measures.curves import curves_figure
from engine.music.io.midi import read_midi_performance, read_midi_score
from engine.music.types import Alignment, BadInput, Performance
from engine.requests import PerformRequest
from engine.untrusted.scores import open_performance, open_score
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.page.wire import curves, roll_document, roll_score, roll_value
from studio.service.shared_engine import LruCache, SharedEngine
from studio.state.examples import EXAMPLES, FIRST
from studio.state.session import FIELDS, Controls, Grid, NoteEdit, Session, replay

SHORT = "Chopin, Prélude op. 28 no. 7"


@pytest.fixture(scope="module")
def shared() -> SharedEngine:
    return SharedEngine()


@pytest.fixture(scope="module")
def session(shared: SharedEngine) -> Session:
    """The shortest example, played in the default style."""
    return actions.open_piece(shared, Session(), shared.read_example(EXAMPLES[SHORT]), SHORT, Controls(), SHORT)


def rows(session: Session) -> dict[int, list[int]]:
    """The notes as the roll gets them: id to [pitch, onset, duration, velocity]."""
    return {i: row for i, *row in json.loads(roll_document(session))["notes"]}


def edited(session: Session, note_id: int, **changes: int) -> Session:
    """One note changed as the roll would change it."""
    names = ("pitch", "onset", "duration", "velocity")
    row = dict(zip(names, rows(session)[note_id], strict=True)) | changes
    return actions.edit([[note_id, *row.values()]], [], False)(session)


def test_grid_goes_both_ways_and_beyond_its_ends() -> None:
    grid = Grid.through(np.array([0.0, 1, 2]), np.array([0.0, 0.5, 1.5]))
    assert grid.sec_at(np.array([-1, 0.5, 1.5, 3])).tolist() == [-0.5, 0.25, 1.0, 2.5]
    at = np.linspace(-2, 5, 50)
    assert np.allclose(grid.quarter_at(grid.sec_at(at)), at)


def test_grid_mends_beats_that_do_not_move_forwards() -> None:
    grid = Grid.through(np.array([0.0, 1, 1, 2, 3]), np.array([0.0, 0.5, 0.5, 0.4, 1.0]))
    assert (np.diff(grid.sec) > 0).all()
    assert (np.diff(Grid.through(np.array([4.0]), np.array([2.0])).sec) > 0).all()


def test_opening_plays_every_note_of_the_score(session: Session) -> None:
    assert session.score is not None
    assert np.array_equal(session.performance.pitch, session.score.pitch)
    assert session.alignment.score_index.tolist() == list(range(len(session.score)))
    value = roll_value(session, score=True)
    assert len(json.loads(value["doc"])["notes"]) == len(json.loads(value["score"])["notes"]) == len(session.score)
    assert json.loads(roll_score(session))["title"] == SHORT


@pytest.mark.parametrize("title", EXAMPLES)
def test_every_example_opens(title: str) -> None:
    example = EXAMPLES[title]
    score = open_score(example.score_bytes(), example.score)
    assert len(score) > 100
    if example.human:
        assert len(open_performance(example.human_bytes(), example.human)) > 0.8 * len(score)
    assert FIRST in EXAMPLES


def test_an_edit_and_its_inverse_leave_nothing_behind(session: Session) -> None:
    before = session.performance
    there = edited(session, 5, pitch=rows(session)[5][0] + 2, velocity=99)
    assert there.edited == 1
    assert there.edits[5].own == {"pitch", "velocity"}
    back = actions.edit([[5, *rows(session)[5]]], [], False)(there)
    assert back.edited == 0
    assert back.performance.digest == before.digest


def test_deleting_and_adding(session: Session) -> None:
    n = len(session.performance)
    added = actions.edit([[n + 1, 72, 1234, 500, 90]], [3], False)(session)
    ids, performance = added.arrays()
    assert len(performance) == n
    assert 3 not in ids
    assert ids[-1] == n + 1
    assert (performance.pitch[-1], performance.onset_sec[-1], performance.velocity[-1]) == (72, 1.234, 90)
    assert len(added.alignment) == n - 1
    assert 2 not in added.alignment.score_index
    again = actions.edit([[3, *rows(session)[3]]], [n + 1], False)(added)
    assert again.performance.digest == session.performance.digest


def test_pedal_edits_merge_and_can_be_given_back(session: Session) -> None:
    own = actions.edit([], [], [[500, 900], [800, 1500]])(session)
    assert own.pedal == ((0.5, 1.5),)
    assert own.performance.pedal_sec.tolist() == [0.5, 1.5]
    assert own.performance.pedal_value.tolist() == [127, 0]
    assert actions.edit([], [], None)(own).performance.digest == session.performance.digest


@pytest.mark.parametrize(
    "put",
    [
        "no list", [1], [[1, 60, 0, 100]], [[1, 128, 0, 100, 64]], [[1, 60, -1, 100, 64]], [[1, 60, 0, 0, 64]],
        [[1, 60, 0, 100, 0]], [[1, 60, 0, 100, 128]], [[1, 60, 0.5, 100, 64]], [[True, 60, 0, 100, 64]],
        [[0, 60, 0, 100, 64]], [[1, 60, 10**12, 100, 64]],
    ],
)  # fmt: skip
def test_what_the_roll_cannot_have_sent_is_refused(put: list) -> None:
    with pytest.raises(BadInput, match=r"reload the page|off the keyboard"):
        actions.edit(put, [], False)


@pytest.mark.parametrize("pedal", [[[1]], [[5, 5]], [[-1, 4]], ["x"], 7, [[0, 10**12]]])
def test_odd_pedals_are_refused(pedal: list) -> None:
    with pytest.raises(BadInput, match="pedal"):
        actions.edit([], [], pedal)


def test_edits_follow_the_music_into_another_style(shared: SharedEngine, session: Session) -> None:
    n = len(session.performance)
    pitch, onset, duration, _ = rows(session)[10]
    mine = edited(session, 10, pitch=pitch + 12)
    mine = edited(mine, 20, onset=rows(session)[20][1] + 300)
    mine = actions.edit([[n + 1, 40, onset, duration, 77]], [30], False)(mine)
    slow = actions.restyle(shared, mine, Controls(axes=(-2.0, *[0.0] * (len(shared.axes) - 1))))(mine)
    assert slow.take == mine.take + 1
    assert slow.grid is not None
    assert mine.grid is not None
    assert slow.rendered is not None
    assert slow.edits[10].pitch == pitch + 12
    assert slow.edits[10].onset_sec == slow.rendered.onset_sec[9], "only the pitch is the visitor's"
    assert slow.edits[20].onset_sec != slow.rendered.onset_sec[19]
    assert slow.edits[n + 1].onset_sec == pytest.approx(
        float(slow.grid.sec_at(mine.grid.quarter_at(mine.edits[n + 1].onset_sec)))
    )
    assert 30 in slow.deleted
    fast_again = replay(slow, session.rendered, session.grid)  # type: ignore[arg-type]
    assert np.allclose(fast_again.performance.onset_sec, mine.performance.onset_sec, atol=1e-6)
    assert actions.discard_edits(slow).performance.digest == slow.rendered.digest


def test_a_restyle_overtaken_by_another_piece_changes_nothing(shared: SharedEngine, session: Session) -> None:
    change = actions.restyle(shared, session, Controls(seed=5))
    other = replace(session, doc=session.doc + 1)
    assert change(other) is other


def test_reperform_leaves_the_rest_alone(shared: SharedEngine, session: Session) -> None:
    mine = edited(session, 50, pitch=rows(session)[50][0] + 1)
    ids = [20, 21, 22, 23]
    new = actions.reperform(shared, mine, ids)(mine)
    kept = np.array([i not in ids for i in range(1, len(mine.performance) + 1)])
    for name in FIELDS:
        assert np.array_equal(getattr(new.performance, name)[kept], getattr(mine.performance, name)[kept])
    changed = [
        not np.array_equal(getattr(new.performance, f)[~kept], getattr(mine.performance, f)[~kept]) for f in FIELDS
    ]
    assert any(changed)
    assert new.edits.keys() == {50}
    with pytest.raises(BadInput, match="selected"):
        actions.reperform(shared, mine, [10_000])


def test_style_panel(shared: SharedEngine, session: Session) -> None:
    preset = next(name for name in shared.presets if name != actions.DEFAULT)
    half = actions.style_of(shared, session, Controls(preset=preset, second=actions.DEFAULT, blend=0.5))
    assert np.allclose(half.z, np.array(shared.presets[preset]) / 2)
    none = actions.style_of(shared, session, Controls(strength=(0, 0, 0, 0, 0)))
    assert none.strength.tempo == 0
    deadpan = shared.perform(PerformRequest(session.score, none))  # type: ignore[arg-type]
    assert len(np.unique(deadpan.velocity)) == 1
    with pytest.raises(BadInput, match="preset"):
        actions.style_of(shared, session, Controls(preset="nobody"))
    with pytest.raises(BadInput, match="human performance"):
        actions.style_of(shared, session, Controls(preset=actions.BORROWED))


def test_human_reference(shared: SharedEngine) -> None:
    example = EXAMPLES[FIRST]
    score = shared.read_example(example)
    session = actions.open_piece(shared, Session(), score, FIRST, Controls(), FIRST)
    human = open_performance(example.human_bytes(), example.human)
    session = actions.set_reference(shared, session, human, "Shi")(session)
    assert session.reference is not None
    assert len(session.reference.alignment) > 0.9 * len(score)

    def drawn(human: bool) -> list[str]:
        return [line["who"] for lens in json.loads(curves(session, human))["lenses"] for line in lens["lines"]]

    assert drawn(True).count("human") == 5  # tempo, dynamics, timing, articulation, pedal
    assert "human" not in drawn(False)
    borrowed = actions.style_of(shared, session, Controls(preset=actions.BORROWED))
    assert any(borrowed.z)
    wrong = Performance(np.arange(20.0), np.ones(20), np.full(20, 21), np.full(20, 64))
    with pytest.raises(BadInput, match=r"performance of (the same|this) piece"):
        actions.set_reference(shared, session, wrong, "wrong")


@pytest.mark.parametrize("kind", ["midi", "locked", "musicxml", "wav", "flac"])
def test_exports(shared: SharedEngine, session: Session, kind: str) -> None:
    n = len(session.performance)
    mine = actions.edit([[n + 1, 72, 1234, 500, 90]], [3], False)(session)
    name, data = actions.export(shared, mine, kind, "grand")
    assert name.startswith("Chopin-Prelude-op-28-no-7")
    if kind == "midi":
        assert len(read_midi_performance(data)) == n
    if kind == "locked":
        score = read_midi_score(data)
        assert len(score) == n
        assert sorted(score.pitch.tolist()) == sorted(mine.performance.pitch.tolist())
    if kind == "musicxml":
        assert len(open_score(data, name)) == n


def test_an_empty_performance_has_a_message(shared: SharedEngine, session: Session) -> None:
    empty = actions.edit([], list(range(1, len(session.performance) + 1)), False)(session)
    for act in (
        lambda: actions.sound(shared, empty, "grand"),
        lambda: actions.export(shared, empty, "locked", "grand"),
    ):
        with pytest.raises(BadInput, match="Every note has been deleted"):
            act()
    with pytest.raises(BadInput, match="No score is open"):
        actions.export(shared, Session(), "midi", "grand")


@pytest.mark.parametrize(
    "title, name",
    [
        ("Étude № 3", "Etude-No-3"),
        ("../../etc/passwd", "etc-passwd"),
        ("", "etude"),
        ("夜", "etude"),
        ("a" * 300, "a" * 60),
    ],
)
def test_safe_name(title: str, name: str) -> None:
    assert actions.safe_name(title) == name


def test_patches_apply_in_order_and_none_is_lost() -> None:
    document = Document()
    document.update(lambda now: replace(now, doc=1))
    order: list[int] = []

    def patch(rev: int) -> None:
        def apply(now: Session) -> Session:
            order.append(rev)
            return now

        document.patch(1, rev, apply)

    revisions = np.random.default_rng(0).permutation(np.arange(1, 41)).tolist()
    threads = [threading.Thread(target=patch, args=(rev,)) for rev in revisions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == list(range(1, 41))
    assert document.session.rev == 40
    document.patch(1, 40, lambda now: pytest.fail("a patch was applied twice"))
    document.patch(2, 41, lambda now: pytest.fail("a patch of another piece was applied"))


def test_a_lost_patch_is_given_up_in_the_end() -> None:
    document = Document()
    for rev in range(2, Document.MAX_WAITING + 4):
        document.patch(0, rev, lambda now: now)
    assert document.session.rev == Document.MAX_WAITING + 3


def test_documents_are_never_shared() -> None:
    """Gradio copies the page's Document for each visitor."""
    page = Document()
    one, two = copy.deepcopy(page), copy.deepcopy(page)
    one.update(lambda now: replace(now, title="one's"))
    assert two.session.title == page.session.title == ""
    assert one.folder() != two.folder()
    one.close()
    two.close()


def test_memory_keeps_the_latest() -> None:
    memory, made = LruCache(2), []
    for key in (1, 2, 1, 3, 1, 2):
        memory.recall(key, lambda key=key: made.append(key))
    assert made == [1, 2, 3, 2]


def test_curves_of_few_and_partly_played_notes(session: Session) -> None:
    assert session.score is not None
    two = Alignment(np.array([0, len(session.score) - 1]), np.array([0, len(session.score) - 1]))
    assert len(curves_figure(session.score, session.performance, alignment=two).data) >= 4
    with pytest.raises(ValueError, match="alignment"):
        curves_figure(session.score, session.performance, reference=session.performance)


def test_an_edited_note_is_plain() -> None:
    note = NoteEdit(60, 1.0, 0.5, 64)
    assert note.own == set(FIELDS)
