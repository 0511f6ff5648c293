"""Events of the cards of pianists: choose one, hear two bars by one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gradio as gr

from engine.files import put
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.actions.samples import two_bars
from studio.gradio_compat.event_data import event_data
from studio.page.answers import FIRST_WAIT, PRIVATE
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine
from studio.shell.layout import Page
from studio.widgets.pianists.pianists import sample_value


def connect_pianists(page: Page, shared: SharedEngine, again: dict[str, Any]) -> None:
    """Attach both events. again: the event that performs the piece in the panel's style."""

    def choose(event: gr.EventData) -> Any:
        name = event_data(event).get("name")
        return name if name in shared.presets else gr.skip()

    page.pianists.choose(choose, None, page.preset, **PRIVATE).then(**again)

    def sample(event: gr.EventData, document: Document, piano: Any) -> dict:
        data = event_data(event)
        name, quarter, session = str(data.get("name"))[:80], data.get("quarter"), document.session
        if type(quarter) not in (int, float) or not math.isfinite(quarter) or data.get("doc") != session.doc:
            return sample_value(name, None)

        def work(job: Job) -> Callable[[], dict]:
            clip = two_bars(shared, session, name, float(quarter), str(piano), job.step)
            path = document.preview_file("wav")
            put(path, actions.audio_bytes(clip, "wav"))
            return lambda: sample_value(name, path)

        same = (name, session.doc, round(float(quarter)), str(piano))
        job = document.jobs.start("sample", "Playing two bars", work, same)
        if not job.wait(FIRST_WAIT):
            return sample_value(name, None, again=True)
        return job.show() if job.show is not None else sample_value(name, None)

    page.pianists.sample(sample, [page.document, page.piano], page.pianists, **PRIVATE)
