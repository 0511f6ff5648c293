"""The expected performance of a score: mean of an ensemble of small networks, in musical units."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.models.expected.beats import BeatGrid, as_table, beat_features, beat_grid
from engine.models.expected.notes import line_of, note_features
from engine.music.types import Marks, Measures, Score

MOVES = ("tempo", "velocity", "articulation")
LEVELS = ("mean_velocity", "mean_articulation")


@dataclass(frozen=True)
class Scale:
    """Standardises features: (x - mean) / deviation, clipped at 4."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    def apply(self, x: NDArray) -> NDArray[np.float32]:
        return np.clip((np.asarray(x, np.float32) - self.mean) / self.deviation, -4, 4).astype(np.float32)


@dataclass(frozen=True)
class Amplitude:
    """Linear model of an individual's deviation and level in a piece, from its mean features.

    weight (5, F + 1): rows log2 deviation of MOVES, then LEVELS; the last column is the constant
    low, high (5,) the range of the training works, to which a prediction is kept
    """

    weight: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def of(self, beats: NDArray) -> NDArray[np.float64]:
        """(5,) from standardised beat features (b, G)."""
        return np.clip(self.weight @ np.append(summary(beats), 1.0), self.low, self.high)


def summary(beats: NDArray) -> NDArray[np.float64]:
    """Input of Amplitude: mean of each beat feature of the piece, (G,)."""
    return np.asarray(beats, np.float64).mean(0)


@dataclass(frozen=True)
class ExpectedValues:
    """The average human performance of a score, and the deviation of individuals.

    grid          the score's beats
    tempo         (b,) octaves of each beat's length over its written length, mean 0 (positive is slower)
    velocity      (n,) of each note, mean 0
    articulation  (n,) octaves of held over written length, mean 0
    deviation     (3,) of one player: octaves, velocity, octaves
    level         (2,) mean velocity and mean articulation
    summary       (G,) mean of the standardised beat features
    """

    grid: BeatGrid
    tempo: NDArray[np.float64]
    velocity: NDArray[np.float64]
    articulation: NDArray[np.float64]
    deviation: NDArray[np.float64]
    level: NDArray[np.float64]
    summary: NDArray[np.float64]


class ExpectedPerformance:
    """Ensembles of tempo and touch networks with their scales; stateless, so one instance serves all threads."""

    def __init__(
        self, tempo: Sequence[nn.Module], touch: Sequence[nn.Module], beat_scale: Scale, note_scale: Scale,
        amplitude: Amplitude,
    ):  # fmt: skip
        self.tempo, self.touch = [m.eval() for m in tempo], [m.eval() for m in touch]
        self.beat_scale, self.note_scale, self.amplitude = beat_scale, note_scale, amplitude

    @torch.inference_mode()
    def of(self, score: Score) -> ExpectedValues:
        """The expected performance of a score."""
        grid = beat_grid(score)
        beats = self.beat_scale.apply(as_table(beat_features(score, grid))[1])
        notes = self.note_scale.apply(as_table(note_features(score, grid))[1])
        b = torch.from_numpy(beats)[None]
        curve = _mean([m(b, torch.ones(1, len(grid)))[0].numpy()[None] for m in self.tempo])[0]
        line = line_of(score)
        order = torch.from_numpy(np.lexsort((np.arange(len(score)), line)))[None]
        at = torch.from_numpy(grid.beat_of(score.onset_quarter))[None]
        x, valid = torch.from_numpy(notes)[None], torch.ones(1, len(score))
        velocity, articulation = _mean([m(x, b, at, order, valid)[0].numpy() for m in self.touch])
        found = self.amplitude.of(beats)
        deviation = np.exp2(found[: len(MOVES)])
        return ExpectedValues(
            grid, curve * deviation[0], velocity * deviation[1], articulation * deviation[2], deviation,
            found[len(MOVES) :], summary(beats),
        )  # fmt: skip


def _mean(curves: Sequence[NDArray]) -> NDArray[np.float64]:
    """Mean of standardised curves (C, n), standardised again."""
    return _unit(np.mean([_unit(np.asarray(c, np.float64)) for c in curves], axis=0))


def _unit(x: NDArray) -> NDArray[np.float64]:
    deviation = x.std(-1, keepdims=True)
    return (x - x.mean(-1, keepdims=True)) / np.maximum(deviation, 1e-6)


def tensors_of(prefix: str, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """State dicts of the networks "prefix.0", "prefix.1" ... of a file of weights."""
    out: list[dict[str, Tensor]] = []
    while found := {
        k.split(".", 2)[2]: v for k, v in tensors.items() if k.startswith(f"{prefix}.{len(out)}.")
    }:  # fmt: skip
        out.append(found)
    return out


def features_digest(names: Sequence[str], beat_names: Sequence[str]) -> str:
    """Hash of the feature names in order, hex: it identifies compatible weights."""
    return hashlib.sha256("\n".join([*map(str, names), "", *map(str, beat_names)]).encode()).hexdigest()[:16]


@cache
def known_features() -> str:
    """The digest of the features that this program makes."""
    zero = np.zeros(2)
    score = Score(
        np.arange(2.0), np.ones(2), np.array([60, 62]), zero, zero, zero, zero, Marks.none(2),
        Measures(np.zeros(1), np.full(1, 4.0), np.zeros(1), np.full(1, 4), np.full(1, 4), np.zeros(1), np.ones(1)),
    )  # fmt: skip
    grid = beat_grid(score)
    return features_digest(as_table(note_features(score, grid))[0], as_table(beat_features(score, grid))[0])
