"""Background jobs on threads: polled, with progress, cancellable."""

from __future__ import annotations

import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

from engine.files import FULL, disk_is_full
from engine.limits import ABANDONED_SEC
from engine.music.types import BadInput, BundleError
from engine.progress import Cancelled

_here = threading.local()  # the job of this thread
REPLACED = ("overtaken", "abandoned")  # causes of an end that no visitor asked for
S = TypeVar("S")
_BROKEN = "Something went wrong in the studio, so this was not done; try again, or with another file."


def current_job() -> Job | None:
    """The job of this thread, None outside of jobs."""
    return getattr(_here, "job", None)


class Job:
    """One background job.

    number  its name on the page, from 1
    kind    a visitor has at most one job of a kind
    text    its present stage, for the page: "Playing"
    share   finished share of that stage, 0 to 1; 0 while unknown
    place   its place in the admission queue, from 1; 0 if it does not wait
    visitor its owner
    show    its result: makes the values that the page shows
    refusal the reason of a failure, "" without one
    stopped None, or the cause of its end: "visitor", "overtaken" if a newer job replaced it, "abandoned" if no page
            polled it for ABANDONED_SEC
    draft   rows written so far, as in studio.page.wire.draft_value
    about   what the page needs to draw them
    """

    def __init__(
        self, number: int = 0, kind: str = "", text: str = "", same: Hashable = None, visitor: object = None
    ) -> None:
        self.number, self.kind, self.text, self.same = number, kind, text, same
        self.visitor = self if visitor is None else visitor
        self.share, self.refusal, self.place = 0.0, "", 0
        self.show: Callable[[], Any] | None = None
        self.work: Callable[[Job], Callable[[], Any]] | None = None
        self.stopped: str | None = None
        self.draft: list[tuple[int, int, int, int, int]] = []
        self.about: dict[str, Any] = {}
        self._over, self._asked = threading.Event(), time.monotonic()

    @property
    def over(self) -> bool:
        """Whether it is done, refused or stopped."""
        return self._over.is_set()

    @property
    def doing(self) -> str:
        """Its stage in words, with its place in the queue."""
        if not self.place:
            return self.text
        return f"{self.text}: {'next' if self.place == 1 else f'number {self.place}'} in the queue"

    def step(self, share: float = 0.0) -> None:
        """Progress callback. Raises Cancelled if the job was stopped."""
        if time.monotonic() - self._asked > ABANDONED_SEC:
            self.stop("abandoned")
        if self.stopped:
            raise Cancelled
        self.share = share

    def begin(self, text: str) -> None:
        """Begin the next stage. Raises Cancelled like step."""
        self.step(0.0)
        self.text = text

    def unless_stopped(self, change: Callable[[S], S]) -> Callable[[S], S]:
        """The change, or one that raises Cancelled if the job was stopped."""

        def checked(now: S) -> S:
            self.step(1.0)
            return change(now)

        return checked

    def stop(self, by: str) -> None:
        """Stop the work at its next progress callback; waiting callers return now."""
        if not self.over:
            self.stopped = by
            self._over.set()

    def wait(self, seconds: float) -> bool:
        """Wait for some seconds at most; return whether it is over."""
        self._asked = time.monotonic()
        return self._over.wait(seconds)

    def start(self, work: Callable[[Job], Callable[[], Any]]) -> None:
        """Do the work, in a thread of its own."""
        self.work = work
        threading.Thread(target=self.run, args=(work,), daemon=True).start()

    def run(self, work: Callable[[Job], Callable[[], Any]]) -> None:
        """Do the work, in this thread."""
        _here.job = self
        try:
            self.show = work(self)
        except Cancelled:
            self.stopped = self.stopped or "overtaken"
        except (BadInput, BundleError) as refusal:
            self.refusal = str(refusal)
        except Exception:
            traceback.print_exc()
            self.refusal = FULL if disk_is_full(Path(tempfile.gettempdir())) else _BROKEN
        finally:
            _here.job = None
        self._over.set()


class Jobs:
    """One visitor's jobs, one of each kind: a new one stops the previous. visitor: the owner."""

    def __init__(self, visitor: object = None) -> None:
        self._visitor = self if visitor is None else visitor
        self._lock, self._number, self._latest = threading.Lock(), 0, dict[str, Job]()

    def start(
        self, kind: str, text: str, work: Callable[[Job], Callable[[], Any]], same: Hashable = None,
        about: dict[str, Any] | None = None,
    ) -> Job:  # fmt: skip
        """Start a job; return the running one if it has the same `same`."""
        with self._lock:
            before = self._latest.get(kind)
            if before is not None and not before.over and same is not None and before.same == same:
                return before
            if before is not None:
                before.stop("overtaken")
            self._number += 1
            job = self._latest[kind] = Job(self._number, kind, text, same, self._visitor)
            job.about = about or {}
        job.start(work)
        return job

    def refuse(self, sentence: str) -> Job:
        """A job that failed before it began."""
        with self._lock:
            self._number += 1
            job = self._latest["refused"] = Job(self._number, "refused")
        job.refusal = sentence
        job.stop("overtaken")
        return job

    def running(self, kind: str) -> Job | None:
        """The unfinished job of this kind."""
        with self._lock:
            job = self._latest.get(kind)
            return None if job is None or job.over else job

    def busy(self) -> bool:
        """Whether any job is unfinished."""
        with self._lock:
            return any(not job.over for job in self._latest.values())

    def numbered(self, number: object) -> Job | None:
        """The job of this number, if it is the latest of its kind. If it was abandoned, it begins again: its page was
        only late, as under heavy load.
        """
        with self._lock:
            job = next((job for job in self._latest.values() if job.number == number), None)
            if job is None or job.stopped != "abandoned" or job.work is None:
                return job
            again = self._latest[job.kind] = Job(job.number, job.kind, job.text, job.same, self._visitor)
            again.about = job.about
        again.start(job.work)
        return again

    def stop(self, *kinds: str, by: str = "overtaken") -> None:
        """Stop the jobs of these kinds, or all."""
        with self._lock:
            for kind, job in self._latest.items():
                if not kinds or kind in kinds:
                    job.stop(by)
