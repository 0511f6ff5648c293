"""Answers to page events: immediate, or from a job that the page polls.

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
from studio.page.wire import NO_CURVES, curves, draft_value, job_state, roll_value
from studio.service.jobs import REPLACED, Job
from studio.service.shared_engine import SharedEngine
from studio.shell.layout import Page, preset_names
from studio.state.examples import EMPTY, EXAMPLES, MINE
from studio.state.session import Controls, Session
from studio.widgets.form.form import form_value
from studio.widgets.pianists.pianists import cards_value
from studio.widgets.score.score import score_address
from studio.widgets.takes.takes import strip_value

PRIVATE = {"queue": False, "show_progress": "hidden", "api_visibility": "private", "trigger_mode": "multiple"}
MAX_NAME = 60  # characters of a title in a menu
FIRST_WAIT, NEXT_WAIT, DRAFT_WAIT = 0.6, 0.5, 0.12  # seconds
LAST_WAIT = 2.0  # of a queued job; below ASK_AGAIN of roll_sound.js

Shown = dict  # component to new value; others stay unchanged
Work = Callable[[Job], Callable[[], Shown]]


def show_refusals(page: Page) -> Callable[[Callable[..., Shown]], Callable[..., Shown]]:
    """Wrap an event handler: a refusal or a missing checkpoint becomes a notice of one sentence; nothing else
    changes."""

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
    """Start a job; return its result if it is quick, else its progress. With `about`, it writes a draft."""
    job = document.jobs.start(kind, text, work, same, about)
    return answer(page, document, job, FIRST_WAIT)


def progress(document: Document, job: Job, have: int) -> dict:
    """Progress of a job, for the roll, which polls; `have`: draft rows it already has. A finished job is only reported
    as ready, because every component that an answer may change costs the page time. The answer comes later the farther
    back the job is in its queue: polls cost processor time that performances need.
    """
    patience = DRAFT_WAIT if job.about else min(LAST_WAIT, NEXT_WAIT * max(1, job.place))
    over = job.wait(patience)
    ready = over and job.stopped not in REPLACED
    return {"job": job_state(job, ready=ready), "draft": draft_value(job, have)}


def with_warning(document: Document, value: dict) -> dict:
    """A roll value whose note also reports a failed autosave, once per failure."""
    if not document.unkept:
        return value
    told, document.unkept = document.unkept, ""
    return {**value, "note": f"{value['note']}. {told}" if value.get("note") else told}


def answer(page: Page, document: Document, job: Job, patience: float, have: int = 0) -> Shown:
    """Wait for a job for some seconds; return its result or its progress."""
    over = job.wait(min(patience, DRAFT_WAIT) if job.about else patience)
    told = {"job": job_state(job), "draft": draft_value(job, have)}
    if not over or job.stopped in REPLACED:
        return {page.roll: told}
    if job.stopped:
        return cancelled(page, document.session, job)
    if job.refusal and job.kind == "open":
        return {**as_it_was(page, document.session), page.roll: with_warning(document, told)}
    shown = job.show() if job.show is not None else {}
    return {**shown, page.roll: with_warning(document, {**told, **shown.get(page.roll, {})})}


def cancelled(page: Page, session: Session, job: Job) -> Shown:
    """After a cancel: reset the panel to the performance that still plays."""
    shown: Shown = {page.roll: {"note": "Cancelled; nothing has changed", "job": job_state(job)}}
    if job.kind == "play":
        shown |= panel_values(page, session.controls)
    return {**as_it_was(page, session), **shown} if job.kind == "open" else shown


def as_it_was(page: Page, session: Session) -> Shown:
    """No other piece was opened: reset the style panel and the menu to the present one."""
    return {**panel_values(page, session.controls), page.example: example_menu(session)}


def plain_controls(page: Page) -> Controls:
    """The style panel for a new piece."""
    return Controls(axes=(0.0,) * len(page.axes))


def panel_values(page: Page, c: Controls) -> Shown:
    """The style panel set to these controls."""
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
    """The same panel without the preset of a human performance."""
    names = (actions.DEFAULT if name == actions.BORROWED else name for name in (controls.preset, controls.second))
    preset, second = names
    return replace(controls, preset=preset, second=second)


def redraw(page: Page, session: Session, show_human: bool, score: bool = False, note: str = "") -> Shown:
    """New values of the roll and the curves."""
    shown = {page.roll: roll_value(session, score, note), page.curves: drawn_curves(session, show_human)}
    return {**shown, **replaced(page, session)} if score else shown


def replaced(page: Page, session: Session) -> Shown:
    """Other components that show the open piece: form, engraved score, takes, menu of examples."""
    digest = session.score.digest if session.score is not None else ""
    return {
        page.takes: strip_value(session), page.score: score_address(session.doc, digest),
        page.example: example_menu(session), page.form: form_value(session),
    }  # fmt: skip


def example_menu(session: Session) -> Any:
    """The menu of examples; a piece of the visitor's own is listed under its title."""
    names = [(name, name) for name in (*EXAMPLES, EMPTY)]
    if session.score is None or session.example in EXAMPLES:
        return gr.update(choices=names, value=session.example if session.score is not None else EMPTY)
    return gr.update(choices=[(session.title[:MAX_NAME] or "Untitled", MINE), *names], value=MINE)


def drawn_curves(session: Session, show_human: bool) -> Any:
    """The curves; unchanged if the piece has too few notes left to draw them."""
    if session.score is None:
        return {"curves": NO_CURVES}
    try:
        return {"curves": curves(session, show_human)}
    except ValueError:
        return gr.skip()


def human_controls(page: Page, session: Session, shared: SharedEngine, controls: Controls) -> Shown:
    """Text and buttons of the human performance, and the preset menus that depend on it."""
    has = session.reference is not None
    names = preset_names(shared, has)
    example = EXAMPLES.get(session.example)
    return {
        page.pianists: cards_value(shared.presets, actions.DEFAULT),
        page.human_text: session.reference.name if session.reference else "None yet",
        page.human_style: gr.update(interactive=has),
        page.human_remove: gr.update(interactive=has),
        page.preset: gr.update(choices=names, value=controls.preset),
        page.second: gr.update(choices=names, value=controls.second),
        page.human_example: gr.update(interactive=example is not None and bool(example.human)),
    }
