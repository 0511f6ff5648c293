"""`import etude`: the objects of a notebook, opened, saved, shown and converted; the functions, on small music."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import engine.etude as etude
from engine.requests import PerformRequest
from tests.helpers.command_line import little_piece
from tests.test_house import ROOT

DATA = ROOT / "tests" / "data"
SMALL = DATA / "chopin_prelude_28_7.krn"


@pytest.fixture(scope="module")
def score() -> etude.Score:
    return etude.Score.open(SMALL)


@pytest.fixture(scope="module")
def performance(score: etude.Score) -> etude.Performance:
    return etude.perform(score, style="wanga", tempo=+1, seed=2)


def test_importing_it_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import engine.etude as etude; dir(etude)\n"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before} & {'numpy', 'torch', 'pandas', 'scipy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_every_name_is_there_and_others_are_not() -> None:
    assert all(getattr(etude, name) is not None for name in etude.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        etude.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_reprs_are_one_line(score: etude.Score, performance: etude.Performance) -> None:
    assert repr(score) == 'Score: 168 notes, 17 bars, 3/4, key signature of A major, "Prelude No. 7"'
    assert repr(performance).startswith("Performance: 168 notes, ")
    assert etude.align(score, performance) is performance  # it knows its score already
    assert repr(etude.AudioClip(np.zeros(4410, np.float32), 44100)) == "AudioClip: 0.1 s, 44100 Hz, mono"


def test_sliders_and_seeds_are_those_of_the_engine(score: etude.Score, performance: etude.Performance) -> None:
    engine = etude.load()
    style = engine.style([1.0], engine.presets["WangA"], seed=2)
    assert engine.perform(PerformRequest(score, style)).digest == performance.digest
    with pytest.raises(etude.BadInput, match='There is no style "nobody"'):
        etude.perform(score, style="nobody")


def test_a_score_is_saved_and_opened(score: etude.Score, tmp_path: Path) -> None:
    again = etude.Score.open(score.save(tmp_path / "piece.musicxml"))
    for name in ("onset_quarter", "duration_quarter", "pitch", "spelling", "staff", "grace"):
        assert (getattr(again, name) == getattr(score, name)).all(), name
    with pytest.raises(etude.BadInput, match="not a supported format"):
        score.save(tmp_path / "piece.pdf")


def test_a_performance_is_saved_and_opened(performance: etude.Performance, tmp_path: Path) -> None:
    midi = etude.Performance.open(performance.save(tmp_path / "piece.mid"))
    assert len(midi) == len(performance)
    assert repr(midi) == "Performance: 168 notes, " + repr(performance).split(", ")[1]
    with pytest.raises(etude.BadInput, match="has no score"):
        midi.save(tmp_path / "piece.match")
    beats = etude.Performance.open(performance.save(tmp_path / "piece.match")).to_pandas("beats")
    assert np.allclose(beats.sec, performance.to_pandas("beats").sec, atol=2e-4)
    path = performance.export("labels", tmp_path / "labels.txt")
    assert len(path.read_text().splitlines()) == len(beats)


def test_notation_of_a_score_and_of_a_performance(
    score: etude.Score, performance: etude.Performance, tmp_path: Path
) -> None:
    assert b"<mei" in score.save(tmp_path / "piece.mei").read_bytes()
    assert score.to_svg()[0].startswith("<svg")
    played = performance.save(tmp_path / "played.musicxml").read_bytes()
    assert played.count(b"attack=") == (~score.grace).sum()
    original = Path("tests/data/bach_prelude_868.musicxml").resolve()
    assert etude.Score.open(original).save(tmp_path / "same.musicxml").read_bytes() == original.read_bytes()


def test_pandas(score: etude.Score, performance: etude.Performance) -> None:
    notes = score.to_pandas()
    assert notes.pitch.tolist() == score.pitch.tolist()
    assert notes.name[:3].tolist() == ["E4", "E2", "C#5"]
    played = performance.to_pandas()
    assert played.velocity.tolist() == performance.velocity.tolist()
    alone = etude.Performance.from_pretty_midi(performance.to_pretty_midi()).to_pandas()
    assert alone.columns.tolist() == ["onset_sec", "duration_sec", "pitch", "velocity"]


def test_partitura_has_the_same_notes(score: etude.Score) -> None:
    notes = score.to_partitura().note_array()
    mine = sorted(zip(score.onset_quarter.round(3), score.duration_quarter.round(3), score.pitch, strict=True))
    theirs = zip(notes["onset_quarter"].round(3), notes["duration_quarter"].round(3), notes["pitch"], strict=True)
    assert np.allclose(mine, sorted(theirs), atol=2e-3)


def test_pretty_midi_there_and_back(performance: etude.Performance) -> None:
    back = etude.Performance.from_pretty_midi(performance.to_pretty_midi())
    order = np.lexsort((performance.pitch, performance.onset_sec))
    for name in ("onset_sec", "duration_sec", "pitch", "velocity"):
        assert np.allclose(getattr(back, name), getattr(performance, name)[order]), name
    assert np.allclose(back.pedal_sec, performance.pedal_sec)
    assert (back.pedal_value == performance.pedal_value).all()


def test_comparing_and_borrowing_a_style(score: etude.Score, performance: etude.Performance) -> None:
    other = etude.perform(score)
    found = etude.compare(score, {"hers": performance, "default": other})
    table = found.to_pandas()
    assert table.columns.tolist() == ["hers", "default"]
    assert table.loc["Tempo, beats/min", "hers"] > table.loc["Tempo, beats/min", "default"]
    assert found.agreement().shared.tolist() == [168]
    assert len(found.plot().data) > 4
    assert "hers" in found._repr_html_()
    borrowed = etude.perform(score, style=performance)
    assert borrowed.digest != other.digest
    unknown = etude.Performance.of(performance)  # without its score
    assert len(etude.align(score, unknown).alignment or ()) == 168


def test_composing() -> None:
    made = etude.compose(key="A minor", bars=2, seed=3)
    assert isinstance(made, etude.Score)
    assert len(made.measures) == 2
    with pytest.raises(etude.BadInput, match="nobody"):
        etude.compose(composer="nobody")


def test_sound(tmp_path: Path) -> None:
    score = etude.Score.of(little_piece())
    clip = etude.preview(etude.perform(score))
    again = etude.AudioClip.open(clip.save(tmp_path / "sound.flac"))
    assert np.abs(again.samples - clip.samples).max() < 1e-4
    assert sorted(etude.prompts())[0] == "fugue-c-sharp"
    with pytest.raises(etude.BadInput, match="There is no file nothing"):
        etude.render(etude.perform(score), "nothing.wav")


def test_pictures_run_no_script(score: etude.Score, performance: etude.Performance) -> None:
    titled = etude.Score.of(little_piece().__class__(**{**vars(little_piece()), "title": "<script>x</script>"}))
    for shown in (score, performance, titled):
        assert "<script" not in shown._repr_html_()
