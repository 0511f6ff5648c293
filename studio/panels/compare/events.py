"""Events of the Compare panel and their actions. See studio.panels.perform.events."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import gradio as gr

from engine.files import put
from engine.limits import MAX_SEED
from engine.measures.side_by_side import tables_html
from engine.music.types import BadInput
from engine.untrusted.scores import open_performance
from studio.actions import comparing
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.actions.passages import begin_passage_study, compose_for_study
from studio.actions.study import answered, begin_study, votes_csv, with_vote
from studio.gradio_compat.event_data import event_data
from studio.page.answers import FIRST_WAIT, NEXT_WAIT, PRIVATE, Shown, drawn_curves, show_refusals
from studio.page.values import field_number
from studio.panels.perform.events import PREVIEW_FLAC_SEC
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine
from studio.shell.layout import Page, preset_names
from studio.state.examples import EXAMPLES
from studio.state.session import Session
from studio.widgets.compare.compare import (
    drawn_value,
    file_value,
    look,
    refusal,
    result_value,
    sound_value,
    state_of,
    there_is,
    wait,
    working,
)

MAX_FILES = 8


def connect_compare(page: Page, shared: SharedEngine) -> None:
    """Attach the events of comparing; called once, inside an open gr.Blocks."""
    connect_pins(page, shared)
    connect_view(page, shared)
    connect_study(page, shared)


def compare_value(document: Document, piano: Any, **more: Any) -> dict:
    """The view's value: the present entries."""
    return look(document, comparing.entries(document), str(piano), **more)


def connect_pins(page: Page, shared: SharedEngine) -> None:
    """Events that add and remove performances."""
    panel, stage = page.compare_panel, page.compare
    outputs, inputs = [stage.view, stage.dock, page.roll], [page.document, page.piano]

    def opened(document: Document, piano: Any) -> Shown:
        names = preset_names(shared, False)
        return {
            stage.view: compare_value(document, piano), stage.dock: gr.Tabs(selected="versions"),
            panel.pianist: gr.update(choices=names),
        }  # fmt: skip

    page.compare_tab.select(opened, inputs, [stage.view, stage.dock, panel.pianist], **PRIVATE)

    @show_refusals(page)
    def pin(document: Document, piano: Any) -> Shown:
        document.update(lambda now: comparing.pin_now(now, datetime.now()))
        value = compare_value(document, piano, said="Pinned")
        return {stage.view: value, stage.dock: gr.Tabs(selected="versions")}

    panel.pin.click(pin, inputs, outputs, **PRIVATE)

    def begin(document: Document, piano: Any, text: str, work: Callable[[Session, Job], actions.Change]) -> Shown:
        session = document.session
        if session.score is None:
            raise BadInput(actions.NOTHING_OPEN)

        def pinning(job: Job) -> Callable[[], Any]:
            shared.await_models(job)
            document.update(job.unless_stopped(work(session, job)))
            return lambda: None

        job = document.jobs.start("pin", text, pinning)
        job.wait(FIRST_WAIT)
        return {stage.view: progress_of(document, job, piano), stage.dock: gr.Tabs(selected="versions")}

    @show_refusals(page)
    def play(document: Document, piano: Any, name: Any, seed: Any) -> Shown:
        number, preset = int(field_number(seed, "The seed", 0, MAX_SEED, 0)), str(name)

        def work(session: Session, job: Job) -> actions.Change:
            return comparing.pin_pianist(shared, session, preset, number, job.step)

        return begin(document, piano, "Performing", work)

    panel.play.click(play, [*inputs, panel.pianist, panel.seed], outputs, **PRIVATE)

    @show_refusals(page)
    def upload(document: Document, piano: Any, paths: Any) -> Shown:
        files = [Path(str(path)) for path in paths or []]
        if not 1 <= len(files) <= MAX_FILES:
            raise BadInput(f"{len(files)} files arrived; 1 to {MAX_FILES} can be opened at a time.")
        read = [(file.name, file.read_bytes()) for file in files]

        def work(session: Session, job: Job) -> actions.Change:
            change, refused = comparing.pin_files(shared, session, read, document.folder(), job)
            job.about["refused"] = " ".join(refused)
            return change

        return begin(document, piano, "Reading", work)

    panel.files.upload(upload, [*inputs, panel.files], outputs, **PRIVATE)

    @show_refusals(page)
    def of_example(document: Document, piano: Any) -> Shown:
        example = EXAMPLES.get(document.session.example)
        if example is None or not example.human:
            raise BadInput("No human performance comes with this piece; open a MIDI file of one.")

        def work(session: Session, job: Job) -> actions.Change:
            performance = open_performance(example.human_bytes(), example.human)
            return comparing.pin_example(shared, session, example.pianist, performance, job)

        return begin(document, piano, "Matching with the score", work)

    panel.example.click(of_example, inputs, outputs, **PRIVATE)

    @show_refusals(page)
    def save(document: Document) -> Shown:
        return {stage.view: file_value(written(document, *comparing.measured_csv(document)))}

    panel.save.click(save, page.document, [stage.view, page.roll], **PRIVATE)


def written(document: Document, name: str, data: bytes) -> Path:
    """Write a file into the visitor's folder."""
    path = document.folder() / name
    put(path, data)
    return path


def progress_of(document: Document, job: Job, piano: Any) -> dict:
    """Progress of a performance; the entries once it is done."""
    if not job.over:
        return working(job)
    said = "" if job.refusal or job.stopped or job.kind == "study" else "Pinned"
    refused = job.refusal or str(job.about.get("refused", ""))
    return compare_value(document, piano, **({"refused": refused} if refused else {"said": said}))


def connect_view(page: Page, shared: SharedEngine) -> None:
    """Events of the view: entries, curves, sounds."""
    stage, inputs = page.compare, [page.document, page.piano]

    def look_again(event: gr.EventData, document: Document, piano: Any) -> dict:
        job = document.jobs.numbered(event_data(event).get("job"))
        if job is not None and job.kind in ("pin", "study"):
            job.wait(NEXT_WAIT)
            return progress_of(document, job, piano)
        return compare_value(document, piano)

    stage.view.look(look_again, inputs, stage.view, **PRIVATE)
    page.human_text.change(compare_value, inputs, stage.view, **PRIVATE)  # another human performance, or none

    def keep(event: gr.EventData, document: Document, piano: Any) -> dict:
        data = event_data(event)
        document.update(comparing.left_out(data.get("key"), data.get("out") is True))
        return compare_value(document, piano)

    def drop(event: gr.EventData, document: Document, piano: Any) -> dict:
        document.update(comparing.unpinned(event_data(event).get("key")))
        return compare_value(document, piano)

    stage.view.keep(keep, inputs, stage.view, **PRIVATE)
    stage.view.drop(drop, inputs, stage.view, **PRIVATE)

    def draw(document: Document, piano: Any, human: bool) -> Shown:
        from engine.measures.side_by_side_figures import worm_figure

        session, found = document.session, comparing.entries(document)
        if session.score is None:
            return {stage.view: there_is(session, found, str(piano))}
        tag = state_of(session, found, str(piano))["tag"]
        shapes, slots, refused = comparing.shapes(session, [e for e in found if e.drawn])
        if not shapes:
            return {stage.view: drawn_value(tag, refused), stage.worm: None}
        return {
            stage.view: drawn_value(tag, refused),
            stage.curves: drawn_curves(session, human),
            stage.worm: worm_figure(session.score, shapes, slots),
            stage.tables: f"<div class='compared'>{tables_html(session.score, shapes)}</div>",
        }

    outputs = [stage.view, stage.curves, stage.worm, stage.tables]
    stage.view.draw(draw, [*inputs, page.human_show], outputs, **PRIVATE)

    def hear(event: gr.EventData, document: Document, piano: Any) -> dict:
        name = str(event_data(event).get("sound", ""))[:80]
        try:
            entry = _heard(document, name, str(piano))
        except BadInput as refused:
            return refusal(str(refused), name)
        session = document.session

        def work(job: Job) -> Callable[[], Any]:
            clip, start = comparing.sound_of(shared, entry, str(piano), job.step)
            kind = "flac" if clip.duration_sec > PREVIEW_FLAC_SEC else "wav"
            path = document.folder() / f"compared-{entry.key}-{job.number}.{kind}"
            put(path, actions.audio_bytes(clip, kind))
            return lambda: sound_value(session, entry, name, start, path)

        job = document.jobs.start(f"hear-{entry.key}", "Comparing", work, same=name)
        if not job.wait(FIRST_WAIT):
            return wait(name)
        return job.show() if job.show is not None else refusal(job.refusal or "That sound could not be made.", name)

    stage.view.hear(hear, inputs, stage.view, **PRIVATE)


def _heard(document: Document, name: str, piano: str) -> comparing.Entry:
    """The performance that a sound's name refers to. Raises BadInput."""
    study = document.study
    if name.startswith("study"):
        number, _, code = name[5:].partition(".")
        if study is None or number != str(study.number) or not code.isdecimal() or int(code) >= len(study.heard):
            raise BadInput("That study is over; begin another.")
        return study.heard[int(code)]
    return comparing.named(document, name.partition(".")[0])


def connect_study(page: Page, shared: SharedEngine) -> None:
    """The blind study and its votes."""
    panel, stage = page.compare_panel, page.compare
    outputs, lock = [stage.view, stage.dock, page.roll], threading.Lock()

    @show_refusals(page)
    def begin(document: Document, piano: Any, question: Any, first: Any, last: Any, listener: Any, seed: Any) -> Shown:
        bars = _bars(first, last)
        number = int(field_number(seed, "The seed", 0, MAX_SEED, 1))
        drawn = [entry for entry in comparing.entries(document) if entry.drawn]
        document.study = begin_study(
            document.session, drawn, str(question), str(listener or ""), number, document.studies + 1, bars
        )
        document.studies += 1
        return {stage.view: compare_value(document, piano, said=""), stage.dock: gr.Tabs(selected="versions")}

    panel.begin.click(
        begin,
        [page.document, page.piano, panel.question, panel.first_bar, panel.last_bar, panel.listener, panel.study_seed],
        outputs, **PRIVATE,
    )  # fmt: skip

    @show_refusals(page)
    def begin_models(document: Document, piano: Any, question: Any, listener: Any, seed: Any) -> Shown:
        number = int(field_number(seed, "The seed", 0, MAX_SEED, 1))
        begin_passage_study(document.session, [], str(question), "", number, 0)  # refused before the job begins

        def compose(job: Job) -> Callable[[], Any]:
            shared.await_models(job)
            entries = compose_for_study(shared, number, step=job.step)
            document.study = begin_passage_study(
                document.session, entries, str(question), str(listener or ""), number, document.studies + 1
            )
            document.studies += 1
            return lambda: None

        job = document.jobs.start("study", "Composing a passage of each model", compose)
        job.wait(FIRST_WAIT)
        return {stage.view: progress_of(document, job, piano), stage.dock: gr.Tabs(selected="versions")}

    panel.begin_models.click(
        begin_models, [page.document, page.piano, panel.question, panel.listener, panel.study_seed], outputs, **PRIVATE
    )

    def vote(event: gr.EventData, document: Document, piano: Any) -> dict:
        data = event_data(event)
        try:
            with lock:
                study = document.study
                if study is None or data.get("study") != study.number:
                    raise BadInput("That study is over; begin another.")
                now = datetime.now(timezone.utc)
                title = study.title or document.session.title
                document.study, cast = answered(
                    study, title, data.get("trial"), data.get("choice"), data.get("rating"), now
                )
                if cast is not None:
                    document.update(lambda session: with_vote(session, cast))
        except BadInput as refused:
            return refusal(str(refused))
        study = document.study
        if not study.over:
            return compare_value(document, piano, said="")
        votes = list(document.session.comparison.votes[-len(study.trials) :])
        document.study = None
        return compare_value(
            document, piano, said="The study is done; its votes can be downloaded", **result_value(votes)
        )

    stage.view.vote(vote, [page.document, page.piano], stage.view, **PRIVATE)

    def leave(event: gr.EventData, document: Document, piano: Any) -> dict:
        if event_data(event).get("job"):
            document.jobs.stop("pin", "study", by="visitor")
            return compare_value(document, piano, said="Cancelled; nothing has changed")
        document.study = None
        return compare_value(document, piano, said="The study was stopped; its votes so far are kept")

    stage.view.leave(leave, [page.document, page.piano], stage.view, **PRIVATE)

    @show_refusals(page)
    def save(document: Document) -> Shown:
        return {stage.view: file_value(written(document, "votes.csv", votes_csv(document.session.comparison.votes)))}

    panel.votes.click(save, page.document, [stage.view, page.roll], **PRIVATE)


def _bars(first: Any, last: Any) -> tuple[int, int] | None:
    """The bars of a study; None (the whole piece) if both fields are empty. Raises BadInput."""
    words = [str(value or "").strip() for value in (first, last)]
    if words == ["", ""]:
        return None
    try:
        a, b = (int(word or other) for word, other in zip(words, reversed(words), strict=True))
    except ValueError:
        raise BadInput("Bars are whole numbers, such as 5 and 8; leave both empty for the whole piece.") from None
    return a, b
