"""Scores with expert labels of phrases and cadences, as arrays over beats."""

from __future__ import annotations

import csv
import hashlib
import lzma
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.models.tagger.features import BeatFeatures, beat_features, count_beats
from engine.tokens.composer_tokens import TICKS_PER_QUARTER, Written, key_shift
from training.core.corpora import QUARTER
from training.core.playing_order import first_pack_orders, unfold
from training.core.score_packs import ScorePack

PAC, HC, OTHER = 1, 2, 3
CADENCES = {"PAC": PAC, "HC": HC}  # all others (IAC, EC, DC, PC) are OTHER
UNKNOWN = -1
DEGREES = 21  # chord roots: the seven steps, each flat, natural or sharp


@dataclass(frozen=True)
class Labelled:
    """One score of b beats with its labels; -1 is unknown.

    written  the score
    phrase   (b,) 1 where a phrase ends
    cadence  (b,) 0 none, PAC, HC, OTHER
    tonic    (b,) pitch class of the local key above the tonic of the signature's major key
    minor    (b,) whether the local key is minor
    degree   (b,) step of the chord's root in the local key, 7 * (1 + alteration) + step
    features input of the tagger
    part     "train", "choose" or "report", by work
    unfolded whether the score is as played, with its repeats
    """

    id: str
    work: str
    written: Written
    phrase: NDArray[np.int64]
    cadence: NDArray[np.int64]
    tonic: NDArray[np.int64]
    minor: NDArray[np.int64]
    degree: NDArray[np.int64]
    features: BeatFeatures
    part: str
    unfolded: bool = False


def part_of(work: str, split: str) -> str:
    """Part of a work: one in five is "report", one in ten "choose", the others "train"; validation works "report"."""
    if split == "validation":
        return "report"
    at = int.from_bytes(hashlib.sha256(f"tagger {work}".encode()).digest()[:4], "big") % 10
    return "report" if at < 2 else "choose" if at == 2 else "train"


def read_labels(path: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of dcml-labels.tsv.xz by the id of their score."""
    out = defaultdict(list)
    with lzma.open(path, "rt", encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f, delimiter="\t"):
            out[row["score_id"]].append(row)
    return out


def beat_of(w: Written, onset: NDArray) -> NDArray[np.int64]:
    """(n,) the beat in which each onset (10,080 a quarter) lies."""
    tick = np.round(np.asarray(onset) * TICKS_PER_QUARTER / QUARTER).astype(int)
    bar = np.clip(np.searchsorted(w.bars.start, tick, side="right") - 1, 0, None)
    beat = w.bars.first[bar] + (tick - w.bars.start[bar] + w.bars.offset[bar]) // w.bars.beat[bar]
    return np.clip(beat, 0, count_beats(w) - 1)


def degree_of(numeral: str) -> int:
    """Scale step of a Roman numeral with its alteration; -1 for any other text.

    >>> degree_of("V"), degree_of("bII"), degree_of("#vii"), degree_of("Ger")
    (11, 1, 20, -1)
    """
    found = re.fullmatch(r"([#b]*)([IViv]+)", numeral)
    steps = ("i", "ii", "iii", "iv", "v", "vi", "vii")
    if not found or found.group(2).lower() not in steps:
        return UNKNOWN
    sign = int(np.clip(found.group(1).count("#") - found.group(1).count("b"), -1, 1))
    return 7 * (1 + sign) + steps.index(found.group(2).lower())


def label_beats(w: Written, rows: list[dict[str, str]]) -> dict[str, NDArray[np.int64]]:
    """phrase, cadence, tonic, minor and degree of every beat; a score without any cadence counts as not labelled."""
    beats = count_beats(w)
    out = {k: np.full(beats, UNKNOWN) for k in ("tonic", "minor", "degree")}
    at = beat_of(w, np.array([int(r["onset"]) for r in rows]))
    out["phrase"], out["cadence"] = np.zeros(beats, int), np.zeros(beats, int)
    found = {"phrase": False, "cadence": False}
    chords = []
    shift = np.array([key_shift(int(f)) for f in w.bars.fifths])
    beat_bar = np.repeat(shift, np.diff(np.append(w.bars.first, beats)))
    for row, beat in zip(rows, at, strict=True):
        kind, _, name = row["kind"].partition(":")
        if kind == "phrase_end":
            out["phrase"][beat], found["phrase"] = 1, True
        elif kind == "cadence":
            new = CADENCES.get(name, OTHER)
            old = int(out["cadence"][beat])
            out["cadence"][beat], found["cadence"] = (min(old, new) if old else new), True
        elif kind == "chord" and row["key_tonic"]:
            chords.append((beat, row))
    for k, (beat, row) in enumerate(chords):
        until = chords[k + 1][0] if k + 1 < len(chords) else beats
        stretch = slice(beat, max(until, beat + 1))
        out["tonic"][stretch] = (int(row["key_tonic"]) + beat_bar[stretch]) % 12
        out["minor"][stretch] = row["key_mode"] == "m"
        out["degree"][stretch] = degree_of(row["numeral"])
    for kind, any_found in found.items():
        if not any_found:
            out[kind][:] = UNKNOWN
    return out


def beats_in_order(w: Written, order: Sequence[int]) -> NDArray[np.int64]:
    """The beats of a written score in the order of its bars."""
    edge = np.append(w.bars.first, count_beats(w))
    return np.concatenate([np.arange(edge[bar], edge[bar + 1]) for bar in order])


def as_played(p: Labelled, order: Sequence[int]) -> Labelled:
    """A labelled score with its repeats and their labels unfolded."""
    w, beats = unfold(p.written, order), beats_in_order(p.written, order)
    labels = {k: getattr(p, k)[beats] for k in ("phrase", "cadence", "tonic", "minor", "degree")}
    return replace(p, written=w, features=beat_features(w), unfolded=True, **labels)


def read_labelled(data: Path, data2: Path, limit: int = 0) -> list[Labelled]:
    """All labelled scores; those of the training part with known repeats also as played."""
    pack, rows = ScorePack(data / "scores" / "scores-compact.npz"), read_labels(data2 / "dcml-labels.tsv.xz")
    orders = first_pack_orders(data, pack.bar_counts())
    labelled = [i for i, id in enumerate(pack.columns["id"]) if str(id) in rows]
    out = []
    for i in tqdm(labelled[:limit] if limit else labelled, unit="score", mininterval=5):
        item = pack.item(i, "scores", orders)
        made = label_beats(item.written, rows[item.id])
        part = part_of(item.work, item.split)
        out.append(Labelled(item.id, item.work, item.written, features=beat_features(item.written), part=part, **made))
        if part == "train" and item.order:
            out.append(as_played(out[-1], item.order))
    return out
