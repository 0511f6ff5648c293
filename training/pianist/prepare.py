"""Make the data pack that training reads: `python -m training.pianist.prepare --data DATA --out data/pianist-v1.npz`.

One compressed file with every usable (n)ASAP performance, aligned, beat-annotated, with the marks of its MusicXML,
its composer and the given split. Training then needs nothing but numpy and this file.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tarfile
import tempfile
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from engine.models.pianist.features import composer_index
from engine.music.expression import encode_expression
from engine.music.io.read_musicxml import read_musicxml_file
from engine.music.types import Marks, Score
from training.core.corpora import Nasap
from training.pianist.marks import attach_marks
from training.pianist.pack import PackWriter

MIN_MATCH_RATIO = 0.9  # of the written notes, for alignments that are not marked robust in the corpus
MAX_ONSET_JUMP_SEC = 12.0  # a longer gap between neighbouring onsets is an alignment error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with aligned/ and nasap/")
    parser.add_argument("--out", type=Path, default=Path("data/pianist-v1.npz"))
    parser.add_argument("--limit", type=int, default=0, help="stop after this many performances (for a rehearsal)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    corpus = Nasap(args.data / "aligned" / "nasap-aligned.npz")
    with open(args.data / "nasap" / "metadata.csv") as f:
        meta = {row["midi_performance"].rsplit(".", 1)[0]: row for row in csv.DictReader(f)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = _scores_folder(args.data / "nasap", Path(scratch))
        build(corpus, meta, folder, args.out, args.limit)


def _scores_folder(source: Path, scratch: Path) -> Path:
    """The MusicXML files: a clone of the public repository, or unpacked from the archive."""
    archive = source / "nasap-scores.tar.xz"
    if not archive.exists():
        return source
    print("unpacking MusicXML ...", file=sys.stderr)
    with tarfile.open(archive) as tar:
        members = [m for m in tar.getmembers() if m.name.endswith(".musicxml") and ".." not in m.name]
        tar.extractall(scratch, members=members)
    return scratch


def build(corpus: Nasap, meta: dict[str, dict], xml_folder: Path, out: Path, limit: int = 0) -> None:
    """Write the pack and print the numbers of used and refused performances, with reasons."""
    writer, rejected, written, overlaps = PackWriter(), Counter(), {}, {}
    columns = corpus.columns
    for i in tqdm(range(len(corpus)), desc="performances", file=sys.stderr, mininterval=5):
        if limit and writer.count >= limit:
            break
        name, row = str(columns["id"][i]), meta.get(str(columns["id"][i]))
        if row is None:
            rejected["no metadata row"] += 1
            continue
        if not columns["robust"][i] and float(row["match_ratio"] or 0) < MIN_MATCH_RATIO:
            rejected[f"alignment not robust and under {MIN_MATCH_RATIO:.0%} matched"] += 1
            continue
        score, performance, alignment = corpus.load(i)
        score = replace(score, composer=row["composer"], title=row["title"])
        try:
            expression = encode_expression(score, performance, alignment)
        except ValueError as error:
            rejected[str(error)[:60]] += 1
            continue
        gaps = np.diff(np.sort(performance.onset_sec[alignment.performance_index]))
        if gaps.max(initial=0) > MAX_ONSET_JUMP_SEC:
            rejected[f"a hole of over {MAX_ONSET_JUMP_SEC:.0f} s"] += 1
            continue
        score, overlap = _marked(score, row, xml_folder, written)
        overlaps[name] = overlap
        writer.add(
            name, str(columns["work"][i]), str(columns["split"][i]), composer_index(row["composer"]), score, expression
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    writer.save(out)
    values = np.array(list(overlaps.values()))
    print(f"{out}: {writer.summary()}, {out.stat().st_size / 2**20:.1f} MiB")
    share = np.mean(values > 0.6)
    print(f"marks: {share:.1%} of performances found in their MusicXML, mean note overlap {values.mean():.3f}")
    for reason, count in rejected.most_common():
        print(f"rejected {count:4d}: {reason}")


def _marked(score: Score, row: dict, folder: Path, cache: dict[str, Score | None]) -> tuple[Score, float]:
    path = row["xml_score"]
    if path not in cache:
        try:
            cache[path] = read_musicxml_file(folder / path)
        except (OSError, ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
            print(f"no marks from {path}: {type(error).__name__} {error}", file=sys.stderr)
            cache[path] = None
    source = cache[path]
    if source is None:
        return replace(score, marks=Marks.none(len(score))), 0.0
    return attach_marks(score, source)


if __name__ == "__main__":
    main()
