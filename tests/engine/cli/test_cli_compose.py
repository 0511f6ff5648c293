"""`etude compose`, `continue`, `infill` with the shipped models: what they write, keep, say and refuse."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.cli.compose_commands import closest, numbered, parse_bars, passage
from engine.cli.parser import EXAMPLES
from engine.cli.progress import TerminalProgress
from engine.music.io.alignment import kept_notes
from engine.music.io.midi import read_midi_performance
from engine.music.io.write_musicxml import write_musicxml
from engine.music.types import BadInput, Marks, Measures, Score
from engine.untrusted.scores import open_score
from tests.helpers.command_line import run


def little_piece() -> Score:
    """Six bars of 3/4 in G, the first a pickup of one quarter: a melody of eighths over a chord a bar."""
    melody = [(k / 2 - 1, 0.5, 67 + (0, 4, 7, 4, 5, 2)[k % 6]) for k in range(32)]
    chords = [(3.0 * k, 3.0, p) for k in range(5) for p in (43, 50, 59)]
    onset, duration, pitch = np.array(sorted(melody + chords, key=lambda n: (n[0], n[2]))).T
    n, m = len(onset), np.ones(6)
    measures = Measures([-1, 0, 3, 6, 9, 12], [1, 3, 3, 3, 3, 3], [2, 0, 0, 0, 0, 0], 3 * m, 4 * m, m, np.arange(6))
    staff = np.where(pitch >= 60, 1, 2)
    return Score(
        onset, duration, pitch, (pitch * 7 + 5) % 12 - 5, staff, staff, np.zeros(n, bool), Marks.none(n), measures
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with piece.musicxml in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "piece.musicxml").write_bytes(write_musicxml(little_piece()))
    return tmp_path


def read(path: Path) -> Score:
    return open_score(path.read_bytes(), path.name)


def test_two_takes_of_four_bars(folder: Path, capsys: pytest.CaptureFixture) -> None:
    command = "compose -o new.mid --musicxml new.musicxml --bars 4 --takes 2 --seed 3 --meter 3/4 --key D"
    status, out, err = run(f"{command} --json", capsys)
    assert status == 0, err
    assert err == ""
    result = json.loads(out)
    assert [t["output"] for t in result["takes"]] == ["new-1.mid", "new-2.mid"]
    for take in result["takes"]:
        score, played = read(folder / take["musicxml"]), read_midi_performance((folder / take["output"]).read_bytes())
        assert len(score) == take["notes"] == len(played)
        assert sorted(score.pitch) == sorted(played.pitch)
        assert len(set(played.velocity.tolist())) > 3  # a pianist plays
        assert len(score.measures) == take["measures"]
        assert (score.measures.ts_num == 3).all()
        assert (score.measures.fifths == 2).all()
        assert set(score.staff.tolist()) <= {1, 2}
        assert played.end_sec == pytest.approx(take["duration_sec"], abs=0.01)
    first = (folder / "new-1.musicxml").read_bytes()
    assert first != (folder / "new-2.musicxml").read_bytes()
    status, out, err = run(f"{command.replace('new', 'again')}", capsys)
    assert status == 0, err
    assert (folder / "again-1.musicxml").read_bytes() == first
    assert err == "", "progress is for a terminal"
    assert "again-2.mid" in out
    assert sorted(p.name for p in folder.iterdir() if p.suffix == ".mid") == [
        "again-1.mid", "again-2.mid", "new-1.mid", "new-2.mid",
    ]  # fmt: skip


def test_continue_keeps_every_note(folder: Path, capsys: pytest.CaptureFixture) -> None:
    status, out, err = run("continue piece.musicxml -o longer.musicxml --bars 3 --seed 1 --json", capsys)
    assert status == 0, err
    (take,) = json.loads(out)["takes"]
    old, new = read(folder / "piece.musicxml"), read(folder / "longer.musicxml")
    kept = kept_notes(old, new)
    assert sorted(kept[kept >= 0].tolist()) == list(range(len(old)))
    assert take["new_notes"] == (kept < 0).sum() > 0
    assert "duration_sec" not in take  # nothing was played
    assert new.onset_quarter[kept < 0].min() >= old.onset_quarter.max()
    assert len(new.measures) == len(old.measures) + 3


def test_infill_changes_the_passage_alone(folder: Path, capsys: pytest.CaptureFixture) -> None:
    command = "infill piece.musicxml --bars 2-3 --staff upper -o other.mid --musicxml other.musicxml --seed 5 --json"
    status, _, err = run(command, capsys)
    assert status == 0, err
    old, new = read(folder / "piece.musicxml"), read(folder / "other.musicxml")
    kept = kept_notes(old, new)
    outside = (old.onset_quarter < 3) | (old.onset_quarter >= 9) | (old.staff == 2)
    assert set(np.flatnonzero(outside).tolist()) <= set(kept.tolist())
    fresh = kept < 0
    assert ((new.onset_quarter[fresh] >= 3) & (new.onset_quarter[fresh] < 9)).all()
    assert len(read_midi_performance((folder / "other.mid").read_bytes())) == len(new)


def test_bars_by_their_printed_numbers() -> None:
    score = little_piece()
    selected, span = passage(score, (0, 1))
    assert span == (-1, 3)
    assert selected.sum() == (score.onset_quarter < 3).sum()
    lower, _ = passage(score, (2, 2), staff=2)
    assert score.pitch[lower].tolist() == [43, 50, 59]
    assert parse_bars(" 5 - 8 ") == (5, 8)
    m = score.measures
    repeated = Measures(
        m.onset_quarter, m.duration_quarter, m.position_quarter, m.ts_num, m.ts_den, m.fifths, [0, 1, 2, 1, 2, 3]
    )
    again = Score(
        score.onset_quarter, score.duration_quarter, score.pitch, score.spelling, score.staff, score.voice,
        score.grace, score.marks, repeated,
    )  # fmt: skip
    assert passage(again, (1, 2))[1] == (0, 6)  # the first time
    assert passage(again, (2, 3))[1] == (3, 15)
    with pytest.raises(BadInput, match="has no bar 9; its bars are 0 to 5"):
        passage(score, (2, 9))


def test_names_that_are_nearly_right() -> None:
    known = ("C. P. E. Bach", "J. S. Bach", "Dvořák", "Żeleński", "Grieg")
    assert closest("GRIEG", known) == "Grieg"
    assert closest("dvorak", known) == "Dvořák"
    assert closest("zelenski", known) == "Żeleński"
    assert closest("jsbach", known) == "J. S. Bach"
    assert closest("bach", known) == "bach"  # which of them?
    assert closest(None, known) == ""
    assert str(numbered(Path("a/b.mid"), 0, 2)) == str(Path("a/b-1.mid"))


@pytest.mark.parametrize(
    "command, sentence",
    [
        ("compose", "required: -o"),
        ("compose -o a.wav", "end it with .mid, or with .musicxml"),
        ("compose -o none/a.mid", "folder none does not exist"),
        ("compose -o a.mid --musicxml a.mid", "end it with .musicxml"),
        ("compose -o a.musicxml --musicxml a.musicxml", "give them two names"),
        ("compose -o a.mid --takes 0", "0 takes"),
        ("compose -o a.mid --takes 9", "9 takes"),
        ("compose -o a.mid --notes 3", "3 notes"),
        ("compose -o a.mid --bars -2", "-2 bars"),
        ("compose -o a.mid --seed -1", "The seed is -1"),
        ("compose -o a.mid --temperature 9", "temperature is 9"),
        ("compose -o a.mid --top-p 0", "Top-p is 0"),
        ("compose -o a.mid --composer Hummel", "choose one of"),
        ("compose -o a.mid --period Stone", "choose one of"),
        ("compose -o a.mid --key H", "The key is"),
        ("compose -o a.mid --meter 11/7", "11/7"),
        ("compose -o a.mid --tempo -5", "-5"),
        ("compose -o a.mid --density fast", "invalid float value: 'fast'"),
        ("compose -o a.mid --checkpoints none", "lacks config.json"),
        ("compose -o a.mid --bars 1 --style Liberace", 'There is no style "Liberace"'),
        ("continue none.mid -o a.mid", "There is no file none.mid"),
        ("continue piece.musicxml -o piece.musicxml", "would replace an input"),
        ("continue piece.musicxml -o a.mid --bars 100000", "100000 bars"),
        ("infill piece.musicxml -o a.mid", "required: --bars"),
        ("infill piece.musicxml -o a.mid --bars x", '--bars is "x"'),
        ("infill piece.musicxml -o a.mid --bars 3-2", '--bars is "3-2"'),
        ("infill piece.musicxml -o a.mid --bars 2-77", "has no bar 77"),
        ("infill piece.musicxml -o a.mid --bars 2 --staff middle", "invalid choice: 'middle'"),
        ("infill piece.musicxml -o a.mid --bars 0 --staff lower", "lower staff has no notes there"),
    ],
)
def test_every_error_is_one_sentence(folder: Path, capsys: pytest.CaptureFixture, command: str, sentence: str) -> None:
    before = set(folder.iterdir())
    status, out, err = run(f"{command} --quiet", capsys)
    assert status == 2, err
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1, err
    assert err.rstrip()[-1] in ".?!", err
    assert set(folder.iterdir()) == before, "a refused command wrote a file"


def test_control_c_is_clean(folder: Path) -> None:
    """Stopped while it composes: status 130, nothing written, no traceback."""
    line = [Path(sys.executable).with_name("etude"), "compose", "-o", "long.mid", "--notes", "4000", "--takes", "2"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(line, cwd=folder, stderr=theirs, stdout=subprocess.PIPE, text=True)
    os.close(theirs)
    said = b""
    while not re.search(rb"Composing +\[#+\.+\] +[1-9]", said):
        said += os.read(ours, 1000)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    with contextlib.suppress(OSError):  # the terminal's end
        while more := os.read(ours, 1000):
            said += more
    os.close(ours)
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    assert b"\n" not in said, "one line, updated in place"
    assert said.endswith(b"\r"), "and taken away"
    assert out == ""
    assert [p.name for p in folder.iterdir()] == ["piece.musicxml"]


def test_progress_is_one_line_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, quiet in ((True, False), (True, True), (False, False)):
        heard = io.StringIO()
        monkeypatch.setattr(heard, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr(sys, "stderr", heard)
        progress = TerminalProgress(quiet)
        progress.stage("Reading")
        progress.stage("Composing")
        for share in (0.0, 0.501, 0.502, 2.0):
            progress.share(share)
        progress.note("A remark.")
        progress.done()
        shown = heard.getvalue()
        if quiet or not terminal:
            assert shown == ("" if quiet else "A remark.\n")
            continue
        assert shown.count("50%") == 1, "not said twice"
        assert "100%" in shown
        screen = ""
        for part in shown.split("\r"):  # as a terminal shows it
            screen = part + screen[len(part) :]
        assert screen.split("\n")[0].rstrip() == "A remark."


@pytest.mark.parametrize("command", ["compose", "continue", "infill"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture) -> None:
    status, out, _ = run(f"{command} --help", capsys)
    assert status == 0
    assert f"etude {command} " in out.split("examples:")[1]
    assert f"etude {command} " in EXAMPLES


def test_help_loads_no_model(folder: Path) -> None:
    """The parser knows the commands without torch."""
    code = "import sys; from engine.cli.parser import build_parser; build_parser(); assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_section_is_moved_and_composed_again(folder: Path, capsys: pytest.CaptureFixture) -> None:
    old = read(folder / "piece.musicxml")
    command = f"section piece.musicxml --section 1 -o other.musicxml --seed 5 --json --form A2B{len(old.measures) - 2}"
    status, out, err = run(f"{command} --move 2", capsys)
    assert status == 0, err
    assert json.loads(out)["form"] == f"B{len(old.measures) - 2} A2"
    assert sorted(read(folder / "other.musicxml").pitch) == sorted(old.pitch)
    status, _, err = run(f"{command} --recompose", capsys)
    assert status == 0, err
    kept = kept_notes(old, read(folder / "other.musicxml"))
    end = float(old.measures.onset_quarter[2])
    assert set(np.flatnonzero(old.onset_quarter >= end).tolist()) <= set(kept.tolist())
    status, _, err = run(f"{command} --vary --form A1", capsys)
    assert status == 2
    assert "The form has 1 bars and the score" in err
