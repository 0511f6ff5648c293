"""ASGI middleware in front of Gradio: routes, origins, upload limits and readable errors.

Gradio answers an event that fails outside its queue with an empty status 500, keeps every upload for an hour, and
accepts any number of files from a page of any host. Here a failure becomes a sentence, uploads are counted per client
and in total as they arrive, and only listed routes are open to the studio's own pages.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.files import FULL, disk_is_full
from engine.limits import ALL_UPLOADS_BYTES, CLIENT_BYTES, CLIENT_UPLOADS, EVENT_BYTES, UPLOAD_BYTES, UPLOAD_YOUNG_SEC
from studio.gradio_compat.clients import client_of, trusted_proxies
from studio.gradio_compat.request_body import Body, Refused, whole_json
from studio.gradio_compat.routes import HOSTS, known_host, known_names, known_route, own_origin
from studio.gradio_compat.server import upload_folder
from studio.gradio_compat.session_memory import page_open

HEARTBEAT = "/gradio_api/heartbeat/"  # an open page keeps this connection
ENVELOPE = 16_384  # bytes that a form adds to its file
MAX_QUESTION = UPLOAD_BYTES * 4 // 3 + ENVELOPE  # bytes of an API call, which may contain a file as base64
_UNUSABLE = (
    "This could not be done: the request is not one of the page's, or the studio has a fault, which its log shows; "
    "reload the page and try again."
)
_CROWDED = "This server has no space for more files at the moment; try again in five minutes."
_MANY = "Two of your files are already being sent; wait until one has arrived."
_MUCH = "You have sent 120 MB in five minutes; wait five minutes, then send the file again."
_ELSEWHERE = f"This server does not accept that host name; open it by its own address, or add the name to {HOSTS}."
_FOREIGN = "A page of another site sent this request; open the studio by its own address."
_NO_ROUTE = "There is no such address on this server."


class RequestGuard:
    """The middleware. Status 500 becomes 422; 507 means that there is no space for an upload."""

    def __init__(self, app: ASGIApp, most_bytes: int = ALL_UPLOADS_BYTES, any_route: bool = False) -> None:
        self._app, self._most_bytes, self._any_route = app, most_bytes, any_route
        self._names, self._proxies = known_names(), trusted_proxies()
        self._coming = 0  # bytes received of uploads in progress
        self._at_once: dict[str, int] = defaultdict(int)
        self._sent: dict[str, _Recent] = defaultdict(_Recent)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})  # the page uses none
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/") or "/"
        try:
            self._let_in(scope, path)
            if path.startswith(HEARTBEAT):
                with page_open(path.removeprefix(HEARTBEAT)):
                    await self._app(scope, receive, send)
            elif scope["method"] != "POST":
                await self._app(scope, receive, send)
            elif path.endswith("/upload"):
                await self._upload(scope, receive, send)
            else:
                event = path.endswith(("/run/predict", "/queue/join"))
                body = Body(receive, EVENT_BYTES if event else MAX_QUESTION)
                await self._answered(scope, await whole_json(body), send)
        except Refused as refused:
            await _say(send, refused.status, refused.sentence, path.endswith("/upload"))

    def _let_in(self, scope: Scope, path: str) -> None:
        """Raises Refused for another site's request, another host's name, or a route that is not used."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if not known_host(host, self._names):
            raise Refused(421, _ELSEWHERE)
        writes = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        writes = writes or path.startswith("/gradio_api/mcp")  # its streams also answer GET
        if writes and origin is not None and not own_origin(origin, host, self._names):
            raise Refused(403, _FOREIGN)
        if not self._any_route and not known_route(scope["method"], path):
            raise Refused(404, _NO_ROUTE)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = client_of(scope, self._proxies)
        self._forget_idle()
        if self._at_once[client] >= CLIENT_UPLOADS:
            raise Refused(429, _MANY)
        folder = upload_folder()
        most = min(self._most_bytes, shutil.disk_usage(folder).total // 4)
        left = await asyncio.to_thread(make_room, folder, most - self._coming)
        mine = 0

        def arrived(size: int) -> None:
            nonlocal mine
            mine += size
            self._coming += size
            if self._much(client, size):
                raise Refused(429, _MUCH)
            if left + self._coming > most:
                raise Refused(507, _CROWDED)

        if disk_is_full(folder, self._coming + _length(scope)):
            raise Refused(507, FULL)
        self._at_once[client] += 1
        try:
            await self._answered(scope, Body(receive, UPLOAD_BYTES + ENVELOPE, arrived), send, words=True)
        finally:
            self._coming -= mine
            self._at_once[client] -= 1
            if not self._at_once[client]:
                del self._at_once[client]

    def _much(self, client: str, size: int) -> bool:
        """Count bytes of a client; return whether it is over its limit."""
        return self._sent[client].add(size) > CLIENT_BYTES

    def _forget_idle(self) -> None:
        """Drop the counts of clients that have been idle."""
        for client in [client for client, sent in self._sent.items() if not sent.add(0)]:
            del self._sent[client]

    async def _answered(self, scope: Scope, receive: Receive, send: Send, words: bool = False) -> None:
        """Pass on the app's answer; replace a failure by a sentence."""
        begun = failed = False

        async def sent(message: Message) -> None:
            nonlocal begun, failed
            if message["type"] == "http.response.start":
                begun, failed = True, message["status"] == 500
            if not failed and getattr(receive, "refused", None) is None:
                await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception:
            if begun and not failed:
                raise
            failed = True
            if getattr(receive, "refused", None) is None:
                traceback.print_exc()
        if isinstance(receive, Body) and receive.refused is not None:
            raise receive.refused
        if failed:
            full = disk_is_full(upload_folder())
            await _say(send, 507 if full else 422, FULL if full else _UNUSABLE, words)


class _Recent:
    """Sliding count of recent bytes, in bins of a second: constant cost per chunk."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque()
        self._total = 0

    def add(self, size: int) -> int:
        """Add bytes now; return the sum."""
        now = int(time.monotonic())
        while self._seconds and now - self._seconds[0][0] > UPLOAD_YOUNG_SEC:
            self._total -= self._seconds.popleft()[1]
        if size:
            before = self._seconds.pop()[1] if self._seconds and self._seconds[-1][0] == now else 0
            self._seconds.append((now, before + size))
            self._total += size
        return self._total


def _length(scope: Scope) -> int:
    """Content length of a request, at most that of one upload; nothing is reserved for it."""
    told = dict(scope["headers"]).get(b"content-length", b"")
    return min(int(told), UPLOAD_BYTES) if told.isdigit() and len(told) < 20 else 0


async def _say(send: Send, status: int, sentence: str, words: bool) -> None:
    """Send one sentence: plain text for an upload, else JSON as Gradio's page expects."""
    body = sentence.encode() if words else json.dumps({"error": sentence}).encode()
    kind = b"text/plain; charset=utf-8" if words else b"application/json"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def make_room(folder: Path, most_bytes: int, young_sec: float = UPLOAD_YOUNG_SEC) -> int:
    """Remove the oldest entries of Gradio's folder until it is within its quota; return the free bytes. An entry
    younger than `young_sec` always stays.
    """
    found = sorted((changed, size, path) for path in _each(folder) for changed, size in [_about(path)])
    left, now = sum(size for _, size, _ in found), time.time()
    for changed, size, path in found:
        if left <= most_bytes:
            break
        if 0 <= now - changed < young_sec:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        left -= size
    return left


def _each(folder: Path) -> Iterator[Path]:
    """The readable entries of a folder."""
    try:
        yield from folder.iterdir()
    except OSError:
        return


def _about(path: Path) -> tuple[float, int]:
    """Time of the last change and size on disk of an entry, contents included."""
    changed, size = 0.0, 0
    inner = ((root, name) for root, _, names in os.walk(path) for name in names) if path.is_dir() else [("", path)]
    for root, name in inner:
        try:
            about = os.lstat(os.path.join(root, name))
        except OSError:  # removed meanwhile
            continue
        changed = max(changed, about.st_ctime)
        size += max(about.st_size, getattr(about, "st_blocks", 0) * 512)
    return changed, size
