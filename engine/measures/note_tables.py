"""A performance of a score as tables: a row for each note, and a row for each beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.measures.side_by_side import Played, beats_of, shape_of
from engine.music.expression import beat_quarters
from engine.music.types import Alignment, BadInput, Performance, Score

Row = tuple[Any, ...]
WRITTEN_COLUMNS = (
    "note",  # number of the written note, from 1; empty for a note that is not written
    "bar",  # printed number
    "beat",  # in the bar, from 1; musical beats, so 6/8 has two
    "onset_quarter",
    "duration_quarter",
    "name",  # "C#4"
    "pitch",  # MIDI number
    "staff",
    "voice",
    "grace",  # 1 for a grace note
)
PLAYED_COLUMNS = (  # empty for a note that was not played
    "onset_sec",
    "duration_sec",  # of the key
    "velocity",
    "bpm",  # beats a minute at the note
    "timing_sec",  # off the beat grid, positive is late
    "articulation",  # played / written length
    "pedal",  # sustain pedal at the note's onset, 0 to 127
)
NOTE_COLUMNS = WRITTEN_COLUMNS + PLAYED_COLUMNS
BEAT_COLUMNS = ("bar", "beat", "quarter", "sec", "bpm", "velocity", "timing_sec", "articulation", "pedal")


@dataclass(frozen=True)
class Table:
    """Rows of one length; None is an empty cell. Times are rounded to 0.1 ms."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def column(self, name: str) -> list[Any]:
        """The cells of one column, from the top."""
        at = self.columns.index(name)
        return [row[at] for row in self.rows]


def note_name(pitch: int, spelling: int) -> str:
    """A pitch's name in its spelling on the line of fifths.

    >>> note_name(61, 7), note_name(61, -5), note_name(60, 12), note_name(59, -7)
    ('C#4', 'Db4', 'B#3', 'Cb4')
    """
    letter = "FCGDAEB"[(spelling + 1) % 7]
    alter = (spelling + 1) // 7
    octave = (pitch - alter) // 12 - 1
    return f"{letter}{'#' * alter}{'b' * -alter}{octave}"


def written_rows(score: Score) -> list[Row]:
    """A row of WRITTEN_COLUMNS for each note, in the score's order."""
    bar, beat = _places(score, score.onset_quarter)
    return [
        (
            i + 1, int(bar[i]), _round(beat[i]), _round(score.onset_quarter[i]), _round(score.duration_quarter[i]),
            note_name(int(score.pitch[i]), int(score.spelling[i])), int(score.pitch[i]), int(score.staff[i]),
            int(score.voice[i]), int(score.grace[i]),
        )
        for i in range(len(score))
    ]  # fmt: skip


def note_table(score: Score, performance: Performance, alignment: Alignment) -> Table:
    """A row for each written note in the score's order, then one for each note that is played and not written.

    Raises BadInput when fewer than two onsets of the score are found in the performance.
    """
    expression = shape_of(score, Played("this performance", performance, alignment)).expression
    played_row = np.full(len(score), -1)
    played_row[alignment.score_index] = alignment.performance_index
    rows: list[Row] = []
    for i, written in enumerate(written_rows(score)):
        j = int(played_row[i])
        found: Row = (None,) * len(PLAYED_COLUMNS)
        if j >= 0:
            found = (
                *_key(performance, j), _round(60 / expression.beat_period[i], 2), _round(expression.timing_sec[i]),
                _round(np.exp2(expression.articulation_log2[i])), round(float(expression.pedal[i, 0])),
            )  # fmt: skip
        rows.append(written + found)
    for j in np.setdiff1d(np.arange(len(performance)), alignment.performance_index).tolist():
        unwritten = (None,) * 6 + (int(performance.pitch[j]), None, None, None)
        rows.append(unwritten + _key(performance, j) + (None,) * 4)
    return Table(NOTE_COLUMNS, tuple(rows))


def beat_table(score: Score, performance: Performance, alignment: Alignment) -> Table:
    """A row for each beat from the first note on: its time, and means over the notes that begin in it. A beat without
    played notes has no velocity, timing, articulation. `sec` is the beat grid of the Expression: the onset of the
    beat's chord where there is one. Raises BadInput as note_table does.
    """
    shape = shape_of(score, Played("this performance", performance, alignment))
    bar, beat = _places(score, shape.quarter)
    sec = beat_seconds(score, performance, alignment)
    depth = _pedal_at(performance, sec)
    rows = tuple(
        (
            int(bar[k]), _round(beat[k], 2), _round(shape.quarter[k]), _round(sec[k]), _round(shape.tempo[k], 2),
            _known(shape.velocity[k], 2), _known(shape.timing_ms[k] / 1000, 4), _known(shape.articulation[k], 4),
            int(depth[k]),
        )
        for k in range(len(shape.quarter))
    )  # fmt: skip
    return Table(BEAT_COLUMNS, rows)


def beat_seconds(score: Score, performance: Performance, alignment: Alignment) -> NDArray[np.float64]:
    """Times of the beats of `side_by_side.beats_of` in the performance, seconds, (k,) ascending.

    The mean onset of the chord on the beat; between chords and past the last one, at the tempo around it.
    """
    quarter, _ = beats_of(score)
    i, j = alignment.score_index, alignment.performance_index
    plain = ~score.grace[i]
    if len(np.unique(score.onset_quarter[i][plain].round(4))) < 2:
        raise BadInput("Too little of the score is found in this performance; choose a performance of this piece.")
    at, of_onset = np.unique(score.onset_quarter[i][plain].round(4), return_inverse=True)
    sec = np.bincount(of_onset, performance.onset_sec[j][plain]) / np.bincount(of_onset)
    rising = [0]
    for k in range(1, len(at)):
        if sec[k] > sec[rising[-1]]:
            rising.append(k)
    if len(rising) < 2:
        raise BadInput("This performance does not move forward in time; choose another performance of this piece.")
    at, sec = at[rising], sec[rising]
    slope = np.diff(sec) / np.diff(at)
    out = np.interp(quarter, at, sec)
    out = np.where(quarter < at[0], sec[0] - slope[0] * (at[0] - quarter), out)
    return np.where(quarter > at[-1], sec[-1] + np.median(slope[-4:]) * (quarter - at[-1]), out)


def _places(score: Score, quarter: NDArray) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Printed bar number and beat in the bar, from 1, of positions in quarters."""
    m = score.measures
    i = np.clip(np.searchsorted(m.onset_quarter, quarter + 1e-6, side="right") - 1, 0, None)
    step = beat_quarters(m.ts_num, m.ts_den)[i]
    return m.number[i].astype(int), 1 + (quarter - m.onset_quarter[i] + m.position_quarter[i]) / step


def _key(performance: Performance, j: int) -> Row:
    return (_round(performance.onset_sec[j]), _round(performance.duration_sec[j]), int(performance.velocity[j]))


def _pedal_at(performance: Performance, sec: NDArray) -> NDArray[np.int64]:
    if not len(performance.pedal_sec):
        return np.zeros(len(sec), np.int64)
    i = np.searchsorted(performance.pedal_sec, sec + 1e-6, side="right") - 1
    return np.where(i >= 0, performance.pedal_value[np.maximum(i, 0)], 0)


def _round(value: Any, digits: int = 4) -> float:
    return round(float(value), digits) + 0.0


def _known(value: Any, digits: int) -> float | None:
    return _round(value, digits) if np.isfinite(value) else None
