"""State of the jobs of a queue, in one JSON file, and progress of a run folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

WAITING, RUNNING, DONE, FAILED, SKIPPED = "waiting", "running", "done", "failed", "skipped"
ENDED = (DONE, FAILED, SKIPPED)


@dataclass(frozen=True)
class JobState:
    """State of a job.

    group   process group of the running job
    slot    index among the processes; determines the core
    commit  of the code, recorded at the first start
    starts  number of starts
    step    at the last start
    kills   number of deaths by signal without progress
    reason  cause of a failure or skip
    """

    state: str = WAITING
    group: int = 0
    slot: int = 0
    commit: str = ""
    starts: int = 0
    step: int = 0
    kills: int = 0
    reason: str = ""


class States:
    """Job name -> JobState, kept in a file that is replaced atomically."""

    def __init__(self, path: Path):
        self.path = path
        self._all: dict[str, JobState] = {}
        if path.exists():
            self._all = {name: JobState(**entry) for name, entry in json.loads(path.read_text()).items()}

    def __getitem__(self, name: str) -> JobState:
        return self._all.get(name, JobState())

    def set(self, name: str, **changes: Any) -> None:
        """Change a job's state and write the file."""
        self._all[name] = replace(self[name], **changes)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps({k: asdict(v) for k, v in self._all.items()}, indent=1))
        temporary.replace(self.path)


def progress_of(run: Path) -> tuple[float, int]:
    """(minutes, steps) saved in a run folder; zeros if there is no state to resume from."""
    if not (run / "last.pt").exists():
        return 0.0, 0
    line = last_report(run)
    try:
        about = json.loads((run / "config.json").read_text())
    except (OSError, ValueError):
        about = {}
    found = [(float(d.get("minutes", 0.0)), int(d.get("step", 0))) for d in (about, line)]
    return max(found, key=lambda pair: pair[1])


def last_report(run: Path) -> dict[str, Any]:
    """The last complete line of a run's log.jsonl, {} without one."""
    try:
        lines = (run / "log.jsonl").read_text().splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            return json.loads(line)
        except ValueError:
            continue  # written when the job was killed
    return {}
