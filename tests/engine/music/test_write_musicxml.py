"""Writing MusicXML: round trips, and engraving by verovio."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from engine.music.engraving.note_values import Pulse, beam_states, note_values, tuplet_brackets
from engine.music.io.midi import read_midi_score
from engine.music.io.read_musicxml import read_musicxml
from engine.music.io.write_musicxml import write_musicxml
from engine.music.types import MARK_NAMES, Marks, Measures, Score
from engine.untrusted.scores import open_score, unpack_mxl

DATA = Path(__file__).parents[2] / "data"
NOTATION = sorted([*DATA.glob("*.mxl"), *DATA.glob("*.musicxml"), *DATA.glob("*.krn"), *DATA.glob("*.mei")])
MIDI = [DATA / f"{p.stem}.mid" for p in NOTATION if (DATA / f"{p.stem}.mid").exists()]


def rows(score: Score) -> np.ndarray:
    """Every field of every note that MusicXML holds, in an order that does not depend on the file."""
    table = np.stack([
        score.onset_quarter.round(6), score.pitch, score.duration_quarter.round(6), score.spelling, score.grace,
        np.where(score.staff == 2, 2, 1),
    ], axis=1)  # fmt: skip
    return table[np.lexsort(table.T[::-1])]


def assert_same(a: Score, b: Score) -> None:
    assert len(a) == len(b)
    assert np.allclose(rows(a), rows(b), atol=2e-6)
    for name in ("onset_quarter", "duration_quarter", "position_quarter", "ts_num", "ts_den", "fifths"):
        assert np.allclose(getattr(a.measures, name), getattr(b.measures, name), atol=1e-6), name


@pytest.mark.parametrize("path", NOTATION, ids=lambda p: p.name)
@pytest.mark.filterwarnings("ignore")
def test_round_trip(path: Path) -> None:
    score = open_score(path.read_bytes(), path.name)
    back = read_musicxml(write_musicxml(score))
    assert_same(score, back)
    for name in ("accent", "staccato", "tenuto", "fermata", "arpeggio", "ornament"):
        assert score.marks[name].sum() == back.marks[name].sum(), name


@pytest.mark.parametrize("path", MIDI, ids=lambda p: p.name)
@pytest.mark.filterwarnings("ignore")
def test_round_trip_of_a_midi_score(path: Path) -> None:
    score = read_midi_score(path.read_bytes())
    assert_same(score, read_musicxml(write_musicxml(score)))


@pytest.mark.filterwarnings("ignore")
def test_voices_and_dynamics_survive() -> None:
    score = open_score((DATA / "bach_prelude_868.musicxml").read_bytes(), "x")
    back = read_musicxml(write_musicxml(score))
    order = [np.lexsort((s.duration_quarter, s.pitch, s.onset_quarter)) for s in (score, back)]
    assert (score.voice[order[0]] == back.voice[order[1]]).mean() > 0.98
    sonata = open_score((DATA / "beethoven_sonata_9_2.mxl").read_bytes(), "x")
    again = read_musicxml(write_musicxml(sonata))
    assert (sonata.marks["hairpin"] == again.marks["hairpin"]).mean() > 0.9
    # a "cresc." of words becomes a wedge, which a sudden p at its end holds down when it is read back
    assert (np.abs(sonata.marks["written_velocity"] - again.marks["written_velocity"]) <= 2).mean() > 0.85


def a_score(n: int = 4, **change: object) -> Score:
    """Pickup, tie over a barline, triplet, grace note, a chord held under a moving voice, 3/4 in E flat."""
    onset = np.array([-1, 0, 0, 0, 0, 1, 4 / 3, 5 / 3, 2, 3, 3])
    duration = np.array([1, 0, 4, 1, 4, 1 / 3, 1 / 3, 1 / 3, 4, 1.25, 3])
    pitch = np.array([58, 74, 39, 75, 51, 74, 75, 77, 79, 80, 44])
    spelling = np.array([-2, 2, -3, -3, -3, 2, -3, -1, 1, -4, -4])
    staff = np.array([1, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2])
    grace = np.arange(11) == 1
    table = np.zeros((11, len(MARK_NAMES)), np.int16)
    table[:, MARK_NAMES.index("written_velocity")] = [49] * 5 + [96] * 6
    table[:, MARK_NAMES.index("tempo_bpm")] = 120
    table[3:6, MARK_NAMES.index("slur")] = [1, 1, 2]
    table[8, MARK_NAMES.index("fermata")] = 1
    table[9, MARK_NAMES.index("accent")] = 2
    measures = Measures([-1, 0, 3], [1, 3, 3], [2, 0, 0], [3, 3, 3], [4, 4, 4], [-3, -3, -3], [0, 1, 2])
    order = np.lexsort((pitch, ~grace, onset))
    return Score(
        onset[order], duration[order], pitch[order], spelling[order], staff[order], np.zeros(11), grace[order],
        Marks(table[order]), measures, title="Étude <&> \x07 №1", composer="A. Nonym",
    )  # fmt: skip


def test_eleven_notes_counted_by_hand() -> None:
    data = write_musicxml(a_score())
    root = ET.fromstring(data)
    assert root.findtext("work/work-title") == "Étude <&>  №1"
    assert root.findtext("identification/creator") == "A. Nonym"
    bars = root.findall("part/measure")
    assert [b.get("number") for b in bars] == ["0", "1", "2"]
    assert bars[0].get("implicit") == "yes"
    assert bars[0].findtext("attributes/key/fifths") == "-3"
    assert (
        len(root.findall(".//tie[@type='start']")) == len(root.findall(".//tie[@type='stop']")) == 3 + 1
    )  # and a 5/16
    assert [t.get("type") for t in root.findall(".//tuplet")] == ["start", "stop"]
    assert len(root.findall(".//grace")) == 1
    assert [d.tag for d in root.findall(".//dynamics/*")] == ["p", "f"]
    assert root.findtext(".//metronome/per-minute") == "120"
    assert [s.get("type") for s in root.findall(".//slur")] == ["start", "stop"]
    assert [a.text for a in root.findall(".//accidental")] == []  # every note is in the key
    back = read_musicxml(data)
    assert_same(a_score(), back)
    assert back.marks["tempo_bpm"].tolist() == [120] * 11
    assert back.marks["fermata"].sum() == 1
    assert back.marks["accent"].max() == 2
    assert back.title == "Étude <&>  №1"


@pytest.mark.parametrize(
    ("name", "pitches"),
    [
        ("g2-descending-graces.musicxml", [60, 81, 79, 77, 76, 74, 72, 74, 72, 71, 72]),
        ("kn9-grace-and-hidden.krn", [71, 62, 72, 64]),
    ],
)
def test_grace_notes_are_written_in_order(name: str, pitches: list[int]) -> None:
    data = (DATA / "reading" / name).read_bytes()
    assert read_musicxml(write_musicxml(open_score(data, name))).pitch.tolist() == pitches


def test_measures_are_full_and_voices_do_not_overlap() -> None:
    for path in NOTATION[:4]:
        root = ET.fromstring(write_musicxml(open_score(path.read_bytes(), path.name)))
        divisions = int(root.findtext("part/measure/attributes/divisions") or 0)
        for bar in root.iter("measure"):
            cursor = most = 0
            busy: dict[str, int] = {}
            for element in bar:
                length = int(element.findtext("duration") or 0)
                if element.tag == "backup":
                    cursor -= length
                elif element.tag == "forward":
                    cursor += length
                elif element.tag == "note" and element.find("chord") is None:
                    voice = element.findtext("voice") or ""
                    assert busy.get(voice, 0) <= cursor
                    cursor += length
                    busy[voice] = cursor
                assert cursor >= 0
                most = max(most, cursor)
            assert most == cursor
            assert divisions > 0


def test_note_values() -> None:
    def written(start: Fraction, length: Fraction) -> list[tuple]:
        return [(v.type, v.dots, v.tuplet) for v in note_values(start, length)]

    third = Fraction(1, 3)
    assert written(Fraction(0), Fraction(4)) == [("whole", 0, (1, 1))]
    assert written(Fraction(0), Fraction(7, 4)) == [("quarter", 2, (1, 1))]
    assert written(Fraction(0), Fraction(5, 4)) == [("quarter", 0, (1, 1)), ("16th", 0, (1, 1))]
    assert written(Fraction(0), third) == [("eighth", 0, (3, 2))]
    assert written(Fraction(0), Fraction(1, 5)) == [("16th", 0, (5, 4))]
    assert written(2 * third, 1 + third) == [("half", 0, (3, 2))]
    assert written(2 * third, 3 + third) == [("eighth", 0, (3, 2)), ("half", 1, (1, 1))]
    assert written(Fraction(0), Fraction(29, 240)) == [("", 0, (1, 1))]
    for numerator in range(1, 200):
        for denominator in (1, 2, 3, 5, 6, 8, 12, 16, 24, 28, 480):
            length = Fraction(numerator, denominator)
            values = note_values(Fraction(1, denominator), length)
            assert sum(v.length for v in values) == length
            assert all((v.length * denominator * 4).denominator == 1 for v in values)
    triplet = note_values(Fraction(0), third)
    assert tuplet_brackets(triplet * 6) == ["start", "", "stop"] * 2
    assert beam_states([1, 2, 2, 0, 1], [0, 0, 0, 1, 1]) == [["begin"], ["continue", "begin"], ["end", "end"], [], []]
    assert beam_states([1, 2, 1], [0, 0, 0])[1] == ["continue", "backward hook"]


ENGRAVE = """
import sys, verovio
kit = verovio.toolkit()
verovio.enableLog(verovio.LOG_OFF)
assert kit.loadData(sys.stdin.read())
print(kit.getPageCount(), kit.getMEI().count("<note "), len(kit.renderToSVG(1)))
"""


@pytest.mark.parametrize("path", NOTATION[:4] + MIDI[:1], ids=lambda p: p.name)
def test_verovio_engraves_it(path: Path) -> None:
    score = open_score(path.read_bytes(), path.name)
    done = subprocess.run(
        [sys.executable, "-c", ENGRAVE], input=write_musicxml(score), capture_output=True, timeout=60, check=True
    )
    pages, notes, length = map(int, done.stdout.split())
    assert pages >= 1
    assert notes >= len(score)
    assert length > 10_000


def test_an_mxl_is_its_musicxml() -> None:
    inner = unpack_mxl((DATA / "bach_fugue_846.mxl").read_bytes())
    assert b"<score-partwise" in inner[:2000]


def test_a_bar_of_thousands_of_quarters_is_written() -> None:
    """Splitting a note into heads does not recurse."""
    heads = note_values(Fraction(0), Fraction(16_387), Pulse.of(4, 4))
    assert sum(h.length for h in heads) == 16_387
    assert all(h.type and h.length <= 8 for h in heads)
