"""The expected performance: features, weights, the written tempo and the written dynamics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.checkpoints.bundle import open_expected
from engine.checkpoints.index import CHECKPOINTS, EXPECTED
from engine.engine import Engine
from engine.models.expected.beats import beat_features, beat_grid
from engine.models.expected.dynamics_law import MIN_SLOPE, accent_lift, with_dynamics
from engine.models.expected.tempo_law import STEP_LIMITS, guarded, pace
from engine.music.expression import beat_times
from engine.music.io.read_musicxml import read_musicxml
from engine.music.types import MARK_NAMES, Marks, PageEvents, Score
from engine.requests import PerformRequest


def scales(directions: str = "", bars: int = 8, at: int = 1) -> Score:
    """4/4 with eight quavers a bar over a bass; a direction in bar `at`."""
    out = []
    for bar in range(1, bars + 1):
        notes = "".join(
            f"<note><pitch><step>{'CDEFGABC'[k]}</step><octave>{5 if k == 7 else 4}</octave></pitch>"
            "<duration>1</duration><voice>1</voice><type>eighth</type><staff>1</staff></note>"
            for k in range(8)
        )
        bass = (
            "<backup><duration>8</duration></backup><note><pitch><step>C</step><octave>3</octave></pitch>"
            "<duration>8</duration><voice>5</voice><type>whole</type><staff>2</staff></note>"
        )
        head = (
            "<attributes><divisions>2</divisions><key><fifths>0</fifths></key><time><beats>4</beats>"
            "<beat-type>4</beat-type></time><staves>2</staves></attributes>" if bar == 1 else ""
        )  # fmt: skip
        out.append(f'<measure number="{bar}">{head}{directions if bar == at else ""}{notes}{bass}</measure>')
    text = (
        '<score-partwise version="4.0"><part-list><score-part id="P1"><part-name>Piano</part-name></score-part>'
        f'</part-list><part id="P1">{"".join(out)}</part></score-partwise>'
    )
    return read_musicxml(text.encode())


def direction(inside: str, sound: str = "") -> str:
    return f"<direction><direction-type>{inside}</direction-type><staff>1</staff>{sound}</direction>"


def metronome(qpm: int) -> str:
    mark = f"<metronome><beat-unit>quarter</beat-unit><per-minute>{qpm}</per-minute></metronome>"
    return direction(mark, f'<sound tempo="{qpm}"/>')


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load()


def qpm_of(engine: Engine, score: Score, z: tuple[float, ...] = ()) -> np.ndarray:
    _, sec, quarter = beat_times(score, engine.perform(PerformRequest(score, engine.style(z))))
    return 60 * np.diff(quarter) / np.diff(sec)


@pytest.mark.parametrize("qpm", [30, 240])
def test_a_metronome_mark_sets_the_pace(engine: Engine, qpm: int) -> None:
    played = float(np.median(qpm_of(engine, scales(metronome(qpm)))))
    assert abs(np.log2(played / qpm)) < np.log2(1.15)


def test_the_tempo_slider_moves_the_pace_from_the_written_one(engine: Engine) -> None:
    score = scales(metronome(90))
    slow, plain, fast = (float(np.median(qpm_of(engine, score, (z,)))) for z in (-2.0, 0.0, 2.0))
    assert slow < 0.9 * plain < plain < 0.9 * fast


def test_words_between_the_notes_are_kept_and_placed() -> None:
    score = scales(direction("<words>poco rit.</words>"), at=3)
    assert score.events.at("rit").tolist() == [8.0]
    x = beat_features(score, beat_grid(score))["page_rit"][:, 0]
    assert np.flatnonzero(x).tolist() == [8]


def test_page_events_are_checked() -> None:
    with pytest.raises(ValueError, match="ascending"):
        PageEvents(np.array([2.0, 1.0]), np.zeros(2, np.int8))


def test_a_ritardando_slows_and_an_accelerando_quickens(engine: Engine) -> None:
    score = scales(metronome(100))
    values = engine.expected.model.of(score)
    for sign, low, high in ((-1, 1.1, 2.0), (1, 0.5, 0.93)):
        table = score.marks.table.copy()
        table[score.onset_quarter >= 20, MARK_NAMES.index("tempo_change")] = sign
        beats = np.exp2(pace(replace(score, marks=Marks(table)), values.grid, np.zeros(len(values.grid)), 0.0))
        assert low < beats[-4:].mean() / np.median(beats[:20]) < high


def test_the_tempo_cannot_collapse_within_a_beat() -> None:
    curve = np.zeros(32)
    curve[10:] = 3.5
    steps = np.diff(guarded(curve))
    assert steps.max() <= STEP_LIMITS[1] + 1e-9


def test_loudness_follows_the_written_dynamics() -> None:
    score = scales()
    table = score.marks.table.copy()
    table[:, MARK_NAMES.index("written_velocity")] = np.where(score.onset_quarter < 16, 33, 112)
    loud = with_dynamics(replace(score, marks=Marks(table)), np.full(len(score), 60.0))
    late = score.onset_quarter >= 16
    assert loud[late].mean() - loud[~late].mean() == pytest.approx(MIN_SLOPE * 79, abs=0.5)
    assert np.array_equal(with_dynamics(score, np.full(len(score), 60.0)), np.full(len(score), 60.0))


def test_an_accented_note_stands_out() -> None:
    score = scales()
    table = score.marks.table.copy()
    table[10, MARK_NAMES.index("accent")] = 2
    lift = accent_lift(replace(score, marks=Marks(table)), np.full(len(score), 60.0))
    assert lift[10] == 13.0
    assert np.flatnonzero(lift).tolist() == [10]


def test_the_shipped_networks_are_finite_on_a_score_without_marks() -> None:
    values = open_expected(CHECKPOINTS / EXPECTED).model.of(scales())
    for x in (values.tempo, values.velocity, values.articulation, values.deviation):
        assert np.isfinite(x).all()
    assert values.velocity.std() == pytest.approx(values.deviation[1], rel=1e-3)
