"""Agreement of our readers with another library: `python -m training.bench.reading FOLDER --against music21`.

Reads every MusicXML, MEI, kern and MIDI file below FOLDER twice and prints the agreement by kind of file and by field.
A file counts as told when a remark of ours names a bar and an element, or when it is refused in a sentence; a remark on
a file that agrees counts as wrong, unless the other readers differ from each other.
`--against music21 verovio` prints a second table: a field in which the first reader differs is compared with the next,
and agrees where one of them agrees. The other readers are slow: --keep stores their results by the digest of the
file. Needs `pip install -e .[reading]`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from engine.music.types import BadInput
from training.bench.reading.compare import Comparison, agreed_by_either, compare
from training.bench.reading.facts import Facts, facts_from_json, our_facts, performance_facts
from training.bench.reading.hand_facts import hand_facts
from training.bench.reading.mido_facts import mido_facts
from training.bench.reading.music21_facts import music21_bar_facts, music21_facts
from training.bench.reading.table import Row, table
from training.bench.reading.verovio_facts import verovio_facts
from training.bench.timing import at_most

KINDS = {
    ".xml": "MusicXML", ".musicxml": "MusicXML", ".mxl": "MusicXML", ".mei": "MEI", ".krn": "kern",
    ".mid": "MIDI", ".midi": "MIDI",
}  # fmt: skip
READERS: dict[str, tuple[Callable[[Path], Facts], tuple[str, ...]]] = {
    "music21": (music21_facts, ("MusicXML", "MEI", "kern")),
    "music21-bars": (music21_bar_facts, ("MusicXML", "MEI", "kern")),
    "verovio": (verovio_facts, ("MusicXML", "MEI", "kern")),
    "hand": (hand_facts, ("MusicXML", "MEI", "kern")),
    "mido": (mido_facts, ("MIDI",)),
}
SECONDS = 60  # of processor time, for one file and one reader


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="+")
    parser.add_argument("--against", choices=sorted(READERS), nargs="+", required=True, help="one reader, or several")
    parser.add_argument("--keep", type=Path, default=Path("runs/reading"), help="folder of the other readers' results")
    parser.add_argument(
        "--kept-only",
        action="store_true",
        help="read nothing with the other readers now; files that the first has not read are left out",
    )
    parser.add_argument(
        "--performance", action="store_true", help="read MIDI files as performances: nothing is rounded"
    )
    parser.add_argument("--list", action="store_true", help="print every file that differs")
    args = parser.parse_args()
    for folder in args.folder:
        if not folder.exists():
            parser.error(f"{folder} does not exist; give a folder with MusicXML, MEI, kern or MIDI files.")
    kinds = READERS[args.against[0]][1]
    files = list(_files(args.folder, kinds))
    rows: list[list[Row]] = [[], []]
    try:
        for k, (path, digest) in enumerate(files, 1):
            print(f"\r{k} of {len(files)} {path.name[:50]:50}", end="", file=sys.stderr, flush=True)
            if args.kept_only and not _kept(args.keep, args.against[0], digest).exists():
                continue
            found = _rows(path, args.against, args.keep, digest, args.kept_only, args.performance)
            for table_rows, row in zip(rows, found, strict=True):
                table_rows.append(row)
            comparison = found[-1].comparison
            if args.list and comparison and (comparison.differs or not comparison.right):
                print(f"\n{path}: {found[-1].why()}")
    except KeyboardInterrupt:
        print("\nstopped; the table has the files so far", file=sys.stderr)
    print(f"\n{table(rows[0], args.against[0])}")
    if len(args.against) > 1:
        print(f"\nAgreement with one of {' and '.join(args.against)}:\n{table(rows[1], '')}")


def _kept(keep: Path, reader: str, digest: str) -> Path:
    return keep / reader / f"{digest}.json"


def _rows(
    path: Path, readers: list[str], keep: Path, digest: str, kept_only: bool, performance: bool = False
) -> tuple[Row, Row]:
    """Comparison of a file with the first reader, and with any agreeing reader, field by field."""
    kind = KINDS[path.suffix.lower()]
    ours: Facts | str | None = None
    rows: list[Row] = []
    for name in readers:
        read, kinds = READERS[name]
        kept = _kept(keep, name, digest)
        if kind not in kinds or (rows and not _undecided(rows[-1])) or (kept_only and not kept.exists()):
            continue
        ours = ours if ours is not None else _ours(path, performance_facts if performance else our_facts)
        row = _row(path, ours, _other(path, kept, read))
        if rows:
            row = replace(row, comparison=agreed_by_either(rows[-1].comparison, row.comparison))
        rows.append(row)
    return rows[0], rows[-1]


def _undecided(row: Row) -> bool:
    """Whether a further reader could change the verdict."""
    return not row.refused and (row.comparison is None or bool(row.comparison.differs))


def _files(folders: list[Path], kinds: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """Files of the kinds in question, each content once."""
    seen = set()
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if KINDS.get(path.suffix.lower()) in kinds and path.is_file():
                digest = hashlib.sha256(path.read_bytes()).hexdigest()[:24]
                if digest not in seen:
                    seen.add(digest)
                    yield path, digest


def _other(path: Path, kept: Path, read: Callable[[Path], Facts]) -> Facts | str:
    """Result of the other reader, or its error."""
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            with at_most(SECONDS):
                text = read(path).as_json()
        except Exception as error:  # whatever the other reader raises
            text = json.dumps({"error": f"{type(error).__name__}: {error}"[:200]})
        kept.write_text(text)
    text = kept.read_text()
    failed = json.loads(text).get("error")
    return failed or facts_from_json(text)


def _ours(path: Path, read: Callable[[Path], Facts] = our_facts) -> Facts | str:
    """Result of our reader, or the sentence of its refusal; after a crash the exception's name and text."""
    try:
        return read(path)
    except BadInput as error:
        return str(error)
    except Exception as error:  # the studio reports a damaged file
        return f"{type(error).__name__}: {error}"


def _row(path: Path, ours: Facts | str, other: Facts | str) -> Row:
    kind = KINDS[path.suffix.lower()]
    if isinstance(other, str):
        return Row(kind, path, other_failed=other)
    if isinstance(ours, str):
        crash = re.match(r"\w+: ", ours)
        found = Comparison({"notes": f"refused: {ours}"}, ("notes",), told=not crash) if other.notes else None
        return Row(kind, path, found, refused=ours)
    return Row(kind, path, compare(ours, other))


if __name__ == "__main__":
    main()
