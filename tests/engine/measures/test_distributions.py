"""Distances between distributions, against scipy and by hand; the sanity of written music."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import gaussian_kde

from engine.measures.distributions import (
    bootstrap,
    distances_overlap,
    divergence,
    histograms,
    intersection,
    jensen_shannon,
    overlap_area,
    pedal_patterns,
)
from engine.measures.sanity import (
    Originality,
    estimate_key,
    key_share,
    longest_loop,
    looped_notes,
    score_faults,
    window_hashes,
)
from engine.music.types import Marks, Measures, Performance, Score

RNG = np.random.default_rng(5)


def test_overlap_and_divergence_are_those_of_scipys_kernel_density() -> None:
    a, b = RNG.normal(0, 1, 300), RNG.normal(1.5, 2, 200)
    x = np.linspace(-12, 14, 4001)
    p, q = gaussian_kde(a)(x), gaussian_kde(b)(x)
    step = x[1] - x[0]
    assert overlap_area(a, b) == pytest.approx(np.minimum(p, q).sum() * step, abs=2e-3)
    assert divergence(a, b) == pytest.approx((p * np.log(p / q)).sum() * step, abs=5e-3)
    assert divergence(a, a) == pytest.approx(0, abs=1e-12)
    assert overlap_area(a, b) == overlap_area(b, a)


def test_two_normals_overlap_as_the_formula_says() -> None:
    """Unit normals whose means differ by d share 2 Phi(-d/2): 0.617 for d = 1. Smoothing widens both a little."""
    a = np.quantile(RNG.standard_normal(200_000), (np.arange(2000) + 0.5) / 2000)
    assert overlap_area(a, a + 1) == pytest.approx(0.617, abs=0.02)


def test_overlap_ignores_what_is_not_a_number_and_refuses_nothing() -> None:
    a = RNG.normal(size=50)
    assert overlap_area(np.append(a, np.nan), a) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least one finite value"):
        overlap_area(np.array([np.nan]), a)
    assert overlap_area(np.ones(3), np.ones(5)) == pytest.approx(1)  # equal values still have a density


def test_distances_see_no_shift_but_a_spread() -> None:
    a = RNG.normal(0, 1, 300)
    near, _ = distances_overlap(a, RNG.normal(0, 1, 300))
    far, _ = distances_overlap(RNG.normal(4, 1, 300), a)
    assert near > 0.9
    assert far < 0.4


def test_jensen_shannon_is_scipys() -> None:
    p, q = RNG.integers(0, 50, 30), RNG.integers(0, 50, 30)
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2))
    assert intersection(p, p) == pytest.approx(1)


def test_bootstrap_holds_the_mean() -> None:
    values = RNG.normal(10, 2, 400)
    low, high = bootstrap(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * 2 / 20, rel=0.15)


def test_pedal_patterns_by_hand() -> None:
    """Onsets at 0 (two notes), 1 and 2 s; the pedal goes down at 0.3 s and up at 1.6 s."""
    zeros = np.zeros(4)
    p = Performance(
        np.array([0, 0.01, 1, 2.0]), zeros + 0.5, zeros + 60, zeros + 64, np.array([0.3, 1.6]), np.array([80, 10])
    )
    assert pedal_patterns(p).tolist() == [0b0011, 0b0011, 0b1110]
    assert pedal_patterns(replace(p, pedal_sec=np.zeros(0), pedal_value=np.zeros(0))).tolist() == [0, 0, 0]


def test_histograms_by_hand() -> None:
    """Lengths 10.5 ms, 101 ms, 3 s; intervals 50.5 ms and 1 s; a value on an edge is shared by both bins."""
    p = Performance(
        np.array([0, 0.0505, 1.0505]), np.array([0.0105, 0.101, 3.0]), np.array([60, 61, 62]), np.array([1, 64, 127])
    )
    found = histograms([p, p])
    assert found["velocity"][[1, 64, 127]].tolist() == [2, 2, 2]
    assert found["duration"][5] == pytest.approx(2)  # 10 to 11 ms lies in the bin of 10 to 12 ms
    assert found["duration"][50] == pytest.approx(2)  # 100.5 to 101.5 ms
    assert found["duration"][249] == 2  # 3 s counts at the end
    assert found["IOI"][[50, 199]] == pytest.approx([2, 2])
    assert {k: v.sum() for k, v in found.items()} == pytest.approx({"velocity": 6, "duration": 6, "IOI": 4, "pedal": 4})
    shared = histograms([replace(p, duration_sec=np.array([0.012, 0.012, 0.012]))])["duration"]
    assert shared[[5, 6]] == pytest.approx([1.5, 1.5])


# ---- written music

MAJOR = np.array([60, 62, 64, 65, 67, 69, 71, 72])


def test_keys() -> None:
    ones = np.ones(8)
    assert estimate_key(MAJOR, ones) == (0, False)
    assert estimate_key(MAJOR + 3, ones) == (3, False)
    assert estimate_key(np.array([57, 59, 60, 62, 64, 65, 68, 69]), ones) == (9, True)  # A minor, with G sharp
    assert key_share(np.array([57, 59, 60, 62, 64, 65, 68, 69]), ones) == 1
    assert key_share(np.append(MAJOR, [61, 63]), np.append(ones, [0.1, 0.1])) == pytest.approx(0.8)
    assert key_share(MAJOR, np.zeros(8)) == 1  # nothing but grace notes


def test_loops() -> None:
    rng = np.random.default_rng(1)
    onset, pitch = np.arange(64.0), rng.integers(40, 80, 64)
    assert longest_loop(onset, pitch) == 1
    stuck = np.concatenate([rng.integers(40, 80, 13), np.tile(np.arange(60, 68), 4), [81]])
    assert longest_loop(np.arange(len(stuck)) / 2, stuck) == 4
    assert looped_notes(np.arange(len(stuck)) / 2, stuck) == 24  # three of the four repeat what was before
    uneven = np.cumsum(rng.integers(1, 9, len(stuck))) / 4.0
    assert longest_loop(uneven, stuck) == 1  # the same notes in another rhythm
    trill = np.tile([60, 62], 20)
    assert longest_loop(np.arange(40) / 4, trill) == 4  # 39 steps: 31 equal the step 8 before them
    assert longest_loop(np.arange(5.0), MAJOR[:5]) == 1


def test_passages_are_known_in_any_key_and_place() -> None:
    rng = np.random.default_rng(2)
    onset, pitch = np.cumsum(rng.integers(0, 4, 60)) / 4.0, rng.integers(40, 80, 60)
    index = Originality.of([(onset, pitch)])
    assert len(window_hashes(onset, pitch)) == 49
    assert index.known(onset, pitch).all()
    assert index.known(onset + 17, pitch + 5).all()
    assert not index.known(onset * 2, pitch).any()
    changed = np.array(pitch)
    changed[30] += 1
    known = index.known(onset, changed)
    assert not known[19:31].any()  # every passage with the note in it
    assert known[:19].all()
    assert known[31:].all()
    assert index.known(onset[:11], pitch[:11]).shape == (0,)
    assert not Originality.of([]).known(onset, pitch).any()


def test_hashes_of_notes_and_rests_differ() -> None:
    """Two windows that differ in one interval or one onset difference never share a hash here."""
    onset, pitch = np.arange(12.0), np.full(12, 60)
    seen = {int(window_hashes(onset, pitch)[0])}
    for k in range(11):
        for j in (-1, 1):
            p, o = np.array(pitch), np.array(onset)
            p[k + 1 :] += j
            o[k + 1 :] += j / 24
            seen |= {int(window_hashes(onset, p)[0]), int(window_hashes(o, pitch)[0])}
    assert len(seen) == 1 + 11 * 2 * 2


def small_score(**changes: object) -> Score:
    n = 4
    measures = Measures(*(np.array([v]) for v in (0.0, 4.0, 0.0, 4, 4, 0, 1)))
    columns: dict = {
        "onset_quarter": np.arange(4.0), "duration_quarter": np.ones(n), "pitch": np.array([60, 62, 64, 65]),
        "spelling": np.array([0, 2, 4, -1]), "staff": np.ones(n), "voice": np.ones(n), "grace": np.zeros(n, bool),
        "marks": Marks.none(n), "measures": measures,
    }  # fmt: skip
    return Score(**(columns | changes))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, ""),
        ({"pitch": np.array([20, 62, 64, 65])}, "outside the piano"),
        ({"duration_quarter": np.array([1, 0, 1, 1.0])}, "duration of nothing"),
        ({"onset_quarter": np.array([0, 1.01, 2, 3])}, "off the grid"),
        ({"onset_quarter": np.array([0, 1, 2, 4.0])}, "after the last"),
        ({"staff": np.zeros(4)}, "neither upper nor lower"),
        ({"spelling": np.array([0, 2, 4, 0])}, "does not sound"),
        ({"onset_quarter": np.array([0, 1, 2, 2.0]), "pitch": np.array([60, 62, 64, 64]),
          "spelling": np.array([0, 2, 4, 4])}, "struck twice"),
    ],
)  # fmt: skip
def test_faults(changes, fault) -> None:
    found = score_faults(small_score(**changes))
    assert (found == []) if not fault else any(fault in f for f in found)
