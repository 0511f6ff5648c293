"""ECP tokens: cases counted by hand, a slow reference, faults, and real performances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.music.types import Alignment, Marks, Measures, Performance, Score
from engine.tokens import tables
from engine.tokens.ecp import EcpConfig, decode, decode_score, encode, encode_score, grammar_faults
from engine.tokens.grid import MAX_NOTES, MAX_STEPS, measure_ticks, tick_notes
from engine.tokens.tables import (
    ARTICULATIONS,
    BEAT_PERIODS,
    BOS,
    DURATION_TICKS,
    EOS,
    METRIC,
    NOTE,
    TIMINGS,
    VALUE_MEAN,
    VALUE_STD,
    VELOCITIES,
)  # fmt: skip

C4, D4, E4, F4 = (1 + p - 21 for p in (60, 62, 64, 65))
QUARTER_TOKEN = 1 + 24


def make_score(notes, bars=4, ts=(4, 4), pickup=0.0, grace=(), arpeggio=()) -> Score:
    """notes: (onset, duration, pitch) in quarters; bars of one metre, after a pickup of that many quarters."""
    notes = sorted(notes, key=lambda x: (x[0], x[1] > 0, x[2]))
    onset, duration, pitch = (np.array(c, float) for c in zip(*notes))
    n, nominal = len(notes), ts[0] * 4 / ts[1]
    start, lasts, position = nominal * np.arange(bars), np.full(bars, nominal), np.zeros(bars)
    if pickup:
        start, lasts = np.append(-pickup, start), np.append(pickup, lasts)
        position = np.append(nominal - pickup, position)
    m = len(start)
    measures = Measures(start, lasts, position, np.full(m, ts[0]), np.full(m, ts[1]), np.zeros(m), np.arange(1, m + 1))
    marks = np.zeros((n, 12), int)
    marks[list(arpeggio), 7] = 1
    flags = duration == 0
    flags[list(grace)] = True
    zeros = np.zeros(n)
    return Score(onset, duration, pitch, zeros, zeros, zeros, flags, Marks(marks), measures)


def play(score: Score, period=0.5, velocity=66, legato=1.0, **pedal) -> Performance:
    """Played evenly, `period` seconds per quarter."""
    duration = np.where(score.duration_quarter > 0, score.duration_quarter, 1 / 8) * period * legato
    onset = (score.onset_quarter - score.onset_quarter[0]) * period
    return Performance(onset, duration, score.pitch, np.full(len(score), velocity), **pedal)


def scale(count: int, step: float = 1.0) -> Score:
    return make_score([(i * step, step, 48 + i % 24) for i in range(count)], bars=int(count * step / 4) + 1)


# --- the tables


def test_tables_have_the_published_sizes() -> None:
    assert [len(t) for t in (DURATION_TICKS, BEAT_PERIODS, VELOCITIES, TIMINGS, ARTICULATIONS)] == [51, 161, 32, 41, 81]
    assert tables.COLUMN_SIZES == (5, 25, 89, 52, 162, 33, 42, 82, 17)
    assert BEAT_PERIODS[[0, 90, 160]] == pytest.approx([2**-4.5, 1.0, 2**3.5])
    assert TIMINGS[[0, 19, 20, 21, 40]] == pytest.approx([-1, -0.002, 0, 0.002, 1])
    assert ARTICULATIONS[[0, 50, 80]] == pytest.approx([-5, 0, 3])
    for table in (DURATION_TICKS, BEAT_PERIODS, VELOCITIES, TIMINGS, ARTICULATIONS):
        assert (np.diff(table) > 0).all()
        assert not table.flags.writeable
        assert np.array_equal(tables.nearest(table, table), np.arange(len(table)))


def test_digest_is_pinned() -> None:
    """A change of any table is a new TABLE_VERSION, and then this line."""
    assert tables.TABLE_VERSION == 1
    assert tables.table_digest() == "93fb8b8a0990c83ec18246fc9115de485a5f973e"
    digests = {EcpConfig(unit, pedal).digest for unit in ("musical", "denominator", "quarter") for pedal in (0, 1)}
    assert len(digests) == 6


def test_durations_go_to_the_nearest_class_and_ties_down() -> None:
    ticks = {25: 24, 25.5: 26, 27: 26, 51: 48, 52: 54, 1000: 384, 0.2: 1, 12: 12}
    for written, told in ticks.items():
        notes = tick_notes(make_score([(0, written / 24, 60)], bars=12))
        assert DURATION_TICKS[notes.duration_class[0]] == told


# --- counted by hand


def test_four_notes() -> None:
    """C D E F, quarters, half a second each, velocity 66, held to the full."""
    score = make_score([(0, 1, 60), (1, 1, 62), (2, 1, 64), (3, 1, 65)])
    (segment,) = encode(score, play(score)).segments
    half, loud, on_time, full = 1 + 70, 1 + 16, 1 + 20, 1 + 50  # 2^(-4.5 + 0.05 * 70) = 0.5; 66 // 4 = 16
    played = [half, loud, on_time, full]
    assert segment.tokens.tolist() == [
        [BOS, 0, 0, 0, 0, 0, 0, 0],
        *(row for pitch in (C4, D4, E4, F4)
          for row in ([METRIC, 1, 0, 0, 0, 0, 0, 0], [NOTE, 0, pitch, QUARTER_TOKEN, *played])),
        [EOS, 0, 0, 0, 0, 0, 0, 0],
    ]  # fmt: skip
    assert segment.note_index.tolist() == [-1, -1, 0, -1, 1, -1, 2, -1, 3, -1]
    values = segment.values[segment.is_note] * VALUE_STD + VALUE_MEAN
    assert values == pytest.approx(np.tile([-1.0, 66 / 127, 0.0, 0.0], (4, 1)), abs=1e-5)
    decoded = decode(segment.tokens)
    assert decoded.performance.onset_sec == pytest.approx([0, 0.5, 1, 1.5])
    assert decoded.performance.velocity.tolist() == [66] * 4
    assert decoded.repairs.total == 0


def test_a_chord_shares_its_beat_period_and_its_spread_is_timing() -> None:
    score = make_score([(0, 1, 60), (0, 1, 64), (0, 1, 67), (1, 1, 60)])
    p = Performance([0.0, 0.01, 0.02, 0.51], [0.5] * 4, score.pitch, [60] * 4)
    (segment,) = encode(score, p).segments
    rows = segment.tokens[segment.is_note]
    assert len(set(rows[:3, tables.BEAT_PERIOD])) == 1
    assert TIMINGS[rows[:3, tables.TIMING] - 1] == pytest.approx([-0.010, 0, 0.010], abs=0.002)
    assert segment.start_sec == pytest.approx(0.01)
    onset = decode(segment.tokens, segment.start_sec).performance.onset_sec
    assert onset == pytest.approx(p.onset_sec, abs=0.003)


def test_a_grace_note_comes_first_and_keeps_its_length() -> None:
    score = make_score([(0, 1, 60), (1, 0, 72), (1, 1, 65), (2, 1, 60)])
    p = Performance([0.0, 0.42, 0.5, 1.0], [0.5, 0.07, 0.5, 0.5], score.pitch, [60] * 4)
    assert score.pitch.tolist() == [60, 72, 65, 60]
    (segment,) = encode(score, p).segments
    rows = segment.tokens[segment.is_note]
    assert rows[1].tolist()[:4] == [NOTE, 0, 1 + 72 - 21, 1]  # duration class 0
    assert TIMINGS[rows[1, tables.TIMING] - 1] == pytest.approx(-0.08, abs=0.015)  # early; the principal is on time
    assert TIMINGS[rows[2, tables.TIMING] - 1] == 0
    decoded = decode(segment.tokens)
    assert decoded.score.grace.tolist() == [False, True, False, False]
    assert decoded.performance.duration_sec[1] == pytest.approx(0.07, rel=0.04)


def test_a_rolled_chord_stands_on_its_bass() -> None:
    score = make_score([(0, 1, 48), (0, 1, 55), (0, 1, 64), (1, 1, 60)], arpeggio=(0, 1, 2))
    p = Performance([1.0, 1.1, 1.2, 1.6], [0.5] * 4, score.pitch, [60] * 4)
    (segment,) = encode(score, p).segments
    assert segment.start_sec == 1.0
    late = TIMINGS[segment.tokens[segment.is_note, tables.TIMING] - 1]
    assert late[0] == 0
    assert (late[1:3] > 0.08).all()


def test_empty_beats_have_a_metric_and_so_have_later_positions() -> None:
    tokens = encode_score(make_score([(0, 0.5, 60), (0.5, 0.5, 62), (3, 1, 64)]))
    assert tokens[:, :2].tolist() == [
        [BOS, 0], [METRIC, 1], [NOTE, 0], [METRIC, 13], [NOTE, 0],
        [METRIC, 1], [METRIC, 1], [METRIC, 1], [NOTE, 0], [EOS, 0],
    ]  # fmt: skip


def test_a_pickup_keeps_its_place_and_bars_start_on_beats() -> None:
    score = make_score([(-0.5, 0.5, 60), (0, 1, 62), (4, 1, 64)], pickup=0.5)
    start, _ = measure_ticks(score.measures)
    assert start.tolist() == [84, 96, 192, 288, 384]
    assert tick_notes(score).onset_tick.tolist() == [84, 96, 192]
    assert encode_score(score)[1:3, 1].tolist() == [1, 1 + 12]


@pytest.mark.parametrize(
    "unit, ticks", [("musical", [0, 8, 24]), ("denominator", [0, 24, 72]), ("quarter", [0, 12, 36])]
)
def test_six_eight_in_three_units(unit: str, ticks: list[int]) -> None:
    score = make_score([(0, 0.5, 60), (0.5, 0.5, 62), (1.5, 0.5, 64)], ts=(6, 8))
    assert tick_notes(score, unit).onset_tick.tolist() == ticks


def test_a_measure_that_ends_inside_a_beat_is_followed_by_the_next_beat() -> None:
    """3/4 cut short after 2.25 quarters: the next bar starts at beat 3; not so where quarters run through."""
    measures = Measures([0, 2.25], [2.25, 3], [0, 0], [3, 3], [4, 4], [0, 0], [1, 2])
    assert measure_ticks(measures)[0].tolist() == [0, 72]
    assert measure_ticks(measures, "quarter")[0].tolist() == [0, 54]


def test_triplets_are_not_hurt_by_floating_point() -> None:
    score = make_score([(i / 3, 1 / 3, 60 + i % 5) for i in range(48)])
    assert tick_notes(score).onset_tick.tolist() == [8 * i for i in range(48)]


def test_an_unplayed_note_keeps_its_score_tokens() -> None:
    score = make_score([(i * 0.25, 0.25, 60 + i) for i in range(10)])
    p = play(score)
    alignment = Alignment([0, 1, 2, 4, 5, 6, 7, 8, 9], [0, 1, 2, 4, 5, 6, 7, 8, 9])
    (segment,) = encode(score, p, alignment).segments
    row = np.flatnonzero(segment.note_index == 3)[0]
    assert segment.tokens[row].tolist() == [NOTE, 0, 1 + 63 - 21, 1 + 6, 0, 0, 0, 0]
    assert not segment.values[row].any()
    decoded = decode(segment.tokens)
    assert decoded.performance.onset_sec == pytest.approx(p.onset_sec, abs=0.003)  # its beat period is the one before
    assert decoded.performance.velocity[3] == 66


def test_inserted_notes_and_notes_off_the_piano_are_left_out() -> None:
    score = make_score([(i, 1, p) for i, p in enumerate((60, 62, 20, 64, 65, 67, 69, 109))])
    played = play(score)
    p = Performance(
        np.append(played.onset_sec, 0.7), np.append(played.duration_sec, 0.1), np.append(played.pitch, 70), [66] * 9
    )
    encoding = encode(score, p, Alignment(np.arange(8), np.arange(8)))
    assert encoding.num_outside == 2
    assert encoding.segments[0].tokens[encoding.segments[0].is_note, 2].tolist() == [
        1 + p - 21 for p in (60, 62, 64, 65, 67, 69)
    ]


def test_two_voices_on_one_key_are_one_note() -> None:
    score = make_score([(0, 1, 60), (0, 2, 60), (1, 1, 62)])
    p = Performance([0.0, 0.5], [0.4, 0.5], [60, 62], [60, 70])
    encoding = encode(score, p, Alignment([0, 2], [0, 1]))
    assert encoding.num_merged == 1
    rows = encoding.segments[0].tokens[encoding.segments[0].is_note]
    assert DURATION_TICKS[rows[:, 3] - 1].tolist() == [48, 24]
    assert (rows[:, 4] > 0).all()


def test_repeated_grace_notes_stay_two() -> None:
    score = make_score([(0, 0, 62), (0, 0, 62), (0, 1, 60)])
    assert tick_notes(score).num_merged == 0


def test_pedal_classes() -> None:
    """Down at 0.25 s, up at 0.9 s: of four samples a second apart in quarters, then none."""
    score = make_score([(0, 2, 60), (2, 2, 62), (4, 2, 64)])
    p = play(score, pedal_sec=[0.2, 0.9], pedal_value=[100, 10])  # chords at 0, 1, 2 s
    (segment,) = encode(score, p, config=EcpConfig(pedal=True)).segments
    assert segment.tokens.shape[1] == 9
    assert segment.tokens[segment.is_note, 8].tolist() == [1 + 0b0111, 1, 1]
    back = decode(segment.tokens).performance
    assert back.pedal_sec == pytest.approx([0.25, 1.0])
    assert back.pedal_value.tolist() == [127, 0]
    without = encode(score, p).segments[0]
    assert np.array_equal(without.tokens, segment.tokens[:, :8])  # the paper's eight, exactly


def test_the_pedal_is_released_in_the_end() -> None:
    score = make_score([(0, 2, 60), (2, 2, 62)])
    p = play(score, pedal_sec=[0.0], pedal_value=[127])
    back = decode(encode(score, p, config=EcpConfig(pedal=True)).segments[0].tokens).performance
    assert back.pedal_value.tolist() == [127, 0]
    assert back.pedal_sec[-1] > back.end_sec


# --- segments


def test_segments_keep_both_limits_and_cut_at_beats() -> None:
    score = scale(1000, 0.25)
    encoding = encode(score, play(score))
    assert not encoding.rejected
    index = np.concatenate([s.note_index[s.is_note] for s in encoding.segments])
    assert index.tolist() == list(range(1000))
    for segment in encoding.segments:
        assert len(segment.tokens) <= MAX_STEPS
        assert segment.is_note.sum() <= MAX_NOTES
        assert segment.tokens[1].tolist()[:2] == [METRIC, 1]
        assert score.onset_quarter[segment.note_index[2]] == segment.first_beat
    assert max(int(s.is_note.sum()) for s in encoding.segments) > 240


def test_a_beat_that_is_too_full_is_rejected_and_the_rest_told() -> None:
    crowd = [(1 + i % 24 / 24, 1 / 24, 21 + i // 24 * 8 + i % 8) for i in range(264)]
    score = make_score([(0, 1, 60), *crowd, (2, 1, 60), (3, 1, 60)])
    encoding = encode(score, play(score))
    assert [r.reason for r in encoding.rejected] == ["one beat holds more than 256 notes or 510 positions"]
    assert sum(int(s.is_note.sum()) for s in encoding.segments) == 3


def test_poor_matches_long_pauses_and_wild_notes_are_rejected() -> None:
    score = scale(16)
    p = play(score)
    few = Alignment(np.arange(12), np.arange(12))
    assert "85 %" in encode(score, p, few).rejected[0].reason
    onset = p.onset_sec.copy()
    onset[8:] += 17
    paused = Performance(onset, p.duration_sec, p.pitch, p.velocity)
    assert "16 seconds" in encode(score, paused).rejected[0].reason
    chord = make_score([(0, 1, 60), (0, 1, 64), (1, 1, 60)])
    wild = Performance([0.0, 5.0, 5.5], [0.5] * 3, chord.pitch, [60] * 3)
    assert "round trip" in encode(chord, wild).rejected[0].reason


def test_one_note_alone() -> None:
    score = make_score([(0, 1, 60)])
    (segment,) = encode(score, play(score)).segments
    assert decode(segment.tokens).performance.duration_sec == pytest.approx([0.5], rel=0.04)


def test_feedback_stops_the_drift() -> None:
    """A steady tempo between two classes of the grid: without feedback every beat would err the same way."""
    period = float(np.exp2(-1 + 0.024))
    score = scale(240)
    p = play(score, period=period)
    (segment,) = encode(score, p).segments
    onset = decode(segment.tokens).performance.onset_sec
    assert np.abs(onset - p.onset_sec).max() < 0.005
    assert abs(240 * (0.5 - period)) > 1


# --- a slow reference


def ref_performance_columns(score: Score, p: Performance) -> list[list[int]]:
    """Literal ECP encoding of a fully played score in 4/4 that fits one segment: one row per note."""

    def closest(value: float, table: np.ndarray) -> int:
        return min(range(len(table)), key=lambda i: (abs(table[i] - value), i))

    ticks = [round(24 * q) for q in score.onset_quarter]
    groups = [[i for i in range(len(score)) if ticks[i] == t] for t in sorted(set(ticks))]
    beat = [ticks[g[0]] / 24 for g in groups]
    time = []
    for g in groups:
        plain = [i for i in g if not score.grace[i]] or g
        time.append(sum(p.onset_sec[i] for i in plain) / len(plain))
    top = [max(time[: k + 1]) for k in range(len(time))]
    risen = [k for k in range(len(top)) if k == 0 or top[k] > top[k - 1]]
    first = top[0]
    time = [float(np.interp(b, [beat[k] for k in risen], [top[k] for k in risen])) for b in beat]
    rows: list[list[int]] = [[] for _ in range(len(score))]
    t, decoded = 0.0, []
    for k, g in enumerate(groups):
        if k + 1 < len(groups):
            asked = (time[k + 1] - first - t) / (beat[k + 1] - beat[k])
            b = closest(np.log2(asked), tables.LOG2_BEAT_PERIODS) if asked > 0 else 0
        else:
            b = closest(np.log2(np.median(decoded[-4:]) if decoded else 0.5), tables.LOG2_BEAT_PERIODS)
        decoded.append(BEAT_PERIODS[b])
        for i in g:
            length = DURATION_TICKS[0 if score.grace[i] else closest(24 * score.duration_quarter[i], DURATION_TICKS)]
            held = max(p.duration_sec[i], 0.01) / (BEAT_PERIODS[b] * max(length / 24, 1 / 8))
            rows[i] = [
                1 + b, 1 + int(p.velocity[i]) // 4, 1 + closest(p.onset_sec[i] - first - t, TIMINGS),
                1 + closest(np.log2(held), ARTICULATIONS),
            ]  # fmt: skip
        if k + 1 < len(groups):
            t += BEAT_PERIODS[b] * (beat[k + 1] - beat[k])
    return rows


@st.composite
def little_pieces(draw: st.DrawFn) -> tuple[Score, Performance]:
    keys = draw(st.sets(st.tuples(st.integers(0, 60), st.integers(40, 80)), min_size=2, max_size=40))
    lengths = draw(st.lists(st.sampled_from([0, 1, 3, 6, 8, 12, 24, 30, 48]), min_size=len(keys), max_size=len(keys)))
    notes = sorted((t * 4 / 24, d / 24, k) for (t, k), d in zip(sorted(keys), lengths))
    score = make_score(notes, bars=4)
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    onset = score.onset_quarter * rng.uniform(0.2, 1.5) + rng.normal(0, 0.02, len(score))
    velocity = rng.integers(1, 128, len(score))
    return score, Performance(onset, rng.uniform(0.0, 2.0, len(score)), score.pitch, velocity)


@settings(max_examples=150, deadline=None)
@given(little_pieces())
def test_encode_equals_the_reference(piece: tuple[Score, Performance]) -> None:
    score, p = piece
    (segment,) = encode(score, p).segments
    rows = np.zeros((len(score), 4), int)
    rows[segment.note_index[segment.is_note]] = segment.tokens[segment.is_note, 4:]
    assert rows.tolist() == ref_performance_columns(score, p)


@settings(max_examples=150, deadline=None)
@given(little_pieces())
def test_tokens_are_well_formed_and_score_tokens_survive(piece: tuple[Score, Performance]) -> None:
    score, p = piece
    (segment,) = encode(score, p, config=EcpConfig(pedal=True)).segments
    assert grammar_faults(segment.tokens) == []
    tokens = encode_score(score)
    assert np.array_equal(tokens, segment.tokens[:, :4])
    assert np.array_equal(encode_score(decode_score(tokens)), tokens)
    decoded = decode(segment.tokens, segment.start_sec)
    index = segment.note_index[decoded.step]
    assert sorted(index) == list(range(len(score)))
    assert np.array_equal(decoded.score.pitch, score.pitch[index])
    assert np.array_equal(decoded.performance.velocity, p.velocity[index] // 4 * 4 + 2)
