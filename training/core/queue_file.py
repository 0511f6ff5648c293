"""The queue file (TOML): jobs in order, their folders and their bundles; see docs/training.md."""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

BUNDLE_MINUTES = 20.0


class QueueFileError(ValueError):
    """The queue file cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class QueueJob:
    """One job of a queue.

    name      unique; also the name of its run folder, its log and its bundle
    command   as typed; {out}, {runs}, {root} and the names under [paths] are filled in
    out       the run folder (a training writes log.jsonl, config.json and last.pt there)
    minutes   training time over all sessions, the job's goal; 0 for no such goal
    steps     training steps, the job's goal; 0 for no such goal
    depends   names of jobs that must finish first
    bundle    exported weights, written during training; the job continues from them if the run folder is missing
    commit    git commit to run; "" the repository's HEAD when the job first starts
    """

    name: str
    command: str
    out: Path
    bundle: Path
    minutes: float = 0.0
    steps: int = 0
    depends: tuple[str, ...] = ()
    commit: str = ""

    @property
    def trains(self) -> bool:
        return bool(self.minutes or self.steps)


@dataclass(frozen=True)
class Queue:
    """A read queue file.

    folder          everything the queue writes: code/ (snapshots), jobs/ (run folders), bundles/, logs/, queue.jsonl
    launcher        prefix of every command, for example ("nice", "-n", "10")
    paths           absolute data folders by the names used in commands
    bundle_minutes  minutes between two exports of a training's weights
    """

    folder: Path
    jobs: tuple[QueueJob, ...]
    launcher: tuple[str, ...] = ()
    paths: dict[str, str] | None = None
    bundle_minutes: float = BUNDLE_MINUTES

    def job(self, name: str) -> QueueJob:
        return next(job for job in self.jobs if job.name == name)

    def words(self, job: QueueJob, root: Path, done_minutes: float = 0.0, torchrun: int = 0) -> list[str]:
        """The command of a job as arguments; a training also gets --out and the rest of its goal."""
        names = {"out": str(job.out), "runs": str(self.folder / "jobs"), "root": str(root), **(self.paths or {})}
        words = [word.format_map(names) for word in shlex.split(job.command)]
        if words[0] in ("python", "python3"):
            words[0] = sys.executable
        if torchrun > 1 and job.trains and words[1:2] == ["-m"]:
            words[1:2] = ["-m", "torch.distributed.run", "--nproc_per_node", str(torchrun), "-m"]
        extra: dict[str, str] = {}
        if job.trains:
            extra["--out"] = str(job.out)
        if job.minutes:
            extra["--minutes"] = f"{max(job.minutes - done_minutes, 0.01):g}"
            extra["--schedule-minutes"] = f"{job.minutes:g}"
        if job.steps:
            extra["--steps"] = str(job.steps)
        given = {word.split("=")[0] for word in words}
        return [*self.launcher, *words, *(w for k, v in extra.items() if k not in given for w in (k, v))]


_JOB_KEYS = {f.name for f in fields(QueueJob)}
_QUEUE_KEYS = {"folder", "launcher", "paths", "bundle_minutes", "commit", "jobs"}


def read_queue(path: Path, root: Path) -> Queue:
    """Read a queue file. Relative paths are taken from `root`, the repository; ~ and $NAME are expanded.

    QueueFileError  the file is missing, is not TOML, or a job is not complete
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise QueueFileError(f'There is no queue file "{path}"; give the path of a TOML file.') from None
    except tomllib.TOMLDecodeError as error:
        raise QueueFileError(f'"{path}" is not valid TOML: {error}. Correct the file and start again.') from None
    _refuse_unknown(table, _QUEUE_KEYS, f'"{path}"')
    folder = _absolute(table.get("folder", f"runs/{path.stem}"), root)
    paths = {k: str(_absolute(v, root)) for k, v in table.get("paths", {}).items()}
    jobs = tuple(_job(entry, table, folder, root) for entry in table.get("jobs", []))
    if not jobs:
        raise QueueFileError(f'"{path}" has no jobs; add a [[jobs]] table with name and command.')
    queue = Queue(
        folder, jobs, tuple(table.get("launcher", ())), paths, float(table.get("bundle_minutes", BUNDLE_MINUTES))
    )
    _check(queue, root)
    return queue


def _job(entry: dict[str, Any], table: dict[str, Any], folder: Path, root: Path) -> QueueJob:
    _refuse_unknown(entry, _JOB_KEYS, f'job "{entry.get("name", "?")}"')
    name = entry.get("name", "")
    if not re.fullmatch(r"[\w.-]+", str(name)):
        raise QueueFileError(f'A job is named "{name}"; a name has letters, digits, points, _ and - only.')
    if not entry.get("command"):
        raise QueueFileError(f'Job "{name}" has no command; add command = "python -m ...".')
    return QueueJob(
        name, entry["command"],
        _absolute(entry["out"], root) if "out" in entry else folder / "jobs" / name,
        _absolute(entry["bundle"], root) if "bundle" in entry else folder / "bundles" / name,
        float(entry.get("minutes", 0)), int(entry.get("steps", 0)), tuple(entry.get("depends", ())),
        entry.get("commit", table.get("commit", "")),
    )  # fmt: skip


def _absolute(path: str, root: Path) -> Path:
    return root / Path(os.path.expandvars(path)).expanduser()


def _refuse_unknown(table: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise QueueFileError(f"Unknown key {unknown[0]!r} in {where}; known are {', '.join(sorted(known))}.")


def _check(queue: Queue, root: Path) -> None:
    """Check that names are unique, dependencies come before their jobs, and placeholders are known."""
    seen: set[str] = set()
    for job in queue.jobs:
        if job.name in seen:
            raise QueueFileError(f'Two jobs are named "{job.name}"; rename one.')
        for needed in job.depends:
            if needed not in seen:
                raise QueueFileError(f'Job "{job.name}" depends on "{needed}", which is not a job above it.')
        try:
            queue.words(job, root)
        except (KeyError, ValueError, IndexError) as error:
            raise QueueFileError(
                f'The command of job "{job.name}" cannot be filled in ({error}); write {{{{ and }}}} for braces.'
            ) from None
        seen.add(job.name)
