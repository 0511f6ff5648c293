"""Events for opening an example, a score or a project. See studio.panels.perform.events.

A style belongs to its piece, so a new piece starts with the default style. The panel is reset with the first answer, so
that a slider moved while the piece is read starts from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from engine.music.types import BadInput, Score
from engine.untrusted.matches import is_match, open_match
from engine.untrusted.scores import open_score
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.page.answers import Shown, begin, human_controls, panel_values, redraw
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine
from studio.shell.layout import Page
from studio.state import history
from studio.state.examples import EMPTY, EXAMPLES
from studio.state.session import Controls, Reference, Session

Read = Callable[[Job], tuple[Score, str, Reference | None]]  # score, title, the human performance in the same file


def opening(
    page: Page, shared: SharedEngine, document: Document, read: Read, show: bool, controls: Controls, example: str = ""
) -> Shown:
    """Read a score and perform it. example: its name, "" for an upload"""

    def work(job: Job) -> Callable[[], Shown]:
        score, title, human = read(job)
        job.begin("Performing")
        shared.await_models(job)
        opened = actions.open_piece(shared, document.session, score, title, controls, example, job.step)
        opened = replace(opened, reference=human)
        session = document.update(job.unless_stopped(lambda now: history.replaced(now, opened)))
        document.jobs.stop("play", "human", "sound")
        note = f"{len(score):,} notes"
        return lambda: {
            **redraw(page, session, show, score=True, note=note),
            **human_controls(page, session, shared, controls),
        }

    return {**panel_values(page, controls), **begin(page, document, "open", "Opening", work)}


def opening_example(
    page: Page, shared: SharedEngine, document: Document, name: object, show: bool, controls: Controls
) -> Shown:
    """Open an example by its name. Raises BadInput for an unknown one."""
    if name not in EXAMPLES:
        raise BadInput("There is no such example; choose one from the list.")
    example = EXAMPLES[str(name)]
    return opening(
        page, shared, document, lambda job: (shared.read_example(example, job.step), example.title, None), show,
        controls, example.title,
    )  # fmt: skip


def opening_nothing(page: Page, shared: SharedEngine, document: Document, show: bool, controls: Controls) -> Shown:
    """Close the piece."""
    document.jobs.stop()
    session = document.update(lambda now: history.replaced(now, Session(controls=controls, example=EMPTY)))
    note = "Compose something, or open a score"
    return {
        **panel_values(page, controls),
        **redraw(page, session, show, score=True, note=note),
        **human_controls(page, session, shared, controls),
    }


def opening_file(
    page: Page, shared: SharedEngine, document: Document, file: Path, show: bool, controls: Controls,
    all_parts: bool = False,
) -> Shown:  # fmt: skip
    """Open a score from an untrusted file; the performance in a match file becomes the human performance.

    all_parts  play a song's voice beside its piano
    """
    data = file.read_bytes()

    def read(job: Job) -> tuple[Score, str, Reference | None]:
        if is_match(data):
            score, performance, alignment = open_match(data, file.name, lambda: job.step(0.0))
            return score, score.title or file.stem, Reference(performance, alignment, file.name)
        score = open_score(data, file.name, job.step, all_parts)
        return score, score.title or file.stem, None

    return opening(page, shared, document, read, show, controls)
