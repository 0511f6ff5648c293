"""Repeats and endings on tables and marks that can be followed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from engine.tokens.composer_tokens import make_bars, make_written
from training.core.playing_order import order_of_kern, order_of_marks, order_of_measures, unfold


def measures(*following: str) -> str:
    return "mc\tnext\n" + "".join(f"{i + 1}\t{v}\n" for i, v in enumerate(following))


def test_measures_follow_their_next_column() -> None:
    """||: 1 2 :|| 3 [1. 4 :|| 2. 5], the second repeat from bar 3."""
    assert order_of_measures(measures("2", "1, 3", "4, 5", "3", "-1")) == [0, 1, 0, 1, 2, 3, 2, 4]


@pytest.mark.parametrize("rows", [("9",), ("2", "1")])
def test_measures_that_lead_nowhere_have_no_order(rows: tuple[str, ...]) -> None:
    assert order_of_measures(measures(*rows)) == []


KERN = """**kern\t**kern
*>[A,A1,A,A2,B]\t*>[A,A1,A,A2,B]
*>norep[A,A2,B]\t*>norep[A,A2,B]
*>A\t*>A
4c\t4e
=1\t=1
4d\t4f
=2\t=2
*>A1\t*>A1
4c\t4e
=3:|!\t=3:|!
*>A2\t*>A2
4c\t4e
=4\t=4
*>B\t*>B
1c\t1e
==\t==
*-\t*-
"""


def test_kern_sections() -> None:
    """Bars 0 and 1 are A, 2 its first ending, 3 its second, 4 is B."""
    assert order_of_kern(KERN) == ([0, 1, 2, 0, 1, 3, 4], 5)


def test_kern_without_a_list_has_no_order() -> None:
    assert order_of_kern("\n".join(line for line in KERN.splitlines() if "[" not in line)) == ([], 5)


def marks(*found: tuple[int, str, str]) -> list[tuple[int, str, str]]:
    return [(bar * 100, kind, value) for bar, kind, value in found]


@pytest.mark.parametrize(
    ("found", "order"),
    [
        ([(1, "repeat-forward", ""), (3, "repeat-backward", "")], [0, 1, 2, 1, 2, 3, 4, 5]),
        ([(2, "repeat-backward", "3")], [0, 1, 0, 1, 0, 1, 2, 3, 4, 5]),
        ([(2, "repeat-backward", ""), (4, "repeat-backward", "")], [0, 1, 0, 1, 2, 3, 2, 3, 4, 5]),
        (
            [
                (2, "ending-start", "1, 2"),
                (3, "ending-stop", "1, 2"),
                (3, "repeat-backward", ""),
                (3, "ending-start", "3"),
                (4, "ending-stop", "3"),
            ],
            [0, 1, 2, 0, 1, 2, 0, 1, 3, 4, 5],
        ),
        (
            [
                (1, "repeat-forward", ""),
                (2, "ending-start", "1"),
                (3, "ending-stop", "1"),
                (3, "repeat-backward", ""),
                (3, "ending-start", "2"),
                (4, "ending-discontinue", "2"),
                (5, "repeat-backward", ""),
            ],
            [0, 1, 2, 1, 3, 4, 4, 5],
        ),
        ([(6, "jump-dacapo", ""), (2, "repeat-backward", "")], []),
    ],
)
def test_repeat_signs_and_endings(found: list, order: list[int]) -> None:
    assert order_of_marks(6, marks(*found), [0, 100, 200, 300, 400, 500]) == order


def test_unfolding_repeats_notes_and_keeps_a_pickup() -> None:
    """A pickup of one quarter, two bars of 2/4; the second bar is played twice, its last note each time."""
    bars = make_bars(
        np.array([0.0, 1, 3]), np.array([1.0, 2, 2]), np.array([1.0, 0, 0]), np.full(3, 2), np.full(3, 4), np.zeros(3)
    )
    w = make_written(np.array([0.0, 1, 3, 4]), np.ones(4), np.array([60, 62, 64, 65]), np.ones(4), np.zeros(4), bars)
    played = unfold(w, [0, 1, 2, 1, 2])
    assert played.tick.tolist() == [0, 24, 72, 96, 120, 168, 192]
    assert played.pitch.tolist() == [60, 62, 64, 65, 62, 64, 65]
    assert played.bar.tolist() == [0, 1, 2, 2, 3, 4, 4]
    assert played.bars.start.tolist() == [0, 24, 72, 120, 168]
    assert played.bars.first.tolist() == [0, 2, 4, 6, 8]
    assert played.bars.offset.tolist() == [24, 0, 0, 0, 0]
    assert played.in_bar.tolist() == [24, 0, 0, 24, 0, 0, 24]
    same = unfold(w, [0, 1, 2])
    assert same.tick.tolist() == w.tick.tolist()
    assert same.bars.first.tolist() == w.bars.first.tolist()
