"""Progress callbacks, which report the finished share of long work and cancel it."""

from __future__ import annotations

from collections.abc import Callable

ProgressCallback = Callable[[float], None]  # called with the finished share, 0 to 1; raise in it to cancel
NoteCallback = Callable[[int, float, float, int, int], None]
"""Called with (take, onset quarter, duration quarter, pitch, staff) for each composed note; raise in it to cancel."""


class Cancelled(BaseException):
    """Raised in a progress callback to end the work. Not an Exception, so that no parser's recovery catches it."""


def no_progress(share: float) -> None:
    """Ignore the finished share: the no-op callback."""
