"""Make the pack of ECP tokens: `python -m training.xmvae.prepare --data DATA [--data2 MORE] --out data/xmvae-v2.npz`.

Two kinds of rows: the robust (n)ASAP performances with all eight columns, and every score of the score corpora with
its four score columns, with --data2 those of the second folder, too (`source` "lieder": the piano part of a song).
Training then needs numpy and this one file; `training.xmvae.segments` reads it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.music.types import Alignment, Marks, Measures, Performance, Score
from engine.tokens.ecp import encode, encode_score
from engine.tokens.encode import Segment
from engine.tokens.tables import FAMILY, METRIC, POSITION
from training.core.corpora import QUARTER, Nasap, spell_in_key
from training.core.score_packs import ScorePack, chosen
from training.xmvae.segments import FORMAT

MAX_SILENT_BEATS = 16  # between two segments of one run; a longer gap starts a new run


@dataclass
class Rows:
    """Rows of one kind: labels of each item, and runs of tokens with the index of their item."""

    kind: str
    labels: list[tuple[str, str, str, str, str]] = field(default_factory=list)  # name, work, split, composer, performer
    runs: list[NDArray[np.uint8]] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    def add(self, labels: tuple[str, str, str, str, str], runs: list[NDArray[np.uint8]], source: str = "nasap") -> None:
        self.sources.append(source)
        self.items += [len(self.labels)] * len(runs)
        self.labels.append(labels)
        self.runs += runs

    def columns(self) -> dict[str, NDArray]:
        names = ("name", "work", "split", "composer", "performer")
        out = {name: np.array([row[i] for row in self.labels]) for i, name in enumerate(names)}
        out["source"] = np.array(self.sources)
        out["tokens"] = np.ascontiguousarray(np.concatenate(self.runs).T)
        out["run_ptr"], out["run_item"] = np.cumsum([0, *map(len, self.runs)]), np.array(self.items)
        return {f"{self.kind}_{k}": v for k, v in out.items()}


def join(segments: tuple[Segment, ...]) -> list[NDArray[np.uint8]]:
    """Consecutive segments as runs of beats without BOS and EOS; silent beats between them are inserted again."""
    runs: list[list[NDArray]] = []
    follows = None
    for s in segments:
        rows = s.tokens[1:-1].astype(np.uint8)
        beats = int(((rows[:, FAMILY] == METRIC) & (rows[:, POSITION] == 1)).sum())
        silent = None if follows is None else s.first_beat - follows
        if silent is None or not 0 <= silent <= MAX_SILENT_BEATS:
            runs.append([])
        elif silent:
            empty = np.zeros((silent, rows.shape[1]), np.uint8)
            empty[:, FAMILY], empty[:, POSITION] = METRIC, 1
            runs[-1].append(empty)
        runs[-1].append(rows)
        follows = s.first_beat + beats
    return [np.concatenate(r) for r in runs]


def adjacent(score: Score, performance: Performance, alignment: Alignment) -> list[NDArray[np.uint8]]:
    """Runs of one performance: a rejected span ends a run."""
    encoding = encode(score, performance, alignment)
    refused = sorted(r.first_note for r in encoding.rejected)
    parts: list[list[Segment]] = [[]]
    for s in encoding.segments:
        first = int(s.note_index[s.note_index >= 0].min())
        if refused and first > refused[0]:
            refused = [r for r in refused if r > first]
            parts.append([])
        parts[-1].append(s)
    return [run for part in parts if part for run in join(tuple(part))]


def load_score(pack: ScorePack, i: int) -> Score:
    """The piano's notes of score i of a pack, in written order."""
    c, note, bar, key = pack.columns, pack.piano(i), pack.rows(i, "bar"), pack.rows(i, "key")
    num, den = c["bar_ts_num"][bar].astype(int), c["bar_ts_den"][bar].astype(int)
    start = c["bar_onset"][bar] / QUARTER
    onset, pitch = c["onset"][note] / QUARTER, c["pitch"][note]
    nominal = num * 4.0 / den
    last = max(nominal[-1], onset.max() - start[-1])
    lasts = np.append(np.diff(start), last)
    position = np.zeros(len(start))
    position[0] = max(nominal[0] - lasts[0], 0.0) if len(start) > 1 else 0.0  # a pickup ends its bar
    at = np.searchsorted(c["key_onset"][key], c["bar_onset"][bar], side="right") - 1
    fifths = c["key_fifths"][key][np.maximum(at, 0)].astype(int) if len(at) and key.stop > key.start else 0 * num
    measures = Measures(start, lasts, position, num, den, fifths, np.arange(1, len(start) + 1))
    duration = c["duration"][note] / QUARTER
    grace = (c["grace"][note] > 0) | (duration == 0)
    order = np.lexsort((pitch, ~grace, onset))
    spelling = spell_in_key(pitch.astype(int), fifths[np.clip(c["bar"][note], 0, len(start) - 1)])
    return Score(
        onset[order], duration[order], pitch[order], spelling[order], c["staff"][note][order],
        c["voice"][note][order], grace[order], Marks.none(len(order)), measures,
    )  # fmt: skip


def performances(path: Path, limit: int = 0) -> tuple[Rows, Counter]:
    """Rows of the robust performances of (n)ASAP, and the number of refusals by reason."""
    corpus, rows, refused = Nasap(path), Rows("performance"), Counter()
    c = corpus.columns
    robust = np.flatnonzero(c["robust"] > 0)
    for i in tqdm(robust[:: max(1, len(robust) // limit)] if limit else robust, file=sys.stderr, mininterval=10):
        name, runs = str(c["id"][i]), adjacent(*corpus.load(i))
        if not runs:
            refused["no segment can be encoded"] += 1
            continue
        performer = re.sub(r"M?$", "", name.rsplit("/", 1)[-1], count=1)
        rows.add((name, str(c["work"][i]), str(c["split"][i]), name.split("/")[0], performer), runs)
    return rows, refused


def scores(path: Path, limit: int = 0) -> tuple[Rows, Counter]:
    """Rows of the score corpora of the first folder."""
    pack, rows = ScorePack(path), Rows("score")
    return rows, add_scores(rows, pack, "scores", list(range(len(pack))), limit)


def add_scores(rows: Rows, pack: ScorePack, source: str, chosen: list[int], limit: int = 0) -> Counter:
    """Add the chosen scores of a pack to the rows; returns the number of refusals by reason."""
    refused: Counter = Counter()
    c = pack.columns
    step = max(1, len(chosen) // limit) if limit else 1
    for i in tqdm(chosen[::step], file=sys.stderr, mininterval=10, desc=source):
        try:
            tokens = encode_score(load_score(pack, i))
        except ValueError as error:
            refused[str(error)[:60]] += 1
            continue
        labels = str(c["id"][i]), str(c["work"][i]), str(c["split"][i]), str(c["composer"][i]), ""
        rows.add(labels, [tokens[1:-1].astype(np.uint8)], source)
    return refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with aligned/ and scores/")
    parser.add_argument("--data2", type=Path, help="folder of the second pack (pianocore, mutopia, lieder)")
    parser.add_argument("--out", type=Path, default=Path("data/xmvae-v2.npz"))
    parser.add_argument("--limit", type=int, default=0, help="about so many of each kind (rehearsal)")
    args = parser.parse_args()
    played, refused = performances(args.data / "aligned" / "nasap-aligned.npz", args.limit)
    written, more = scores(args.data / "scores" / "scores-compact.npz", args.limit)
    for pack, source, rows in chosen(args.data2) if args.data2 else ():
        more += add_scores(written, pack, source, rows, args.limit)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out, format=FORMAT, **played.columns(), **written.columns())
    for rows in (played, written):
        notes = sum(int((r[:, FAMILY] == 1).sum()) for r in rows.runs)
        splits = Counter(label[2] for label in rows.labels)
        print(f"{rows.kind}s: {len(rows.labels)} ({dict(splits)}), {len(rows.runs)} runs, {notes:,} notes")
        print(f"  by source: {dict(Counter(rows.sources))}")
    print(f"{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB; refused: {dict(refused + more) or 'none'}")


if __name__ == "__main__":
    main()
