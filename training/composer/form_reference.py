"""The form of real scores by genre: reference rows of `etude metrics` and `make eval-form`.

    python -m training.composer.form_reference --data CORPORA --data2 MORE [--out checkpoints/reference/form-v1.json]

One edition of each work of the training split that has 24 bars or more; songs are left out. Scores are read as written,
those of (n)ASAP with the player's repeats. The two rows on repeats contain the same scores. Works are measured in the
order of their hash, so --limit takes a random sample; --keep names a file that stores the measurements.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import torch
from tqdm import tqdm

from engine.checkpoints.bundle import TaggerBundle, open_tagger
from engine.checkpoints.index import CHECKPOINTS, TAGGER
from engine.measures.form_metrics import REFERENCE, FormRow, form_figures, form_row, in_words
from engine.tokens.genres import DANCES, GENRES
from training.composer.genres import read_genres
from training.composer.prepare import nasap_scores
from training.core.playing_order import unfold
from training.core.score_packs import PackedScore, first_pack, second_pack

MIN_BARS, MIN_PIECES = 24, 10
WRITTEN, PLAYED = "with repeats, as written", "with repeats, as played"
Figures = list[dict[str, float]]


def real_scores(data: Path, data2: Path, split: str = "train") -> Iterator[PackedScore]:
    """One edition of each work of a split, songs left out."""
    nasap = nasap_scores(data / "aligned" / "nasap-aligned.npz")
    seen: set[str] = set()
    for item in chain(first_pack(data), second_pack(data2), nasap):
        enough = len(item.written) and len(item.written.bars.start) >= MIN_BARS
        if item.split == split and not item.accompaniment and enough and item.work not in seen:
            seen.add(item.work)
            yield item


def measured(
    items: Iterable[PackedScore], tagger: TaggerBundle, keep: Path | None
) -> Iterator[tuple[PackedScore, Figures]]:
    """Each score with its figures, as written and, if its source states repeats, as played. Measurements are read from
    the file `keep` if they are there, else appended to it.
    """
    known: dict[str, Figures] = {}
    if keep is not None and keep.exists():
        known = dict(json.loads(line) for line in keep.read_text().splitlines())
    for item in items:
        if item.id not in known:
            forms = [item.written] + ([unfold(item.written, item.order)] if item.order else [])
            known[item.id] = [form_figures(w, tagger.tag(w)) for w in forms]
            if keep is not None:
                with keep.open("a") as f:
                    f.write(json.dumps((item.id, known[item.id])) + "\n")
        yield item, known[item.id]


def in_rows(found: Iterable[tuple[PackedScore, Figures]], genres: dict[str, int]) -> dict[str, Figures]:
    """Name of a row -> figures of its pieces."""
    rows: dict[str, Figures] = defaultdict(list)
    for item, figures in found:
        genre = genres.get(item.id, 0)
        name = GENRES[genre - 1] if genre else ""
        rows["real scores"].append(figures[0])
        rows["dances" if name in DANCES else "not dances" if name else "of no known genre"].append(figures[0])
        if name:
            rows[name].append(figures[0])
        if len(figures) > 1:
            rows[WRITTEN].append(figures[0])
            rows[PLAYED].append(figures[1])
    return rows


def in_order(rows: dict[str, Figures]) -> list[FormRow]:
    """The summary rows first, then the genres with enough pieces."""
    head = ("real scores", "dances", "not dances", "of no known genre", WRITTEN, PLAYED)
    names = [n for n in (*head, *GENRES) if len(rows.get(n, ())) >= MIN_PIECES]
    return [form_row(name, rows[name]) for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with aligned/ and scores/")
    parser.add_argument("--data2", type=Path, required=True, help="folder of the second pack")
    parser.add_argument("--out", type=Path, default=REFERENCE)
    parser.add_argument("--keep", type=Path, metavar="LINES.jsonl", help="go on from what this file holds")
    parser.add_argument("--limit", type=int, default=0, help="measure only so many works")
    args = parser.parse_args()
    torch.set_num_threads(1)
    items = list(tqdm(real_scores(args.data, args.data2), unit="read", mininterval=10))
    items = sorted(items, key=lambda item: hashlib.sha256(item.work.encode()).digest())[: args.limit or None]
    tagger = open_tagger(CHECKPOINTS / TAGGER)
    found = measured(tqdm(items, unit="score", mininterval=10), tagger, args.keep)
    rows = in_order(in_rows(found, read_genres(args.data, args.data2)))
    made = {
        "format_version": 1, "tagger": tagger.digest, "rows": [asdict(row) for row in rows],
        "corpus": {
            f.name: hashlib.sha256(f.read_bytes()).hexdigest()
            for f in (
                args.data / "aligned" / "nasap-aligned.npz", args.data / "scores" / "scores-compact.npz",
                args.data2 / "pianocore-compact.npz", args.data2 / "mutopia-compact.npz",
            )
        },
    }  # fmt: skip
    rounded = json.loads(json.dumps(made), parse_float=lambda v: round(float(v), 5))
    args.out.write_text(json.dumps(rounded, indent=1) + "\n")
    print(in_words(rows))


if __name__ == "__main__":
    main()
