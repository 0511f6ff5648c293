"""Events of the roll and the Perform panel, and their actions.

Only notices go through Gradio's queue, which loses answers when events overlap.

edits    applied in the order of their revision numbers (Document.patch)
jobs     long work (studio.service.jobs): the first answer comes within FIRST_WAIT, either the result or the progress;
         the roll then polls every NEXT_WAIT and can cancel. A new job of a kind stops the previous one
sound    also a job, requested by the roll after a pause in editing, tagged with its notes
"""

from __future__ import annotations

import html
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from engine.files import put
from engine.limits import PERFORMANCE_NOTES
from engine.music.io.midi_bytes import parse_midi
from engine.music.passes import found_share, repeat_remarks
from engine.music.remarks import remark_lines
from engine.music.types import DEFAULT_FREEDOM, Alignment, BadInput
from engine.untrusted.scores import open_performance
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.gradio_compat.event_data import event_data
from studio.page.answers import (
    NEXT_WAIT,
    PRIVATE,
    Shown,
    answer,
    as_controls,
    begin,
    drawn_curves,
    human_controls,
    panel_values,
    progress,
    redraw,
    show_refusals,
    with_warning,
    without_borrowed,
)
from studio.page.wire import job_state, roll_value, sound_value
from studio.panels.perform.pianist_events import connect_pianists
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine
from studio.shell.layout import Page
from studio.state import history
from studio.state.examples import EXAMPLES
from studio.state.session import Session
from studio.state.versions import flipped

PREVIEW_FLAC_SEC = 90  # longer previews are sent as FLAC, half the bytes; shorter ones as WAV, which needs no encoding
NOT_DONE = "Not done"
GONE = "Not done: this visit has expired on the server. Reload the page to restore your saved work"
SHOWN = {
    "writing": "The roll shows a draft, not the piece: wait until it is done, or press Cancel.",
}


def connect(page: Page, shared: SharedEngine) -> None:
    """Attach every event of the page; called once, inside the same gr.Blocks."""
    connect_jobs(page)
    connect_style(page, shared)
    connect_roll(page, shared)
    connect_versions(page)
    connect_human(page, shared)
    connect_downloads(page, shared)


def connect_jobs(page: Page) -> None:
    """Events of jobs: progress, result, cancel."""

    def named(event: gr.EventData, document: Document) -> Job | None:
        data = event_data(event)
        return document.jobs.numbered(data.get("job"))

    def gone(event: gr.EventData) -> dict:  # a newer job replaced it
        number = event_data(event).get("job", 0)
        return {"job": job_state(Job(number if type(number) is int else 0), over=True)}

    def rows(event: gr.EventData) -> int:
        have = event_data(event).get("have", 0)
        return have if type(have) is int else 0

    def waiting(event: gr.EventData, document: Document) -> dict:
        job = named(event, document)
        return gone(event) if job is None else progress(document, job, rows(event))

    def collect(event: gr.EventData, document: Document) -> Shown:
        job = named(event, document)
        return {page.roll: gone(event)} if job is None else answer(page, document, job, NEXT_WAIT, rows(event))

    def refused(event: gr.EventData, document: Document) -> None:
        job, data = named(event, document), event_data(event)
        if data.get("shown") in tuple(SHOWN):  # see roll_draft.js
            raise gr.Error(SHOWN[data["shown"]], title=NOT_DONE, print_exception=False)
        if job is not None and job.refusal:  # escaped, since notices render HTML
            raise gr.Error(html.escape(job.refusal), title=NOT_DONE, print_exception=False)

    page.roll.waiting(waiting, page.document, page.roll, **PRIVATE)
    page.roll.collect(collect, page.document, page.outputs, **PRIVATE)
    # Only the queue can show a notice; unqueued, an error is an answer with status 500 and no words.
    page.roll.refused(refused, page.document, None, **{**PRIVATE, "queue": True})
    page.roll.cancel(lambda document: document.jobs.stop(by="visitor"), page.document, None, **PRIVATE)


def kept_edits(session: Session) -> str:
    """Text of the status line about kept edits after a new performance."""
    theirs = [f"{session.edited} edited notes" if session.edited > 1 else "edited note"] if session.edited else []
    theirs += ["pedal"] if session.pedal is not None else []
    if not theirs:
        return ""
    one = len(theirs) == 1 and session.edited < 2
    return f"Your {' and your '.join(theirs)} {'stays as you made it' if one else 'stay as you made them'}"


def restyling(page: Page, shared: SharedEngine) -> Callable[..., Shown]:
    """The handler that performs the piece in the panel's style and keeps the visitor's edits."""

    @show_refusals(page)
    def restyle(document: Document, show: bool, *values: Any) -> Shown:
        controls = as_controls(values, len(shared.axes))

        def work(job: Job) -> Callable[[], Shown]:
            opening = document.jobs.running("open")
            while opening is not None and not opening.wait(0.2):
                job.step()
            shared.await_models(job)
            change = actions.restyle(shared, document.session, controls, job.step)
            session = document.update(job.unless_stopped(change))
            return lambda: redraw(page, session, show, note=kept_edits(session))

        document.jobs.stop("sound")  # its notes are about to be replaced
        return begin(page, document, "play", "Performing", work)

    return restyle


def connect_style(page: Page, shared: SharedEngine) -> None:
    """Events of sliders, presets and seed: perform again and keep the visitor's edits."""
    inputs = [page.document, page.human_show, *page.controls]
    restyle = restyling(page, shared)
    connect_pianists(page, shared, {"fn": restyle, "inputs": inputs, "outputs": page.outputs, **PRIVATE})
    sliders = [page.blend, page.freedom, *page.axes, *page.strengths]
    menus = [page.preset, page.second]
    gr.on(
        [s.release for s in sliders] + [m.input for m in menus] + [page.seed.submit, page.seed.blur],
        restyle, inputs, page.outputs, **PRIVATE,
    )  # fmt: skip
    page.dice.click(lambda: random.randrange(1, 10_000), None, page.seed, **PRIVATE).then(
        restyle, inputs, page.outputs, **PRIVATE
    )
    zero = [actions.DEFAULT, actions.DEFAULT, 0, 0, *[100] * 5, *[0] * len(page.axes), 100 * DEFAULT_FREEDOM]
    page.reset.click(lambda: zero, None, page.controls, **PRIVATE).then(restyle, inputs, page.outputs, **PRIVATE)

    @show_refusals(page)
    def discard(document: Document, show: bool) -> Shown:
        if document.session.rendered is None:
            raise BadInput(actions.NOTHING_OPEN)
        return redraw(page, document.update(actions.discard_edits), show, note="Your edits are discarded")

    page.discard.click(discard, [page.document, page.human_show], [page.roll, page.curves], **PRIVATE)


def connect_roll(page: Page, shared: SharedEngine) -> None:
    """Events of the roll: edits, their sound, and performing a selection again."""

    def edit(event: gr.EventData, document: Document) -> Any:
        data = event_data(event)
        doc, rev = data.get("doc"), data.get("rev")
        if not document.arrived and document.session.score is None:
            return {"note": GONE}
        try:
            if type(doc) is not int or type(rev) is not int or not isinstance(data.get("put", []), list):
                raise BadInput("The edit could not be read; reload the page.")
            change = actions.edit(data.get("put", []), data.get("del", []), data.get("pedal", False))
            if data.get("fresh") is True:  # not an undo or redo
                document.patch(doc, rev, lambda now: history.went_on(change(now)))
            else:
                document.patch(doc, rev, change)
        except BadInput as refusal:
            if type(doc) is not int or type(rev) is not int:
                return {"job": job_state(document.jobs.refuse(str(refusal)))}
            document.patch(doc, rev, lambda now: now)  # consume its revision, so that later edits do not wait for it
            session = document.update(actions.another_take)
            return roll_value(session, note=f"{NOT_DONE}: {refusal}")
        return with_warning(document, {}) or gr.skip()

    page.roll.edit(edit, page.document, page.roll, **PRIVATE)

    def sound(event: gr.EventData, document: Document, piano: str, show: bool) -> Shown:
        session = document.session
        if session.rendered is None:
            return {page.roll: gr.skip()}
        playing = document.jobs.running("play")
        if playing is not None:  # other notes are being made; the roll will request sound for them
            return {page.roll: {"job": job_state(playing)}}
        shown = event_data(event)
        if "take" in shown and (shown.get("doc"), shown.get("take")) != (session.doc, session.take):
            return redraw(page, session, show, score=True)  # the page missed a performance; it will request sound again

        def work(job: Job) -> Callable[[], Shown]:
            try:
                clip = actions.sound(shared, session, str(piano), job.step)
            except BadInput as refusal:
                return lambda refusal=str(refusal): {page.roll: sound_value(session, None, refusal)}
            kind = "flac" if clip.duration_sec > PREVIEW_FLAC_SEC else "wav"
            path = document.preview_file(kind)
            put(path, actions.audio_bytes(clip, kind))
            edited = {page.curves: drawn_curves(session, show)} if session.edited else {}
            return lambda: {page.roll: sound_value(session, str(path)), **edited}

        same = (f"{session.doc}.{session.take}.{session.rev}", piano)
        return begin(page, document, "sound", "Preparing the sound", work, same)

    for wanted in (page.roll.settle, page.piano.input):
        wanted(sound, [page.document, page.piano, page.human_show], page.outputs, **PRIVATE)

    @show_refusals(page)
    def reperform(event: gr.EventData, document: Document, show: bool) -> Shown:
        data = event_data(event)
        ids = data.get("ids")
        if not isinstance(ids, list) or len(ids) > PERFORMANCE_NOTES or not all(type(i) is int for i in ids):
            raise BadInput("The selection could not be read; select the notes again.")
        if data.get("doc") != document.session.doc:
            raise BadInput("Another piece has been opened; select the notes again.")

        def work(job: Job) -> Callable[[], Shown]:
            change = actions.reperform(shared, document.session, ids, job.step)
            session = document.update(job.unless_stopped(change))
            note = "The selection was performed again; the rest is unchanged"
            return lambda: redraw(page, session, show, note=note)

        return begin(page, document, "play", "Performing the selection again", work)

    page.roll.reperform(reperform, [page.document, page.human_show], page.outputs, **PRIVATE)


def connect_versions(page: Page) -> None:
    """Going back to a version of the performance: at once, since its notes are kept."""

    @show_refusals(page)
    def flip(event: gr.EventData, document: Document, show: bool) -> Shown:
        data = event_data(event)
        number = data.get("version")
        if data.get("doc") != document.session.doc or type(number) is not int:
            raise BadInput("Another piece has been opened; choose one of its versions.")
        document.jobs.stop("play")
        document.jobs.stop("sound")
        session = document.update(flipped(number))
        name = next(version.name for version in session.versions if version.number == number)
        shown = redraw(page, session, show, note=f"Version {number}: {name}")
        return {**shown, **panel_values(page, session.controls)}

    page.roll.flip(flip, [page.document, page.human_show], page.outputs, **PRIVATE)


def connect_human(page: Page, shared: SharedEngine) -> None:
    """Events of the human performance: curves and style."""

    def laying(document: Document, data: bytes, filename: str, name: str, show: bool) -> Shown:
        def work(job: Job) -> Callable[[], Shown]:
            performance = open_performance(data, filename)
            change = actions.set_reference(shared, document.session, performance, name, job.step)
            session = document.update(job.unless_stopped(change))
            assert session.score is not None
            alignment = session.reference.alignment if session.reference else Alignment.identity(0)
            found = found_share(session.score, alignment)
            left = repeat_remarks(session.score, alignment)
            remarks = [line.rstrip(".") for line in remark_lines((*left, *parse_midi(data).mended))]
            note = ". ".join([f"{found:.0%} of the written notes match this performance", *remarks])
            return lambda: {
                page.curves: drawn_curves(session, show),
                page.roll: {"note": note},
                **human_controls(page, session, shared, session.controls),
            }

        return begin(page, document, "human", "Matching the human performance with the score", work)

    @show_refusals(page)
    def of_example(document: Document, show: bool) -> Shown:
        example = EXAMPLES.get(document.session.example)
        if example is None or not example.human:
            raise BadInput("No human performance comes with this piece; open a MIDI file of one.")
        name = f"{example.pianist} at the Piano-e-Competition"
        return laying(document, example.human_bytes(), example.human, name, show)

    @show_refusals(page)
    def uploaded(path: str, document: Document, show: bool) -> Shown:
        file = Path(path)
        return laying(document, file.read_bytes(), file.name, file.name[:80], show)

    page.human_example.click(of_example, [page.document, page.human_show], page.outputs, **PRIVATE)
    page.human_file.upload(uploaded, [page.human_file, page.document, page.human_show], page.outputs, **PRIVATE)

    @show_refusals(page)
    def remove(document: Document, show: bool, *values: Any) -> Shown:
        controls = without_borrowed(as_controls(values, len(shared.axes)))
        session = document.update(actions.remove_reference)
        return {page.curves: drawn_curves(session, show), **human_controls(page, session, shared, controls)}

    inputs = [page.document, page.human_show, *page.controls]
    again = {"fn": restyling(page, shared), "inputs": inputs, "outputs": page.outputs, **PRIVATE}
    page.human_remove.click(remove, inputs, page.outputs, **PRIVATE).then(**again)
    borrow = [actions.BORROWED, *[0] * len(page.axes)]
    page.human_style.click(lambda: borrow, None, [page.preset, *page.axes], **PRIVATE).then(**again)
    page.human_show.input(
        lambda document, show: drawn_curves(document.session, show) if document.session.score else gr.skip(),
        [page.document, page.human_show], page.curves, **PRIVATE,
    )  # fmt: skip


def connect_downloads(page: Page, shared: SharedEngine) -> None:
    """Events of the downloads: write the file; the roll passes it to the browser."""
    for kind, button in page.downloads.items():

        @show_refusals(page)
        def save(document: Document, piano: str, kind: str = kind) -> Shown:
            session = document.session

            def work(job: Job) -> Callable[[], Shown]:
                name, data = actions.export(shared, session, kind, str(piano), job.step)
                path = document.folder() / name
                put(path, data)
                return lambda: {page.roll: {"file": str(path)}}

            return begin(page, document, "save", "Making the file", work)

        button.click(save, [page.document, page.piano], page.outputs, **PRIVATE)
