"""The reader processes of this process: at most two, kept for the next file."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.process.notation_reader import ReaderChild

_CHILDREN = 2  # parsing at one time
_pool: queue.LifoQueue[ReaderChild] = queue.LifoQueue()
_made = threading.Semaphore(_CHILDREN)


@contextmanager
def borrow_child(check: Callable[[], None] | None = None) -> Iterator[ReaderChild]:
    """A child to oneself: an idle one, a new one, or the next to be free."""
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
