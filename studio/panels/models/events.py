"""Events of the systems of the XMVAE paper: compose a passage, vary bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from engine.limits import MAX_Z_P, MIN_VARIED, PASSAGE_NOTES
from engine.music.types import BadInput
from engine.progress import ProgressCallback
from engine.requests import PassageRequest
from studio.actions import composing, passages
from studio.actions.document import Document
from studio.actions.editing import Change
from studio.page.answers import PRIVATE, Shown, begin, show_refusals
from studio.page.values import field_number, take_settings
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine
from studio.shell.layout import Page
from studio.state.session import Session
from studio.widgets.takes.takes import strip_value

FIRST_BARS = 8  # varied where no bar is selected


def as_passage_request(
    takes: Any, seed: Any, temperature: Any, *z_p: Any, directions: Sequence[str] = ()
) -> PassageRequest:
    """A request of the panel's values, checked: a client may send anything. directions: the names of z_p."""
    moved = [field_number(value, "A slider of z_p", -MAX_Z_P, MAX_Z_P) for value in z_p]
    takes, seed, temperature = take_settings(takes, seed, temperature)
    z_p = tuple((name, value) for name, value in zip(directions, moved, strict=True) if value)
    return PassageRequest(takes=takes, seed=seed, temperature=temperature, z_p=z_p)


def region_to_vary(session: Session, document: Document) -> composing.Region:
    """The selected bars, else the first ones. Raises BadInput when no piece is open."""
    score = composing.opened_score(session)
    chosen = composing.bars_of(session, document.selection)
    number = score.measures.number
    first, last = chosen or (int(number[0]), int(number[min(FIRST_BARS, len(number)) - 1]))
    return composing.whole_bars(session, first, last, next(iter(composing.HANDS)), document.selection)


def other_bars(session: Session, document: Document, text: Any) -> composing.Region | None:
    """The bars named in a field such as "9-16"; None if it is empty. Raises BadInput."""
    words = str(text or "").strip()
    if not words:
        return None
    first, dash, last = words.partition("-")
    if not dash or not first.strip().isdecimal() or not last.strip().isdecimal():
        raise BadInput(f'Mix with bars is "{words[:20]}"; write a first and a last bar, such as 9-16.')
    return composing.whole_bars(session, int(first), int(last), next(iter(composing.HANDS)), document.selection)


def connect_models(page: Page, shared: SharedEngine) -> None:
    """Attach the events; called once, inside an open gr.Blocks."""
    panel, models, directions = page.compose, page.models, shared.xmvae_directions
    common = [panel.takes, panel.seed, panel.temperature, *models.z_p]

    def as_request(values: tuple) -> PassageRequest:
        return as_passage_request(*values, directions=directions)

    @show_refusals(page)
    def compose(document: Document, model: Any, notes: Any, *values: Any) -> Shown:
        if model not in shared.paper_models:
            raise BadInput("The weights of that model are not installed; choose another model.")
        size = int(field_number(notes, "The number of notes", MIN_VARIED, PASSAGE_NOTES))
        request = replace(as_request(values), model=model, notes=size)
        request = (request if model == "xmvae" else replace(request, z_p=())).check()
        return _start(
            page, shared, document, request.takes, lambda step: passages.compose_passages(shared, request, step)
        )

    models.compose.click(compose, [page.document, models.model, models.notes, *common], page.outputs, **PRIVATE)

    @show_refusals(page)
    def vary(document: Document, share: Any, towards: Any, *values: Any) -> Shown:
        session = document.session
        region = region_to_vary(session, document)
        request = replace(as_request(values), share=field_number(share, "The share of codes", 0.01, 1))
        score = composing.opened_score(session)
        passages.excerpt_of(score, region)  # refused before the job begins
        other = other_bars(session, document, towards)
        if other is not None:
            passages.excerpt_of(score, other)
        return _start(
            page, shared, document, request.takes,
            lambda step: passages.vary(shared, session, region, request, step, other),
        )  # fmt: skip

    models.vary.click(vary, [page.document, models.share, models.towards, *common], page.outputs, **PRIVATE)

    @show_refusals(page)
    def play(document: Document, *values: Any) -> Shown:
        session = document.session
        region, request = region_to_vary(session, document), replace(as_request(values), share=0.0)
        passages.excerpt_of(composing.opened_score(session), region)
        return _start(
            page, shared, document, request.takes,
            lambda step: passages.vary(shared, session, region, request, step),
        )  # fmt: skip

    models.play.click(play, [page.document, *common], page.outputs, **PRIVATE)


def _start(
    page: Page, shared: SharedEngine, document: Document, takes: int, write: Callable[[ProgressCallback], Change]
) -> Shown:
    def work(job: Job) -> Callable[[], Shown]:
        shared.await_models(job)
        session = document.update(job.unless_stopped(write(job.step)))
        note = f"{takes} takes are above the roll" if takes > 1 else "The take is above the roll"
        return lambda: {page.takes: strip_value(session), page.roll: {"note": f"{note}, and on its tabs"}}

    return begin(page, document, "compose", "Composing", work)
