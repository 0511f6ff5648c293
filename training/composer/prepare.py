"""Make the Composer's data pack.

    python -m training.composer.prepare --data CORPORA [--data2 MORE] [--tagger CHECKPOINT] --out data/composer-v2.npz

Scores of scores-compact.npz and one score of each (n)ASAP work, with --data2 those of the second folder, too, on the
Composer's grid (`engine.tokens.composer_tokens`): composer, work, split, source, for (n)ASAP the performed
tempo, and for each bar the most similar earlier bar (`engine.measures.form`). A training score whose source states its
repeats is in the pack twice, as written and as played (`unfolded`); the two share the weight of one. With --tagger,
phrase ends and cadences of every bar are written, too; expert labels take precedence. `genre` comes from the title
(`training.composer.genres`, which can also add it to an older pack).
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from engine.checkpoints.bundle import open_tagger
from engine.measures.form import bar_structure, compare_bars
from engine.models.composer.conditions import composer_of
from engine.tokens.composer_tokens import TICKS_PER_QUARTER, Written, write_tokens
from engine.tokens.genres import NO_GENRE
from training.composer.genres import read_genres
from training.core.corpora import QUARTER, Nasap
from training.core.halves import half_of
from training.core.score_packs import PackedScore, first_pack, played, second_pack
from training.tagger.data import read_labels
from training.tagger.labels import labelled

FORMAT_VERSION = 2
MIN_NOTES, MIN_BARS = 16, 4
_NOTES = {"tick": np.int32, "pitch": np.uint8, "staff": np.uint8, "duration": np.uint8, "bar": np.uint16}
_BARS = {
    "start": np.int32, "length": np.int32, "beat": np.uint8, "first": np.int32, "meter": np.uint8, "fifths": np.int8,
    "offset": np.int32,
}  # fmt: skip
_STRUCTURE = {"lag": np.uint16, "likeness": np.uint8, "transpose": np.int8}
_LABELS = {"phrase_end": np.uint8, "cadence": np.uint8}
NASAP_LICENCE = "CC BY-NC-SA 4.0"


def nasap_scores(path: Path) -> Iterator[PackedScore]:
    """The longest unfolded score of every (n)ASAP work, with the median tempo of its performances."""
    nasap = Nasap(path)
    c = nasap.columns
    by_work = defaultdict(list)
    for i, work in enumerate(c["work"]):
        by_work[str(work)].append(i)
    for work, performances in by_work.items():
        tempi = []
        for i in performances:
            r = nasap.rows(i)
            matched = r["label"] == 0
            at, sec = r["onset"][matched] / QUARTER, r["onset_sec"][matched]
            if len(at) > 8 and np.ptp(sec) > 1:
                tempi.append(60 * np.ptp(at) / np.ptp(sec))
        longest = max(performances, key=lambda i: c["note_ptr"][i + 1] - c["note_ptr"][i])
        score, _, _ = nasap.load(longest)
        name = str(c["id"][longest])
        tempo = float(np.median(tempi or [0.0]))
        yield PackedScore(
            name, work, name.split("/")[0], str(c["split"][longest]), "nasap", write_tokens(score), NASAP_LICENCE, tempo
        )


def structure(w: Written) -> dict[str, NDArray]:
    """Per bar: `lag` bars back to the most similar earlier bar (0 none), `likeness` 0 to 255, `transpose` semitones."""
    found = bar_structure(compare_bars(w.bar, w.in_bar / TICKS_PER_QUARTER, w.pitch, len(w.bars.start)))
    return {"lag": found.lag, "likeness": np.round(found.likeness * 255), "transpose": found.transpose}


def write_pack(
    path: Path, found: Iterable[PackedScore], genres: Mapping[str, int] = MappingProxyType({})
) -> dict[str, NDArray]:
    """Write the pack of all scores of sufficient length; returns its columns. genres: id -> class."""
    notes: dict[str, list[NDArray]] = defaultdict(list)
    bars: dict[str, list[NDArray]] = defaultdict(list)
    pieces: dict[str, list] = defaultdict(list)
    for item in found:
        w = item.written
        count = len(w.bars.start)
        if len(w) < MIN_NOTES or count < MIN_BARS:
            continue
        for k, dtype in _NOTES.items():
            notes[k].append(getattr(w, k).astype(dtype))
        for k, dtype in _BARS.items():
            bars[k].append(getattr(w.bars, k).astype(dtype))
        made = structure(w)
        for k, dtype in _STRUCTURE.items():
            bars[k].append(made[k].astype(dtype))
        for k, dtype in _LABELS.items():
            bars[k].append(np.array(getattr(item, k) or [0] * count, dtype))
        composer, period = composer_of(item.composer)
        genre = genres.get(item.id, NO_GENRE)
        facts = {"composer": composer, "period": period, "half": half_of(item.work), "genre": genre}
        facts |= {
            k: getattr(item, k)
            for k in ("id", "work", "split", "source", "licence", "tempo", "accompaniment", "unfolded")
        }
        for k, v in facts.items():
            pieces[k].append(v)
    pack = {k: np.concatenate(v) for k, v in notes.items()}
    pack |= {f"bar_{k}": np.concatenate(v) for k, v in bars.items()}
    pack |= {k: np.array(v) for k, v in pieces.items()}
    pack["note_ptr"] = np.cumsum([0, *map(len, notes["tick"])])
    pack["bar_ptr"] = np.cumsum([0, *map(len, bars["start"])])
    pack["tick"] = np.diff(pack["tick"], prepend=0).astype(np.int32)  # cumsum restores it; differences compress better
    pack["format_version"] = np.array(FORMAT_VERSION)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.stem + ".part.npz")  # replaced atomically
    np.savez_compressed(part, **pack)  # type: ignore[arg-type]
    part.replace(path)
    return pack


def describe(pack: dict[str, NDArray]) -> str:
    """Scores, works, notes, bars and returning bars of each source and split."""
    notes, bars = np.diff(pack["note_ptr"]), np.diff(pack["bar_ptr"])
    of_bar = np.repeat(np.arange(len(bars)), bars)
    lines = []
    for source in dict.fromkeys(pack["source"].tolist()):
        for split in ("train", "validation"):
            both = (pack["source"] == source) & (pack["split"] == split)
            mine = both & ~pack["unfolded"]
            if mine.any():
                back = float((pack["bar_lag"][mine[of_bar]] > 0).mean())
                lines.append(
                    f"{source} {split}: {mine.sum():,} scores of {len(set(pack['work'][mine])):,} works, "
                    f"{notes[mine].sum():,} notes, {bars[mine].sum():,} bars ({back:.1%} like an earlier one), "
                    f"{pack['bar_phrase_end'][mine[of_bar]].sum():,} phrase ends, "
                    f"{(pack['bar_cadence'][mine[of_bar]] > 0).sum():,} cadences, "
                    f"{both.sum() - mine.sum():,} also as played"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with aligned/ and scores/")
    parser.add_argument("--data2", type=Path, help="folder of the second pack (pianocore, mutopia, lieder)")
    parser.add_argument("--tagger", type=Path, help="checkpoint folder of the phrase tagger; needs --data2")
    parser.add_argument("--out", type=Path, default=Path("data/composer-v2.npz"))
    args = parser.parse_args()
    if args.tagger and not args.data2:
        parser.error("--tagger needs --data2, the folder with dcml-labels.tsv.xz.")
    nasap = nasap_scores(args.data / "aligned" / "nasap-aligned.npz")
    items = chain(first_pack(args.data), second_pack(args.data2) if args.data2 else (), nasap)
    if args.tagger:
        torch.set_num_threads(1)
        items = labelled(items, open_tagger(args.tagger), read_labels(args.data2 / "dcml-labels.tsv.xz"))
    genres = read_genres(args.data, args.data2)
    print(describe(write_pack(args.out, tqdm(played(items), unit="score", mininterval=5), genres)))
    print(f"{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB, {hashlib.sha256(args.out.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
