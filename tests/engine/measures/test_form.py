"""Bar structure on bars that can be counted by hand, and against the slow measure it replaces."""

from __future__ import annotations

from collections import Counter

import numpy as np

from engine.measures.form import MIN_NOTES, bar_structure, compare_bars, obeyed, returns

A = [(0, 60), (1, 64), (2, 67), (3, 72)]
B = [(0, 59), (0.5, 62), (1, 65), (2.5, 61)]


def notes(*bars: list) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    rows = [(i, at, pitch) for i, bar in enumerate(bars) for at, pitch in bar]
    bar, at, pitch = map(np.array, zip(*rows, strict=True))
    return bar, at, pitch, len(bars)


def up(bar: list, semitones: int) -> list:
    return [(at, pitch + semitones) for at, pitch in bar]


def test_most_similar_earlier_bar() -> None:
    """A; B unlike it; A a fifth up; A with its last note changed; an empty bar; A again."""
    changed = [*A[:3], (3, 71)]
    found = bar_structure(compare_bars(*notes(A, B, up(A, 7), changed, [], A)))
    assert found.lag.tolist() == [0, 0, 2, 1, 0, 3]
    np.testing.assert_allclose(found.likeness, [0, 0, 1, 3 / 5, 0, 1], atol=1e-6)
    assert found.transpose.tolist() == [0, 0, 7, -7, 0, -7]


def test_likeness_counts_notes_in_common_over_notes_in_either() -> None:
    """Bar 1 shares two of the four notes of bar 0 and has one more: 2 / 5; doubled notes count once."""
    made = compare_bars(*notes(A, [A[0], A[0], A[1], (0.25, 90)]))
    assert made.exact[1, 0] == made.best[1, 0] == np.float32(2 / 5)
    assert made.exact[0, 1] == 0
    assert made.sizes.tolist() == [4, 3]


def test_a_bar_of_two_notes_is_like_no_other() -> None:
    assert not compare_bars(*notes(A[:2], A[:2])).best.any()


def test_the_smaller_transposition_counts_when_two_fit_equally() -> None:
    """An octave tremolo, an octave up: shifts by 0 and by 12 share as many notes when both octaves are there."""
    low = [(t, p) for t in range(3) for p in (60, 72)]
    assert compare_bars(*notes(low, [(0, 72), (1, 72), (2, 72)])).transpose[1, 0] == 0


def test_returns_by_hand() -> None:
    """Sixteen different bars, then bars 1-4 again, a fourth up at the end: all four far, three exact, a run of four."""
    rng = np.random.default_rng(0)
    first = [list(enumerate(rng.choice(np.arange(40, 90), 16, replace=False))) for _ in range(16)]
    found = returns(compare_bars(*notes(*first, *first[:3], up(first[3], 5))))
    assert found == {"far": 1.0, "exact": 0.75, "near": 0.0, "longest": 4.0}
    assert returns(compare_bars(*notes(*first))) == {}


def ref_likeness(a: set, b: set) -> float:
    """Best Jaccard index over transpositions, pair by pair."""
    if min(len(a), len(b)) < MIN_NOTES:
        return 0.0
    shifts = Counter(p - q for t, p in a for u, q in b if t == u)
    most = max(shifts.values(), default=0)
    return most / (len(a) + len(b) - most)


def test_same_as_the_slow_measure() -> None:
    rng = np.random.default_rng(1)
    bars = [[(int(t), 60 + int(p)) for t, p in rng.integers(0, 5, (rng.integers(0, 9), 2))] for _ in range(30)]
    found = compare_bars(*notes(*bars))
    sets = [set(b) for b in bars]
    slow = [[ref_likeness(sets[i], sets[j]) if j < i else 0.0 for j in range(30)] for i in range(30)]
    np.testing.assert_allclose(found.best, slow, atol=1e-6)
    structure = bar_structure(found)
    for i in range(1, 30):
        most = max(slow[i])
        nearest = max(j for j in range(i) if slow[i][j] == most)
        assert structure.lag[i] == (i - nearest if most >= 0.5 else 0)


def test_only_requested_bars_count() -> None:
    """A B x8, then A B: of the two returns the first alone is counted, and a run is cut where a bar does not count."""
    rng = np.random.default_rng(1)
    others = [list(enumerate(rng.choice(np.arange(40, 90), 16, replace=False))) for _ in range(6)]
    likeness = compare_bars(*notes(A, B, *others, A, B))
    assert returns(likeness, first=8)["longest"] == 2
    only = np.ones(10, bool)
    only[9] = False
    assert returns(likeness, first=8, only=only) == {"far": 1.0, "exact": 1.0, "near": 0.0, "longest": 1.0}


def test_obedience_by_hand() -> None:
    """Bar 2 refers to A and is A; bar 3 refers to B and is not; bar 1 refers to a bar before the first."""
    likeness = compare_bars(*notes(A, B, A, A))
    assert obeyed(likeness, [0, 3, 2, 2]).tolist() == [True, False]
