"""Undo and redo of whole pieces: opening one, or accepting what was composed, puts the piece before it aside.

Edits of single notes are undone in the browser (studio/widgets/roll/roll_edit.js); when none is left, these follow. A
piece comes back under its old document number, by which the browser finds its own steps again.
"""

from __future__ import annotations

from dataclasses import replace

from engine.music.types import BadInput
from studio.state.session import Session

KEPT = 30  # pieces


def alone(session: Session) -> Session:
    """The piece without its history and without the takes."""
    return replace(session, past=(), future=(), takes=())


def families(session: Session) -> set[int]:
    """The families of everything that a visit holds, see Session."""
    pieces = (session, *session.past, *session.future)
    return {piece.family for piece in pieces} | {take.family for take in session.takes}


def replaced(now: Session, new: Session, same_family: bool = False) -> Session:
    """Another piece on the stand, under a new document number; undo brings back what is there now.

    same_family  it was composed beside the present piece, whose takes and renders stay
    """
    docs = now.docs + 1
    family = now.family if same_family else max(families(now)) + 1
    past = now.past if now.score is None else (*now.past, alone(now))[-KEPT:]
    comparison = new.comparison.with_votes_of(now.comparison)
    return replace(
        new, doc=docs, docs=docs, past=past, future=(), takes=now.takes, since=now.since, comparison=comparison,
        family=family,
    )  # fmt: skip


def back(now: Session) -> Session:
    """The piece before this one, as it was left. Raises BadInput when there is none."""
    if not now.past:
        raise BadInput("There is nothing earlier to go back to.")
    future = now.future if now.score is None else (alone(now), *now.future)
    last = now.past[-1]
    comparison = last.comparison.with_votes_of(now.comparison)
    return replace(
        last, past=now.past[:-1], future=future, docs=now.docs, takes=now.takes, since=now.since, comparison=comparison
    )


def forward(now: Session) -> Session:
    """The piece that `back` left. Raises BadInput when there is none."""
    if not now.future:
        raise BadInput("There is nothing later to go forward to.")
    past = now.past if now.score is None else (*now.past, alone(now))
    after = now.future[0]
    comparison = after.comparison.with_votes_of(now.comparison)
    return replace(
        after, past=past, future=now.future[1:], docs=now.docs, takes=now.takes, since=now.since, comparison=comparison
    )


def went_on(session: Session) -> Session:
    """The visitor has edited this piece: what undo had left is not the way forward any more."""
    return replace(session, future=())
