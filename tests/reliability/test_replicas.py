"""Two replicas behind the proxy of docs/hosting.md: sticky sessions, and work restored on the other replica."""

from __future__ import annotations

import http.cookiejar
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from studio.project.store import new_token
from tests.helpers.clients import ROOT, Client, Server, running, until
from tests.helpers.soak_report import Reporter
from tests.reliability.test_soak_projects import arrive, kept_pitch


@contextmanager
def proxied(replicas: list[Server], folder: Path) -> Iterator[str]:
    """The documented proxy before these replicas; its address."""
    (text,) = re.findall(r"```haproxy\n(.*?)```", (ROOT / "docs" / "hosting.md").read_text(), re.DOTALL)
    port = 7860 + os.getpid() % 1000 + 1000
    for written, served in zip(("7861", "7862"), replicas, strict=True):
        text = text.replace(f"127.0.0.1:{written}", served.url.split("/")[2])
    (folder / "etude.cfg").write_text(text.replace("127.0.0.1:7860", f"127.0.0.1:{port}"))
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    proxy = subprocess.Popen([program, "-f", str(folder / "etude.cfg"), "-db"])
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        proxy.send_signal(signal.SIGTERM)
        proxy.wait(20)


def answers(url: str) -> bool:
    """Whether the proxy and a replica behind it serve the page."""
    try:
        return urllib.request.urlopen(url, timeout=30).status == 200
    except OSError:
        return False


def browser() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))


def replica_of(opener: urllib.request.OpenerDirector, url: str) -> str:
    """The replica that serves a browser."""
    opener.open(url, timeout=60).read()
    (jar,) = [h.cookiejar for h in opener.handlers if isinstance(h, urllib.request.HTTPCookieProcessor)]
    return next(cookie.value or "" for cookie in jar if cookie.name == "ETUDE")


@pytest.mark.soak
def test_a_replica_dies_and_its_visitors_go_on(
    tmp_path: Path, soak_report: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    with ExitStack() as stack:
        replicas = [stack.enter_context(running(ETUDE_STATE_DIR=str(state))) for _ in range(2)]
        url = stack.enter_context(proxied(replicas, tmp_path))
        assert until(lambda: answers(url), 60) is not None
        seen = {replica_of(browser(), url) for _ in range(6)}
        mine, token = browser(), new_token()
        first = replica_of(mine, url)
        stays = {replica_of(mine, url) for _ in range(5)} == {first}
        monkeypatch.setattr(urllib.request, "urlopen", mine.open)  # the client's requests carry the cookie
        client = Client(url)
        row = arrive(client, token)["notes"][0]
        client.edit(1, [[row[0], 33, *row[2:]]])
        kept = until(lambda: kept_pitch(state, token) == 33, 60)
        dead = replicas["ab".index(first)]
        os.kill(dead.pid, signal.SIGKILL)
        died = time.monotonic()
        dead.process.wait()
        back = arrive(replace(client, session="another", roll={}), token)["notes"][0][1]
        took = time.monotonic() - died
        second = replica_of(mine, url)
    soak_report(
        36, "two replicas behind HAProxy with a shared state folder; the visitor's own is killed",
        asked="a visitor stays with one replica; after its death the reloaded page has the work",
        found=f"replicas used {sorted(seen)}; stays: {stays}; kept after {kept or 999:.1f} s; back at the other "
        f"({first} to {second}) {took:.1f} s after the kill, with the edit: {back == 33}",
        passed=seen == {"a", "b"} and stays and back == 33 and second != first,
    )  # fmt: skip
