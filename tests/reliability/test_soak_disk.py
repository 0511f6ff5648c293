"""A full disk during rendering, saving and uploading: one sentence, no partial file, recovery with free space."""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import soundfile

from engine.files import FULL
from engine.music.types import BadInput
from studio.project.document import read_project
from tests.engine.music.test_midi import assert_sentence
from tests.helpers.clients import Client, Server, running, until, upload
from tests.helpers.soak_report import Reporter
from tests.reliability.test_load import SHORT, as_heard, outcome, short_render

LONG = "Schumann, Kreisleriana no. 4"
MEGABYTES = 48


class Disk:
    """A small mounted disk; without permission to mount, a limit on file growth stands in for the full disk."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.server_pid = folder, 0
        mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
        self.mounted = sys.platform == "linux" and subprocess.run(mount, capture_output=True).returncode == 0

    def fill(self) -> None:
        if not self.mounted:
            resource.prlimit(self.server_pid, resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
            return
        with (self.folder / "ballast").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def empty(self) -> None:
        if self.mounted:
            (self.folder / "ballast").unlink()
        else:
            resource.prlimit(self.server_pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    disk = Disk(tmp_path_factory.mktemp("disk"))
    yield disk
    if disk.mounted:
        subprocess.run(["umount", "-l", str(disk.folder)], check=True)


@pytest.fixture(scope="module")
def server(disk: Disk) -> Iterator[Server]:
    with running(TMPDIR=str(disk.folder), ETUDE_STATE_DIR=str(disk.folder / "state")) as server:
        disk.server_pid = server.pid
        yield server


def files(disk: Disk) -> dict[Path, int]:
    """The files on the disk with their sizes, except unfinished renders, which are valid at any length."""
    paths = [p for p in disk.folder.rglob("*") if p.is_file() and p.name != "ballast" and p.suffix != ".pcm"]
    return {path: path.stat().st_size for path in paths}


def readable(path: Path) -> bool:
    """Whether a file of sound or a project is whole."""
    try:
        if path.suffix in (".wav", ".flac"):
            return len(soundfile.read(io.BytesIO(path.read_bytes()))[0]) > 0
        return path.suffix != ".etude" or read_project(path.read_bytes()) is not None
    except (soundfile.LibsndfileError, BadInput):
        return False


@contextmanager
def full(disk: Disk) -> Iterator[None]:
    disk.fill()
    try:
        yield
    finally:
        disk.empty()


def refused(ask: Callable[[], object]) -> str:
    """The message of a refused request."""
    try:
        answer = ask()
    except urllib.error.HTTPError as error:
        body = error.read().decode()
        return str(json.loads(body)["error"]) if body.startswith("{") else body
    return str(answer)


def one_round(server: Server, disk: Disk, client: Client) -> list[str]:
    """Render, save and upload on a full disk, then with free space; returns the errors."""
    wrong, before = [], as_heard(client)
    news = client.render()
    number = news["state"]["number"]
    assert until(lambda: client.more(number, 10**9)["state"]["have"] > 0, 120) is not None, "the render began"
    there = files(disk)
    with full(disk):
        said = {"render": outcome(client, client.more(number, 10**9), 60)[0]}
        said["save"] = refused(lambda: client.refusal(client.call("save-project", "click")))
        said["download"] = refused(lambda: client.refusal(client.call("save-wav", "click")))
        said["upload"] = refused(lambda: upload(server, "a.mid", bytes(300_000)))
        for name, sentence in said.items():
            ok = sentence == FULL or "room" in sentence or not disk.mounted
            wrong += [] if ok and sentence.endswith(".") else [f"{name}: {sentence[:80]}"]
            assert_sentence(BadInput(sentence))
        wrong += [f"half file {p.name}" for p, size in files(disk).items() if there.get(p) != size and not readable(p)]
        wrong += [f"left {p.name}" for p in files(disk) if p not in there and p.stat().st_size == 300_000]
    wrong += [] if outcome(client, short_render(client), 120)[0] == "sound" else ["no render with room again"]
    wrong += [] if Path(upload(server, "a.mid", bytes(300_000))).stat().st_size == 300_000 else ["no upload"]
    shown = client.finish(client.call("save-project", "click"))
    wrong += [] if shown["roll"].get("file") else ["no project with room again"]
    return wrong + ([] if as_heard(client) == before else ["other notes than before"])


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [1, pytest.param(10, marks=pytest.mark.soak)])
def test_a_full_disk(count: int, server: Server, disk: Disk, soak_report: Reporter) -> None:
    client, wrong = Client(server.url), []
    client.open(LONG)
    for _ in range(count):
        wrong += one_round(server, disk, client)
    assert Client(server.url).open(SHORT)["notes"]
    soak_report(
        21, "disk full during render, save, download, upload",
        asked="sentence, no half file, recovers when space is back",
        found=f"{count} times on {f'a disk of {MEGABYTES} MB' if disk.mounted else 'files that may not grow'}: "
        f"{wrong[:4] or 'each time a sentence, no half file, and all four work with room again'}",
        passed=not wrong,
    )  # fmt: skip
