"""MusicXML as played, MEI, SVG and the page to print; ABC in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lxml import etree

from engine.cli.etude import main
from engine.files import open_score_file
from engine.music.document.as_played import musicxml_as_played, note_for_note
from engine.music.expression import deadpan
from engine.music.io.read_musicxml import read_mei, read_musicxml
from engine.music.types import Alignment, BadInput, Performance, Score

DATA = Path(__file__).parents[2] / "data"
TUNE = b"X:1\nT:Tune\nC:Trad.\nM:6/8\nL:1/8\nQ:3/8=100\nK:D\n|:DFA dAF|GBd g2f|e3 c2A|d6:|\n\nX:2\nT:Other\nK:C\nC|\n"


def played_from(document: bytes) -> list[tuple[int, float, float, float]]:
    """What a notation program plays: (pitch, onset, offset in seconds, velocity) of each note that is struck.

    A reader of its own: one clock for all parts of a bar, tempo from <sound>, attack and release in divisions.
    """
    root = etree.fromstring(document)
    divisions, start, tempi, notes = 480, 0.0, [], []
    for measure in root.find("part").findall("measure"):
        here = before = reached = 0.0
        for e in measure:
            length = float(e.findtext("duration") or 0) / divisions
            if e.tag == "sound" and e.get("tempo"):
                tempi.append((start + here, float(e.get("tempo"))))
            elif e.tag == "forward":
                here += length
            elif e.tag == "backup":
                here -= length
            elif e.tag == "note" and e.find("grace") is None:
                at = before if e.find("chord") is not None else here
                if e.find("chord") is None:
                    before, here = here, here + length
                if e.find("pitch") is not None:
                    notes.append((start + at, length, e))
            reached = max(reached, here)
        start += reached

    def sec(quarter: float) -> float:
        total, (last, bpm) = 0.0, tempi[0]
        for place, new in [*tempi[1:], (1e9, 0.0)]:
            if quarter <= place:
                return total + (quarter - last) * 60 / bpm
            total, last, bpm = total + (place - last) * 60 / bpm, place, new
        raise AssertionError

    out = []
    for at, length, e in notes:
        if e.get("attack") is not None and e.get("release") is not None:  # not tied
            on, off = at + float(e.get("attack")) / divisions, at + length + float(e.get("release")) / divisions
            step = "C D EF G A B".index(e.findtext("pitch/step"))
            pitch = 12 * (int(e.findtext("pitch/octave")) + 1) + step + int(e.findtext("pitch/alter") or 0)
            out.append((pitch, sec(on), sec(off), float(e.get("dynamics")) * 90 / 100))
    return out


def lively(score: Score) -> Performance:
    """A deadpan performance bent in tempo, time and touch, with two pedals."""
    even = deadpan(score)
    rng = np.random.default_rng(1)
    bent = even.onset_sec + 0.3 * np.sin(even.onset_sec / 3) + rng.normal(0, 0.01, len(score))
    return replace(
        even, onset_sec=bent, duration_sec=even.duration_sec * rng.uniform(0.6, 1.1, len(score)),
        velocity=rng.integers(30, 110, len(score)),
        pedal_sec=np.array([1.0, 2.0, 3.0, 4.0]), pedal_value=np.array([127, 0, 127, 0]),
    )  # fmt: skip


def test_a_notation_program_reads_the_performance_back() -> None:
    score = open_score_file(DATA / "bach_prelude_868.musicxml")
    performance = lively(score)
    document = musicxml_as_played(score, performance)
    read = played_from(document)
    assert len(read) > 0.8 * len(score)
    offset = min(r[1] for r in read) - performance.onset_sec.min()
    for pitch, on, off, velocity in read:
        row = int(np.argmin(np.abs(performance.onset_sec + offset - on) + 10 * (performance.pitch != pitch)))
        assert performance.pitch[row] == pitch
        assert abs(performance.onset_sec[row] + offset - on) < 0.01
        assert abs(performance.duration_sec[row] - (off - on)) < 0.02
        assert abs(performance.velocity[row] - velocity) < 0.6
    assert document.count(b"<pedal") == 4
    again = read_musicxml(document)
    assert (again.pitch == score.pitch).all()
    assert np.allclose(again.onset_quarter, score.onset_quarter)


def test_a_human_performance_becomes_one_note_for_each_written_note() -> None:
    score = open_score_file(DATA / "bach_prelude_868.musicxml")
    performance = lively(score)
    played = np.delete(np.arange(len(score)), [5, 40])  # two notes are left out, and one is added in front
    human = replace(performance, **{
        k: np.concatenate([getattr(performance, k)[:1], getattr(performance, k)[played]])
        for k in ("onset_sec", "duration_sec", "pitch", "velocity")
    })  # fmt: skip
    made = note_for_note(score, human, Alignment(played, np.arange(1, len(played) + 1)))
    assert len(made) == len(score)
    assert (made.onset_sec[played] == performance.onset_sec[played]).all()
    assert (made.velocity[played] == performance.velocity[played]).all()
    assert np.abs(made.onset_sec[[5, 40]] - performance.onset_sec[[5, 40]]).max() < 0.2
    assert musicxml_as_played(score, made).count(b"attack=") > 0.9 * len(score)


def test_repeats_are_written_out_so_that_each_playing_has_its_own_times() -> None:
    score = open_score_file(DATA / "reading" / "r4-three-endings.musicxml")
    root = etree.fromstring(musicxml_as_played(score, deadpan(score)))
    assert len(root.findall("part/measure")) == len(score.measures)
    assert not list(root.iter("repeat"))


def test_another_pieces_performance_is_refused() -> None:
    score = open_score_file(DATA / "reading" / "r4-three-endings.musicxml")
    other = deadpan(open_score_file(DATA / "reading" / "d5-metric-modulation.musicxml"))
    with pytest.raises(BadInput, match="one played note for each"):
        musicxml_as_played(score, replace(other, **{
            k: getattr(other, k)[:1] for k in ("onset_sec", "duration_sec", "pitch", "velocity")
        }))  # fmt: skip


def test_convert_writes_mei_svg_and_a_page_to_print(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = DATA / "reading" / "d5-metric-modulation.musicxml"
    score = open_score_file(source)
    for name in ("a.mei", "a.svg", "a.html"):
        assert main(["convert", str(source), str(tmp_path / name), "--quiet"]) == 0
    assert (read_mei((tmp_path / "a.mei").read_bytes()).pitch == score.pitch).all()
    svg = etree.fromstring((tmp_path / "a.svg").read_bytes())
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(svg.findall(".//{*}g[@class='notehead']")) >= len(score)
    printed = "".join("".join(text.itertext()) for text in svg.iter("{*}text"))
    assert "♩" in printed  # of the metronome mark
    assert not any("\ue000" <= c <= "\uf8ff" for c in printed)  # no characters that need a music font
    page = (tmp_path / "a.html").read_text()
    assert f"<h1>{score.title or 'Untitled'}</h1>" in page
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert main(["convert", str(source), str(tmp_path / "a.pdf")]) == 2
    assert "engraved pages" in capsys.readouterr().err


def test_abc_is_read_with_its_title_repeat_and_tempo(tmp_path: Path) -> None:
    (tmp_path / "tune.abc").write_bytes(TUNE)
    score = open_score_file(tmp_path / "tune.abc")
    assert (score.title, score.composer, score.tempo_bpm) == ("Tune", "Trad.", 150)
    assert score.pitch[:6].tolist() == [62, 66, 69, 74, 69, 66]
    assert len(score) == 30
    assert (score.measures.ts_num[0], score.measures.ts_den[0], score.measures.fifths[0]) == (6, 8, 2)
    (tmp_path / "bad.abc").write_bytes(b"X:1\nT:none\n")
    with pytest.raises(BadInput, match=r"\.abc"):
        open_score_file(tmp_path / "bad.abc")
