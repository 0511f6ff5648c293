"""Untrusted requests: uploads, paths, addresses, random data at every endpoint. One server for all."""

import http.client
import json
import random
import string
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.soak_report import Reporter

LIMIT = 20 * 1024 * 1024  # bytes that one upload may have, as `launch` takes "20mb"
SECRET = "root:x:0:0"  # in /etc/passwd, which every attempt below is after


def ask(url: str, data: bytes | None = None, kind: str = "application/json") -> tuple[int, bytes]:
    """Status and body of a request."""
    request = urllib.request.Request(url, data, {"Content-Type": kind} if data is not None else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def raw(address: str, path: str) -> tuple[int, bytes]:
    """A GET with an unnormalised path."""
    connection = http.client.HTTPConnection(address.split("/")[2], timeout=60)
    connection.putrequest("GET", path, skip_host=False)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


def upload(address: str, name: str, data: bytes) -> tuple[int, bytes]:
    mark = "a-boundary-of-this-test"
    head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode("utf-8", "replace") + data + f"\r\n--{mark}--\r\n".encode()
    return ask(f"{address}gradio_api/upload", body, f"multipart/form-data; boundary={mark}")


def call(address: str, endpoint: str, data: Any) -> tuple[int, str]:
    """Status of a call, and all its messages until it ends."""
    status, body = ask(f"{address}gradio_api/call/{endpoint}", json.dumps({"data": data}).encode())
    if status != 200:
        return status, body.decode("utf-8", "replace")
    status, told = ask(f"{address}gradio_api/call/{endpoint}/{json.loads(body)['event_id']}")
    return status, told.decode("utf-8", "replace")


@pytest.mark.parametrize("_full", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_uploads_at_the_limit_and_odd_names(_full: bool, address: str, soak_report: Reporter) -> None:
    folder = None
    sizes = {LIMIT: 200, LIMIT + 1: 413, 0: 200} if _full else {LIMIT + 1: 413, 0: 200}
    wrong = [f"{size} bytes" for size, wanted in sizes.items() if upload(address, "a.mid", bytes(size))[0] != wanted]
    names = [
        "a.exe", "Prélude – ноты 音符.mid", "x" * 300 + ".mid", "../../../etc/cron.d/a", "..\\..\\a.mid",
        "/etc/a.mid",
        "a\x00b.mid", "CON", ".hidden", "-rf.mid", "a;b&c|d$(e).mid", "%2e%2e%2fa.mid",
    ]  # fmt: skip
    for name in names:
        status, body = upload(address, name, b"MThd")
        if status == 200:
            path = Path(json.loads(body)[0])
            folder = folder or path.parents[1]
            wrong += [] if path.resolve().is_relative_to(folder.resolve()) and path.parent.parent == folder else [name]
            told = call(address, "metrics", [{"path": str(path), "meta": {"_type": "gradio.FileData"}}])[1]
            wrong += [] if "Traceback" not in told and "error" in told else [name]
        elif not 400 <= status < 500:
            wrong.append(name)
    soak_report(
        7, "uploads at, over and under the limit; odd names", asked="200, 413 or a sentence; always in the folder",
        found=f"{len(sizes)} sizes and {len(names)} names, wrong: {wrong or 'none'}", passed=not wrong,
    )  # fmt: skip


def traversals() -> list[str]:
    """Requests for forbidden files and addresses, on every route with a path or an address."""
    target = "etc/passwd"
    climbs = [
        f"/{target}", f"../../../../../{target}", f"..%2f..%2f..%2f..%2f{target}", f"%2e%2e/%2e%2e/%2e%2e/{target}",
        f"....//....//....//{target}", f"..%252f..%252f..%252f{target}", f"/tmp/gradio/../../{target}",
        f"..\\..\\..\\{target}", f"/proc/self/root/{target}", f"file:///{target}", "/proc/self/environ",
    ]  # fmt: skip
    addresses = [
        "http://127.0.0.1:22/", "http://169.254.169.254/latest/meta-data/", "http://[::1]/", "http://0/",
        "http://localhost%00.example.com/", "https://example.com@127.0.0.1/", "ftp://127.0.0.1/", "http://2130706433/",
    ]  # fmt: skip
    paths = [f"/gradio_api/file={c}" for c in climbs] + [f"/file={c}" for c in climbs[:3]]
    paths += [f"/static/{c}" for c in climbs[1:6]] + [f"/assets/{c}" for c in climbs[1:4]] + [f"/{climbs[1]}"]
    paths += [f"/gradio_api/stream/a/b/{c}" for c in climbs[1:3]] + [f"/gradio_api/component_server/{climbs[1]}"]
    return paths + [f"/gradio_api/{r}={a}" for a in addresses for r in ("proxy", "file")]


@pytest.mark.parametrize("_full", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_no_path_and_no_address_is_served(_full: bool, address: str, soak_report: Reporter) -> None:
    served, forms = [], traversals()
    for path in forms:
        status, body = raw(address, urllib.parse.quote(path, safe="/%=:@\\[]?&"))
        page = body.lstrip().startswith(b"<!doctype html")  # an unknown page of the app is the app itself
        served += [path] if SECRET.encode() in body or (status == 200 and not page) else []
    for value in (
        "/etc/passwd",
        "/proc/self/environ",
        "http://127.0.0.1:22/",
        "file:///etc/passwd",
        "../../etc/passwd",
    ):
        for meta in ({"_type": "gradio.FileData"}, {}):
            status, told = call(address, "metrics", [{"path": value, "url": value, "meta": meta}])
            served += [value] if "complete" in told or SECRET in told else []
            forms.append(value)
    soak_report(
        8, "traversal and forged addresses on every route", asked="30 forms: never 200, never a byte of the file",
        found=f"{len(forms)} forms, served: {served or 'none'}", passed=not served and len(forms) >= 30,
    )  # fmt: skip


def anything(r: random.Random) -> Any:
    """A random value of any type, often a harmful one."""
    return r.choice([
        lambda: None, lambda: r.choice([True, False]), lambda: r.randrange(-(10**9), 10**9),
        lambda: 10**r.choice([18, 400]),
        lambda: float("nan"), lambda: r.choice([1e308, -1e308, float("inf")]), lambda: "", lambda: "C major",
        lambda: "".join(r.choices(string.printable, k=r.choice([3, 50, 5000]))), lambda: "\0\ud800",
        lambda: [], lambda: {}, lambda: [[[]]], lambda: {"path": "/etc/passwd"},
        lambda: "data:audio/midi;base64,TVRoZA==",
        lambda: {"path": ["a"], "meta": {"_type": "gradio.FileData"}}, lambda: {"__type__": "update", "value": 1},
        lambda: [anything(r) for _ in range(3)],
    ])()  # fmt: skip


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.soak)])
def test_random_requests(count: int, address: str, soak_report: Reporter) -> None:
    r = random.Random(24)
    config = json.loads(ask(f"{address}config")[1])
    public = [d["api_name"] for d in config["dependencies"] if d["api_visibility"] == "public"]
    private = [d for d in config["dependencies"] if d["api_visibility"] != "public"]
    bad, told_so = [], 0
    for k in range(count):
        if k % 2:
            name, size = r.choice(public), r.choice([0, 1, 2, 6, 11, 40])
            status, told = call(address, name, [anything(r) for _ in range(size)])
        else:  # straight at an event of the page, as no client would
            event = r.choice(private)
            name = event["api_name"]
            data = [anything(r) for _ in event["inputs"]][: r.choice([0, 100, 100])]
            sent = {"data": data, "fn_index": event["id"], "session_hash": "soak", "event_data": anything(r)}
            status, body = ask(f"{address}gradio_api/run/predict", json.dumps(sent).encode())
            told = body.decode("utf-8", "replace")
            told_so += 400 <= status < 500
            bad += [f"{name}: {status} {told[:100]}"] if status >= 500 or (status >= 400 and " " not in told) else []
        bad += [f"{name}: {status} {told[:200]}"] if "Traceback" in told or 'File "' in told else []
        public_break = name in public and (("error" not in told and "complete" not in told) or status >= 500)
        bad += [f"{name}: {status} {told[:100]}"] if public_break and status != 422 else []
    for name in public if count > 100 else public[:2]:  # the first value of every endpoint as 10 MB of text
        inputs = next(len(d["inputs"]) for d in config["dependencies"] if d["api_name"] == name)
        status, told = call(address, name, ["x" * 10_000_000, *[None] * 20][:inputs])
        bad += [] if status < 500 and len(told) < 10_000 else [f"{name}: 10 MB"]
    alive = ask(address)[0] == 200 and "complete" in call(address, "list_styles", [])[1]
    soak_report(
        10, "random requests at every endpoint, public and private",
        asked=f"{count:,}: 4xx or a sentence, 0 tracebacks, server alive",
        found=f"{count:,} at {len(public)} public and {len(private)} private ones: {len(bad)} bad, "
        f"{told_so} of the latter refused by 4xx with a sentence, "
        f"server {'alive' if alive else 'gone'} {bad[:3] or ''}",
        passed=not bad and alive,
    )  # fmt: skip
