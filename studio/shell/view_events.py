"""Events of the engraved score and of the corpus table. See studio.panels.perform.events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from engine.music.edition import edited
from engine.music.io.engrave import WIDTHS
from engine.music.types import BadInput
from studio.actions import corpus
from studio.actions.document import Document
from studio.gradio_compat.event_data import event_data
from studio.page.answers import FIRST_WAIT, PRIVATE
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine
from studio.shell.layout import Page
from studio.widgets.score.score import score_address, score_pages, score_refusal, score_wait


def connect_views(page: Page, shared: SharedEngine) -> None:
    """Attach the events of both; called once, inside an open gr.Blocks."""
    connect_score(page, shared)
    connect_corpus(page)


def connect_score(page: Page, shared: SharedEngine) -> None:
    """Pages are engraved when the visible view requests them."""

    def want(event: gr.EventData, document: Document) -> dict:
        data = event_data(event)
        session, number, width = document.session, data.get("page"), data.get("width")
        if session.score is None or type(number) is not int or width not in WIDTHS:
            return gr.skip()
        score, doc, digest, rendered = session.score, session.doc, session.score.digest, session.rendered
        if data.get("digest") != digest:
            return score_address(doc, digest)

        def work(job: Job) -> Callable[[], dict]:
            page = score if rendered is None else edited(score, rendered)
            engraving = shared.engraving(page, width, job.step)
            return lambda: score_pages(doc, score, engraving, number)

        job = document.jobs.start("engrave", "Engraving", work, same=(digest, width, number))
        if not job.wait(FIRST_WAIT) or job.stopped:
            return score_wait(doc, digest)
        return score_refusal(doc, digest, job.refusal) if job.show is None else job.show()

    page.score.want(want, page.document, page.score, **PRIVATE)


def connect_corpus(page: Page) -> None:
    """The table is computed when opened, and again after edits while it is open."""

    def table(document: Document) -> Any:
        if not document.corpus_open:
            return gr.skip()
        try:
            return corpus.corpus_table(corpus.corpus_rows(document.session))
        except BadInput as refusal:
            return corpus.corpus_refusal(str(refusal))

    def opened(document: Document) -> Any:
        document.corpus_open = True
        return table(document)

    def closed(document: Document) -> None:
        document.corpus_open = False

    for name, tab in page.dock_tabs.items():
        if name == "corpus":
            tab.select(opened, page.document, page.corpus, **PRIVATE)
        else:
            tab.select(closed, page.document, None, **PRIVATE)
    page.roll.settle(table, page.document, page.corpus, **PRIVATE)
