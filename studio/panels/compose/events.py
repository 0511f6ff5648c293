"""Events of the Compose panel and the takes, and their actions. See studio.panels.perform.events."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr

from engine.compose.form import FREE
from engine.files import put
from engine.limits import COMPOSED_BARS, COMPOSED_NOTES, PERFORMANCE_NOTES
from engine.models.composer.conditions import Conditions
from engine.music.types import BadInput, Score
from engine.progress import NoteCallback, ProgressCallback
from engine.requests import ComposeRequest
from studio.actions import composing
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.gradio_compat.event_data import event_data
from studio.page.answers import (
    PRIVATE,
    Shown,
    as_controls,
    begin,
    human_controls,
    panel_values,
    redraw,
    show_refusals,
    without_borrowed,
)
from studio.page.values import field_number, take_settings
from studio.page.wire import take_draft
from studio.panels.compose.layout import INTENT_BARS, LENGTHS, TYPED, ComposePanel
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine
from studio.shell.layout import Page
from studio.state import history
from studio.state.session import Session
from studio.widgets.takes.takes import strip_sound, strip_value

FREE_TEMPO = 100.0  # quarters per minute, tempo of a draft without one
Writing = Callable[[NoteCallback, ProgressCallback], actions.Change]


def connect_compose(page: Page, shared: SharedEngine) -> None:
    """Attach the events of composing; called once, inside an open gr.Blocks."""
    connect_writing(page, shared)
    connect_takes(page, shared)
    connect_history(page, shared)
    connect_intents(page)
    page.compose.dice.click(lambda: str(random.randrange(1, 10_000)), None, page.compose.seed, **PRIVATE)


def connect_intents(page: Page) -> None:
    """One press chooses a genre and a usual length; every field can be changed before composing."""
    panel = page.compose
    fields = [panel.genre, panel.form, panel.length, panel.unit]
    for genre, button in panel.intents.items():
        button.click(lambda genre=genre: [genre, FREE, INTENT_BARS, "bars"], None, fields, **PRIVATE)


def as_request(values: tuple, notes: float = 256, bars: float = 0) -> ComposeRequest:
    """The request of the panel's values, in ComposePanel.conditions order, checked: a client may send anything."""
    who, key, meter, tempo, density, takes, seed, temperature, top_p, genre = values
    if not all(isinstance(v, str) for v in (who, key, meter, genre)):
        raise BadInput("A menu of the Compose panel could not be read; reload the page.")
    kind, _, name = who.partition(":")
    conditions = Conditions(
        name if kind == "composer" else "", name if kind == "period" else "", key, meter,
        field_number(tempo, "The tempo", 20, 300, 0), field_number(density, "The density", 0.25, 16, 0),
        genre,
    )  # fmt: skip
    takes, seed, temperature = take_settings(takes, seed, temperature)
    return ComposeRequest(
        conditions, int(notes), int(bars), takes, seed, temperature, field_number(top_p, "Top-p", 0.01, 1)
    )


def as_length(length: Any, unit: Any) -> dict:
    """The length of a request, in notes or in bars."""
    if unit not in LENGTHS:
        raise BadInput("A length is in notes or bars; choose one.")
    most = COMPOSED_NOTES if unit == "notes" else COMPOSED_BARS
    return {str(unit): int(field_number(length, f"The length in {unit}", 8 if unit == "notes" else 1, most))}


def placed(session: Session, from_quarter: float) -> tuple[dict, Callable[[float], float]]:
    """Where a draft from this quarter on stands on the roll, and the milliseconds of a quarter."""
    grid = session.grid
    if grid is None:
        raise BadInput(actions.NOTHING_OPEN)
    return (
        {"alone": False, "start": round(1000 * float(grid.sec_at(from_quarter)))},
        lambda q: 1000 * float(grid.sec_at(q)),
    )


def connect_writing(page: Page, shared: SharedEngine) -> None:
    """Events of Compose, Continue and Infill: notes appear on the roll as they are composed, then the takes."""
    panel = page.compose

    @show_refusals(page)
    def compose(document: Document, show: bool, form: Any, letters: Any, length: Any, unit: Any, *values: Any) -> Shown:
        count = len(panel.conditions)
        request = as_request(values[:count])
        asked = composing.as_form(letters if form == TYPED else form)
        request = replace(request, **(asked or as_length(length, unit)))
        quarter_ms = 60_000 / (request.conditions.tempo or FREE_TEMPO)
        about = {"alone": True, "start": 0, "title": "New composition"}
        controls = without_borrowed(as_controls(values[count:], len(shared.axes)))

        def write(on_note: NoteCallback, step: ProgressCallback) -> actions.Change:
            return composing.compose(shared, request, on_note, step)

        def first_piece(job: Job) -> Session | None:  # on an empty page the take is opened at once
            if document.session.score is not None:
                return None
            job.begin("Performing")
            number = document.session.takes[-request.takes].number
            change = composing.accept(shared, document.session, number, controls, job.step)
            return document.update(job.unless_stopped(change))

        return writing(
            page, shared, document, show, "Composing", request, about, write, lambda q: q * quarter_ms, 0.0, first_piece
        )

    common = [page.document, page.human_show]
    panel.compose.click(
        compose,
        [*common, panel.form, panel.letters, panel.length, panel.unit, *panel.conditions, *page.controls],
        page.outputs, **PRIVATE,
    )  # fmt: skip
    panel.form.change(lambda form: gr.update(visible=form == TYPED), panel.form, panel.letters, **PRIVATE)

    @show_refusals(page)
    def go_on(document: Document, show: bool, bars: Any, *values: Any) -> Shown:
        request = as_request(values, bars=field_number(bars, "The number of bars", 1, COMPOSED_BARS))
        session = document.session
        end = composing.opened_score(session).measures.end_quarter
        about, to_ms = placed(session, end)

        def write(on_note: NoteCallback, step: ProgressCallback) -> actions.Change:
            return composing.continue_piece(shared, session, request, on_note, step)

        return writing(page, shared, document, show, "Continuing", request, about, write, to_ms, end)

    panel.go_on.click(go_on, [*common, panel.more_bars, *panel.conditions], page.outputs, **PRIVATE)

    def filling(document: Document, show: bool, region: composing.Region, values: tuple) -> Shown:
        session = document.session
        request = as_request(values)
        about, to_ms = placed(session, region.span[0])

        def write(on_note: NoteCallback, step: ProgressCallback) -> actions.Change:
            return composing.infill(shared, session, region, request, on_note, step)

        return writing(
            page,
            shared,
            document,
            show,
            "Filling in",
            request,
            about,
            write,
            to_ms,
            region.span[0],
            upto=region.span[1],
        )

    @show_refusals(page)
    def fill_bars(document: Document, show: bool, first: Any, last: Any, hand: Any, *values: Any) -> Shown:
        a, b = (int(field_number(v, "A bar number", -10_000, 10_000)) for v in (first, last))
        region = composing.whole_bars(document.session, a, b, str(hand), document.selection)
        return filling(document, show, region, values)

    @show_refusals(page)
    def fill_notes(document: Document, show: bool, *values: Any) -> Shown:
        return filling(document, show, composing.selected_notes(document.session, document.selection), values)

    panel.fill_bars.click(
        fill_bars, [*common, panel.first_bar, panel.last_bar, panel.hand, *panel.conditions], page.outputs, **PRIVATE
    )
    panel.fill_notes.click(fill_notes, [*common, *panel.conditions], page.outputs, **PRIVATE)
    connect_selection(page, panel)


def writing(
    page: Page, shared: SharedEngine, document: Document, show: bool, text: str, request: ComposeRequest, about: dict,
    write: Writing, to_ms: Callable[[float], float], start: float,
    then: Callable[[Job], Session | None] = lambda job: None,
    upto: float = 0.0,
) -> Shown:  # fmt: skip
    """Start a composing job. Every note goes into its draft, which also gives the progress.

    start, upto  quarters between which notes are written; upto 0: the length of the request
    then         called with the new takes; returns another Session to show, or None
    """
    wanted = request.notes * request.takes
    bar = _bar_quarters(request, document.session.score)

    def work(job: Job) -> Callable[[], Shown]:
        reached = [start] * request.takes

        def on_note(take: int, onset: float, duration: float, pitch: int, staff: int) -> None:
            on = to_ms(onset)
            length = max(1, round(to_ms(onset + max(duration, 0.05)) - on))
            job.draft.append((int(take), round(on), length, int(pitch), int(staff)))
            reached[take] = max(reached[take], onset)
            if upto or request.bars:
                job.step(min(0.99, sum(reached[k] - start for k in range(request.takes)) / span))
            else:
                job.step(min(0.99, len(job.draft) / wanted))

        span = max(1e-6, request.takes * ((upto - start) if upto else request.bars * bar))
        shared.await_models(job)
        change = write(on_note, job.step)
        session = document.update(job.unless_stopped(change))
        note = f"{request.takes} takes are" if request.takes > 1 else "The take is"
        shown = then(job)
        if shown is not None:
            return lambda: {
                **redraw(page, shown, show, score=True, note=f"{shown.title}. {note} above the roll"),
                **human_controls(page, shown, shared, shown.controls),
            }
        told = f"{note} above the roll, and on its tabs"
        return lambda: {page.takes: strip_value(session), page.roll: {"note": told}}

    return begin(page, document, "compose", text, work, about=about)


def _bar_quarters(request: ComposeRequest, score: Score | None) -> float:
    if request.conditions.meter:
        num, den = request.conditions.meter.split("/")
        return 4 * int(num) / int(den) if num.isdigit() and den.isdigit() and int(den) else 4.0
    return float(score.measures.duration_quarter[-1]) if score is not None else 4.0


def connect_selection(page: Page, panel: ComposePanel) -> None:
    """The selection on the roll or in the score sets the bars to infill or to render."""

    def chosen(event: gr.EventData, document: Document) -> list:
        data = event_data(event)
        notes, bars = data.get("notes"), data.get("bars")
        fits = isinstance(notes, list) and len(notes) <= PERFORMANCE_NOTES and all(type(i) is int for i in notes)
        if not fits or data.get("doc") != document.session.doc:
            return [gr.skip()] * 4
        pair = bars if isinstance(bars, list) and len(bars) == 2 and all(type(b) is int for b in bars) else None
        document.selection = composing.selection_of(document.session, notes, pair)
        numbers = composing.bars_of(document.session, document.selection)
        return [*numbers, *numbers] if numbers else [gr.skip()] * 4

    bars = [panel.first_bar, panel.last_bar, page.render.first_bar, page.render.last_bar]
    page.roll.chosen(chosen, page.document, bars, **PRIVATE)


def connect_takes(page: Page, shared: SharedEngine) -> None:
    """Events of a take: preview, opening it or another piece of its family, discard."""
    inputs = [page.document, page.human_show, page.piano, *page.controls]

    def named(event: gr.EventData) -> Any:
        return event_data(event).get("take")

    @show_refusals(page)
    def preview(event: gr.EventData, document: Document, show: bool, piano: str, *values: Any) -> Shown:
        take = composing.take_of(document.session, named(event))
        controls = without_borrowed(as_controls(values, len(shared.axes)))
        quiet = event_data(event).get("quiet") is True
        session = document.session

        def work(job: Job) -> Callable[[], Shown]:
            opened = composing.played(shared, session, take, controls, job.step)
            part, start_sec = composing.heard_part(opened, take)
            clip = shared.preview(part, str(piano), job.step)
            path = document.preview_file("flac")
            put(path, actions.audio_bytes(clip, "flac"))
            shown: Shown = {page.takes: strip_sound(take.number, str(path))}
            if not quiet:
                alone = take.kind == "compose" or document.session.doc != take.base.doc
                shown[page.roll] = {"draft": take_draft(opened, take, start_sec, alone, session.doc)}
            return lambda: shown

        return begin(page, document, "audition", "Performing the take", work)

    page.takes.preview(preview, inputs, page.outputs, **PRIVATE)

    @show_refusals(page)
    def hop(event: gr.EventData, document: Document, show: bool, piano: str, *values: Any) -> Shown:
        data = event_data(event)
        if data.get("from") != document.session.doc:
            raise BadInput("Another piece has been opened; choose one of its tabs.")
        number = data.get("take")
        doc = composing.opened_before(document.session, number) if number else data.get("doc")
        if doc:
            session = document.update(lambda now: history.gone_to(now, doc))
            document.jobs.stop("play", "human", "sound")
            return turned(page, shared, session, show, f"{session.title or 'The piece'}, as you left it")
        number = composing.take_of(document.session, number).number
        controls = without_borrowed(as_controls(values, len(shared.axes)))

        def work(job: Job) -> Callable[[], Shown]:
            change = composing.accept(shared, document.session, number, controls, job.step)
            session = document.update(job.unless_stopped(change))
            document.jobs.stop("play", "human", "sound")
            note = f"Take {number}. {len(session.score or ()):,} notes"
            return lambda: turned(page, shared, session, show, note)

        return begin(page, document, "open", "Performing", work)

    page.roll.hop(hop, inputs, page.outputs, **PRIVATE)

    @show_refusals(page)
    def dismiss(event: gr.EventData, document: Document) -> Shown:
        number = named(event)
        return {page.takes: strip_value(document.update(lambda now: composing.dismiss(now, number)))}

    page.takes.dismiss(dismiss, page.document, page.outputs, **PRIVATE)


def turned(page: Page, shared: SharedEngine, session: Session, show: bool, note: str) -> Shown:
    """Outputs for another open piece of the visitor: notes, style, human performance."""
    controls = without_borrowed(session.controls) if session.reference is None else session.controls
    return {
        **panel_values(page, controls),
        **redraw(page, session, show, score=True, note=note),
        **human_controls(page, session, shared, controls),  # last: the menus' entries go with their values
    }


def connect_history(page: Page, shared: SharedEngine) -> None:
    """Undo and redo to another piece."""

    @show_refusals(page)
    def turn(event: gr.EventData, document: Document, show: bool) -> Shown:
        backwards = event_data(event).get("back") is True
        session = document.update(history.back if backwards else history.forward)
        document.jobs.stop("play", "human", "sound")
        said_so = "Undone" if backwards else "Redone"
        return turned(page, shared, session, show, f"{said_so}: back to {session.title or 'the piece'}")

    page.roll.history(turn, [page.document, page.human_show], page.outputs, **PRIVATE)
