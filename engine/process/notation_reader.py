"""Reading and engraving of notation, isolated in a child process that may hang, exhaust memory or crash.

`ReaderChild` is the parent's side. The child runs `python -m engine.process.notation_reader`: it reads frames from
standard input, each a request (kind, file), and writes an answer (a Score as .npz, engraved pages, or a sentence) to
standard output.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from engine.limits import READ_MEMORY_BYTES, READ_SECONDS
from engine.music.io.engrave import CANNOT_ENGRAVE
from engine.music.score_bytes import score_from_bytes, score_to_bytes
from engine.music.types import BadInput, Score
from engine.process.frames import MAX_ANSWER_BYTES, read_frame, write_frame

WAIT_SECONDS = 20.0  # wall-clock time
START_SECONDS = 60.0  # the imports, on a busy machine
HEAD_BYTES = 120  # of a request: its kind and time limit
_JOBS_PER_CHILD = 200  # then a new one, against memory leaks


@dataclass(frozen=True)
class Refusals:
    """Sentences for the failures of one kind of work."""

    damaged: str
    too_slow: str
    too_big: str


READING = Refusals(
    "This file cannot be read as a score; it may be damaged: open it in a notation program and export it again.",
    f"Reading this file took over {READ_SECONDS} seconds; open a shorter piece, or export it again.",
    "Reading this file took too much memory; open a shorter piece, or export it again.",
)
ENGRAVING = Refusals(
    CANNOT_ENGRAVE,
    f"Engraving this score takes over {READ_SECONDS} seconds; open a part of it, or save it as MusicXML.",
    "Engraving this score takes too much memory; open a part of it, or save it as MusicXML.",
)


ALL_PARTS = "+all"
TOO_BIG, DAMAGED = "too big", "damaged"  # for `call`, whose caller has the sentences


class ReaderChild:
    """A child process, started at first use and after each crash. Not thread-safe."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None
        self.folder: str | None = None
        self.jobs = 0
        self.imported: set[str] = set()  # modules that this process has
        atexit.register(self.stop)

    def start(self, check: Callable[[], None] | None = None) -> None:
        """Start the process if needed; returns after its imports. Raises BadInput on failure."""
        if self.process is not None and self.process.poll() is None:
            return
        self.stop()
        self.folder = tempfile.mkdtemp(prefix="etude-read-")
        root = str(Path(__file__).resolve().parents[__name__.count(".")])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        quiet = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.notation_reader"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, cwd=self.folder,
            env={**os.environ, **quiet, "PYTHONPATH": path, "TMPDIR": self.folder},
        )  # fmt: skip
        self.jobs, self.imported = 0, set()
        first = None
        with contextlib.suppress(TimeoutError):
            first = self._next_frame(START_SECONDS, check)
        if first != b"ready":
            self.stop()
            raise BadInput("The reader process could not start; try again in a minute.")

    def stop(self) -> int | None:
        """Kill the process and clean up; return its exit code."""
        code = None
        process, self.process = self.process, None  # at exit another thread may run this too
        folder, self.folder = self.folder, None
        if process is not None:
            if process.stdout is not None and process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)  # a crashing process may still report its exit code
            process.kill()
            code = process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return code

    def read(self, kind: str, data: bytes, check: Callable[[], None] | None = None) -> Score:
        """Parse `data` within 8 s of computing, 20 s on the clock and 1.5 GB.

        kind   "musicxml", "mei", "kern" or "abc"; "xml" for one of the first two, after a scan for limits; with the
               suffix `ALL_PARTS` the voice of a song is included
        check  called several times a second; an exception in it ends the process and propagates
        Raises BadInput with the reason.
        """
        return score_from_bytes(self.ask(kind, data, READING, check))

    def call(
        self, function: str, data: bytes, refusals: Refusals, check: Callable[[], None] | None = None, needs: str = ""
    ) -> bytes:
        """Call "module:function" with `data` in the child and return its bytes. Raises BadInput, as `read`.

        needs  a library to import first: "partitura"; imports do not count as reading, for they can take many seconds
               on a busy machine
        """
        for module in (needs, function.partition(":")[0]):
            if module and module not in self.imported:
                self.ask(f"import:{module}", b"", refusals, check, START_SECONDS)
                self.imported.add(module)
        return self.ask(f"call:{function}", data, refusals, check)[1:]

    def ask(
        self, kind: str, data: bytes, refusals: Refusals, check: Callable[[], None] | None = None,
        wait: float | None = None,
    ) -> bytes:  # fmt: skip
        """The child's answer to one request, under the limits of `read`. Raises BadInput with one of `refusals`."""
        self.start(check)
        assert self.process is not None
        assert self.process.stdin is not None
        self.jobs += 1
        try:
            write_frame(self.process.stdin, f"{kind} {READ_SECONDS}".encode().ljust(HEAD_BYTES) + data)
            answer = self._next_frame(WAIT_SECONDS if wait is None else wait, check)
        except TimeoutError as error:
            self.stop()
            raise BadInput(refusals.too_slow) from error
        except OSError:  # the child ended before it had read all
            answer = None
        if answer is None:
            code = self.stop()
            raise BadInput(refusals.too_slow if code == -getattr(signal, "SIGXCPU", 0) else refusals.damaged)
        if self.jobs >= _JOBS_PER_CHILD:
            self.stop()
        if answer[:1] == b"{":
            sentence = json.loads(answer)["sentence"]
            if sentence in (refusals.too_big, TOO_BIG):
                self.stop()
            raise BadInput({TOO_BIG: refusals.too_big, DAMAGED: refusals.damaged}.get(sentence, sentence))
        return answer

    def _next_frame(self, seconds: float, check: Callable[[], None] | None = None) -> bytes | None:
        """The child's next frame, None if it has ended. Raises TimeoutError, and ends the child if `check` raises."""
        assert self.process is not None
        assert self.process.stdout is not None
        box: queue.Queue = queue.Queue()
        stream = self.process.stdout
        threading.Thread(target=lambda: box.put(_read_or_none(stream)), daemon=True).start()
        until = time.monotonic() + seconds
        while True:
            try:
                return box.get(timeout=min(0.2, seconds))
            except queue.Empty as error:
                if time.monotonic() >= until:
                    raise TimeoutError from error
            try:
                if check is not None:
                    check()
            except BaseException:
                self.stop()
                raise


def _read_or_none(stream: BinaryIO) -> bytes | None:
    try:
        return read_frame(stream)
    except (OSError, ValueError):  # closed by another thread
        return None


# ---- the child's side


def _limit() -> None:
    """Limit memory and file size and disable core dumps, if the system supports it."""
    try:
        import resource
    except ImportError:  # Windows: only the time limit
        return
    for what, most in (
        (resource.RLIMIT_AS, READ_MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, MAX_ANSWER_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))


def _allow(seconds: int) -> None:
    """Set the CPU time limit of this process to some seconds more."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, most))


def _answer(kind: str, data: bytes) -> bytes:
    """A Score's bytes, or engraved pages, or a sentence as JSON."""
    refusals = ENGRAVING if kind.startswith("engrave") else READING
    try:
        if kind == "import:partitura":
            from engine.music.io._partitura import load_partitura

            return b"=" + load_partitura().__name__.encode()
        if kind.startswith("import:"):
            return b"=" + importlib.import_module(kind.removeprefix("import:")).__name__.encode()
        if kind.startswith("call:"):
            return b"=" + _called(kind.removeprefix("call:"), data)
        return _engrave(kind, data) if kind.startswith("engrave") else score_to_bytes(_read(kind, data))
    except BadInput as error:
        sentence = str(error)
    except MemoryError:
        sentence = TOO_BIG if kind.startswith("call:") else refusals.too_big
    except Exception:  # any parser error on an untrusted file
        sentence = DAMAGED if kind.startswith("call:") else refusals.damaged
    return json.dumps({"sentence": sentence}).encode()


def _called(function: str, data: bytes) -> bytes:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(data)


def _read(kind: str, data: bytes) -> Score:
    from engine.music.io import kern, xml_scan
    from engine.music.io import read_musicxml as notation

    all_parts = kind.endswith(ALL_PARTS)
    kind = kind.removesuffix(ALL_PARTS)
    if kind == "xml":
        kind = xml_scan.scan_xml(data)
    if kind == "musicxml":
        score = notation.read_musicxml(data, all_parts)
        if all_parts:  # a document is patched by its reading without the voice
            return score
        return replace(score, document=zlib.compress(data))
    if kind == "kern":
        return kern.read_kern(data, all_parts)
    if kind == "abc":
        from engine.music.document.abc import read_abc

        return read_abc(data)
    assert kind == "mei"
    return notation.read_mei(data, all_parts)


def _engrave(kind: str, data: bytes) -> bytes:
    """Pages of a Score's bytes; `kind` is "engrave" and the width, as in "engrave1100"."""
    from engine.music.io.engrave import engrave_here, engraving_to_bytes

    return engraving_to_bytes(engrave_here(score_from_bytes(data), int(kind.removeprefix("engrave"))))


def main() -> None:
    """Answer requests until standard input ends. Library output is discarded."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    warnings.simplefilter("ignore")
    from engine.music.io import read_musicxml  # before the limits, which then apply to the file alone

    assert read_musicxml
    _limit()
    write_frame(answers, b"ready")
    while (request := read_frame(requests)) is not None:
        kind, seconds = request[:HEAD_BYTES].decode().split()
        _allow(int(seconds))
        write_frame(answers, _answer(kind, request[HEAD_BYTES:]))


if __name__ == "__main__":
    main()
