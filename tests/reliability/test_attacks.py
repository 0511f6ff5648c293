"""Faults and attacks on a running server while another visitor works. For `make soak`."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.process.client import SILENT_SEC
from studio.project.store import new_token
from tests.helpers.clients import Client, Server, running, until, upload
from tests.helpers.soak_report import Reporter
from tests.reliability.test_load import SHORT
from tests.reliability.test_soak_projects import arrive, kept_pitch

EVERY_SEC, EDITS_SEC = 1.5, 45.0


# ---- 33: frozen workers


def frozen(server: Server, client: Client, kind: str) -> tuple[float, bool]:
    """Freeze a worker and request its work: seconds until an answer, and whether the next request succeeds."""
    os.kill(server.worker(kind), signal.SIGSTOP)
    began = time.monotonic()
    need(client, kind)
    answered = time.monotonic() - began
    return answered, need(client, kind) == ""


def need(client: Client, kind: str) -> str:
    """Move a slider, or request sound after an edit; returns the refusal, "" if none."""
    value = round(time.monotonic() % 1, 3)
    if kind == "models":
        return client.refusal(client.call("axis-tempo", "release", axis_tempo=value), 120)
    shown = client.finish(client.call("roll", "settle", {}, piano="grand"), 120)
    return str(shown["roll"].get("note") or "") if not shown["roll"].get("audio") else ""


@pytest.mark.soak
def test_frozen_workers(soak_report: Reporter) -> None:
    with running() as server:
        client = Client(server.url)
        client.open(SHORT)
        found = []
        for k in range(10):
            client.edit(k + 1, [[1, 40 + k, 0, 300, 64]])
            found.append(frozen(server, client, ("models", "sound")[k % 2]))
        alive = server.process.poll() is None
    worst, again = max(seconds for seconds, _ in found), sum(done for _, done in found)
    soak_report(
        33, "SIGSTOP of the pianist's and of the pianos' process, five times each",
        asked=f"a sentence within {SILENT_SEC + 3:.0f} s, the next try works, the server never restarts",
        found=f"answered after at most {worst:.1f} s, the next try worked {again} of {len(found)} times",
        passed=worst < SILENT_SEC + 3 and again == len(found) and alive,
    )  # fmt: skip


# ---- 34: work without a pause


def edits_kept(state: Path, seconds: float, ended_by: int) -> tuple[int, int, float]:
    """Edit without a pause until the server is killed: edits sent, edits saved, and the age of the oldest lost one."""
    token, made = new_token(), list[tuple[int, float]]()
    with running(ETUDE_STATE_DIR=str(state)) as server:
        client = Client(server.url)
        row = arrive(client, token)["notes"][0]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rev = len(made) + 1
            client.edit(rev, [[row[0], 20 + rev, *row[2:]]])
            made.append((20 + rev, time.monotonic()))
            time.sleep(EVERY_SEC)
        os.kill(server.pid, ended_by)
        ended = time.monotonic()
        server.process.wait(60)
    pitch = kept_pitch(state, token)
    lost = [ended - when for number, when in made if number > pitch]
    return len(made), len(made) - len(lost), max(lost, default=0.0)


@pytest.mark.soak
def test_no_edit_is_lost(tmp_path: Path, soak_report: Reporter) -> None:
    made, kept, oldest = edits_kept(tmp_path / "killed", EDITS_SEC, signal.SIGKILL)
    ended, all_kept, _ = edits_kept(tmp_path / "ended", EDITS_SEC / 3, signal.SIGTERM)
    soak_report(
        34, f"an edit every {EVERY_SEC} s without a pause, then kill -9; the same, then SIGTERM",
        asked="after kill -9 no edit older than 15 s is lost; after SIGTERM none",
        found=f"kill -9: {kept} of {made} kept, the oldest lost one was {oldest:.1f} s old; "
        f"SIGTERM: {all_kept} of {ended} kept",
        passed=oldest < 15 and kept > 0 and all_kept == ended,
    )  # fmt: skip


# ---- 35: what attackers send


@contextmanager
def watched(server: Server, slowest: list[float]) -> Iterator[None]:
    """The longest wait of another visitor who loads a small file ten times a second."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            began = time.monotonic()
            urllib.request.urlopen(f"{server.url}theme.css", timeout=60).read()
            slowest.append(time.monotonic() - began)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def bomb() -> bytes:
    """A project of about a megabyte that holds eight of small values."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("project.json", '{"format": "etude-project", "format_version": 1}')
        made.writestr("document.json", "[" + ",".join(["{},[],[0]"] * 800_000) + "]")
    return data.getvalue()


def attributes() -> bytes:
    """MusicXML of one element with 1.5 million attributes."""
    inside = " ".join(f'a{k}="1"' for k in range(1_500_000))
    return f'<?xml version="1.0"?><score-partwise {inside}/>'.encode()


def status(request: urllib.request.Request) -> int:
    try:
        return urllib.request.urlopen(request, timeout=60).status
    except urllib.error.HTTPError as refused:
        return refused.code
    except (OSError, urllib.error.URLError):
        return 0


def idle_uploads(server: Server, count: int) -> list[socket.socket]:
    """Sockets that announce 20 MB each and send nothing, from addresses of their own: one address may have two."""
    port = int(server.url.rsplit(":", 1)[1].strip("/"))
    head = "POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20971520\r\n"
    sockets = [
        socket.create_connection(("127.0.0.1", port), source_address=(f"127.0.1.{k + 1}", 0)) for k in range(count)
    ]
    for one in sockets:
        one.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())
    return sockets


def refused_requests(server: Server) -> int:
    """Number of refusals among eight requests that the page never sends."""
    kind = {"Content-Type": "application/json"}
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    part = '--x\r\nContent-Disposition: form-data; name="files"; filename="{}.mid"\r\n\r\nMThd\r\n'
    many = ("".join(part.format(k) for k in range(32)) + "--x--\r\n").encode()
    asked = [
        ("run/predict", b"{}", {**kind, "Host": "evil.example:7881"}),
        ("run/predict", b"{}", {**kind, "Origin": "http://evil.example"}),
        ("mcp/", b"{}", {**kind, "Origin": "http://evil.example"}),
        ("upload", many, {**form, "Origin": "null"}), ("upload", many, form),
        ("process_recording", many, form), ("deep_link?session_hash=x", None, {}), ("dev/reload", None, {}),
    ]  # fmt: skip
    found = [status(urllib.request.Request(f"{server.url}gradio_api/{p}", d, h)) for p, d, h in asked]
    return sum(400 <= code < 500 for code in found)


@pytest.mark.soak
def test_attacks_disturb_nobody(soak_report: Reporter) -> None:
    slowest, sentences = list[float](), list[str]()
    with running() as server:
        client = Client(server.url)
        client.open(SHORT)
        client.edit(1, [[1, 99, 0, 300, 64]])
        mine = upload(server, "mine.krn", b"**kern\n")
        with watched(server, slowest):
            sockets = idle_uploads(server, 24)
            for name, data in (("a.etude", bomb()), ("b.musicxml", attributes())):
                for _ in range(3):
                    file = {"path": upload(server, name, data), "orig_name": name, "meta": {"_type": "gradio.FileData"}}
                    attacker = Client(server.url)
                    sentences.append(attacker.refusal(attacker.call("open", "upload", open=file), 120))
            for k in range(210):
                body = {"data": [], "fn_index": 0, "session_hash": f"invented{k}"}
                asked = urllib.request.Request(f"{server.url}gradio_api/run/predict", json.dumps(body).encode())
                asked.add_header("Content-Type", "application/json")
                status(asked)
            refused = refused_requests(server)
        there = until(lambda: Path(mine).exists(), 1) is not None
        kept = client.download("midi") != b"" and client.call("save-midi", "click") is not None
        for one in sockets:
            one.close()
    soak_report(
        35, "24 idle uploads of 20 MB, 6 files made to freeze the server, 210 invented visits, 8 foreign requests",
        asked="nobody waits over 1 s; the visit, its edit and its upload stay; all are refused with a sentence",
        found=f"the longest wait {max(slowest):.2f} s of {len(slowest)}; visit {'stays' if kept else 'LOST'}, upload "
        f"{'stays' if there else 'LOST'}; {sum(map(bool, sentences))} of 6 sentences; {refused} of 8 refused",
        passed=max(slowest) < 1 and there and kept and all(sentences) and refused == 8,
    )  # fmt: skip
