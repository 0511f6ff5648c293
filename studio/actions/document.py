"""`Document` holds a visitor's present Session in `gr.State`, with their jobs, renders and files.

It is an event's input and never its output, because Gradio loses quick updates of a State that is both.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from engine.sound.prompts import Prompt
from studio.actions.compared import Study
from studio.actions.rendering import Renders
from studio.service.jobs import Jobs
from studio.service.visit_folders import VISITS
from studio.state.session import Selection, Session


class Document:
    """Mutable holder of one visitor's Session. Patches may arrive concurrently and out of order; they are applied in
    order.

    patch(doc, rev, apply) runs `apply` on the Session once every earlier revision has arrived.
    """

    MAX_WAITING = 64  # patches that wait for a missing revision before it is skipped
    KEPT_PREVIEWS = 4

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session = Session()
        self.jobs = Jobs()
        self.renders = Renders(self.jobs)
        self.selection = Selection()
        self.corpus_open = False
        self.study: Study | None = None
        self.studies = 0  # number of studies begun
        self.settings: dict[str, object] = {}  # values of the panels, see studio.panels.project.settings
        self.prompt: Prompt | None = None  # the visitor's own reference recording
        self.prompt_source: object = None  # source of that recording
        self.left_in: Path | None = None  # folder of the saved work that this visit started from
        self.arrived = False  # whether a page has loaded this document
        self.unsaved: Callable[[], bool] = lambda: False  # whether a change is not saved yet
        self.proved: object = None  # the piece that was read back before the work was stored
        self.unkept = ""  # reason why the last autosave failed
        self.on_change: Callable[[], None] = lambda: None  # called after every change, from any thread
        self.on_close: Callable[[Document], None] = lambda document: None  # called before its files are removed
        self._waiting: dict[int, Callable[[Session], Session]] = {}
        self._folder: Path | None = None
        self._previews = 0

    def __deepcopy__(self, memo: dict) -> Document:
        """Gradio copies the page's Document for each new visitor: each visitor starts with an empty one."""
        return Document()

    @property
    def session(self) -> Session:
        """The present state."""
        return self._session

    def update(self, change: Callable[[Session], Session]) -> Session:
        """Apply one change to the present state, which may be newer than the one the caller read."""
        with self._lock:
            new = change(self._session)
            if new.doc != self._session.doc:
                self._waiting.clear()
            self._session = new
        self.on_change()
        return new

    def patch(self, doc: int, rev: int, apply: Callable[[Session], Session]) -> Session:
        """Apply an edit from the browser, in the order of its revision numbers."""
        with self._lock:
            if doc != self._session.doc or rev <= self._session.rev:
                return self._session
            self._waiting[rev] = apply
            while self._waiting:
                following = self._session.rev + 1
                if following not in self._waiting and len(self._waiting) > self.MAX_WAITING:
                    following = min(self._waiting)
                if following not in self._waiting:
                    break
                self._session = replace(self._waiting.pop(following)(self._session), rev=following)
            now = self._session
        self.on_change()
        return now

    def folder(self) -> Path:
        """This visitor's directory for files to download."""
        with self._lock:
            if self._folder is None:
                self._folder = VISITS.new()
            return self._folder

    def preview_file(self, kind: str) -> Path:
        """A new file for a preview sound. Only the last few are kept: the page has its own copies."""
        folder = self.folder()
        with self._lock:
            self._previews += 1
            for old in folder.glob(f"preview-{self._previews - self.KEPT_PREVIEWS}.*"):
                old.unlink(missing_ok=True)
            return folder / f"preview-{self._previews}.{kind}"

    def close(self) -> None:
        """Stop the visitor's jobs and remove their files at the end of the session."""
        self.jobs.stop()
        self.renders.close()
        self.on_close(self)
        with self._lock:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None
