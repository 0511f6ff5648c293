"""Memory of a visit in Gradio: keep changed components, but not their values.

Gradio keeps the configuration of every component with its last value (the whole piece for the roll, the figure for the
curves) to write deep links to disk. That route is closed, see studio.gradio_compat.routes, so the copies are not
needed.

When an event leaves a component unchanged, Gradio rebuilds it under a new id, so a session would grow by a component
each time. Here it keeps its id.
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import gradio as gr
from gradio.blocks import Block, Blocks
from gradio.components import State
from gradio.state_holder import SessionState

from studio.gradio_compat.visit_eviction import documents

FORGET_SEC = 30.0  # after a page disconnects; if it reconnects in time, it finds its visit
_open: Counter[str] = Counter()  # open connections of pages, by session name


def slim_sessions() -> None:
    """Patch Gradio so that sessions keep no values. Idempotent."""
    if getattr(SessionState, "slim", False):
        return

    def begin(session: SessionState, blocks: Blocks) -> None:
        session.blocks_config = copy(blocks.default_config)
        session.config_values = {}
        session.state_data, session._state_ttl = {}, {}
        session.is_closed, session.STATE_TTL_WHEN_CLOSED = False, 3600

    def put(session: SessionState, number: int, value: Any) -> None:
        if isinstance(session.blocks_config.blocks.get(number), State):
            component = session.blocks_config.blocks[number]
            session._state_ttl[number] = (component.time_to_live, datetime.datetime.now())  # type: ignore[attr-defined]
            session.state_data[number] = value
            return
        if isinstance(value, Block):
            value._id = number
        session.blocks_config.blocks[number] = value

    def nothing(session: SessionState, *of: Any) -> None:
        """Keep no configuration."""

    SessionState.__init__ = begin  # type: ignore[method-assign]
    SessionState.__setitem__ = put  # type: ignore[method-assign]
    SessionState._update_config = SessionState._update_value_in_config = nothing  # type: ignore[method-assign]
    SessionState.slim = True  # type: ignore[attr-defined]


@contextmanager
def page_open(session_hash: str) -> Iterator[None]:
    """Context of a page's open connection (Gradio's heartbeat)."""
    _open[session_hash] += 1
    try:
        yield
    finally:
        _open[session_hash] -= 1
        if not _open[session_hash]:
            del _open[session_hash]


def forget_later(demo: gr.Blocks, session_hash: str, after_sec: float = FORGET_SEC) -> threading.Timer:
    """End the visit of a closed page unless it reconnects in time, and return its memory to the system."""
    timer = threading.Timer(after_sec, _forget, (demo, session_hash))
    timer.daemon = True
    timer.start()
    return timer


def _forget(demo: gr.Blocks, session_hash: str) -> None:
    holder = demo.state_holder
    with holder.lock:
        session = holder.session_data.get(session_hash)
        if session is None:
            return
        if session_hash in _open:
            session.is_closed = False
            return
        del holder.session_data[session_hash]
        holder.time_last_used.pop(session_hash, None)
    for document in documents(session):
        document.close()
    del session
    gc.collect()
    give_memory_back()


def give_memory_back() -> None:
    """Return freed memory to the system, where the C library supports it (malloc_trim)."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return
