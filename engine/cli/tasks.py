"""Tasks of a batch, one per file, and the lines of its summary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """One file to process: its command line, without the leading `etude`.

    others  further input files: the performances to compare
    """

    source: Path
    target: Path
    argv: tuple[str, ...]
    others: tuple[Path, ...] = ()

    def is_done(self) -> bool:
        """Whether the result exists and is no older than its inputs."""
        if not self.target.is_file():
            return False
        made = self.target.stat().st_mtime
        return all(path.stat().st_mtime <= made for path in (self.source, *self.others))


@dataclass(frozen=True)
class Line:
    """One line of the summary.

    status    done, skipped (up to date) or failed
    message   reason of a failure, one sentence
    """

    file: str
    status: str
    output: str = ""
    notes: int = 0
    duration_sec: float = 0.0
    seconds: float = 0.0
    message: str = ""
