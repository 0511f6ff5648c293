"""Worker process of the engine, so that the server has no models and survives crashes.

`python -m engine.process.worker models 4711` runs the Engine, `... sound 4711` the preview pianos; 4711 is the server's
process id. Requests arrive on standard input, answers go to standard output (engine.process.wire). The worker ends with
the server. The client is engine.process.client.

    ("do", number, method, arguments, options, callbacks)    callbacks  names of options that are callbacks ("stop",
    number)                                         the job ends at its next progress callback

    ("ready",)                    once ("beat",)                     heartbeat, every BEAT_SEC from then on ("call",
    number, name, arguments)     a callback ("part", number, value)       part of a streamed answer ("done",
    number, value)       at the end, or one of these: ("stopped", number) ("refused", number, kind, sentence)   kind
    "BadInput" or "BundleError" ("broken", number, what)      a bug, printed on standard error
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from engine.music.types import BadInput, BundleError
from engine.process.frames import read_frame, write_frame
from engine.process.wire import from_bytes, to_bytes

METHODS = {
    "models": frozenset({
        "align", "compose", "compose_passages", "expression", "perform", "render_stream", "style_from", "transcribe",
        "weights",
    }),
    "sound": frozenset({"stream"}),
}  # fmt: skip


BEAT_SEC = 1.0  # see engine.process.client.SILENT_SEC
# Scheduling priority (nice) of a job's thread: interactive performances take precedence over long jobs.
NICE = {"stream": 5} | dict.fromkeys(("compose", "compose_passages", "render_stream", "transcribe"), 8)


class Stopped(BaseException):
    """Raised in a cancelled job. Not an Exception, so that no recovery catches it."""


class Host:
    """Runs requests, each job on its own thread."""

    def __init__(self, holder: Any, methods: frozenset[str], answers: BinaryIO) -> None:
        self._holder, self._methods, self._answers = holder, methods, answers
        self._speaking, self._stops = threading.Lock(), dict[int, threading.Event]()

    def say(self, *message: Any) -> None:
        """Send one message; end the process if the pipe is closed."""
        data = to_bytes(message)
        try:
            with self._speaking:
                write_frame(self._answers, data)
        except OSError:
            os._exit(0)

    def serve(self, requests: BinaryIO) -> None:
        """Answer until the requests end."""
        while (frame := read_frame(requests)) is not None:
            kind, number, *rest = from_bytes(frame)
            if kind == "stop":
                if number in self._stops:
                    self._stops[number].set()
            else:
                self._stops[number] = threading.Event()
                threading.Thread(target=self._do, args=(number, *rest), daemon=True).start()

    def _do(self, number: int, method: str, arguments: tuple, options: dict, callbacks: tuple[str, ...]) -> None:
        stop = self._stops[number]
        _be_nice(NICE.get(method, 0))

        def callback(name: str) -> Callable[..., None]:
            def called(*arguments: Any) -> None:
                if stop.is_set():
                    raise Stopped
                self.say("call", number, name, tuple(_plain(value) for value in arguments))

            return called

        try:
            if method not in self._methods:
                raise ValueError(f"a worker has no method {method}; the server asks for {sorted(self._methods)}")
            heard = {name: callback(name) for name in callbacks}
            value = getattr(self._holder, method)(*arguments, **options, **heard)
            if isinstance(value, Iterator):
                for part in value:
                    self.say("part", number, part)
                    if stop.is_set():
                        raise Stopped
                value = None
            self.say("done", number, value)
        except Stopped:
            self.say("stopped", number)
        except (BadInput, BundleError) as refusal:
            kind = "BundleError" if isinstance(refusal, BundleError) else "BadInput"
            self.say("refused", number, kind, str(refusal))
        except Exception as mistake:
            traceback.print_exc()
            self.say("broken", number, f"{type(mistake).__name__}: {mistake}")
        finally:
            del self._stops[number]


def _be_nice(level: int) -> None:
    """Lower the priority of this thread, if the system has priorities per thread."""
    if level and sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), level)


def _plain(value: Any) -> Any:
    """A numpy scalar as a Python number."""
    return value.item() if hasattr(value, "item") else value


def _hold(kind: str, folder: Path | None) -> Any:
    """The object that runs requests. Loads the models needed first; a damaged checkpoint is reported on use."""
    if kind == "sound":
        from engine.sound.preview import Preview

        preview = Preview()
        with contextlib.suppress(BadInput):
            preview.load()
        return preview
    from engine.engine import Engine

    engine = Engine.load(folder)
    with contextlib.suppress(BundleError):
        assert engine.pianist
    return engine


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, even during imports."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _load_rest(engine: Any) -> None:
    with contextlib.suppress(BadInput, BundleError):
        assert engine.composer
        assert engine.fitted  # no weights, but its imports take a second
        assert engine.renderer


def _beat(host: Host) -> None:
    """Send the heartbeat."""
    while True:
        time.sleep(BEAT_SEC)
        host.say("beat")


def main() -> None:
    """Serve. Arguments: "models" or "sound", the server's process, the folder of checkpoints.

    Library output goes to the log.
    """
    kind, parent, *rest = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, which closes our input
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    warnings.simplefilter("ignore")
    holder = _hold(kind, Path(rest[0]) if rest else None)
    host = Host(holder, METHODS[kind], answers)
    host.say("ready")
    threading.Thread(target=_beat, args=(host,), daemon=True).start()
    if kind == "models":
        threading.Thread(target=_load_rest, args=(holder,), daemon=True).start()
    host.serve(requests)
    os._exit(0)  # without waiting for running jobs


if __name__ == "__main__":
    main()
