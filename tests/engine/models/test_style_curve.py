"""Style over time: breakpoints of sliders and strengths over the bars, from Python, CSV and the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import engine.etude as etude
from engine.cli.etude import main
from engine.models.pianist.style_curve import bar_positions, curve_of, parse_curve
from engine.music.types import BadInput, Strength

SMALL = Path(__file__).parents[2] / "data" / "chopin_prelude_28_7.krn"
REPEATED = Path(__file__).parents[2] / "data" / "reading" / "r4-three-endings.musicxml"


@pytest.fixture(scope="module")
def score() -> etude.Score:
    return etude.Score.open(SMALL)


@pytest.fixture(scope="module")
def plain(score: etude.Score) -> etude.Performance:
    return etude.perform(score, seed=3)


def periods(performance: etude.Performance) -> np.ndarray:
    return etude.load().expression(performance.score, performance).beat_period


def test_a_constant_curve_is_the_style_itself(score: etude.Score) -> None:
    same = etude.perform(score, seed=3, tempo=1, loudness=-0.5)
    curved = etude.perform(score, seed=3, curve={"tempo": {1: 1, 9: 1}, "loudness": {4: -0.5}})
    for name in ("onset_sec", "duration_sec", "velocity", "pedal_value"):
        assert (getattr(same, name) == getattr(curved, name)).all(), name


def test_tempo_and_loudness_follow_their_breakpoints(score: etude.Score, plain: etude.Performance) -> None:
    curved = etude.perform(score, seed=3, curve={"tempo": {1: -2, 16: 2}, "loudness": {1: -2, 8: 2, 16: -2}})
    position = bar_positions(score)
    faster = -np.log2(periods(curved) / periods(plain))
    assert np.corrcoef(position, faster)[0, 1] > 0.95
    assert faster[position < 3].mean() < -0.2
    assert faster[position > 14].mean() > 0.2
    louder = curved.velocity.astype(int) - plain.velocity
    bounds = [louder[(position >= a) & (position < b)].mean() for a, b in ((1, 3), (7, 10), (15, 17))]
    assert bounds[0] < bounds[1] - 5
    assert bounds[2] < bounds[1] - 5


def test_a_staff_has_its_own_strength(score: etude.Score, plain: etude.Performance) -> None:
    flat = etude.perform(score, seed=3, curve={"strength.velocity.lower": {1: 0}, "strength.velocity.upper": {1: 1}})
    lower = score.staff == 2
    assert np.ptp(flat.velocity[lower]) <= 1
    assert (flat.velocity[~lower] == plain.velocity[~lower]).all()
    assert (flat.onset_sec == plain.onset_sec).all()
    later = etude.perform(score, seed=3, curve={"strength": {8: 1, 9: 0}})
    position = bar_positions(score)
    half = etude.load().expression(score, later)
    assert np.abs(half.timing_sec[position >= 9]).max() < 0.002
    assert np.abs(half.timing_sec[position < 8]).max() > 0.01


def test_each_pass_of_a_bar_has_the_same_values() -> None:
    score = etude.Score.open(REPEATED)
    strengths = curve_of({"strength.velocity": {1: 0, 5: 1}}).strengths(score, Strength(timing=0.5))
    position = bar_positions(score)
    assert len(np.unique(position)) < len(position)
    assert np.allclose(strengths.velocity, (position - 1) / 4)
    assert (strengths.timing == 0.5).all()


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "first line names its columns"),
        ("tempo,loudness\n1,2", "first line names its columns"),
        ("bar,bar,tempo\n1,1,1", "first line names its columns"),
        ("bar,speed\n1,1", 'a column "speed"; the columns are tempo, rubato'),
        ("bar,strength.lower.velocity\n1,1", "the kind before the staff"),
        ("bar,strength.pedal.upper\n1,1", "both staves share the pedal"),
        ("bar,tempo\n1,4", "tempo 4 in bar 1; -3 to 3 is accepted"),
        ("bar,strength\n1,160%", "strength 1.6 in bar 1; 0 to 1.5"),
        ("bar,tempo\n1,nan", 'Line 2 of the style curve has "nan" for tempo'),
        ("bar,tempo\none,1", 'Line 2 of the style curve has "one" for bar'),
        ("bar,tempo\n1,1\n1,2", "Line 3 of the style curve repeats bar 1"),
        ("bar,tempo\n1,1,5", "Line 2 of the style curve has 3 cells"),
        ("bar,tempo,rubato\n1,1,", '"rubato" of the style curve has no value'),
        ("bar,tempo\n" + "\n".join(f"{k},0" for k in range(33)), "33 bars arrived; 1 to 32"),
    ],
)
def test_a_wrong_csv_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_curve(text)
    assert sentence in str(caught.value)


def test_the_csv_of_a_spreadsheet_is_read() -> None:
    curve = parse_curve("\ufeffBar;Tempo;strength\r\n1;0;50%\r\n3;1;\r\n\r\n5;;1\r\n")
    assert curve.bar.tolist() == [1, 3, 5]
    assert curve.axes[:, 0].tolist() == [0, 1, 1]
    assert curve.strength[:, 0, 0].tolist() == [0.5, 0.75, 1]


def test_the_command_line_plays_a_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("bar,tempo\n1,-2\n16,2\n")
    made = ["perform", str(SMALL), "-o", str(tmp_path / "out.mid"), "--no-ornaments", "--seed", "3", "--json"]
    assert main([*made, "--style-curve", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["style_curve"] == str(path)
    curved = etude.perform(etude.Score.open(SMALL), seed=3, curve=path)
    assert np.abs(etude.Performance.open(tmp_path / "out.mid").onset_sec - np.sort(curved.onset_sec)).max() < 0.002
    path.write_text("bar,tempo\n1,-2\n99,2\n")
    assert main([*made, "--style-curve", str(path)]) == 2
    assert "names bar 99; the score has bars" in capsys.readouterr().err
    path.write_bytes(b"bar,tempo\n1,\xff\n")
    assert main([*made, "--style-curve", str(path)]) == 2
    assert "not text in UTF-8" in capsys.readouterr().err


def test_a_curve_and_kept_notes_exclude_each_other(score: etude.Score, plain: etude.Performance) -> None:
    from engine.requests import PerformRequest

    request = PerformRequest(score, keep=plain, redo=np.ones(len(score), bool), curve=curve_of({"tempo": {1: 0}}))
    with pytest.raises(ValueError, match="whole performance"):
        request.check()
    replace(request, keep=None, redo=None).check()
