"""Alignments: match files as read, parangonar's answer beside them, a slow reference for the warping."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from engine.music.expression import deadpan
from engine.music.io._partitura import load_partitura
from engine.music.io.alignment import align, key_strokes, pitch_dtw, read_match
from engine.music.types import Alignment, BadInput, Marks, Measures, Performance, Score

DATA = Path(__file__).parents[2] / "data"
MATCHES = sorted(DATA.glob("*.match"))


def little_score(pitch: list[int], onset: list[float]) -> Score:
    n = len(pitch)
    measures = Measures([0.0], [max(onset) + 1], [0], [4], [4], [0], [1])
    zero = np.zeros(n)
    return Score(onset, np.ones(n), pitch, zero, zero, zero, zero, Marks.none(n), measures)


def pairs(a: Alignment) -> set[tuple[int, int]]:
    return set(zip(a.score_index.tolist(), a.performance_index.tolist(), strict=True))


def test_a_slip_an_omission_and_an_ornament_counted_by_hand() -> None:
    score = little_score([60, 64, 67, 72, 71, 72], [0, 0, 0, 1, 2, 3])
    # the 64 is left out, the 71 is trilled (71 72 71), an 80 is struck by accident
    onset = [0.00, 0.02, 0.5, 0.7, 1.0, 1.1, 1.2, 1.5]
    performance = Performance(onset, np.full(8, 0.2), [60, 67, 72, 80, 71, 72, 71, 72], np.full(8, 64))
    found = align(score, performance)
    assert {(0, 0), (2, 1), (3, 2), (5, 7)} <= pairs(found)
    assert 1 not in found.score_index
    assert 3 not in found.performance_index
    assert dict(pairs(found))[4] in (4, 6)


def test_a_deadpan_rendering_is_aligned_note_for_note() -> None:
    score, _, _ = read_match(DATA / "beethoven_sonata_9_2_Tysman05.match")
    found = align(score, deadpan(score))
    assert (score.pitch[found.score_index] == score.pitch[found.performance_index]).all()
    other = found.score_index != found.performance_index  # only voices in unison may change places
    assert np.allclose(
        score.onset_quarter[found.score_index[other]], score.onset_quarter[found.performance_index[other]]
    )
    assert len(found) == len(score)


@pytest.mark.parametrize("path", MATCHES, ids=lambda p: p.stem)
def test_match_file(path: Path) -> None:
    score, performance, alignment = read_match(path)
    text = path.read_text()
    written = [line for line in text.splitlines() if line.startswith("snote(")]
    played = [line for line in written if "-note(" in line]
    assert len(score) == len(written)
    assert len(performance) == len(played) + text.count("insertion-note(")
    assert len(alignment) == len(played)
    s, p = alignment.score_index, alignment.performance_index
    assert (score.pitch[s] == performance.pitch[p]).all()
    assert len(np.unique(s)) == len(np.unique(p)) == len(alignment)
    assert (np.diff(s) > 0).all()
    assert (performance.pedal_value >= 0).all()
    assert text.count("\nsustain(") == len(performance.pedal_sec)
    onset, pitch = score.onset_quarter[s], performance.onset_sec[p]
    assert np.corrcoef(onset, pitch)[0, 1] > 0.98


@pytest.mark.parametrize("path", MATCHES, ids=lambda p: p.stem)
def test_parangonar_finds_what_the_corpus_says(path: Path) -> None:
    score, performance, truth = read_match(path)
    start = time.perf_counter()
    found = align(score, performance)
    assert time.perf_counter() - start < 30
    stroke = key_strokes(score)  # the corpus gives a unison's one key stroke to either voice
    a, b = ({(int(stroke[i]), j) for i, j in pairs(x)} for x in (truth, found))
    f_score = 2 * len(a & b) / (len(a) + len(b))
    assert f_score > (0.93 if "schumann" in path.stem else 0.98), f_score


def test_cutting_a_long_piece_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.music.io import alignment

    score, performance, _ = read_match(DATA / "chopin_etude_25_2_Karpeyev02.match")
    cut = pairs(align(score, performance))
    monkeypatch.setattr(alignment, "_PART_CHORDS", 100_000)
    whole = pairs(align(score, performance))
    assert len(cut & whole) > 0.999 * len(whole)


def ref_pitch_dtw(pitch: np.ndarray, chords: list[set[int]]) -> tuple[float, np.ndarray]:
    load_partitura()
    from parangonar.dp.dtw import DTWSL

    found = DTWSL()(pitch, chords, return_path=True)
    return found[0], np.array(found[1])


def test_fast_warping_is_the_slow_one() -> None:
    r = np.random.default_rng(4)
    for _ in range(20):
        chords = [set(r.integers(60, 66, r.integers(1, 4)).tolist()) for _ in range(r.integers(1, 30))]
        pitch = r.integers(60, 66, r.integers(1, 40))
        cost, path = pitch_dtw(pitch, chords)
        ref_cost, ref_path = ref_pitch_dtw(pitch, chords)
        assert cost == ref_cost
        assert np.array_equal(path, ref_path)


def test_another_piece_is_refused() -> None:
    score, _, _ = read_match(DATA / "beethoven_sonata_9_2_Tysman05.match")
    other = Performance(np.arange(50) / 4, np.full(50, 0.2), np.full(50, 101), np.full(50, 64))
    with pytest.raises(BadInput, match="does not match the score"):
        align(score, other)
    with pytest.raises(BadInput, match="no notes"):
        align(score, Performance([], [], [], []))


def test_a_file_that_is_no_match_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.match"
    path.write_text("hello\n")
    with pytest.raises(BadInput, match="cannot be read as a match file"):
        read_match(path)
