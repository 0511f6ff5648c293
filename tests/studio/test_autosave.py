"""Autosave: one file per tab, the newest for a new tab, no loss at a stop signal."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from engine.limits import BROWSER_TABS
from engine.music.types import BadInput
from studio.actions.document import Document
from studio.project.document import read_project
from studio.project.store import Autosaver, SessionStore, new_token, tab_of
from studio.state.session import Session
from tests.helpers.clients import Client, _config, running

ONE, TWO, THREE = "one-one-one", "two-two-two", "three-three"


def test_each_tab_has_its_own_and_a_new_one_the_newest(tmp_path: Path) -> None:
    store, token = SessionStore(tmp_path), new_token()
    store.write(token, b"before there were tabs")
    assert store.read(token, ONE) == b"before there were tabs"
    for tab in (ONE, TWO):
        time.sleep(0.02)
        store.write(token, tab.encode(), tab)
    assert [store.read(token, tab) for tab in (ONE, TWO, THREE)] == [b"one-one-one", b"two-two-two", b"two-two-two"]
    assert store.read(new_token(), ONE) is None, "only of this browser"
    assert len(store.files(token)) == 3


def test_a_browser_keeps_so_many_tabs(tmp_path: Path) -> None:
    store, token, other = SessionStore(tmp_path), new_token(), new_token()
    store.write(other, b"another's", ONE)
    for number in range(BROWSER_TABS + 3):
        time.sleep(0.01)
        store.write(token, b"%d" % number, f"tab-number-{number}")
    assert [p.read_bytes() for p in store.files(token)] == [b"%d" % n for n in range(BROWSER_TABS + 2, 2, -1)]
    assert store.read(other) == b"another's"


@pytest.mark.parametrize("value", [None, 7, "", "short", "../../../etc/passwd", "x" * 65, ["x" * 20]])
def test_invalid_tab_names_are_ignored(value: object) -> None:
    assert tab_of(value) == ""
    assert tab_of(ONE) == ONE


def test_two_tabs_do_not_overwrite_each_other(tmp_path: Path) -> None:
    autosaver = Autosaver(SessionStore(tmp_path), lambda document: document.session.title.encode(), wait_sec=60)
    token, documents = new_token(), {tab: Document() for tab in (ONE, TWO, THREE)}
    for tab, document in documents.items():
        autosaver.attend(document, token, tab)
    for tab in (ONE, TWO):
        documents[tab].update(lambda now, tab=tab: Session(title=tab))
        autosaver.flush(token)
        time.sleep(0.02)
    assert autosaver.store.read(token, ONE) == b"one-one-one"
    assert autosaver.store.read(token, TWO) == b"two-two-two"
    assert [p.read_bytes() for p in autosaver.others(documents[ONE])] == [b"two-two-two"]
    assert [p.read_bytes() for p in autosaver.others(documents[THREE])] == [b"two-two-two", b"one-one-one"]
    assert autosaver.others(Document()) == []


def test_flushing_waits_for_what_is_being_written(tmp_path: Path) -> None:
    began: list[float] = []

    def slowly(document: Document) -> bytes:
        began.append(time.monotonic())
        time.sleep(0.5)
        return b"all of it"

    autosaver, token, document = Autosaver(SessionStore(tmp_path), slowly, wait_sec=0), new_token(), Document()
    autosaver.attend(document, token)
    document.update(lambda now: now)
    while not began:
        time.sleep(0.01)
    autosaver.flush()
    assert autosaver.store.read(token) == b"all of it"


def arrive(client: Client, browser: dict | None) -> dict:
    """Load the page as this browser's tab; what the browser is to remember, if it is new."""
    config = _config(client.url)
    kinds = {c["id"]: c["type"] for c in config["components"]}
    values = {c["id"]: c["props"].get("value") for c in config["components"]}
    loads = [d for d in config["dependencies"] if [e for _, e in d["targets"]] == ["load"]]
    load = next(d for d in loads if any(kinds[i] == "browserstate" for i in d["inputs"]))
    data = [
        browser if kinds[i] == "browserstate" else None if kinds[i] == "state" else values[i] for i in load["inputs"]
    ]
    body = json.dumps({"data": data, "fn_index": load["id"], "session_hash": client.session}).encode()
    request = urllib.request.Request(f"{client.url}gradio_api/run/predict", body, {"Content-Type": "application/json"})
    answer = json.loads(urllib.request.urlopen(request, timeout=120).read())["data"]
    told = next(v for i, v in zip(load["outputs"], answer, strict=True) if kinds[i] == "browserstate")
    return told if isinstance(told, dict) and "token" in told else browser or {}


@pytest.mark.timeout(400)
def test_an_edit_just_before_the_server_ends_is_kept(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    with running(ETUDE_STATE_DIR=state) as server:
        client = Client(server.url)
        browser = arrive(client, None)
        client.open("Chopin, Prélude op. 28 no. 7")
        time.sleep(3)  # what opening changed has been written
        note = list(client.roll["notes"][0])
        client.edit(1, [[note[0], note[1] + 1, *note[2:]]])
        server.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        try:
            server.process.wait(20)
        except subprocess.TimeoutExpired:
            pytest.fail("the server did not end")
        print(f"ended after {time.monotonic() - began:.1f} s")
    kept = SessionStore(Path(state)).read(browser["token"])
    assert kept is not None
    session = read_project(kept).session
    assert session.edits[note[0]].pitch == note[1] + 1


def test_a_store_without_a_folder_reports_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadInput, match="cannot save your work"):
        SessionStore(tmp_path / "file").write(new_token(), b"x", ONE)
