"""Admission to shared resources: a fair FIFO queue with one waiting job per visitor.

A visitor's further jobs wait outside the queue until the first is served, so pressing more buttons gains nothing. A job
that replaces an older one of its kind (the next position of a slider) inherits its place in the queue.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from engine.limits import WAITING_LONG
from engine.music.types import BadInput
from engine.progress import ProgressCallback
from studio.service.jobs import REPLACED, Job, current_job

CROWDED = "Too many visitors are using the studio at the moment; try again in a minute."
_POLL_SEC = 0.2
_HEIR_SEC = 2.0  # a replaced job's place stays reserved for its successor


@dataclass(eq=False)
class _Waiting:
    """One job in the queue; job and kind are None and "" for a caller without a job."""

    visitor: object
    kind: str
    job: Job | None
    ticket: int


class AdmissionGate:
    """Admits a fixed number of jobs at a time; the others wait and can be cancelled."""

    def __init__(self, at_once: int, most_waiting: int = WAITING_LONG) -> None:
        self._free, self._most, self._changed = at_once, most_waiting, threading.Condition()
        self._tickets = itertools.count(1)
        self._line: list[_Waiting] = []  # FIFO, one per visitor
        self._aside: list[_Waiting] = []  # further jobs of visitors in the queue
        self._left: dict[tuple[object, str], tuple[int, float]] = {}  # tickets of replaced jobs, and when they left

    @contextmanager
    def turn(self, step: ProgressCallback) -> Iterator[None]:
        """Context manager: wait for admission. Raises BadInput if the queue is full, and whatever `step` raises."""
        mine = self._join(current_job())
        try:
            while not self._served(mine):
                step(0.0)
        except BaseException:
            with self._changed:
                self._leave(mine)
            raise
        finally:
            if mine.job is not None:
                mine.job.place = 0
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    def waiting(self) -> int:
        """Number of waiting visitors."""
        with self._changed:
            return len(self._line)

    def _join(self, job: Job | None) -> _Waiting:
        with self._changed:
            visitor, kind = (object(), "") if job is None else (job.visitor, job.kind)
            mine = _Waiting(visitor, kind, job, 0)
            before = next((other for other in self._line if other.visitor is visitor), None)
            if before is None:
                self._enter(mine)
            elif before.kind == kind and before.job is not None and before.job.over:  # the job that this one replaces
                mine.ticket = before.ticket
                self._line[self._line.index(before)] = mine
            else:
                self._aside.append(mine)
            return mine

    def _enter(self, mine: _Waiting) -> None:
        """Enter the queue: at the place inherited from the replaced job, or at the end."""
        now = time.monotonic()
        self._left = {key: left for key, left in self._left.items() if now - left[1] < _HEIR_SEC}
        inherited = self._left.pop((mine.visitor, mine.kind), None)
        if inherited is None and len(self._line) >= self._most:
            raise BadInput(CROWDED)
        mine.ticket = next(self._tickets) if inherited is None else inherited[0]
        self._line.append(mine)
        self._line.sort(key=lambda waiting: waiting.ticket)

    def _leave(self, mine: _Waiting) -> None:
        """Leave the queue; the visitor's next job enters at the end."""
        if mine in self._aside:
            self._aside.remove(mine)
        if mine not in self._line:
            return
        self._line.remove(mine)
        if mine.job is not None and mine.job.stopped in REPLACED:
            self._left[mine.visitor, mine.kind] = (mine.ticket, time.monotonic())
        following = next((other for other in self._aside if other.visitor is mine.visitor), None)
        if following is not None:
            self._aside.remove(following)
            following.ticket = next(self._tickets)
            self._line.append(following)
        self._changed.notify_all()

    def _served(self, mine: _Waiting) -> bool:
        """Wait for a moment; take a free slot if this job is next."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free > 0 and self._line[:1] == [mine], _POLL_SEC):
                if mine.job is not None:
                    mine.job.place = 1 + (self._line.index(mine) if mine in self._line else len(self._line))
                return False
            self._free -= 1
            self._leave(mine)
            return True
