"""The measures of a performance: counted by hand, against slow versions, and as tables."""

from __future__ import annotations

import numpy as np
import pytest

from engine.measures import performance_metrics as metrics
from engine.measures.corpora import compare, in_words, measure_folder, measure_pieces, measure_score, shipped
from engine.measures.performance_metrics import METRICS, Segments, cut, measure, panel
from engine.music.expression import deadpan
from engine.music.io.midi import write_midi
from engine.music.io.write_musicxml import write_musicxml
from engine.music.types import BadInput, Marks, Measures, Performance, Score


def played(onset, duration, pitch, velocity) -> Performance:
    return Performance(np.array(onset, float), np.array(duration, float), np.array(pitch), np.array(velocity))


def random_piece(n: int, seed: int = 0) -> Performance:
    rng = np.random.default_rng(seed)
    onset = np.cumsum(rng.exponential(0.1, n) * (rng.random(n) < 0.7))
    return played(onset, rng.exponential(0.3, n) + 0.02, rng.integers(30, 90, n), rng.integers(20, 110, n))


def scale(n: int) -> Score:
    """n eighths up and down a C major scale, in 4/4."""
    up = np.array([60, 62, 64, 65, 67, 69, 71, 72, 71, 69, 67, 65, 64, 62])
    pitch, onset = np.resize(up, n), np.arange(n) / 2
    m = int(np.ceil(n / 8))
    measures = Measures(4.0 * np.arange(m), *(np.full(m, v) for v in (4, 0, 4, 4, 0)), np.arange(1, m + 1))
    ones = np.ones(n, int)
    spelling = (pitch * 7 + 5) % 12 - 5
    return Score(onset, ones / 2, pitch, spelling, ones, ones, np.zeros(n, bool), Marks.none(n), measures)


def one(name: str, segments: Segments) -> float:
    return float(measure(segments)[name][0])


def test_four_notes() -> None:
    """C4 at 0, E4 at 0.5, G4 at 1, C5 at 2 s; 0.4, 0.4, 0.8, 1.6 s long; loudness 60 70 50 90."""
    s = cut(played([2, 0, 0.5, 1], [1.6, 0.4, 0.4, 0.8], [72, 60, 64, 67], [90, 60, 70, 50]), length=4)
    assert one("PR", s) == 12
    assert one("APS", s) == pytest.approx((4 + 3 + 5) / 3)
    assert one("IOI", s) == pytest.approx(2 / 3)
    assert one("IOI_onset", s) == pytest.approx(2 / 3)
    assert one("DAVG", s) == pytest.approx(0.8)
    assert one("DSTD", s) == pytest.approx(np.sqrt((0.16 + 0.16 + 0 + 0.64) / 4))
    assert one("AVI", s) == pytest.approx((10 + 20 + 40) / 3)
    assert one("VSTD", s) == pytest.approx(np.sqrt((7.5**2 + 2.5**2 + 17.5**2 + 22.5**2) / 4))
    assert one("density", s) == pytest.approx(1.5)
    assert one("UPC_seg", s) == one("UPC", s) == one("UPC_4s", s) == 3  # C, E, G
    assert one("PC", s) == 4
    assert one("key_share", s) == 100


def test_a_chord() -> None:
    """Two chords, each spread over less than 30 ms: two onsets, and notes in order of time, then pitch."""
    s = cut(played([0.02, 0, 0, 1.0, 1.025], [1] * 5, [67, 64, 60, 62, 74], [40, 50, 60, 70, 80]), length=5)
    assert s.pitch.tolist() == [[60, 64, 67, 62, 74]]
    assert one("IOI_onset", s) == pytest.approx(1.0)
    assert one("IOI", s) == pytest.approx(1.025 / 4)
    assert one("UPC_seg", s) == 4
    assert one("PC", s) == 5
    assert one("APS", s) == pytest.approx((4 + 3 + 5 + 12) / 4)


def test_all_at_once_has_no_interval() -> None:
    s = cut(played([0, 0, 0], [1] * 3, [60, 64, 67], [64] * 3), length=3)
    assert one("IOI_onset", s) == 0
    assert np.isnan(one("density", s))


def test_a_gap_of_31_ms_opens_an_onset_and_29_does_not() -> None:
    """29 + 29 ms is one onset although it is 58 ms long: a note is compared with the note before it."""
    s = cut(played([0, 0.029, 0.058, 0.089], [1] * 4, [60] * 4, [64] * 4), length=4)
    assert one("IOI_onset", s) == pytest.approx(0.089)


def ref_classes(pitch, time, width) -> float:
    """UPC in windows of time, the slow way."""
    last = int((time[-1] - time[0]) / width + 1e-9)
    counts = []
    for k in range(max(last, 1)):
        inside = (time - time[0] >= k * width - 1e-9) & (time - time[0] < (k + 1) * width - 1e-9)
        if inside.any():
            counts.append(len(set((pitch[inside] % 12).tolist())))
    return float(np.mean(counts))


def test_windows_equal_the_slow_way() -> None:
    s = cut(random_piece(256 * 3 + 100))
    assert len(s) == 3
    found = measure(s)
    for k in range(3):
        p, o = s.pitch[k], s.onset[k]
        assert found["UPC_4s"][k] == pytest.approx(ref_classes(p, o, 4.0))
        assert found["UPC"][k] == np.mean([len(set((p[a : a + 32] % 12).tolist())) for a in range(0, 256, 32)])
        assert found["UPC_seg"][k] == len(set((p % 12).tolist()))
        assert found["PC"][k] == len(set(p.tolist()))
        first = [0, *(i for i in range(1, 256) if o[i] - o[i - 1] > 0.03)]
        assert found["IOI_onset"][k] == pytest.approx(np.mean(np.diff(o[first])))


def test_beats_count_with_a_score() -> None:
    score = scale(64)
    found = measure(cut(deadpan(score, bpm=60), score))
    assert found["UPC_8beats"][0] == 7  # 16 eighths of the scale: every class of C major
    assert found["loop"][0] == 1  # the scale turns after 14 notes
    assert np.isnan(measure(cut(deadpan(score)))["UPC_8beats"][0])
    with pytest.raises(BadInput, match="note for note"):
        cut(deadpan(scale(40)), score)


def test_short_pieces_are_one_segment_or_refused() -> None:
    assert cut(random_piece(100)).pitch.shape == (1, 100)
    assert cut(random_piece(300)).pitch.shape == (1, 256)
    with pytest.raises(BadInput, match="20 notes; measuring takes at least 32"):
        cut(random_piece(20))
    with pytest.raises(BadInput, match="255 notes"):
        cut(random_piece(255), whole=False)


def test_panel_against_the_shipped_corpus() -> None:
    score = scale(300)
    rows = {r.name: r for r in panel(deadpan(score), score)}
    assert set(rows) == {m.name for m in METRICS}
    assert rows["PR"].value == 12
    assert rows["PR"].percentile < 1  # real music is wider
    assert rows["key_share"].percentile > 90
    assert rows["AVI"].value == 0
    assert 11 < rows["AVI"].corpus_mean < 13
    assert rows["PR"].n == 1
    assert "loop" not in {r.name for r in panel(random_piece(300))}


def test_the_shipped_reference_is_whole() -> None:
    for which in ("train", "validation", "train openings", "validation openings"):
        m = shipped(which)
        for metric in METRICS:
            values = m.values[metric.name]
            assert 0 < len(values) <= 1000
            assert m.mean[metric.name] == pytest.approx(values.mean(), abs=0.05 * values.std() + 1e-9)
            assert m.count[metric.name] >= len(values)
        assert set(m.histograms) == {"velocity", "duration", "IOI", "pedal"}
    assert shipped("train").pieces == 837
    assert shipped("validation").pieces == 91
    # measured before by other code, on all 1,063 performances: PR 56.3, APS 11.9, UPC 7.70, IOI 0.091, AVI 12.1
    mean = shipped("train").mean
    for name, value in {"PR": 56.3, "APS": 11.9, "UPC": 7.7, "IOI": 0.091, "AVI": 12.1}.items():
        assert mean[name] == pytest.approx(value, rel=0.03)
    assert metrics.REFERENCE.stat().st_size < 1_000_000


def test_a_set_against_itself() -> None:
    m = measure_pieces([random_piece(600, k) for k in range(5)] + [random_piece(10)])
    assert (m.pieces, m.count["PR"], m.skipped) == (5, 10, (("5", "only 10 notes"),))
    rows = compare(m, m)
    assert all(
        r["overlap"] == pytest.approx(1) and r["kl"] == pytest.approx(0, abs=1e-9) for r in rows if "metric" in r
    )
    assert [r["histogram"] for r in rows if "histogram" in r] == ["velocity", "duration", "IOI", "pedal"]
    assert all(r["jensen_shannon"] == 0 for r in rows if "histogram" in r)
    low, high = rows[0]["interval"]
    assert low <= rows[0]["mean"] <= high
    text = in_words(rows)
    assert "PR" in text
    assert "UPC_8beats" not in text  # no score, no beats


def test_a_folder_of_midi_and_scores(tmp_path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.mid").write_bytes(write_midi(random_piece(300)))
    (tmp_path / "b.musicxml").write_bytes(write_musicxml(scale(80)))
    (tmp_path / "broken.mid").write_bytes(b"MThd")
    (tmp_path / "notes.txt").write_text("no music")
    shares: list[float] = []
    m = measure_folder(tmp_path, shares.append)
    assert m.pieces == 2
    assert [name for name, _ in m.skipped] == ["broken.mid"]
    assert m.count["PR"] == 2
    assert m.count["AVI"] == 1  # a score alone has no loudness
    assert m.count["loop"] == 1
    assert shares[-1] == 1
    assert set(measure_score(scale(80))) == {"PR", "APS", "UPC", "UPC_8beats", "UPC_seg", "PC", "key_share", "loop"}


def test_folders_that_cannot_be_measured(tmp_path) -> None:
    with pytest.raises(BadInput, match="There is no folder"):
        measure_folder(tmp_path / "none")
    with pytest.raises(BadInput, match=r"No file in the folder .* can be measured; name a folder"):
        measure_folder(tmp_path)
    (tmp_path / "few.mid").write_bytes(write_midi(random_piece(5)))
    with pytest.raises(BadInput, match=r"few\.mid: This performance has 5 notes"):
        measure_folder(tmp_path)


def test_the_command(tmp_path, capsys) -> None:
    import json

    from engine.cli.etude import main

    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.mid").write_bytes(write_midi(random_piece(600, seed)))
    assert main(["metrics", str(tmp_path / "a"), "--reference", str(tmp_path / "b"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"][0]["metric"] == "PR"
    assert 0 <= found["rows"][0]["overlap"] <= 1
    assert main(["metrics", str(tmp_path / "a"), "--corpus", "validation openings", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "reference: (n)ASAP, validation openings, 91 pieces" in out
    assert "intersection" in out
    assert main(["metrics", str(tmp_path / "c")]) == 2
    assert "There is no folder" in capsys.readouterr().err
