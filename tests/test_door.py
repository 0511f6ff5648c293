"""Before Gradio's routes: what fails without a word is a sentence, and uploads leave room on the disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from test_midi import assert_sentence

from engine.files import FULL, disk_is_full, put
from engine.music.types import BadInput
from studio import door
from studio.door import Door, make_room


async def fails(request: Request) -> Response:
    return JSONResponse({"error": None}, 500)


async def breaks(request: Request) -> Response:
    raise RuntimeError("a fault")


async def answers(request: Request) -> Response:
    return JSONResponse({"size": len(await request.body())})


async def refuses(request: Request) -> Response:
    return PlainTextResponse("too large", 413)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    routes = {"/run/fails": fails, "/run/breaks": breaks, "/run/answers": answers, "/run/refuses": refuses}
    app = Starlette(
        routes=[Route(path, do, methods=["POST", "GET"]) for path, do in {**routes, "/upload": answers}.items()]
    )
    return TestClient(Door(app, most_bytes=1000))


def test_what_fails_without_a_word_is_a_sentence(client: TestClient) -> None:
    for path in ("/run/fails", "/run/breaks"):
        answer = client.post(path, json={})
        assert answer.status_code == 422
        assert_sentence(BadInput(answer.json()["error"]))
    assert client.post("/run/answers", content=b"abc").json() == {"size": 3}
    assert client.post("/run/refuses").status_code == 413


def test_a_page_that_fails_is_not_touched(client: TestClient) -> None:
    assert client.get("/run/fails").status_code == 500


def test_the_oldest_uploads_go_and_new_ones_stay(client: TestClient, tmp_path: Path) -> None:
    folder = tmp_path / "gradio"
    for k in range(6):
        (folder / str(k)).mkdir(parents=True)
        (folder / str(k) / "a.mid").write_bytes(bytes(200))
    assert client.post("/upload", content=bytes(300)).status_code == 200
    assert len(list(folder.glob("*/*"))) == 3, "with this one 900 bytes"
    assert not (folder / "0").exists() or os.stat(folder / "0").st_ctime == os.stat(folder / "5").st_ctime
    make_room(folder, 0)
    assert not list(folder.iterdir())
    make_room(tmp_path / "nothing", 0)


def test_no_upload_begins_without_room(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "disk_is_full", lambda folder, more=0: True)
    answer = client.post("/upload", content=b"abc")
    assert (answer.status_code, answer.text) == (507, FULL)
    answer = client.post("/run/fails", json={})
    assert (answer.status_code, json.loads(answer.text)["error"]) == (507, FULL)
    assert_sentence(BadInput(FULL))


def test_a_disk_with_room_is_not_full(tmp_path: Path) -> None:
    assert not disk_is_full(tmp_path / "not" / "yet")
    assert disk_is_full(tmp_path, 10**18)


def test_put_writes_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a", b"abc")
    assert (tmp_path / "a").read_bytes() == b"abc"

    def half(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(BadInput, match="full"):
        put(tmp_path / "b", b"abc")
    assert not (tmp_path / "b").exists()
