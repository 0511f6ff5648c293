"""Segments of ECP tokens for training: the reader of the pack that `training.xmvae.prepare` writes.

A piece of the pack is a run of whole beats, without BOS and EOS: (T, 8) tokens for a performance, (T, 4) for a score. A
segment is cut from it at beat starts: at most 256 notes and 512 steps, BOS and EOS included.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.models.xmvae.xmvae import collated
from engine.tokens.grid import MAX_NOTES, MAX_STEPS
from engine.tokens.tables import (
    ARTICULATIONS,
    BEAT_PERIOD,
    BOS,
    EOS,
    FAMILY,
    LOG2_BEAT_PERIODS,
    METRIC,
    NOTE,
    PITCH,
    POSITION,
    TIMINGS,
    VALUE_MEAN,
    VALUE_STD,
    VELOCITIES,
    VELOCITY,
    signed_log,
)  # fmt: skip

FORMAT = 1
PERFORMANCE, SCORE = "performance", "score"
ACCOMPANIMENT = 0.3  # weight of a song's piano part relative to a piece for piano solo
MIN_NOTES = 16  # minimum notes of a segment
_TEMPO_CLASSES, _VELOCITY_CLASSES = 4, 3  # augmentation: 2^(0.05 * +-4) in tempo, 4 * +-3 in velocity
_VALUES = np.stack([  # standardised X_pv of each class is looked up per column; see `values_of`
    np.pad(column, (1, 200 - len(column)))
    for column in (LOG2_BEAT_PERIODS, VELOCITIES / 127, signed_log(TIMINGS), ARTICULATIONS)
])  # fmt: skip


@dataclass(frozen=True)
class BeatRun:
    """A run of beats of one performance or score.

    tokens     (T, 8) or (T, 4) uint8; the first row is a Metric at position 0
    performer  "" for scores and where unknown
    """

    name: str
    work: str
    composer: str
    performer: str
    tokens: NDArray[np.uint8]


def cut(tokens: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows where a segment can start, (k,): beats that hold a note; and where the longest one from each ends, (k,)."""
    beat = np.flatnonzero((tokens[:, FAMILY] == METRIC) & (tokens[:, POSITION] == 1))
    note = np.concatenate([[0], np.cumsum(tokens[:, FAMILY] == NOTE)])
    edge = np.append(beat, len(tokens))
    sounding = note[edge[1:]] > note[edge[:-1]]
    end = np.minimum(
        np.searchsorted(note[edge], note[beat] + MAX_NOTES, side="right"),
        np.searchsorted(edge, beat + MAX_STEPS - 2, side="right"),
    )
    end = edge[end - 1]
    # no silent beats at the end
    last = np.maximum.accumulate(np.where(tokens[:, FAMILY] == NOTE, np.arange(len(tokens)), -1))
    end = np.where(end > beat, last[end - 1] + 1, end)
    fits = sounding & (end > beat) & (note[end] - note[beat] >= MIN_NOTES)
    return beat[fits], end[fits]


def enclose(rows: NDArray) -> NDArray[np.int64]:
    """A segment of rows: BOS, the rows, EOS."""
    out = np.zeros((len(rows) + 2, rows.shape[1]), np.int64)
    out[0, FAMILY], out[-1, FAMILY] = BOS, EOS
    out[1:-1] = rows
    return out


def augment(segment: NDArray, rng: np.random.Generator) -> NDArray[np.int64]:
    """Transpose by -6..5 semitones (not if a pitch would leave the piano), shift tempo and velocity."""
    out = segment.copy()
    note = out[:, FAMILY] == NOTE
    shift, pitch = int(rng.integers(-6, 6)), out[note, PITCH]
    if pitch.min() + shift >= 1 and pitch.max() + shift <= 88:
        out[note, PITCH] = pitch + shift
    if out.shape[1] > 4:
        played = out[:, BEAT_PERIOD] > 0
        tempo = int(rng.integers(-_TEMPO_CLASSES, _TEMPO_CLASSES + 1))
        force = int(rng.integers(-_VELOCITY_CLASSES, _VELOCITY_CLASSES + 1))
        out[played, BEAT_PERIOD] = np.clip(out[played, BEAT_PERIOD] + tempo, 1, len(LOG2_BEAT_PERIODS))
        out[played, VELOCITY] = np.clip(out[played, VELOCITY] + force, 1, len(VELOCITIES))
    return out


def values_of(tokens: NDArray) -> NDArray[np.float32]:
    """X_pv of performance tokens, (..., T, 8) -> (..., T, 4): standardised values of the classes, else zeros."""
    columns = np.asarray(tokens)[..., BEAT_PERIOD:]
    value = _VALUES[np.arange(4), columns]
    return np.where(columns > 0, (value - VALUE_MEAN) / VALUE_STD, 0.0).astype(np.float32)


def collate(segments: list[NDArray]) -> dict[str, Tensor]:
    """A batch, padded to its longest segment only.

    tokens  (B, T, 8) or (B, T, 4) int64, 0 in the padding
    values  (B, T, 4) float32, X_pv; only with performance columns
    beat    (B, T) int64: 0 for BOS, then counted from 1
    pad     (B, T) bool: True in the padding
    """
    batch = collated(segments)
    if batch["tokens"].shape[2] > 4:
        batch["values"] = torch.from_numpy(values_of(batch["tokens"].numpy()))
    return batch


class BeatCorpus:
    """The pieces of one split: `draw` for training, `segments` for measuring.

    kind      "performance" or "score"
    split     "train" or "validation"
    fraction  share of the compositions, a fixed choice; smaller shares are subsets of larger ones
    limit     maximum compositions (rehearsal), 0 for all
    """

    def __init__(self, path: str | Path, kind: str, split: str, fraction: float = 1.0, limit: int = 0):
        with np.load(path) as z:
            if int(z["format"]) != FORMAT:
                raise ValueError(f"{path} is format {int(z['format'])}, {FORMAT} is read here; run prepare_xmvae again")
            c = {k.removeprefix(f"{kind}_"): z[k] for k in z.files if k.startswith(f"{kind}_")}
        self.digest = hashlib.sha1(Path(path).read_bytes()).hexdigest()[:12]
        works = sorted(set(c["work"][c["split"] == split].tolist()))
        order = np.random.default_rng(3).permutation(len(works))
        kept = max(1, round(fraction * len(works)))
        kept = min(kept, limit) if limit else kept
        chosen = {works[i] for i in order[:kept]}
        self.pieces: list[BeatRun] = []
        songs = set(c["work"][c["source"] == "lieder"].tolist()) if "source" in c else set()
        for k, i in enumerate(c["run_item"]):
            if c["split"][i] == split and str(c["work"][i]) in chosen:
                rows = np.ascontiguousarray(c["tokens"][:, c["run_ptr"][k] : c["run_ptr"][k + 1]].T)
                name, work, composer, performer = (str(c[k][i]) for k in ("name", "work", "composer", "performer"))
                self.pieces.append(BeatRun(name, work, composer, performer, rows))
        self.starts = [cut(p.tokens) for p in self.pieces]
        usable = [i for i, (start, _) in enumerate(self.starts) if len(start)]
        self.works: dict[str, list[int]] = {}
        for i in usable:
            self.works.setdefault(self.pieces[i].work, []).append(i)
        # a composition's weight: the square root of its length, shared by its performances or editions
        names = list(self.works)
        length = np.array([max(len(self.pieces[i].tokens) for i in self.works[w]) for w in names], float)
        weight = np.sqrt(length) * np.where([w in songs for w in names], ACCOMPANIMENT, 1.0)
        self._names, self._weight = names, weight / weight.sum()

    def draw(self, rng: np.random.Generator, augmented: bool = True) -> NDArray[np.int64]:
        """A random segment that starts at a random beat, (T, 8) or (T, 4)."""
        mine = self.works[self._names[rng.choice(len(self._names), p=self._weight)]]
        share = np.array([len(self.starts[i][0]) for i in mine], float)
        i = mine[rng.choice(len(mine), p=share / share.sum())]
        start, end = self.starts[i]
        # the last beats of a piece give short segments: draw twice, take the longer
        first, second = rng.integers(len(start), size=2)
        k = first if end[first] - start[first] >= end[second] - start[second] else second
        segment = enclose(self.pieces[i].tokens[start[k] : end[k]])
        return augment(segment, rng) if augmented else segment

    def batch(self, rng: np.random.Generator, size: int, augmented: bool = True) -> dict[str, Tensor]:
        """`size` random segments as a batch, see `collate`."""
        return collate([self.draw(rng, augmented) for _ in range(size)])

    def segments(self) -> list[tuple[BeatRun, NDArray[np.int64]]]:
        """Every piece cut into consecutive segments, without augmentation and randomness."""
        out = []
        for piece, (start, end) in zip(self.pieces, self.starts, strict=True):
            at = 0
            while at < len(start):
                out.append((piece, enclose(piece.tokens[start[at] : end[at]])))
                at = int(np.searchsorted(start, end[at]))
        return out

    def batches(self, size: int, count: int = 0) -> list[dict[str, Tensor]]:
        """Fixed batches for validation: `count` segments (0: all), spread evenly over `segments`, by length."""
        every = [s for _, s in self.segments()]
        if count and count < len(every):
            every = [every[i] for i in np.linspace(0, len(every) - 1, count).astype(int)]
        every.sort(key=len)
        return [collate(every[i : i + size]) for i in range(0, len(every), size)]
