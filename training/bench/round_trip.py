"""Round trip of MusicXML files: `python -m training.bench.round_trip FOLDER...`.

Opens every MusicXML file below the folders and saves it four times: unchanged; with a note of the middle raised by a
semitone; with that note removed; with a note added to its bar. A repeated bar is edited in every pass. Counts the files
that are identical to the byte, those in which only the bars of the edited note differ (of two parts in unison either
may change), and those that are rewritten as a whole, with the reason.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from lxml import etree
from numpy.typing import NDArray

from engine.music.document.bars import CannotPatch
from engine.music.document.patch import patched
from engine.music.io.musicxml_page import page_of
from engine.music.io.read_musicxml import read_musicxml
from engine.music.io.written import Page, score_of
from engine.music.io.xml_scan import scan_xml
from engine.music.types import MARK_NAMES, BadInput, Marks, Score
from engine.untrusted.scores import unpack_mxl
from training.bench.timing import at_most

ENDINGS = (".xml", ".musicxml", ".mxl")
EDITS = ("unchanged", "raised", "removed", "added")
SECONDS = 60  # of processor time, for one file
_NOTES = ("onset_quarter", "duration_quarter", "pitch", "spelling", "staff", "voice", "grace")


@dataclass(frozen=True)
class Trip:
    """Result of one file: for each of EDITS "kept", "elsewhere" (other bars differ too) or the reason of a rewrite."""

    path: Path
    results: dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="+")
    parser.add_argument("--list", action="store_true", help="print every file that is not kept")
    args = parser.parse_args()
    for folder in args.folder:
        if not folder.exists():
            parser.error(f"{folder} does not exist; give a folder with MusicXML files.")
    trips: list[Trip] = []
    others = 0
    try:
        for k, (path, data) in enumerate(files(args.folder), 1):
            print(f"\r{k} {path.name[:60]:60}", end="", file=sys.stderr, flush=True)
            trip = trip_of(path, data)
            if trip is None:
                others += 1
                continue
            trips.append(trip)
            if args.list and set(trip.results.values()) != {"kept"}:
                print(f"\n{path}: {trip.results}", flush=True)
    except KeyboardInterrupt:
        print("\nstopped; the table has the files so far", file=sys.stderr)
    print(f"\n{table(trips)}\n{others} XML files are no MusicXML, or are refused by the reader")


def files(folders: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    """Path and text of every MusicXML file, each content once."""
    seen = set()
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.suffix.lower() not in ENDINGS or not path.is_file():
                continue
            data = path.read_bytes()
            digest = hashlib.sha256(data).digest()
            if digest not in seen:
                seen.add(digest)
                try:
                    yield path, unpack_mxl(data) if data[:2] == b"PK" else data
                except BadInput:
                    continue


def trip_of(path: Path, document: bytes) -> Trip | None:
    """The four round trips of a file; None for a file that the reader refuses or that is not MusicXML."""
    try:
        with at_most(SECONDS):
            if scan_xml(document) != "musicxml":
                return None
            score = read_musicxml(document)
    except (BadInput, ValueError, TimeoutError):
        return None
    results = {}
    try:
        with at_most(SECONDS):
            page = _page(document)
            row = _middle(score)
            rows = _passes(page, row)
            here = {(note.part, bar) for r in rows for bar, note in page.heads[r]}
            for edit in EDITS if len(score) > len(rows) else ("unchanged", "raised", "added"):
                new, places = edited(score, edit, row, rows, page)
                results[edit] = _result(document, new, places or here if edit != "unchanged" else set())
    except TimeoutError as error:
        results |= {edit: f"timeout: {error}" for edit in EDITS if edit not in results}
    return Trip(path, results)


def _page(document: bytes) -> Page:
    page = page_of(etree.fromstring(document, etree.XMLParser(resolve_entities=False, recover=True)))
    score_of(page)
    return page


def _middle(score: Score) -> int:
    """The row of a note in the middle that is no grace note, if there is one."""
    rows = np.flatnonzero(~score.grace & (score.duration_quarter > 0))
    return int(rows[len(rows) // 2]) if len(rows) else len(score) // 2


def _passes(page: Page, row: int) -> list[int]:
    """The rows of every pass of a written note."""
    mine = {id(note) for _, note in page.heads[row]}
    return [r for r, heads in enumerate(page.heads) if mine & {id(note) for _, note in heads}]


def edited(
    score: Score, edit: str, row: int, rows: Sequence[int], page: Page
) -> tuple[Score, set[tuple[int, int]]]:  # fmt: skip
    """The score after one of EDITS, and the (part, bar) that may differ."""
    bar, note = page.heads[row][0]
    if edit == "raised":
        pitch, spelling = np.array(score.pitch), np.array(score.spelling)
        pitch[rows] += 1 if score.pitch[row] < 127 else -1
        spelling[rows] += 7 if score.pitch[row] < 127 else -7
        order = np.lexsort((pitch, score.onset_quarter))
        return _rows(replace(score, pitch=pitch, spelling=spelling), order), set()
    if edit == "removed":
        return _rows(score, np.setdiff1d(np.arange(len(score)), rows)), set()
    if edit == "added":
        return _with_note(score, page, bar, note.staff if page.parts[note.part].staves > 1 else 1, row), {
            (part, bar) for part in range(len(page.parts))
        }
    return score, set()


def _with_note(score: Score, page: Page, bar: int, staff: int, row: int) -> Score:
    """A high note of a quarter at the beginning of every pass of a bar, on the staff of `row`."""
    turns = [k for k, b in enumerate(page.played_bars) if b == bar]
    m = score.measures
    new = {
        "onset_quarter": m.onset_quarter[turns], "duration_quarter": np.minimum(1.0, m.duration_quarter[turns]),
        "pitch": 96, "spelling": 0, "staff": score.staff[row], "voice": 0, "grace": False,
    }  # fmt: skip
    joined = {k: np.append(getattr(score, k), np.broadcast_to(v, len(turns))) for k, v in new.items()}
    table = np.concatenate([score.marks.table, np.zeros((len(turns), len(MARK_NAMES)), np.int16)])
    order = np.lexsort((joined["pitch"], joined["onset_quarter"]))
    return replace(score, **{k: v[order] for k, v in joined.items()}, marks=Marks(table[order]))


def _rows(score: Score, rows: NDArray) -> Score:
    return replace(score, **{k: getattr(score, k)[rows] for k in _NOTES}, marks=Marks(score.marks.table[rows]))


def _result(document: bytes, new: Score, places: set[tuple[int, int]]) -> str:
    try:
        made = patched(document, new)
    except CannotPatch as error:
        return str(error)
    if made == document:
        return "kept" if not places else "elsewhere"
    changed = changed_bars(document, made)
    if changed is None or len(changed) > len(places):
        return "elsewhere"
    return "kept" if {bar for _, bar in changed} <= {bar for _, bar in places} else "elsewhere"


def changed_bars(one: bytes, two: bytes) -> set[tuple[int, int]] | None:
    """(part, bar) that differ canonically; None if anything outside the bars differs or bars were added."""
    (a, rest_a), (b, rest_b) = _bars(one), _bars(two)
    if rest_a != rest_b or set(a) != set(b):
        return None
    return {place for place in a if a[place] != b[place]}


def _bars(document: bytes) -> tuple[dict[tuple[int, int], bytes], bytes]:
    root = etree.fromstring(document, etree.XMLParser(resolve_entities=False, recover=True))
    out = {}
    for p, part in enumerate(root.findall("{*}part")):
        for k, measure in enumerate(part.findall("{*}measure")):
            measure.tail = None
            out[p, k] = etree.tostring(measure, method="c14n")
            part.remove(measure)
    return out, etree.tostring(root, method="c14n")


def table(trips: Sequence[Trip]) -> str:
    """A row for each edit, then the reasons of the rewritten files."""
    lines = [f"{'edit':12}{'files':>7}{'kept':>7}{'share':>9}"]
    for edit in EDITS:
        found = [t.results[edit] for t in trips if edit in t.results]  # a piece of one note cannot lose it
        kept = found.count("kept")
        lines.append(f"{edit:12}{len(found):7}{kept:7}{100 * kept / max(len(found), 1):8.1f} %")
    for edit in EDITS:
        reasons = Counter(t.results[edit] for t in trips if t.results.get(edit, "kept") != "kept")
        lines += [f"{edit}, {count} files: {reason}" for reason, count in reasons.most_common()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
