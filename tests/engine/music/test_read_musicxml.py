"""Reading notation: every kind of mark by hand, pickups, unisons, and the order in which repeats are played."""

from __future__ import annotations

import numpy as np
import pytest

from engine.music.io.read_musicxml import read_musicxml
from engine.music.io.score_marks import TEMPO_WORDS
from engine.music.types import BadInput, Score

TIME = "<time><beats>4</beats><beat-type>4</beat-type></time>"
ATTRIBUTES = f"<attributes><divisions>4</divisions><key><fifths>-1</fifths></key>{TIME}<staves>2</staves></attributes>"
_LENGTHS = {4: "quarter", 8: "half", 16: "whole"}


def score_of(*measures: str) -> Score:
    """Read a one-part MusicXML score; measure k of the arguments is number k."""
    bars = "".join(f'<measure number="{k}">{content}</measure>' for k, content in enumerate(measures, 1))
    parts = '<part-list><score-part id="P1"><part-name>Piano</part-name></score-part></part-list>'
    document = f'<score-partwise version="3.1">{parts}<part id="P1">{bars}</part></score-partwise>'
    return read_musicxml(document.encode())


def note(pitch: str, length: int = 4, notations: str = "", voice: int = 1, staff: int = 1, chord: bool = False) -> str:
    """A note such as "F5", `length` sixteenths long."""
    alter = "<alter>-1</alter>" if pitch[1] == "b" else ""
    return (
        f"<note>{'<chord/>' if chord else ''}<pitch><step>{pitch[0]}</step>{alter}<octave>{pitch[-1]}</octave></pitch>"
        f"<duration>{length}</duration><voice>{voice}</voice><type>{_LENGTHS[length]}</type><staff>{staff}</staff>"
        f"<notations>{notations}</notations></note>"
    )


def says(what: str) -> str:
    return f"<direction><direction-type>{what}</direction-type><staff>1</staff></direction>"


def back(length: int = 16) -> str:
    return f"<backup><duration>{length}</duration></backup>"


STACCATO, ACCENT = (f"<articulations><{k}/></articulations>" for k in ("staccato", "accent"))
SLUR, SLUR_END = ('<slur type="start" number="1"/>', '<slur type="stop" number="1"/>')
MARKED = (
    ATTRIBUTES
    + says("<words>Allegro</words>")
    + says("<metronome><beat-unit>half</beat-unit><per-minute>60</per-minute></metronome>")
    + says("<dynamics><p/></dynamics>")
    + note("C5", 4, STACCATO),
    says('<wedge type="crescendo" number="1"/>')
    + note("F5", 4, SLUR) + note("G5") + note("A5", 4, SLUR_END) + note("Bb5", 4, ACCENT)
    + says('<wedge type="stop" number="1"/>')
    + back() + note("F5", 8, voice=2) + "<forward><duration>8</duration></forward>"
    + back() + note("F3", 16, "<arpeggiate/>", 5, 2) + note("C4", 16, "<arpeggiate/>", 5, 2, chord=True),
    says("<dynamics><f/></dynamics>")
    + note("C6", 8, "<ornaments><trill-mark/></ornaments>")
    + says("<words>rit.</words>")
    + note("A5") + note("F5", 4, "<fermata/>"),
)  # fmt: skip


@pytest.fixture(scope="module")
def marked() -> Score:
    """A pickup and two bars: the four of the upper voice, a half note in unison with its first, a rolled chord."""
    return score_of(*MARKED)


def at(score: Score, onset: float, pitch: int, voice: int = 1) -> int:
    """Index of the one note with this onset, pitch and voice."""
    found = np.flatnonzero((score.onset_quarter == onset) & (score.pitch == pitch) & (score.voice == voice))
    assert len(found) == 1
    return int(found[0])


def test_a_pickup_is_negative(marked):
    assert len(marked) == 11
    np.testing.assert_array_equal(marked.measures.onset_quarter, [-1, 0, 4])
    np.testing.assert_array_equal(marked.measures.position_quarter, [3, 0, 0])
    assert marked.onset_quarter[0] == -1
    np.testing.assert_array_equal(marked.measures.fifths, -1)
    assert marked.spelling[at(marked, 3, 82)] == -2  # B flat, not A sharp


def test_voices_in_unison_stay_two_notes(marked):
    upper, lower = at(marked, 0, 77, voice=1), at(marked, 0, 77, voice=2)
    np.testing.assert_array_equal(marked.duration_quarter[[upper, lower]], [1, 2])
    np.testing.assert_array_equal(marked.marks["slur"][[upper, lower]], [1, 0])


def test_marks_stand_at_their_notes(marked):
    expected = {
        "staccato": [(-1, 72, 1)], "accent": [(3, 82, 1)], "fermata": [(7, 77, 1)], "ornament": [(4, 84, 1)],
        "arpeggio": [(0, 53, 5), (0, 60, 5)], "tenuto": [],
    }  # fmt: skip
    for name, notes in expected.items():
        assert set(np.flatnonzero(marked.marks[name])) == {at(marked, *n) for n in notes}, name
    slurred = [marked.marks["slur"][at(marked, onset, pitch)] for onset, pitch in ((0, 77), (1, 79), (2, 81), (3, 82))]
    assert slurred == [1, 1, 2, 0]


def test_dynamics_and_hairpin(marked):
    """p is 49 and f 96; the hairpin between them rises by a quarter of the way with each beat, in all voices."""
    written = dict(zip(marked.onset_quarter, marked.marks["written_velocity"], strict=True))
    assert written == {-1: 49, 0: 49, 1: 61, 2: 72, 3: 84, 4: 96, 6: 96, 7: 96}
    under = (marked.onset_quarter >= 0) & (marked.onset_quarter < 4)
    np.testing.assert_array_equal(marked.marks["hairpin"], under.astype(int))


def test_tempo_marks(marked):
    np.testing.assert_array_equal(marked.marks["tempo_bpm"], 120)  # 60 half notes a minute
    np.testing.assert_array_equal(marked.marks["tempo_word"], 5)
    assert TEMPO_WORDS[5].startswith("allegro")
    np.testing.assert_array_equal(marked.marks["tempo_change"], -(marked.onset_quarter >= 6).astype(int))


@pytest.mark.parametrize(
    "inside, sound, bpm",
    [
        ("<beat-unit>quarter</beat-unit><beat-unit-dot/><per-minute>c. 40</per-minute>", "", 60),
        ("<beat-unit>half</beat-unit><per-minute>60</per-minute>", '<sound tempo="100"/>', 120),  # what is printed
        ("<beat-unit>quarter</beat-unit><per-minute>fast</per-minute>", "", 0),
        ("<beat-unit>quarter</beat-unit><beat-unit>half</beat-unit>", "", 0),  # this beat is as long as that
    ],
)
def test_metronome_marks(inside, sound, bpm):
    mark = f"<direction><direction-type><metronome>{inside}</metronome></direction-type>{sound}</direction>"
    score = score_of(ATTRIBUTES + mark + note("C5", 16))
    np.testing.assert_array_equal(score.marks["tempo_bpm"], bpm)


FORWARD, BACKWARD = (
    f'<barline location="{side}"><repeat direction="{way}"/></barline>'
    for side, way in (("left", "forward"), ("right", "backward"))
)


def ending(number: int, content: str, repeat: bool) -> str:
    close = '<repeat direction="backward"/>' if repeat else ""
    kind = "stop" if repeat else "discontinue"
    return (
        f'<barline location="left"><ending number="{number}" type="start"/></barline>{content}'
        f'<barline location="right"><ending number="{number}" type="{kind}"/>{close}</barline>'
    )


def test_first_and_second_endings():
    score = score_of(
        ATTRIBUTES + note("C5", 16),
        FORWARD + note("D5", 16),
        ending(1, note("E5", 16), repeat=True),
        ending(2, note("F5", 16), repeat=False),
        note("G5", 16),
    )
    np.testing.assert_array_equal(score.pitch, [72, 74, 76, 74, 77, 79])
    np.testing.assert_array_equal(score.onset_quarter, np.arange(6) * 4.0)
    np.testing.assert_array_equal(score.measures.onset_quarter, np.arange(6) * 4.0)
    np.testing.assert_array_equal(score.measures.number, [1, 2, 3, 2, 4, 5])


def test_a_repeated_piece_with_a_pickup():
    score = score_of(
        ATTRIBUTES + note("C5"),
        FORWARD + note("D5", 16) + BACKWARD,
        FORWARD + note("E5", 16),
        note("F5", 16) + BACKWARD,
    )
    np.testing.assert_array_equal(score.pitch, [72, 74, 74, 76, 77, 76, 77])
    np.testing.assert_array_equal(score.onset_quarter, [-1, 0, 4, 8, 12, 16, 20])


def test_marks_come_along_in_repeats():
    score = score_of(ATTRIBUTES + FORWARD + note("C5", 8, ACCENT) + note("D5", 8, STACCATO) + BACKWARD, note("E5", 16))
    np.testing.assert_array_equal(score.marks["accent"], [1, 0, 1, 0, 0])
    np.testing.assert_array_equal(score.marks["staccato"], [0, 1, 0, 1, 0])


def test_a_score_of_rests_is_refused():
    rest = "<note><rest/><duration>16</duration><voice>1</voice></note>"
    with pytest.raises(BadInput, match="no notes"):
        score_of(ATTRIBUTES + rest)
