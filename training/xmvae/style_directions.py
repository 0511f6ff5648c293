"""Directions of XMVAE's z_p for sliders: principal components of the styles of performances, each named by the
descriptor that it changes most.

`python -m training.xmvae.style_directions --run runs/xmvae --pack data/xmvae-v2.npz`
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.models.xmvae.network import XMVAE
from engine.models.xmvae.xmvae import render_tokens, style_of
from training.xmvae.passages import DESCRIPTORS, describe
from training.xmvae.segments import PERFORMANCE, BeatCorpus, values_of
from training.xmvae.train_prior import load_xmvae

NAMES = dict(zip(DESCRIPTORS, ("Tempo", "Loudness", "Contrast", "Articulation"), strict=True))
STYLES, PLAYED = 400, 16  # segments whose styles are encoded; segments performed to measure a direction
STEP = 2.0  # standard deviations, in both directions
LEAST = 0.1  # minimum effect: deviations of the descriptor per deviation of the direction


@dataclass(frozen=True)
class Direction:
    """One direction of z_p.

    name    descriptor with the largest effect
    vector  (Z,) one deviation between performances
    effect  descriptor -> its change for one deviation, in deviations between performances
    """

    name: str
    vector: NDArray[np.float64]
    effect: dict[str, float]

    def to_json(self) -> dict:
        """For the config of a checkpoint."""
        return {
            "name": self.name, "vector": self.vector.round(5).tolist(),
            "effect": {k: round(v, 3) for k, v in self.effect.items()},
        }  # fmt: skip


def components(styles: NDArray, count: int) -> NDArray[np.float64]:
    """(count, Z) principal components of styles (n, Z), each scaled to its standard deviation."""
    _, scale, rows = np.linalg.svd(styles - styles.mean(0), full_matrices=False)
    return (scale[:count, None] / np.sqrt(len(styles) - 1)) * rows[:count]


def named(vectors: NDArray, effects: NDArray) -> list[Direction]:
    """Directions with distinct names, the largest effects first; signs such that each raises its descriptor.

    vectors  (k, Z)
    effects  (k, 4) change of each of DESCRIPTORS for one deviation of a direction

    >>> [d.name for d in named(np.eye(3), np.array([[0.2, 0.9, 0, 0], [0.1, -0.5, 0, 0.3], [0, 0, 0.02, 0]]))]
    ['Loudness', 'Articulation']
    """
    left, out = np.abs(effects), []
    while left.size and left.max() >= LEAST:
        k, column = np.unravel_index(int(np.argmax(left)), left.shape)
        sign = np.sign(effects[k, column])
        effect = dict(zip(DESCRIPTORS, (sign * effects[k]).tolist(), strict=True))
        out.append(Direction(NAMES[DESCRIPTORS[column]], sign * vectors[k], effect))
        left[k], left[:, column] = 0, 0
    return out


def measured(model: XMVAE, segments: Sequence[NDArray], vectors: NDArray, deviation: NDArray) -> NDArray[np.float64]:
    """(k, 4) effects of directions (k, Z), measured on segments performed with plus and minus STEP of each."""
    noise = np.random.default_rng(0)
    drawn = [noise.standard_normal((len(s), vectors.shape[1])) for s in segments]

    def played(shift: NDArray) -> NDArray[np.float64]:
        rows = render_tokens(model, segments, z_p=[z + shift for z in drawn], batch=len(segments))
        return np.array([describe(row) for row in rows])

    return np.array([np.nanmean(played(STEP * v) - played(-STEP * v), 0) / (2 * STEP * deviation) for v in vectors])


def directions(model: XMVAE, corpus: BeatCorpus, count: int = len(DESCRIPTORS)) -> list[Direction]:
    """Directions from the performances of a corpus."""
    every = [segment for _, segment in corpus.segments()]
    chosen = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, STYLES).astype(int))]
    styles = np.array([style_of(model, s, values_of(s)) for s in chosen])
    deviation = np.nanstd([describe(s) for s in chosen], axis=0)
    vectors = components(styles, count)
    tried = [chosen[i] for i in np.unique(np.linspace(0, len(chosen) - 1, PLAYED).astype(int))]
    return named(vectors, measured(model, tried, vectors, np.maximum(deviation, 1e-6)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/xmvae"))
    parser.add_argument("--pack", type=Path, default=Path("data/xmvae-v2.npz"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    for direction in directions(load_xmvae(args.run), BeatCorpus(args.pack, PERFORMANCE, "train")):
        print(direction.name, {k: round(v, 2) for k, v in direction.effect.items()})


if __name__ == "__main__":
    main()
