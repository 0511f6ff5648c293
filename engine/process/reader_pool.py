"""Pool of at most two reader processes, reused for the next file."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.process.notation_reader import ReaderChild

_CHILDREN = 2  # concurrent parsers
_pool: queue.LifoQueue[ReaderChild] = queue.LifoQueue()
_made = threading.Semaphore(_CHILDREN)


@contextmanager
def borrow_child(check: Callable[[], None] | None = None) -> Iterator[ReaderChild]:
    """Context manager: exclusive use of a child, idle, new, or the next free one."""
    while not _made.acquire(timeout=0.2):
        if check is not None:
            check()
    try:
        try:
            child = _pool.get_nowait()
        except queue.Empty:
            child = ReaderChild()
        try:
            yield child
        finally:
            _pool.put(child)
    finally:
        _made.release()
