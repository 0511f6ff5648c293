"""`etude render` and `etude codec`, with the shipped weights: what they write, what is inside, how they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.music.io.midi import write_midi
from engine.music.types import Performance
from engine.render.provenance import read_description
from engine.sound.prompts import FOLDER, gallery
from tests.helpers.command_line import run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two seconds of music in it."""
    monkeypatch.chdir(tmp_path)
    notes = Performance([0.1, 0.5, 0.9, 1.3], [0.4] * 4, [60, 64, 67, 72], [50, 70, 90, 110])
    (tmp_path / "played.mid").write_bytes(write_midi(notes))
    (tmp_path / "ref.flac").write_bytes((FOLDER / "gymnopedie.flac").read_bytes())
    return tmp_path


def test_render_with_a_prompt_of_the_gallery(folder: Path, capsys: pytest.CaptureFixture) -> None:
    status, out, err = run("render played.mid --prompt goldberg -o out.wav --seed 4", capsys)
    assert status == 0, err
    assert err == ""
    assert "seed 4" in out
    sound, rate = soundfile.read(folder / "out.wav")
    assert rate == 48000
    assert sound.shape == (int(np.ceil(50 * (1.7 + 2))) * 960, 2)  # the reference is stereo
    assert np.abs(sound[:, 0] - sound[:, 1]).max() > 0.001
    assert np.abs(sound).max() > 0.005
    about = read_description((folder / "out.wav").read_bytes())
    assert about["prompt_digest"] == gallery()["goldberg"].digest
    assert about["seed"] == 4
    assert (about["profile"], about["weights"]) == ("fitted", "fitted-2")


def test_the_same_seed_the_same_sound_and_a_part(folder: Path, capsys: pytest.CaptureFixture) -> None:
    excerpt = "--prompt ref.flac --prompt-start 1 --prompt-seconds 4"
    command = f"render played.mid --method product {excerpt} --from 0.5 --to 1.5 --json -o"
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        status, out, err = run(f"{command} {name}.flac --seed {seed}", capsys)
        assert status == 0, err
        assert json.loads(out)["duration_sec"] == pytest.approx(1.0)
    a, b, c = (soundfile.read(folder / f"{name}.flac")[0] for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_codec_there_and_back(folder: Path, capsys: pytest.CaptureFixture) -> None:
    status, out, err = run("codec ref.flac -o back.wav --json", capsys)
    assert status == 0, err
    result = json.loads(out)
    assert result["codes"] == [4, 500]
    assert result["kbit_per_sec"] == pytest.approx(2.2)
    there, back = soundfile.read(folder / "ref.flac")[0], soundfile.read(folder / "back.wav")[0]
    assert len(there) == len(back)
    spectra = [np.log(np.abs(np.fft.rfft(x.reshape(-1, 3200))).mean(0)[8:800] + 1e-3) for x in (there, back)]
    assert np.corrcoef(spectra)[0, 1] > 0.8, "the long-term spectrum comes through"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("render played.mid --prompt nobody -o out.wav", "There is no file nobody"),
        ("render played.mid --prompt played.mid -o out.wav", "cannot be read"),
        ("render ref.flac --prompt goldberg -o out.wav", "not a MIDI file"),
        ("render played.mid --prompt goldberg -o out.mp3", "end it with .wav or .flac"),
        ("render played.mid --prompt ref.flac -o ref.flac", "would replace an input"),
        ("render played.mid --prompt ref.flac --prompt-seconds 2 -o out.wav", "3 to 10 s"),
        ("render played.mid --prompt goldberg --prompt-midi played.mid -o out.wav", "are known"),
        ("render played.mid --prompt goldberg --from 1 --to 0.5 -o out.wav", "ends before it begins"),
        ("render played.mid --prompt goldberg --seed -1 -o out.wav", "seed"),
        ("render played.mid --prompt goldberg --temperature 0.5 -o out.wav", "temperature"),
        ("codec played.mid -o out.wav", "cannot be read"),
        ("codec ref.flac -o out.mid", "end it with .wav or .flac"),
    ],
)
def test_refusals(folder: Path, capsys: pytest.CaptureFixture, command: str, words: str) -> None:
    status, _, err = run(command, capsys)
    assert status == 2
    assert words in err.splitlines()[-1]
    assert not (folder / "out.wav").exists()
