"""Retention in the state folder: remove Étude's own files by server running time since their last use.

The computer's clock is not trusted: a jump of a month, or files dated 1970, would remove everybody's work. So an index
holds the seconds that servers have run on this folder and, for each file, that count at its last write or read. A file
that is not in the index counts as used now.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.files import write_aside
from engine.limits import KEPT_FRESH_SEC

INDEX = "index.json"
ASIDE_SEC = 3600.0  # age at which a partial file is considered abandoned
PROJECT = re.compile(r"[0-9a-f]{40}(?:-[0-9a-f]{12})?\.etude")
ASIDE = re.compile(r"\.(?:[0-9a-f]{40}|index\.json)\.\w{8}")  # as write_aside names them


class Retention:
    """The index of one folder. Safe to call from several threads; several servers may share the folder.

    clock  monotonic seconds; time.monotonic
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock, self._lock = folder, clock, threading.Lock()
        self._last = clock()
        self._halves: dict[str, float] = {}

    def own(self) -> list[Path]:
        """The project files of the folder."""
        try:
            return [path for path in self._folder.iterdir() if PROJECT.fullmatch(path.name) and path.is_file()]
        except OSError:
            return []

    def used(self, *names: str) -> None:
        """Record that these files are used now. Does nothing if the folder is read-only."""
        with self._changed() as (now, seen):
            seen.update(dict.fromkeys(names, now))

    def prune(self, most_bytes: int, most_age_sec: float, keep: str = "") -> None:
        """Remove files unused for too long; then, above the quota, the longest unused ones over a week old."""
        self._prune_asides()
        with self._changed() as (now, seen):
            found = self.own()
            for name in set(seen) - {path.name for path in found}:
                del seen[name]
            ages = {path: max(0.0, now - seen.setdefault(path.name, now)) for path in found}
            sizes = {path: _size(path) for path in found}
            left = sum(sizes.values())
            for path in sorted(found, key=lambda path: -ages[path]):
                old = ages[path] > most_age_sec
                if path.name != keep and (old or (left > most_bytes and ages[path] > KEPT_FRESH_SEC)):
                    path.unlink(missing_ok=True)
                    left -= sizes[path]
                    seen.pop(path.name, None)

    def room(self, most_bytes: int, path: Path, bytes_: int) -> bool:
        """Whether a file of this size fits the quota; over it, a file may be replaced by one that is no larger."""
        left = sum(_size(other) for other in self.own() if other != path)
        return left + bytes_ <= most_bytes or bytes_ <= _size(path)

    def _prune_asides(self) -> None:
        """Remove partial files that this process has seen for an hour."""
        now = self._clock()
        try:
            names = {path.name for path in self._folder.iterdir() if ASIDE.fullmatch(path.name) and path.is_file()}
        except OSError:
            return
        self._halves = {name: self._halves.get(name, now) for name in names}
        for name, since in self._halves.items():
            if now - since > ASIDE_SEC:
                (self._folder / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _changed(self) -> Iterator[tuple[float, dict[str, float]]]:
        """Context manager: the present second and the index, which is written on exit."""
        with self._lock, _alone(self._folder):
            elapsed, seen = self._read()
            moment = self._clock()
            elapsed, self._last = elapsed + max(0.0, moment - self._last), moment
            yield elapsed, seen
            with contextlib.suppress(OSError):
                write_aside(self._folder / INDEX, json.dumps({"elapsed_sec": elapsed, "seen_sec": seen}).encode())

    def _read(self) -> tuple[float, dict[str, float]]:
        try:
            told = json.loads((self._folder / INDEX).read_bytes())
            seen = {str(name): float(sec) for name, sec in told["seen_sec"].items() if PROJECT.fullmatch(str(name))}
            return max(0.0, float(told["elapsed_sec"])), seen
        except (OSError, ValueError, TypeError, KeyError, AttributeError):  # missing or damaged: all are used now
            return 0.0, {}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock between servers that share a folder, where the system supports it."""
    try:
        import fcntl

        with (folder / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except (ImportError, OSError):
        yield
