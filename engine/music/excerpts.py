"""Some bars of a score as a score of its own."""

from __future__ import annotations

from dataclasses import fields

from numpy.typing import NDArray

from engine.music.types import Marks, Measures, Score

_NOTE_COLUMNS = ("onset_quarter", "duration_quarter", "pitch", "spelling", "staff", "voice", "grace")


def excerpt(score: Score, rows: NDArray | slice, bars: slice) -> Score:
    """Some notes and some measures of a score; the first of the measures begins at quarter 0.

    rows  the notes: (n,) flags, or a slice
    bars  the measures, at least those in which the notes begin
    """
    m, zero = score.measures, float(score.measures.onset_quarter[bars][0])
    measures = {f.name: getattr(m, f.name)[bars] for f in fields(Measures)}
    notes = {name: getattr(score, name)[rows] for name in _NOTE_COLUMNS}
    measures["onset_quarter"] = measures["onset_quarter"] - zero
    notes["onset_quarter"] = notes["onset_quarter"] - zero
    return Score(
        **notes, marks=Marks(score.marks.table[rows]), measures=Measures(**measures), title=score.title,
        composer=score.composer, tempo_bpm=score.tempo_bpm,
    )  # fmt: skip
