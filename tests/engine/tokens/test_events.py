"""MIDI-like events: hand-counted sequences, round trips, and what decoding mends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.music.io.alignment import read_match
from engine.music.types import Performance
from engine.tokens import events
from engine.tokens.events import BOS, EOS, NOTE_OFF, NOTE_ON, PAD, SHIFT, VELOCITY, decode_events, encode_events

DATA = Path(__file__).parents[2] / "data"


def performance(*notes: tuple[float, float, int, int]) -> Performance:
    """Notes of (onset, duration, pitch, velocity)."""
    return Performance(*(np.array(column) for column in zip(*notes, strict=True)))


def on(pitch: int) -> int:
    return NOTE_ON + pitch - 21


def off(pitch: int) -> int:
    return NOTE_OFF + pitch - 21


def wait(steps: int) -> int:
    return SHIFT + steps - 1


def loud(velocity: int) -> int:
    return VELOCITY + velocity // 4


def table(p: Performance) -> list[tuple[float, float, int, int]]:
    columns = (p.onset_sec.round(6), p.duration_sec.round(6), p.pitch, p.velocity)
    return sorted(zip(*(c.tolist() for c in columns), strict=True))


def test_the_vocabulary_is_that_of_the_paper():
    assert events.NUM_EVENTS - 3 == 88 + 88 + 100 + 32
    assert (on(21), on(108), off(21), off(108)) == (3, 90, 91, 178)
    assert (wait(1), wait(100), loud(3), loud(127)) == (179, 278, 279, 310)


def test_four_notes_hand_counted():
    """A chord of two, one key struck again while it sounds, a rest of 2.5 s."""
    played = performance((1.0, 0.5, 60, 64), (1.004, 0.5, 64, 66), (1.3, 0.2, 60, 80), (4.0, 0.1, 72, 80))
    told = encode_events(played).tolist()
    assert told == [
        loud(64), on(60), on(64), wait(30), off(60), loud(80), on(60), wait(20), off(60), off(64),
        wait(100), wait(100), wait(50), on(72), wait(10), off(72),
    ]  # fmt: skip
    again, repairs = decode_events(np.array([BOS, *told, EOS, PAD]))
    assert table(again) == [(0.0, 0.3, 60, 66), (0.0, 0.5, 64, 66), (0.3, 0.2, 60, 82), (3.0, 0.1, 72, 82)]
    assert repairs.total == 0
    assert repairs.events == 16


def test_two_strikes_of_one_key_at_one_moment_are_one_and_notes_have_a_length():
    told = encode_events(performance((0.0, 0.001, 60, 40), (0.001, 0.3, 60, 90), (0.0, 0.2, 10, 90)))
    assert told.tolist() == [loud(90), on(60), wait(30), off(60)]
    assert encode_events(performance((0.0, 0.0, 60, 40))).tolist() == [loud(40), on(60), wait(1), off(60)]


def test_decoding_mends_and_counts():
    told = [on(50), wait(10), off(51), loud(40), on(50), off(50), on(52), wait(20), wait(100), on(53), EOS, on(54)]
    again, repairs = decode_events(np.array(told))
    assert table(again) == [(0.0, 0.1, 50, 64), (0.1, 0.01, 50, 42), (0.1, 1.2, 52, 42), (1.3, 0.01, 53, 42)]
    counted = (repairs.stray_offs, repairs.restruck, repairs.never_released, repairs.empty, repairs.unknown)
    assert counted == (1, 1, 2, 1, 1)
    assert repairs.events == 10
    assert repairs.share == pytest.approx(0.6)
    held, _ = decode_events(np.array([loud(40), on(50), *[wait(100)] * 9]))
    assert held.duration_sec.tolist() == [5.0]


def test_what_is_not_an_event_is_refused():
    with pytest.raises(ValueError, match="integers in 0"):
        decode_events(np.array([311]))
    assert len(decode_events(np.zeros(0))[0]) == 0
    assert len(encode_events(performance((0.0, 1.0, 10, 64)))) == 0


def test_a_recording_survives_to_a_hundredth_of_a_second():
    _, played, _ = read_match(DATA / "chopin_etude_25_2_Karpeyev02.match")
    told = encode_events(played)
    again, repairs = decode_events(told)
    assert repairs.total == 0
    assert len(again) == len(played)
    order = np.lexsort((played.pitch, np.round((played.onset_sec - played.onset_sec.min()) / 0.01)))
    np.testing.assert_array_equal(again.pitch, played.pitch[order])
    onset = played.onset_sec[order] - played.onset_sec.min()
    assert np.abs(again.onset_sec - onset).max() <= 0.005 + 1e-9
    assert np.abs(again.velocity - played.velocity[order]).max() <= 2
    apart = again.duration_sec - played.duration_sec[order]
    assert np.median(np.abs(apart)) <= 0.006
    np.testing.assert_array_equal(encode_events(again), told)  # the second round trip is exact
