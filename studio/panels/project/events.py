"""Events for saving, opening and restoring projects. See studio.panels.perform.events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from engine.files import write_aside
from engine.music.types import BadInput
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.page.answers import PRIVATE, Shown, begin, example_menu, plain_controls, show_refusals
from studio.panels.compose.events import turned
from studio.panels.project.settings import (
    changes,
    components,
    note_settings,
    recording,
    settings_outputs,
    shown_settings,
)
from studio.project.apart import project_apart
from studio.project.container import SUFFIX, looks_like_project
from studio.project.document import Project, adopt, other_weights, project_of, write_project
from studio.project.store import CANNOT, Autosaver, new_token, tab_of
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine
from studio.shell.layout import SIDES, Page
from studio.shell.open_events import opening_example, opening_file, opening_nothing
from studio.state.examples import EMPTY, FIRST, MINE
from studio.state.session import Session
from studio.widgets.listen.listen import announced

WELCOME_BACK = "Welcome back: your work is as you left it"
ANOTHERS = "What another tab of this browser was left with"
VISIT = (Path(__file__).parent / "visit.js").read_text(encoding="utf-8")
NO_ROOM = "There is no room left on this server, so the project was not made; try again later."


def connect_projects(demo: gr.Blocks, page: Page, shared: SharedEngine, autosaver: Autosaver) -> None:
    """Attach the events; called once, inside the same gr.Blocks."""
    connect_opening(page, shared)
    connect_saving(page)
    connect_arrival(demo, page, shared, autosaver)


def kept_file(document: Document) -> bytes | None:
    """The file that autosave writes for a visit; None if nothing was changed."""
    s = document.session
    touched = s.docs > 1 or s.take > 1 or s.rev or s.takes or s.reference or s.comparison.pins or s.comparison.votes
    if not touched and not document.settings and document.prompt is None and not document.renders.kept:
        return None
    data = write_project(project_of(document))[0]
    piece = (s.doc, len(s.takes), len(document.renders.kept))
    if document.proved != piece:  # once per piece: reading back costs as much as writing
        proved(data)
        document.proved = piece
    return data


def proved(data: bytes) -> None:
    """Read a project back before it is stored. Raises BadInput if it could not be opened again. A time-out on a busy
    machine does not mean that the file is damaged; it is stored.
    """
    try:
        project_apart(data)
    except BadInput as refusal:
        if not str(refusal).startswith("This project"):
            return
        raise BadInput(f"This work could not be opened again, so it was not stored: {refusal}") from refusal


def onto_stand(page: Page, shared: SharedEngine, document: Document, project: Project, show: bool, note: str) -> Shown:
    """Replace the present work by a project; undo restores it."""
    session = adopt(document, project)

    def work(job: Job) -> Callable[[], Shown]:
        shared.await_models(job)
        return lambda: turned(page, shared, _playable(shared, session), show, note)

    return {
        **begin(page, document, "open", "Opening", work),
        **shown_settings(page, document), page.listen: announced(document.renders),
    }  # fmt: skip


def _playable(shared: SharedEngine, session: Session) -> Session:
    """The same with presets and axes that exist on this computer."""
    c, names = session.controls, (*shared.presets, actions.BORROWED)
    first, second = (name if name in names else actions.DEFAULT for name in (c.preset, c.second))
    return replace(session, controls=replace(c, preset=first, second=second))


def about_opened(project: Project) -> str:
    """Text of the status line after opening a project."""
    s = project.session
    count = f"{len(s.score):,} notes" if s.score is not None else "an empty page"
    parts = [count, *_many(len(s.takes), "take"), *_many(len(project.renders), "render")]
    others = other_weights(project)
    remark = f". Saved with other weights ({', '.join(others)}): played again it will differ" if others else ""
    return f"Project opened: {', '.join(parts)}{remark}"


def _many(count: int, word: str) -> list[str]:
    return [f"{count} {word}s" if count > 1 else f"1 {word}"] if count else []


def project_outputs(page: Page) -> list:
    """All components that an opened project may change."""
    return [*page.outputs, page.listen, *settings_outputs(page)]


def connect_opening(page: Page, shared: SharedEngine) -> None:
    """The menu of examples; Open… takes scores and projects."""
    inputs, plain = [page.document, page.human_show], plain_controls(page)

    @show_refusals(page)
    def open_example(document: Document, show: bool, name: Any) -> Shown:
        if name == MINE:  # it is already open
            return {page.example: example_menu(document.session)}
        if name == EMPTY:
            return opening_nothing(page, shared, document, show, plain)
        return opening_example(page, shared, document, name, show, plain)

    page.example.select(open_example, [*inputs, page.example], page.outputs, **PRIVATE)

    @show_refusals(page)
    def open_upload(path: str, voice: Any, document: Document, show: bool) -> Shown:
        file = Path(path)
        data = file.read_bytes()
        if not looks_like_project(data, file.name):
            return opening_file(page, shared, document, file, show, plain, voice is True)
        project = project_apart(data)
        return onto_stand(page, shared, document, project, show, about_opened(project))

    uploaded = [page.open_file, page.with_voice, *inputs]
    page.open_file.upload(open_upload, uploaded, project_outputs(page), **PRIVATE)


def connect_saving(page: Page) -> None:
    """Events of the Save button, and storing the values of the panels."""
    says = [*recording(page), *components(page).values()]

    def noted(document: Document, *values: Any) -> None:
        note_settings(page, document, values)

    gr.on(changes(page), noted, [page.document, *says], None, **PRIVATE)

    @show_refusals(page)
    def save(document: Document, *values: Any) -> Shown:
        note_settings(page, document, values)
        session = document.session
        if session.score is None and not session.takes:
            raise BadInput(actions.NOTHING_OPEN)

        def work(job: Job) -> Callable[[], Shown]:
            data, slim = write_project(project_of(document))
            proved(data)
            path = document.folder() / f"{actions.safe_name(session.title)}{SUFFIX}"
            try:
                write_aside(path, data)
            except OSError:
                raise BadInput(NO_ROOM) from None
            left = f"; left out for size: {' and '.join(slim.left_out)}" if slim.left_out else ""
            return lambda: {page.roll: {"file": str(path), "note": f"Project saved, {len(data) / 1e6:.1f} MB{left}"}}

        return begin(page, document, "save", "Saving the project", work)

    page.save_project.click(save, [page.document, *says], page.outputs, **PRIVATE)


def connect_arrival(demo: gr.Blocks, page: Page, shared: SharedEngine, autosaver: Autosaver) -> None:
    """Events of a new or returning visitor."""
    start = page.welcome
    inputs, plain = [page.document, page.human_show], plain_controls(page)
    notice = [start.back, start.word, start.other, start.afresh]
    outputs = [*project_outputs(page), page.tabs, start.browser, start.card, *notice]

    def reopened(document: Document, path: Path, show: bool, note: str) -> Shown | None:
        try:
            shown = onto_stand(page, shared, document, project_apart(path.read_bytes()), show, note)
        except (BadInput, OSError) as damage:
            print(f"Étude: a visitor's saved work could not be read. {damage}", flush=True)
            return None
        document.left_in = path
        return shown

    def returning(document: Document, token: str, tab: str, show: bool) -> Shown | None:
        autosaver.flush(token)  # the page may have been reloaded just after an edit
        path = autosaver.store.find(token, tab)
        return None if path is None else reopened(document, path, show, WELCOME_BACK)

    @show_refusals(page)
    def arrive(browser: Any, document: Document, show: bool) -> Shown:
        told = browser if isinstance(browser, dict) else {}
        token, tab, side = told.get("token"), tab_of(told.get("tab")), told.get("side")
        known = autosaver.store.path(token) is not None
        token = str(token) if known else new_token()
        shown = returning(document, token, tab, show) if known else None
        back = shown is not None
        if shown is None:
            shown = opening_example(page, shared, document, FIRST, show, plain)
        autosaver.attend(document, token, tab)
        closed = told.get("start") is False
        usable = autosaver.store.usable()
        shown[start.card] = gr.update(visible=not closed and not back)
        shown[start.back], shown[start.afresh] = gr.update(visible=back or not usable), gr.update(visible=back)
        shown[start.word] = f"<p>{WELCOME_BACK if usable else CANNOT}.</p>"
        shown[start.other] = gr.update(visible=back and any(p != document.left_in for p in autosaver.others(document)))
        if side in SIDES:
            shown[page.tabs] = gr.Tabs(selected=side)
        if not known:
            shown[start.browser] = {"token": token, "start": not closed}
        return shown

    demo.load(arrive, [start.browser, *inputs], outputs, js=VISIT, **PRIVATE)

    @show_refusals(page)
    def other(document: Document, show: bool) -> Shown:
        found = autosaver.others(document)
        at = found.index(document.left_in) + 1 if document.left_in in found else 0
        shown = reopened(document, found[at % len(found)], show, ANOTHERS) if found else None
        if shown is None:
            raise BadInput("No other tab of this browser has left work that can be opened.")
        return shown

    start.other.click(other, [page.document, page.human_show], project_outputs(page), **PRIVATE)

    @show_refusals(page)
    def afresh(document: Document, show: bool) -> Shown:
        shown = opening_example(page, shared, document, FIRST, show, plain)
        return {**shown, start.back: gr.update(visible=False)}

    start.afresh.click(afresh, inputs, [*page.outputs, start.back], **PRIVATE)
    start.stay.click(lambda: gr.update(visible=False), None, start.back, **PRIVATE)
