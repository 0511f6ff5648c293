"""Rows of the table of speeds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

PIECES = Path(__file__).resolve().parents[2] / "tests" / "data"


@dataclass(frozen=True)
class Row:
    """One line of the table; goal None where there is none."""

    what: str
    value: float
    unit: str
    goal: float | None = None
    more_is_better: bool = False

    def __str__(self) -> str:
        goal = "" if self.goal is None else f"{'>' if self.more_is_better else '<'} {self.goal:g}"
        kept = self.goal is None or (self.value >= self.goal) == self.more_is_better
        value = f"{self.value:10.2f}" if self.unit == "s" else f"{self.value:10.1f}"
        return f"{self.what:52}{value} {self.unit:9}{goal:10}{'' if kept else 'missed'}"


def timed(run: Callable[[], Any], times: int = 5) -> tuple[float, Any]:
    """Median milliseconds of several runs, and the last result."""
    taken, result = [], None
    for _ in range(times):
        began = time.perf_counter()
        result = run()
        taken.append(1000 * (time.perf_counter() - began))
    return median(taken), result
