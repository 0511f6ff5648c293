"""Project files: damaged ones are refused with a sentence; saving is atomic."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import resource
import signal
import struct
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from engine.files import write_aside
from engine.limits import KEPT_FRESH_SEC
from engine.music.types import BadInput, Marks, Measures, Performance, Score, Style
from studio.actions.document import Document
from studio.page.answers import with_warning
from studio.project import store as project_store
from studio.project.container import MAX_ENTRIES, looks_like_project, pack, unpack
from studio.project.document import Project, project_of, read_project, write_project
from studio.project.store import Autosaver, SessionStore, new_token, state_folder
from studio.service.retention import Retention
from studio.state.session import Controls, Grid, NoteEdit, Session
from studio.state.versions import appended, flipped, with_present


def a_session(title: str = "Four notes", velocity: int = 64) -> Session:
    """Four notes and an edit."""
    one = np.ones(4)
    measures = Measures([0.0], [4.0], [0.0], [4], [4], [0], [1])
    score = Score(
        np.arange(4.0), one, [60, 62, 64, 65], [0, 2, 4, -1], one, one, one * 0, Marks.none(4), measures, title
    )
    played = Performance(np.arange(4) / 3, one / 3, score.pitch, one * velocity)
    grid = Grid(np.arange(5.0), np.arange(5) / 3)
    return Session(
        score=score, title=title, rendered=played, grid=grid, edits={2: NoteEdit(63, 0.25, 0.5, 90)}, doc=1, docs=1
    )


@pytest.fixture(scope="module")
def saved() -> bytes:
    return write_project(Project(a_session()))[0]


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w", kind) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return made.getvalue()


def changed(data: bytes, name: str, change: Callable[[dict], object]) -> bytes:
    """The project with one JSON member changed, and sums that match again."""
    found = members(data)
    table = json.loads(found[name])
    change(table)
    found[name] = json.dumps(table).encode()
    if name != "project.json":
        head = json.loads(found["project.json"])
        head["members"][name] = {"bytes": len(found[name]), "sha256": hashlib.sha256(found[name]).hexdigest()}
        found["project.json"] = json.dumps(head).encode()
    return zipped(found)


def one_sentence(refused: pytest.ExceptionInfo) -> str:
    text = str(refused.value)
    assert text[0].isupper()
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 300
    return text


def test_it_opens(saved: bytes) -> None:
    session = read_project(saved).session
    assert session.title == "Four notes"
    assert session.edits[2].velocity == 90
    assert looks_like_project(saved, "x.zip")
    assert looks_like_project(b"", "mine.etude")
    assert not looks_like_project(zipped({"META-INF/container.xml": b""}), "x.mxl")


def test_versions_are_kept_and_checked() -> None:
    first = with_present(a_session())
    louder = replace(first.performance, velocity=np.full(4, 90))
    second = replace(first, rendered=louder, controls=Controls(axes=(1.0, 0.5)), style=Style(seed=4))
    data = write_project(Project(appended(second, "louder")))[0]
    session = read_project(data).session
    assert [(v.number, v.name) for v in session.versions] == [(1, "Default"), (2, "louder")]
    assert (session.version, session.pair) == (2, (1, 2))
    assert session.versions[1].rendered is session.rendered, "the present performance is its version"
    assert session.versions[1].controls.axes == (1.0, 0.5)
    assert session.versions[1].style.seed == 4
    assert np.array_equal(session.versions[0].grid.sec, first.versions[0].grid.sec)
    assert write_project(read_project(data))[0] == data
    back = flipped(1)(session)
    assert back.rendered is session.versions[0].rendered
    assert back.edits[2].velocity == 90
    old = changed(data, "pieces/1.json", lambda t: [t.pop(name) for name in ("versions", "version", "pair")])
    assert read_project(old).session.versions == (), "a project from before there were versions"
    wrong = changed(data, "pieces/1.json", lambda t: t["versions"][0].update(number=2))
    with pytest.raises(BadInput, match="does not rise"):
        read_project(wrong)


# ---- test 20 of the bar: damaged in every way, and more
def test_truncated_at_every_length(saved: bytes) -> None:
    for length in range(0, len(saved), 7):
        with pytest.raises(BadInput) as refused:
            read_project(saved[:length])
        one_sentence(refused)


def test_from_the_future(saved: bytes) -> None:
    with pytest.raises(BadInput, match="newer Étude") as refused:
        read_project(changed(saved, "project.json", lambda t: t.update(format_version=2)))
    one_sentence(refused)


def test_a_claim_of_a_gigabyte(saved: bytes) -> None:
    data = bytearray(saved)
    at = data.rindex(b"PK\x01\x02")  # the last entry of the zip's directory
    struct.pack_into("<I", data, at + 24, 1_000_000_000)
    began = time.perf_counter()
    with pytest.raises(BadInput, match=r"claims 1,0\d\d MB|damaged") as refused:
        read_project(bytes(data))
    assert time.perf_counter() - began < 1
    one_sentence(refused)


@pytest.mark.parametrize("name", ["document.json", "pieces/1.json", "project.json"])
def test_a_bomb(saved: bytes, name: str) -> None:
    bomb = zipped({**members(saved), name: b"[" * 30_000_000})
    assert len(bomb) < 100_000
    with pytest.raises(BadInput, match="unpacks to more") as refused:
        read_project(bomb)
    one_sentence(refused)


@pytest.mark.parametrize(
    "name", ["../evil.json", "/etc/evil.json", "pieces\\..\\evil.json", "pieces/../1.json", "a.py"]
)
def test_zip_slip(saved: bytes, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="damaged") as refused:
        read_project(zipped({**members(saved), name: b"{}"}))
    one_sentence(refused)
    assert not list(tmp_path.iterdir())


def test_an_edited_checksum(saved: bytes) -> None:
    def edit(table: dict) -> None:
        table["members"]["document.json"]["sha256"] = "0" * 64

    with pytest.raises(BadInput, match="checksum") as refused:
        read_project(changed(saved, "project.json", edit))
    one_sentence(refused)
    found = members(saved)
    found["pieces/1.json"] = found["pieces/1.json"].replace(b"Four", b"Five")
    with pytest.raises(BadInput, match="checksum"):
        read_project(zipped(found))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"MThd\0\0\0\6", b"<score-partwise/>", b"PK\x03\x04 and nothing more", zipped({"a.txt": b"hello"}),
        zipped({"project.json": b"{}"}), zipped({"project.json": b'{"format": "another"}'}),
        zipped({"project.json": b"[" * 100_000}), zipped({f"x/{i}.json": b"" for i in range(MAX_ENTRIES + 1)}),
        b"PK\x03\x04" + b"\0" * 20_000_000,
    ],
)  # fmt: skip
def test_what_is_no_project(data: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        read_project(data)
    one_sentence(refused)


def to(name: str, value: object) -> Callable[[dict], object]:
    return lambda table: table.update({name: value})


@pytest.mark.parametrize(
    ("member", "change"),
    [
        ("scores/1.json", lambda t: t["notes"]["pitch"].__setitem__(0, 128)),
        ("scores/1.json", lambda t: t["notes"]["pitch"].__setitem__(0, 60.5)),
        ("scores/1.json", lambda t: t["notes"]["pitch"].__setitem__(0, True)),
        ("scores/1.json", lambda t: t["notes"]["pitch"].pop()),
        ("scores/1.json", lambda t: t["notes"]["onset_quarter"].__setitem__(0, float("nan"))),
        ("scores/1.json", lambda t: t["notes"]["onset_quarter"].__setitem__(0, 9.0)),
        ("scores/1.json", lambda t: t["notes"]["onset_quarter"].__setitem__(3, 1e300)),
        ("scores/1.json", lambda t: t["measures"].update(ts_den=[0])),
        ("scores/1.json", to("title", 7)),
        ("scores/1.json", to("title", "x" * 1001)),
        ("scores/1.json", to("title", "\ud800")),
        ("scores/1.json", to("notes", [])),
        ("performances/1.json", lambda t: t["velocity"].__setitem__(0, 128)),
        ("performances/1.json", lambda t: t["onset_sec"].__setitem__(0, float("inf"))),
        ("performances/1.json", to("pedal_sec", [2.0, 1.0])),
        ("pieces/1.json", to("edits", [[2, 63, 0.25, 0.5, 90]])),
        ("pieces/1.json", to("edits", [[2, 63, 0.25, 0.5, 90, ["colour"]]])),
        ("pieces/1.json", to("edits", [[0, 63, 0.25, 0.5, 90, []]])),
        ("pieces/1.json", to("deleted", [5])),
        ("pieces/1.json", to("pedal", [[1.0, 0.5]])),
        ("pieces/1.json", to("grid", {"quarter": [0, 0], "sec": [0, 1]})),
        ("pieces/1.json", to("grid", None)),
        ("pieces/1.json", to("rendered", None)),
        ("pieces/1.json", to("rendered", "scores/1.json")),
        ("pieces/1.json", to("score", "../scores/1.json")),
        ("pieces/1.json", to("doc", -1)),
        ("pieces/1.json", lambda t: t["style"].update(seed=10**30)),
        ("pieces/1.json", lambda t: t["style"]["strength"].update(tempo=9)),
        ("pieces/1.json", lambda t: t["controls"].update(seed="7")),
        ("document.json", to("present", "pieces/9.json")),
        ("document.json", to("past", ["pieces/1.json"] * 11)),
        ("document.json", to("takes", [{}])),
        ("document.json", to("renders", [7])),
        ("document.json", to("prompt", {})),
        ("document.json", to("settings", {"a": [1]})),
        ("document.json", to("settings", {"a": 1e999})),
    ],
)
def test_values_that_no_music_has(saved: bytes, member: str, change: Callable[[dict], object]) -> None:
    with pytest.raises(BadInput) as refused:
        read_project(changed(saved, member, change))
    one_sentence(refused)


def test_mutated_files_never_raise_anything_else(saved: bytes) -> None:
    rng = random.Random(5)
    for _ in range(600):
        data = bytearray(saved)
        for _ in range(rng.choice((1, 2, 8))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            read_project(bytes(data))
        except BadInput:
            continue


def test_mutated_json_with_right_sums(saved: bytes) -> None:
    """Past the checksums: every value replaced by things that do not belong there."""
    rng, strange = random.Random(6), (None, True, -1, 1e300, "x", [], {}, [[]], 2**70, "")
    found = members(saved)
    for _ in range(400):
        name = rng.choice([n for n in found if n != "project.json"])

        def spoil(table: dict) -> None:
            while True:
                key = rng.choice(list(table))
                inner = table[key]
                if not isinstance(inner, dict) or not inner or rng.random() < 0.3:
                    table[key] = rng.choice(strange)
                    return
                table = inner

        try:
            project = read_project(changed(saved, name, spoil))
        except BadInput:
            continue
        assert read_project(write_project(project)[0]).session.title == project.session.title


def test_more_than_can_be_opened_again_is_not_packed() -> None:
    noise = np.random.default_rng(1).bytes(21_000_000)
    with pytest.raises(BadInput, match="can be opened again"):
        pack({"renders/1.flac": noise}, {})
    assert unpack(pack({"document.json": b"{}"}, {}))[1] == {"document.json": b"{}"}


# ---- test 19: killed while it saves
def _save_for_ever(path: str, first: bytes, second: bytes) -> None:
    while True:
        write_aside(Path(path), second)
        write_aside(Path(path), first)


def test_a_process_killed_while_it_saves_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    files = [write_project(Project(a_session("Old" * 300, 60 + k)))[0] for k in range(2)]
    path = tmp_path / "visitor.etude"
    path.write_bytes(files[0])
    rng, context, found = random.Random(7), multiprocessing.get_context("fork"), []
    for _ in range(100):
        child = context.Process(target=_save_for_ever, args=(str(path), *files), daemon=True)
        child.start()
        time.sleep(0.01 + rng.random() * 0.04)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join(10)
        found.append(files.index(path.read_bytes()))
    assert len(found) == 100
    assert set(found) == {0, 1}, "the killed processes did save"


def _save_with_little_room(path: str, data: bytes, answer: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # as a full disk: no file may grow beyond 1,000 bytes
    try:
        SessionStore(Path(path)).write("a" * 30, data)
        answer.send("saved")
    except BadInput as refused:
        answer.send(str(refused))


def test_a_full_disk_is_a_sentence_and_leaves_no_half_file(tmp_path: Path, saved: bytes) -> None:
    store = SessionStore(tmp_path)
    store.write("a" * 30, b"the old one")
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(
        target=_save_with_little_room, args=(str(tmp_path), saved, there)
    )
    child.start()
    assert here.poll(30)
    assert "disk is full" in here.recv()
    child.join(10)
    assert store.read("a" * 30) == b"the old one"
    assert len(list(tmp_path.glob("*.etude"))) == 1
    assert not list(tmp_path.glob(".*.etude*"))
    store.write("a" * 30, saved)
    assert store.read("a" * 30) == saved, "with room again it goes on"


# ---- the store and the keeper
def test_where_work_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_STATE_DIR", str(tmp_path))
    assert state_folder() == tmp_path
    monkeypatch.delenv("ETUDE_STATE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr("sys.platform", "linux")
    assert state_folder() == tmp_path / "caches" / "etude"
    assert not (tmp_path / "caches").exists(), "asking makes nothing"


def test_the_store_is_private_and_forgets_what_was_long_unused(tmp_path: Path) -> None:
    store, now = SessionStore(tmp_path / "state", most_bytes=3000), [0.0]
    store._retention = Retention(store.folder, lambda: now[0])
    tokens = [new_token() for _ in range(5)]
    for token in tokens[:3]:
        store.write(token, token.encode() * 30)
        path = store.path(token)
        assert path is not None
        assert token not in str(path), "the folder does not say the secret"
        now[0] += 60
    with pytest.raises(BadInput, match="no room"):
        store.write(tokens[3], b"x" * 900)
    assert all(store.read(token) for token in tokens[:3]), "work of this week is not pushed out by newcomers"
    store.write(tokens[0], b"y" * 960)
    now[0] += KEPT_FRESH_SEC
    store.find(tokens[0])
    now[0] += 60
    store.write(tokens[3], b"x" * 1500)
    assert [store.read(t) is not None for t in tokens] == [True, False, False, True, False]
    now[0] += 31 * 24 * 3600
    store.prune()
    assert not any(store.read(t) for t in tokens)


def test_cleaning_touches_only_its_own_files_and_distrusts_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("notes.txt", ".ssh-key", "a.etude", f"{'0' * 39}.etude", f".{'0' * 40}.short", "index.json.bak")
    for name in names:
        (tmp_path / name).write_text("not ours")
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / ".cache").mkdir()
    (tmp_path / f"{'0' * 40}.etude").mkdir()
    store, tokens = SessionStore(tmp_path), [new_token() for _ in range(5)]
    for token in tokens:
        store.write(token, b"work")
        path = store.path(token)
        assert path is not None
        os.utime(path, (0, 0))  # written before the clock was set
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + 31 * 24 * 3600)
    store.write(new_token(), b"after a jump of the clock")
    SessionStore(tmp_path).prune()
    assert all(store.read(token) == b"work" for token in tokens)
    assert all((tmp_path / name).read_text() == "not ours" for name in names)
    assert (tmp_path / ".cache").is_dir()


def test_a_damaged_index_removes_nothing_and_halves_go_after_an_hour(tmp_path: Path) -> None:
    now, token = [0.0], new_token()
    store = SessionStore(tmp_path)
    store._retention = Retention(tmp_path, lambda: now[0])
    store.write(token, b"work")
    half = tmp_path / f".{'0' * 40}.abcd_123"
    half.write_bytes(b"x")
    for damage in (b"", b"[]", b'{"elapsed_sec": "x", "seen_sec": {}}', b'{"elapsed_sec": 1e300, "seen_sec": 3}'):
        (tmp_path / "index.json").write_bytes(damage)
        store.prune()
    assert half.exists()
    now[0] = 3700
    store.prune()
    assert not half.exists()
    assert store.read(token) == b"work"


@pytest.mark.parametrize("token", [None, 7, "", "../../etc/passwd", "a/b", "x" * 19, "x" * 65, "é" * 30, ["x" * 30]])
def test_an_invalid_token_finds_nothing(tmp_path: Path, token: object) -> None:
    store = SessionStore(tmp_path)
    assert store.read(token) is None
    with pytest.raises(BadInput, match="cannot save your work"):
        store.write(token, b"x")


def test_an_unusable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = SessionStore(tmp_path / "file" / "state")
    assert not store.usable()
    assert store.read(new_token()) is None
    with pytest.raises(BadInput, match="cannot save your work"):
        store.write(new_token(), b"x")


def test_a_change_is_kept_a_moment_later_and_a_leaving_visitor_at_once(tmp_path: Path) -> None:
    store, token = SessionStore(tmp_path), new_token()
    autosaver = Autosaver(store, lambda document: write_project(project_of(document))[0], wait_sec=0.2)
    document = Document()
    autosaver.attend(document, token)
    document.update(lambda now: a_session())
    assert store.read(token) is None
    until = time.monotonic() + 20
    while store.read(token) is None:
        assert time.monotonic() < until, "nothing was kept"
        time.sleep(0.05)
    document.update(lambda now: a_session("Another"))
    autosaver.flush(token)
    assert read_project(store.read(token) or b"").session.title == "Another"
    document.update(lambda now: a_session("The last"))
    autosaver.leave(document)
    assert read_project(store.read(token) or b"").session.title == "The last"
    document.update(lambda now: a_session("Later"))
    autosaver.flush()
    assert read_project(store.read(token) or b"").session.title == "The last"


def test_work_without_a_pause_is_kept_within_ten_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit every 0.1 s, never two seconds of rest; one visitor's slow writing is no other's rest."""
    monkeypatch.setattr(project_store, "KEEP_WITHIN_SEC", 1.0)
    made: dict[int, int] = {}

    def make(document: Document) -> bytes:
        made[id(document)] = made.get(id(document), 0) + 1
        return b"%d" % document.session.rev

    autosaver, documents = Autosaver(SessionStore(tmp_path), make, wait_sec=0.5), [Document(), Document()]
    tokens = [new_token(), new_token()]
    for document, token in zip(documents, tokens, strict=True):
        autosaver.attend(document, token)
    autosaver._rest_sec[id(documents[0])] = 100.0
    began = time.monotonic()
    while time.monotonic() - began < 3:
        for document in documents:
            document.update(lambda now: replace(now, rev=now.rev + 1))
        time.sleep(0.1)
    for document, token in zip(documents, tokens, strict=True):
        kept = int(autosaver.store.read(token) or 0)
        assert document.session.rev - kept <= 15, "at most the last second and a half is missing"
        assert made[id(document)] >= 2


def test_two_tabs_without_storage_do_not_overwrite_each_other(tmp_path: Path) -> None:
    autosaver, token = Autosaver(SessionStore(tmp_path), lambda document: document.session.title.encode()), new_token()
    one, two = Document(), Document()
    for document in (one, two):
        autosaver.attend(document, token)
        document.update(lambda now, document=document: Session(title=f"edit {id(document)}"))
    autosaver.flush()
    kept = {path.read_bytes() for path in autosaver.store.files(token)}
    assert kept == {f"edit {id(document)}".encode() for document in (one, two)}
    autosaver.attend(again := Document(), token, "tab-number-1")
    autosaver.attend(reloaded := Document(), token, "tab-number-1")
    again.update(lambda now: Session(title="stale"))
    reloaded.update(lambda now: Session(title="fresh"))
    autosaver.flush()
    assert autosaver.store.read(token, "tab-number-1") == b"fresh", "a reloaded tab takes over its file"


def test_what_cannot_be_kept_does_not_stop_the_autosaver(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    autosaver = Autosaver(SessionStore(tmp_path / "file"), lambda document: b"x", wait_sec=0)
    document = Document()
    autosaver.attend(document, new_token())
    for _ in range(3):
        document.update(lambda now: now)
        autosaver.flush()
    assert capsys.readouterr().out.count("could not be kept") == 1, "said once"
    note = with_warning(document, {"note": "12 notes"})["note"]
    assert note.startswith("12 notes. This server cannot save your work")
    assert with_warning(document, {}) == {}, "and once on the page"
