"""Eviction of visits: never one that is in use or has unsaved work.

Gradio makes a session for any name in a request and drops the least recently used one without closing it. Two hundred
requests with invented names would end the visit of somebody who is reading.
"""

from __future__ import annotations

import datetime

from gradio.state_holder import SessionState, StateHolder

from engine.limits import VISIT_IDLE_SEC, VISITS_OVER
from studio.actions.document import Document


def documents(state: SessionState) -> list[Document]:
    """The documents in the state of a visit."""
    return [value for value in state.state_data.values() if isinstance(value, Document)]


def rank(state: SessionState, idle_sec: float) -> int | None:
    """Eviction rank of a visit: 0 no page has loaded it, 1 its page is closed, 2 it is idle; None: keep it."""
    found = documents(state)
    if not any(document.arrived for document in found):
        return 0
    if any(document.unsaved() or document.jobs.busy() for document in found):
        return None
    if state.is_closed:
        return 1
    return 2 if idle_sec > VISIT_IDLE_SEC else None


def forget_safely() -> None:
    """Patch Gradio to evict visits by `rank` and to close them. Idempotent."""
    if getattr(StateHolder.update, "safely", False):
        return

    def update(holder: StateHolder, session_id: str) -> None:
        with holder.lock:
            if session_id in holder.session_data:
                holder.session_data.move_to_end(session_id)
            gone = []
            while len(holder.session_data) > holder.capacity:
                name = _next(holder, session_id)
                if name is None:
                    break
                gone.append(holder.session_data.pop(name))
                holder.time_last_used.pop(name, None)
        for state in gone:
            for document in documents(state):
                document.close()

    update.safely = True  # type: ignore[attr-defined]
    StateHolder.update = update  # type: ignore[method-assign]


def _next(holder: StateHolder, asking: str) -> str | None:
    """The visit to evict: lowest rank first, then least recently used; never the requesting one."""
    now = datetime.datetime.now()
    best: tuple[int, str] | None = None
    for name, state in list(holder.session_data.items()):  # the least recently used first
        if name == asking:
            continue
        used = holder.time_last_used.get(name, now)
        found = rank(state, (now - used).total_seconds())
        if found is None and len(holder.session_data) > VISITS_OVER * holder.capacity:
            found = 3
        if found is not None and (best is None or found < best[0]):
            best = (found, name)
            if found == 0:
                break
    return None if best is None else best[1]
