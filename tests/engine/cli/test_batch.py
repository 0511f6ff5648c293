"""`etude batch`, with the real engine on little pieces."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.music.io.midi import read_midi_performance
from engine.music.io.write_musicxml import write_musicxml
from tests.helpers.command_line import little_piece, run


@pytest.fixture
def scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with scores/ in it: two pieces, one in a subfolder, a broken file, one to leave alone."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "scores"
    (folder / "more").mkdir(parents=True)
    for name in ("one", "more/two"):
        (folder / f"{name}.musicxml").write_bytes(write_musicxml(little_piece()))
    (folder / "bad.mid").write_bytes(b"MThd")
    (folder / "notes.txt").write_text("not music")
    return folder


def summary(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "summary.csv").open() as file:
        return {line["file"]: line for line in csv.DictReader(file)}


def test_a_bad_file_is_a_line_and_the_others_are_done(scores: Path, capsys: pytest.CaptureFixture) -> None:
    status, out, err = run("batch perform scores -o made --strength 0.5 --seed 2", capsys)
    assert status == 2
    lines = summary(Path("made"))
    assert {name: line["status"] for name, line in lines.items()} == {
        "bad.mid": "failed", "more/two.musicxml": "done", "one.musicxml": "done",
    }  # fmt: skip
    assert lines["bad.mid"]["message"].count(".") >= 1
    assert lines["bad.mid"]["message"] in err
    assert "2 done, 0 skipped, 1 failed" in out
    single = run("perform scores/one.musicxml -o single.mid --strength 0.5 --seed 2", capsys)
    assert single[0] == 0
    assert Path("made/one.mid").read_bytes() == Path("single.mid").read_bytes()
    assert Path("made/more/two.mid").is_file()


def test_a_second_run_does_only_what_is_missing(scores: Path, capsys: pytest.CaptureFixture) -> None:
    (scores / "bad.mid").unlink()
    assert run("batch convert scores -o made --as mid", capsys)[0] == 0
    kept = Path("made/one.mid").stat().st_mtime_ns
    Path("made/more/two.mid").unlink()
    status, out, _ = run("batch convert scores -o made --as mid --json", capsys)
    assert status == 0
    assert (json.loads(out)["done"], json.loads(out)["skipped"]) == (1, 1)
    assert Path("made/one.mid").stat().st_mtime_ns == kept
    assert run("batch convert scores -o made --as mid --force", capsys)[0] == 0
    assert Path("made/one.mid").stat().st_mtime_ns > kept


def test_results_of_other_settings_are_not_mixed(scores: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("batch convert scores -o made", capsys)[0] == 2  # the broken file
    status, _, err = run("batch convert scores -o made --as mid", capsys)
    assert status == 2
    assert "other settings" in err


def test_two_at_a_time_give_the_same(scores: Path, capsys: pytest.CaptureFixture) -> None:
    (scores / "bad.mid").unlink()
    assert run("batch perform scores -o alone", capsys)[0] == 0
    done = subprocess.run(
        [sys.executable, "-m", "engine.cli", "batch", "perform", "scores", "-o", "both", "--jobs", "2", "--quiet"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}, timeout=200,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path("both/one.mid").read_bytes() == Path("alone/one.mid").read_bytes()


def test_from_scores_to_sounds_and_measures(scores: Path, capsys: pytest.CaptureFixture) -> None:
    run("batch perform scores -o made", capsys)
    assert run("batch preview made -o sounds --as flac", capsys)[0] == 0
    assert Path("sounds/more/two.flac").stat().st_size > 10_000
    assert run("batch render made/more -o rendered --prompt goldberg --to 1", capsys)[0] == 0
    assert Path("rendered/two.wav").stat().st_size > 10_000
    assert run("batch metrics made -o measured", capsys)[0] == 0
    assert len(json.loads(Path("measured/one.json").read_text())["rows"]) > 5


def test_ctrl_c_leaves_whole_files_and_a_summary(scores: Path) -> None:
    for k in range(40):
        (scores / f"piece-{k:02}.musicxml").write_bytes(write_musicxml(little_piece()))
    made, root = Path("made"), str(Path(__file__).parents[3])
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.cli", "batch", "perform", "scores", "-o", "made"], cwd=scores.parent,
        env={**os.environ, "PYTHONPATH": root}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not list(made.glob("**/*.mid")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert "Traceback" not in (process.stderr.read() if process.stderr else "")
    finished = list(made.glob("**/*.mid"))
    assert 0 < len(finished) < 42
    assert all(len(read_midi_performance(path.read_bytes())) == len(little_piece()) for path in finished)
    assert [path.name for path in made.iterdir() if path.name.startswith(".")] == []
    assert summary(made)


@pytest.mark.parametrize(
    "command, sentence",
    [
        ("batch perform nowhere -o made", "There is no folder nowhere"),
        ("batch render scores/more -o made", "has no files to render"),
        ("batch perform scores -o made --as wav", "perform writes mid or musicxml"),
        ("batch perform scores -o made --jobs 0", "--jobs is 0"),
        ("batch perform scores -o made --colour red", "nrecognized arguments: --colour red"),
        ("batch metrics scores -o made --seed 3", "takes no --seed"),
        ("batch dance scores -o made", "invalid choice"),
    ],
)
def test_refusals(scores: Path, command: str, sentence: str, capsys: pytest.CaptureFixture) -> None:
    status, _, err = run(command, capsys)
    assert status == 2
    assert sentence in err
    assert not Path("made").exists()


def test_equal_names_stay_apart_and_results_are_no_input(scores: Path, capsys: pytest.CaptureFixture) -> None:
    (scores / "one.mid").write_bytes(b"MThd")
    run("batch convert scores -o scores/made", capsys)
    assert Path("scores/made/one.musicxml.musicxml").is_file()
    again = json.loads(run("batch convert scores -o scores/made --json", capsys)[1])
    assert {row["file"] for row in again["rows"]} == {"bad.mid", "one.mid", "one.musicxml", "more/two.musicxml"}
