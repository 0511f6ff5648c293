"""The written score of a visitor's piece with the notes edited in the roll."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.music.types import BadInput, Performance, Score
from studio.state.session import FIELDS, Grid, Session

NOTHING_OPEN = "No score is open yet: choose an example or open a MIDI or MusicXML file first."
_TRIPLET = 1 / 48  # quarters by which a triplet must be closer than a sixteenth
_NEAR = 4.0  # quarters around an added note in which its staff is looked up
_MAJOR = 2.5  # centre of a key's seven names on the line of fifths, from its tonic C = 0


def locked_pair(session: Session) -> tuple[Score, Performance]:
    """Score and performance, note for note, with the visitor's deletions, new pitches and additions in both.

    An added note is written on the nearest 1/24 of a quarter to where it is played. Raises BadInput without a note.
    """
    assert session.score is not None
    assert session.grid is not None
    onset, end = _played_quarters(session.grid, session.arrays()[1])
    onset = np.maximum(np.round(onset * 24) / 24, session.score.measures.onset_quarter[0])
    return _pair(session, onset, np.maximum(np.round(end * 24) / 24 - onset, 1 / 24))


def written_pair(session: Session) -> tuple[Score, Performance]:
    """`locked_pair` for notation: an added note is written on a sixteenth or a triplet eighth inside the piece.

    Times and velocities changed in the roll belong to the performance, so a score whose notes keep their pitches is
    the open one. Raises BadInput without a note.
    """
    assert session.score is not None
    assert session.rendered is not None
    assert session.grid is not None
    if not session.deleted and not any("pitch" in edit.own for edit in session.edits.values()):
        return session.score, session.rendered
    m = session.score.measures
    onset, end = _played_quarters(session.grid, session.arrays()[1])
    onset, unit = _on_the_page(onset.clip(m.onset_quarter[0], m.end_quarter - 1 / 4))
    onset = onset.clip(m.onset_quarter[0], m.end_quarter - unit)
    duration = np.maximum(np.round((end - onset) / unit) * unit, unit)
    return _pair(session, onset, np.minimum(duration, m.end_quarter - onset))


def _played_quarters(grid: Grid, performance: Performance) -> tuple[NDArray, NDArray]:
    """Score times (n,) of the played onsets and releases."""
    return grid.quarter_at(performance.onset_sec), grid.quarter_at(performance.onset_sec + performance.duration_sec)


def _on_the_page(quarter: NDArray) -> tuple[NDArray, NDArray]:
    """The nearest sixteenth or triplet eighth of each time (n,), and the unit of its length (n,)."""
    sixteenth, triplet = np.round(quarter * 4) / 4, np.round(quarter * 3) / 3
    thirds = np.abs(triplet - quarter) + _TRIPLET < np.abs(sixteenth - quarter)
    return np.where(thirds, triplet, sixteenth), np.where(thirds, 1 / 3, 1 / 4)


def _pair(session: Session, onset: NDArray, duration: NDArray) -> tuple[Score, Performance]:
    """Score and performance of the present notes; an added note i is written at onset[i] for duration[i] quarters."""
    assert session.score is not None
    score, (ids, performance) = session.score, session.arrays()
    if not len(ids):
        raise BadInput("Every note has been deleted, so there is nothing to save; undo, or reset the edits.")
    added = ids > len(score)
    index = np.where(added, 0, ids - 1)

    def pick(name: str, for_added: NDArray | float = 0) -> NDArray:
        return np.where(added, for_added, getattr(score, name)[index])

    onset_quarter, duration_quarter = pick("onset_quarter", onset), pick("duration_quarter", duration)
    spelling = np.where(
        added | (performance.pitch != score.pitch[index]),
        _names(score, performance.pitch, onset_quarter), score.spelling[index],
    )  # fmt: skip
    order = np.lexsort((performance.pitch, onset_quarter))
    marks = np.where(added[:, None], 0, score.marks.table[index])[order]
    written = replace(
        score, onset_quarter=onset_quarter[order], duration_quarter=duration_quarter[order],
        pitch=performance.pitch[order], spelling=spelling[order],
        staff=pick("staff", _staves(score, performance.pitch, onset))[order], voice=pick("voice")[order],
        grace=pick("grace", False)[order], marks=replace(score.marks, table=marks),
    )  # fmt: skip
    played = replace(performance, **{name: getattr(performance, name)[order] for name in FIELDS})
    return written, played


def _names(score: Score, pitch: NDArray, quarter: NDArray) -> NDArray[np.int64]:
    """Tonal pitch class of each pitch (n,) in the key of its bar: the one closest on the line of fifths."""
    m = score.measures
    bar = np.clip(np.searchsorted(m.onset_quarter, quarter + 1e-6, side="right") - 1, 0, None)
    name = np.asarray(pitch, int) * 7 % 12
    return (name + 12 * np.round((m.fifths[bar] + _MAJOR - name) / 12)).astype(int)


def _staves(score: Score, pitch: NDArray, quarter: NDArray) -> NDArray[np.int64]:
    """Staff of each added note (n,): that of the written note nearest in pitch among those around it."""
    out = np.zeros(len(pitch), int)
    for k in range(len(pitch)):
        near = np.abs(score.onset_quarter - quarter[k])
        rows = np.flatnonzero(near <= max(_NEAR, near.min()))
        out[k] = score.staff[rows[np.abs(score.pitch[rows].astype(int) - int(pitch[k])).argmin()]]
    return out
