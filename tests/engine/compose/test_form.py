"""Composing by a form: what is read, what returns, what is new."""

from __future__ import annotations

import numpy as np
import pytest

from engine.compose.form import NAMED, Section, parse_form
from engine.compose.form_writing import compose_form
from engine.engine import Engine
from engine.models.composer.conditions import Conditions
from engine.music.types import BadInput, Score
from engine.requests import ComposeRequest


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load()


def bars(score: Score) -> list[set[tuple[float, float, int, int]]]:
    """The notes of each bar: place, length, pitch, staff."""
    m = score.measures
    at = np.searchsorted(m.onset_quarter, score.onset_quarter + 1e-6, side="right") - 1
    place = np.round(score.onset_quarter - m.onset_quarter[at], 4)
    notes = [set() for _ in range(len(m))]
    for note in zip(at, place, score.duration_quarter, score.pitch, score.staff, strict=True):
        notes[int(note[0])].add((float(note[1]), round(float(note[2]), 4), int(note[3]), int(note[4])))
    return notes


def onsets(found: list[set], move: int = 0, staff: int = 0) -> list[set]:
    """Place, pitch and staff alone, moved by semitones; of one staff, or of both."""
    return [{(a, p + move, s) for a, _, p, s in bar if staff in (0, s)} for bar in found]


def test_reads_letters_primes_bars_and_semitones():
    form = parse_form("A8 A'4 | B6, A+7")
    assert form is not None
    assert form.sections == (Section("A"), Section("A", 1, 4), Section("B", 0, 6), Section("A", 0, 8, 7))
    assert (form.bars, form.starts) == (26, (0, 8, 12, 18))
    assert [form.source(k) for k in range(4)] == [None, 0, None, 0]
    assert parse_form(str(form)) == form


@pytest.mark.parametrize("name", NAMED)
def test_named_forms_begin_with_new_music_and_return(name):
    form = parse_form(name.upper() if name == "rondo" else name)
    assert form is not None
    assert str(form) == NAMED[name]
    assert form.source(0) is None
    assert form.source(len(form.sections) - 1) == 0


@pytest.mark.parametrize("text", ["", "free", "  Free "])
def test_free_is_no_form(text):
    assert parse_form(text) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sonata", 'cannot be read from "sonata" on; write letters'),
        ("A8 b8", 'cannot be read from "b8" on'),
        ("A0", "Section A0 has 0 bars; 1 to 64"),
        ("A99999999", "bars; 1 to 64 are accepted"),
        ("A8 B'8", "B'8 varies B, which has not come before"),
        ("A8+2 B8", "varies A, which has not come before"),
        ("A8 A''''8", "4 primes; at most 3"),
        ("A8 A8+13", "moved by 13 semitones"),
        ("A" * 25, "more than 24 sections"),
        ("A64 " * 7, "The form has 448 bars; at most 400"),
    ],
)
def test_refuses_in_one_sentence(text, why):
    with pytest.raises(BadInput) as error:
        parse_form(text)
    assert why in str(error.value)


def test_returns_are_the_given_bars_and_endings_are_new(engine):
    """A4 A'4 B4 A4: three bars of A come back each time, B is new, and the piece has exactly sixteen bars."""
    score = engine.compose(ComposeRequest(Conditions(meter="4/4"), seed=3, form="A4 A'4 B4 A4"))[0]
    found = onsets(bars(score))
    assert len(found) == 16
    assert sum(map(len, found[:3])) >= 12
    assert found[4:7] == found[12:15] == found[:3]
    assert found[7] != found[15]
    assert found[8:11] != found[:3]


def test_a_return_is_transposed(engine):
    found = bars(engine.compose(ComposeRequest(Conditions(meter="3/4"), seed=5, form="A3 B2 A3+5"))[0])
    assert onsets(found[:2], 5) == onsets(found[5:7])


@pytest.mark.parametrize(("primes", "kept"), [("''", 1), ("'''", 2)])
def test_two_primes_keep_the_upper_staff_and_three_the_lower(engine, primes, kept):
    found = bars(
        engine.compose(ComposeRequest(Conditions(meter="4/4", density=4), seed=1, form=f"A4 B2 A{primes}4"))[0]
    )
    old, new = found[:3], found[6:9]
    for before, after in zip(old, new, strict=True):  # a hand that is too wide gives notes to the other one
        assert {(a, p) for a, _, p, s in before if s == kept} <= {(a, p) for a, _, p, _ in after}
    assert onsets(new, staff=3 - kept) != onsets(old, staff=3 - kept)


def test_each_take_is_another_piece_and_a_seed_gives_the_same(engine):
    one = engine.compose(ComposeRequest(Conditions(meter="2/4"), takes=2, seed=9, form="A2 B1 A2"))
    again = engine.compose(ComposeRequest(Conditions(meter="2/4"), takes=2, seed=9, form="A2 B1 A2"))
    assert [s.digest for s in one] == [s.digest for s in again]
    assert one[0].digest != one[1].digest


def test_each_note_is_reported_once_and_work_can_be_cancelled(engine):
    """Every reported note is in the piece, none is from a recomposed bar; an exception ends the work."""
    form, told = parse_form("A2 A'2"), []
    assert form is not None
    model, prior = engine.composer.model, engine.composer.prior
    request = ComposeRequest(seed=2, form=str(form))
    score = compose_form(model, prior, request, on_note=lambda *note: told.append(note))[0]
    told_once = [(round(n[1], 3), n[3]) for n in told]
    written = set(zip(np.round(score.onset_quarter, 3).tolist(), score.pitch.tolist(), strict=True))
    assert written <= set(told_once)

    def stop(*_: object) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        compose_form(model, prior, ComposeRequest(seed=2, form=str(form)), on_note=stop)
