"""Reading the table of beats and notes, standardising it, and drawing batches from it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.models.expected.performance import Scale

FOLDS = 5
READING_SHARE = {"xml": 0.5, "page": 0.25, "midi": 0.25}  # probability of a reading, if a piece has it
TARGETS = ("velocity", "articulation")


def consensus(curves: NDArray, axis: int = 0) -> NDArray:
    """Mean over performances, NaN without a known value."""
    count = np.isfinite(curves).sum(axis)
    return np.where(count > 0, np.nansum(curves, axis) / np.maximum(count, 1), np.nan)


def standard(y: NDArray) -> NDArray:
    """(2, k, n): mean 0 and deviation 1 over the notes of each performance; a clip under 8 costs correlation."""
    mean, deviation = np.nanmean(y, -1, keepdims=True), np.nanstd(y, -1, keepdims=True)
    return np.clip((y - mean) / np.maximum(deviation, 1e-3), -8, 8)


@dataclass
class Reading:
    """One reading of a piece; x, bx standardised once `ExpectedTable` is made.

    x (n, F), bx (b, G), beat (n,), line (n,), curves (k, b) octaves, y (2, k, n) velocity and octaves, z standardised y
    """

    x: NDArray
    bx: NDArray
    beat: NDArray
    line: NDArray
    curves: NDArray
    y: NDArray
    z: NDArray = field(init=False)

    def __post_init__(self) -> None:
        with np.errstate(all="ignore"):
            self.z = standard(self.y)


@dataclass
class PieceReadings:
    """A piece: its work and its readings by name."""

    folder: str
    work: str
    split: str
    set_name: str | None
    readings: dict[str, Reading]

    def reading(self, name: str) -> Reading:
        """The named reading, or the next best."""
        return next(self.readings[k] for k in (name, "xml", "midi") if k in self.readings)


class ExpectedTable:
    """All pieces of `expected_table`, standardised over the training pieces' first reading."""

    def __init__(self, path: Path):
        with open(path, "rb") as f:
            raw = pickle.load(f)  # a file of our own
        first = next(iter(raw[0]["readings"].values()))
        self.names, self.beat_names = np.array(first["names"]), np.array(first["beat_names"])
        keys = ("x", "bx", "beat", "line", "curves", "y")
        self.pieces = [
            PieceReadings(
                p["folder"], p["work"], p["split"], p["set"],
                {k: Reading(**{key: r[key] for key in keys}) for k, r in p["readings"].items()},
            )
            for p in raw
        ]  # fmt: skip
        train = [p.reading("xml") for p in self.pieces if p.split == "train"]
        self.scale, self.beat_scale = (
            Scale(a.mean(0), a.std(0) + floor)
            for a, floor in (
                (np.concatenate([r.x for r in train]).astype(np.float32), 1e-2),
                (np.concatenate([r.bx for r in train]).astype(np.float32), 1e-2),
            )
        )
        for p in self.pieces:
            for r in p.readings.values():
                r.x, r.bx = self.scale.apply(r.x), self.beat_scale.apply(r.bx)
        works = np.array(sorted({p.work for p in self.pieces if p.split == "train"}))
        np.random.default_rng(0).shuffle(works)
        self.works = works

    def held_out(self, fold: int) -> set[str]:
        """The training works of a fold; none for fold -1."""
        return set(self.works[fold::FOLDS]) if fold >= 0 else set()

    def split(self, fold: int) -> tuple[list[PieceReadings], list[PieceReadings]]:
        """Training pieces, and pieces of the held-out works."""
        held = self.held_out(fold)
        train = [p for p in self.pieces if p.split == "train"]
        return [p for p in train if p.work not in held], [p for p in train if p.work in held]

    @property
    def validation(self) -> list[PieceReadings]:
        return [p for p in self.pieces if p.split == "validation" and p.set_name is not None]


def drawn_reading(piece: PieceReadings, rng: np.random.Generator) -> Reading:
    """A reading by READING_SHARE."""
    names = list(piece.readings)
    share = np.array([READING_SHARE[k] for k in names])
    return piece.readings[names[rng.choice(len(names), p=share / share.sum())]]


def _groups(names: NDArray) -> NDArray:
    return np.array([str(n).split("_")[0] for n in names])


def tempo_batches(
    pieces: Sequence[PieceReadings], names: NDArray, rng: np.random.Generator, length: int = 512, size: int = 8
) -> Iterator[dict[str, Tensor]]:
    """One epoch: each piece once for every `length` beats; y has mean 0 and deviation 1 in a crop."""
    items = [p for p in pieces for _ in range(max(1, round(len(p.reading("midi").bx) / length)))]
    rng.shuffle(items)  # type: ignore[arg-type]
    group, height = _groups(names), np.flatnonzero(np.isin(names, ["pitch_top", "pitch_bottom"]))
    for i in range(0, len(items), size):
        x, y, known = (torch.zeros(size, length, *k) for k in ((len(names),), (), ()))
        for k, piece in enumerate(items[i : i + size]):
            r = drawn_reading(piece, rng)
            n, people = len(r.bx), len(r.curves)
            m = min(n, int(rng.integers(length // 2, length + 1)))
            at = int(rng.integers(0, n - m + 1))
            some = r.curves
            if people > 1 and rng.random() < 0.5:  # the mean over some of the pianists
                some = r.curves[rng.permutation(people)[: rng.integers(1, people)]]
            t = consensus(some[:, at : at + m])
            a = r.bx[at : at + m].copy()
            a[:, height] += rng.normal(0, 0.3)  # transposition
            for g in ("mark", "page", "form", "border"):
                a[:, group == g] *= rng.random() > 0.12
            a = a * (rng.random(len(names)) > 0.05) + rng.normal(0, 0.1, a.shape)
            ok = np.isfinite(t)
            if ok.sum() > 16:
                x[k, :m], known[k, :m] = torch.from_numpy(a), torch.from_numpy(ok)
                y[k, :m] = torch.from_numpy(np.where(ok, (t - np.nanmean(t)) / (np.nanstd(t) + 0.03), 0))
        yield {"x": x, "y": y[:, None], "known": known[:, None]}


def crop(r: Reading, at: int, m: int) -> dict[str, NDArray]:
    """Notes at : at + m with their beats, and their order by melodic line."""
    s = slice(at, at + m)
    low, high = r.beat[s].min(), r.beat[s].max()
    order = np.lexsort((np.arange(m), r.line[s]))
    return {"x": r.x[s], "beats": r.bx[low : high + 1], "beat": r.beat[s] - low, "order": order}


def collate(crops: list[dict[str, NDArray]]) -> dict[str, Tensor]:
    """Crops as one padded batch."""
    k, n, b = len(crops), max(len(c["x"]) for c in crops), max(len(c["beats"]) for c in crops)
    out = {
        "x": torch.zeros(k, n, crops[0]["x"].shape[1]), "beats": torch.zeros(k, b, crops[0]["beats"].shape[1]),
        "beat": torch.zeros(k, n, dtype=torch.long), "order": torch.arange(n).repeat(k, 1),
        "valid": torch.zeros(k, n), "y": torch.zeros(k, 2, n), "known": torch.zeros(k, 2, n),
    }  # fmt: skip
    for i, c in enumerate(crops):
        m = len(c["x"])
        for key in ("x", "beat", "order"):
            out[key][i, :m] = torch.from_numpy(np.ascontiguousarray(c[key]))
        out["beats"][i, : len(c["beats"])] = torch.from_numpy(c["beats"])
        out["valid"][i, :m] = 1
        if "y" in c:
            ok = np.isfinite(c["y"])
            out["y"][i, :, :m] = torch.from_numpy(np.where(ok, c["y"], 0).astype(np.float32))
            out["known"][i, :, :m] = torch.from_numpy(ok.astype(np.float32))
    return out


def touch_batches(
    pieces: Sequence[PieceReadings], names: NDArray, rng: np.random.Generator, length: int = 2048, size: int = 2
) -> Iterator[dict[str, Tensor]]:
    """One epoch of crops of notes: each piece once for every `length` notes."""
    items = [p for p in pieces for _ in range(max(1, round(len(p.reading("midi").x) / length)))]
    rng.shuffle(items)  # type: ignore[arg-type]
    group = _groups(names)
    for i in range(0, len(items), size):
        crops = []
        for piece in items[i : i + size]:
            r = drawn_reading(piece, rng)
            n, people = len(r.x), r.z.shape[1]
            m = min(n, int(rng.integers(length // 2, length + 1)))
            at = int(rng.integers(0, n - m + 1))
            some = r.z[:, :, at : at + m]
            if people > 1 and rng.random() < 0.5:
                some = some[:, rng.permutation(people)[: rng.integers(1, people)]]
            c = crop(r, at, m) | {"y": consensus(some, 1)}
            x = c["x"] + rng.standard_normal(c["x"].shape, np.float32) * 0.1
            x[:, names == "pitch_height"] += rng.normal(0, 0.3)
            for g in ("mark", "loud", "print", "voice", "run"):
                x[:, group == g] *= rng.random() > 0.1
            beats = c["beats"] + rng.standard_normal(c["beats"].shape, np.float32) * 0.1
            c["x"] = (x * (rng.random(x.shape[1]) > 0.05)).astype(np.float32)
            c["beats"] = (beats * (rng.random(beats.shape[1]) > 0.1)).astype(np.float32)
            crops.append(c)
        yield collate(crops)
