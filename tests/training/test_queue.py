"""The training queue with real processes: kill -9 and resume, pause, a failing job, a lost run folder."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from training.core.queue_file import QueueFileError, read_queue
from training.core.queue_runner import take_lock

ROOT = Path(__file__).parents[2]
PATIENCE_SEC = 280

TINY = """
import argparse, time
import torch
from torch import nn
from training.core.loop import Run, add_arguments, train

parser = argparse.ArgumentParser()
add_arguments(parser, "", "")
args = parser.parse_args()
args.no_compile = True
torch.manual_seed(args.seed)
run = Run(nn.Linear(2, 1), args.rate, "cpu", lambda: nn.Linear(2, 1))
run.resume(args.out / "last.pt")

def batch():
    time.sleep(0.02)
    x = torch.randn(8, 2)
    return {"x": x, "y": x.sum(1, keepdim=True)}

def losses(model, b):
    return {"loss": ((model(b["x"]) - b["y"]) ** 2).float().mean()}

def validate(model):
    return {"weight": float(model.weight.float().mean())}

train(run, args, batch, losses, validate, {"kind": "tiny", "model": {}, "pack": ""}, warm_up=3)
"""
COUNT = """
import sys, time
for i in range(int(sys.argv[2])):
    open(sys.argv[1], "a").write("x")
    time.sleep(0.1)
"""


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Path]:
    """A git repository with the training package and a tiny training; its queues are ended after the test."""
    shutil.copytree(ROOT / "training", tmp_path / "training", ignore=shutil.ignore_patterns("__pycache__", "LOG.md"))
    (tmp_path / "tiny.py").write_text(TINY)
    (tmp_path / "count.py").write_text(COUNT)
    (tmp_path / ".gitignore").write_text("runs/\n__pycache__/\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "code"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    yield tmp_path
    states = tmp_path / "runs" / "q" / "state" / "jobs.json"
    for state in json.loads(states.read_text()).values() if states.exists() else ():
        if state["state"] == "running":
            kill_group(state["group"])


def kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def command(repo: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "training.queue", str(repo / "q.toml"), *words]


def environment(repo: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(repo)}


def start(repo: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen(command(repo, *words), cwd=repo, env=environment(repo), stdout=subprocess.DEVNULL)


def ask(repo: Path, *words: str) -> str:
    done = subprocess.run(
        command(repo, *words), cwd=repo, env=environment(repo), capture_output=True, text=True, check=True
    )
    return done.stdout


def wait_for(found: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_SEC
    while not found():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def events(repo: Path) -> list[dict]:
    path = repo / "runs" / "q" / "queue.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def names(repo: Path, job: str) -> list[str]:
    return [e["event"] for e in events(repo) if e.get("job") == job]


def state(repo: Path, job: str) -> dict:
    return json.loads((repo / "runs" / "q" / "state" / "jobs.json").read_text())[job]


def reports(repo: Path, job: str = "tiny") -> list[dict]:
    path = repo / "runs" / "q" / "jobs" / job / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def steps(repo: Path) -> list[int]:
    return [line["step"] for line in reports(repo)]


def write_queue(repo: Path, *jobs: str, head: str = "") -> None:
    (repo / "q.toml").write_text(head + "".join(f"[[jobs]]\n{job}\n" for job in jobs))


TRAINING = 'name = "tiny"\ncommand = "python {root}/tiny.py --save-minutes 0.01"\nsteps = 150'


def test_a_training_killed_with_its_queue_resumes_and_a_lost_folder_continues_from_its_bundle(repo: Path) -> None:
    write_queue(repo, TRAINING, head="bundle_minutes = 0.0001\n")
    run, bundle = repo / "runs/q/jobs/tiny", repo / "runs/q/bundles/tiny/model.safetensors"
    queue = start(repo)
    wait_for(lambda: len(steps(repo)) >= 2)
    kill_group(state(repo, "tiny")["group"])  # kill -9 of the job alone
    wait_for(lambda: "resume" in names(repo, "tiny"))
    before = max(steps(repo))
    wait_for(lambda: max(steps(repo)) > before and bundle.exists())
    queue.kill()  # kill -9 of the queue, then of the job; then the run folder is lost
    queue.wait()
    kill_group(state(repo, "tiny")["group"])
    lock = repo / "runs/q/state/tiny.lock"
    wait_for(lambda: (free := take_lock(lock)) and not free.close())
    assert steps(repo) == sorted(steps(repo))
    shutil.rmtree(run)
    assert start(repo).wait(PATIENCE_SEC) == 0
    found = names(repo, "tiny")
    assert found == ["start", "killed", "resume", "killed", "restored", "resume", "done"]
    restored = next(e for e in events(repo) if e["event"] == "restored")
    assert "exported bundle" in restored["text"]
    assert 0 < restored["step"] < steps(repo)[0]
    assert steps(repo)[-1] == 150
    log = (repo / "runs/q/logs/tiny.txt").read_text()
    assert f"continues from exported weights at step {restored['step']}; new optimizers and a new warm-up" in log
    assert json.loads((repo / "runs/q/bundles/tiny/config.json").read_text())["step"] == 150


def test_a_job_outlives_its_queue_and_is_watched_again(repo: Path) -> None:
    write_queue(repo, f'name = "long"\ncommand = "python count.py {repo}/x 60"')
    queue = start(repo)
    wait_for(lambda: (repo / "x").exists())
    group = state(repo, "long")["group"]
    queue.kill()
    queue.wait()
    assert start(repo).wait(PATIENCE_SEC) == 0
    assert names(repo, "long") == ["start", "watched again", "done"]
    assert state(repo, "long")["group"] == group
    assert (repo / "x").read_text() == "x" * 60


def test_pause_stops_every_process_and_continue_goes_on(repo: Path) -> None:
    write_queue(repo, f'name = "long"\ncommand = "python count.py {repo}/x 9999"', TRAINING.replace("150", "99999"))
    queue = start(repo, "--processes", "2")
    counted, minutes = (lambda: (repo / "x").stat().st_size), (lambda: reports(repo)[-1]["minutes"])
    wait_for(lambda: (repo / "x").exists() and steps(repo))
    ask(repo, "--pause")
    wait_for(lambda: any(e["event"] == "pause" for e in events(repo)))
    time.sleep(6)  # the queue's grace period, and a little more
    assert "paused" in (repo / "runs/q/logs/tiny.txt").read_text()  # the training itself waits between two steps
    assert "paused" in ask(repo, "--status")
    before = counted(), len(steps(repo)), minutes()
    time.sleep(4)
    assert (counted(), len(steps(repo)), minutes()) == before
    ask(repo, "--continue")
    wait_for(lambda: counted() > before[0] and len(steps(repo)) > before[1])
    assert 60 * (reports(repo)[before[1]]["minutes"] - before[2]) < 6, "a pause is no training time"
    ask(repo, "--stop")
    assert queue.wait(PATIENCE_SEC) == 130


def test_a_failing_job_is_named_and_skipped_with_those_that_need_it(repo: Path) -> None:
    write_queue(
        repo, '''name = "bad"\ncommand = "python -c 'raise ValueError(42)'"''',
        'name = "needs"\ncommand = "python -c 1"\ndepends = ["bad"]', 'name = "good"\ncommand = "python -c 1"',
    )  # fmt: skip
    assert start(repo).wait(PATIENCE_SEC) == 1
    assert state(repo, "bad")["state"] == "failed"
    assert "ValueError: 42" in state(repo, "bad")["reason"]
    assert state(repo, "needs")["state"] == "skipped"
    assert state(repo, "good")["state"] == "done"
    assert "bad: exit status 1: ValueError: 42" in ask(repo, "--status")
    (repo / "q.toml").write_text((repo / "q.toml").read_text().replace("raise ValueError(42)", "pass"))
    assert start(repo, "--retry", "bad", "needs").wait(PATIENCE_SEC) == 0
    assert state(repo, "needs")["state"] == "done"


def test_jobs_run_on_one_core_from_the_commit_at_which_they_started(repo: Path) -> None:
    script = "import os,pathlib;print(sorted(os.sched_getaffinity(0)),os.environ['OMP_NUM_THREADS'],os.getcwd())"
    (repo / "where.py").write_text("raise SystemExit('not of the snapshot')")
    write_queue(
        repo, f'name = "where"\ncommand = "python -c \\"{script}\\""', 'name = "no"\ncommand = "python where.py"'
    )
    assert start(repo).wait(PATIENCE_SEC) == 1
    cores, threads, folder = (repo / "runs/q/logs/where.txt").read_text().strip().rsplit(" ", 2)
    assert len(json.loads(cores)) == 1
    assert threads == "1"
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repo, capture_output=True, text=True).stdout.strip()
    assert Path(folder).name == head[:12] == state(repo, "where")["commit"][:12]
    assert "No such file" in state(repo, "no")["reason"] or "can't open file" in state(repo, "no")["reason"]


def test_stop_ends_queue_and_jobs_and_a_second_queue_is_refused(repo: Path) -> None:
    write_queue(repo, f'name = "long"\ncommand = "python count.py {repo}/x 600"')
    queue = start(repo)
    wait_for(lambda: (repo / "x").exists())
    again = subprocess.run(command(repo), cwd=repo, env=environment(repo), capture_output=True, text=True)
    assert (again.returncode, "already running" in again.stderr) == (2, True)
    ask(repo, "--stop")
    assert queue.wait(PATIENCE_SEC) == 130
    assert state(repo, "long")["state"] == "waiting"
    size = (repo / "x").stat().st_size
    time.sleep(0.5)
    assert (repo / "x").stat().st_size == size


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "has no jobs"),
        ("[[jobs]]\nname = 1", 'no command'),
        ('[[jobs]]\nname = "a b"\ncommand = "x"', "letters, digits"),
        ('[[jobs]]\nname = "a"\ncommand = "x"\ndepends = ["b"]', "not a job above it"),
        ('[[jobs]]\nname = "a"\ncommand = "x {data}"', "cannot be filled in"),
        ('[[jobs]]\nname = "a"\ncommand = "x"\nminuts = 3', "Unknown key 'minuts'"),
        ("[[jobs", "not valid TOML"),
    ],
)  # fmt: skip
def test_a_faulty_queue_file_is_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "q.toml"
    path.write_text(text)
    with pytest.raises(QueueFileError, match=message):
        read_queue(path, tmp_path)


def test_a_training_gets_what_is_left_of_its_goal_and_torchrun_its_processes(tmp_path: Path) -> None:
    path = tmp_path / "q.toml"
    path.write_text(
        'launcher = ["nice"]\n[paths]\npacks = "data"\n'
        '[[jobs]]\nname = "a"\ncommand = "python -m training.x --pack {packs}/p.npz"\nminutes = 60'
    )
    queue = read_queue(path, tmp_path)
    words = queue.words(queue.jobs[0], tmp_path, 45.0)
    assert words[:4] == ["nice", sys.executable, "-m", "training.x"]
    assert words[4:] == [
        "--pack", f"{tmp_path}/data/p.npz", "--out", f"{tmp_path}/runs/q/jobs/a", "--minutes", "15",
        "--schedule-minutes", "60",
    ]  # fmt: skip
    many = queue.words(queue.jobs[0], tmp_path, 0.0, torchrun=4)
    assert many[2:7] == ["-m", "torch.distributed.run", "--nproc_per_node", "4", "-m"]


@pytest.mark.parametrize("path", sorted((ROOT / "training" / "runs").glob("*.toml")), ids=lambda p: p.stem)
def test_every_queue_of_the_repository_names_commands_that_exist(path: Path) -> None:
    queue = read_queue(path, ROOT)
    for job in queue.jobs:
        words = queue.words(job, ROOT)
        module = words[words.index("-m") + 1]
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module
