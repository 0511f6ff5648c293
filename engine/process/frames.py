"""Length-prefixed messages through a pipe."""

from __future__ import annotations

import struct
from typing import BinaryIO

MAX_ANSWER_BYTES = 64_000_000


def write_frame(stream: BinaryIO, payload: bytes) -> None:
    """Send one message of up to 4 GB through a pipe, its length first."""
    stream.write(struct.pack(">I", len(payload)) + payload)
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next frame; None at the end of the stream or after an invalid length."""
    head = stream.read(4)
    if head is None or len(head) < 4:
        return None
    (length,) = struct.unpack(">I", head)
    if length > MAX_ANSWER_BYTES:
        return None
    payload = stream.read(length)
    return payload if len(payload) == length else None
