"""Make the Composer's data pack: `python -m training.prepare_composer --data CORPORA --out data/composer-v1.npz`.

Scores of scores-compact.npz and one score of each (n)ASAP work, on the Composer's grid (`engine.tokens.writing`), with
composer, work, split and, for (n)ASAP, the tempo that pianists take.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.models.conditions import composer_of
from engine.tokens.writing import make_bars, make_written, write_tokens
from training.data import QUARTER, Nasap

FORMAT_VERSION = 1
MIN_NOTES, MIN_BARS = 16, 4
_NOTES = {"tick": np.int32, "pitch": np.uint8, "staff": np.uint8, "duration": np.uint8, "bar": np.uint16}
_BARS = {
    "start": np.int32, "length": np.int32, "beat": np.uint8, "first": np.int32, "meter": np.uint8, "fifths": np.int8,
    "offset": np.int32,
}  # fmt: skip


def compact_scores(path: Path):
    """(work, composer, split, source, Written) of every score in scores-compact.npz."""
    with np.load(path) as z:
        c = {k: z[k] for k in z.files}
    for i in range(len(c["id"])):
        rows, bars, keys = (slice(*c[f"{k}_ptr"][i : i + 2]) for k in ("note", "bar", "key"))
        onset = c["bar_onset"][bars] / QUARTER
        num, den = c["bar_ts_num"][bars].astype(int), c["bar_ts_den"][bars].astype(int)
        keep = np.concatenate([np.diff(onset) > 1e-6, [True]])
        onset, num, den = onset[keep], np.maximum(num[keep], 1), np.maximum(den[keep], 1)
        nominal = 4.0 * num / den
        length = np.append(np.diff(onset), nominal[-1])
        pickup = np.zeros(len(onset))
        if len(onset) > 1 and length[0] < nominal[0]:
            pickup[0] = nominal[0] - length[0]
        fifths = np.zeros(len(onset), int)
        for at, value in zip(c["key_onset"][keys] / QUARTER, c["key_fifths"][keys], strict=True):
            fifths[onset >= at - 1e-6] = value
        made = make_written(
            c["onset"][rows] / QUARTER, c["duration"][rows] / QUARTER, c["pitch"][rows], c["staff"][rows],
            c["grace"][rows] > 0, make_bars(onset, length, pickup, num, den, fifths),
        )  # fmt: skip
        yield str(c["work"][i]), str(c["composer"][i]), str(c["split"][i]), "scores", made


def nasap_scores(path: Path):
    """(work, composer, split, source, Written, quarters a minute) of one performance's score of every (n)ASAP work."""
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
        name = str(c["id"][longest]).split("/")[0]
        yield work, name, str(c["split"][longest]), "nasap", write_tokens(score), float(np.median(tempi or [0.0]))


def write_pack(path: Path, found: Iterable[tuple]) -> dict[str, NDArray]:
    """Write the pack of (work, composer's name, split, source, Written[, quarters a minute]); returns its columns."""
    notes: dict[str, list[NDArray]] = defaultdict(list)
    bars: dict[str, list[NDArray]] = defaultdict(list)
    pieces: dict[str, list] = defaultdict(list)
    for work, name, split, source, w, *tempo in found:
        if len(w) < MIN_NOTES or len(w.bars.start) < MIN_BARS:
            continue
        for k, dtype in _NOTES.items():
            notes[k].append(getattr(w, k).astype(dtype))
        for k, dtype in _BARS.items():
            bars[k].append(getattr(w.bars, k).astype(dtype))
        composer, period = composer_of(name)
        facts = {"work": work, "split": split, "source": source, "composer": composer, "period": period}
        for k, v in {**facts, "tempo": tempo[0] if tempo else 0.0}.items():
            pieces[k].append(v)
    pack = {k: np.concatenate(v) for k, v in notes.items()}
    pack |= {f"bar_{k}": np.concatenate(v) for k, v in bars.items()}
    pack |= {k: np.array(v) for k, v in pieces.items()}
    pack["note_ptr"] = np.cumsum([0, *map(len, notes["tick"])])
    pack["bar_ptr"] = np.cumsum([0, *map(len, bars["start"])])
    pack["tick"] = np.diff(pack["tick"], prepend=0).astype(np.int32)  # cumsum restores it; differences pack well
    pack["format_version"] = np.array(FORMAT_VERSION)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **pack)  # type: ignore[arg-type]
    return pack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("data/composer-v1.npz"))
    args = parser.parse_args()
    compact = compact_scores(args.data / "scores" / "scores-compact.npz")
    pack = write_pack(args.out, chain(compact, nasap_scores(args.data / "aligned" / "nasap-aligned.npz")))
    train, count = pack["split"] == "train", np.diff(pack["note_ptr"])
    for name, mine in (("train", train), ("validation", ~train)):
        print(f"{name}: {mine.sum()} scores, {count[mine].sum()} notes")


if __name__ == "__main__":
    main()
