"""Runner of the queue: starts jobs from snapshots of the code, monitors, pauses and resumes them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from training.core.pausing import PAUSE_VARIABLE
from training.core.queue_file import QueueFileError, QueueJob, read_queue
from training.core.queue_state import DONE, ENDED, FAILED, RUNNING, SKIPPED, WAITING, JobState, States, progress_of

TICK_SEC = 0.5
PAUSE_GRACE_SEC = 3.0  # time for a training to pause between two steps, before the process is stopped
STOP_GRACE_SEC = 10.0
MAX_KILLS = 3  # deaths by signal of one job without progress, before it counts as failed
# the shell writes the exit status, so that a later queue can read it
_WRAPPER = '"$@"; code=$?; echo $code > "$EXIT_FILE.tmp" && mv "$EXIT_FILE.tmp" "$EXIT_FILE"; exit $code'


class Runner:
    """Starts, monitors and pauses the jobs of a queue."""

    def __init__(self, path: Path, root: Path, processes: int, torchrun: int = 0, launcher: tuple[str, ...] = ()):
        self.path, self.root, self.torchrun, self.launcher = path, root, torchrun, launcher
        self.queue = read_queue(path, root)
        self.folder = self.queue.folder
        for name in ("code", "jobs", "bundles", "logs", "state"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.lock = take_lock(self.folder / "state" / "queue.lock")
        if self.lock is None:
            raise QueueFileError(f"A queue is already running in {self.folder}; wait for it, or end it with --stop.")
        self.lock.truncate(0)
        self.lock.write(str(os.getpid()))
        self.lock.flush()
        self.states = States(self.folder / "state" / "jobs.json")
        self.slots = processes
        self.changed = path.stat().st_mtime
        self.children: dict[str, subprocess.Popen] = {}
        self.savers: dict[str, subprocess.Popen] = {}
        self.paused_at: float | None = None
        self.stopped = False

    def log(self, event: str, job: str = "", **facts: Any) -> None:
        """Write one event to queue.jsonl and to the screen."""
        line = {"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "event": event, **({"job": job} if job else {}), **facts}
        with open(self.folder / "queue.jsonl", "a", encoding="utf-8") as f:
            f.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def run(self) -> int:
        """Run until all jobs have ended; returns the exit status, 1 if a job failed."""
        self.log("queue", processes=self.slots, file=str(self.path), pid=os.getpid())
        self._watch_again()
        while any(self.states[job.name].state not in ENDED for job in self.queue.jobs):
            self._read_again()
            self._pause_or_continue()
            for job in self.queue.jobs:
                if self.states[job.name].state == RUNNING:
                    self._look_after(job)
            if self.paused_at is None:
                self._start_what_can()
            time.sleep(TICK_SEC)
        for child in self.savers.values():
            child.wait()
        named = {s: [j.name for j in self.queue.jobs if self.states[j.name].state == s] for s in ENDED}
        self.log("end", **named)
        return 1 if named[FAILED] else 0

    def stop(self) -> None:
        """End all jobs; they are resumed when the queue is started again."""
        running = [job for job in self.queue.jobs if self.states[job.name].state == RUNNING]
        for sign in (signal.SIGCONT, signal.SIGTERM):
            for job in running:
                self._signal(job, sign)
        until = time.monotonic() + STOP_GRACE_SEC
        while time.monotonic() < until and any(self._alive(job) for job in running):
            time.sleep(0.1)
        for job in running:
            if self._alive(job):
                self._signal(job, signal.SIGKILL)
            self.states.set(job.name, state=WAITING)
        self.log("stop", jobs=[job.name for job in running])

    # --- starting

    def _start_what_can(self) -> None:
        used = [s.slot for s in (self.states[job.name] for job in self.queue.jobs) if s.state == RUNNING]
        free = [slot for slot in range(self.slots) if slot not in used]
        for job in self.queue.jobs:
            state = self.states[job.name]
            if state.state != WAITING:
                continue
            needed = {name: self.states[name].state for name in job.depends}
            lost = [name for name, s in needed.items() if s in (FAILED, SKIPPED)]
            if lost:
                self.states.set(job.name, state=SKIPPED, reason=f"needs {lost[0]}, which failed")
                self.log("skipped", job.name, reason=f"needs {lost[0]}, which failed")
            elif free and all(s == DONE for s in needed.values()):
                self._start(job, free.pop(0))

    def _start(self, job: QueueJob, slot: int) -> None:
        state = self.states[job.name]
        try:
            commit, code = self._snapshot(state.commit or job.commit)
            self._restore(job, state)
            minutes, step = progress_of(job.out)
            words = self.queue.words(job, self.root, minutes, self.torchrun)
        except (subprocess.CalledProcessError, OSError, KeyError) as error:
            self._fail(job, f"could not be prepared: {_reason(error)}")
            return
        if job.minutes and minutes >= job.minutes:
            self._done(job)
            return
        exit_file = self.folder / "state" / f"{job.name}.exit"
        exit_file.unlink(missing_ok=True)
        job.out.parent.mkdir(parents=True, exist_ok=True)
        lock = take_lock(self._lock_of(job))
        assert lock is not None, "the job is still running"
        environment = {
            **os.environ, "PYTHONPATH": str(code), "EXIT_FILE": str(exit_file),
            PAUSE_VARIABLE: str(self.folder / "pause"),
        }  # fmt: skip
        if self.torchrun < 2:
            environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        core = None if self.torchrun > 1 else core_of(slot)
        with lock, open(self.folder / "logs" / f"{job.name}.txt", "ab") as output:
            child = subprocess.Popen(
                ["sh", "-c", _WRAPPER, "job", *self.launcher, *words], cwd=code, env=environment, stdout=output,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=[lock.fileno()],
                preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
            )  # fmt: skip
        self.children[job.name] = child
        event = "resume" if state.starts else "start"
        self.states.set(
            job.name, state=RUNNING, group=child.pid, slot=slot, commit=commit, starts=state.starts + 1, step=step,
            reason="",
        )  # fmt: skip
        self.log(event, job.name, step=step, minutes=round(minutes, 2), commit=commit, core=core, pid=child.pid)

    def _snapshot(self, commit: str) -> tuple[str, Path]:
        """The full commit hash and the folder with its code, which is created if necessary."""
        found = _git(self.root, "rev-parse", "--verify", f"{commit or 'HEAD'}^{{commit}}")
        code = self.folder / "code" / found[:12]
        if not (code / "training").exists():
            _git(self.root, "worktree", "prune")
            _git(self.root, "worktree", "add", "--force", "--detach", str(code), found)
            if _git(self.root, "status", "--porcelain", "--untracked-files=no"):
                self.log("note", text="uncommitted changes are not in the snapshot", commit=found)
        return found, code

    def _restore(self, job: QueueJob, state: JobState) -> None:
        """If the run folder is missing, restore it from the exported bundle and log this."""
        if not job.trains or (job.out / "last.pt").exists():
            return
        if (job.bundle / "model.safetensors").exists():
            self._bundles("restore", job.bundle, job.out)
            minutes, step = progress_of(job.out)
            text = "the run folder is gone: continues from the exported bundle (weights, new warm-up)"
            self.log("restored", job.name, text=text, bundle=str(job.bundle), step=step, minutes=round(minutes, 2))
        elif state.starts and state.step:
            self.log("lost", job.name, text="the run folder is gone and there is no bundle: starts from step 0")

    def _bundles(self, *words: str | Path) -> None:
        command = [sys.executable, "-m", "training.core.bundles", *map(str, words)]
        subprocess.run(command, cwd=self.root, env=self._own(), check=True, capture_output=True, text=True)

    def _own(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"}

    # --- watching

    def _lock_of(self, job: QueueJob) -> Path:
        return self.folder / "state" / f"{job.name}.lock"

    def _alive(self, job: QueueJob) -> bool:
        """Whether any process of the job lives: all of them hold its lock."""
        if job.name in self.children:
            self.children[job.name].poll()
        lock = take_lock(self._lock_of(job))
        if lock is not None:
            lock.close()
        return lock is None

    def _watch_again(self) -> None:
        """Find the state of jobs that an earlier queue started."""
        for job in self.queue.jobs:
            if self.states[job.name].state == RUNNING and self._alive(job):
                self.log("watched again", job.name, pid=self.states[job.name].group)
                if not (self.folder / "pause").exists():
                    self._signal(job, signal.SIGCONT)

    def _look_after(self, job: QueueJob) -> None:
        if self._alive(job):
            self._export(job)
            return
        self.children.pop(job.name, None)
        exit_file = self.folder / "state" / f"{job.name}.exit"
        code = int(exit_file.read_text()) if exit_file.exists() else None
        if code == 0:
            self._done(job)
        elif code is None or code > 128:
            self._killed(job, code)
        else:
            self._fail(job, f"exit status {code}: {_last_line(self.folder / 'logs' / f'{job.name}.txt')}")

    def _done(self, job: QueueJob) -> None:
        self._export(job, now=True)
        self.states.set(job.name, state=DONE)
        minutes, step = progress_of(job.out)
        self.log("done", job.name, step=step, minutes=round(minutes, 2))

    def _killed(self, job: QueueJob, code: int | None) -> None:
        """Restart a job that a signal ended, unless this happened MAX_KILLS times without progress."""
        state, (_, step) = self.states[job.name], progress_of(job.out)
        kills = 1 if step > state.step else state.kills + 1
        by = f"signal {code - 128}" if code else "a signal"
        if kills >= MAX_KILLS:
            self._fail(job, f"ended by {by} {kills} times without progress")
            return
        self.states.set(job.name, state=WAITING, kills=kills)
        self.log("killed", job.name, by=by, step=step)

    def _fail(self, job: QueueJob, reason: str) -> None:
        self.states.set(job.name, state=FAILED, reason=reason)
        self.log("failed", job.name, reason=reason, log=str(self.folder / "logs" / f"{job.name}.txt"))

    def _export(self, job: QueueJob, now: bool = False) -> None:
        """Export the weights of a training when the last export is older than bundle_minutes, or `now`."""
        saver = self.savers.get(job.name)
        if saver and now:
            saver.wait()
        last, kept = job.out / "last.pt", job.bundle / "config.json"
        if not job.trains or not last.exists() or (saver and saver.poll() is None):
            return
        age = last.stat().st_mtime - (kept.stat().st_mtime if kept.exists() else 0)
        if age > (0 if now else 60 * self.queue.bundle_minutes):
            command = [sys.executable, "-m", "training.core.bundles", "save", str(job.out), str(job.bundle)]
            with open(self.folder / "logs" / "bundles.txt", "ab") as output:
                self.savers[job.name] = subprocess.Popen(
                    command, cwd=self.root, env=self._own(), stdout=output, stderr=subprocess.STDOUT
                )

    # --- pausing

    def _signal(self, job: QueueJob, sign: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.states[job.name].group, sign)

    def _pause_or_continue(self) -> None:
        wanted = (self.folder / "pause").exists()
        running = [job for job in self.queue.jobs if self.states[job.name].state == RUNNING and self._alive(job)]
        if wanted and self.paused_at is None:
            self.paused_at, self.stopped = time.monotonic(), False
            self.log("pause", jobs=[job.name for job in running])
        elif wanted and not self.stopped and time.monotonic() - (self.paused_at or 0) > PAUSE_GRACE_SEC:
            self.stopped = True
            for job in running:
                self._signal(job, signal.SIGSTOP)
        elif not wanted and self.paused_at is not None:
            self.paused_at = None
            for job in running:
                self._signal(job, signal.SIGCONT)
            self.log("continue", jobs=[job.name for job in running])

    def _read_again(self) -> None:
        """Read an edited queue file; if it is faulty, log this and keep the old one."""
        with contextlib.suppress(FileNotFoundError):
            changed = self.path.stat().st_mtime
            if changed == self.changed:
                return
            self.changed = changed
            try:
                queue = read_queue(self.path, self.root)
            except QueueFileError as error:
                self.log("note", text=f"the edited queue file is not used: {error}")
                return
            running = {job.name for job in self.queue.jobs if self.states[job.name].state == RUNNING}
            gone = running - {job.name for job in queue.jobs}
            if queue.folder != self.folder or gone:
                why = f"it lacks the running job {min(gone)}" if gone else "its folder differs"
                self.log("note", text=f"the edited queue file is not used: {why}")
                return
            self.queue = queue
            self.log("note", text="the queue file has changed and is read again", jobs=len(queue.jobs))


def take_lock(path: Path) -> IO[str] | None:
    """The file, locked for this process and those that inherit it; None while another holds it."""
    file = open(path, "a")  # noqa: SIM115 - held open for as long as the lock is
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def cores() -> list[int]:
    """The cores that this process may use, [] if the system does not provide them."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def core_of(slot: int) -> int | None:
    """The core that a slot's job is pinned to."""
    usable = cores()
    return usable[slot % len(usable)] if usable else None


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return (error.stderr or "").strip().splitlines()[-1:][0] if (error.stderr or "").strip() else str(error)
    return f"{type(error).__name__}: {error}"


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1][:300] if lines else "no output"
