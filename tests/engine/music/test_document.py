"""Saving a score into the MusicXML that it was read from: what was not edited is as it was, to the byte or element."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lxml import etree

from engine.files import open_score_file
from engine.music.document.patch import CannotPatch, compare, document_of, patched, saved
from engine.music.io.read_musicxml import read_musicxml
from engine.music.types import MARK_NAMES, Marks, Measures, Score
from engine.untrusted.saving import save_musicxml
from engine.untrusted.scores import unpack_mxl

DATA = Path(__file__).parents[2] / "data"
FILES = sorted([DATA / "bach_fugue_846.mxl", *DATA.glob("*.musicxml"), *(DATA / "reading").glob("*.musicxml")])
NOTES = ("onset_quarter", "duration_quarter", "pitch", "spelling", "staff", "voice", "grace")
SONG = b"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">
<score-partwise version="4.0">
  <movement-title>Song</movement-title>
  <part-list><score-part id="P1"><part-name>Piano</part-name></score-part></part-list>
  <part id="P1">
    <measure number="1" width="240">
      <attributes><divisions>2</divisions><key><fifths>1</fifths></key>
        <time><beats>4</beats><beat-type>4</beat-type></time></attributes>
      <direction placement="above"><direction-type><words>innig</words></direction-type></direction>
      <note default-x="20"><pitch><step>G</step><octave>4</octave></pitch><duration>4</duration><voice>1</voice>
        <type>half</type><stem>up</stem><notations><slur type="start" number="1"/>
        <technical><fingering>3</fingering></technical></notations>
        <lyric number="1"><text>La</text></lyric></note>
      <note><pitch><step>B</step><octave>4</octave></pitch><duration>2</duration><voice>1</voice>
        <type>quarter</type><notations><slur type="stop" number="1"/></notations></note>
      <note><rest/><duration>2</duration><voice>1</voice><type>quarter</type></note>
    </measure>
    <measure number="2">
      <note><pitch><step>F</step><alter>1</alter><octave>4</octave></pitch><duration>4</duration><voice>1</voice>
        <type>half</type><lyric number="1"><text>le</text></lyric></note>
      <note><chord/><pitch><step>A</step><octave>4</octave></pitch><duration>4</duration><voice>1</voice><type>half</type></note>
      <note><pitch><step>G</step><octave>4</octave></pitch><duration>4</duration><voice>1</voice><type>half</type></note>
      <barline location="right"><bar-style>light-heavy</bar-style></barline>
    </measure>
  </part>
</score-partwise>
"""


def text_of(path: Path) -> bytes:
    data = path.read_bytes()
    return unpack_mxl(data) if data[:2] == b"PK" else data


def bars(document: bytes) -> list[bytes]:
    """Every bar of every part, canonically; then everything outside the bars."""
    root = etree.fromstring(document)
    found = []
    for part in root.findall("part"):
        for measure in part.findall("measure"):
            measure.tail = None
            found.append(etree.tostring(measure, method="c14n"))
            part.remove(measure)
    return [*found, etree.tostring(root, method="c14n")]


def changed(a: bytes, b: bytes) -> list[int]:
    one, two = bars(a), bars(b)
    assert len(one) == len(two)
    return [k for k, (x, y) in enumerate(zip(one, two, strict=True)) if x != y]


def taken(score: Score, rows: np.ndarray) -> Score:
    return replace(score, **{k: getattr(score, k)[rows] for k in NOTES}, marks=Marks(score.marks.table[rows]))


def with_notes(score: Score, notes: list[tuple]) -> Score:
    """The score with new (onset, duration, pitch, spelling, staff)."""
    n = len(notes)
    new = dict(zip(NOTES[:5], zip(*notes, strict=True), strict=True)) | {"voice": [0] * n, "grace": [False] * n}
    joined = {k: np.concatenate([getattr(score, k), np.array(v)]) for k, v in new.items()}
    table = np.concatenate([score.marks.table, np.zeros((n, len(MARK_NAMES)), np.int16)])
    order = np.lexsort((joined["pitch"], joined["onset_quarter"]))
    return replace(score, **{k: v[order] for k, v in joined.items()}, marks=Marks(table[order]))


def moved(score: Score, row: int, semitones: int, fifths: int) -> Score:
    pitch, spelling = np.array(score.pitch), np.array(score.spelling)
    pitch[row] += semitones
    spelling[row] += fifths
    return replace(score, pitch=pitch, spelling=spelling)


def same_notes(document: bytes, score: Score) -> bool:
    return not compare(read_musicxml(document), score, marks=False)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_opened_and_saved_is_the_same_file(path: Path) -> None:
    document = text_of(path)
    assert patched(document, read_musicxml(document)) == document


@pytest.mark.parametrize("path", [DATA / "bach_prelude_868.musicxml", DATA / "reading" / "r4-three-endings.musicxml"])
def test_one_note_edited_changes_its_bar_only(path: Path) -> None:
    document = text_of(path)
    score = read_musicxml(document)
    row = int(np.flatnonzero(~score.grace)[len(score) // 3])
    for new in (moved(score, row, 1, 7), taken(score, np.arange(len(score)) != row)):
        made = patched(document, new)
        assert same_notes(made, new)
        if len(bars(made)) == len(bars(document)):  # else the repeats are written out
            assert len(changed(document, made)) == 1


def test_a_pitch_changes_and_its_lyric_fingering_slur_and_stem_stay() -> None:
    score = read_musicxml(SONG)
    made = patched(SONG, moved(score, 0, 1, 7))  # G4 to G#4
    assert changed(SONG, made) == [0]
    note = etree.fromstring(made).find("part/measure/note")
    assert note.findtext("pitch/alter") == "1"
    assert note.findtext("accidental") == "sharp"
    assert note.findtext("lyric/text") == "La"
    assert note.findtext("notations/technical/fingering") == "3"
    assert note.findtext("stem") == "up"
    assert note.get("default-x") == "20"
    assert b"<!DOCTYPE" in made


def test_a_note_taken_out_of_a_chord_leaves_its_lyric() -> None:
    score = read_musicxml(SONG)
    row = int(np.flatnonzero(score.pitch == 66)[0])
    new = taken(score, np.arange(len(score)) != row)
    made = patched(SONG, new)
    assert changed(SONG, made) == [1]
    note = etree.fromstring(made).find("part/measure[2]/note")
    assert note.findtext("pitch/step") == "A"
    assert note.find("chord") is None
    assert note.findtext("lyric/text") == "le"


def test_new_notes_go_into_chords_rests_and_a_voice_of_their_own() -> None:
    score = read_musicxml(SONG)
    new = with_notes(score, [(0, 2, 62, 2, 1), (3, 0.5, 65, -1, 1), (1, 1 / 3, 72, 0, 1), (4 / 3, 5, 77, -1, 1)])
    made = patched(SONG, new)
    assert same_notes(made, new)
    assert changed(SONG, made) == [0, 1]
    root = etree.fromstring(made)
    first = root.findall("part/measure[1]/note")
    assert [n.find("chord") is not None for n in first[:2]] == [False, True]
    assert root.findall("part/measure[1]/attributes/divisions")[0].text == "6"  # thirds of a quarter
    assert root.findall("part/measure[1]/attributes/divisions")[-1].text == "2"  # as the next bars count
    assert [n.findtext("accidental") for n in first if n.findtext("pitch/step") == "F"] == ["natural", "natural"]
    sharp = next(n for n in root.findall("part/measure[2]/note") if n.findtext("pitch/alter") == "1")
    assert sharp.find("accidental") is None  # F#4 is in the key, the new natural is an octave above


def test_a_note_in_an_empty_bar_of_one_part_leaves_the_other_parts() -> None:
    head = SONG[SONG.index(b"<attributes>") : SONG.index(b"</attributes>") + len(b"</attributes>")]
    duration = b"<duration>8</duration><voice>1</voice>"
    low = b"<note><pitch><step>G</step><octave>3</octave></pitch>" + duration + b"</note>"
    chord = b"<note><chord/><pitch><step>D</step><octave>4</octave></pitch>" + duration + b"</note>"
    rest = b"<note><rest/>" + duration + b"</note>"
    names, parts = b"", b""
    for name, first, second in ((b"P1", low, low), (b"P2", rest, low), (b"P3", low + chord, rest)):
        names += b'<score-part id="%s"><part-name>Violin</part-name></score-part>' % name
        parts += b'<part id="%s"><measure number="1">%s%s</measure>' % (name, head, first)
        parts += b'<measure number="2">%s</measure></part>' % second
    duo = b"<score-partwise><part-list>%s</part-list>%s</score-partwise>" % (names, parts)
    score = read_musicxml(duo)
    assert sorted(score.staff.tolist()) == [1, 1, 2, 2, 2]  # the last two are one hand, most of it in the third
    new = with_notes(score, [(4, 1, 40, 4, 2)])
    made = patched(duo, new)
    assert same_notes(made, new)
    assert changed(duo, made) == [5]


def test_bars_are_added_at_the_end() -> None:
    score = read_musicxml(SONG)
    m = score.measures
    longer = Measures(
        np.append(m.onset_quarter, 8), np.append(m.duration_quarter, 4), np.append(m.position_quarter, 0),
        np.append(m.ts_num, 4), np.append(m.ts_den, 4), np.append(m.fifths, 1), np.append(m.number, 3),
    )  # fmt: skip
    new = with_notes(replace(score, measures=longer), [(8 + k / 2, 0.5, 67 + 2 * k, 1 + 2 * k, 1) for k in range(3)])
    made = patched(SONG, new)
    assert same_notes(made, new)
    one, two = bars(SONG), bars(made)
    assert len(two) == len(one) + 1
    assert two[0] == one[0]
    root = etree.fromstring(made)
    assert root.find("part/measure[3]/barline/bar-style").text == "light-heavy"
    assert [b.text for b in root.findall("part/measure[3]/note/beam")][:2] == ["begin", "end"]


def test_a_rewritten_staff_leaves_the_other_staff_unchanged() -> None:
    document = text_of(DATA / "bach_fugue_846.mxl")
    score = read_musicxml(document)
    m = score.measures
    begin, end = m.onset_quarter[4], m.onset_quarter[6]
    last = score.onset_quarter + score.duration_quarter
    gone = (score.staff == 1) & (score.onset_quarter >= begin) & (score.onset_quarter < end) & (last <= end)
    scale = [(begin + k / 4, 0.25, 72 + k % 5, 0, 1) for k in range(32)]
    new = with_notes(taken(score, ~gone), scale)
    made = patched(document, new)
    assert same_notes(made, new)
    assert set(changed(document, made)) <= {3, 4, 5, 6}
    assert {4, 5} <= set(changed(document, made))


def test_a_repeat_is_written_out_when_one_playing_changes() -> None:
    twice = SONG.replace(
        b'<barline location="right"><bar-style>light-heavy</bar-style>',
        b'<barline location="right"><bar-style>light-heavy</bar-style><repeat direction="backward"/>',
    )
    score = read_musicxml(twice)
    assert len(score) == 10
    rows = np.flatnonzero(score.pitch == 71)
    both = moved(moved(score, rows[0], -1, 5), rows[1], -1, 5)
    assert changed(twice, patched(twice, both)) == [0]
    one = moved(score, rows[0], -1, 5)
    made = patched(twice, one)
    assert same_notes(made, one)
    root = etree.fromstring(made)
    assert len(root.findall("part/measure")) == 4
    assert [t.text for t in root.iter("text")] == ["La", "le", "La", "le"]
    assert root.find("part/measure[3]/attributes/divisions").text == "2"
    assert root.find("part/measure/barline/repeat") is None


def test_other_changes_rewrite_the_document() -> None:
    score = replace(read_musicxml(SONG), document=zlib.compress(SONG))
    table = np.array(score.marks.table)
    table[0, MARK_NAMES.index("staccato")] = 1
    made = saved(replace(score, marks=Marks(table)))
    assert b"<staccato" in made
    assert same_notes(made, score)


def test_a_title_is_written_into_the_file() -> None:
    made = patched(SONG, replace(read_musicxml(SONG), title="Lied"))
    assert made.count(b"<movement-title>Lied</movement-title>") == 1
    assert changed(SONG, made) == [2]


def test_a_file_is_patched_in_a_process_of_its_own() -> None:
    path = DATA / "bach_prelude_868.musicxml"
    score = open_score_file(path)
    assert save_musicxml(score) == path.read_bytes()
    new = moved(score, 5, 12, 0)
    assert changed(path.read_bytes(), save_musicxml(new)) == [0]
    assert open_score_file(DATA / "chopin_prelude_28_4.krn").document == b""


def test_a_damaged_or_huge_document_is_refused() -> None:
    score = read_musicxml(SONG)
    for document in (b"nothing", zlib.compress(bytes(30_000_000))):
        with pytest.raises(CannotPatch):
            document_of(replace(score, document=document))
        assert same_notes(saved(replace(score, document=document)), score)
