"""Humdrum **kern, counted by hand and against the corpus's own counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.music.io.kern import read_kern
from engine.music.types import BadInput, Score

DATA = Path(__file__).parents[2] / "data"


def kern(*lines: str) -> Score:
    return read_kern("\n".join(line.replace(" | ", "\t") for line in lines).encode())


def test_two_staves_two_voices_ties_and_a_grace_note() -> None:
    score = kern(
        "!!!COM: Nonym, A.", "!!!OTL: Little piece", "!!!OMD: Allegro",
        "**kern | **kern", "*staff2 | *staff1", "*k[b-e-] | *k[b-e-]", "*M3/4 | *M3/4", "*MM120 | *MM120",
        "4r | 4dd",  # pickup
        "=1 | =1",
        "2.C 2.G | 8.b-L'", ". | 16ccJk^",
        "* | *^",
        ". | 4f# | [2a",
        ". | qg | .",
        ". | 4f | .",
        "=2 | =2 | =2",
        "* | *v | *v",
        "2.EE-- | 4a]", ". | 12b-~", ". | 12cc", ". | 12dd;",  ". | 4ee-T",
        "== | ==", "*- | *-",
    )  # fmt: skip
    assert (score.title, score.composer) == ("Little piece", "Nonym, A.")
    columns = (score.onset_quarter.round(4), score.duration_quarter.round(4), score.pitch, score.spelling, score.staff)
    rows = list(zip(*(c.tolist() for c in columns), strict=True))
    assert rows == [
        (-1, 1, 74, 2, 1),
        (0, 3, 48, 0, 2), (0, 3, 55, 1, 2), (0, 0.75, 70, -2, 1),
        (0.75, 0.25, 72, 0, 1),
        (1, 1, 66, 6, 1), (1, 3, 69, 3, 1),
        (2, 0, 67, 1, 1),
        (2, 1, 65, -1, 1),
        (3, 3, 38, -10, 2),
        (4, 0.3333, 70, -2, 1), (4.3333, 0.3333, 72, 0, 1), (4.6667, 0.3333, 74, 2, 1),
        (5, 1, 75, -3, 1),
    ]  # fmt: skip
    assert score.grace.tolist() == [i == 7 for i in range(14)]
    m = score.measures
    assert m.onset_quarter.tolist() == [-1, 0, 3]
    assert m.duration_quarter.tolist() == [1, 3, 3]
    assert m.position_quarter.tolist() == [2, 0, 0]
    assert m.number.tolist() == [0, 1, 2]
    assert (set(m.ts_num.tolist()), set(m.ts_den.tolist()), set(m.fifths.tolist())) == ({3}, {4}, {-2})
    marks = {
        name: score.marks[name].nonzero()[0].tolist()
        for name in ("staccato", "accent", "tenuto", "fermata", "ornament")
    }
    assert marks == {"staccato": [3], "accent": [4], "tenuto": [10], "fermata": [12], "ornament": [13]}
    assert set(score.marks["tempo_bpm"].tolist()) == {120}
    assert set(score.marks["tempo_word"].tolist()) == {5}


def test_dynamics() -> None:
    score = kern("**kern | **dynam", "4c | p", "4d | <", "4e | .", "4f | [f", "4g | sf", "4a | >", "4b | ]", "*- | *-")
    assert score.marks["hairpin"].tolist() == [0, 1, 1, 0, 0, -1, 0]
    velocity = score.marks["written_velocity"].tolist()
    assert velocity[0] == 49
    assert velocity[1] < velocity[2] < velocity[3] == 96 == velocity[4]
    assert velocity[6] < 96


@pytest.mark.parametrize(
    ("bars", "played"),
    [
        (("4c", "=2:|!", "4d", "=="), [60, 60, 62]),
        (("4c", "=2!|:", "4d", "=3:|!|:", "4e", "==:|!"), [60, 62, 62, 64, 64]),
        (("*>[A,B,A,C]", "*>A", "4c", "=2", "*>B", "4d", "=3", "*>C", "4e", "=="), [60, 62, 60, 64]),
        (("*>[A,Z]", "4c", "=2:|!", "4d", "=="), [60, 60, 62]),  # a label that is nowhere: the signs count
    ],
)
def test_repeats_are_played(bars: tuple[str, ...], played: list[int]) -> None:
    score = kern("**kern", "*M1/4", "=1", *bars, "*-")
    assert score.pitch.tolist() == played
    assert score.onset_quarter.tolist() == list(range(len(played)))
    assert np.allclose(np.diff(score.measures.onset_quarter), 1)


def test_a_double_bar_inside_a_bar_keeps_its_place() -> None:
    m = kern("**kern", "*M4/4", "=1", "2c", "=||", "2d", "=2", "1e", "==", "*-").measures
    assert m.onset_quarter.tolist() == [0, 2, 4]
    assert m.position_quarter.tolist() == [0, 2, 0]
    assert m.number.tolist() == [1, 1, 2]


@pytest.mark.parametrize(
    ("token", "quarters"),
    [
        ("4", 1),
        ("4.", 1.5),
        ("8..", 0.875),
        ("0", 8),
        ("00", 16),
        ("12", 1 / 3),
        ("3%2", 8 / 3),
        ("40%3", 0.3),
        ("20", 0.2),
    ],
)
def test_lengths(token: str, quarters: float) -> None:
    assert kern("**kern", f"{token}c", "*-").duration_quarter[0] == pytest.approx(quarters)


@pytest.mark.parametrize(
    ("name", "notes", "quarters"),
    [("chopin_prelude_28_4", 600, 101), ("chopin_prelude_28_7", 168, 49), ("anonymous_mazur_6", 2 * 375, 2 * 48)],
)
def test_real_files(name: str, notes: int, quarters: float) -> None:
    """Counts of the symbolic collection's own index; the mazurka repeats all it has."""
    score = read_kern((DATA / f"{name}.krn").read_bytes())
    assert len(score) == notes
    assert score.measures.duration_quarter.sum() == quarters
    assert {1, 2} == set(score.staff.tolist())


@pytest.mark.parametrize("text", ["", "**kern\n*-", "**kern\n4r\n*-", "hello", "**kern\n" + "*^\n" * 10])
def test_no_notes(text: str) -> None:
    with pytest.raises(BadInput, match="no notes"):
        read_kern(text.encode())


def test_too_many_spines_and_notes() -> None:
    splits = "\n".join("\t".join(["*^"] * 2**k) for k in range(8))
    with pytest.raises(BadInput, match="64 spines"):
        read_kern(f"**kern\n{splits}\n4c\n".encode())
    with pytest.raises(BadInput, match="20000 notes"):
        read_kern(("**kern\n" + "8c\n" * 20_001).encode())
