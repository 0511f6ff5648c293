"""Untrusted files: accepted and refused ones, and isolation from crashes."""

from __future__ import annotations

import io
import random
import resource
import struct
import time
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import numpy as np
import pytest

from engine.music.io.write_musicxml import write_musicxml
from engine.music.io.xml_scan import scan_xml
from engine.music.score_bytes import score_from_bytes, score_to_bytes
from engine.music.types import BadInput, Score
from engine.process import notation_reader as child_module
from engine.untrusted import scores as safe
from engine.untrusted.scores import open_performance, open_score, unpack_mxl
from tests.engine.music.test_midi import assert_sentence, mutate
from tests.engine.music.test_write_musicxml import a_score
from tests.helpers.soak_report import Reporter

DATA = Path(__file__).parents[2] / "data"
XML = (DATA / "bach_prelude_868.musicxml").read_bytes()
KERN = (DATA / "chopin_prelude_28_7.krn").read_bytes()


@pytest.fixture(autouse=True)
def _loaded() -> None:
    """The child's imports are not part of what the tests time."""
    safe.warm_up()


def wrap(body: str, head: str = "") -> bytes:
    """A one-part MusicXML file around some measures."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}<score-partwise version="3.1"><part-list><score-part id="P1">'
        f'<part-name/></score-part></part-list><part id="P1">{body}</part></score-partwise>'
    ).encode()


def bar(note: str = "<duration>4</duration>", number: int = 1, attributes: str = "") -> str:
    start = f"<attributes><divisions>1</divisions>{attributes}</attributes>" if number == 1 else ""
    pitch = "<pitch><step>C</step><octave>4</octave></pitch>"
    return f'<measure number="{number}">{start}<note>{pitch}{note}<type>whole</type></note></measure>'


def archive(*entries: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in entries:
            z.writestr(name, data)
    return out.getvalue()


def container(path: str) -> tuple[str, bytes]:
    return (
        "META-INF/container.xml",
        f'<container><rootfiles><rootfile full-path="{path}"/></rootfiles></container>'.encode(),
    )


# ---- what is let in


def test_every_kind_of_file_is_read() -> None:
    for name, notes in (
        ("bach_prelude_868.musicxml", 417), ("bach_fugue_846.mxl", 750), ("bach_prelude_868.mid", 417),
        ("chopin_prelude_28_7.krn", 168), ("anonymous_mazur_6.krn", 750), ("anonymous_mazur_6.mei", 750),
    ):  # fmt: skip
        score = open_score((DATA / name).read_bytes(), name)
        assert len(score) == notes, (name, len(score))
        assert set(score.staff.tolist()) <= {0, 1, 2}
        assert score.measures.onset_quarter[0] <= 0


def test_the_name_does_not_matter() -> None:
    assert len(open_score(XML, "x.mid")) == len(open_score(XML, "../../etc/pass wd\n")) == 417
    assert len(open_score(b"\xef\xbb\xbf" + XML, "")) == 417
    utf16 = XML.decode().replace('encoding="UTF-8"', 'encoding="UTF-16"').encode("utf-16")
    assert len(open_score(utf16, "x")) == 417


def test_a_score_survives_its_bytes() -> None:
    score = a_score()
    back = score_from_bytes(score_to_bytes(score))
    assert isinstance(back, Score)
    assert back.digest == score.digest
    with pytest.raises(ValueError, match="not a Score"):
        score_from_bytes(archive(("x.npy", b"")))


def test_titles_are_one_printable_line() -> None:
    xml = wrap(bar()).replace(
        b"<part-list>",
        b"<work><work-title>${f(1)}\n<![CDATA[<img onerror=x>]]> " + b"a" * 5000 + b"</work-title></work><part-list>",
    )
    title = open_score(xml, "x").title
    assert len(title) <= 200
    assert "\n" not in title


# ---- what is refused

NOTES_20001 = wrap(
    bar(number=1)
    + '<measure number="2">'
    + "<note><pitch><step>C</step><octave>4</octave></pitch><duration>1</duration></note>" * 20_001
    + "</measure>"
)
LAUGHS = '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'

REFUSED = {
    "empty": (b"", "is empty"),
    "text": (b"Dear Sir or Madam", "is not a score"),
    "html": (b"<!DOCTYPE html><html><body/></html>", "This XML file is no score"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "This XML file is no score"),
    "timewise": (b"<score-timewise/>", "timewise"),
    "no notes": (wrap('<measure number="1"/>'), "no notes|cannot be read"),
    "unclosed": (XML[:5000], "damaged at line"),
    "external entity": (wrap(bar(), '<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]>'), "DOCTYPE with contents"),
    "external parameter entity": (wrap(bar(), '<!DOCTYPE s [<!ENTITY % x SYSTEM "http://x/"> %x;]>'), "DOCTYPE with"),
    "billion laughs": (wrap(bar(), LAUGHS), "DOCTYPE with contents"),
    "200,000 deep": (b"<mei>" + b"<a>" * 200_000 + b"</a>" * 200_000 + b"</mei>", "nested over 100"),
    "2,001 measures": (wrap("".join(bar(number=i) for i in range(1, 2002))), "more than 2000 measures"),
    "20,001 notes": (NOTES_20001, "more than 20000 notes"),
    "two million elements": (b"<mei>" + b"<a/>" * 2_000_000 + b"</mei>", "more than 1000000 elements"),
    "over 20 MB": (b"<score-partwise>" + b" " * 20_000_001, "20 MB"),
    "unknown encoding": (b'<?xml version="1.0" encoding="x-klingon"?><score-partwise/>', "encoding|damaged"),
    "mei without music": (b'<mei xmlns="http://www.music-encoding.org/ns/mei"/>', "no notes"),
    "kern of nothing": (b"**kern\n*-\n", "no notes|cannot be read"),
    "kern of noise": (b"**kern\n" + random.Random(3).randbytes(3000).replace(b"\x00", b" "), "cannot be read|no notes"),
    "mxl: no zip": (b"PK\x03\x04" + bytes(200), r"\.mxl file is damaged"),
    "mxl: no container": (archive(("score.xml", XML)), r"\.mxl file is damaged"),
    "mxl: container names nothing": (archive(("META-INF/container.xml", b"<container/>")), "does not name its score"),
    "mxl: missing score": (archive(container("gone.xml")), r"\.mxl file is damaged"),
    "mxl: outside path": (archive(container("../../../../etc/passwd")), r"\.mxl file is damaged"),
    "mxl: bomb": (archive(container("a.xml"), ("a.xml", b"<score-partwise>" + b" " * 19_000_000)), "unpacks to over"),
    "mxl: 30 MB in all": (archive(container("a"), *((f"{i}", b" " * 10**7) for i in range(3)), ("a", XML)), "20 MB"),
    "mxl: 51 entries": (archive(container("a.xml"), ("a.xml", XML), *((f"{i}", b"") for i in range(49))), "51 entries"),
    "mxl: entity in the container": (archive((container("")[0], LAUGHS.encode() + b"<container/>")), "DOCTYPE with"),
    "mxl in an mxl": (archive(container("a.mxl"), ("a.mxl", archive(container("b.xml")))), "is not a score"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.timeout(60)
def test_refused(name: str) -> None:
    data, message = REFUSED[name]
    start = time.perf_counter()
    with pytest.raises(BadInput, match=message) as caught:
        open_score(data, "x")
    assert time.perf_counter() - start < 10
    assert_sentence(caught.value)
    assert "root:" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        bar(attributes="<time><beats>4</beats><beat-type>0</beat-type></time>"),
        bar(attributes="<time><beats>0</beats><beat-type>4</beat-type></time>"),
        bar(attributes="<time><beats>99999999999</beats><beat-type>4</beat-type></time>"),
        bar(attributes="<key><fifths>99999</fifths></key>"),
        bar().replace("<divisions>1<", "<divisions>0<"),
        bar().replace("<divisions>1<", "<divisions>-4<"),
        bar().replace("<divisions>1<", "<divisions>1e400<"),
        bar("<duration>-4</duration>"),
        bar("<duration>99999999999999999999</duration>"),
        bar("<duration>nan</duration>"),
        bar().replace("<octave>4", "<octave>99"),
        bar().replace("<step>C", "<step>H"),
        bar().replace("<octave>4", "<alter>1e9</alter><octave>4"),
        bar("<duration>4</duration><voice>" + "9" * 400 + "</voice>"),
        bar("<duration>4</duration><staff>-7</staff>"),
        bar() * 3,
        "<measure/>" * 50,
    ],
)
def test_impossible_numbers_are_mended_or_refused(body: str) -> None:
    try:
        score = open_score(wrap(body), "x")
    except BadInput as error:
        assert_sentence(error)
        return
    assert np.isfinite(score.onset_quarter).all()
    assert (score.duration_quarter >= 0).all()
    assert (score.pitch >= 0).all()
    assert (score.pitch <= 127).all()


def test_a_plain_doctype_is_no_offence() -> None:
    head = '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 3.1 Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">'
    assert len(open_score(wrap(bar(), head), "x")) == 1


def test_performances_are_midi_only() -> None:
    with pytest.raises(BadInput, match="is not a MIDI file"):
        open_performance(XML, "a.musicxml")
    with pytest.raises(BadInput, match="is empty"):
        open_performance(b"", "a.mid")
    assert len(open_performance((DATA / "bach_prelude_868_GonzalezJ05M.mid").read_bytes(), "a.mid")) == 414


def test_scan_and_unpack_alone() -> None:
    assert scan_xml(XML) == "musicxml"
    assert scan_xml((DATA / "anonymous_mazur_6.mei").read_bytes()) == "mei"
    assert unpack_mxl(archive(container("in/a.xml"), ("in/a.xml", XML))) == XML


# ---- mutations


def resident_mb() -> float:
    """What this process holds in memory, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def short(xml: bytes, bars: int = 3) -> bytes:
    """The first bars of a real file."""
    root = ET.fromstring(xml)
    for part in root.iter("part"):
        for measure in part.findall("measure")[bars:]:
            part.remove(measure)
    return ET.tostring(root)


def mutate_text(data: bytes, r: random.Random) -> bytes:
    """Damage that often leaves the XML well-formed: numbers, tags, whole elements; now and then plain bytes."""
    if r.random() < 0.25:
        return mutate(data, r)
    text = data.decode()
    for _ in range(r.choice((1, 1, 2, 4, 12))):
        at = r.randrange(len(text))
        if r.random() < 0.5:  # another number or letter in an element or attribute
            start = text.find(">", at)
            end = text.find("<", start)
            if 0 < start < end:
                new = r.choice(
                    ("0", "-1", "1", "99999999", "1e9", "0.5", "nan", "", "x", "C", "eighth", str(r.randrange(-9, 9)))
                )
                text = text[: start + 1] + new + text[end:]
        elif r.random() < 0.6:  # an element is doubled or dropped, up to its end
            start = text.find("<", at)
            tag = text[start + 1 : start + 30].split(">")[0].split(" ")[0].rstrip("/")
            end = text.find(f"</{tag}>", start)
            if start > 0 and tag and end > 0:
                end += len(tag) + 3
                text = text[:start] + r.choice(("", text[start:end] * 2)) + text[end:]
        else:  # a tag is called something else everywhere
            tags = (
                "backup",
                "forward",
                "chord",
                "grace",
                "tie",
                "type",
                "voice",
                "staff",
                "duration",
                "note",
                "measure",
                "pitch",
            )
            text = text.replace(f"<{r.choice(tags)}>", f"<{r.choice(tags)}>", 1)
    return text.encode()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.soak)])
def test_mutated_scores_are_read_or_refused_in_one_sentence(count: int, soak_report: Reporter) -> None:
    r = random.Random(21)
    chopin = short(unpack_mxl((DATA / "chopin_etude_25_2.mxl").read_bytes()))
    seeds = [
        short(XML),
        chopin,
        short(unpack_mxl((DATA / "schumann_kreisleriana_4.mxl").read_bytes()), 2),
        write_musicxml(a_score()),
    ]
    others = [
        KERN,
        (DATA / "anonymous_mazur_6.krn").read_bytes()[:2500],
        (DATA / "anonymous_mazur_6.mei").read_bytes(),
        archive(container("a.xml"), ("a.xml", seeds[3])),
    ]
    read, slowest, before = 0, 0.0, resident_mb()
    for k in range(count):
        data = mutate(r.choice(others), r) if k % 10 == 9 else mutate_text(r.choice(seeds), r)
        start = time.perf_counter()
        try:
            score = open_score(data, "x")
        except BadInput as error:
            assert_sentence(error)
        else:
            read += 1
            assert len(score)
            assert np.isfinite(score.onset_quarter).all()
        slowest = max(slowest, time.perf_counter() - start)
        assert slowest < child_module.WAIT_SECONDS + child_module.START_SECONDS
    grown = resident_mb() - before
    soak_report(
        3, "mutated MusicXML, kern, MEI, .mxl", asked=f"{count:,}: 0 crashes, 0 over 10 s, growth under 50 MB",
        found=f"{count:,}: 0 crashes, {read:,} read, slowest {slowest:.1f} s, grown by {grown:.0f} MB",
        passed=read > 30 and slowest < 10 and grown < 50,
    )  # fmt: skip


def test_random_bytes_behind_each_magic_number() -> None:
    r = random.Random(22)
    for magic in (
        b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk" + struct.pack(">I", 500),
        b"PK\x03\x04",
        b"<?xml version='1.0'?>",
        b"**kern\n",
        b"\xff\xfe",
    ):
        for _ in range(20):
            try:
                open_score(magic + r.randbytes(500), "x")
            except BadInput as error:
                assert_sentence(error)
