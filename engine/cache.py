"""A cache of the engine's intermediate results, shared by the threads that perform."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class KeyedCache(Generic[T]):
    """LRU cache. Threads that need the same entry compute it once; different entries are computed at the same time.

    full  whether these entries are too many; then the least recently used one is dropped
    """

    def __init__(self, full: Callable[[Collection[T]], bool]) -> None:
        self._full, self._lock = full, threading.Lock()
        self._known: OrderedDict[Hashable, T] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}

    def keys(self) -> set[Hashable]:
        """The keys of the cached entries."""
        with self._lock:
            return set(self._known)

    def recall(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the cached entry of this key, or compute it with `make`."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._known:
                    return self._known[key]
            try:
                value = make()
                with self._lock:
                    self._known[key] = value
                    while len(self._known) > 1 and self._full(self._known.values()):
                        self._known.popitem(last=False)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return value
