"""Layout of notation: voices, clefs, beats, beams, accidentals; notes stay unchanged."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from dataclasses import replace
from fractions import Fraction as F
from pathlib import Path

import numpy as np
import pytest

from engine.music.engraving.clefs import choose_clefs
from engine.music.engraving.hands import too_wide, within_reach
from engine.music.engraving.note_values import Pulse, beam_groups, note_values, rest_values
from engine.music.engraving.voices import separate
from engine.music.io.read_musicxml import read_musicxml
from engine.music.io.write_musicxml import MusicXmlWriter, write_musicxml
from engine.music.types import MARK_NAMES, Marks, Measures, Score
from engine.untrusted.scores import open_score

DATA = Path(__file__).parents[2] / "data"
METERS = ((4, 4), (3, 4), (6, 8), (5, 8), (12, 16))


def a_score(notes: list[tuple], ts: tuple[int, int] = (4, 4), bars: int = 2, fifths: int = 0) -> Score:
    """Notes as (onset, duration, pitch, spelling, staff[, grace]), voices unknown."""
    notes = sorted(((*n, False)[:6] for n in notes), key=lambda n: (n[0], not n[5], n[2]))
    onset, duration, pitch, spelling, staff, grace = (np.array(c) for c in zip(*notes, strict=True))
    length, m = 4 * ts[0] / ts[1], np.ones(bars, int)
    measures = Measures(
        length * np.arange(bars), length * m, 0 * m, ts[0] * m, ts[1] * m, fifths * m, 1 + np.arange(bars)
    )
    return Score(onset, duration, pitch, spelling, staff, np.zeros(len(onset)), grace, Marks.none(len(onset)), measures)


def bars_of(score: Score) -> list[ET.Element]:
    return ET.fromstring(write_musicxml(score)).findall("part/measure")


def heads(bar: ET.Element, voice: str) -> list[str]:
    """Each note of a voice as type and dots, rests in lower case, a tie to the next as ~; chord notes left out."""
    out = []
    for note in bar.findall("note"):
        if note.findtext("voice") != voice or note.find("chord") is not None:
            continue
        word = (note.findtext("type") or "bar") + "." * len(note.findall("dot"))
        tied = "~" if note.find("tie[@type='start']") is not None else ""
        out.append(word if note.find("rest") is not None else word.upper() + tied)
    return out


# ---- voices


def voices(*spans: tuple[float, float, int]) -> list[int]:
    onset, end, pitch = zip(*((F(a), F(b), p) for a, b, p in spans), strict=True)
    found = separate(onset, end, pitch, range(len(onset)))
    return [next(t[i] for t in found if i in t) for i in range(len(onset))]


def test_voices_counted_by_hand() -> None:
    assert voices((0, 1, 60), (1, 2, 62), (2, 3, 64)) == [0, 0, 0]
    assert voices((0, 1, 60), (0, 1, 64), (0, 1, 67)) == [0, 0, 0]  # a chord
    assert voices((0, 4, 48), (0, 1, 60), (1, 2, 62), (2, 3, 64), (3, 4, 65)) == [1, 0, 0, 0, 0]
    assert voices((0, 4, 72), (0, 1, 60), (1, 2, 62), (2, 3, 64), (3, 4, 65)) == [0, 1, 1, 1, 1]
    assert voices((0, 4, 72), (0, 4, 48), (1, 2, 60)) == [0, 0, 1]  # the held chord, and a middle voice
    assert voices((0, 2, 72), (1, 3, 65)) == [0, 1]  # a suspension


def test_no_two_notes_of_a_voice_overlap() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        start = rng.integers(0, 32, 30)
        spans = sorted(
            {
                (a / 4, (a + rng.integers(1, 5)) / 4, int(p))
                for a, p in zip(start, rng.integers(40, 80, 30), strict=True)
            }
        )
        found = voices(*spans)
        crowded = max(len({s[:2] for s in spans if s[0] <= t < s[1]}) for t in np.arange(0, 9, 0.25))
        for (a, v), (b, w) in itertools.combinations(zip(spans, found, strict=True), 2):
            if v == w and a[:2] != b[:2] and crowded <= 4:
                assert a[1] <= b[0] or b[1] <= a[0], (a, b)


@pytest.mark.parametrize("name", ["bach_fugue_846.mxl", "beethoven_sonata_9_2.mxl", "chopin_prelude_28_7.krn"])
@pytest.mark.filterwarnings("ignore")
def test_a_real_score_without_its_voices_is_written_whole(name: str) -> None:
    score = open_score((DATA / name).read_bytes(), name)
    back = read_musicxml(write_musicxml(replace(score, voice=np.zeros(len(score)))))
    columns = ("onset_quarter", "pitch", "duration_quarter", "spelling", "grace")
    tables = [np.stack([getattr(s, c).astype(float).round(5) for c in columns], 1) for s in (score, back)]
    assert np.allclose(*(t[np.lexsort(t.T[::-1])] for t in tables), atol=2e-5)
    assert len(set(back.voice.tolist())) <= 8


def test_the_voices_of_a_fugue_are_found_again() -> None:
    """Of its pairs of simultaneous notes on one staff nearly all stand apart where Bach's voices do."""
    score = open_score((DATA / "bach_fugue_846.mxl").read_bytes(), "x")
    writer = MusicXmlWriter(replace(score, voice=np.zeros(len(score))))
    found, end = np.array(writer.page.voice), score.onset_quarter + score.duration_quarter
    right = wrong = 0
    for i in range(len(score)):
        for j in range(i + 1, min(i + 12, len(score))):
            overlap = score.onset_quarter[j] < end[i] - 1e-6 and score.staff[i] == score.staff[j]
            same_span = score.onset_quarter[i] == score.onset_quarter[j] and abs(end[i] - end[j]) < 1e-6
            if overlap and not same_span and score.voice[i] != score.voice[j]:
                right += found[i] != found[j]
                wrong += found[i] == found[j]
    assert right > 200
    assert wrong == 0


def test_known_voices_stay() -> None:
    score = a_score([(0, 4, 48, 0, 2), (0, 1, 60, 0, 2), (0, 2, 72, 0, 1)])
    named = replace(score, voice=[6, 5, 1])
    assert MusicXmlWriter(named).page.voice == [6, 5, 1]
    assert sorted(MusicXmlWriter(score).page.voice) == [1, 5, 6]


def test_notes_of_no_staff_go_by_hand() -> None:
    score = a_score([(0, 4, 36, 0, 0), (0, 2, 76, 4, 0), (2, 2, 40, 4, 1), (2, 2, 79, 1, 0)], bars=1)
    assert MusicXmlWriter(score).page.staff.tolist() == [2, 1, 1, 1]  # what is known stays


def test_a_chord_that_no_hand_spans_is_shared() -> None:
    onset, length = np.array([0, 0, 0, 1, 1, 2, 2, 2]), np.array([1, 1, 1, 1, 1, 1, 1, 1])
    pitch, staff = np.array([36, 48, 64, 50, 62, 40, 60, 72]), np.array([2, 2, 2, 2, 2, 2, 2, 1])
    assert within_reach(onset, length, pitch, staff).tolist() == [2, 2, 1, 2, 2, 2, 1, 1]
    held = np.array([3, 3, 3, 1, 1, 1, 1, 1])  # the hand that took over is busy until the third beat is over
    assert within_reach(onset[:7], held[:7], pitch[:7], staff[:7]).tolist() == [2, 2, 1, 2, 2, 2, 2]


def test_chords_wider_than_a_tenth_are_rolled() -> None:
    """C2-C4-E5 has to be rolled; a tenth, and the same notes in two hands, have not."""
    onset, pitch = np.array([0, 0, 0, 1, 1, 2, 2]), np.array([36, 60, 76, 36, 52, 36, 76])
    staff = np.array([2, 2, 2, 2, 2, 2, 1])
    assert too_wide(onset, pitch, staff).tolist() == [True] * 3 + [False] * 4


# ---- clefs


def test_clefs_follow_the_hand() -> None:
    assert choose_clefs([[60, 64], [48], []], "G") == ["G", "G", "G"]  # a low note is no reason
    high = [72, 76, 79, 84, 79, 76, 72, 76]
    assert choose_clefs([[48, 52], high, high, [], [40, 45, 36, 40]], "F") == ["F", "G", "G", "G", "F"]
    low = [36, 43, 40, 48, 36, 43, 40, 48]
    assert choose_clefs([low, low], "G") == ["F", "F"]
    notes = [(k, 1, p, 0, 2) for k, p in enumerate([48, 52, 48, 43, *high])]
    bars = bars_of(a_score(notes, bars=3))
    signs = [[c.findtext("sign") for c in b.findall("attributes/clef")] for b in bars]
    assert signs == [["G", "F"], ["G"], []]
    assert bars[1].find("attributes/clef[@number='2']") is not None


# ---- beats


@pytest.mark.parametrize("ts", METERS)
def test_every_length_is_written_out_in_full(ts: tuple[int, int]) -> None:
    pulse, length = Pulse.of(*ts), F(4 * ts[0], ts[1])
    for parts in (8, 12):
        grid = [F(k, parts) for k in range(int(length * parts) + 1)]
        for start, end in itertools.combinations(grid, 2):
            for write in (note_values, rest_values):
                assert sum(v.length for v in write(start, end - start, pulse)) == end - start


@pytest.mark.parametrize(
    "ts, start, length, written",
    [
        ((4, 4), 0, 4, "whole"), ((4, 4), 1, 2, "half"), ((4, 4), "1/2", 1, "quarter"),
        ((4, 4), "1/4", 1, "eighth. 16th"), ((4, 4), "3/4", "1/2", "16th 16th"), ((4, 4), "1/4", "1/2", "eighth"),
        ((4, 4), "3/2", "3/2", "eighth quarter"), ((4, 4), "1/2", "3/2", "quarter."),
        ((4, 4), 1, "5/2", "quarter quarter."),
        ((3, 4), 0, 3, "half."), ((6, 8), 0, 2, "quarter. eighth"), ((6, 8), 1, 1, "eighth eighth"),
        ((6, 8), "1/2", 1, "quarter"), ((6, 8), 0, 3, "half."), ((3, 8), "1/2", 1, "quarter"),
        ((4, 4), 0, "1/3", "eighth"),
    ],
)  # fmt: skip
def test_notes_leave_the_beats_visible(ts: tuple[int, int], start: str, length: str, written: str) -> None:
    values = note_values(F(start), F(length), Pulse.of(*ts))
    assert " ".join(v.type + "." * v.dots for v in values) == written


@pytest.mark.parametrize(
    "ts, start, length, written",
    [
        ((4, 4), 0, 2, "half"), ((4, 4), 1, 2, "quarter quarter"), ((4, 4), "1/2", "7/2", "eighth quarter half"),
        ((3, 4), 1, 2, "quarter quarter"), ((3, 4), "1/4", "3/4", "16th eighth"), ((6, 8), 0, 3, "quarter. quarter."),
        ((6, 8), "1/2", 1, "eighth eighth"), ((3, 8), "1/2", 1, "eighth eighth"),
        ((4, 4), "2/3", "4/3", "eighth quarter"),
    ],
)  # fmt: skip
def test_rests_keep_to_the_beats(ts: tuple[int, int], start: str, length: str, written: str) -> None:
    values = rest_values(F(start), F(length), Pulse.of(*ts))
    assert " ".join(v.type + "." * v.dots for v in values) == written


def test_a_pickup_counts_from_where_its_bar_would_begin() -> None:
    pulse = Pulse.of(4, 4, offset=F(5, 2))
    assert [v.type for v in rest_values(F(0), F(3, 2), pulse)] == ["eighth", "quarter"]
    assert [v.type for v in note_values(F(0), F(3, 2), Pulse.of(3, 4, offset=F(3, 2)))] == ["quarter"]


def test_beams() -> None:
    eighth = note_values(F(0), F(1, 2))[0]
    sixteenth = note_values(F(0), F(1, 4))[0]

    def groups(ts: tuple[int, int], values: list) -> list[int]:
        lengths = [v.length if v else F(1, 2) for v in values]
        starts = list(itertools.accumulate([F(0), *lengths[:-1]]))
        found = beam_groups(starts, values, Pulse.of(*ts))
        return [sum(g == f for f in found) for g in dict.fromkeys(found)]

    assert groups((4, 4), [eighth] * 8) == [4, 4]
    assert groups((4, 4), [eighth] * 4 + [None] + [eighth] * 3) == [4, 2, 2]
    assert groups((4, 4), [sixteenth] * 16) == [4, 4, 4, 4]
    assert groups((3, 4), [eighth] * 6) == [6]
    assert groups((6, 8), [eighth] * 6) == [3, 3]
    assert groups((3, 8), [sixteenth] * 6) == [6]


def test_a_bar_as_it_is_written() -> None:
    bar = bars_of(a_score([(0.5, 1, 60, 0, 1), (1.5, 1.5, 64, 4, 1), (0, 3, 48, 0, 2)], bars=1))[0]
    assert heads(bar, "1") == ["eighth", "QUARTER", "EIGHTH~", "QUARTER", "quarter"]
    assert heads(bar, "5") == ["HALF.", "quarter"]
    assert bar.findtext("barline/bar-style") == "light-heavy"


# ---- accidentals, slurs, graces, tempo


def test_accidentals_follow_time_not_voices() -> None:
    """F sharp sounds first in the lower voice, then in the upper, then F natural; F sharp again after the barline."""
    notes = [
        (0, 4, 62, 2, 1),
        (0, 1, 66, 6, 2),
        (2, 1, 66, 6, 2),
        (3, 1, 65, -1, 2),
        (1, 4, 54, 6, 2),
        (4, 1, 66, 6, 2),
    ]
    bars = bars_of(a_score(notes))
    said = {}
    for bar in bars:
        for note in bar.findall("note[accidental]"):
            pitch = f"{note.findtext('pitch/step')}{note.findtext('pitch/octave')}"
            said.setdefault(bar.get("number"), []).append((pitch, note.findtext("accidental")))
    assert sorted(said["1"]) == [("F3", "sharp"), ("F4", "natural"), ("F4", "sharp")]
    assert said["2"] == [("F4", "sharp")]
    sharp = next(n for n in bars[0].findall("note[accidental]") if n.findtext("pitch/octave") == "4")
    assert sharp.findtext("accidental") == "sharp"


def test_two_voices_of_a_staff_have_their_stems_apart() -> None:
    """The named voices stand the wrong way round; stems go by pitch, and only where both sound."""
    notes = [(0, 1, 60, 0, 1), (0, 1, 72, 0, 1), (1, 1, 74, 2, 1), (2, 2, 76, 4, 1)]
    score = replace(a_score(notes, bars=1), voice=[1, 2, 2, 2])
    sounding = [n for n in bars_of(score)[0].iter("note") if n.find("pitch") is not None]
    found = sorted((n.findtext("pitch/octave"), n.findtext("pitch/step"), n.findtext("stem")) for n in sounding)
    assert found == [("4", "C", "down"), ("5", "C", "up"), ("5", "D", None), ("5", "E", None)]


def test_every_voice_fills_its_bar() -> None:
    """A voice that ends early would leave a following change of clef in the middle of the bar."""
    low = [(4 + k / 2, 0.5, 40 + k, 4, 1) for k in range(8)]
    bars = bars_of(a_score([(0, 4, 72, 0, 1), (0, 1, 64, 4, 1), (0, 4, 48, 0, 2), *low]))
    hidden = [n for n in bars[0].findall("note") if n.get("print-object") == "no"]
    assert [n.findtext("type") for n in hidden] == ["quarter", "half"]
    assert {n.findtext("voice") for n in hidden} == {"2"}
    assert bars[1].find("attributes/clef[@number='1']") is not None


def test_rests_of_a_tuplet_are_seen_in_every_voice() -> None:
    notes = [(0, 2, 72, 0, 1), (0, 1 / 3, 60, 0, 1), (2 / 3, 1 / 3, 62, 2, 1), (2, 2, 72, 0, 1), (0, 4, 48, 0, 2)]
    seen = [n for n in bars_of(a_score(notes, bars=1))[0].findall("note") if n.find("rest") is not None]
    assert [(n.findtext("voice"), n.findtext("type"), n.get("print-object")) for n in seen] == [
        ("2", "eighth", None), ("2", "quarter", "no"), ("2", "half", "no"),
    ]  # fmt: skip


def test_a_slur_is_one_though_its_chord_is_split_over_voices() -> None:
    score = a_score([(0, 1, 72, 0, 1), (0, 2, 64, 4, 1), (1, 1, 74, 2, 1), (2, 1, 76, 4, 1), (3, 1, 77, -1, 1)], bars=1)
    table = np.zeros((5, len(MARK_NAMES)), np.int16)
    table[:, MARK_NAMES.index("slur")] = [1, 1, 1, 2, 0]
    root = ET.fromstring(write_musicxml(replace(score, marks=Marks(table))))
    assert [(s.get("type"), s.get("number")) for s in root.findall(".//slur")] == [("start", "1"), ("stop", "1")]


def test_grace_notes_alone_are_slashed_and_together_are_beamed() -> None:
    notes = [
        (0, 0, 71, 5, 1, True),
        (0, 1, 72, 0, 1),
        (1, 0, 74, 2, 1, True),
        (1, 0, 76, 4, 1, True),
        (1, 1, 77, -1, 1),
    ]
    graces = [n for b in bars_of(a_score(notes)) for n in b.findall("note") if n.find("grace") is not None]
    assert [n.find("grace").get("slash") for n in graces] == ["yes", None, None]  # type: ignore[union-attr]
    assert [n.findtext("type") for n in graces] == ["eighth", "16th", "16th"]
    assert [[b.text for b in n.findall("beam")] for n in graces] == [[], ["begin"] * 2, ["end"] * 2]


def test_a_tempo_stands_above_the_bar_where_it_begins() -> None:
    score = a_score([(k, 1, 60 + k, 0, 1) for k in range(8)])
    table = np.zeros((8, len(MARK_NAMES)), np.int16)
    table[:, MARK_NAMES.index("tempo_bpm")] = [90] * 5 + [60] * 3
    first, second = bars_of(replace(score, marks=Marks(table)))
    assert first.findtext("direction/direction-type/metronome/per-minute") == "90"
    assert second.findtext("direction/direction-type/metronome/per-minute") == "60"
    assert second.find("direction/sound").get("tempo") == "60"  # type: ignore[union-attr]
