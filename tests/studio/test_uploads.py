"""The middleware before Gradio's routes: readable errors, and quotas of uploads."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message, Scope

from engine.files import FULL, disk_is_full, put
from engine.limits import CLIENT_BYTES
from engine.music.types import BadInput
from studio.gradio_compat import request_body
from studio.gradio_compat import uploads as door
from studio.gradio_compat.clients import client_of, trusted_proxies
from studio.gradio_compat.routes import known_host, known_names, known_route, own_origin
from studio.gradio_compat.uploads import RequestGuard, make_room
from tests.engine.music.test_midi import assert_sentence


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
    return TestClient(RequestGuard(app, most_bytes=20_000, any_route=True), base_url="http://localhost")


def test_silent_failures_become_one_sentence(client: TestClient) -> None:
    for path in ("/run/fails", "/run/breaks"):
        answer = client.post(path, json={})
        assert answer.status_code == 422
        assert_sentence(BadInput(answer.json()["error"]))
    assert client.post("/run/answers", content=b"abc").json() == {"size": 3}
    assert client.post("/run/refuses").status_code == 413


def test_a_page_that_fails_is_not_touched(client: TestClient) -> None:
    assert client.get("/run/fails").status_code == 500


def left_behind(folder: Path, count: int, bytes_: int) -> None:
    for k in range(count):
        (folder / str(k)).mkdir(parents=True)
        (folder / str(k) / "a.mid").write_bytes(bytes(bytes_))
        time.sleep(0.01)


def test_the_oldest_uploads_go_and_young_ones_stay(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gradio"
    left_behind(folder, 6, 4096)
    assert client.post("/upload", content=bytes(300)).status_code == 507, "full of young files, which stay"
    assert len(list(folder.iterdir())) == 6
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 600)
    assert client.post("/upload", content=bytes(300)).status_code == 200
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3", "4", "5"], "the oldest went"
    assert make_room(folder, 0) == 0
    assert not list(folder.iterdir())
    assert make_room(tmp_path / "nothing", 0) == 0


def test_all_that_lies_on_the_disk_is_counted(tmp_path: Path) -> None:
    deep = tmp_path / "deep_links" / "abc" / "state.json"
    deep.parent.mkdir(parents=True)
    deep.write_bytes(bytes(100_000))
    (tmp_path / "loose.bin").write_bytes(bytes(50_000))
    assert 150_000 <= make_room(tmp_path, 10**9) < 170_000
    assert make_room(tmp_path, 0, young_sec=0) == 0
    assert not list(tmp_path.iterdir())


def head(client: str, path: str = "/upload", **more: str) -> Scope:
    told = {"host": "localhost", "content-length": str(20 * 1024 * 1024), **more}
    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in told.items()]
    return {"type": "http", "method": "POST", "path": path, "headers": headers, "client": (client, 1)}


async def asked(door_: RequestGuard, scope: Scope, *pieces: bytes, whole: bool = True) -> tuple[int, str]:
    """The door's answer to a request whose body comes in pieces; without `whole` the rest never comes."""
    left, told = list(pieces), list[Message]()

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left) or not whole}

    async def send(message: Message) -> None:
        told.append(message)

    await door_(scope, receive, send)
    return told[0]["status"], b"".join(m.get("body", b"") for m in told[1:]).decode()


def test_idle_sockets_take_nothing_from_others(client: TestClient, tmp_path: Path) -> None:
    """Bytes that are announced and do not come reserve nothing, and are given up after a while."""
    folder, inner = tmp_path / "gradio", client.app
    assert isinstance(inner, RequestGuard)
    left_behind(folder, 1, 4096)

    async def attack() -> tuple[int, str]:
        idle = [asyncio.create_task(asked(inner, head(f"10.0.0.{k}"), b"a", whole=False)) for k in range(24)]
        await asyncio.sleep(0.2)
        answer = await asked(inner, head("192.168.1.1"), bytes(4000))
        for task in idle:
            task.cancel()
        await asyncio.gather(*idle, return_exceptions=True)
        return answer

    status, text = asyncio.run(attack())
    assert (status, json.loads(text)) == (200, {"size": 4000})
    assert (folder / "0" / "a.mid").exists()


def test_an_upload_that_stalls_is_ended(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "UPLOAD_IDLE_SEC", 0.1)
    status, text = asyncio.run(asked(client.app, head("10.0.0.1"), b"abc", whole=False))  # type: ignore[arg-type]
    assert status == 408
    assert_sentence(BadInput(text))


def test_what_one_client_may_send(client: TestClient) -> None:
    inner = client.app
    assert isinstance(inner, RequestGuard)

    async def three() -> tuple[int, str]:
        idle = [asyncio.create_task(asked(inner, head("10.0.0.1"), b"a", whole=False)) for _ in range(2)]
        await asyncio.sleep(0.1)
        third = await asked(inner, head("10.0.0.1"), b"a")
        for task in idle:
            task.cancel()
        await asyncio.gather(*idle, return_exceptions=True)
        assert (await asked(inner, head("10.0.0.1"), b"a"))[0] == 200, "their places are free again"
        return third

    status, text = asyncio.run(three())
    assert status == 429
    assert_sentence(BadInput(text))
    assert asyncio.run(asked(inner, head("10.0.0.9"), bytes(21 * 1024 * 1024)))[0] == 413
    assert asyncio.run(asked(inner, head("10.0.0.9"), bytes(30_000)))[0] == 507, "more than all may have"
    inner._much("10.0.0.8", CLIENT_BYTES)
    assert asyncio.run(asked(inner, head("10.0.0.8"), b"a"))[0] == 429
    invented = asyncio.run(asked(inner, head("10.0.0.8", x_forwarded_for="1.2.3.4, 5.6.7.8"), b"a"))
    assert invented[0] == 429, "a client of a private network is no proxy"
    inner._much("5.6.7.8", CLIENT_BYTES)
    assert asyncio.run(asked(inner, head("127.0.0.1", x_forwarded_for="1.2.3.4, 5.6.7.8"), b"a"))[0] == 429
    assert asyncio.run(asked(inner, head("127.0.0.1", x_forwarded_for="5.6.7.8, 1.2.3.4"), b"a"))[0] == 200


@pytest.mark.parametrize(
    "peer, named, environment, client",
    [
        ("10.0.0.8", "1.2.3.4", {}, "10.0.0.8"),
        ("127.0.0.1", "", {}, "127.0.0.1"),
        ("127.0.0.1", "9.9.9.9, 1.2.3.4", {}, "1.2.3.4"),  # the first was sent by the client
        ("10.0.0.8", "9.9.9.9, 1.2.3.4, 10.1.1.1", {"SPACE_HOST": "a.hf.space"}, "1.2.3.4"),
        ("8.8.8.8", "1.2.3.4", {"SPACE_HOST": "a.hf.space"}, "8.8.8.8"),
        ("10.2.0.1", "1.2.3.4", {"ETUDE_PROXIES": "10.2.0.0/16, 7.7.7.7"}, "1.2.3.4"),
        ("10.2.0.1", "x, 7.7.7.7", {"ETUDE_PROXIES": "10.2.0.0/16, 7.7.7.7"}, "7.7.7.7"),
        ("::1", "2001:db8:1:2:3::4", {}, "2001:db8:1:2::/64"),
        ("testclient", "1.2.3.4", {}, "testclient"),
    ],
)
def test_the_client_address_behind_proxies(peer: str, named: str, environment: dict, client: str) -> None:
    scope = {"client": (peer, 1), "headers": [(b"x-forwarded-for", named.encode())] if named else []}
    assert client_of(scope, trusted_proxies(environment)) == client


def test_a_proxy_that_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ETUDE_PROXIES holds .* such as 10\.0\.0\.0/8"):
        trusted_proxies({"ETUDE_PROXIES": "proxy.example"})


def test_json_that_would_hold_up_the_parser_is_refused(client: TestClient) -> None:
    rows = ",".join(["[1,60,1000,500,64]"] * 20_000)
    assert client.post("/run/answers", content=f'{{"put":[{rows}]}}').json()["size"] > 300_000
    many = b"[" + b",".join([b"{},[]"] * 100_000) + b"]"
    assert client.post("/run/answers", content=many).json()["size"] == len(many)
    answer = client.post("/run/answers", content=b"[" + b",".join([b"{},[],[0]"] * 150_000) + b"]")
    assert answer.status_code == 413
    assert_sentence(BadInput(answer.json()["error"]))
    assert client.post("/run/predict", content=bytes(1_100_000)).status_code == 413, "an event is smaller"


def test_other_hosts_and_other_sites_are_refused(client: TestClient) -> None:
    assert client.post("/run/answers", headers={"Host": "evil.example:7881"}).status_code == 421
    for origin in ("http://evil.example", "null", "http://localhost:1", "file://"):
        answer = client.post("/run/answers", headers={"Origin": origin})
        assert answer.status_code == 403, origin
        assert_sentence(BadInput(answer.json()["error"]))
    assert client.post("/run/answers", headers={"Origin": "http://localhost"}).status_code == 200
    for method in ("GET", "POST", "DELETE"):  # MCP's own rule: a stream that is read counts, too
        answer = client.request(method, "/gradio_api/mcp/", headers={"Origin": "http://evil.example"})
        assert answer.status_code == 403, method
        assert client.request(method, "/gradio_api/mcp/", headers={"Host": "evil.example"}).status_code == 421
    names = known_names({"SPACE_HOST": "me-etude.hf.space", "ETUDE_HOSTS": "piano.example, etude.local"})
    assert all(known_host(host, names) for host in ("127.0.0.1:7860", "[::1]:7860", "Piano.Example", "etude.local:80"))
    assert not any(known_host(host, names) for host in ("", "evil.example", "127.0.0.1.evil.example", "localhost.evil"))
    assert own_origin("https://piano.example", "10.0.0.7:7860", names), "a proxy that changes the Host"
    assert not own_origin("http://127.0.0.1:1", "127.0.0.1:7860", names)


def test_only_the_routes_in_use_are_open(client: TestClient) -> None:
    used = ("/", "/config", "/assets/index.js", "/gradio_api/heartbeat/abc", "/gradio_api/file=/tmp/a", "/theme.css")
    used += ("/gradio_api/call/perform/abc", "/gradio_api/call/v2/perform/abc")
    assert all(known_route("GET", path) for path in used)
    used = ("run/predict", "upload", "call/perform", "mcp/")
    assert all(known_route("POST", f"/gradio_api/{path}") for path in used)
    closed = ("/gradio_api/deep_link", "/monitoring", "/monitoring/summary", "/gradio_api/dev/reload")
    assert not any(known_route("GET", path) for path in closed)
    closed = ("process_recording", "vibe-edit", "component_server", "proxy=http://a", "stream/1", "upload/../x")
    assert not any(known_route("POST", f"/gradio_api/{path}") for path in closed)
    strict = TestClient(RequestGuard(client.app), base_url="http://localhost")  # type: ignore[arg-type]
    assert strict.post("/gradio_api/process_recording", content=b"abc").status_code == 404


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


def test_many_small_pieces_are_counted_by_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(door.time, "monotonic", lambda: now)
    recent = door._Recent()
    assert [recent.add(1) for _ in range(5000)][-1] == 5000
    assert len(recent._seconds) == 1
    now += door.UPLOAD_YOUNG_SEC - 1
    assert recent.add(2) == 5002
    now += 2
    assert recent.add(0) == 2
