"""What a performance must do with small scores of one sign each: tempo, dynamics, marks, pedal, ornaments, repeats.

4/4, eight or sixteen bars of scales over a bass (tests/data/perform_cases.zip). Medians over three seeds.
"""

from __future__ import annotations

import zipfile
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.engine import Engine
from engine.models.expected.marks_law import GRACE_SEC, ROLL_SEC, without_grace_notes
from engine.music.expression import beat_times
from engine.music.io.read_musicxml import read_musicxml
from engine.music.types import Performance, Score
from engine.requests import PerformRequest

CASES = Path(__file__).parents[1] / "data" / "perform_cases.zip"
SEEDS = (0, 1, 2)


@cache
def engine() -> Engine:
    return Engine.load()


@cache
def score(name: str) -> Score:
    with zipfile.ZipFile(CASES) as z:
        return read_musicxml(z.read(f"{name}.musicxml"))


@cache
def played(name: str, seed: int, z: tuple[float, ...] = (), ornaments: bool = False) -> Performance:
    return engine().perform(PerformRequest(score(name), engine().style(z, seed=seed, ornaments=ornaments)))


def pace(name: str, first: int, last: int, z: tuple[float, ...] = ()) -> float:
    """Median quarters a minute of bars first to last."""
    found = []
    for seed in SEEDS:
        _, sec, quarter = beat_times(score(name), played(name, seed, z))
        inside = (quarter[:-1] >= 4 * (first - 1) - 1e-6) & (quarter[:-1] < 4 * last - 1e-6)
        found.append(np.median((60 * np.diff(quarter) / np.diff(sec))[inside]))
    return float(np.median(found))


def loudness(name: str, first: int, last: int) -> float:
    """Mean velocity of bars first to last."""
    on = score(name).onset_quarter
    inside = (on >= 4 * (first - 1) - 1e-6) & (on < 4 * last - 1e-6)
    return float(np.median([played(name, seed).velocity[: len(on)][inside].mean() for seed in SEEDS]))


def within(value: float, low: float, high: float) -> bool:
    """Whether a pace is within 15 % of a range."""
    return low / 1.15 < value < high * 1.15


@pytest.mark.parametrize(
    "name, low, high",
    [
        ("tempo_30", 30, 30), ("tempo_60", 60, 60), ("tempo_120", 120, 120), ("tempo_240", 240, 240),
        ("tempo_half60", 120, 120), ("word_Largo", 40, 66), ("word_Presto", 168, 208),
    ],
)  # fmt: skip
def test_a_written_tempo_sets_the_pace(name: str, low: float, high: float) -> None:
    assert within(pace(name, 1, 16), low, high)


def test_the_tempo_slider_moves_the_pace_from_there() -> None:
    assert pace("tempo_60", 1, 16, (-2.0,)) < 55 < 66 < pace("tempo_60", 1, 16, (2.0,))


def test_a_tempo_changes_where_it_is_written() -> None:
    assert within(pace("tempo_change", 1, 8), 120, 120)
    assert within(pace("tempo_change", 9, 16), 60, 60)
    assert pace("tempo_change", 9, 9) < 0.7 * pace("tempo_change", 8, 8)


def test_a_ritardando_slows_and_an_accelerando_quickens() -> None:
    assert pace("rit", 16, 16) < 0.9 * pace("rit", 6, 13)
    assert pace("accel", 9, 16) > 1.08 * pace("accel", 1, 6)


def test_fortissimo_stays() -> None:
    assert loudness("pp_ff", 16, 16) > loudness("pp_ff", 9, 9) - 8
    assert loudness("pp_ff", 16, 16) > loudness("pp_ff", 1, 8) + 20


def test_dynamics_change_the_loudness_and_not_the_pace() -> None:
    assert loudness("dyn_fff", 1, 16) > loudness("dyn_ppp", 1, 16) + 40
    assert abs(np.log2(pace("dyn_fff", 1, 16) / pace("dyn_ppp", 1, 16))) < np.log2(1.1)


@pytest.mark.parametrize("name, least", [("sfz", 12), ("accent", 6)])
def test_a_marked_note_is_louder_than_the_same_note_without(name: str, least: float) -> None:
    s, plain, more = score(name), score("pedal_none"), []
    for i in np.flatnonzero(s.marks["accent"] > 0):
        j = np.flatnonzero((np.abs(plain.onset_quarter - s.onset_quarter[i]) < 1e-6) & (plain.pitch == s.pitch[i]))
        more += [float(played(name, k).velocity[i]) - float(played("pedal_none", k).velocity[j[0]]) for k in SEEDS]
    assert np.median(more) >= least


def test_a_fermata_holds() -> None:
    s = score("fermata")
    at, held = s.onset_quarter[s.marks["fermata"] > 0].max(), []
    for seed in SEEDS:
        _, sec, quarter = beat_times(s, played("fermata", seed))
        length, i = np.diff(sec), int(np.abs(quarter - at).argmin())
        held.append(2 * length[i] / (length[i - 1] + length[i + 1]))
    assert np.median(held) > 1.4


def rolls(name: str) -> list[NDArray]:
    """Seconds from note to note upward of every chord that stands under a sign in `arp`."""
    out, s = [], score(name)
    signed = np.unique(score("arp").onset_quarter[score("arp").marks["arpeggio"] > 0])
    for quarter in signed:
        rows = np.flatnonzero((np.abs(s.onset_quarter - quarter) < 1e-6) & (s.staff == 1))
        out.append(np.diff(played(name, 0).onset_sec[rows[np.argsort(s.pitch[rows])]]))
    return out


def test_an_arpeggio_sign_rolls_the_chord_upward() -> None:
    for steps in rolls("arp"):
        assert (steps > 0).all()
        assert ROLL_SEC[0] <= steps.sum() <= ROLL_SEC[1]
    assert not all((steps > 0.015).all() for steps in rolls("noarp"))


def test_articulation_is_in_the_order_of_its_signs() -> None:
    found = {}
    for name in ("art_staccato", "art_none", "art_tenuto", "slur"):
        s, values = score(name), []
        top = s.staff == 1
        for seed in SEEDS:
            p = played(name, seed)
            _, sec, quarter = beat_times(s, p)
            written = np.interp((s.onset_quarter + s.duration_quarter)[top], quarter, sec)
            written = np.maximum(written - np.interp(s.onset_quarter[top], quarter, sec), 1e-3)
            values.append(np.median(np.log2(p.duration_sec[top] / written)))
        found[name] = float(np.median(values))
    assert found["art_staccato"] < found["art_none"] < found["art_tenuto"] <= found["slur"] + 0.05
    assert found["slur"] >= -0.37


def pedal(name: str) -> list[tuple[float, bool]]:
    """(quarter, down) of every change of the pedal."""
    p = played(name, 0)
    _, sec, quarter = beat_times(score(name), p)
    sec, quarter = np.append(sec, 2 * sec[-1] - sec[-2]), np.append(quarter, 2 * quarter[-1] - quarter[-2])
    down = p.pedal_value >= 64
    change = np.flatnonzero(np.diff(down, prepend=False))
    return [(float(np.interp(p.pedal_sec[i], sec, quarter)), bool(down[i])) for i in change]


def test_written_pedal_is_honoured() -> None:
    changes = pedal("pedal_marks")
    for bars, wanted in (((1, 5, 9, 13), True), ((3, 7, 11, 15), False)):
        for bar in bars:
            assert any(abs(q - 4 * (bar - 1)) <= 0.5 and down == wanted for q, down in changes), (bar, changes)


def bars_with_pedal(name: str) -> set[int]:
    """Bars, from 0, in which the pedal is down for a beat or more."""
    changes, out = [*pedal(name), (4.0 * len(score(name).measures), False)], set()
    for (start, down), (end, _) in pairwise(changes):
        out |= {bar for bar in range(16) if down and min(end, 4 * bar + 4) - max(start, 4 * bar) >= 1}
    return out


def test_con_pedale_uses_the_pedal_in_every_bar_and_senza_in_none() -> None:
    assert bars_with_pedal("con_pedale") == set(range(16))
    assert bars_with_pedal("senza_pedale") == set(range(8))


def test_grace_notes_lead_to_their_note_and_take_no_time() -> None:
    s, p = score("grace"), played("grace", 0)
    plain = without_grace_notes(s)
    without = engine().perform(PerformRequest(plain))
    assert p.onset_sec[~s.grace][-1] < 1.15 * without.onset_sec[-1]
    for quarter in np.unique(s.onset_quarter[s.grace]):
        here = np.abs(s.onset_quarter - quarter) < 1e-6
        first = p.onset_sec[here & ~s.grace & (s.staff == 1)].min()
        steps = np.diff(np.append(p.onset_sec[here & s.grace], first))
        assert ((steps >= GRACE_SEC[0] - 1e-6) & (steps <= GRACE_SEC[1] + 1e-6)).all()


def strokes(name: str) -> list[tuple[int, NDArray, NDArray, float]]:
    """Of every ornamented note: its key, the keys and onsets of its strokes, its written length in seconds."""
    s, p = score(name), played(name, 0, ornaments=True)
    _, sec, quarter = beat_times(s, played(name, 0))
    plain, out = played(name, 0), []
    for i in np.flatnonzero(s.marks["ornament"] > 0):
        start = plain.onset_sec[i]
        on, end = np.interp([s.onset_quarter[i], s.onset_quarter[i] + s.duration_quarter[i]], quarter, sec)
        rows = np.append(i, np.arange(len(s), len(p)))
        near = rows[(p.onset_sec[rows] >= start - 1e-6) & (p.onset_sec[rows] < start + end - on - 1e-3)]
        near = near[np.argsort(p.onset_sec[near])]
        out.append((int(s.pitch[i]), p.pitch[near], p.onset_sec[near], float(end - on)))
    return out


def test_ornaments_are_played_out_and_can_be_left_out() -> None:
    for key, keys, _, _ in strokes("orn_trill-mark"):
        assert len(keys) >= 4
        assert set(keys.tolist()) <= {key, *range(key + 1, key + 3)}
        assert (np.diff(keys) != 0).all()
    for key, keys, _, _ in strokes("orn_mordent"):
        assert len(keys) == 3
        assert keys[0] == keys[2] == key
        assert 1 <= key - keys[1] <= 2
    for key, keys, _, _ in strokes("orn_turn"):
        assert len(keys) == 4
        assert (np.sign(keys - key) == [1, 0, -1, 0]).all()
    assert len(played("orn_turn", 0)) == len(score("orn_turn"))


def test_a_tremolo_repeats_in_the_value_of_its_beams() -> None:
    s = score("tremolo")
    i = int(np.flatnonzero(s.marks["ornament"] > 0)[0])
    key, keys, onsets, length = strokes("tremolo")[0]
    assert (keys == key).all()
    assert len(onsets) == min(round(8 * s.duration_quarter[i]), int(length / 0.045))


@pytest.mark.parametrize(
    "name, bars", [("dc_al_fine", 12), ("ds_al_fine", 12), ("dc_al_coda", 14), ("repeat_times3", 16)]
)
def test_repeats_are_played(name: str, bars: int) -> None:
    assert len(score(name).measures) == bars
