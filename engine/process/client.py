"""The server's side of a worker: started, asked, stopped, and started again when it dies.

Whoever waits for an answer hears within a second that the worker is gone, in one sentence; nothing of a visitor's was
there. A job that does not stop when told to, or takes too long, is ended together with its process; so is a process
that has fallen silent, which says every second that it runs.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine.music.types import BadInput, BundleError
from engine.process.frames import read_frame, write_frame
from engine.process.wire import from_bytes, to_bytes
from engine.progress import ProgressCallback

START_SEC = 120.0  # importing torch and reading the weights, on a busy machine
GRACE_SEC = 5.0  # from being told to stop to the end of the process
TRIES = 3  # a process that dies while it starts is tried again
BEAT_SEC = 0.1  # how often whoever waits is asked whether it still wants to
SILENT_SEC = 5.0  # without a word of a process that does not compute either: it is frozen
BUSY_SEC = 30.0  # without a word of one that computes: a single operation may hold the interpreter for seconds
MEMORY_BYTES = 3_500_000_000
MAX_STARTS = 5  # by itself, in START_SEC; then it waits until somebody asks

_GONE = ("gone",)


class EngineStopped(BadInput):
    """The worker has died, or was ended: not the visitor's fault, and nothing that was open is lost."""


STOPPED = "The engine stopped while it was at work, so this was not done; it has been started again, press again."
NOT_STARTED = "The engine could not be started, so this was not done; try again in a minute."
SILENT = "The engine fell silent while it was at work, so this was not done; it has been started again, press again."


def too_long(seconds: float) -> str:
    """What is said of a job that was ended for its time."""
    return f"This took over {seconds:,.0f} seconds, so it was ended; try again with fewer bars or a shorter piece."


class WorkerProcess:
    """One process from its start to its death."""

    def __init__(self, kind: str, folder: Path | None, on_end: Callable[[WorkerProcess], None]) -> None:
        root = str(Path(__file__).resolve().parents[__name__.count(".")])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        arguments = [sys.executable, "-m", f"{__package__}.worker", kind, str(os.getpid())]
        arguments += [] if folder is None else [str(folder)]
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
        )
        self.ready, self.ended, self.killed = threading.Event(), threading.Event(), False
        self._boxes: dict[int, queue.SimpleQueue] = {}
        self._heard = self._looked = self._since = self._moved = time.monotonic()  # see `silent`
        self._computed: int | None = None
        self._lock, self._out, self._on_end = threading.Lock(), queue.SimpleQueue(), on_end
        for work in (self._read, self._write):
            threading.Thread(target=work, daemon=True).start()

    @property
    def idle(self) -> bool:
        """Nobody waits for an answer."""
        return not self._boxes

    def open(self, number: int) -> queue.SimpleQueue:
        """A box for the messages about job `number`."""
        box: queue.SimpleQueue = queue.SimpleQueue()
        with self._lock:
            self._boxes[number] = box
            if self.ended.is_set():
                box.put(_GONE)
        return box

    def close(self, number: int) -> None:
        """Nobody reads this box any more."""
        with self._lock:
            self._boxes.pop(number, None)

    def send(self, *message: Any) -> None:
        """Send a message, without waiting until it is read: a stuck process must not hold whoever asks it."""
        self._out.put(to_bytes(message))

    def kill(self) -> None:
        """End the process at once; nobody is given it any more."""
        self.killed = True
        self.process.kill()

    def memory(self) -> int:
        """Its resident bytes; 0 where the system does not say."""
        try:
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        except OSError:
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def silent(self) -> bool:
        """Whether the process is frozen; to be called again and again while somebody waits for it."""
        now = time.monotonic()
        if now - self._looked > SILENT_SEC / 2:  # the first look for a while: this process may have slept as well
            self._since = self._moved = now
        self._looked = now
        quiet = now - max(self._heard, self._since)
        if quiet > SILENT_SEC / 5:
            computed = self._ticks()
            if computed is None or computed != self._computed:
                self._computed, self._moved = computed, now
        return quiet > BUSY_SEC or (quiet > SILENT_SEC and now - self._moved > SILENT_SEC - 1)

    def _ticks(self) -> int | None:
        """Clock ticks of the processor that the process has had; None where the system does not say."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return int(fields[11]) + int(fields[12])

    def _write(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            while (data := self._out.get()) is not None:
                write_frame(self.process.stdin, data)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while (frame := read_frame(self.process.stdout)) is not None:
                message = from_bytes(frame)
                self._heard = time.monotonic()
                if message[0] == "ready":
                    self.ready.set()
                elif message[0] == "beat":
                    continue
                elif (box := self._boxes.get(message[1])) is not None:
                    box.put(message)
        self.process.kill()  # also one that talks nonsense
        self.process.wait()
        self._out.put(None)
        with self._lock:
            self.ended.set()
            for box in self._boxes.values():
                box.put(_GONE)
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._on_end(self)


class Worker:
    """A process that is there when it is needed. Thread-safe.

    kind, folder  as `engine.process.worker` takes them
    memory        resident bytes above which it is exchanged for a fresh one as soon as nobody waits for it
    """

    def __init__(
        self, kind: str, folder: Path | None = None, memory: int = MEMORY_BYTES, grace_sec: float = GRACE_SEC
    ) -> None:
        self.kind, self.folder, self.memory, self.grace_sec = kind, folder, memory, grace_sec
        self._child: WorkerProcess | None = None
        self._lock, self._numbers = threading.Lock(), itertools.count(1)
        self._starts: list[float] = []
        self._closed = False
        atexit.register(self.close)

    @property
    def ready(self) -> bool:
        """It runs and has loaded what it needs."""
        child = self._child
        return child is not None and child.ready.is_set() and not child.ended.is_set() and not child.killed

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        child = self._child
        return None if child is None or child.ended.is_set() else child.process.pid

    def start(self) -> WorkerProcess:
        """The process that runs; a new one if there is none. Returns at once, see `ready`."""
        with self._lock:
            if self._closed:
                raise EngineStopped(NOT_STARTED)
            if self._child is None or self._child.ended.is_set() or self._child.killed:
                self._child = WorkerProcess(self.kind, self.folder, self._ended)
            return self._child

    def close(self) -> None:
        """End the process; none will follow."""
        with self._lock:
            self._closed, child = True, self._child
        if child is not None:
            child.kill()
            child.ended.wait(5)
        atexit.unregister(self.close)

    def wait(self, progress: ProgressCallback | None = None) -> WorkerProcess:
        """The process, once it is ready; `progress` is told 0 meanwhile and may raise. Raises EngineStopped."""
        until, tries = time.monotonic() + START_SEC, TRIES
        while True:
            child = self.start()
            if child.ready.wait(BEAT_SEC) and not child.ended.is_set() and not child.killed:
                return child
            tries -= child.ended.is_set()
            if not tries or time.monotonic() > until:
                child.kill()
                raise EngineStopped(NOT_STARTED)
            if progress is not None:
                progress(0.0)

    def call(
        self, method: str, *arguments: Any, limit_sec: float, progress: ProgressCallback | None = None,
        on_note: Callable[..., None] | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """The answer of a method that gives one; otherwise as `stream`."""
        asked = self.stream(method, *arguments, limit_sec=limit_sec, progress=progress, on_note=on_note, **options)
        while True:
            try:
                next(asked)
            except StopIteration as end:
                return end.value

    def stream(
        self, method: str, *arguments: Any, limit_sec: float, progress: ProgressCallback | None = None,
        on_note: Callable[..., None] | None = None, **options: Any,
    ) -> Iterator[Any]:  # fmt: skip
        """Have the process do something: its parts as they come, its answer as the generator's value.

        progress, on_note  called here as the job calls them there; progress also, with the last share, while nothing
                          happens. What they raise stops the job and goes on
        limit_sec         on the clock, then it is ended
        Raises what the method refuses, and EngineStopped.
        """
        heard = {name: fn for name, fn in (("progress", progress), ("on_note", on_note)) if fn is not None}
        number, over, share = next(self._numbers), False, 0.0
        child, box = self._reserve(number, progress)
        until = time.monotonic() + limit_sec
        try:
            child.send("do", number, method, arguments, options, tuple(heard))
            while True:
                message = _next(box)
                if message is None:
                    if time.monotonic() > until:
                        raise EngineStopped(too_long(limit_sec))
                    if child.silent():
                        child.kill()
                        raise EngineStopped(SILENT)
                    if progress is not None:
                        progress(share)
                elif message[0] == "call":
                    share = message[3][0] if message[2] == "progress" else share
                    heard[message[2]](*message[3])
                elif message[0] == "part":
                    yield message[2]
                else:
                    over = True
                    return _answer(message)
        finally:
            if not over:
                self._stop(child, number, box)
            child.close(number)
            self._slim(child)

    def _reserve(self, number: int, progress: ProgressCallback | None) -> tuple[WorkerProcess, queue.SimpleQueue]:
        """The process, ready, and a box in it."""
        while True:
            child = self.wait(progress)
            with self._lock:
                if child is self._child:  # not exchanged just now
                    return child, child.open(number)

    def _stop(self, child: WorkerProcess, number: int, box: queue.SimpleQueue) -> None:
        """Have the job end; with its process, when it does not obey. Returns when no more is computed."""
        child.send("stop", number)
        until = time.monotonic() + self.grace_sec
        while time.monotonic() < until:
            message = _next(box)
            if message is not None and message[0] not in ("call", "part"):
                return
        child.kill()
        child.ended.wait(self.grace_sec)

    def _slim(self, child: WorkerProcess) -> None:
        """Exchange a process that has grown too large, if nobody waits for it."""
        with self._lock:
            if child is self._child and child.idle and child.memory() > self.memory and not self._closed:
                self._child = WorkerProcess(self.kind, self.folder, self._ended)
                child.kill()

    def _ended(self, child: WorkerProcess) -> None:
        """A process has died: have the next one ready, but not over and over."""
        now = time.monotonic()
        self._starts = [t for t in self._starts if t > now - START_SEC]
        if self._closed or child is not self._child or not child.ready.is_set() or len(self._starts) >= MAX_STARTS:
            return
        self._starts.append(now)
        with contextlib.suppress(EngineStopped, OSError):
            self.start()


def _next(box: queue.SimpleQueue) -> Any:
    """The next message, None if there is none yet."""
    try:
        return box.get(timeout=BEAT_SEC)
    except queue.Empty:
        return None


def _answer(message: tuple) -> Any:
    """The value of the last message about a job, or what it stands for, raised."""
    kind, *rest = message
    if kind == "done":
        return rest[1]
    if kind == "refused":
        raise (BundleError if rest[1] == "BundleError" else BadInput)(rest[2])
    if kind == "broken":
        raise RuntimeError(f"the engine failed: {rest[1]}")
    raise EngineStopped(STOPPED)
