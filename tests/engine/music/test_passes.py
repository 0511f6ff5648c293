"""Performances that leave out a repeat, and those that are refused: transposed, or of another piece."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.measures.side_by_side import Played, measures_of, shape_of
from engine.music.expression import deadpan, measure_of
from engine.music.io.alignment import align, read_match
from engine.music.io.midi import read_midi_performance
from engine.music.io.read_musicxml import read_musicxml_file
from engine.music.io.repeats import unfold
from engine.music.passes import found_share, left_out, passes, repeat_remarks
from engine.music.types import BadInput

DATA = Path(__file__).parents[2] / "data"
READING = DATA / "reading"


@pytest.fixture(scope="module")
def repeated():
    """Eight bars played twice, then eight others once, as written."""
    return read_musicxml_file(READING / "al1-repeat-A8-B8.musicxml")


def test_a_repeat_that_was_left_out_is_found_whole(repeated):
    """Played perfectly evenly at 90, without the repeat."""
    played = read_midi_performance((READING / "al1-performed-without-the-repeat.mid").read_bytes())
    found = align(repeated, played)
    assert len(found) == len(played) == 96
    of_measure = np.bincount(measure_of(repeated)[found.score_index], minlength=24)
    np.testing.assert_array_equal(of_measure, [0] * 8 + [6] * 16)
    measured = measures_of(repeated, shape_of(repeated, Played("even", played, found)))
    assert measured["tempo"] == pytest.approx(90, abs=0.01)
    assert measured["rubato"] == pytest.approx(0, abs=0.01)
    assert [(r.bar, r.text) for r in repeat_remarks(repeated, found)] == [
        (1, "the performance plays bars 1 to 8 once less than written")
    ]
    assert found_share(repeated, found) == 1


def test_a_performance_with_all_repeats_leaves_none_out(repeated):
    found = align(repeated, deadpan(repeated, 90))
    assert len(found) == len(repeated)
    assert left_out(repeated, found) == []


def test_a_da_capo_that_was_left_out(repeated):
    """Bars 1 to 8, 9 to 16, then 1 to 8 again; the performance ends after bar 16."""
    score = unfold(repeated, [*range(8), *range(16, 24), *range(8)])
    played = deadpan(unfold(repeated, [*range(8), *range(16, 24)]), 60)
    found = align(score, played)
    assert left_out(score, found) == [range(16, 24)]
    assert len(found) == len(played)


def test_passes(repeated):
    assert passes(repeated.measures) == [range(8), range(8, 16)]


@pytest.mark.parametrize(("semitones", "message"), [(2, "2 semitones above"), (-5, "5 semitones below")])
def test_a_transposed_performance_is_refused(semitones, message):
    score, played, _ = read_match(DATA / "bach_prelude_868_GonzalezJ05M.match")
    with pytest.raises(BadInput, match=message):
        align(score, replace(played, pitch=played.pitch + semitones))


def test_another_piece_in_the_same_key_range_is_refused():
    """By chance 36 % of the notes of the fugue are found in the study."""
    fugue = read_match(DATA / "bach_fugue_846_Shi05M.match")[0]
    study = read_midi_performance((DATA / "chopin_etude_25_2_Karpeyev02.mid").read_bytes())
    with pytest.raises(BadInput, match="does not match the score"):
        align(fugue, study)
