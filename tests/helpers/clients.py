"""Visitors without a browser, for load tests: clients that send the page's events like a browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Server:
    """The app in a subprocess; its temporary files are in `folder`."""

    url: str
    process: subprocess.Popen
    folder: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def children(self) -> dict[int, str]:
        """Its subprocesses: process id to command line."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == self.pid:
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
        return found

    def megabytes(self) -> dict[str, float]:
        """Resident memory: "server", and its children by the last words of their command lines."""
        sizes = {"server": resident(self.pid)}
        for pid, command in self.children().items():
            name = next((name for name in ("models", "sound", "child") if name in command), "other")
            sizes[name] = sizes.get(name, 0.0) + resident(pid)
        return sizes

    def worker(self, kind: str = "models") -> int:
        """The process id of the engine."""
        return next(pid for pid, command in self.children().items() if f"engine.process.worker {kind}" in command)


def resident(pid: int) -> float:
    """Resident memory of a process, MB; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


@contextmanager
def running(**environment: str) -> Iterator[Server]:
    """Start the app on a free port; yields when it serves the page."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="etude-test-"))
    own = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    del own["GRADIO_TEMP_DIR"]  # set for the tests' own process; a server's uploads lie below its TMPDIR
    own |= {"PYTHONUNBUFFERED": "1", "TMPDIR": str(folder), "ETUDE_STATE_DIR": str(folder / "state")}
    process = subprocess.Popen([sys.executable, "app.py", "--port", str(port)], cwd=ROOT, env={**own, **environment})
    server = Server(f"http://127.0.0.1:{port}/", process, folder)
    try:
        until = time.monotonic() + 240
        while True:
            assert process.poll() is None, "the server ended before it served a page"
            assert time.monotonic() < until, "the server served no page within four minutes"
            try:
                urllib.request.urlopen(server.url, timeout=5).read()
                break
            except OSError:
                time.sleep(0.1)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _config(url: str) -> dict:
    return json.loads(urllib.request.urlopen(f"{url}config", timeout=60).read())


@dataclass
class Client:
    """One tab. Every call is one event of the page; components keep their initial values unless a call changes them."""

    url: str
    session: str = field(default_factory=lambda: uuid.uuid4().hex[:10])
    seconds: list[float] = field(default_factory=list)
    roll: dict = field(default_factory=dict)

    def call(self, target: str, event: str, data: Any = None, **values: Any) -> dict[str, Any]:
        """The answer: element to its new value. `values` by element, dashes as underscores; data  of the event."""
        config = _config(self.url)
        parts = {c["id"]: c for c in config["components"]}
        names = {c["id"]: c["props"].get("elem_id") for c in config["components"]}
        matching = [
            d for d in config["dependencies"] if any(e == event and names.get(c, "") == target for c, e in d["targets"])
        ]
        dependency = min(matching, key=lambda d: len(d["targets"]))  # not the event that records all changes
        given = {name.replace("_", "-"): value for name, value in values.items()}
        inputs = [
            given.get(names[i], None if parts[i]["type"] == "state" else parts[i]["props"].get("value"))
            for i in dependency["inputs"]
        ]
        body = {"data": inputs, "fn_index": dependency["id"], "session_hash": self.session, "event_data": data}
        request = urllib.request.Request(
            f"{self.url}gradio_api/run/predict", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        began = time.monotonic()
        answer = json.loads(urllib.request.urlopen(request, timeout=120).read())
        self.seconds.append(time.monotonic() - began)
        return {names.get(i): value for i, value in zip(dependency["outputs"], answer["data"], strict=True)}

    def open(self, example: str, seconds: float = 300) -> dict:
        """Open an example and wait for its performance; returns the roll's document. Raises AssertionError with the
        job's state and the sentence if it was not opened.
        """
        shown = self.finish(self.call("example", "select", example=example), seconds)
        if not (isinstance(shown.get("roll"), dict) and shown["roll"].get("doc")):
            raise AssertionError(f"not opened: {shown.get('roll')}; {self.refusal(shown) or 'no reason was given'}")
        self.roll = json.loads(shown["roll"]["doc"])
        return self.roll

    def finish(self, shown: dict, seconds: float = 300) -> dict:
        """Poll a job until it ends, like the roll; returns its result."""
        until = time.monotonic() + seconds
        while True:
            roll = shown.get("roll")
            job = json.loads(roll["job"]) if isinstance(roll, dict) and roll.get("job") else None
            if job is None or job["over"]:
                return shown
            assert time.monotonic() < until, f"not over after {seconds} s: {job}"
            shown = self.call("roll", "collect" if job["ready"] else "waiting", {"job": job["id"], "have": 0})

    def refusal(self, shown: dict, seconds: float = 60) -> str:
        """The page's notice about a failed job; "" if it succeeded."""
        job = json.loads(self.finish(shown, seconds)["roll"]["job"])
        if not job["refused"]:
            return ""
        config = _config(self.url)
        roll = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "roll")
        event = next(d["id"] for d in config["dependencies"] if [roll, "refused"] in [list(t) for t in d["targets"]])
        body = {"data": [None], "fn_index": event, "session_hash": self.session, "event_data": {"job": job["id"]}}
        kind = {"Content-Type": "application/json"}
        asked = urllib.request.Request(f"{self.url}gradio_api/queue/join", json.dumps(body).encode(), kind)
        urllib.request.urlopen(asked, timeout=60).read()
        with urllib.request.urlopen(f"{self.url}gradio_api/queue/data?session_hash={self.session}", timeout=60) as told:
            for line in told:
                news = json.loads(line[6:]) if line.startswith(b"data: ") else {}
                if news.get("msg") == "process_completed":
                    return str(news["output"]["error"])
        return ""

    def edit(self, rev: int, rows: Sequence[Sequence[int]], delete: Sequence[int] = ()) -> float:
        """Send one patch of the roll; returns the seconds until the answer."""
        data = {"doc": self.roll["id"], "rev": rev, "put": [list(r) for r in rows], "del": list(delete)}
        self.call("roll", "edit", data)
        return self.seconds[-1]

    def render(self) -> dict:
        """Press Render; returns the player's message."""
        return json.loads(self.call("render", "click")["listen"]["news"])

    def more(self, number: int, have: int = 0) -> dict:
        """Request the next part of a render, like the player."""
        return json.loads(
            self.call("listen", "more", {"render": number, "have": have, "begun": True})["listen"]["news"]
        )

    def download(self, kind: str) -> bytes:
        """The file behind a download button."""
        return self._file(self.call(f"save-{kind}", "click"))

    def _file(self, shown: dict) -> bytes:
        path = _find(shown, "path")
        return urllib.request.urlopen(f"{self.url}gradio_api/file={path}", timeout=60).read()


def upload(server: Server, name: str, data: bytes) -> str:
    """Upload a file; returns its path on the server. Raises HTTPError if it is refused."""
    mark = "a-boundary-of-this-test"
    head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{mark}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={mark}"}
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}gradio_api/upload", body, kind), timeout=120) as a:
        return json.loads(a.read())[0]


def _find(value: Any, key: str) -> Any:
    """The first value under a key, anywhere in an answer."""
    if isinstance(value, dict):
        if isinstance(value.get(key), str):
            return value[key]
        value = list(value.values())
    for inner in value if isinstance(value, list) else []:
        found = _find(inner, key)
        if found is not None:
            return found
    return None


def percentile(values: Sequence[float], share: float) -> float:
    """The `share` quantile of the values."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def until(true: Callable[[], bool], seconds: float) -> float | None:
    """Seconds until a condition is true; None after the time limit."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if true():
            return time.monotonic() - began
        time.sleep(0.05)
    return None
