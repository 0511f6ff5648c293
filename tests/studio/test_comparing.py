"""Comparison of performances: pins, studies with votes, named pianists."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from engine.music.expression import deadpan
from engine.music.io.midi import write_midi
from engine.music.types import Alignment, BadInput, Performance
from engine.progress import Cancelled
from engine.sound.clip import encode_audio, read_stereo
from engine.sound.preview import Preview
from engine.untrusted.scores import open_performance
from studio.actions import comparing
from studio.actions import editing as actions
from studio.actions.compared import Study
from studio.actions.document import Document
from studio.actions.study import answered, begin_study, order_of, tally, votes_csv, with_vote
from studio.project.document import project_of, read_project, write_project
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine
from studio.state import history
from studio.state.examples import EXAMPLES
from studio.state.pins import MAX_PINS, Comparison
from studio.state.session import Controls, Grid, Session
from studio.widgets.compare.compare import look, study_value
from tests.engine.cli.test_cli import little_piece
from tests.engine.measures.test_side_by_side import RISING, eight_quarters, slowing
from tests.helpers.command_line import two_bars

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)


# ---- what is kept


def a_session(doc: int = 1) -> Session:
    """The eight quarters, slowing down."""
    score, performance = eight_quarters(), slowing(RISING)
    grid = Grid.through(score.onset_quarter, performance.onset_sec)
    return Session(score=score, title="Eight", rendered=performance, grid=grid, doc=doc, docs=doc)


def test_pins_have_names_of_their_own_and_an_end() -> None:
    session = a_session()
    for _ in range(MAX_PINS):
        session = comparing.pin_now(session, NOON)
    names = [pin.name for pin in comparing.pins(session)]
    assert names[:3] == ["Default, seed 0, 12:00", "Default, seed 0, 12:00 (2)", "Default, seed 0, 12:00 (3)"]
    assert len(set(names)) == MAX_PINS
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
    with pytest.raises(BadInput, match="no longer available"):
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


def test_names_are_not_sent_to_the_page() -> None:
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


def test_impossible_studies_are_refused() -> None:
    with pytest.raises(BadInput, match="2 to 8"):
        study(count=1)
    with pytest.raises(BadInput, match="question"):
        study("best")
    with pytest.raises(BadInput, match="Bars 3 to 9"):
        begin_study(a_session(), [entry("p", "now"), entry("q", "pin1")], "prefer", "", 1, 1, (3, 9))


# ---- with the pianist


def test_named_pianists_and_files_are_pinned(tmp_path: Path) -> None:
    shared, example = SharedEngine(), EXAMPLES["Bach, Prelude in C, BWV 846"]
    score = shared.read_example(example)
    session = actions.open_piece(shared, Session(), score, example.title, Controls(), example.title)
    name = next(n for n in shared.presets if n != "Default")
    session = comparing.pin_pianist(shared, session, name, 3)(session)
    human = open_performance(example.human_bytes(), example.human)
    session = comparing.pin_example(shared, session, "hers", human, Job())(session)
    assert [(p.name, p.kind) for p in session.comparison.pins] == [(f"{name}, seed 3", "pianist"), ("hers", "file")]
    assert session.comparison.pins[0].performance.digest != session.performance.digest
    document = Document()
    document.update(lambda _: session)
    drawn = comparing.entries(document)
    shapes, slots, refused = comparing.shapes(session, drawn)
    assert (len(shapes), slots, refused) == (3, [0, 1, 2], "")
    clip, start = comparing.sound_of(shared, drawn[2], "grand")
    assert (start, round(clip.duration_sec)) == (0.0, pytest.approx(human.end_sec, abs=6))
    other = Performance(human.onset_sec, human.duration_sec, 127 - human.pitch, human.velocity)
    with pytest.raises(BadInput, match=r"^other\.mid: "):
        comparing.pin_files(shared, session, [("other.mid", write_midi(other))], tmp_path, Job())


def test_recordings_are_transcribed_and_heard_themselves(tmp_path: Path) -> None:
    shared, score = SharedEngine(), two_bars()
    session = actions.open_piece(shared, Session(), score, "Two bars", Controls())
    sound = encode_audio(Preview().preview(deadpan(score, bpm=100)), "wav")
    bar = deadpan(score, bpm=90)
    first = Performance(bar.onset_sec[:3], bar.duration_sec[:3], bar.pitch[:3], bar.velocity[:3])
    files = [("slow.wav", sound), ("bar.mid", write_midi(first)), ("no.wav", b"RIFF"), ("fast.mid", write_midi(bar))]
    made: list[tuple[actions.Change, list[str]]] = []

    def work(job: Job) -> Callable[[], None]:
        made.append(comparing.pin_files(shared, session, files, tmp_path, job))
        return lambda: None

    job = Job()
    job.start(work)
    while not job.wait(1):  # as its page polls it
        pass
    ((change, refused),) = made
    assert [sentence.partition(":")[0] for sentence in refused] == ["bar.mid", "no.wav"]
    assert "30% are needed" in refused[0]
    assert job.text == "Matching fast.mid, 4 of 4 with the score"
    document = Document()
    document.update(lambda _: change(session))
    slow, fast = (entry for entry in comparing.entries(document) if entry.key.startswith("pin"))
    assert [(e.name, e.found) for e in (slow, fast)] == [("slow", pytest.approx(1, abs=0.04)), ("fast", 1)]
    shapes, _, _ = comparing.shapes(document.session, [slow])
    assert shapes[0].tempo == pytest.approx(np.full(8, 100), rel=0.05)
    clip, start = comparing.sound_of(shared, slow, "grand")
    assert (start, clip.channels) == (0.0, 1)
    assert encode_audio(clip) == encode_audio(read_stereo(sound).mono()), "the recording itself, not its notes"
    assert slow.sound_id("grand") == slow.sound_id("upright")
    grid = comparing.grid_of_entry(document.session, slow)
    assert grid.sec_at(4.0) == pytest.approx(60 / 100 * 4, abs=0.05), "bar 2 in the recording"
    kept = write_project(project_of(document))[0]
    (saved, _) = read_project(kept).session.comparison.pins
    assert (saved.kind, saved.sound, saved.performance.digest) == ("recording", None, slow.performance.digest)
    job = Job()
    job.stop("visitor")
    with pytest.raises(Cancelled):
        comparing.pin_files(shared, session, files, tmp_path, job)
    with pytest.raises(BadInput, match="9 files arrived; 8 more of 8"):
        comparing.pin_files(shared, session, 9 * files[:1], tmp_path, Job())
