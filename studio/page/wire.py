"""Serialisation of a Session for the roll and the curves."""

from __future__ import annotations

import json
import time

import numpy as np

from engine.measures.curves import OtherLine, curve_lenses
from engine.measures.side_by_side_figures import COLOURS, DASHES
from engine.music.expression import beat_quarters
from engine.music.remarks import LEFT_OUT, remark_lines
from engine.music.types import Alignment
from studio.actions.comparing import drawn_pins
from studio.service.jobs import Job
from studio.state.session import Grid, NoteEdit, Session, Take
from studio.state.versions import other, with_present

PLAY_VOICE = "To play the voice as well, tick “Play a song's voice too” at the end of Perform and open the file again."


def _row(note: NoteEdit) -> list[int]:
    return [note.pitch, round(1000 * note.onset_sec), max(1, round(1000 * note.duration_sec)), note.velocity]


def roll_document(session: Session) -> str:
    """The performance layer as one JSON string, times in whole milliseconds.

    notes  [[id, pitch, onset, duration, velocity], ...] the present notes, with the visitor's edits
    base   {id: [pitch, onset, duration, velocity]} the pianist's version of edited or deleted notes
    grid   [[quarter, ...], [ms, ...]] times of the beats
    pedal  [[from, to], ...]; own_pedal: whether it is the visitor's
    past, future  titles of the pieces before and after this one, the nearest of each; null for none
    past_own, future_own  whether these are versions of this piece: a take was accepted between them
    family        which renders belong to the piece, see Session
    versions      [[number, name], ...] of the performance; version: the present one; pair: Before and Now, 0 for none
    """
    history = {
        "past": session.past[-1].title if session.past else None,
        "future": session.future[0].title if session.future else None, "family": session.family,
        "past_own": bool(session.past) and session.past[-1].family == session.family,
        "future_own": bool(session.future) and session.future[0].family == session.family,
    }  # fmt: skip
    if session.rendered is None:
        empty = {"id": 0, "n": 0, "notes": [], "base": {}, "grid": [[0, 1], [0, 1000]], "pedal": [], "own_pedal": False}
        return json.dumps({**empty, **history})
    assert session.grid is not None
    n, kept = len(session.rendered), with_present(session)
    notes, base = [], {}
    for i in range(1, n + 1):
        note = session.base(i)
        assert note is not None
        if i in session.deleted or i in session.edits:
            base[i] = _row(note)
        if i not in session.deleted:
            notes.append([i, *_row(session.edits.get(i, note))])
    notes += [[i, *_row(note)] for i, note in session.edits.items() if i > n]
    return json.dumps(
        {
            "id": session.doc,
            "n": n,
            "notes": notes,
            "base": base,
            "grid": grid_rows(session.grid),
            "pedal": [[round(1000 * a), max(round(1000 * a) + 1, round(1000 * b))] for a, b in session.pedal_spans()],
            "own_pedal": session.pedal is not None,
            "versions": [[version.number, version.name] for version in kept.versions],
            "version": kept.version,
            "pair": kept.pair,
            **history,
        },
        separators=(",", ":"),
    )


def grid_rows(grid: Grid) -> list[list[float]]:
    """[[quarter, ...], [ms, ...]]: times of the beats."""
    return [grid.quarter.round(4).tolist(), (1000 * grid.sec).round(1).tolist()]


def roll_score(session: Session) -> str:
    """The score layer as one JSON string.

    notes  [[onset, duration, pitch, staff], ...] in quarters
    bars   [[onset, printed number, quarters of a beat, where in its bar it begins], ...] in quarters
    remarks  what the reader of the file omitted, guessed or repaired
    """
    score = session.score
    if score is None:
        return json.dumps(
            {"id": 0, "title": "Nothing here yet", "composer": "", "notes": [], "bars": [], "end": 0, "remarks": []}
        )
    m = score.measures
    columns = (score.onset_quarter.round(4), score.duration_quarter.round(4), score.pitch, score.staff)
    beat, texts = beat_quarters(m.ts_num, m.ts_den), {r.text for r in score.remarks}
    bars = (m.onset_quarter.round(4), m.number, beat, m.position_quarter.round(4))
    return json.dumps(
        {
            "id": session.doc,
            "title": session.title,
            "composer": score.composer,
            "notes": [list(row) for row in zip(*(c.tolist() for c in columns), strict=True)],
            "bars": [list(row) for row in zip(*(c.tolist() for c in bars), strict=True)],
            "end": round(m.end_quarter, 4),
            "remarks": [*remark_lines(score.remarks), *([PLAY_VOICE] if LEFT_OUT in texts else [])],
        },
        separators=(",", ":"),
    )


def roll_value(session: Session, score: bool = False, note: str = "") -> dict:
    """The roll's new value: notes, and the score layer too when the piece is new."""
    return {
        "rev": session.rev,
        "take": session.take,
        "doc": roll_document(session),
        "score": roll_score(session) if score else "",
        "note": note,
    }


def job_state(job: Job, over: bool = False, ready: bool = False) -> str:
    """Progress of a job, as one JSON string.

    of  the notes of a sound, "document.take.revision"; "" for other jobs
    ready  it is over and its result can be collected
    by  who stopped it, "" if nobody did; at: makes every answer differ, so that none is skipped
    """
    return json.dumps({
        "id": job.number, "kind": job.kind, "text": job.doing, "share": round(job.share, 2),
        "over": over or (job.over and not ready), "ready": ready,
        "by": job.stopped or "", "refused": bool(job.refusal), "at": time.monotonic(),
        "of": job.same[0] if isinstance(job.same, tuple) else "",
    })  # fmt: skip


def draft_value(job: Job, have: int) -> str:
    """Draft rows that a job has written after the first `have`, as one JSON string; "" if it writes none.

    key    owner of the notes; alone: hide the piece under them
    title  of the notes, if they stand alone
    start  their start on the roll, ms
    rows   [[take, onset, duration, pitch, staff], ...] milliseconds, after the first `from` of them
    """
    if not job.about:
        return ""
    have = min(max(0, have), len(job.draft))
    rows = job.draft[have:]
    head = {"key": f"job{job.number}", "from": have, "running": not job.over}
    return json.dumps({**job.about, **head, "rows": rows}, separators=(",", ":"))


def take_draft(opened: Session, take: Take, start_sec: float, alone: bool, doc: int = 0) -> str:
    """A take during its preview, drawn over the piece (new notes) or alone (all notes); see draft_value.

    title  of a take that is shown alone
    doc    the open piece; once another is open, the roll drops this draft
    grid   times of its beats, as in roll_document
    """
    p = opened.in_score_order()
    staff = np.where(take.score.staff > 0, take.score.staff, np.where(take.score.pitch >= 60, 1, 2))
    onset, length = np.round(1000 * p.onset_sec).astype(int), np.maximum(1, np.round(1000 * p.duration_sec)).astype(int)
    rows = [
        [0, int(onset[i]), int(length[i]), int(p.pitch[i]), int(staff[i])]
        for i in range(len(take.score))
        if alone or take.fresh[i]
    ]
    head = {"key": f"take{take.number}", "title": take.title, "alone": alone, "running": False, "doc": doc}
    head |= {"start": round(1000 * start_sec), "from": 0, "grid": grid_rows(opened.grid) if opened.grid else None}
    return json.dumps({**head, "rows": rows}, separators=(",", ":"))


def sound_value(session: Session, path: str | None, note: str = "") -> dict:
    """Only sound, tagged with its notes; without a path, the reason why there is none."""
    marks = {"rev": session.rev, "take": session.take, "sound_of": session.doc}
    return {**marks, "doc": "", "audio": path, "note": note}


def curves(session: Session, show_human: bool) -> str:
    """The four curves of the present performance, as one JSON string: doc and lenses, see curve_lenses.

    Beside it the human performance, the version of Before or Now, and the pins that are drawn.
    """
    assert session.score is not None
    human = session.reference if show_human else None
    lenses = curve_lenses(
        session.score,
        session.performance,
        human.performance if human else None,
        human.alignment if human else None,
        alignment=session.alignment,
        others=_other_lines(session),
    )
    return json.dumps({"doc": session.doc, "lenses": lenses}, separators=(",", ":"))


def _other_lines(session: Session) -> list[OtherLine]:
    lines, version = [], other(session)
    if version is not None:
        name = "before" if version.number == session.pair[0] else "after"
        lines.append(OtherLine(name, version.rendered, Alignment.identity(len(version.rendered)), dash="dash"))
    for entry in drawn_pins(session):
        colour, dash = COLOURS[entry.slot], DASHES[entry.slot]
        lines.append(OtherLine(entry.name, entry.performance, entry.alignment, colour, dash))
    return lines


NO_CURVES = json.dumps({"doc": 0, "lenses": []})
