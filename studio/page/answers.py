"""How an event is answered: at once, or by a job that the page asks after until it is over.

Only notices go through Gradio's queue, which loses answers when events overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import wraps
from typing import Any

import gradio as gr

from engine.limits import MAX_SEED
from engine.music.types import BadInput, BundleError
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.page.wire import curves, draft_value, job_state, roll_value
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine
from studio.shell.layout import Page, preset_names
from studio.state.examples import EMPTY, EXAMPLES, MINE
from studio.state.session import Controls, Session
from studio.widgets.score.score import score_address
from studio.widgets.takes.takes import strip_value

PRIVATE = {"queue": False, "show_progress": "hidden", "api_visibility": "private", "trigger_mode": "multiple"}
MAX_NAME = 60  # characters of a title in a menu
FIRST_WAIT, NEXT_WAIT, DRAFT_WAIT = 0.6, 0.5, 0.12  # seconds

Shown = dict  # component to new value; a component left out stays as it is
Work = Callable[[Job], Callable[[], Shown]]


def show_refusals(page: Page) -> Callable[[Callable[..., Shown]], Callable[..., Shown]]:
    """Let the page say a refusal, or a missing checkpoint, as a one-sentence notice; nothing else changes."""

    def wrap(fn: Callable[..., Shown]) -> Callable[..., Shown]:
        @wraps(fn)
        def inner(*args: Any) -> Shown:
            try:
                return fn(*args)
            except (BadInput, BundleError) as refusal:
                document = next(a for a in args if isinstance(a, Document))
                return {page.roll: {"job": job_state(document.jobs.refuse(str(refusal)))}}

        return inner

    return wrap


def begin(
    page: Page, document: Document, kind: str, text: str, work: Work, same: Hashable = None, about: dict | None = None
) -> Shown:
    """Start a job; what it shows if it is quick, how far it is if not. With `about`, it writes a draft."""
    job = document.jobs.start(kind, text, work, same, about)
    return answer(page, document, job, FIRST_WAIT)


def progress(document: Document, job: Job, have: int) -> dict:
    """How far a job is, for the roll alone, which asks on; of a draft it `have`s so many rows already. A job that has
    something to show is only said to be ready: every component that an answer may change costs the page time.
    """
    over = job.wait(DRAFT_WAIT if job.about else NEXT_WAIT)
    ready = over and job.stopped != "overtaken"
    return {"job": job_state(job, ready=ready), "draft": draft_value(job, have)}


def with_warning(document: Document, value: dict) -> dict:
    """A value of the roll whose note also says, once a failure, that the work could not be kept."""
    if not document.unkept:
        return value
    told, document.unkept = document.unkept, ""
    return {**value, "note": f"{value['note']}. {told}" if value.get("note") else told}


def answer(page: Page, document: Document, job: Job, patience: float, have: int = 0) -> Shown:
    """What the page is told about a job after waiting for it so long."""
    over = job.wait(min(patience, DRAFT_WAIT) if job.about else patience)
    told = {"job": job_state(job), "draft": draft_value(job, have)}
    if not over or job.stopped == "overtaken":
        return {page.roll: told}
    if job.stopped:
        return cancelled(page, document.session, job)
    if job.refusal and job.kind == "open":
        return {**as_it_was(page, document.session), page.roll: with_warning(document, told)}
    shown = job.show() if job.show is not None else {}
    return {**shown, page.roll: with_warning(document, {**told, **shown.get(page.roll, {})})}


def cancelled(page: Page, session: Session, job: Job) -> Shown:
    """The visitor has cancelled: the panel goes back to what is still heard."""
    shown: Shown = {page.roll: {"note": "Cancelled; nothing has changed", "job": job_state(job)}}
    if job.kind == "play":
        shown |= panel_values(page, session.controls)
    return {**as_it_was(page, session), **shown} if job.kind == "open" else shown


def as_it_was(page: Page, session: Session) -> Shown:
    """No other piece has come: the style panel and the menu belong to this one still."""
    return {**panel_values(page, session.controls), page.example: example_menu(session)}


def plain_controls(page: Page) -> Controls:
    """The style panel as a new piece finds it."""
    return Controls(axes=(0.0,) * len(page.axes))


def panel_values(page: Page, c: Controls) -> Shown:
    """The style panel as these controls say."""
    if len(c.axes) != len(page.axes):
        return {}
    return dict(zip(page.controls, (c.preset, c.second, c.blend, c.seed, *c.strength, *c.axes, c.freedom), strict=True))


def as_controls(values: tuple, axes: int) -> Controls:
    """The style panel's values, in Page.controls order, checked: a client may send anything."""
    preset, second, blend, seed, *rest = values
    strengths, offsets, freedom = rest[:5], rest[5 : 5 + axes], rest[5 + axes :]
    if len(offsets) != axes or len(freedom) != 1 or any(v is None for v in (blend, seed, *rest)):
        raise BadInput("A slider of the style panel is empty; press Reset style.")
    return Controls(
        str(preset), str(second), min(1.0, max(0.0, float(blend))),
        tuple(min(3.0, max(-3.0, float(v))) for v in offsets),
        tuple(min(150.0, max(0.0, float(v))) for v in strengths), min(MAX_SEED, max(0, int(seed))),
        min(100.0, max(0.0, float(freedom[0]))),
    )  # fmt: skip


def without_borrowed(controls: Controls) -> Controls:
    """The same panel when there is no human performance to borrow from any more."""
    names = (actions.DEFAULT if name == actions.BORROWED else name for name in (controls.preset, controls.second))
    preset, second = names
    return replace(controls, preset=preset, second=second)


def redraw(page: Page, session: Session, show_human: bool, score: bool = False, note: str = "") -> Shown:
    """New values of the roll and the curves."""
    shown = {page.roll: roll_value(session, score, note), page.curves: drawn_curves(session, show_human)}
    return {**shown, **replaced(page, session)} if score else shown


def replaced(page: Page, session: Session) -> Shown:
    """What else shows which piece is on the stand: the engraved page, the takes, the menu of examples."""
    digest = session.score.digest if session.score is not None else ""
    return {
        page.takes: strip_value(session), page.score: score_address(session.doc, digest),
        page.example: example_menu(session),
    }  # fmt: skip


def example_menu(session: Session) -> Any:
    """The menu of examples; a piece of the visitor's own stands in it under its title."""
    names = [(name, name) for name in (*EXAMPLES, EMPTY)]
    if session.score is None or session.example in EXAMPLES:
        return gr.update(choices=names, value=session.example if session.score is not None else EMPTY)
    return gr.update(choices=[(session.title[:MAX_NAME] or "Untitled", MINE), *names], value=MINE)


def drawn_curves(session: Session, show_human: bool) -> Any:
    """The curves, left as they are when so little is left of the piece that none can be drawn."""
    if session.score is None:
        return None
    try:
        return curves(session, show_human)
    except ValueError:
        return gr.skip()


def human_controls(page: Page, session: Session, shared: SharedEngine, controls: Controls) -> Shown:
    """Text and buttons of the human performance, and the preset menus that depend on it."""
    has = session.reference is not None
    names = preset_names(shared, has)
    example = EXAMPLES.get(session.example)
    return {
        page.human_text: session.reference.name if session.reference else "None yet",
        page.human_style: gr.update(interactive=has),
        page.human_remove: gr.update(interactive=has),
        page.preset: gr.update(choices=names, value=controls.preset),
        page.second: gr.update(choices=names, value=controls.second),
        page.human_example: gr.update(interactive=example is not None and bool(example.human)),
    }
