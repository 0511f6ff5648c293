"""Run training and evaluation jobs in order, one process a core: `python -m training.queue QUEUE.toml --processes 2`.

Each job runs from a snapshot of the code (a git worktree at the commit at which it first started), so files can be
moved meanwhile. The same command resumes: after kill -9 of a job, of the queue, or of both. A job that outlived its
queue is monitored again. If a run folder is missing, the job continues from its exported bundle. A failed job is
reported and skipped, with its dependents. All output is below the queue's folder; its queue.jsonl has one line per
event.

  --status     each job's state, step, loss and time left
  --pause      stop all processes within seconds (the file FOLDER/pause); --continue goes on
  --stop       end the queue and its jobs; starting it again resumes them
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from training.core.queue_file import Queue, QueueFileError, read_queue
from training.core.queue_runner import Runner, cores, take_lock
from training.core.queue_state import WAITING, States
from training.core.queue_status import status_table


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.queue", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("queue", type=Path, metavar="QUEUE.toml")
    parser.add_argument("--processes", type=int, default=1, help="jobs at a time, one core each")
    parser.add_argument("--torchrun", type=int, default=0, metavar="N", help="run trainings on N processes each")
    parser.add_argument("--launcher", default="", metavar="CMD", help='put before each command, e.g. "nice -n 10"')
    parser.add_argument("--retry", nargs="*", default=[], metavar="JOB", help="try these failed or skipped jobs again")
    what = parser.add_mutually_exclusive_group()
    for name in ("status", "pause", "continue", "stop"):
        what.add_argument(f"--{name}", dest="action", action="store_const", const=name)
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    args = parse_arguments(words)
    root = Path.cwd()
    try:
        return _act(args, root) if args.action else _run(args, root)
    except QueueFileError as error:
        print(error, file=sys.stderr)
        return 2


def _act(args: argparse.Namespace, root: Path) -> int:
    queue = read_queue(args.queue, root)
    pause = queue.folder / "pause"
    if args.action == "status":
        print(status_table(queue, States(queue.folder / "state" / "jobs.json"), pause.exists()))
    elif args.action == "pause":
        queue.folder.mkdir(parents=True, exist_ok=True)
        pause.touch()
    elif args.action == "continue":
        pause.unlink(missing_ok=True)
    else:
        _stop_running(queue)
    return 0


def _stop_running(queue: Queue) -> None:
    path = queue.folder / "state" / "queue.lock"
    if not path.exists() or take_lock(path) is not None:
        raise QueueFileError(f"No queue is running in {queue.folder}; there is nothing to stop.")
    os.kill(int(path.read_text()), signal.SIGTERM)


def _run(args: argparse.Namespace, root: Path) -> int:
    usable = len(cores()) or os.cpu_count() or 1
    if not 1 <= args.processes <= usable:
        raise QueueFileError(f"--processes {args.processes}: this machine has {usable} cores; give 1 to {usable}.")
    runner = Runner(args.queue, root, args.processes, args.torchrun, tuple(shlex.split(args.launcher)))
    for name in args.retry:
        if name not in {job.name for job in runner.queue.jobs}:
            raise QueueFileError(f'--retry {name}: no job of "{args.queue}" has this name.')
        runner.states.set(name, state=WAITING, kills=0, reason="")
    with _stop_signals():
        try:
            return runner.run()
        except KeyboardInterrupt:
            runner.stop()
            return 130


@contextlib.contextmanager
def _stop_signals() -> Iterator[None]:
    """SIGTERM ends the queue as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)
