"""What Gradio keeps of a visit in memory: the components that events have changed, and nothing of their values.

Gradio keeps the configuration of every component with its last value, the whole piece for the roll and the figure for
the curves, so that a visit can be written to disk as a deep link. That route is closed here, see
studio.gradio_compat.routes, so the copies are not made.

When an event leaves a component as it is, Gradio builds it again under another number, and files it under that: each
time a session would grow by a component. Here it keeps the number under which it stands.
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

from studio.gradio_compat.sessions import documents

FORGET_SEC = 30.0  # from the end of a page's connection; one that comes back within that finds its visit
_open: Counter[str] = Counter()  # connections of pages that are open now, by the name of their session


def slim_sessions() -> None:
    """Let sessions hold no values from now on; twice is once."""
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
    """The time for which a page holds its connection (Gradio's heartbeat)."""
    _open[session_hash] += 1
    try:
        yield
    finally:
        _open[session_hash] -= 1
        if not _open[session_hash]:
            del _open[session_hash]


def forget_later(demo: gr.Blocks, session_hash: str, after_sec: float = FORGET_SEC) -> threading.Timer:
    """End a visit whose page is closed, unless it has come back by then; its memory goes back to the system."""
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
    """Return what was freed to the system, where the C library can; it would keep it for itself."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return
