"""Client of a worker process: start, request, stop, and restart after a crash.

Waiting callers get EngineStopped, one sentence, within a second of a crash; the worker holds no visitor state. A job
that does not stop or exceeds its time limit is killed with its process. So is a process without a heartbeat, which it
sends every second.
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

START_SEC = 120.0  # importing torch and loading the weights, on a busy machine
GRACE_SEC = 5.0  # from the stop request to the kill
TRIES = 3  # attempts to start a process
BEAT_SEC = 0.1  # interval of the waiting caller's progress callback
SILENT_SEC = 5.0  # without a heartbeat or CPU time: the process is frozen
BUSY_SEC = 30.0  # without a heartbeat while computing: one operation may hold the interpreter for seconds
MEMORY_BYTES = 3_500_000_000
MAX_STARTS = 5  # automatic restarts in START_SEC; after that only on demand

_GONE = ("gone",)


class EngineStopped(BadInput):
    """The worker crashed or was killed; open pieces are not affected."""


STOPPED = "The engine crashed and was restarted, so this was not done; please try again."
NOT_STARTED = "The engine could not be started, so this was not done; try again in a minute."
SILENT = "The engine froze and was restarted, so this was not done; please try again."


def too_long(seconds: float) -> str:
    """The sentence for a job over its time limit."""
    return f"This took over {seconds:,.0f} seconds, so it was stopped; try again with fewer bars or a shorter piece."


class WorkerProcess:
    """One process, from start to end."""

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
        """Whether no caller waits for an answer."""
        return not self._boxes

    def open(self, number: int) -> queue.SimpleQueue:
        """Open the reply queue of job `number`."""
        box: queue.SimpleQueue = queue.SimpleQueue()
        with self._lock:
            self._boxes[number] = box
            if self.ended.is_set():
                box.put(_GONE)
        return box

    def close(self, number: int) -> None:
        """Close the reply queue of a job."""
        with self._lock:
            self._boxes.pop(number, None)

    def send(self, *message: Any) -> None:
        """Send a message without blocking, so that a stuck process cannot block the caller."""
        self._out.put(to_bytes(message))

    def kill(self) -> None:
        """Kill the process; it gets no more jobs."""
        self.killed = True
        self.process.kill()

    def memory(self) -> int:
        """Its resident bytes; 0 if unknown."""
        try:
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        except OSError:
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def silent(self) -> bool:
        """Whether the process is frozen; call it repeatedly while waiting."""
        now = time.monotonic()
        if now - self._looked > SILENT_SEC / 2:  # the first check for a while: this process may have slept as well
            self._since = self._moved = now
        self._looked = now
        quiet = now - max(self._heard, self._since)
        if quiet > SILENT_SEC / 5:
            computed = self._ticks()
            if computed is None or computed != self._computed:
                self._computed, self._moved = computed, now
        return quiet > BUSY_SEC or (quiet > SILENT_SEC and now - self._moved > SILENT_SEC - 1)

    def _ticks(self) -> int | None:
        """CPU clock ticks of the process; None if unknown."""
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
        self.process.kill()  # also after an invalid message
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
    """Supervised subprocess, restarted on demand. Thread-safe.

    kind, folder  arguments of `engine.process.worker`
    memory        resident bytes above which it is replaced when idle
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
        """Whether it runs and has loaded its models."""
        child = self._child
        return child is not None and child.ready.is_set() and not child.ended.is_set() and not child.killed

    @property
    def pid(self) -> int | None:
        """Process id of the running process."""
        child = self._child
        return None if child is None or child.ended.is_set() else child.process.pid

    def start(self) -> WorkerProcess:
        """Return the running process; start one if there is none. Does not wait, see `ready`."""
        with self._lock:
            if self._closed:
                raise EngineStopped(NOT_STARTED)
            if self._child is None or self._child.ended.is_set() or self._child.killed:
                self._child = WorkerProcess(self.kind, self.folder, self._ended)
            return self._child

    def close(self) -> None:
        """End the process for good."""
        with self._lock:
            self._closed, child = True, self._child
        if child is not None:
            child.kill()
            child.ended.wait(5)
        atexit.unregister(self.close)

    def wait(self, progress: ProgressCallback | None = None) -> WorkerProcess:
        """Wait until the process is ready; calls `progress(0)` meanwhile, which may raise. Raises EngineStopped."""
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
        """Call a method and return its result; otherwise as `stream`."""
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
        """Call a method in the process: yields parts as they arrive and returns the result.

        progress, on_note  forwarded from the job; progress is also called with the last share while idle. An exception
                           in them stops the job and propagates
        limit_sec         wall-clock limit, then the job is stopped
        Raises the method's BadInput or BundleError, and EngineStopped.
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
        """The ready process and a reply queue."""
        while True:
            child = self.wait(progress)
            with self._lock:
                if child is self._child:  # not replaced just now
                    return child, child.open(number)

    def _stop(self, child: WorkerProcess, number: int, box: queue.SimpleQueue) -> None:
        """Stop the job, or kill its process if it does not stop. Returns when it has ended."""
        child.send("stop", number)
        until = time.monotonic() + self.grace_sec
        while time.monotonic() < until:
            message = _next(box)
            if message is not None and message[0] not in ("call", "part"):
                return
        child.kill()
        child.ended.wait(self.grace_sec)

    def _slim(self, child: WorkerProcess) -> None:
        """Replace an idle process that has grown too large."""
        with self._lock:
            if child is self._child and child.idle and child.memory() > self.memory and not self._closed:
                self._child = WorkerProcess(self.kind, self.folder, self._ended)
                child.kill()

    def _ended(self, child: WorkerProcess) -> None:
        """Restart after a crash, with a limit on repeated restarts."""
        now = time.monotonic()
        self._starts = [t for t in self._starts if t > now - START_SEC]
        if self._closed or child is not self._child or not child.ready.is_set() or len(self._starts) >= MAX_STARTS:
            return
        self._starts.append(now)
        with contextlib.suppress(EngineStopped, OSError):
            self.start()


def _next(box: queue.SimpleQueue) -> Any:
    """The next message, or None."""
    try:
        return box.get(timeout=BEAT_SEC)
    except queue.Empty:
        return None


def _answer(message: tuple) -> Any:
    """Return the value of a job's last message, or raise its error."""
    kind, *rest = message
    if kind == "done":
        return rest[1]
    if kind == "refused":
        raise (BundleError if rest[1] == "BundleError" else BadInput)(rest[2])
    if kind == "broken":
        raise RuntimeError(f"the engine failed: {rest[1]}")
    raise EngineStopped(STOPPED)
