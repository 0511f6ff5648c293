"""Every visitor's work on the server's disk, so that a reload or a restart brings it back; no gradio here.

A `Store` is a folder of project files, one for each tab of a visitor's browser, under names that only that browser
knows the secret of.
A `Keeper` writes them a moment after something has changed, one after the other, in a thread of its own.
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
from engine.music.types import BadInput
from studio.project_container import SUFFIX

if TYPE_CHECKING:
    from studio.session import Document

MOST_BYTES = 2_000_000_000  # of all visitors; the oldest go first
MOST_AGE_SEC = 30 * 24 * 3600.0
MOST_TABS = 12  # of one browser; the oldest go first
ASIDE_SEC = 3600.0  # what lies beside a project for so long was left by a process that was ended
WAIT_SEC = 2.0  # after the last change
LEAST_REST = 10  # times as long as the last writing took
CANNOT = "What you do here cannot be kept on this server, so save the project before you leave"
_TOKEN, _TAB = re.compile(r"[A-Za-z0-9_-]{20,64}"), re.compile(r"[A-Za-z0-9_-]{8,64}")


def state_folder() -> Path:
    """Where visitors' work is kept: ETUDE_STATE_DIR, or `etude` among the caches of whoever runs the server."""
    told = os.environ.get("ETUDE_STATE_DIR")
    if told:
        return Path(told)
    home = Path(os.path.expanduser("~"))  # Path.home() raises where there is none
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "etude"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "etude"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "etude"


def tab_of(value: object) -> str:
    """The number that a tab says it has, "" for none."""
    return value if isinstance(value, str) and _TAB.fullmatch(value) else ""


def new_token() -> str:
    """A secret that nobody guesses; the browser keeps it."""
    return secrets.token_urlsafe(24)


class Store:
    """The folder. Nothing is raised for what cannot be read; writing raises BadInput with a sentence."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES, most_age_sec: float = MOST_AGE_SEC) -> None:
        self.folder, self._most_bytes, self._most_age_sec = folder, most_bytes, most_age_sec

    def usable(self) -> bool:
        """Whether anything can be kept here; makes the folder."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            return False
        return os.access(self.folder, os.W_OK | os.X_OK)

    def path(self, token: object, tab: str = "") -> Path | None:
        """The file of a tab of a visitor's browser, which need not exist; None for what is no token."""
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            return None
        which = f"-{_digest(tab, 12)}" if tab else ""
        return self.folder / f"{_digest(token, 40)}{which}{SUFFIX}"

    def files(self, token: object) -> list[Path]:
        """What was kept of all tabs of this browser, newest first."""
        path = self.path(token)
        if path is None:
            return []
        found = [p for p in self.folder.glob(f"{path.stem}*") if p.suffix == SUFFIX]
        return sorted(found, key=_written_at, reverse=True)

    def find(self, token: object, tab: str = "") -> Path | None:
        """The file of this tab; of one that has none yet, the newest of the browser."""
        mine, known = self.path(token, tab), self.files(token)
        return mine if mine in known else known[0] if known else None

    def read(self, token: object, tab: str = "") -> bytes | None:
        """What was kept for this tab, or the newest of the browser."""
        path = self.find(token, tab)
        try:
            return None if path is None else path.read_bytes()
        except OSError:
            return None

    def write(self, token: object, data: bytes, tab: str = "") -> None:
        """Keep this for the visitor; the file is the old one or the new one, whatever happens meanwhile."""
        path = self.path(token, tab)
        if path is None or not self.usable():
            raise BadInput(f"{CANNOT}.")
        try:
            write_aside(path, data)
        except OSError:
            raise BadInput(f"{CANNOT}: its disk is full or may not be written to.") from None
        for old in self.files(token)[MOST_TABS:]:
            old.unlink(missing_ok=True)
        self.prune()

    def prune(self) -> None:
        """Remove what is old, what was left half written, and the oldest above the quota."""
        found, now = [], time.time()
        for path in self.folder.glob("*"):
            try:
                about = path.stat()
            except OSError:
                continue
            half = path.name.startswith(".")
            if now - about.st_mtime > (ASIDE_SEC if half else self._most_age_sec):
                path.unlink(missing_ok=True)
            elif not half and path.suffix == SUFFIX:
                found.append((about.st_mtime, about.st_size, path))
        size = sum(row[1] for row in found)
        for _, bytes_, path in sorted(found)[:-1]:
            if size <= self._most_bytes:
                break
            path.unlink(missing_ok=True)
            size -= bytes_


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _written_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


class Keeper:
    """Writes visitors' documents when they have been left alone for a moment.

    make  a document's file, or None when nothing of the visitor's own is in it
    """

    def __init__(self, store: Store, make: Callable[[Document], bytes | None], wait_sec: float = WAIT_SEC) -> None:
        self.store, self._make, self._wait_sec = store, make, wait_sec
        self._condition, self._thread = threading.Condition(), None
        self._due: dict[int, float] = {}
        self._known: dict[int, tuple[weakref.ref[Document], str, str]] = {}
        self._writing = threading.Lock()
        self._rest_sec, self._said = 0.0, False

    def attend(self, document: Document, token: str, tab: str = "") -> None:
        """From now on, keep what this document becomes under this token, for this tab alone."""
        key = id(document)
        with self._condition:
            self._known[key] = (weakref.ref(document), token, tab)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
        document.on_change, document.on_close = (lambda: self._changed(key)), self.leave

    def others(self, document: Document) -> list[Path]:
        """What other tabs of this document's browser were left with, newest first."""
        with self._condition:
            _, token, tab = self._known.get(id(document), (None, "", ""))
        self.flush(token)
        return [path for path in self.store.files(token) if path != self.store.path(token, tab)]

    def _changed(self, key: int) -> None:
        with self._condition:
            self._due[key] = time.monotonic() + max(self._wait_sec, self._rest_sec)
            self._condition.notify()

    def flush(self, token: str = "") -> None:
        """Write now what is waiting, of this token or of all; what is being written is there afterwards, too."""
        with self._condition:
            keys = [key for key in self._due if not token or self._known.get(key, (None, ""))[1] == token]
        for key in keys:
            self._write(key)
        with self._writing:
            return

    def leave(self, document: Document) -> None:
        """Write what is waiting of a document that is about to end, and forget it."""
        key = id(document)
        document.on_change = lambda: None
        with self._condition:
            waiting = key in self._due
        if waiting:
            self._write(key)
        with self._condition:
            self._known.pop(key, None)

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
                if self._due.pop(key, None) is None or known is None:
                    return
            document = known[0]()
            if document is None:
                with self._condition:
                    self._known.pop(key, None)
                return
            began = time.monotonic()
            try:
                data = self._make(document)
                if data is not None:
                    self.store.write(known[1], data, known[2])
                self._said = False
            except Exception as problem:  # whatever it is, the next visitor's work is kept
                if not self._said:
                    print(f"Étude: a visitor's work could not be kept. {problem}", flush=True)
                if not isinstance(problem, (BadInput, OSError)):
                    traceback.print_exc()
                self._said = True
            self._rest_sec = LEAST_REST * (time.monotonic() - began)
