"""What a batch does: one task a file, one line of the summary each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """One file to do: the command line that does it, without the leading `etude`.

    others  further files that are read: the performances of a score that are compared
    """

    source: Path
    target: Path
    argv: tuple[str, ...]
    others: tuple[Path, ...] = ()

    def is_done(self) -> bool:
        """Whether the result is there and no older than what it is made of."""
        if not self.target.is_file():
            return False
        made = self.target.stat().st_mtime
        return all(path.stat().st_mtime <= made for path in (self.source, *self.others))


@dataclass(frozen=True)
class Line:
    """One line of the summary.

    status    done, skipped (it was there) or failed
    message   why it failed, one sentence
    """

    file: str
    status: str
    output: str = ""
    notes: int = 0
    duration_sec: float = 0.0
    seconds: float = 0.0
    message: str = ""
