"""The performance codec: hand-counted cases, real round trips, strength, beat times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.music.expression import (
    apply_strength,
    beat_positions,
    beat_times,
    deadpan,
    decode_expression,
    encode_expression,
    score_beats,
    steady_pedal,
)
from engine.music.io.alignment import read_match
from engine.music.types import Alignment, Marks, Measures, Performance, Score, Strength

DATA = Path(__file__).parents[2] / "data"
MATCHES = sorted(DATA.glob("*.match"))


def score_of(onset, duration, pitch, ts=(4, 4), grace=None) -> Score:
    n, bars = len(onset), int(max(onset) // (4 * ts[0] / ts[1])) + 1
    length = 4.0 * ts[0] / ts[1]
    measures = Measures(
        np.arange(bars) * length,
        np.full(bars, length),
        np.zeros(bars),
        [ts[0]] * bars,
        [ts[1]] * bars,
        [0] * bars,
        range(1, bars + 1),
    )
    return Score(
        onset,
        duration,
        pitch,
        np.zeros(n),
        np.ones(n),
        np.ones(n),
        grace if grace is not None else np.zeros(n),
        Marks.none(n),
        measures,
    )


def test_four_notes_by_hand():
    score = score_of([0, 1, 2, 3], [1, 1, 1, 1], [60, 62, 64, 65])
    played = Performance([0.0, 0.5, 1.1, 1.5], [0.5, 0.3, 0.4, 0.8], [60, 62, 64, 65], [50, 60, 70, 80])
    e = encode_expression(score, played, Alignment.identity(4))
    np.testing.assert_allclose(e.beat_period, [0.5, 0.6, 0.4, 0.5])  # the last is the median of those before
    np.testing.assert_allclose(e.timing_sec, 0, atol=1e-12)
    np.testing.assert_allclose(e.articulation_log2, np.log2([1, 0.5, 1, 1.6]), atol=1e-12)
    np.testing.assert_array_equal(e.velocity, [50, 60, 70, 80])


def test_late_is_positive_and_a_chord_is_one_onset():
    score = score_of([0, 0, 1, 2], [1, 1, 1, 1], [60, 64, 62, 60])
    played = Performance([0.00, 0.02, 0.51, 1.01], [0.5] * 4, [60, 64, 62, 60], [60] * 4)
    e = encode_expression(score, played, Alignment.identity(4))
    np.testing.assert_allclose(e.timing_sec[:2], [-0.01, 0.01])
    assert e.beat_period[0] == e.beat_period[1] == pytest.approx(0.5)


def test_a_grace_note_survives_and_leaves_the_beat_alone():
    score = score_of([0, 1, 1, 2], [1, 0, 1, 1], [60, 61, 62, 64], grace=[0, 1, 0, 0])
    played = Performance([0, 0.42, 0.5, 1.0], [0.5, 0.07, 0.5, 0.5], [60, 61, 62, 64], [60, 40, 60, 60])
    e = encode_expression(score, played, Alignment.identity(4))
    assert e.beat_period[0] == pytest.approx(0.5)
    back = decode_expression(score, e)
    np.testing.assert_allclose(back.onset_sec, played.onset_sec, atol=1e-9)
    assert back.duration_sec[1] == pytest.approx(0.07)


def test_unisons_are_one_key_stroke():
    score = score_of([0, 0, 1], [1, 0.5, 1], [60, 60, 62])
    played = Performance([0.0, 0.1, 0.5], [0.5, 0.2, 0.5], [60, 60, 62], [60, 90, 60])
    back = decode_expression(score, encode_expression(score, played, Alignment.identity(3)))
    assert back.onset_sec[0] == back.onset_sec[1]
    assert back.velocity[0] == back.velocity[1]
    assert (back.duration_sec > 0.1).all()


@pytest.mark.parametrize("path", MATCHES, ids=lambda p: p.stem)
@pytest.mark.parametrize("tempo", ["beat", "onset"])
def test_real_performances_come_back(path: Path, tempo):
    score, performance, alignment = read_match(path)
    e = encode_expression(score, performance, alignment, tempo)
    back = decode_expression(score, e)
    key = score.onset_quarter.round(4) * 1000 + score.pitch
    once = np.isin(key, [k for k, n in zip(*np.unique(key, return_counts=True), strict=True) if n == 1])  # no unisons
    s, p = alignment.score_index, alignment.performance_index
    s, p = s[once[s]], p[once[s]]
    error = back.onset_sec[s] - performance.onset_sec[p]
    error -= np.median(error)
    assert np.quantile(np.abs(error), 0.99) < 2e-3  # onset, every note by identity
    np.testing.assert_array_equal(back.velocity[s], performance.velocity[p])
    held = np.maximum(performance.duration_sec[p], 0.01)
    assert np.quantile(np.abs(np.log2(back.duration_sec[s] / held)), 0.95) < 0.01
    assert e.played.sum() == len(np.unique(alignment.score_index))


def test_beats_of_six_eight_are_dotted_quarters():
    score = score_of([0, 0.5, 1.0, 1.5], [0.5] * 4, [60, 62, 64, 65], ts=(6, 8))
    onset, duration = score_beats(score)
    np.testing.assert_allclose(onset, [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(beat_positions(score), [0, 1.5])
    np.testing.assert_allclose(duration, 1 / 3)


def test_strength_zero_is_deadpan_and_more_is_more():
    score, performance, alignment = read_match(MATCHES[0])
    e = encode_expression(score, performance, alignment)
    none = apply_strength(e, Strength(0, 0, 0, 0, 0))
    assert np.ptp(none.beat_period) < 1e-9
    assert np.ptp(none.velocity) < 1e-9
    assert not none.timing_sec.any()
    assert not none.pedal.any()
    more = apply_strength(e, Strength(velocity=1.5))
    assert more.velocity.std() > e.velocity.std()
    with pytest.raises(ValueError, match=r"0 to 1\.5"):
        Strength(tempo=2.0)


def test_beat_times_of_the_deadpan_are_even():
    score, _, _ = read_match(MATCHES[0])
    beat, sec, quarter = beat_times(score, deadpan(score, bpm=60))
    assert (np.diff(sec) > 0).all()
    np.testing.assert_allclose(np.diff(sec), np.diff(quarter), rtol=1e-6)
    assert len(beat) == len(sec) == len(quarter)


def test_one_matched_note_is_refused():
    score = score_of([0, 1], [1, 1], [60, 62])
    played = Performance([0.0], [0.5], [60], [60])
    with pytest.raises(ValueError, match="two or more"):
        encode_expression(score, played, Alignment([0], [0]))


def test_short_pedal_presses_are_removed():
    """Presses of 50 ms vanish, the middle keeps the state before, real presses and half depths stay."""
    at = [0.0, 0.5, 0.55, 1.0, 1.3, 1.6, 2.0]
    value = [10, 100, 20, 90, 70, 60, 0]
    played = Performance([0.0], [1.0], [60], [60], at, value)
    steady = steady_pedal(played)
    np.testing.assert_array_equal(steady.pedal_value >= 64, [False, False, False, True, True, True, False])
    np.testing.assert_array_equal(steady.pedal_value[3:5], [90, 70])
