"""Folders for visitors' files while a server runs: one per visit, below one per server, below one of this user.

A server keeps a lock on its folder until it ends. The next server removes folders without a lock when it starts, so
several servers may share the computer.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import IO

LOCK = ".lock"


class VisitFolders:
    """The folders of one server. Thread-safe.

    parent  shared by this user's servers; by default in the temporary folder
    """

    def __init__(self, parent: Path | None = None) -> None:
        name = f"etude-visits-{os.getuid()}" if hasattr(os, "getuid") else "etude-visits"
        self.parent = parent or Path(tempfile.gettempdir()) / name
        self._own: Path | None = None
        self._held: IO[str] | None = None
        self._lock = threading.Lock()

    def new(self) -> Path:
        """A folder for one visit."""
        with self._lock:
            if self._own is None or not self._own.is_dir():
                self._own = self._make_own()
            return Path(tempfile.mkdtemp(prefix="visit-", dir=self._own))

    def sweep(self) -> int:
        """Remove the folders of ended servers; returns their number."""
        gone = 0
        with contextlib.suppress(OSError):
            for folder in self.parent.iterdir():
                if folder != self._own and not folder.is_symlink() and _left(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                    gone += 1
        return gone

    def close(self) -> None:
        """Remove this server's folder, when it ends."""
        with self._lock:
            if self._own is not None:
                shutil.rmtree(self._own, ignore_errors=True)
            if self._held is not None:
                self._held.close()
            self._own = self._held = None

    def _make_own(self) -> Path:
        self.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = os.lstat(self.parent)
        ours = not self.parent.is_symlink() and about.st_uid == getattr(os, "getuid", lambda: about.st_uid)()
        own = Path(tempfile.mkdtemp(prefix="server-", dir=self.parent if ours else None))
        self._held = (own / LOCK).open("w")
        _hold(self._held)
        return own


def _hold(file: IO[str]) -> bool:
    """Try to lock a server's folder; return whether that succeeded. True if the system has no locks."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _left(folder: Path) -> bool:
    """Whether no server holds this folder. A folder without a lock file is just being created."""
    try:
        import fcntl  # noqa: F401  # without it nobody can tell: leave everything

        with (folder / LOCK).open("r+") as file:
            return _hold(file)
    except (ImportError, OSError):
        return False


VISITS = VisitFolders()  # of this process; the Document has the visit's folder
