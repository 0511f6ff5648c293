"""What stands before Gradio's routes: failures without a word become a sentence, uploads leave room on the disk.

Gradio answers an event that fails outside its queue with status 500 and no words, and keeps every upload for an hour.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import traceback
from collections.abc import Iterable
from pathlib import Path

from gradio.utils import get_upload_folder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.files import FULL, disk_is_full

UPLOADS_BYTES = 500_000_000  # of all uploads together; the oldest go first
MOST_UPLOAD = 20 * 1024 * 1024  # bytes of one, as launch(max_file_size=) says
_UNUSABLE = (
    "This could not be done: what was sent is not what the page sends, or the studio has a fault, which its log "
    "shows; reload the page and try again."
)


class Door:
    """The app with these manners. An answer 500 becomes 422; 507 says that there is no room for an upload."""

    def __init__(self, app: ASGIApp, most_bytes: int = UPLOADS_BYTES) -> None:
        self._app, self._most_bytes = app, most_bytes
        self._coming = 0  # bytes of the uploads under way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif scope["path"].rstrip("/").endswith("/upload"):
            await self._upload(scope, receive, send)
        else:
            await self._answered(scope, receive, send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = _length(scope)
        folder = Path(get_upload_folder())
        folder.mkdir(parents=True, exist_ok=True)
        most = min(self._most_bytes, shutil.disk_usage(folder).total // 4)
        await asyncio.to_thread(make_room, folder, most - self._coming - size)
        if disk_is_full(folder, self._coming + size):
            return await _say(send, 507, FULL, words=True)
        self._coming += size
        try:
            await self._answered(scope, receive, send, words=True)
        finally:
            self._coming -= size

    async def _answered(self, scope: Scope, receive: Receive, send: Send, words: bool = False) -> None:
        """The app's answer, unless that is a failure."""
        begun = failed = False

        async def sent(message: Message) -> None:
            nonlocal begun, failed
            if message["type"] == "http.response.start":
                begun, failed = True, message["status"] == 500
            if not failed:
                await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception:
            if begun and not failed:
                raise
            failed = True
            traceback.print_exc()
        if failed:
            full = disk_is_full(Path(get_upload_folder()))
            await _say(send, 507 if full else 422, FULL if full else _UNUSABLE, words)


def _length(scope: Scope) -> int:
    """Bytes that a request says it has; the most that an upload may have when it does not say."""
    told = dict(scope["headers"]).get(b"content-length", b"")
    return min(int(told), MOST_UPLOAD) if told.isdigit() else MOST_UPLOAD


async def _say(send: Send, status: int, sentence: str, words: bool) -> None:
    """One sentence: plain words to whoever uploads, JSON as Gradio's page reads it to the others."""
    body = sentence.encode() if words else json.dumps({"error": sentence}).encode()
    kind = b"text/plain; charset=utf-8" if words else b"application/json"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def make_room(folder: Path, most_bytes: int) -> None:
    """Remove the oldest of Gradio's kept files, each in a folder of its own, until so many bytes are left."""
    found = [about for path in _each(folder.glob("*/*")) if (about := _about(path)) is not None]
    size = sum(row[1] for row in found)
    for _, bytes_, path in sorted(found):
        if size <= most_bytes:
            break
        shutil.rmtree(path.parent, ignore_errors=True)
        size -= bytes_


def _each(paths: Iterable[Path]) -> Iterable[Path]:
    """The paths, as long as the folder can be read."""
    try:
        yield from paths
    except OSError:
        return


def _about(path: Path) -> tuple[float, int, Path] | None:
    try:
        about = path.stat()
    except OSError:  # gone meanwhile
        return None
    return about.st_ctime, about.st_size, path
