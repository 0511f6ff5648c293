"""Edited scores: marks from a performance, lengths, names and keys of composed scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.music.edition import edited, mode, tempo_words
from engine.music.engraving.lengths import plain_lengths
from engine.music.expression import deadpan
from engine.music.io.read_musicxml import read_musicxml
from engine.music.io.write_musicxml import write_musicxml
from engine.music.keys import in_minor
from engine.music.types import Marks, Measures, Performance, Score

SCALE = [60, 62, 64, 65, 67, 69, 71, 72]


def a_piece(bars: int = 4, last: int = 60, composer: str = "Étude") -> Score:
    """Eighths up the scale in 4/4, one hand, and a last note."""
    pitch = np.array([SCALE[k % 8] for k in range(8 * bars - 1)] + [last])
    n = len(pitch)
    marks = np.zeros((n, 12), np.int16)
    marks[:, 9] = 96
    one = np.ones(bars, int)
    measures = Measures(4.0 * np.arange(bars), 4.0 * one, 0.0 * one, 4 * one, 4 * one, 0 * one, 1 + np.arange(bars))
    return Score(
        0.5 * np.arange(n), np.full(n, 0.5), pitch, (pitch * 7 + 5) % 12 - 5, np.ones(n), np.zeros(n),
        np.zeros(n, bool), Marks(marks), measures, "", composer, 96.0,
    )  # fmt: skip


def played(score: Score, velocity: list[float], gap: float = 0.0, pedal: tuple = ((), ())) -> Performance:
    """On time at 96 a minute; `velocity` of each bar, in between by interpolation; `gap` seconds between notes."""
    even = deadpan(score)
    loud = np.interp(score.onset_quarter, 4.0 * np.arange(len(velocity)) + 2, velocity)
    return Performance(
        even.onset_sec, even.duration_sec - gap, even.pitch, loud.round(), np.array(pedal[0], float), np.array(pedal[1])
    )


def test_loudness_becomes_signs_and_hairpins():
    """Four soft bars, four bars that grow, four loud ones: p, a crescendo, f."""
    score = a_piece(12)
    found = edited(score, played(score, [45] * 4 + [50, 58, 68, 76] + [79] * 4))
    velocity, hairpin = found.marks["written_velocity"], found.marks["hairpin"]
    assert (velocity[0], velocity[-1]) == (49, 96)
    assert set(hairpin.tolist()) == {0, 1}
    assert 12 <= score.onset_quarter[hairpin == 1].min() < score.onset_quarter[hairpin == 1].max() < 36
    text = write_musicxml(found).decode()
    assert text.count("<wedge") == 2
    assert text.index("<p />") < text.index("crescendo") < text.index("<f />")


def test_a_swell_may_last_to_the_last_note_off_the_half_beats():
    """Triplets: the last onset lies between two half beats, and the piece grows until then."""
    score = a_piece(6)
    score = replace(score, onset_quarter=score.onset_quarter * 2 / 3)
    found = edited(score, played(score, [40, 40, 50, 70, 90, 110]))
    assert found.marks["hairpin"][-1] == 1


def test_even_loudness_has_one_sign():
    score = a_piece(8)
    found = edited(score, played(score, [67] * 8))
    assert set(found.marks["written_velocity"].tolist()) == {80}
    assert not found.marks["hairpin"].any()


def test_bound_notes_have_slurs_and_detached_ones_have_none():
    score = a_piece(4)
    bound = edited(score, played(score, [60] * 4)).marks["slur"]
    assert (bound > 0).mean() > 0.7
    assert 3 <= (bound == 2).sum() <= 8
    assert not edited(score, played(score, [60] * 4, gap=0.12)).marks["slur"].any()


def test_pedal_marks_stand_at_onsets_and_a_quick_change_is_one_sign():
    """Down just after bar 1, changed at bar 2, up at the third beat of bar 3: at 96 a minute a bar lasts 2.5 s."""
    score = a_piece(4)
    pedal = ([0.1, 2.55, 2.7, 6.2], [127, 0, 127, 0])
    found = edited(score, played(score, [60] * 4, pedal=pedal))
    assert found.events.at("pedal_down").tolist() == [0.0, 4.0]
    assert found.events.at("pedal_up").tolist() == [4.0, 10.0]
    text = write_musicxml(found).decode()
    assert [text.count(f'type="{kind}" line="yes"') for kind in ("start", "change", "stop")] == [1, 1, 1]


def test_what_is_written_already_stays():
    score = a_piece(4)
    table = np.array(score.marks.table)
    table[:, 0], table[:3, 5], table[3, 5] = 112, 1, 2
    own = replace(score, marks=Marks(table))
    found = edited(own, played(score, [40] * 4))
    assert np.array_equal(found.marks.table, own.marks.table)


def test_notes_are_untouched_and_the_page_reads_back():
    score = a_piece(4)
    found = edited(score, played(score, [50, 60, 70, 80]))
    again = read_musicxml(write_musicxml(found))
    for name in ("onset_quarter", "duration_quarter", "pitch", "spelling", "staff"):
        assert np.array_equal(getattr(found, name), getattr(score, name))
        assert np.allclose(getattr(again, name), getattr(score, name), atol=1e-3)
    assert np.array_equal(again.marks["written_velocity"] > 0, found.marks["written_velocity"] > 0)


@pytest.mark.parametrize(("last", "minor"), [(60, False), (57, True), (48, False), (45, True)])
def test_the_last_bass_note_determines_the_mode(last, minor):
    score = a_piece(4, last)
    assert in_minor(score) is minor
    assert f"<mode>{'minor' if minor else 'major'}</mode>" in write_musicxml(score).decode()


def test_tempo_words_are_for_composed_scores_alone():
    assert tempo_words(a_piece()) == "Moderato"
    assert "Moderato" in write_musicxml(a_piece()).decode()
    other = a_piece(composer="Robert Schumann")
    assert (tempo_words(other), mode(other)) == ("", "")
    assert "<words" not in write_musicxml(other).decode()
    assert "<software>Étude</software>" in write_musicxml(other).decode()


def test_lengths_lose_gaps_and_overlaps_but_not_rests():
    """A note of 0.95 reaches the next; one of 0.4 before a quarter does not; a half note under quarters stays."""
    onset, pitch = np.array([0.0, 1, 2, 2, 3]), np.array([72, 74, 76, 48, 77])
    duration, staff = np.array([0.95, 0.4, 1.04, 1.96, 1.0]), np.array([1, 1, 1, 2, 1])
    found = plain_lengths(onset, duration, pitch, staff, np.full(5, 4.0))
    assert found.tolist() == [1.0, 0.4, 1.0, 2.0, 1.0]
