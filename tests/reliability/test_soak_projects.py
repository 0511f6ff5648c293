"""Projects: a server killed during autosave, damaged files, and round trips."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.music.expression import deadpan
from engine.music.io.midi import read_midi_performance, write_midi, write_midi_locked
from engine.music.io.read_musicxml import read_musicxml
from engine.music.io.write_musicxml import write_musicxml
from engine.music.types import BadInput, Performance, Score
from engine.untrusted.scores import open_score
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.project.document import Project, adopt, project_of, read_project, write_project
from studio.project.store import Autosaver, SessionStore, new_token
from studio.state.examples import EXAMPLES
from studio.state.session import Grid, Session
from tests.engine.music.test_midi import assert_sentence, mutate, sorted_notes
from tests.engine.music.test_write_musicxml import NOTATION, assert_same
from tests.helpers.clients import Client, Server, running, until, upload
from tests.helpers.soak_report import Reporter
from tests.reliability.test_load import SHORT, as_heard
from tests.studio.test_project_files import a_session, changed, members, zipped

# ---- 19: killed while it keeps what visitors do


def _keep_for_ever(folder: str, token: str) -> None:
    """Autosave two works alternately without end."""
    autosaver = Autosaver(SessionStore(Path(folder)), lambda document: write_project(project_of(document))[0])
    document, works = Document(), [a_session("Old" * 300), a_session("New" * 300)]
    autosaver.attend(document, token)
    while True:
        for work in works:
            document.update(lambda now, work=work: work)
            autosaver.flush(token)


def killed_keepers(folder: Path, count: int) -> list[str]:
    """Kill an autosaving process at `count` random moments; returns the titles of the saved works, "" for damage."""
    token, found, draw = new_token(), [], random.Random(19)
    store, context = SessionStore(folder), multiprocessing.get_context("fork")
    assert store.usable()
    store.write(token, write_project(Project(a_session("Old" * 300)))[0])
    for _ in range(count):
        child = context.Process(target=_keep_for_ever, args=(str(folder), token), daemon=True)
        child.start()
        time.sleep(0.02 + 0.08 * draw.random())
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join(10)
        try:
            found.append(read_project(store.read(token) or b"").session.title[:3])
        except BadInput:
            found.append("")
    return found


def arrive(client: Client, token: str) -> dict:
    """Open the page again with the browser's secret."""
    config = json.loads(urllib.request.urlopen(f"{client.url}config", timeout=60).read())
    parts = {c["id"]: c for c in config["components"]}
    event = next(
        d for d in config["dependencies"]
        if any(e == "load" for _, e in d["targets"]) and any(parts[i]["type"] == "browserstate" for i in d["inputs"])
    )  # fmt: skip
    values = {"browserstate": {"token": token, "start": False}, "state": None}
    inputs = [values.get(parts[i]["type"], parts[i]["props"].get("value")) for i in event["inputs"]]
    body = {"data": inputs, "fn_index": event["id"], "session_hash": client.session}
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{client.url}gradio_api/run/predict", json.dumps(body).encode(), kind)
    answer = json.loads(urllib.request.urlopen(request, timeout=120).read())
    names = [parts[i]["props"].get("elem_id") for i in event["outputs"]]
    shown = client.finish(dict(zip(names, answer["data"], strict=True)))
    client.roll = json.loads(shown["roll"]["doc"])
    return client.roll


def killed_servers(state: Path, count: int) -> list[str]:
    """Kill the server near an autosave: whether the saved notes are the old or the new ones."""
    token, draw, found, pitch = new_token(), random.Random(20), [], 0
    for k in range(count):
        with running(ETUDE_STATE_DIR=str(state)) as server:
            client = Client(server.url)
            notes = arrive(client, token)["notes"]
            if k:
                found.append({pitch: "new", pitch - 1: "old"}.get(notes[0][1], "neither"))
            row = notes[0]
            for rev, pitch in enumerate((40 + 2 * k, 41 + 2 * k), 1):
                client.edit(rev, [[row[0], pitch, *row[2:]]])
                if rev == 1:  # the old one is kept
                    assert until(lambda p=pitch: kept_pitch(state, token) == p, 30) is not None
            time.sleep(1.9 + 0.4 * draw.random())
            os.kill(server.pid, signal.SIGKILL)
            server.process.wait()
    kept = kept_pitch(state, token)
    return [*found, {pitch: "new", pitch - 1: "old"}.get(kept, "neither")]


def kept_pitch(state: Path, token: str) -> int:
    """The first note's pitch in a visitor's saved work; 0 without saved work."""
    data = SessionStore(state).read(token)
    return 0 if data is None else int(read_project(data).session.performance.pitch[0])


def test_a_autosaver_killed_at_random_moments(tmp_path: Path) -> None:
    assert set(killed_keepers(tmp_path / "keeper", 8)) <= {"Old", "New"}


@pytest.mark.soak
def test_a_server_killed_while_it_keeps(tmp_path: Path, soak_report: Reporter) -> None:
    found = killed_keepers(tmp_path / "keeper", 100)
    servers = killed_servers(tmp_path / "state", 10)
    whole = sum(title in ("Old", "New") for title in found)
    soak_report(
        19, "kill -9 at 100 random moments of keeping, of the server itself at 10",
        asked="the project file is the old or the new one, 100 of 100",
        found=f"{whole} of {len(found)} ({found.count('Old')} old, {found.count('New')} new); of the server "
        f"{servers.count('old')} old, {servers.count('new')} new, {servers.count('neither')} neither",
        passed=whole == 100 and set(found) == {"Old", "New"} and "neither" not in servers,
    )  # fmt: skip


# ---- 20: damaged projects, at the server


def damaged(saved: bytes) -> dict[str, bytes]:
    """Damaged projects."""
    found, claim = members(saved), bytearray(saved)
    at = claim.rindex(b"PK\x01\x02")
    claim[at + 24 : at + 28] = (1_000_000_000).to_bytes(4, "little")
    sums = changed(saved, "project.json", lambda t: t["members"]["document.json"].update(sha256="0" * 64))
    return {
        "empty": b"", "one byte": saved[:1], "half": saved[: len(saved) // 2], "but one byte": saved[:-1],
        "future": changed(saved, "project.json", lambda t: t.update(format_version=2)),
        "1 GB claimed": bytes(claim), "bomb": zipped({**found, "document.json": b"[" * 30_000_000}),
        "zip slip": zipped({**found, "../evil.json": b"{}"}), "absolute": zipped({**found, "/etc/evil.json": b"{}"}),
        "edited checksum": sums, "edited member": zipped({**found, "pieces/1.json": b"{}"}),
        "another zip": zipped({"a.txt": b"hello"}),
    }  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


def opened_at(server: Server, client: Client, data: bytes) -> str:
    """The message after opening this project."""
    file = {"path": upload(server, "mine.etude", data), "orig_name": "mine.etude", "meta": {"_type": "gradio.FileData"}}
    return client.refusal(client.call("open", "upload", open=file))


@pytest.mark.parametrize("count", [100, pytest.param(5000, marks=pytest.mark.soak)])
def test_damaged_projects(count: int, server: Server, soak_report: Reporter) -> None:
    saved = write_project(Project(a_session()))[0]
    client, wrong, read, draw = Client(server.url), [], 0, random.Random(20)
    client.open(SHORT)
    client.edit(1, [[2, 99, 900, 100, 64]])
    before = as_heard(client)
    kinds = damaged(saved)
    for name, data in kinds.items():
        said = opened_at(server, client, data) if data else "An empty file is not even sent."
        wrong += [] if said.endswith(".") and as_heard(client) == before else [f"{name}: {said[:80]}"]
    for _ in range(count):
        try:
            read += read_project(mutate(saved, draw)) is not None
        except BadInput as error:
            assert_sentence(error)
    assert opened_at(server, client, saved) == "", "a sound one is opened after them"
    soak_report(
        20, "project files: truncated, future version, 1 GB claimed, zip slip, edited checksum; mutated",
        asked="sentence, old project untouched",
        found=f"{len(kinds)} kinds opened on the page, wrong: {wrong or 'none'}; {count:,} mutated: "
        f"{count - read:,} refused with a sentence, {read:,} still whole, 0 crashes",
        passed=not wrong,
    )  # fmt: skip


# ---- 28: what goes out comes back


def scores() -> list[Score]:
    files = [(path.read_bytes(), path.name) for path in NOTATION]
    return [open_score(*f) for f in (*files, *((e.score_bytes(), e.score) for e in EXAMPLES.values()))]


def played(score: Score, draw: np.random.Generator) -> Performance:
    """A random performance of the score: tempo, timing, length, velocity and pedal."""
    flat = deadpan(score, bpm=float(draw.uniform(50, 140)))
    onset = flat.onset_sec + draw.normal(0, 0.01, len(score))
    velocity = draw.integers(1, 128, len(score))
    pedal = np.cumsum(draw.uniform(0.1, 1.0, 40))
    return Performance(
        onset - onset.min(), np.maximum(0.02, flat.duration_sec * draw.uniform(0.2, 0.9, len(score))), score.pitch,
        velocity, pedal, np.tile([100, 0], 20),
    )  # fmt: skip


def ticks_apart(performance: Performance, data: bytes, tick_sec: float) -> float:
    """The most ticks that an onset of a file is off; infinite when a note, a velocity or the pedal is not the same."""
    back = read_midi_performance(data)
    a, b = sorted_notes(performance), sorted_notes(back)
    same = len(a) == len(b) and (a[:, 1] == b[:, 1]).all() and (np.sort(a[:, 3]) == np.sort(b[:, 3])).all()
    if not same or not np.array_equal(performance.pedal_value, back.pedal_value):
        return float("inf")
    return float(np.abs(a[:, 0] - b[:, 0]).max() / tick_sec)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.soak)])
def test_what_goes_out_comes_back(rounds: int, soak_report: Reporter) -> None:
    draw, midi, locked, notation, projects = np.random.default_rng(28), [], [], 0, 0
    pieces = scores() if rounds > 1 else scores()[:3]
    for score in pieces:
        assert_same(score, read_musicxml(write_musicxml(score)))
        notation += 1
        for _ in range(rounds):
            performance = played(score, draw)
            midi.append(ticks_apart(performance, write_midi(performance), 0.001))
            flat = deadpan(score, bpm=float(draw.uniform(50, 140)))
            locked.append(float(np.abs(np.sort(read_midi_performance(write_midi_locked(score, flat)).onset_sec)
                                       - np.sort(flat.onset_sec)).max()))  # fmt: skip
            projects += comes_back(score, performance, draw)
    total = len(pieces) * rounds
    soak_report(
        28, "export then import: MIDI, MusicXML, project",
        asked="notes equal: MIDI to 1 tick, MusicXML exactly, project byte for byte",
        found=f"{notation} of {len(pieces)} scores the same as MusicXML; {total} performances as MIDI at most "
        f"{max(midi):.2f} ticks off (score-locked {1000 * max(locked):.1f} ms); {projects} of {total} projects",
        passed=max(midi) <= 1 and max(locked) < 0.003 and projects == total,
    )  # fmt: skip


def comes_back(score: Score, performance: Performance, draw: np.random.Generator) -> bool:
    """Whether a project with random edits, opened and saved again, is the same byte for byte and note for note."""
    quarter, first = np.unique(score.onset_quarter, return_index=True)
    grid = Grid.through(quarter, performance.onset_sec[first])
    session = Session(score=score, title=score.title, rendered=performance, grid=grid, doc=1, docs=1)
    rows = [[int(i), int(draw.integers(21, 109)), int(draw.integers(0, 60_000)), int(draw.integers(1, 3000)),
             int(draw.integers(1, 128))] for i in draw.choice(len(score), 5, replace=False) + 1]  # fmt: skip
    session = replace(actions.edit(rows, [], False)(session), rev=1)
    document = Document()
    document.update(lambda now: session)
    saved = write_project(project_of(document))[0]
    other = Document()
    back = adopt(other, read_project(saved))
    again = write_project(project_of(other))[0]
    for d in (document, other):
        d.close()
    return again == saved and back.performance.digest == session.performance.digest
