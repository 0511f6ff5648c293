"""Progress on a terminal."""

from __future__ import annotations

import sys
from typing import Protocol


class CommandProgress(Protocol):
    """Progress display of a command: stage and finished share."""

    def stage(self, name: str) -> None: ...

    def share(self, done: float) -> None: ...

    def note(self, sentence: str) -> None: ...


class TerminalProgress:
    """Stage and finished share on one line of a terminal, updated in place; silent elsewhere.

    Notes, one sentence each, go to standard error unless the command is quiet.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.live = not quiet and sys.stderr.isatty()
        self._stage, self._line = "", ""

    def stage(self, name: str) -> None:
        self._stage = name
        self._show(f"{name} ...")

    def share(self, done: float) -> None:
        done = min(max(done, 0.0), 1.0)
        filled = round(30 * done)
        self._show(f"{self._stage:<12} [{'#' * filled}{'.' * (30 - filled)}] {done:4.0%}")

    def note(self, sentence: str) -> None:
        self.done()
        if not self.quiet:
            print(sentence, file=sys.stderr)

    def done(self) -> None:
        """Clear the line."""
        self._show("")

    def _show(self, line: str) -> None:
        if not self.live or line == self._line:
            return
        rest = " " * (len(self._line) - len(line))  # clears a longer previous line
        print(f"\r{line}{rest}" if line else f"\r{rest}\r", end="", file=sys.stderr, flush=True)
        self._line = line
