"""Undo and redo of whole pieces: opening a piece or a take pushes the previous one.

Edits of notes are undone in the browser (studio/widgets/roll/roll_edit.js); after the last one, pieces follow. A
restored piece keeps its document number, by which the browser finds its own undo steps.
"""

from __future__ import annotations

from dataclasses import replace

from engine.music.types import BadInput
from studio.state.session import Session

KEPT = 30  # pieces


def alone(session: Session) -> Session:
    """The piece without history and takes."""
    return replace(session, past=(), future=(), takes=())


def families(session: Session) -> set[int]:
    """The families of all pieces of a visit, see Session."""
    pieces = (session, *session.past, *session.future)
    return {piece.family for piece in pieces} | {take.family for take in session.takes}


def replaced(now: Session, new: Session, same_family: bool = False) -> Session:
    """Open another piece under a new document number; undo restores the present one.

    same_family  it is a take of the present piece, whose takes and renders stay
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
    """The previous piece. Raises BadInput if there is none."""
    if not now.past:
        raise BadInput("There is nothing to undo.")
    future = now.future if now.score is None else (alone(now), *now.future)
    last = now.past[-1]
    comparison = last.comparison.with_votes_of(now.comparison)
    return replace(
        last, past=now.past[:-1], future=future, docs=now.docs, takes=now.takes, since=now.since, comparison=comparison
    )


def forward(now: Session) -> Session:
    """The piece that `back` left. Raises BadInput if there is none."""
    if not now.future:
        raise BadInput("There is nothing to redo.")
    past = now.past if now.score is None else (*now.past, alone(now))
    after = now.future[0]
    comparison = after.comparison.with_votes_of(now.comparison)
    return replace(
        after, past=past, future=now.future[1:], docs=now.docs, takes=now.takes, since=now.since, comparison=comparison
    )


def kin(session: Session) -> list[Session]:
    """The pieces of the present one's family in the order in which they were opened: itself and its opened takes."""
    pieces = (*session.past, session, *session.future)
    return sorted((p for p in pieces if p.family == session.family and p.score is not None), key=lambda p: p.doc)


def gone_to(now: Session, doc: int) -> Session:
    """Another piece of the family, with its edits; undo returns to the present one. Raises BadInput if it is gone."""
    wanted = next((piece for piece in kin(now) if piece.doc == doc and doc != now.doc), None)
    if wanted is None:
        raise BadInput("That piece is no longer kept; choose another tab.")
    rest = all_past(now)
    past = tuple(piece for piece in rest.past if piece.doc != doc)
    past = past if now.score is None else (*past, alone(now))[-KEPT:]
    comparison = wanted.comparison.with_votes_of(now.comparison)
    return replace(
        wanted, past=past, future=(), docs=now.docs, takes=now.takes, since=now.since, comparison=comparison
    )


def all_past(session: Session) -> Session:
    """The pieces for redo become pieces for undo, so that opening a take loses none of them."""
    return replace(session, past=(*session.past, *reversed(session.future)), future=())


def went_on(session: Session) -> Session:
    """Clear the redo pieces after an edit."""
    return replace(session, future=())
