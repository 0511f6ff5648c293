"""Autosave of every visitor's work on the server's disk, so that it survives a reload or restart. No Gradio here.

A `SessionStore` is a folder of project files, one for each browser tab, under names derived from a secret that only
that browser has. An `Autosaver` writes them shortly after a change, one by one, in its own thread.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine.files import write_aside
from engine.limits import BROWSER_BYTES, BROWSER_TABS, KEEP_AFTER_SEC, KEEP_WITHIN_SEC, KEPT_BYTES, KEPT_SEC
from engine.music.types import BadInput
from studio.project.container import SUFFIX
from studio.service.retention import Retention

if TYPE_CHECKING:
    from studio.actions.document import Document

MIN_REST = 10  # pause between writes of a visitor, in units of the last write's duration
CANNOT = "This server cannot save your work, so save the project before you leave"
_TOKEN, _TAB = re.compile(r"[A-Za-z0-9_-]{20,64}"), re.compile(r"[A-Za-z0-9_-]{8,64}")


def state_folder() -> Path:
    """Folder of the autosaved work: ETUDE_STATE_DIR, or `etude` in the cache folder of the server's user."""
    told = os.environ.get("ETUDE_STATE_DIR")
    if told:
        return Path(told)
    home = Path(os.path.expanduser("~"))  # Path.home() raises if there is none
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "etude"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "etude"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "etude"


def tab_of(value: object) -> str:
    """The number sent by a tab, "" if it is invalid."""
    return value if isinstance(value, str) and _TAB.fullmatch(value) else ""


def new_token() -> str:
    """A random secret, stored in the browser."""
    return secrets.token_urlsafe(24)


class SessionStore:
    """The folder. Unreadable files are skipped; a failed write raises BadInput with a sentence."""

    def __init__(self, folder: Path, most_bytes: int = KEPT_BYTES, most_age_sec: float = KEPT_SEC) -> None:
        self.folder, self._most_bytes, self._most_age_sec = folder, most_bytes, most_age_sec
        self._retention = Retention(folder)

    def usable(self) -> bool:
        """Whether the folder can be written to; creates it."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            return False
        return os.access(self.folder, os.W_OK | os.X_OK)

    def path(self, token: object, tab: str = "") -> Path | None:
        """The file of a browser tab, which need not exist; None for an invalid token."""
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            return None
        which = f"-{_digest(tab, 12)}" if tab else ""
        return self.folder / f"{_digest(token, 40)}{which}{SUFFIX}"

    def files(self, token: object) -> list[Path]:
        """The saved files of all tabs of this browser, newest first."""
        path = self.path(token)
        if path is None:
            return []
        found = [p for p in self._retention.own() if p.name.startswith(path.stem)]
        return sorted(found, key=_written_at, reverse=True)

    def find(self, token: object, tab: str = "") -> Path | None:
        """The file of this tab; for a tab without one, the newest of the browser."""
        mine, known = self.path(token, tab), self.files(token)
        found = mine if mine in known else known[0] if known else None
        if found is not None:
            self._retention.used(found.name)
        return found

    def read(self, token: object, tab: str = "") -> bytes | None:
        """The contents of `find`."""
        path = self.find(token, tab)
        try:
            return None if path is None else path.read_bytes()
        except OSError:
            return None

    def write(self, token: object, data: bytes, tab: str = "") -> None:
        """Write the file of a tab atomically."""
        path = self.path(token, tab)
        if path is None or not self.usable():
            raise BadInput(f"{CANNOT}.")
        if not self._retention.room(self._most_bytes, path, len(data)):
            self._retention.prune(self._most_bytes - len(data), self._most_age_sec, path.name)
            if not self._retention.room(self._most_bytes, path, len(data)):
                raise BadInput(f"{CANNOT}: it has no room for more.")
        try:
            write_aside(path, data)
        except OSError:
            raise BadInput(f"{CANNOT}: its disk is full or may not be written to.") from None
        self._retention.used(path.name)
        self._prune_browser(token)
        self.prune(path.name)

    def _prune_browser(self, token: object) -> None:
        """Remove the oldest files of a browser that has too many or too large ones; the newest stays."""
        size = 0
        for number, path in enumerate(self.files(token)):
            size += path.stat().st_size if path.exists() else 0
            if number and (number >= BROWSER_TABS or size > BROWSER_BYTES):
                path.unlink(missing_ok=True)

    def prune(self, keep: str = "") -> None:
        """Remove files that were unused for long, see studio.service.retention; foreign files stay."""
        self._retention.prune(self._most_bytes, self._most_age_sec, keep)


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _written_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


class Autosaver:
    """Writes visitors' documents shortly after their last change.

    make  makes a document's file; None if the visitor has changed nothing
    """

    def __init__(
        self, store: SessionStore, make: Callable[[Document], bytes | None], wait_sec: float = KEEP_AFTER_SEC
    ) -> None:
        self.store, self._make, self._wait_sec = store, make, wait_sec
        self._condition, self._thread = threading.Condition(), None
        self._due: dict[int, float] = {}
        self._first: dict[int, float] = {}  # time of the first unsaved change
        self._rest_sec: dict[int, float] = {}
        self._known: dict[int, tuple[weakref.ref[Document], str, str]] = {}
        self._writing = threading.Lock()
        self._said = False

    def attend(self, document: Document, token: str, tab: str = "") -> None:
        """Start to autosave this document under this token and tab."""
        key = id(document)
        with self._condition:
            tab = self._own_tab(key, token, tab)
            self._known[key] = (weakref.ref(document), token, tab)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
        document.on_change, document.on_close = (lambda: self._changed(key)), self.leave
        document.arrived, document.unsaved = True, lambda: key in self._due

    def _own_tab(self, key: int, token: str, tab: str) -> str:
        """The tab to save a document under: never that of another live document. A tab without browser storage has no
        number and gets a new one. A reloaded tab keeps its own.
        """
        for other, (document, its_token, its_tab) in list(self._known.items()):
            if other == key or (its_token, its_tab) != (token, tab):
                continue
            if document() is None or tab:
                self._forget(other)
            else:
                return secrets.token_hex(8)
        return tab

    def _forget(self, key: int) -> None:
        for table in (self._known, self._due, self._first, self._rest_sec):
            table.pop(key, None)

    def others(self, document: Document) -> list[Path]:
        """Saved files of the browser's other tabs, newest first."""
        with self._condition:
            _, token, tab = self._known.get(id(document), (None, "", ""))
        self.flush(token)
        return [path for path in self.store.files(token) if path != self.store.path(token, tab)]

    def _changed(self, key: int) -> None:
        with self._condition:
            if key not in self._known:
                return
            now = time.monotonic()
            latest = self._first.setdefault(key, now) + max(KEEP_WITHIN_SEC, self._wait_sec)
            self._due[key] = min(latest, now + max(self._wait_sec, self._rest_sec.get(key, 0.0)))
            self._condition.notify()

    def flush(self, token: str = "") -> None:
        """Write pending changes now, of this token or of all; also waits for a write in progress."""
        with self._condition:
            keys = [key for key in self._due if not token or self._known.get(key, (None, ""))[1] == token]
        for key in keys:
            self._write(key)
        with self._writing:
            return

    def leave(self, document: Document) -> None:
        """Write the pending changes of a document that ends, and drop it."""
        key = id(document)
        document.on_change = lambda: None
        with self._condition:
            waiting = key in self._due
        if waiting:
            self._write(key)
        with self._condition:
            self._forget(key)

    def waiting(self, document: Document) -> bool:
        """Whether this document has an unsaved change."""
        with self._condition:
            return id(document) in self._due

    def _run(self) -> None:
        while True:
            with self._condition:
                now = time.monotonic()
                ripe = [key for key, when in self._due.items() if when <= now]
                if not ripe:
                    self._condition.wait(min(self._due.values()) - now if self._due else None)
                    continue
            for key in ripe:
                self._write(key)

    def _write(self, key: int) -> None:
        with self._writing:
            with self._condition:
                known = self._known.get(key)
                self._first.pop(key, None)
                if self._due.pop(key, None) is None or known is None:
                    return
                document = known[0]()
                if document is None:
                    return self._forget(key)
            began = time.monotonic()
            try:
                data = self._make(document)
                if data is not None:
                    self.store.write(known[1], data, known[2])
                self._said, document.unkept = False, ""
            except Exception as problem:  # an error must not stop the autosave of other visitors
                if not self._said:
                    print(f"Étude: a visitor's work could not be kept. {problem}", flush=True)
                if not isinstance(problem, (BadInput, OSError)):
                    traceback.print_exc()
                self._said = True
                document.unkept = str(problem) if isinstance(problem, BadInput) else f"{CANNOT}."
            self._rest_sec[key] = MIN_REST * (time.monotonic() - began)
