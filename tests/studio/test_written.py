"""The MusicXML download of an opened file: edits of the roll reach its document, also through a saved project."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lxml import etree

from engine.files import open_score_file
from engine.music.expression import deadpan
from engine.untrusted.scores import open_score
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.actions.written import written_pair
from studio.project.document import adopt, project_of, read_project, write_project
from studio.service.shared_engine import SharedEngine
from studio.state import history
from studio.state.session import Session
from training.bench.round_trip import changed_bars

PATH = Path(__file__).parents[1] / "data" / "bach_prelude_868.musicxml"
SHARED = SharedEngine()


@pytest.fixture(scope="module")
def opened() -> Session:
    score = open_score_file(PATH)
    played = deadpan(score)
    return Session(score=score, rendered=played, grid=actions.grid_of(score, played), title="Prelude", doc=1, docs=1)


def saved(session: Session) -> bytes:
    return actions.export(SHARED, session, "musicxml", "grand")[1]


def row(session: Session, note: int, **changes: int) -> list[int]:
    """The roll's row of a note with changes."""
    base = session.base(note)
    assert base is not None
    kept = {"pitch": base.pitch, "onset": round(1000 * base.onset_sec), "length": round(1000 * base.duration_sec)}
    return [note, *(kept | changes).values(), base.velocity]


def test_time_and_touch_belong_to_the_performance(opened: Session) -> None:
    later = row(opened, 9)
    later[2], later[4] = later[2] + 40, 99
    assert saved(opened) == PATH.read_bytes()
    assert saved(actions.edit([later], [], False)(opened)) == PATH.read_bytes()


def test_a_new_pitch_a_deletion_and_an_addition_change_their_bars_only(opened: Session) -> None:
    score = opened.score
    assert score is not None
    assert opened.grid is not None
    first, second, third = (float(score.measures.onset_quarter[k]) for k in (2, 4, 6))
    note, gone = (int(np.searchsorted(score.onset_quarter, q)) + 1 for q in (first, second))
    sec = [round(1000 * float(opened.grid.sec_at(third + q))) for q in (0.51, 0.98)]
    edit = actions.edit(
        [row(opened, note, pitch=int(score.pitch[note - 1]) + 1), [len(score) + 1, 90, sec[0], sec[1] - sec[0], 70]],
        [gone], False,
    )  # fmt: skip
    made = saved(edit(opened))
    assert changed_bars(PATH.read_bytes(), made) == {(0, 2), (0, 4), (0, 6)}
    read = open_score(made, "made.musicxml")
    assert len(read) == len(score)
    new = np.flatnonzero((read.pitch == 90) & (read.onset_quarter == third + 0.5))
    assert read.duration_quarter[new].tolist() == [0.5]
    assert read.staff[new].tolist() == [1]
    assert read.spelling[new].tolist() == [6]  # F sharp in B major


def test_an_added_note_is_written_on_the_nearest_triplet(opened: Session) -> None:
    assert opened.score is not None
    assert opened.grid is not None
    onset = round(1000 * float(opened.grid.sec_at(1 / 3)))
    length = round(1000 * float(opened.grid.sec_at(2 / 3))) - onset
    edit = actions.edit([[len(opened.score) + 1, 20, onset, length, 70]], [], False)
    score, played = written_pair(edit(opened))
    assert len(score) == len(played)
    new = int(np.flatnonzero(score.pitch == 20)[0])
    assert (score.onset_quarter[new], score.duration_quarter[new]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert score.staff[new] == 2


def test_a_project_keeps_the_document(opened: Session) -> None:
    document = Document()
    document.update(lambda now: history.replaced(now, opened))
    data, _ = write_project(project_of(document))
    session = adopt(Document(), read_project(data))
    assert saved(session) == PATH.read_bytes()
    assert session.score is not None
    higher = actions.edit([row(session, 4, pitch=int(session.score.pitch[3]) + 1)], [], False)(session)
    assert changed_bars(PATH.read_bytes(), saved(higher)) == {(0, 0)}


def test_a_document_of_another_piece_or_kind_is_not_used(opened: Session) -> None:
    assert opened.score is not None
    for other in (b"no document", replace(opened.score, document=b"").digest.encode()):
        session = replace(opened, score=replace(opened.score, document=other))
        made = saved(session)
        etree.fromstring(made)
        assert open_score(made, "made.musicxml").pitch.tolist() == opened.score.pitch.tolist()
