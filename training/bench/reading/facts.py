"""Contents of a file as a reader found them, in a common form for all readers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from engine.music.io.kern import kern_page
from engine.music.io.midi import read_midi_score
from engine.music.io.midi_bytes import parse_midi
from engine.music.io.read_musicxml import mei_page, musicxml_page
from engine.music.io.written import Page, directions_of, score_of
from engine.music.io.xml_scan import scan_xml
from engine.music.remarks import PLAYED_TOO, bounded
from engine.music.types import Score
from engine.untrusted.scores import check_score, unpack_mxl

Note = tuple[float, float, int, bool]  # onset and duration in quarters from the first bar's beginning, pitch, grace
Sign = tuple[float, str, str | float, float | None]  # onset, kind as in `written.Sign`, value, end


@dataclass
class Facts:
    """Result of one reader.

    notes      as played, repeats unfolded and ties merged; sorted by onset, grace notes as they stand
    bars       indices of the written bars as played; None where the reader has no bars
    starts     where each written bar begins, quarters
    signs      dynamics, hairpins, metronome marks and words of the written page; None where the reader has none
    unpitched  notes without a pitch
    places     False where grace notes are not read
    remarks    (bar, element, text), of our reader only
    """

    notes: list[Note] = field(default_factory=list)
    bars: list[int] | None = None
    starts: list[float] = field(default_factory=list)
    signs: list[Sign] | None = None
    unpitched: int = 0
    places: bool = True
    remarks: list[tuple[int, str, str]] = field(default_factory=list)

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def facts_from_json(text: str) -> Facts:
    """The inverse of `Facts.as_json`."""
    stored = json.loads(text)
    for name in ("notes", "signs", "remarks"):
        stored[name] = None if stored[name] is None else [tuple(row) for row in stored[name]]
    return Facts(**stored)


def our_facts(path: Path) -> Facts:
    """What Étude's reader finds, a song's voice included, which is left out by default. Raises BadInput."""
    data = path.read_bytes()
    if data[:4] == b"MThd":
        score = check_score(read_midi_score(data))
        return Facts(_notes(score), remarks=_remarks(score))
    page = page_of_file(data)
    score = check_score(score_of(page, all_parts=True))
    starts = [float(s) for s in page.starts()[:-1]]
    signs = [(start, kind, value, end) for start, end, kind, value in directions_of(page)]
    return Facts(_notes(score), page.played_bars, starts, signs, remarks=_remarks(score))


def performance_facts(path: Path) -> Facts:
    """A MIDI file read as a performance: not quantised, in quarters of its ticks. Raises BadInput."""
    file = parse_midi(path.read_bytes())
    onset, end = (tick / file.ticks_per_quarter for tick in (file.onset_tick, file.end_tick))
    rows = zip(onset.tolist(), (end - onset).tolist(), file.pitch.tolist(), strict=True)
    return Facts([(o, d, p, False) for o, d, p in rows], remarks=[(1, r.element, r.text) for r in file.mended])


def page_of_file(data: bytes) -> Page:
    """The page of a MusicXML, .mxl, MEI or kern file. Raises BadInput."""
    if data[:2] == b"PK":
        data = unpack_mxl(data)
    head = data[:200]
    if head[:2] not in (b"\xff\xfe", b"\xfe\xff") and head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] != b"<":
        return kern_page(data)
    return mei_page(data) if scan_xml(data) == "mei" else musicxml_page(data)


def _notes(score: Score) -> list[Note]:
    zero = float(score.measures.onset_quarter.min())
    rows = zip(score.onset_quarter - zero, score.duration_quarter, score.pitch, score.grace, strict=True)
    return [(float(o), float(d), int(p), bool(g)) for o, d, p, g in rows]


def _remarks(score: Score) -> list[tuple[int, str, str]]:
    return [(r.bar, r.element, r.text) for r in bounded(score.remarks) if r.text != PLAYED_TOO]
