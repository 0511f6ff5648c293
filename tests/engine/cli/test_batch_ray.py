"""`etude batch --ray` on two local nodes: the same bytes as on one machine, a killed node, Ctrl-C."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.cli.batch_ray import pack, unpack_and_do
from engine.cli.tasks import Line, Task
from engine.music.io.write_musicxml import write_musicxml
from tests.helpers.command_line import little_piece, run

ROOT = Path(__file__).parents[3]
PIECES = 12
HEAD = {"num_cpus": 0, "object_store_memory": 80_000_000, "include_dashboard": False}


@pytest.fixture
def scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "scores"
    (folder / "more").mkdir(parents=True)
    for k in range(PIECES):
        (folder / ("more" if k % 2 else ".") / f"piece-{k:02}.musicxml").write_bytes(write_musicxml(little_piece()))
    (folder / "bad.krn").write_text("no score")
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    """A cluster of this computer: a head that does nothing but lead, and nodes that tests add."""
    before = dict(os.environ)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "120"}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=HEAD)
    yield made
    made.shutdown()
    os.environ.clear()
    os.environ |= before


def a_node(cluster):  # Ray's, without types
    return cluster.add_node(num_cpus=1, object_store_memory=80_000_000)


def made_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.mid")}


def test_a_parcel_holds_every_file_of_its_command(scores: Path) -> None:
    source, target = scores / "piece-00.musicxml", Path("made/piece-00.mid")
    like = scores / "bad.krn"
    task = Task(source, target, ("perform", str(source), "-o", str(target), "--like", str(like), "--seed", "3"))
    parcel = pack(task, scores)
    assert parcel.argv == ("perform", "@0", "-o", "@out", "--like", "@1", "--seed", "3")

    def work(there: Task, folder: Path) -> Line:
        assert (there.source.name, there.source.read_bytes()) == (source.name, source.read_bytes())
        assert Path(there.argv[5]).read_bytes() == b"no score"
        there.target.parent.mkdir()
        there.target.write_bytes(b"played")
        return Line("x", "done", str(there.target), 5)

    line, data = unpack_and_do(parcel, work)
    assert (line.file, line.status, line.notes, data) == ("piece-00.musicxml", "done", 5, b"played")
    others = unpack_and_do(replace(parcel, weights={"pianist-v1": "0"}), work)
    assert "has other weights (pianist-v1)" in others[0].message


def test_two_nodes_give_the_same_and_a_killed_one_loses_nothing(
    cluster, scores: Path, capsys: pytest.CaptureFixture
) -> None:  # fmt: skip
    assert run("batch convert scores -o alone --as mid", capsys)[0] == 2
    first, second = a_node(cluster), a_node(cluster)

    def kill() -> None:
        while not list(Path("made").rglob("*.mid")):
            time.sleep(0.01)
        cluster.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    status, out, _ = run(f"batch convert scores -o made --as mid --ray {cluster.address}", capsys)
    killer.join(60)
    assert status == 2, "the broken file, as on one machine"
    assert f"{PIECES} done, 0 skipped, 1 failed" in out
    assert made_in(Path("made")) == made_in(Path("alone"))
    assert len(made_in(Path("made"))) == PIECES
    with Path("made/summary.csv").open() as file:
        failed = [row for row in csv.DictReader(file) if row["status"] == "failed"]
    with Path("alone/summary.csv").open() as file:
        assert [(r["file"], r["message"]) for r in failed] == [
            (r["file"], r["message"]) for r in csv.DictReader(file) if r["status"] == "failed"
        ]
    cluster.remove_node(first, allow_graceful=False)


def test_ctrl_c_stops_the_cluster_and_leaves_whole_files(cluster, scores: Path) -> None:
    node = a_node(cluster)
    command = [sys.executable, "-m", "engine.cli", "batch", "convert", "scores", "-o", "made", "--as", "mid"]
    process = subprocess.Popen(
        [*command, "--ray", cluster.address], cwd=scores.parent, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 120
    while not made_in(Path("made")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert 0 < len(made_in(Path("made"))) <= PIECES
    assert Path("made/summary.csv").is_file()
    assert [path.name for path in Path("made").rglob(".*")] == []
    cluster.remove_node(node, allow_graceful=False)


def test_no_cluster_and_two_ways_at_once_are_a_sentence(scores: Path, capsys: pytest.CaptureFixture) -> None:
    status, _, err = run("batch convert scores -o made --ray 127.0.0.1:1 --jobs 2", capsys)
    assert (status, "leave --jobs out" in err) == (2, True)
