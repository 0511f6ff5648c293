"""Which event of the form strip calls which action. See studio.panels.perform.events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from engine.music.types import BadInput
from engine.progress import NoteCallback, ProgressCallback
from studio.actions import editing as actions
from studio.actions import sections
from studio.actions.document import Document
from studio.gradio_compat.event_data import event_data
from studio.page.answers import PRIVATE, Shown, as_controls, begin, show_refusals, without_borrowed
from studio.panels.compose.events import as_request, placed, turned, writing
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine
from studio.shell.layout import Page
from studio.widgets.form.form import form_value

DOING = {"recompose": "Composing the section again", "vary": "Varying the section"}


def connect_form(page: Page, shared: SharedEngine) -> None:
    """Attach the events of the strip; called once, inside an open gr.Blocks."""
    common = [page.document, page.human_show]
    panel = page.compose

    def changing(act: str) -> Callable[..., Shown]:
        @show_refusals(page)
        def change(event: gr.EventData, document: Document, show: bool, *values: Any) -> Shown:
            session = document.session
            k = sections.unlocked_section(session, _named(event, document, "section"))
            request = as_request(values)
            span = sections.section_span(session, k)
            about, to_ms = placed(session, span[0])

            def write(on_note: NoteCallback, step: ProgressCallback) -> actions.Change:
                return sections.change_section(shared, session, act, k, request, on_note, step)

            return writing(
                page, shared, document, show, DOING[act], request, about, write, to_ms, span[0], upto=span[1]
            )

        return change

    page.form.recompose(changing("recompose"), [*common, *panel.conditions], page.outputs, **PRIVATE)
    page.form.vary(changing("vary"), [*common, *panel.conditions], page.outputs, **PRIVATE)

    @show_refusals(page)
    def move(event: gr.EventData, document: Document, show: bool, *values: Any) -> Shown:
        session = document.session
        k = sections.unlocked_section(session, _named(event, document, "section"))
        to = sections.section_of(session, event_data(event).get("to"))
        controls = without_borrowed(as_controls(values, len(shared.axes)))

        def work(job: Job) -> Callable[[], Shown]:
            change = sections.move(shared, session, k, to, controls, job.step)
            moved = document.update(job.unless_stopped(change))
            document.jobs.stop("play", "human", "sound")
            note = f"Section moved to place {to + 1}: {moved.form}"
            return lambda: turned(page, shared, moved, show, note)

        return begin(page, document, "open", "Moving the section", work)

    page.form.move(move, [*common, *page.controls], page.outputs, **PRIVATE)

    @show_refusals(page)
    def lock(event: gr.EventData, document: Document) -> Shown:
        k = sections.section_of(document.session, _named(event, document, "section"))
        on = event_data(event).get("on") is True
        session = document.update(lambda now: sections.lock(now, k, on))
        note = f"Section {k + 1} is {'locked: it stays as it is' if on else 'unlocked'}"
        return {page.form: form_value(session), page.roll: {"note": note}}

    page.form.lock(lock, page.document, page.outputs, **PRIVATE)


def _named(event: gr.EventData, document: Document, field: str) -> Any:
    """A field of an event of the strip. Raises BadInput if another piece has been opened."""
    data = event_data(event)
    if data.get("doc") != document.session.doc:
        raise BadInput("Another piece is on the roll by now; choose the section again.")
    return data.get(field)
