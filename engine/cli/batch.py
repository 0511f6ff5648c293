"""`etude batch`: one command over every file of a folder. A failed file is a line in the summary; the others are
processed.

Output files have the names of the input files. The output folder also contains `summary.csv` and `batch.json`, which
records the settings: a second run with the same settings processes only missing or outdated files.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.cli.parser import build_parser, join_negative
from engine.cli.performances import SCORE_SUFFIXES
from engine.cli.progress import CommandProgress, TerminalProgress
from engine.cli.tasks import Line, Task
from engine.files import open_performance_file, write_output
from engine.measures.side_by_side import MOST
from engine.music.types import BadInput, BundleError

PERFORMANCES, RECORDINGS = (".mid", ".midi"), (".wav", ".flac", ".ogg", ".mp3")
PRINTED = tuple(
    suffix for suffix in SCORE_SUFFIXES if suffix not in PERFORMANCES
)  # kinds of score that performances belong to
# kind: (inputs by their ending, endings that can be written, the usual one first)
KINDS = {
    "perform": (SCORE_SUFFIXES, ("mid", "musicxml")),
    "render": (PERFORMANCES, ("wav", "flac")),
    "preview": (PERFORMANCES, ("wav", "flac")),
    "metrics": (PERFORMANCES, ("json",)),
    "transcribe": (RECORDINGS, ("mid",)),
    "compare": (PRINTED, ("html",)),
    "convert": (SCORE_SUFFIXES, ("musicxml", "mid")),
}
OWN = ("summary.csv", "batch.json")
MAX_JOBS = 64


def add_commands(add: Any) -> None:
    """Add the command to the parser; `add` is that of `parser.build_parser`."""
    p = add("batch", batch, "Apply one command to every file of a folder; other options are those of the command.")
    p.add_argument("kind", choices=tuple(KINDS), metavar="WHAT", help=", ".join(KINDS))
    p.add_argument("folder", type=Path, metavar="FOLDER", help="the folder of the input files; subfolders are included")
    p.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="the output folder; created if missing"
    )
    p.add_argument("--as", dest="ending", metavar="ENDING", help="output format: mid, musicxml, wav, flac")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="parallel files (default 1)")
    p.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster, such as 10.0.0.1:6379")
    p.add_argument("--force", action="store_true", help="process finished files again")


def batch(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    """`etude batch`."""
    tasks = find_tasks(arguments)
    if not 1 <= arguments.jobs <= MAX_JOBS:
        raise BadInput(f"--jobs is {arguments.jobs}; 1 to {MAX_JOBS} is accepted.")
    if arguments.ray and arguments.jobs != 1:
        raise BadInput("--ray uses every processor of the cluster; leave --jobs out.")
    if arguments.kind != "metrics":
        first = next((task for task in tasks if not _lacks(task)), None)
        if first is not None:
            _parsed(first.argv)  # an unknown option is reported once, before any work
    elif arguments.rest:
        raise BadInput(f"batch metrics takes no {arguments.rest[0]}; leave it out.")
    _prepare(arguments)
    lines: list[Line] = []
    progress.stage(arguments.kind.capitalize())
    try:
        for line in _lines(tasks, arguments):
            lines.append(line)
            if line.status == "failed":
                progress.note(f"{line.file}: {line.message}")
                progress.stage(arguments.kind.capitalize())
            progress.share(len(lines) / len(tasks))
    finally:  # also after an interrupt
        _summarise(arguments.output, lines)
    counted = Counter(line.status for line in lines)
    return {
        "output": str(arguments.output), "files": len(lines), **{s: counted[s] for s in ("done", "skipped", "failed")},
        "rows": [asdict(line) for line in lines], "table": in_words(lines, arguments.output),
    }  # fmt: skip


def find_tasks(arguments: argparse.Namespace) -> list[Task]:
    """The tasks, in order of names. Raises BadInput if there are none."""
    folder, out, kind = arguments.folder, arguments.output, arguments.kind
    if not folder.is_dir():
        raise BadInput(f"There is no folder {folder}; name a folder of files to {kind}.")
    suffixes, endings = KINDS[kind]
    ending = (arguments.ending or endings[0]).lower().lstrip(".")
    if ending not in endings:
        raise BadInput(f'--as is "{arguments.ending}"; {kind} writes {" or ".join(endings)}.')
    files = sorted(
        f for f in folder.rglob("*")
        if f.suffix.lower() in suffixes and f.is_file() and not f.name.startswith(".") and not _within(f, out)
    )  # fmt: skip
    if not files:
        raise BadInput(f"{folder} has no files to {kind}; {', '.join(suffixes)} are read.")
    stems = Counter(f.with_suffix("") for f in files)
    tasks = []
    for file in files:
        inside = file.relative_to(folder)
        name = inside.name if stems[file.with_suffix("")] > 1 else inside.stem  # distinguishes a.krn and a.mid
        target = out / inside.parent / f"{name}.{ending}"
        place = [str(target)] if kind == "convert" else ["-o", str(target)]
        others = performances_of(file) if kind == "compare" else ()
        tasks.append(Task(file, target, (kind, str(file), *map(str, others), *place, *arguments.rest), others))
    return tasks


def performances_of(score: Path) -> tuple[Path, ...]:
    """The performances of a score: MIDI files in its folder whose name is the score's, a dash and more:
    fugue-anna.mid."""
    beside = (f for f in score.parent.iterdir() if f.suffix.lower() in PERFORMANCES)
    return tuple(sorted(f for f in beside if f.stem.startswith(f"{score.stem}-")))


def _lacks(task: Task) -> str:
    """The reason why a score cannot be compared, "" if it can."""
    if task.argv[0] != "compare" or 2 <= len(task.others) <= MOST:
        return ""
    name = f"{task.source.stem}-*.mid"
    return f"{len(task.others)} performances lie beside it ({name}); 2 to {MOST} are compared."


def _within(file: Path, folder: Path) -> bool:
    return folder.is_dir() and file.resolve().is_relative_to(folder.resolve())


def _prepare(arguments: argparse.Namespace) -> None:
    """Make the output folder; refuse one that holds results of other settings."""
    out = arguments.output
    settings = {"kind": arguments.kind, "as": arguments.ending, "options": list(arguments.rest)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        before = json.loads((out / "batch.json").read_text()) if (out / "batch.json").is_file() else settings
    except (OSError, ValueError) as error:
        raise BadInput(f"{out} cannot be used as a folder for results ({error}); name another.") from None
    if before != settings and not arguments.force:
        raise BadInput(f"{out} holds results of other settings; name another folder, or do all again with --force.")
    write_output(out / "batch.json", json.dumps(settings, indent=1).encode())


def _lines(tasks: Sequence[Task], arguments: argparse.Namespace) -> Iterator[Line]:
    """The lines of the summary as they arrive, finished files first."""
    todo = []
    for task in tasks:
        if missing := _lacks(task):
            yield Line(str(task.source.relative_to(arguments.folder)), "failed", message=missing)
        elif not arguments.force and task.is_done():
            yield Line(str(task.source.relative_to(arguments.folder)), "skipped", str(task.target))
        else:
            todo.append(task)
    if arguments.ray and todo:
        from engine.cli.batch_ray import on_ray

        yield from on_ray(todo, arguments.folder, arguments.ray, do)
    elif arguments.jobs == 1 or len(todo) < 2:
        for task in todo:
            yield do(task, arguments.folder)
    else:
        yield from _in_parallel(todo, arguments.folder, min(arguments.jobs, len(todo)))


def _in_parallel(tasks: Sequence[Task], folder: Path, jobs: int) -> Iterator[Line]:
    """Run the tasks in parallel processes, which end with this one."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _leave_interrupts_to_the_parent) as pool:
        running = {pool.submit(do, task, folder): task for task in tasks}
        try:
            for future in as_completed(running):
                yield future.result()
        except BrokenProcessPool:
            raise BadInput(
                "A process was ended from outside (out of memory?); start again with fewer --jobs."
            ) from None
        except BaseException:  # Ctrl-C: no partial files remain, because files are written aside
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def do(task: Task, folder: Path) -> Line:
    """Process one file; the line of the summary."""
    began, name = time.monotonic(), str(task.source.relative_to(folder))
    try:
        task.target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(io.StringIO()):
            found = _measure(task) if task.argv[0] == "metrics" else _run(task.argv)
    except (ValueError, OSError, BundleError) as error:
        return Line(name, "failed", seconds=round(time.monotonic() - began, 2), message=" ".join(str(error).split()))
    except Exception as error:
        sentence = f"Étude failed here ({type(error).__name__}); the single command with ETUDE_DEBUG=1 says where."
        return Line(name, "failed", seconds=round(time.monotonic() - began, 2), message=sentence)
    return Line(
        name, "done", str(task.target), int(found.get("notes", 0)), float(found.get("duration_sec", 0)),
        round(time.monotonic() - began, 2),
    )  # fmt: skip


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    return build_parser().parse_args(join_negative(argv))


def _run(argv: Sequence[str]) -> dict[str, Any]:
    arguments = _parsed(argv)
    return arguments.run(arguments, TerminalProgress(quiet=True))


def _measure(task: Task) -> dict[str, Any]:
    """Compare one performance with the corpus, as a JSON file."""
    from engine.measures.performance_metrics import panel

    performance = open_performance_file(task.source)
    rows = [asdict(row) for row in panel(performance)]
    write_output(task.target, json.dumps({"file": task.source.name, "rows": rows}, indent=1).encode())
    return {"notes": len(performance), "duration_sec": round(performance.end_sec, 3)}


def _summarise(out: Path, lines: Sequence[Line]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, list(Line.__dataclass_fields__), lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(line) for line in sorted(lines, key=lambda line: line.file))
    write_output(out / "summary.csv", text.getvalue().encode())


def in_words(lines: Sequence[Line], out: Path) -> str:
    """The summary as text: a line per file, then the count."""
    width = max((len(line.file) for line in lines), default=4)
    shown = sorted(lines, key=lambda line: line.file)
    rows = [f"{line.file:<{width}}  {line.status:<8}{line.message or line.output}" for line in shown]
    counted = Counter(line.status for line in lines)
    return "\n".join([*rows, ", ".join(f"{counted[s]} {s}" for s in ("done", "skipped", "failed")) + f"; {out}"])
