"""`etude compare` with recordings and with a folder of performances: bands, groups, style, refusals."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.cli.performances import score_and_performances, transcript_of
from engine.measures.bands import Band, bands, clusters, silhouette
from engine.measures.side_by_side import Played, shape_of
from engine.music.expression import deadpan
from engine.music.io.midi import write_midi
from engine.music.io.write_musicxml import write_musicxml
from engine.music.types import Alignment, BadInput, Performance, Score
from engine.sound.clip import encode_audio
from engine.sound.preview import Preview
from tests.helpers.command_line import little_piece, run, two_bars


def played(bpm: float, wave: float = 0.0, velocity: int = 64) -> Performance:
    """The little piece at a tempo, hurried and slowed by a wave of `wave` seconds over its length."""
    even = deadpan(little_piece(), bpm=bpm)
    onset = even.onset_sec + wave * np.sin(2 * np.pi * even.onset_sec / even.onset_sec.max())
    return replace(even, onset_sec=onset - onset.min(), velocity=np.full(len(even), velocity))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a piece, and takes/ with four performances of it and one of another piece."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "takes").mkdir()
    (tmp_path / "piece.musicxml").write_bytes(write_musicxml(little_piece()))
    for name, bpm, wave, velocity in (("a", 60, 1, 40), ("b", 70, 0.9, 60), ("c", 80, -0.8, 80), ("d", 90, -0.7, 100)):
        (tmp_path / "takes" / f"{name}.mid").write_bytes(write_midi(played(bpm, wave, velocity)))
    other = Performance(np.arange(40.0), np.ones(40), np.arange(21, 61), np.full(40, 64))
    (tmp_path / "takes" / "other.mid").write_bytes(write_midi(other))
    return tmp_path


def cells(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


def test_a_folder_becomes_one_page_with_bands_and_one_table(folder: Path, capsys: pytest.CaptureFixture) -> None:
    status, out, err = run("compare takes piece.musicxml -o all.html --csv all.csv --bars bars.csv --json", capsys)
    assert status == 0, err
    told = json.loads(out)
    assert [p["name"] for p in told["performances"]] == ["a", "b", "c", "d"]
    assert all(p["found"] == 100 for p in told["performances"])
    assert [name for name, _ in told["refused"]] == ["other.mid"]
    group = {g["name"]: g["group"] for g in told["groups"]}
    assert group["a"] == group["b"] != group["c"] == group["d"]
    assert told["groups"][3]["z"][0] > told["groups"][0]["z"][0], "the fastest has the higher tempo"
    rows = cells(folder / "bars.csv")
    assert len(rows) == 4 * 8
    for row in rows:
        values = np.array([float(row[name]) for name in "abcd"])
        assert row["performances"] == "4"
        assert float(row["mean"]) == pytest.approx(values.mean(), abs=0.01)
        assert float(row["sd"]) == pytest.approx(values.std(ddof=1), abs=0.01)
    velocity = [row for row in rows if row["measure"] == "velocity"]
    assert [row["bar"] for row in velocity] == [str(k) for k in range(1, 9)]
    assert {float(row["mean"]) for row in velocity} == {70.0}
    kinds = {row["kind"] for row in cells(folder / "all.csv")}
    assert kinds == {"measure", "group", "style"}
    page = (folder / "all.html").read_text()
    assert "± 1 standard deviation" in page
    assert "Not compared" in page
    assert "<script src=" not in page


def test_a_recording_is_transcribed_once_and_compared(folder: Path, capsys: pytest.CaptureFixture) -> None:
    short = two_bars()
    (folder / "short.musicxml").write_bytes(write_musicxml(short))
    (folder / "fast.mid").write_bytes(write_midi(deadpan(short, bpm=130)))
    (folder / "slow.wav").write_bytes(encode_audio(Preview().preview(deadpan(short, bpm=100)), "wav"))
    (folder / "notes").mkdir()
    command = "compare slow.wav fast.mid short.musicxml -o two.html --transcripts notes --json"
    status, out, err = run(command, capsys)
    assert status == 0, err
    found = {p["name"]: p for p in json.loads(out)["performances"]}
    assert found["slow"]["tempo"] == pytest.approx(100, rel=0.02)
    assert found["fast"]["tempo"] == pytest.approx(130, rel=0.02)
    assert found["slow"]["found"] >= 96
    (kept,) = (folder / "notes").iterdir()
    assert kept.name == "slow-wav.mid"
    kept.write_bytes(write_midi(deadpan(short, bpm=90)))  # in place of a second transcription
    again = json.loads(run(command, capsys)[1])["performances"]
    assert again[0]["tempo"] == pytest.approx(90, rel=0.02)


def test_equal_file_names_have_two_transcripts() -> None:
    names = ("one/01.mp3", "two/01.mp3", "/three/01.mp3", "../01.mp3")
    assert [transcript_of(Path(name), name, Path("notes")).name for name in names] == [
        "one-01-mp3.mid", "two-01-mp3.mid", "three-01-mp3.mid", "01-mp3.mid",
    ]  # fmt: skip


def test_too_small_a_share_is_refused_in_a_sentence(folder: Path, capsys: pytest.CaptureFixture) -> None:
    whole = played(80)
    bar = Performance(whole.onset_sec[:20], whole.duration_sec[:20], whole.pitch[:20], whole.velocity[:20])
    (folder / "bar.mid").write_bytes(write_midi(bar))
    status, out, err = run("compare piece.musicxml takes/a.mid bar.mid -o two.html --quiet", capsys)
    assert (status, out) == (2, "")
    assert "bar.mid: 18% of the score's notes are found in this performance; 30% are needed" in err
    status, _, err = run("compare piece.musicxml takes/a.mid takes/other.mid -o two.html --quiet", capsys)
    assert status == 2
    assert err.startswith("other.mid: ")
    assert not (folder / "two.html").exists()


@pytest.mark.parametrize(
    "command, sentence",
    [
        ("compare a.wav b.wav -o a.html", "No score is named"),
        ("compare piece.musicxml other.krn takes/a.mid -o a.html", "are both scores"),
        ("compare piece.musicxml . -o a.html --transcripts none", "There is no folder none"),
        ("compare piece.musicxml empty -o a.html", "has no performances"),
        ("compare piece.musicxml takes/a.mid none.mp3 -o a.html", "There is no file none.mp3"),
    ],
)
def test_the_command_refuses_in_a_sentence(
    folder: Path, capsys: pytest.CaptureFixture, command: str, sentence: str
) -> None:
    (folder / "empty").mkdir()
    status, out, err = run(command + " --quiet", capsys)
    assert (status, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_a_midi_score_comes_first() -> None:
    files = [Path("score.mid"), Path("a.mid"), Path("b.wav")]
    assert score_and_performances(files) == (Path("score.mid"), files[1:])
    assert score_and_performances([*files, Path("p.mxl")])[0] == Path("p.mxl")
    with pytest.raises(BadInput, match="No score is named"):
        score_and_performances([Path("a.wav"), Path("b.mid")])


def shapes_of(performances: Sequence[Performance]) -> tuple[Score, list[Played]]:
    score = little_piece()
    return score, [Played(str(k), p, Alignment.identity(len(score))) for k, p in enumerate(performances)]


def test_bands_by_hand() -> None:
    score, performances = shapes_of([played(60, velocity=50), played(120, velocity=70)])
    tempo, velocity, timing, articulation = bands(score, performances, [shape_of(score, p) for p in performances])
    assert np.allclose(tempo.mean, 90)
    assert np.allclose(tempo.sd, 60 / np.sqrt(2))
    assert np.allclose(velocity.mean, 60)
    assert np.allclose(timing.values, 0, atol=0.5)
    assert np.allclose(articulation.mean, 1, atol=0.02)
    half = Band("x", "", 1, np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]]))
    assert half.count.tolist() == [2, 1, 0]
    assert half.mean[:2].tolist() == [2, 5]
    assert half.sd[0] == pytest.approx(np.sqrt(2))
    assert np.isnan([half.mean[2], half.sd[1], half.sd[2]]).all()


def test_performances_of_one_shape_are_one_group() -> None:
    rng = np.random.default_rng(0)
    noise = np.exp2(rng.normal(0, 0.1, (8, 30)))
    assert clusters(Band("tempo", "", 1, 100 * noise)) == [1] * 8
    wave = np.exp2(0.4 * np.sin(np.arange(30)))
    both = np.concatenate([noise[:4] * wave, noise[4:] / wave])
    found = clusters(Band("tempo", "", 1, 100 * both))
    assert len(set(found[:4])) == len(set(found[4:])) == 1
    assert found[0] != found[4]
    apart = 1.0 - np.eye(2)
    assert silhouette(apart, np.array([1, 2])) == 0
