"""The table that `python -m training.queue QUEUE.toml --status` prints."""

from __future__ import annotations

import time

from training.core.queue_file import Queue, QueueJob
from training.core.queue_state import RUNNING, JobState, States, last_report, progress_of


def minutes_left(job: QueueJob, minutes: float, step: int, since: float = 0.0) -> float | None:
    """Minutes of training until the job's goal; None if unknown.

    minutes, step  progress in the run's last report
    since          minutes since that report

    >>> from pathlib import Path
    >>> job = QueueJob("a", "", Path(), Path(), minutes=60)
    >>> minutes_left(job, 40.0, 100, since=5.0)
    15.0
    """
    if job.minutes:
        return max(job.minutes - minutes - since, 0.0)
    if job.steps and step:
        return max((job.steps - step) * minutes / step - since, 0.0)
    return None


def status_table(queue: Queue, states: States, paused: bool = False) -> str:
    """One line a job: name, state, step, loss, minutes trained, minutes left."""
    rows = [("job", "state", "step", "loss", "held out", "minutes", "left")]
    for job in queue.jobs:
        state = states[job.name]
        rows.append((job.name, _state(state, paused), *_figures(job, state, paused)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    reasons = [f"{j.name}: {states[j.name].reason}" for j in queue.jobs if states[j.name].reason]
    return "\n".join([*lines, *reasons])


def _state(state: JobState, paused: bool) -> str:
    return "paused" if paused and state.state == RUNNING else state.state


def _figures(job: QueueJob, state: JobState, paused: bool) -> tuple[str, str, str, str, str]:
    minutes, step = progress_of(job.out)
    report = last_report(job.out)
    loss = report.get("train", {}).get("loss")
    held = {k: v for k, v in report.get("validation", {}).items() if isinstance(v, (int, float))}
    name = "loss" if "loss" in held else next(iter(held), "")
    left = None
    if state.state == RUNNING and (job.out / "log.jsonl").exists():
        since = 0.0 if paused else (time.time() - (job.out / "log.jsonl").stat().st_mtime) / 60
        left = minutes_left(job, minutes, step, since)
    return (
        str(step) if step else "", "" if loss is None else f"{loss:.4f}", f"{name} {held[name]:.4f}" if name else "",
        f"{minutes:.1f}" if minutes else "", "" if left is None else f"{left:.0f} min",
    )  # fmt: skip
