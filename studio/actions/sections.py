"""The form of the piece, as functions over a Session: its sections are composed again, varied, locked or moved."""

from __future__ import annotations

from dataclasses import replace

from engine.compose.form import Form, parse_form
from engine.compose.sections import move_section, recomposing, varying
from engine.music.io.alignment import kept_notes
from engine.music.types import BadInput
from engine.progress import NoteCallback, ProgressCallback, no_progress
from engine.requests import ComposeRequest
from studio.actions.composing import filled, opened_score, played
from studio.actions.editing import Change
from studio.service.shared_engine import SharedEngine
from studio.state import history
from studio.state.session import Controls, Session, Take

ACTS = {"recompose": recomposing, "vary": varying}


def form_of(session: Session) -> Form:
    """The sections of the piece. Raises BadInput when it has none."""
    form = parse_form(session.form)
    if form is None:
        raise BadInput("This piece has no form; choose one under Compose, or compose with typed letters.")
    return form


def section_of(session: Session, number: object) -> int:
    """A section's index that the page has sent. Raises BadInput for one that is not there."""
    if type(number) is not int or not 0 <= number < len(form_of(session).sections):
        raise BadInput("That section is not there any more; choose one of the form strip.")
    return number


def unlocked_section(session: Session, number: object) -> int:
    """The same; raises BadInput for a locked one, too."""
    k = section_of(session, number)
    if k in session.locked:
        raise BadInput("That section is locked; unlock it first.")
    return k


def section_span(session: Session, k: int) -> tuple[float, float]:
    """First and last quarter of section k."""
    form, m = form_of(session), opened_score(session).measures
    last = form.starts[k] + form.sections[k].bars - 1
    return float(m.onset_quarter[form.starts[k]]), float(m.onset_quarter[last] + m.duration_quarter[last])


def change_section(
    shared: SharedEngine, session: Session, act: str, k: int, settings: ComposeRequest, on_note: NoteCallback,
    step: ProgressCallback = no_progress,
) -> Change:  # fmt: skip
    """Takes in which section k is composed again or varied, by a name of ACTS."""
    request, form = ACTS[act](opened_score(session), form_of(session), k, settings)
    return filled(shared, session, request, str(form), on_note, step)


def move(
    shared: SharedEngine, session: Session, k: int, to: int, controls: Controls, step: ProgressCallback = no_progress
) -> Change:
    """The piece with section k at place `to`; undo brings the piece back. Locks go with their sections."""
    score = opened_score(session)
    new, form = move_section(score, form_of(session), k, to)
    span = (float(new.onset_quarter[0]), new.measures.end_quarter)
    fresh = kept_notes(score, new) < 0
    take = Take(0, "infill", new, session.title, 0, span, fresh, history.alone(session), form=str(form))
    order = [i for i in range(len(form.sections)) if i != k]
    order.insert(to, k)
    locked = frozenset(place for place, i in enumerate(order) if i in session.locked)
    opened = replace(played(shared, session, take, controls, step), locked=locked)
    return lambda now: history.replaced(now, opened, same_family=True)


def lock(session: Session, k: int, on: bool) -> Session:
    """Lock a section, or unlock it."""
    return replace(session, locked=session.locked | {k} if on else session.locked - {k})
