"""The `etude` command, on a short piece, with the real engine: output files, printed results, errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.cli.commands import parse_strength
from engine.cli.etude import main
from engine.cli.parser import EXAMPLES
from engine.music.io.midi import read_midi_performance
from engine.music.io.write_musicxml import write_musicxml
from engine.music.types import BadInput
from tests.helpers.command_line import little_piece, run

COMMANDS = (
    "perform", "preview", "curves", "compare", "convert", "styles", "metrics", "render", "codec", "transcribe",
    "import-weights", "batch",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with piece.musicxml in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "piece.musicxml").write_bytes(write_musicxml(little_piece()))
    return tmp_path


def test_perform_preview_curves(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """The whole way: score to MIDI, to sound, to curves."""
    status, out, err = run("perform piece.musicxml -o played.mid", capsys)
    assert status == 0, err
    assert "112 notes" in out
    assert err == "", "progress is for a terminal"
    played = read_midi_performance((folder / "played.mid").read_bytes())
    assert sorted(played.pitch) == sorted(little_piece().pitch)
    assert len(set(played.velocity.tolist())) > 5

    status, out, err = run("preview played.mid -o played.wav --json", capsys)
    assert status == 0, err
    assert err == ""
    sound, sample_rate = soundfile.read(folder / "played.wav")
    assert np.abs(sound).max() > 0.01
    assert json.loads(out)["duration_sec"] == pytest.approx(len(sound) / sample_rate, abs=0.01)

    status, out, err = run("curves played.mid --score piece.musicxml -o played.html --json", capsys)
    assert status == 0, err
    assert json.loads(out)["matched"] >= 110
    page = (folder / "played.html").read_text()
    assert "plotly" in page.lower()
    assert "<script src=" not in page  # the page needs no network


def test_the_same_seed_gives_the_same_file(folder: Path, capsys: pytest.CaptureFixture) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert run(f"perform piece.musicxml -o {name}.mid --seed {seed}", capsys)[0] == 0
    files = [(folder / f"{name}.mid").read_bytes() for name in "abc"]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_style_strength_and_formats(folder: Path, capsys: pytest.CaptureFixture) -> None:
    status, out, err = run("perform piece.musicxml -o fast.mid --z 3 --strength timing=0,pedal=0 --json", capsys)
    assert status == 0, err
    fast = json.loads(out)
    assert 2.4 < fast["z"][0] <= 3  # the slider moves mostly its own axis, and others against its side effects
    assert fast["strength"] == {"tempo": 1.0, "timing": 0.0, "velocity": 1.0, "articulation": 1.0, "pedal": 0.0}
    slow = json.loads(run("perform piece.musicxml -o slow.mid --z -3,0 --json", capsys)[1])
    assert slow["z"] == pytest.approx([-v for v in fast["z"]])
    assert slow["duration_sec"] > 1.1 * fast["duration_sec"]
    status, out, err = run("perform piece.musicxml -o like.mid --style-from slow.mid --json", capsys)
    assert status == 0, err
    assert json.loads(out)["style"] == "of slow.mid"
    assert json.loads(out)["z"][0] < 0
    assert run("perform piece.musicxml -o locked.mid --format locked", capsys)[0] == 0
    assert (folder / "locked.mid").read_bytes()[:4] == b"MThd"
    status, out, err = run("perform piece.musicxml -o copy.musicxml", capsys)
    assert status == 0, err
    assert "written score" in err


def test_every_style_is_found_by_its_name(folder: Path, capsys: pytest.CaptureFixture) -> None:
    status, out, err = run("styles --json", capsys)
    assert status == 0, err
    listed = json.loads(out)
    assert len(listed["axes"]) >= 8
    assert "Default" in listed["presets"]
    name = list(listed["presets"])[-1]
    done = json.loads(run(f"perform piece.musicxml -o x.mid --style {name.upper()} --json", capsys)[1])
    assert done["z"] == pytest.approx(listed["presets"][name])
    out = run("styles", capsys)[1]
    assert name in out
    assert "rubato" in out


def test_convert_there_and_back(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("convert piece.musicxml even.mid", capsys)[0] == 0
    status, out, err = run("convert even.mid back.musicxml --json", capsys)
    assert status == 0, err
    written = {"output": "back.musicxml", "format": "musicxml", "notes": 112, "measures": 8}
    assert json.loads(out) == {**written, "remarks": []}


def test_remarks_of_the_reader_are_in_the_json(folder: Path, capsys: pytest.CaptureFixture) -> None:
    song = Path(__file__).parents[2] / "data" / "reading" / "v1-voice-and-piano.musicxml"
    found = json.loads(run(f"convert {song} piano.musicxml --json", capsys)[1])
    text = "this part is left out; the keyboard part is played"
    assert (found["notes"], found["remarks"]) == (2, [{"bar": 1, "element": "part “Voice”", "text": text}])
    assert json.loads(run(f"convert {song} all.musicxml --with-voice --json", capsys)[1])["notes"] == 3


@pytest.mark.parametrize(
    "command, sentence",
    [
        ("", "COMMAND"),
        ("dance", "invalid choice: 'dance'"),
        ("perform", "required: SCORE, -o"),
        ("perform piece.musicxml -o a.mid --louder", "Unrecognized arguments: --louder"),
        ("perform piece.musicxml -o a.mid --styl Default", "Unrecognized arguments"),
        ("perform piece.musicxml -o a.mid --seed x", "invalid int value: 'x'"),
        ("perform piece.musicxml -o a.mid --seed -1", "The seed is -1"),
        ("perform none.musicxml -o a.mid", "There is no file none.musicxml"),
        ("perform . -o a.mid", "is a folder"),
        ("perform empty.mid -o a.mid", "is empty"),
        ("perform noise.mid -o a.mid", "noise.mid"),
        ("perform piece.musicxml -o a.txt", "end it with .mid or .musicxml"),
        ("perform piece.musicxml -o none/a.mid", "folder none does not exist"),
        ("perform piece.musicxml -o .", "is not a file"),
        ("perform piece.musicxml -o piece.musicxml", "would replace an input"),
        ("perform piece.musicxml -o a.mid --style Liberace", 'There is no style "Liberace"'),
        ("perform piece.musicxml -o a.mid --style A --style-from b.mid", "not allowed with"),
        ("perform piece.musicxml -o a.mid --style-from none.mid", "There is no file none.mid"),
        ("perform piece.musicxml -o a.mid --z 1,x", "numbers separated by commas"),
        ("perform piece.musicxml -o a.mid --z nan", "-3 to 3"),
        ("perform piece.musicxml -o a.mid --z " + ",".join("0" * 40), "axis values"),
        ("perform piece.musicxml -o a.mid --strength 3", "0 to 1.5"),
        ("perform piece.musicxml -o a.mid --strength nan", "0 to 1.5"),
        ("perform piece.musicxml -o a.mid --strength swing=1", 'names "swing"'),
        ("perform piece.musicxml -o a.mid --strength much", "give a number"),
        ("perform piece.musicxml -o a.mid --checkpoints none", "lacks config.json"),
        ("styles --checkpoints none", "lacks config.json"),
        ("preview piece.musicxml -o a.wav", "not a MIDI file"),
        ("preview even.mid -o a.mp3", "end it with .wav or .flac"),
        ("preview even.mid -o a.wav --piano banjo", 'no piano "banjo"'),
        ("curves even.mid --score piece.musicxml -o a.svg", "is not an HTML page"),
        ("curves other.mid --score piece.musicxml -o a.html", ""),
        ("convert piece.musicxml a.pdf", "end it with .mid or .musicxml"),
        ("convert sound.wav a.mid", "is not a score"),
    ],
)
def test_every_error_is_one_sentence(folder: Path, capsys: pytest.CaptureFixture, command: str, sentence: str) -> None:
    (folder / "empty.mid").touch()
    (folder / "noise.mid").write_bytes(bytes(range(256)))
    (folder / "sound.wav").write_bytes(b"RIFF")
    assert main(["convert", "piece.musicxml", "even.mid", "--quiet"]) == 0
    one = b"MThd\0\0\0\6\0\0\0\1\1\xe0MTrk\0\0\0\x0d\0\x90\x15\x40\x83\x60\x80\x15\0\0\xff\x2f\0"
    (folder / "other.mid").write_bytes(one)  # a single lowest A
    before = set(folder.iterdir())
    capsys.readouterr()
    status, out, err = run(command + " --quiet" if "styles" not in command and len(command) > 9 else command, capsys)
    assert status == 2, err
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert err.rstrip()[-1] in ".?!", err
    assert set(folder.iterdir()) == before, "a refused command wrote a file"


def in_a_shell(command: str, folder: Path) -> subprocess.CompletedProcess:
    """Run a shell line in a process of its own, as continuous integration would."""
    etude = Path(sys.executable).with_name("etude")
    environment = {**os.environ, "CI": "true"}
    line = ["bash", "-c", command.replace("etude ", f"{etude} ")]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


def test_nothing_but_the_result_is_on_standard_output(folder: Path) -> None:
    """Under CI=true pyfluidsynth prints where its library is."""
    command = "etude convert piece.musicxml even.mid --json && etude preview even.mid -o even.wav --json"
    done = in_a_shell(command, folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [json.loads(line)["output"] for line in done.stdout.splitlines()] == ["even.mid", "even.wav"]


def test_a_closed_pipe_ends_the_command_quietly(folder: Path) -> None:
    done = in_a_shell("etude styles | head -c 1; exit ${PIPESTATUS[0]}", folder)
    assert done.returncode == 0
    assert done.stderr == ""


def test_errors_with_json_are_json(folder: Path, capsys: pytest.CaptureFixture) -> None:
    status, out, err = run("perform none.mid -o a.mid --json", capsys)
    assert status == 2
    assert json.loads(out)["error"] == err.strip()


def test_an_old_output_survives_a_failure(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "old.mid").write_bytes(b"precious")
    (folder / "bad.musicxml").write_text("<score-partwise><part")
    assert run("perform bad.musicxml -o old.mid", capsys)[0] == 2
    assert (folder / "old.mid").read_bytes() == b"precious"
    assert sorted(p.name for p in folder.iterdir()) == ["bad.musicxml", "old.mid", "piece.musicxml"]


def test_a_full_disk_leaves_the_old_file(folder: Path) -> None:
    """The limit on file size stands in for the full disk: the write fails half way."""
    (folder / "old.mid").write_bytes(b"precious")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from pathlib import Path; from engine.files import write_output; from engine.music.types import BadInput\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_output(Path('old.mid'), b'x' * 5000)\n"
        "except BadInput as error: print(error); sys.exit(2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 2, done.stderr
    assert "old file" in done.stdout
    assert (folder / "old.mid").read_bytes() == b"precious"
    assert sorted(p.name for p in folder.iterdir()) == ["old.mid", "piece.musicxml"]


def test_a_bug_of_ours_is_one_line_and_status_1(folder: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("engine.cli.commands.open_score_file", broken)
    status, _, err = run("convert piece.musicxml a.mid --quiet", capsys)
    assert status == 1
    assert "KeyError" in err
    assert err.count("\n") == 1
    monkeypatch.setenv("ETUDE_DEBUG", "1")
    with pytest.raises(KeyError):
        main(["convert", "piece.musicxml", "a.mid"])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture) -> None:
    status, out, _ = run(f"{command} --help", capsys)
    assert status == 0
    assert "examples:" in out
    assert f"etude {command} " in out
    assert f"etude {command} " in EXAMPLES


def test_strength_in_words() -> None:
    assert vars(parse_strength("80%")) == dict.fromkeys(("tempo", "timing", "velocity", "articulation", "pedal"), 0.8)
    assert parse_strength("0.5,velocity=1.5").velocity == 1.5
    with pytest.raises(BadInput, match="number"):
        parse_strength("")
