"""Calls of the `etude` command in tests, and a short piece as its input."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from engine.cli.etude import main
from engine.music.types import Marks, Measures, Score


def little_piece() -> Score:
    """Eight bars of 4/4: a melody of eighths over a chord on every half bar."""
    melody = [(i / 2, 0.5, 72 + (0, 2, 4, 5, 7, 5, 4, 2)[i % 8]) for i in range(64)]
    chords = [(2.0 * i, 2.0, p) for i in range(16) for p in (48, 55, 64)]
    onset, duration, pitch = np.array(sorted(melody + chords, key=lambda note: (note[0], note[2]))).T
    n, m = len(onset), 8
    staff, zeros = np.where(pitch > 66, 1, 2), np.zeros(m)
    measures = Measures(4.0 * np.arange(m), zeros + 4, zeros, zeros + 4, zeros + 4, zeros, np.arange(1, m + 1))
    spelling = (pitch * 7 + 5) % 12 - 5
    return Score(onset, duration, pitch, spelling, staff, staff, np.zeros(n, bool), Marks.none(n), measures)


def two_bars() -> Score:
    """The first two bars of the little piece: 5 s of sound at 100 quarters a minute."""
    score = little_piece()
    rows, m = score.onset_quarter < 8, score.measures
    return Score(
        *(getattr(score, f.name)[rows] for f in fields(Score)[:7]), Marks.none(int(rows.sum())),
        Measures(*(getattr(m, f.name)[:2] for f in fields(Measures))),
    )  # fmt: skip


def run(command: str, capsys: pytest.CaptureFixture) -> tuple[object, str, str]:
    """Exit status, standard output and standard error of one command line."""
    try:
        status = main(command.split())
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr()
    return status, said.out, said.err
