"""Composing, continuing and filling in with the shipped Composer, and playing what came of it."""

from __future__ import annotations

import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.engine import Engine
from engine.models.composer.conditions import COMPOSERS, KEYS, METER_NAMES, Conditions
from engine.music.io.alignment import kept_notes
from engine.music.io.write_musicxml import write_musicxml
from engine.music.types import BadInput, Score
from engine.requests import ComposeRequest, ContinueRequest, InfillRequest, PerformRequest
from engine.untrusted.scores import open_score

DATA = Path(__file__).parents[2] / "data"
NOTE_FIELDS = ("onset_quarter", "duration_quarter", "pitch", "spelling", "staff", "voice", "grace")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load()


@pytest.fixture(scope="module")
def piece(engine) -> Score:
    """Sixteen composed bars."""
    return engine.compose(ComposeRequest(Conditions(composer="Mozart", key="G major", meter="3/4"), bars=16, seed=2))[0]


@pytest.fixture(scope="module")
def prelude() -> Score:
    return open_score((DATA / "bach_prelude_868.musicxml").read_bytes(), "prelude.musicxml")


def rows(score: Score, where=slice(None)) -> list[tuple]:
    """Every field of some notes, marks and all."""
    columns = [getattr(score, k)[where].tolist() for k in NOTE_FIELDS]
    return list(zip(*columns, map(tuple, score.marks.table[where].tolist()), strict=True))


def assert_keeps(old: Score, new: Score, kept: np.ndarray) -> None:
    """The notes of `old` flagged in `kept` stand in `new`, in every field."""
    here = rows(new)
    for row in rows(old, kept):
        assert row in here
        here.remove(row)


def assert_grammar(score: Score) -> None:
    """What every composed note keeps to."""
    m = score.measures
    assert (score.pitch >= 21).all() and (score.pitch <= 108).all()  # noqa: PT018
    assert (score.duration_quarter > 0).all()
    assert (score.onset_quarter >= m.onset_quarter[0] - 1e-9).all()
    end = score.onset_quarter + score.duration_quarter
    assert (end <= m.end_quarter + 1e-6).all()
    np.testing.assert_allclose(score.onset_quarter * 24, np.round(score.onset_quarter * 24), atol=1e-6)
    assert set(score.staff.tolist()) <= {1, 2}
    for pitch in np.unique(score.pitch):
        mine = score.pitch == pitch
        assert (score.onset_quarter[mine][1:] >= end[mine][:-1] - 1e-6).all()  # a key is free before it is struck again


def test_conditions_are_kept(engine, piece):
    m = piece.measures
    assert len(m.onset_quarter) in (16, 15)  # the last bar may be left empty by a piece that has come to its end
    assert set(m.ts_num.tolist()) == {3}
    assert set(m.ts_den.tolist()) == {4}
    assert set(m.fifths.tolist()) == {1}
    assert piece.composer == "Étude, in the manner of Mozart"
    assert_grammar(piece)


def test_the_same_seed_gives_the_same_piece_and_another_seed_another(engine):
    a, b, c = (engine.compose(ComposeRequest(Conditions(meter="2/4"), notes=48, seed=s))[0] for s in (5, 5, 6))
    assert a.digest == b.digest
    assert a.digest != c.digest


def test_takes_share_their_conditions_and_differ_in_their_notes(engine):
    takes = engine.compose(ComposeRequest(Conditions(), notes=48, takes=3, seed=1))
    assert len({t.digest for t in takes}) == 3
    assert len({(t.measures.ts_num[0], t.measures.ts_den[0], t.measures.fifths[0], t.tempo_bpm) for t in takes}) == 1


def test_the_number_of_notes_is_close_to_the_request(engine):
    for seed in range(3):  # of a usual density: bars that are too full are composed again with fewer notes
        request = ComposeRequest(Conditions(density=4), notes=200, seed=seed)
        assert 0.6 * 200 < len(engine.compose(request)[0]) < 1.4 * 200


@given(
    composer=st.sampled_from(["", *COMPOSERS]), key=st.sampled_from(["", *KEYS]),
    meter=st.sampled_from(["", *METER_NAMES]), tempo=st.sampled_from([0.0, 40.0, 200.0]),
    density=st.sampled_from([0.0, 0.5, 12.0]), temperature=st.sampled_from([0.2, 1.0, 2.0]), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=12, deadline=None)
def test_every_request_obeys_the_grammar(engine, composer, key, meter, tempo, density, temperature, seed):
    asked = Conditions(composer, "", key, meter, tempo, density)
    score = engine.compose(ComposeRequest(asked, notes=32, seed=seed, temperature=temperature, top_p=1.0))[0]
    assert_grammar(score)
    if meter:
        assert (f"{score.measures.ts_num[0]}/{score.measures.ts_den[0]}") == meter
    assert score.tempo_bpm == (tempo or score.tempo_bpm)


def test_a_long_piece_keeps_its_metre_and_goes_on_past_the_window(engine):
    score = engine.compose(ComposeRequest(Conditions(meter="4/4", density=6), bars=64, seed=4))[0]
    assert len(score) > 2 * 384
    assert len(score.measures) >= 60
    assert_grammar(score)
    bars = np.searchsorted(score.measures.onset_quarter, score.onset_quarter, side="right")
    assert len(np.unique(bars)) > 56  # hardly a bar is empty


def test_continuing_leaves_the_beginning_as_it_was(engine, prelude):
    longer = engine.compose(ContinueRequest(prelude, bars=4, seed=1))[0]
    kept = kept_notes(prelude, longer)
    n = len(prelude)
    assert kept[:n].tolist() == list(range(n))
    assert (kept[n:] == -1).all()
    assert len(longer) > n + 8
    assert rows(longer, slice(0, n)) == rows(prelude)
    assert len(longer.measures) == len(prelude.measures) + 4
    for f in fields(prelude.measures):
        old, new = getattr(prelude.measures, f.name), getattr(longer.measures, f.name)
        np.testing.assert_array_equal(new[: len(old)], old)
    assert set(longer.measures.fifths[-2:].tolist()) == {5}  # still in B major


def test_a_bar_filled_in_leaves_all_others_as_they_were(engine, prelude):
    m = prelude.measures
    span = (float(m.onset_quarter[6]), float(m.onset_quarter[8]))
    selected = (prelude.onset_quarter >= span[0]) & (prelude.onset_quarter < span[1])
    for take in engine.compose(InfillRequest(prelude, selected, span, takes=2, seed=3)):
        assert_keeps(prelude, take, ~selected)
        inside = (take.onset_quarter >= span[0]) & (take.onset_quarter < span[1])
        assert (~inside).sum() == (~selected).sum()
        assert rows(take, ~inside) == rows(prelude, ~selected)  # in their order, too
        assert inside.sum() >= 1
        np.testing.assert_array_equal(take.measures.onset_quarter, m.onset_quarter)


def test_one_hand_filled_in_stays_in_that_hand_and_off_the_other_hands_keys(engine, prelude):
    m = prelude.measures
    span = (float(m.onset_quarter[3]), float(m.onset_quarter[7]))
    inside = (prelude.onset_quarter >= span[0]) & (prelude.onset_quarter < span[1])
    selected = inside & (prelude.staff == 2)
    take = engine.compose(InfillRequest(prelude, selected, span, seed=1))[0]
    assert_keeps(prelude, take, ~selected)
    new = kept_notes(prelude, take) < 0
    assert set(take.staff[new].tolist()) <= {2}
    assert len(set(zip(take.onset_quarter.tolist(), take.pitch.tolist(), strict=True))) == len(take)


def test_a_passage_at_the_very_start_and_at_the_very_end_can_be_filled_in(engine, piece):
    m = piece.measures
    for a, b in ((0, 2), (len(m) - 2, len(m))):
        ends = (*m.onset_quarter.tolist(), m.end_quarter)
        span = (float(ends[a]), float(ends[b]))
        selected = (piece.onset_quarter >= span[0]) & (piece.onset_quarter < span[1])
        assert_keeps(piece, engine.compose(InfillRequest(piece, selected, span, seed=1))[0], ~selected)


def test_an_edited_score_keeps_the_performance_of_what_stayed(engine, prelude):
    played = engine.perform(PerformRequest(prelude))
    m = prelude.measures
    span = (float(m.onset_quarter[6]), float(m.onset_quarter[8]))
    selected = (prelude.onset_quarter >= span[0]) & (prelude.onset_quarter < span[1])
    new = engine.compose(InfillRequest(prelude, selected, span, seed=3))[0]
    again = engine.perform(PerformRequest(new, keep=played, edited_from=prelude))
    kept = kept_notes(prelude, new)
    for name in ("onset_sec", "duration_sec", "velocity", "pitch"):
        np.testing.assert_array_equal(getattr(again, name)[kept >= 0], getattr(played, name)[kept[kept >= 0]])
    inside = kept < 0
    low, high = played.onset_sec[selected].min(), played.onset_sec[(prelude.onset_quarter >= span[1])].min()
    assert (again.onset_sec[inside] > low - 1).all()
    assert (again.onset_sec[inside] < high + 1).all()
    longer = engine.compose(ContinueRequest(prelude, bars=3, seed=1))[0]
    more = engine.perform(PerformRequest(longer, keep=played, edited_from=prelude))
    assert more.end_sec > played.end_sec + 1
    assert (more.pedal_sec > played.end_sec).any()  # the new bars are pedalled too
    assert (np.diff(more.pedal_sec) >= 0).all()


def test_the_default_performance_keeps_the_requested_tempo(engine):
    for tempo in (60, 132):
        score = engine.compose(ComposeRequest(Conditions(tempo=tempo), notes=64, seed=3))[0]
        played = engine.perform(PerformRequest(score))
        heard = 60 * np.ptp(score.onset_quarter) / np.ptp(played.onset_sec)
        assert heard == pytest.approx(tempo, rel=0.07)  # as far as a performance may leave a metronome mark
    faster = engine.perform(PerformRequest(score, engine.style((1.5,))))
    assert 60 * np.ptp(score.onset_quarter) / np.ptp(faster.onset_sec) > 1.15 * tempo


def test_a_composed_score_reads_back_from_its_musicxml(engine, piece):
    again = open_score(write_musicxml(piece), "piece.musicxml")
    assert len(again) == len(piece)
    np.testing.assert_allclose(again.onset_quarter, piece.onset_quarter, atol=1e-6)
    np.testing.assert_allclose(again.duration_quarter, piece.duration_quarter, atol=1e-6)
    np.testing.assert_array_equal(again.pitch, piece.pitch)
    np.testing.assert_array_equal(again.staff, piece.staff)
    np.testing.assert_array_equal(again.spelling, piece.spelling)


def test_cancelling_takes_less_than_a_second(engine):
    asked: list[float] = []

    class Stopped(Exception):
        pass

    def on_note(*_note) -> None:
        if len(asked) == 20:
            raise Stopped
        asked.append(time.monotonic())

    with pytest.raises(Stopped):
        engine.compose(ComposeRequest(notes=2000, seed=0), on_note=on_note)
    assert time.monotonic() - asked[-1] < 1


def test_notes_are_reported_during_sampling(engine):
    heard: list[tuple] = []
    scores = engine.compose(
        ComposeRequest(Conditions(meter="4/4"), bars=4, takes=2, seed=8), on_note=lambda *n: heard.append(n)
    )
    for k, score in enumerate(scores):
        mine = [n for n in heard if n[0] == k]
        assert len(mine) == len(score)
        assert [n[3] for n in mine] == score.pitch.tolist()


def test_a_melody_without_key_or_staff_can_be_continued(engine, prelude):
    n = 40
    bare = replace(
        prelude, **{k: getattr(prelude, k)[:n] for k in NOTE_FIELDS if k not in ("staff", "voice")},
        staff=np.zeros(n), voice=np.zeros(n), marks=type(prelude.marks)(prelude.marks.table[:n]),
        measures=replace(prelude.measures, fifths=np.zeros(len(prelude.measures), int)),
    )  # fmt: skip
    longer = engine.compose(ContinueRequest(bare, notes=48, seed=1))[0]
    assert len(longer) > n + 20
    assert rows(longer, slice(0, n)) == rows(bare)


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda e, s: e.compose(ComposeRequest(Conditions(composer="Vivaldi"))),
            "The composer is 'Vivaldi'; choose one of",
        ),
        (
            lambda e, s: e.compose(ComposeRequest(Conditions(composer="Chopin", period="Baroque"))),
            "Chopin is Romantic here",
        ),
        (lambda e, s: e.compose(ComposeRequest(Conditions(key="H major"))), "The key is 'H major'"),
        (lambda e, s: e.compose(ComposeRequest(Conditions(meter="13/8"))), "The metre is '13/8'"),
        (lambda e, s: e.compose(ComposeRequest(Conditions(tempo=900))), "The tempo is 900"),
        (lambda e, s: e.compose(ComposeRequest(Conditions(density=99))), "The density is 99"),
        (lambda e, s: e.compose(ComposeRequest(notes=3)), "3 notes were requested"),
        (lambda e, s: e.compose(ComposeRequest(bars=1000)), "1000 bars were requested"),
        (lambda e, s: e.compose(ComposeRequest(takes=50)), "50 takes were requested"),
        (lambda e, s: e.compose(ComposeRequest(temperature=0)), "The temperature is 0"),
        (lambda e, s: e.compose(ComposeRequest(top_p=0)), "Top-p is 0"),
        (lambda e, s: e.compose(ComposeRequest(seed=-1)), "The seed is -1"),
        (lambda e, s: e.compose(InfillRequest(s, np.ones(3, bool), (0, 4))), "The selection has 3 entries"),
        (lambda e, s: e.compose(InfillRequest(s, np.ones(len(s), bool), (0, 9999))), "has to lie inside the score"),
        (lambda e, s: e.compose(InfillRequest(s, np.ones(len(s), bool), (0, 1))), "start outside the passage"),
    ],
)
def test_impossible_requests_are_refused_in_one_sentence(engine, piece, call, words):
    with pytest.raises(BadInput, match=words.replace("(", r"\(")):
        call(engine, piece)
