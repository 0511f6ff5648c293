"""`etude batch --ray ADDRESS`: the files of a batch on the nodes of a Ray cluster (https://docs.ray.io).

A task contains the bytes of its files and returns those of its result, so the nodes need no shared disk; each needs
Étude with the same checkpoints. Ray repeats a task if its node fails. Only this process writes results, aside and then
renamed, so no partial files remain after an interrupt.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.checkpoints.index import weights_here
from engine.cli.tasks import Line, Task
from engine.files import write_output
from engine.music.types import BadInput

AHEAD = 3  # tasks in flight per processor: keeps nodes busy with bounded memory
RETRIES = 5  # repetitions of a task whose node failed
LOOK_SEC = 1.0  # interval of the check for an interrupt
Work = Callable[[Task, Path], Line]


@dataclass(frozen=True)
class Parcel:
    """A task for a node: a command line in which paths are file numbers, "@0", and the bytes of these files.

    name     the source in the summary
    files    (file name, bytes) each
    target   the file name of the result
    weights  the required checkpoints, see `weights_here`
    """

    name: str
    argv: tuple[str, ...]
    files: tuple[tuple[str, bytes], ...]
    target: str
    weights: dict[str, str]


def pack(task: Task, folder: Path) -> Parcel:
    """A task with the bytes of every file in its command line."""
    files: list[tuple[str, bytes]] = []
    argv = []
    for word in task.argv:
        path = Path(word)
        if word == str(task.target):
            argv.append("@out")
        elif path.is_file():
            argv.append(f"@{len(files)}")
            files.append((path.name, path.read_bytes()))
        else:
            argv.append(word)
    name = str(task.source.relative_to(folder))
    return Parcel(name, tuple(argv), tuple(files), task.target.name, weights_here())


def unpack_and_do(parcel: Parcel, work: Work) -> tuple[Line, bytes]:
    """On a node: run a task in its own folder; the line of the summary, and the result's bytes, b"" for none."""
    here = weights_here()
    if other := sorted(name for name, digest in parcel.weights.items() if here.get(name) != digest):
        sentence = f"The node {os.uname().nodename} has other weights ({', '.join(other)}); install the same version."
        return Line(parcel.name, "failed", message=sentence), b""
    with tempfile.TemporaryDirectory(prefix="etude-ray-") as made:
        folder = Path(made)
        places = {"@out": str(folder / "out" / parcel.target)}
        for number, (name, data) in enumerate(parcel.files):
            path = folder / str(number) / name
            path.parent.mkdir()
            path.write_bytes(data)
            places[f"@{number}"] = str(path)
        argv = tuple(places.get(word, word) for word in parcel.argv)
        line = work(Task(folder / "0" / parcel.files[0][0], Path(places["@out"]), argv), folder)
        line = replace(line, file=parcel.name, message=line.message.replace(f"{folder}/0/", ""))
        return line, Path(places["@out"]).read_bytes() if line.status == "done" else b""


def on_ray(tasks: Sequence[Task], folder: Path, address: str, work: Work) -> Iterator[Line]:
    """Run the tasks on a cluster; yields the lines of the summary as they arrive. Raises BadInput if there is no
    cluster."""
    ray = _connected(address)
    remote = ray.remote(num_cpus=1, max_retries=RETRIES)(unpack_and_do)
    waiting, running = deque(tasks), dict[Any, Task]()
    try:
        while waiting or running:
            most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
            while waiting and len(running) < most:
                task = waiting.popleft()
                running[remote.remote(pack(task, folder), work)] = task
            ready, _ = ray.wait(list(running), timeout=LOOK_SEC)
            for one in ready:
                task = running.pop(one)
                yield _received(ray, one, task, str(task.source.relative_to(folder)))
    except (ConnectionError, ray.exceptions.RaySystemError) as error:
        raise BadInput(f"The Ray cluster is gone ({_first_line(error)}); what is done stays, start again.") from None
    finally:
        ray.shutdown()  # also after an interrupt; the cluster ends the remaining tasks of a driver that leaves


def _connected(address: str) -> Any:
    """The ray package, connected to the cluster at an address."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise BadInput("--ray needs the package ray, which is not installed: pip install 'etude[ray]'.") from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BadInput(
            f"No Ray cluster answers at {address} ({_first_line(error)}); start one with `ray start --head`, give its "
            "address, such as 10.0.0.1:6379, or leave --ray out."
        ) from None
    return ray


def _received(ray: Any, one: Any, task: Task, name: str) -> Line:
    """Write a received result; its line in the summary."""
    try:
        line, data = ray.get(one)
        if line.status == "done":
            task.target.parent.mkdir(parents=True, exist_ok=True)
            write_output(task.target, data)
            return replace(line, output=str(task.target))
        return line
    except (ray.exceptions.RayError, OSError, ValueError) as error:
        return Line(name, "failed", message=f"Its node ended it {RETRIES + 1} times: {_first_line(error)}.")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
