"""The comparison of readers: differences, reported differences, and the table."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from training.bench.reading import __main__ as wall
from training.bench.reading.compare import agreed_by_either, compare
from training.bench.reading.facts import Facts, facts_from_json, our_facts
from training.bench.reading.table import Row, table

READING = Path(__file__).parents[1] / "data" / "reading"

C, D = (0.0, 1.0, 60, False), (1.0, 1.0, 62, False)
FACTS = Facts([C, D], [0], [0.0], [(0.0, "mark", "p", None), (0.0, "bpm", 72.0, None)])


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({}, set()),
        ({"notes": [C, (1.01, 1.0, 62, False)]}, set()),
        ({"notes": [C]}, {"notes", "onsets"}),
        ({"notes": [C, (1.5, 1.0, 62, False)]}, {"onsets"}),
        ({"notes": [C, (1.0, 0.5, 62, False)]}, {"durations"}),
        ({"bars": [0, 0]}, {"repeats"}),
        ({"signs": [(0.0, "mark", "p", None), (0.0, "bpm", 80.0, None)]}, {"tempo"}),
        ({"signs": [(0.0, "mark", "ff", None), (0.0, "bpm", 72.0, None)]}, {"dynamics"}),
        ({"unpitched": 1}, {"notes"}),
    ],
)
def test_each_field(changed, differs):
    assert set(compare(FACTS, replace(FACTS, **changed)).differs) == differs


@pytest.mark.parametrize(("end", "agrees"), [(9.0, True), (15.0, False)])
def test_dynamics_may_stand_two_quarters_apart(end, agrees):
    notes = [(float(k), 1.0, 60, False) for k in range(20)]
    signs = [[(0.0, "mark", "pp", None), (at, "mark", "f", None)] for at in (8.0, end)]
    here, there = (Facts(notes, [0], [0.0], found) for found in signs)
    assert ("dynamics" not in compare(here, there).differs) == agrees


def test_the_order_of_grace_notes_counts():
    graces = [(0.0, 0.0, p, True) for p in (81, 79, 77)]
    here, there = Facts([*graces, C]), Facts([*graces[::-1], C])
    assert compare(here, here).agrees
    assert set(compare(here, there).differs) == {"notes"}


@pytest.mark.parametrize(
    ("remark", "same", "right"),
    [
        (None, True, True),
        (None, False, False),
        ((3, "<cue>", "left out"), False, True),
        ((0, "<cue>", "left out"), False, False),  # no bar
        ((3, "", "left out"), False, False),  # no element
        ((3, "<cue>", "left out"), True, False),  # a remark about nothing
    ],
)
def test_which_remarks_report_a_difference(remark, same, right):
    ours = replace(FACTS, remarks=[remark] if remark else [])
    assert compare(ours, FACTS if same else replace(FACTS, bars=[0, 0])).right == right


def test_a_second_reader_settles_what_it_reads():
    grace = (0.0, 0.0, 59, True)
    ours = Facts([grace, C, D], [0, 0], [0.0], FACTS.signs)
    first = compare(ours, Facts([C], [0], [0.0], [(0.0, "bpm", 80.0, None)]))
    second = compare(ours, Facts([C, D], [0, 0], places=False))  # no grace notes, no signs
    assert set(first.differs) == {"notes", "onsets", "repeats", "tempo", "dynamics"}
    either = agreed_by_either(first, second)
    assert either is not None
    assert set(either.differs) == {"notes", "tempo", "dynamics"}
    assert agreed_by_either(None, second) is second


def test_a_remark_is_right_where_the_other_readers_differ():
    ours = replace(FACTS, remarks=[(3, "measure", "the parts differ in length")])
    agrees, differs = compare(ours, FACTS), compare(ours, replace(FACTS, bars=[0, 0]))
    either = agreed_by_either(differs, agrees)
    assert either is not None
    assert (agrees.right, either.agrees, either.right) == (False, True, True)


def test_table_and_what_is_kept():
    assert facts_from_json(FACTS.as_json()) == FACTS
    less = Facts([C], [0], [], [])
    rows = [Row("kern", Path("a"), compare(FACTS, FACTS)), Row("kern", Path("b"), compare(FACTS, less))]
    lines = table(rows, "music21").splitlines()
    assert lines[2] == "| kern | 2 | 50.0 % | 50.0 % | 100.0 % | 100.0 % | 50.0 % | 50.0 % | 50.0 % | 50.0 % |"


def test_the_command_reads_real_files(tmp_path, monkeypatch, capsys):
    """Verovio beside our reader on small MEI files; the second run takes what the first one kept."""
    names = ("me1-mspace.mei", "me3-btrem.mei", "me9-supplied.mei", "me25-staff-n-order-voice-and-piano.mei")
    files = [str(READING / name) for name in names]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["reading", *files, "--against", "verovio", "--keep", str(tmp_path)])
        wall.main()
        row = capsys.readouterr().out.splitlines()[3]
        assert row == "| MEI | 4 | 100.0 % | 100.0 % | 100.0 % | 100.0 % | 100.0 % | 100.0 % | 100.0 % | 100.0 % |"
    assert len(list((tmp_path / "verovio").glob("*.json"))) == 4
    facts = our_facts(READING / names[3])  # the voice is compared too, and no remark is counted for it
    assert (sorted(p for _, _, p, _ in facts.notes), facts.remarks) == ([48, 64, 79], [])


def test_a_hand_count_settles_where_readers_differ(tmp_path, monkeypatch, capsys):
    files = [str(READING / name) for name in ("me5-nested-tuplet.mei", "me7-choice-sic-corr.mei")]
    monkeypatch.setattr(sys, "argv", ["reading", *files, "--against", "verovio", "hand", "--keep", str(tmp_path)])
    wall.main()
    first, either = (line for line in capsys.readouterr().out.splitlines() if line.startswith("| MEI"))
    assert first.startswith("| MEI | 2 | 50.0 % | 0.0 % |")
    assert either.startswith("| MEI | 2 | 100.0 % | 100.0 % | 100.0 % |")
