"""MIDI-VALLE's tokens, counted by hand, and its cuts."""

import numpy as np
import pytest

from engine.music.types import Performance
from engine.tokens.octuple import MASK, SIZES, VELOCITIES, check, cut, cut_points, decode, encode, join


def played(*notes: tuple[float, float, int, int]) -> Performance:
    onset, duration, pitch, velocity = zip(*notes)
    return Performance(onset, duration, pitch, velocity)


def test_a_chord_and_a_note_by_hand() -> None:
    """1 tick is 1/192 s: 1 s is tick 192, 2.5 s tick 480 (bar 1, position 96); 0.25 s lasts 48 ticks."""
    tokens = encode(played((1.0, 0.5, 64, 1), (1.0, 0.25, 67, 127), (2.5, 0.25, 21, 64)))
    assert tokens.tolist() == [
        [1] * 6,
        [4 + 43, 4 + 0, 3 + 96, 388, 4 + 192, 4],  # the lower note of the chord first
        [4 + 46, 4 + 63, 3 + 48, 388, 4 + 192, 4],
        [4 + 0, 4 + 32, 3 + 48, 388 + 288, 4 + 96, 4 + 1],
        [2] * 6,
    ]
    assert encode(played((1.0, 0.5, 64, 1))).shape == (3, 6)


def test_a_velocity_half_way_between_two_classes_takes_the_upper_one() -> None:
    tokens = encode(played(*((0.5 * i, 0.2, 60, v) for i, v in enumerate((2, 63, 64, 65, 126)))))
    assert VELOCITIES[tokens[1:-1, 1] - 4].tolist() == [3, 63, 65, 65, 127]


def test_notes_of_one_onset_ascend_in_pitch_before_it_is_rounded() -> None:
    tokens = encode(played((1.0, 0.1, 67, 64), (1.0, 0.5, 60, 64), (1.0001, 0.1, 50, 64)))
    assert (tokens[1:-1, 0] - 4 + 21).tolist() == [60, 67, 50]


def test_every_field_stays_in_its_range() -> None:
    wild = played((0.0, 9.0, 20, 64), (0.0, 9.0, 60, 0), (5.0, 0.0001, 108, 127), (60.0, 1.0, 109, 64), (60, 1, 90, 64))
    tokens = encode(wild)
    check(tokens)
    assert len(tokens) == 5  # pitches 20 and 109 are no piano keys
    assert tokens[1, 2] == SIZES[2] - 1  # six seconds at most
    assert tokens[2, 2] == 4  # one tick at least
    assert tokens[2, 3] == tokens[3, 3] == 388 + 383  # two seconds since the last note, at most
    assert tokens[3, 5] == SIZES[5] - 1
    tokens[1, 5] = 20
    with pytest.raises(ValueError, match="bar of row 1 is 20; 0 to 19 are known"):
        check(tokens)


def test_round_trip_note_by_note() -> None:
    rng = np.random.default_rng(0)
    n = 200
    ticks = np.sort(rng.integers(0, 16 * 384 - 1, n))
    music = Performance(
        ticks / 192, rng.integers(1, 1153, n) / 192, rng.integers(21, 109, n), rng.choice(VELOCITIES, n)
    )
    order = np.lexsort((music.pitch, ticks))
    back = decode(encode(music))
    for name in ("onset_sec", "duration_sec", "pitch", "velocity"):
        assert np.allclose(getattr(back, name), getattr(music, name)[order], atol=1e-9), name


def test_without_absolute_time_the_notes_keep_their_distances() -> None:
    music = played((0.5, 0.25, 60, 63), (1.0, 0.25, 62, 63), (1.5, 0.25, 64, 63))
    tokens = encode(music, absolute_time=False)
    assert (tokens[1:-1, 4:] == MASK).all()
    assert np.allclose(decode(tokens).onset_sec, [0.0, 0.5, 1.0])


def test_a_prompt_is_followed_at_its_sound_or_as_published() -> None:
    prompt, target = played((0.0, 2.74, 60, 64)), played((0.1, 1.0, 62, 64))
    assert join(prompt, target, 3.0).onset_sec.tolist() == [0.0, 3.1]
    assert np.allclose(join(prompt, target).onset_sec, [0.0, 2.84])
    pedalled = Performance([0.0], [2.0], [60], [64], [2.9], [0])
    assert np.allclose(join(pedalled, target).onset_sec, [0.0, 3.0])


def test_cut_points_are_the_published_draw() -> None:
    draw = np.random.RandomState(42)
    lengths = [draw.uniform(15, 20) for _ in range(4)]
    assert np.allclose(cut_points(60.0, keep_tail=False), np.cumsum([0, *lengths])[:4])
    assert np.allclose(np.diff(cut_points(60.0)), [*lengths[:3], 60 - sum(lengths[:3])])
    assert cut_points(10.0, keep_tail=False) == [0.0]  # as published: no segment at all
    assert cut_points(10.0) == [0.0, 10.0]
    assert np.diff(cut_points(100.0, longest=17.0)).max() <= 17.0


def test_notes_across_cuts() -> None:
    music = played((0.0, 1.5, 60, 64), (0.5, 0.4, 62, 64), (1.2, 0.3, 64, 64), (1.8, 2.0, 65, 64), (0.9, 5.0, 48, 64))
    fixed, published = cut(music, 1.0, 2.0), cut(music, 1.0, 2.0, published=True)
    assert fixed.notes.pitch.tolist() == [60, 64, 65, 48]
    assert fixed.continued.tolist() == [True, False, False, True]
    assert np.allclose(fixed.notes.onset_sec, [0.0, 0.2, 0.8, 0.0])
    assert np.allclose(fixed.notes.duration_sec, [0.5, 0.3, 0.2, 1.0])
    assert published.notes.pitch.tolist() == [60, 64, 48]  # the attack of 65 is performed but not in the tokens
    assert np.allclose(published.notes.duration_sec, [0.5, 0.3, 4.9])  # and 48 lasts beyond the segment
