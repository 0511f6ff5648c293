"""Files for other programs, each read back by the library that it is for.

The three layers were also opened in Sonic Visualiser 4.5.1 and exported from there, with equal times and values.
"""

import io
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import mir_eval
import numpy as np
import pandas as pd
import pytest

from engine.measures.exports import EXPORTS, SV_RATE, export_all
from engine.measures.note_tables import beat_seconds, beat_table, note_table
from engine.music.expression import deadpan
from engine.music.io.alignment import read_match
from engine.music.types import Alignment, BadInput, Performance, Score
from engine.untrusted.matches import open_match
from tests.helpers.command_line import little_piece

Human = tuple[Score, Performance, Alignment]
MATCH = Path(__file__).parents[2] / "data" / "bach_fugue_846_Shi05M.match"


@pytest.fixture(scope="module")
def human() -> Human:
    return read_match(MATCH)


def made(kind: str, human: Human) -> bytes:
    return EXPORTS[kind].make(*human)


def test_the_note_table_has_every_note_once(human: Human) -> None:
    score, performance, alignment = human
    table = pd.read_csv(io.BytesIO(made("notes", human)))
    written, added = table[table.note.notna()], table[table.note.isna()]
    assert written.pitch.tolist() == score.pitch.tolist()
    assert np.allclose(written.onset_quarter, score.onset_quarter, atol=1e-4)
    played = written[written.onset_sec.notna()]
    assert (played.note.astype(int) - 1).tolist() == alignment.score_index.tolist()
    assert np.allclose(played.onset_sec, performance.onset_sec[alignment.performance_index], atol=1e-4)
    assert played.velocity.tolist() == performance.velocity[alignment.performance_index].tolist()
    assert len(added) == len(performance) - len(alignment)
    assert added.velocity.notna().all()
    assert table.name[:7].tolist() == ["C4", "D4", "E4", "F4", "G4", "F4", "E4"]


def test_a_hand_counted_piece() -> None:
    """One quarter a second and no expression: every figure is known in advance."""
    score = little_piece()
    played = deadpan(score, bpm=60)
    same = Alignment.identity(len(score))
    beats = beat_table(score, played, same)
    assert np.allclose(beats.column("sec"), np.array(beats.column("quarter")) - score.onset_quarter[0], atol=1e-4)
    assert set(beats.column("bpm")) == {60.0}
    assert set(beats.column("timing_sec")) <= {0.0, None}
    notes = note_table(score, played, same)
    assert set(notes.column("velocity")) == {64}
    assert set(notes.column("pedal")) == {0}


def test_beats_fall_on_their_chords(human: Human) -> None:
    score, performance, alignment = human
    table = pd.read_csv(io.BytesIO(made("beats", human)))
    assert (np.diff(table.sec) > 0).all()
    first_notes = performance.onset_sec[alignment.performance_index[1:4:2]]  # D on the second beat, F on the third
    assert table.sec[1:3].tolist() == pytest.approx(first_notes, abs=1e-4)
    assert table.bpm.between(15, 90).all()
    assert len(table) == len(beat_seconds(score, performance, alignment))


def test_audacity_labels_are_points_in_time(human: Human, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(made("labels", human))
    intervals, labels = mir_eval.io.load_labeled_intervals(str(tmp_path / "labels.txt"), delimiter="\t")
    assert (intervals[:, 0] == intervals[:, 1]).all()
    beats = beat_table(*human)
    seen = [sec for sec in beats.column("sec") if sec >= 0]
    assert intervals[:, 0].tolist() == pytest.approx(seen)
    assert labels[:5] == ["1.2", "1.3", "1.4", "2", "2.2"]


@pytest.mark.parametrize("kind, dimensions", [("sv-beats", "1"), ("sv-tempo", "2"), ("sv-notes", "3")])
def test_sonic_visualiser_layers(human: Human, kind: str, dimensions: str) -> None:
    root = ET.fromstring(made(kind, human))
    model, layer = root.find("data/model"), root.find("display/layer")
    points = root.findall("data/dataset/point")
    assert model is not None
    assert layer is not None
    assert (model.get("dimensions"), layer.get("model")) == (dimensions, model.get("id"))
    at = np.array([int(p.get("frame", "")) for p in points]) / SV_RATE
    if kind == "sv-notes":
        performance = human[1]
        order = np.lexsort((performance.pitch, performance.onset_sec))
        assert np.allclose(at, performance.onset_sec[order], atol=1 / SV_RATE)
        assert [int(p.get("value", "")) for p in points] == performance.pitch[order].tolist()
        assert [round(127 * float(p.get("level", ""))) for p in points] == performance.velocity[order].tolist()
    else:
        assert at.tolist() == pytest.approx([s for s in beat_table(*human).column("sec") if s >= 0], abs=1e-4)


def by_time(performance: Performance) -> list[np.ndarray]:
    order = np.lexsort((performance.velocity, performance.pitch, performance.onset_sec.round(2)))
    return [getattr(performance, n)[order] for n in ("onset_sec", "duration_sec", "pitch", "velocity")]


def test_a_match_file_is_read_back_note_for_note(human: Human) -> None:
    """By partitura, in the child process as an upload is."""
    score, performance, alignment = human
    again, played, pairs = open_match(made("match", human), "fugue.match")
    for name in ("onset_quarter", "duration_quarter", "pitch", "spelling", "staff", "grace"):
        assert np.allclose(getattr(again, name), getattr(score, name)), name
    for mine, theirs in zip(by_time(performance), by_time(played), strict=True):
        assert np.abs(mine - theirs).max() <= 1.1e-4
    assert np.allclose(played.pedal_sec, performance.pedal_sec, atol=1e-4)
    assert played.pedal_value.tolist() == performance.pedal_value.tolist()
    assert pairs.score_index.tolist() == alignment.score_index.tolist()
    heard = performance.onset_sec[alignment.performance_index]
    assert np.allclose(played.onset_sec[pairs.performance_index], heard, atol=1.1e-4)


def test_what_is_no_match_file_is_refused() -> None:
    with pytest.raises(BadInput, match="is not a match file"):
        open_match(b"MThd", "x.match")
    with pytest.raises(BadInput, match="cannot be read"):
        open_match(b"info(matchFileVersion,1.0.0).\nsnote(nonsense", "x.match")


def test_a_performance_of_something_else_is_refused(human: Human) -> None:
    score, performance, _ = human
    for kind in ("notes", "beats", "labels"):
        with pytest.raises(BadInput, match="Too little of the score"):
            EXPORTS[kind].make(score, performance, Alignment([0], [0]))


def test_all_of_them_in_one_file(human: Human) -> None:
    data = export_all(*human, "fugue")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert sorted(archive.namelist()) == sorted(f"fugue{kind.ending}" for kind in EXPORTS.values())
        assert archive.read("fugue-beats.csv") == made("beats", human)
