"""Limits on a request body as it arrives: bytes, time, and number of JSON values."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.types import Message, Receive

from engine.limits import UPLOAD_IDLE_SEC

WHOLE_SEC = 300.0  # for the whole body
MAX_VALUES = 500_000  # commas and brackets: JSON of many small values takes a hundred times its bytes in memory
LARGE = 200_000  # bytes of JSON from which on values are counted before parsing


class Refused(Exception):
    """The body is refused, with a status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Body:
    """An ASGI `receive` that enforces limits and records why it ended the request.

    most     bytes
    arrived  called with the size of each chunk before it is passed on; may raise Refused
    """

    def __init__(self, receive: Receive, most: int, arrived: Callable[[int], None] = lambda size: None) -> None:
        self._receive, self._most, self._arrived = receive, most, arrived
        self._until, self._size, self._whole = time.monotonic() + WHOLE_SEC, 0, False
        self.refused: Refused | None = None

    async def __call__(self) -> Message:
        """The next message; after a refusal, a disconnect."""
        if self._whole:  # from here on the app waits for the disconnect, without a time limit
            return await self._receive()
        try:
            return await self._next()
        except Refused as refused:
            self.refused = refused
            return {"type": "http.disconnect"}

    async def _next(self) -> Message:
        patience = min(UPLOAD_IDLE_SEC, self._until - time.monotonic())
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, patience))
        except asyncio.TimeoutError:
            raise Refused(408, "The file did not arrive in time; check the connection and send it again.") from None
        if message["type"] != "http.request":
            return message
        size = len(message.get("body", b""))
        self._size += size
        if self._size > self._most:
            raise Refused(413, f"More than {self._most / 1e6:.0f} MB arrived; one file of up to 20 MB is accepted.")
        self._arrived(size)
        self._whole = not message.get("more_body", False)
        return message


async def whole_json(body: Body) -> Receive:
    """The whole JSON body. Raises Refused if it has more values than any request of the page: parsing would block
    all visitors for seconds.
    """
    parts = []
    while True:
        message = await body()
        if body.refused is not None:
            raise body.refused
        if message["type"] != "http.request":
            raise Refused(400, "The request is incomplete; send it again.")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    data = b"".join(parts)
    if len(data) > LARGE and sum(data.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise Refused(413, f"The request holds more than {MAX_VALUES:,} values; send fewer notes.")
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            return await body()
        sent = True
        return {"type": "http.request", "body": data, "more_body": False}

    return receive
