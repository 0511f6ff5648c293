"""Readers on small hand-counted files of every format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.music.io.read_musicxml import read_mei, read_musicxml
from engine.music.types import EVENT_NAMES, TREMOLO
from engine.untrusted.scores import open_performance, open_score

CASES = Path(__file__).parents[2] / "data" / "reading"


def read(name: str):
    return open_score((CASES / name).read_bytes(), name)


# Hand-counted onset, duration, pitch of each note in order
NOTES = json.loads((CASES / "notes.json").read_text())


@pytest.mark.parametrize("name", NOTES)
def test_notes(name):
    score = read(name)
    found = zip(score.onset_quarter, score.duration_quarter, score.pitch, strict=True)
    assert [[round(float(o), 3), round(float(d), 3), int(p)] for o, d, p in found] == NOTES[name]


@pytest.mark.parametrize(
    ("name", "mark", "values"),
    [
        ("me19-tempo-dynam.mei", "tempo_bpm", [72, 72]),
        ("me19-tempo-dynam.mei", "written_velocity", [33, 112]),
        ("d10-offset-dynamics.musicxml", "written_velocity", [33, 112]),
        ("d9-odd-dynamics.musicxml", "written_velocity", [80, 49, 10, 96, 33, 96]),
        ("d5-metric-modulation.musicxml", "tempo_bpm", [60, 90]),
        ("d6-words-quarter-equals.musicxml", "tempo_bpm", [132]),
    ],
)
def test_marks(name, mark, values):
    np.testing.assert_array_equal(read(name).marks[mark], values)


def test_the_signs_between_the_notes_of_mei_are_kept():
    events = read("me19-tempo-dynam.mei").events
    assert events.at("dynamic").tolist() == [0.0, 2.0]
    assert events.at("metronome").tolist() == [0.0]


def test_the_signs_between_the_notes_of_kern_are_kept():
    lines = (
        "!!!OMD: Andante ([quarter]=66)", "**kern | **kern | **dynam", "*staff2 | *staff1 | *", "*k[] | *k[] | *",
        "=1 | =1 | =1", "*ped | * | *", "2C | 2e | p", "2C | 2g; | .", "*Xped | * | *", "=2|| | =2|| | =2||",
        "*k[b-] | *k[b-] | *", "1C | 1e | .", "=:|! | =:|! | =:|!", "*MM90 | *MM90 | *", "1F | 1f | f",
        "== | == | ==", "*- | *- | *-",
    )  # fmt: skip
    score = open_score("\n".join(lines).replace(" | ", "\t").encode(), "a.krn")
    events = {name: score.events.at(name).round().tolist() for name in EVENT_NAMES if len(score.events.at(name))}
    assert events == {  # bars 1 and 2 are repeated
        "metronome": [0, 8, 16], "dynamic": [0, 8, 16], "fermata": [2, 10], "pedal_down": [0, 8],
        "pedal_up": [4, 12], "double": [4, 12], "key": [4, 12], "repeat": [8, 16, 20],
    }  # fmt: skip
    assert score.marks["tempo_bpm"].tolist() == [66] * 12 + [90] * 2


def test_a_printed_tempo_in_words_is_a_metronome_mark():
    assert read("d6-words-quarter-equals.musicxml").events.at("metronome").tolist() == [0.0]


def test_a_tremolo_keeps_its_beams():
    assert read("me3-btrem.mei").marks["ornament"].tolist() == [TREMOLO + 2, 0]


def test_hands_metres_and_keys():
    np.testing.assert_array_equal(read("v1-voice-and-piano.musicxml").staff, [2, 1])
    everything = read_musicxml((CASES / "v1-voice-and-piano.musicxml").read_bytes(), all_parts=True)
    np.testing.assert_array_equal(everything.pitch, [48, 64, 79])
    np.testing.assert_array_equal(everything.staff, [2, 1, 1])
    assert [(r.bar, r.text) for r in everything.remarks] == [
        (1, "this part is played with the upper staff of the keyboard part")
    ]
    by_choice = open_score((CASES / "v1-voice-and-piano.musicxml").read_bytes(), "a.musicxml", all_parts=True)
    np.testing.assert_array_equal(by_choice.pitch, [48, 64, 79])
    m = read("m3-additive-3+2-8.musicxml").measures
    assert (m.ts_num.tolist(), m.ts_den.tolist(), m.onset_quarter.tolist()) == ([5, 5], [8, 8], [0, 2.5])
    assert read("k1-mode-dorian.musicxml").measures.fifths.tolist() == [0]


@pytest.mark.parametrize(
    ("name", "bar", "element"),
    [("c1-cue-notes.musicxml", 1, "<cue>"), ("v1-voice-and-piano.musicxml", 1, "part “Voice”")],
)
def test_omissions_are_reported(name, bar, element):
    assert [(r.bar, r.element) for r in read(name).remarks] == [(bar, element)]


@pytest.mark.parametrize("name", sorted(k for k in NOTES if not k.startswith(("c1", "v1", "me25"))))
def test_what_is_read_whole_has_no_remark(name):
    assert read(name).remarks == ()


def test_a_midi_note_without_an_end_is_held_and_reported():
    score = read("mi17-unterminated-note.mid")
    rows = zip(score.onset_quarter.tolist(), score.duration_quarter.tolist(), score.pitch.tolist(), strict=True)
    assert list(rows) == [(0, 2, 60), (1, 1, 64)]
    assert [(r.bar, r.element, r.text) for r in score.remarks] == [
        (1, "note 60", "1 note without end is held until its track ends")
    ]


def midi(*messages: tuple[int, ...]) -> bytes:
    """A MIDI file of 480 ticks a quarter; a message is (tick, status, data, data)."""
    body, now = b"", 0
    for tick, *rest in messages:
        body += _variable(tick - now) + bytes(rest)
        now = tick
    track = body + b"\x00\xff\x2f\x00"
    return b"MThd\0\0\0\6\0\0\0\1\x01\xe0" + b"MTrk" + len(track).to_bytes(4, "big") + track


def _variable(number: int) -> bytes:
    out = [number & 127]
    while number := number >> 7:
        out.insert(0, number & 127 | 128)
    return bytes(out)


@pytest.mark.parametrize("ended", [True, False])
def test_all_notes_off_ends_the_notes(ended):
    """Controller 123 at beat 1; the note-off at beat 4 comes too late, or never."""
    off = [(1920, 0x80, 60, 0)] if ended else []
    messages = [(0, 0x90, 60, 64), (0, 0x90, 64, 64), (240, 0x80, 64, 0), (480, 0xB0, 123, 0)]
    data = midi(*messages, (960, 0x90, 67, 64), (1440, 0x80, 67, 0), *off)
    played = open_performance(data, "a.mid")
    rows = sorted(zip(played.pitch.tolist(), played.onset_sec.tolist(), played.duration_sec.tolist(), strict=True))
    assert rows == [(60, 0, 0.5), (64, 0, 0.25), (67, 1, 0.5)]


def test_reset_all_controllers_lifts_the_pedal():
    data = midi((0, 0xB0, 64, 127), (0, 0x90, 60, 64), (480, 0xB0, 121, 0), (960, 0x80, 60, 0))
    played = open_performance(data, "a.mid")
    assert (played.pedal_sec.tolist(), played.pedal_value.tolist()) == ([0, 0.5], [127, 0])


def document(*bars: str) -> bytes:
    body = "".join(f'<measure number="{k}">{bar}</measure>' for k, bar in enumerate(bars, 1))
    parts = '<part-list><score-part id="P1"><part-name>Piano</part-name></score-part></part-list>'
    return f'<score-partwise version="4.0">{parts}<part id="P1">{body}</part></score-partwise>'.encode()


def whole(pitch: str, tie: str = "", grace: bool = False) -> str:
    length = "<grace/>" if grace else ""
    name = f"<pitch><step>{pitch[0]}</step><octave>{pitch[1]}</octave></pitch>"
    return f"<note>{length}{name}{'' if grace else '<duration>4</duration>'}{tie}<voice>1</voice></note>"


HEAD = "<attributes><divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
START, STOP = '<tie type="start"/>', '<tie type="stop"/>'


def ending(number: str, content: str, back: bool) -> str:
    repeat = '<repeat direction="backward"/>' if back else ""
    return (
        f'<barline location="left"><ending number="{number}" type="start"/></barline>{content}'
        f'<barline location="right"><ending number="{number}" type="stop"/>{repeat}</barline>'
    )


BACK = '<barline location="right"><repeat direction="backward"/></barline>'


def words(text: str) -> str:
    return f"<direction><direction-type><words>{text}</words></direction-type></direction>"


def test_a_tie_goes_into_each_ending():
    score = read_musicxml(
        document(
            HEAD + whole("C4", START),
            ending("1", whole("C4", STOP), True),
            ending("2", whole("C4", STOP), False),
        )
    )
    assert score.onset_quarter.tolist() == [0, 8]
    assert score.duration_quarter.tolist() == [8, 8]


@pytest.mark.parametrize(
    ("bars", "played"),
    [
        (["C4", "D4<back times='4'>"], "CDCDCDCD"),
        (["C4", "1,2:D4<back>", "3:E4"], "CDCDCE"),
        (["C4", "1:D4<back>", "E4"], "CDCE"),  # the second ending has no bracket
        (["C4", "D4<back>", "2:E4", "F4"], "CDCDEF"),  # the first ending has no bracket
        (["C4", "1,2:D4", "3:E4", "1:F4<back>", "2:G4"], "CDFCDG"),  # endings of verses, then of a repeat
        (["<forward>C4", "D4<back>", "<forward>E4<back>", "F4"], "CDCDEEF"),
        (["C4", "<segno>D4", "E4<tocoda>", "F4<dalsegno>", "<coda>G4"], "CDEFDEG"),
        (["C4<back>", "D4<dacapo>", "E4"], "CCDCDE"),  # no repeat after the jump, and the jump is made once
    ],
)
def test_repeats_and_jumps(bars, played):
    built = []
    for k, bar in enumerate(bars):
        number, _, text = bar.rpartition(":")
        back = "<back" in text
        times = " times='4'" if "times" in text else ""
        note = whole(next(c for c in text.replace("<back", "").split(">") if c[:2] and c[0] in "CDEFG")[:2])
        sounds = "".join(
            f"<direction><sound {name}='yes'/></direction>"
            for name in ("segno", "tocoda", "dalsegno", "coda", "dacapo")
            if f"<{name}>" in text
        )
        forward = '<barline location="left"><repeat direction="forward"/></barline>' if "<forward>" in text else ""
        close = f'<barline location="right"><repeat direction="backward"{times}/></barline>' if back else ""
        content = ending(number, note, back) if number else note + sounds + close
        built.append((HEAD if k == 0 else "") + forward + content)
    score = read_musicxml(document(*built))
    assert "".join("CDEFG"[[60, 62, 64, 65, 67].index(p)] for p in score.pitch) == played


def test_a_transposing_part_sounds_where_it_sounds():
    transpose = "<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose></attributes>"
    key = "<attributes><divisions>1</divisions><key><fifths>2</fifths></key>" + transpose
    score = read_musicxml(document(key + whole("D4")))
    assert (score.pitch.tolist(), score.spelling.tolist(), score.measures.fifths.tolist()) == ([60], [0], [0])


def rest(duration: int) -> str:
    return f"<note><rest/><duration>{duration}</duration><voice>1</voice></note>"


@pytest.mark.parametrize(
    ("first", "second", "starts", "remarks"),
    [
        ([whole("C4"), whole("D4")], [rest(8), whole("E3")], [0, 4], 1),  # a silent bar with the rest of another metre
        ([whole("C4"), whole("D4")], [whole("E3") + rest(2), whole("E3")], [0, 4], 1),
        ([whole("C4") + whole("C4"), whole("D4")], [rest(4), whole("E3")], [0, 8], 1),  # notes past the metre: played
        ([whole("C4") + rest(2), whole("D4")], [whole("E3") + rest(2), whole("E3")], [0, 6], 0),  # both say so
    ],
)
def test_a_rest_past_the_metre_does_not_lengthen_a_bar(first, second, starts, remarks):
    parts = [document(HEAD + bars[0], bars[1]).decode() for bars in (first, second)]
    body = parts[1][parts[1].index("<part ") : parts[1].index("</score-partwise>")].replace('"P1"', '"P2"')
    score = read_musicxml(parts[0].replace("</score-partwise>", body + "</score-partwise>").encode())
    assert score.measures.onset_quarter.tolist() == starts
    assert [r.element for r in score.remarks] == ["measure"] * remarks


def test_a_voice_over_a_piano_in_kern_is_left_out():
    lines = (
        "**kern | **kern | **kern", "*part2 | *part2 | *part1", '*I"Piano | *I"Piano | *I"Voice',
        "*staff3 | *staff2 | *staff1", "=1 | =1 | =1", "1C | 1e | 1gg", "== | == | ==", "*- | *- | *-",
    )  # fmt: skip
    score = open_score("\n".join(lines).replace(" | ", "\t").encode(), "a.krn")
    assert (score.pitch.tolist(), score.staff.tolist()) == ([48, 64], [2, 1])
    assert [(r.bar, r.element) for r in score.remarks] == [(1, "part “Voice”")]


def test_a_repeat_without_a_beginning_is_guessed_and_reported():
    score = read_musicxml(document(HEAD + whole("C4") + BACK, whole("D4"), whole("E4") + BACK))
    assert score.pitch.tolist() == [60, 60, 62, 64, 62, 64]
    assert [(r.bar, r.element) for r in score.remarks] == [(3, "repeat")]


@pytest.mark.parametrize(
    ("bars", "found"),
    [
        ([whole("C4"), ending("1", whole("D4"), True), whole("E4")], [(2, "ending")]),
        ([whole("C4") + BACK, ending("2", whole("E4"), False)], [(2, "ending")]),
        ([whole("C4"), ending("1", whole("D4"), True), ending("2", whole("E4"), False)], []),
        ([whole("C4"), ending("1, 2", whole("D4"), True), ending("3", whole("E4"), False)], []),
        ([whole("C4"), words("Men. D.C.") + whole("D4")], [(2, "words")]),
        ([whole("C4"), words("D.C. al Fine") + whole("D4")], []),
        ([whole("C4"), words("Da capo il minore, e dopo ancora una volta il trio") + whole("D4")], [(2, "words")]),
    ],
)
def test_endings_and_jumps_that_are_guessed_are_said(bars, found):
    score = read_musicxml(document(HEAD + bars[0], *bars[1:]))
    assert [(r.bar, r.element) for r in score.remarks] == found


def test_an_accidental_that_contradicts_its_pitch_is_reported():
    note = whole("A4").replace("<voice>", "<accidental>sharp</accidental><voice>")
    score = read_musicxml(document(HEAD + note))
    assert score.pitch.tolist() == [69]
    assert [(r.bar, r.element) for r in score.remarks] == [(1, "<accidental>")]


@pytest.mark.parametrize(
    ("printed", "bpm"),
    [
        ("<beat-unit>quarter</beat-unit><per-minute>92</per-minute>", 92),
        ("<beat-unit>half</beat-unit><per-minute>c. 60</per-minute>", 120),
        ("<beat-unit>quarter</beat-unit><per-minute></per-minute>", 112),
        ("<beat-unit>quarter</beat-unit><beat-unit>half</beat-unit>", 112),
    ],
)
def test_a_printed_tempo_goes_before_the_one_that_a_program_left(printed, bpm):
    mark = f"<direction-type><metronome>{printed}</metronome></direction-type>"
    score = read_musicxml(document(HEAD + f'<direction>{mark}<sound tempo="112"/></direction>' + whole("C4")))
    assert score.marks["tempo_bpm"].tolist() == [bpm]


def test_quarter_tones_are_rounded_and_reported():
    flat = "<note><pitch><step>D</step><alter>-1.5</alter><octave>4</octave></pitch><duration>4</duration></note>"
    score = read_musicxml(document(HEAD + flat))
    assert score.pitch.tolist() == [60]
    assert [(r.bar, r.element) for r in score.remarks] == [(1, "<alter>")]


@pytest.mark.parametrize("divisions", ["nan", "inf", "-1", "0", "1e-320", ""])
def test_divisions_that_are_no_number_above_zero_change_nothing(divisions):
    sign = "<direction><direction-type><dynamics><p/></dynamics></direction-type></direction>"
    odd = f"<attributes><divisions>{divisions}</divisions></attributes>"
    backup = "<backup><duration>9</duration></backup>"
    score = read_musicxml(document(HEAD + odd + sign + whole("C4") + backup + sign))
    assert (score.onset_quarter.tolist(), score.duration_quarter.tolist()) == ([0], [4])
    assert score.events.quarter.tolist() == [0, 0]  # a backup leads to the bar's beginning at the most


def test_dots_and_tuplets_of_mei_that_stand_apart():
    """<dot> below its note; <tupletSpan> beside the staff, as music21's own test file has them."""
    layer = '<note dur="4" pname="c" oct="4"><dot/></note><note dur="8" pname="d" oct="4"/>' + "".join(
        f'<note xml:id="n{k}" dur="4" pname="e" oct="4"/>' for k in range(3)
    )
    span = '<tupletSpan startid="#n0" endid="#n2" num="3" numbase="2"/>'
    bar = f'<measure n="1"><staff n="1"><layer n="1">{layer}</layer></staff>{span}</measure>'
    score = read_mei(
        f"<mei><music><body><mdiv><score><section>{bar}</section></score></mdiv></body></music></mei>".encode()
    )
    assert score.onset_quarter.round(3).tolist() == [0, 1.5, 2, 2.667, 3.333]
    assert score.measures.duration_quarter.tolist() == [4]
    assert score.remarks == ()


@pytest.mark.parametrize(("num", "silent"), [("3", 3), ("", 1), ("-2", 1), ("nan", 1)])
def test_a_multi_rest_of_mei_lasts_its_bars(num, silent):
    bars = [f'<multiRest num="{num}"/>', '<note dur="1" pname="c" oct="4"/>']
    layers = [f'<measure n="{n}"><staff n="1"><layer n="1">{b}</layer></staff></measure>' for n, b in zip("14", bars)]
    score = read_mei(
        f"<mei><music><body><mdiv><score><scoreDef meter.count='3' meter.unit='4'/><section>{''.join(layers)}"
        "</section></score></mdiv></body></music></mei>".encode()
    )
    assert score.onset_quarter.tolist() == [3 * silent]
    assert score.measures.number.tolist() == [*range(1, silent + 1), 4]


@pytest.mark.parametrize(("dots", "length"), [("1", 1.5), ("-3", 1.0), ("999999999", 1.9375), ("nan", 1.0)])
def test_dots_of_mei_are_bounded(dots, length):
    layer = f'<staff n="1"><layer n="1"><note dur="4" dots="{dots}" pname="c" oct="4"/></layer></staff>'
    tempo = f'<tempo tstamp="1" mm="60" mm.unit="4" mm.dots="{dots}">Lento</tempo>'
    section = f"<section><measure n='1'>{layer}{tempo}</measure></section>"
    score = read_mei(f"<mei><music><body><mdiv><score>{section}</score></mdiv></body></music></mei>".encode())
    assert score.duration_quarter.tolist() == [length]
    assert score.marks["tempo_bpm"].tolist() == [round(60 * length)]
