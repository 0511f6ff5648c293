"""`python -m training.bench.reading FOLDER --against music21`: how far our readers agree with another one.

Reads every MusicXML, MEI, kern and MIDI file below FOLDER twice and prints the agreement by kind of file and by field.
A file counts as told when a remark of ours names a bar and an element; a remark on a file that agrees counts as wrong.
The other reader is slow: what it found is kept in --keep, by the digest of the file. Needs `pip install -e .[reading]`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.music.types import BadInput
from training.bench.reading.compare import Comparison, compare
from training.bench.reading.facts import Facts, facts_from_json, our_facts
from training.bench.reading.mido_facts import mido_facts
from training.bench.reading.music21_facts import music21_facts
from training.bench.reading.table import Row, table
from training.bench.reading.verovio_facts import verovio_facts

KINDS = {
    ".xml": "MusicXML", ".musicxml": "MusicXML", ".mxl": "MusicXML", ".mei": "MEI", ".krn": "kern",
    ".mid": "MIDI", ".midi": "MIDI",
}  # fmt: skip
READERS: dict[str, tuple[Callable[[Path], Facts], tuple[str, ...]]] = {
    "music21": (music21_facts, ("MusicXML", "MEI", "kern")),
    "verovio": (verovio_facts, ("MusicXML", "MEI", "kern")),
    "mido": (mido_facts, ("MIDI",)),
}
SECONDS = 120  # for one file and the other reader


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="+")
    parser.add_argument("--against", choices=sorted(READERS), required=True)
    parser.add_argument("--keep", type=Path, default=Path("runs/reading"), help="folder of the other reader's results")
    parser.add_argument("--kept-only", action="store_true", help="only files whose other reading is kept")
    parser.add_argument("--list", action="store_true", help="print every file that differs")
    args = parser.parse_args()
    for folder in args.folder:
        if not folder.exists():
            parser.error(f"{folder} does not exist; give a folder with MusicXML, MEI, kern or MIDI files.")
    read, kinds = READERS[args.against]
    keep = args.keep / args.against
    keep.mkdir(parents=True, exist_ok=True)
    files = list(_files(args.folder, kinds))
    rows: list[Row] = []
    try:
        for k, (path, digest) in enumerate(files, 1):
            print(f"\r{k} of {len(files)} {path.name[:50]:50}", end="", file=sys.stderr, flush=True)
            kept = keep / f"{digest}.json"
            if args.kept_only and not kept.exists():
                continue
            rows.append(_row(path, _other(path, kept, read)))
            if args.list and rows[-1].comparison and not rows[-1].comparison.right:
                print(f"\n{path}: {rows[-1].why()}")
    except KeyboardInterrupt:
        print("\nstopped; the table has the files so far", file=sys.stderr)
    print(f"\n{table(rows, args.against)}")


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
    """What the other reader found, or why it failed."""
    if not kept.exists():
        try:
            with _at_most(SECONDS):
                text = read(path).as_json()
        except Exception as error:  # whatever the other reader raises
            text = json.dumps({"error": f"{type(error).__name__}: {error}"[:200]})
        kept.write_text(text)
    text = kept.read_text()
    failed = json.loads(text).get("error")
    return failed or facts_from_json(text)


def _row(path: Path, other: Facts | str) -> Row:
    kind = KINDS[path.suffix.lower()]
    if isinstance(other, str):
        return Row(kind, path, other_failed=other)
    try:
        ours = our_facts(path)
    except BadInput as error:
        found = Comparison({"notes": "refused"}) if other.notes else None
        return Row(kind, path, found, refused=str(error))
    except Exception as error:  # what the studio would call a damaged file
        return Row(kind, path, Comparison({"notes": f"{type(error).__name__}: {error}"}), refused=str(error))
    return Row(kind, path, compare(ours, other))


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the body after so many seconds."""

    def end(*_: object) -> None:
        raise TimeoutError(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    main()
