"""What does each slider move? `python -m training.eval_style --scores tests/data/ten_scores.npz`.

Plays ten scores with one axis at a time from -3 to 3 deviations, measures the nine descriptors of the result, and
prints Spearman's rank correlation of each axis with its own descriptor and the whole matrix of effects.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from engine.bundle import PianistBundle, open_pianist
from engine.models.features import Features, score_features
from engine.models.pianist import Reader, from_channels
from engine.models.style import AXES, descriptors
from engine.music.types import Expression
from training.pack import Pack

POSITIONS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)


def describe(features: Features, e: Expression) -> NDArray[np.float64]:
    """The nine descriptors of an expression, (9,)."""
    return descriptors(
        features.beat_index, features.chord_index, features.category[:, 0], np.log2(e.beat_period), e.velocity,
        e.timing_sec, e.articulation_log2, e.pedal, e.played,
    )  # fmt: skip


def sweep(bundle: PianistBundle, scores: list[Features], seed: int = 0) -> NDArray[np.float64]:
    """Descriptors (scores, axes, positions, 9) of every score with every axis at every position."""
    size = bundle.model.config.style_size
    out = np.zeros((len(scores), len(AXES), len(POSITIONS), len(AXES)))
    for s, features in enumerate(scores):
        reader = Reader(bundle.model, features)
        still = describe(features, from_channels(reader.play(np.zeros(size), seed, bundle.sampling)))
        for a in range(len(AXES)):
            for p, position in enumerate(POSITIONS):
                if position == 0.0:
                    out[s, a, p] = still
                    continue
                z = np.zeros(size)
                z[a] = position
                out[s, a, p] = describe(features, from_channels(reader.play(z, seed, bundle.sampling)))
    return out


def monotony(found: NDArray) -> NDArray[np.float64]:
    """Spearman of each axis with its own descriptor, mean over the scores where it can be measured, (9,)."""
    out = np.zeros(len(AXES))
    for a in range(len(AXES)):
        values = [spearmanr(POSITIONS, one[a, :, a]).statistic for one in found if np.isfinite(one[a, :, a]).all()]
        out[a] = float(np.mean(values)) if values else np.nan
    return out


def effects(found: NDArray, deviation: NDArray) -> NDArray[np.float64]:
    """Slope of descriptor d (columns, in deviations among pianists) per deviation of axis a (rows), (9, 9)."""
    x = np.array(POSITIONS)
    slope = np.einsum("p,sapd->sad", x, found) / (x**2).sum()
    return np.nanmean(slope, axis=0) / deviation


def read_scores(path: Path) -> list[Features]:
    """Features of the scores in a small pack."""
    pack = Pack(path)
    return [score_features(pack.score(k), int(pack.columns["composer"][k])) for k in range(len(pack))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/pianist-v1"))
    parser.add_argument("--scores", type=Path, default=Path("tests/data/ten_scores.npz"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    bundle = open_pianist(args.checkpoint)
    found = sweep(bundle, read_scores(args.scores))
    matrix = effects(found, np.array(bundle.config["axis_deviation"]))
    print(f"{'axis (row) moves ->':20s}" + "".join(f"{a.name:>13s}" for a in AXES) + "   Spearman with its own")
    for axis, row, rho in zip(AXES, matrix, monotony(found), strict=True):
        print(f"{axis.name:20s}" + "".join(f"{v:13.2f}" for v in row) + f"{rho:12.3f}")


if __name__ == "__main__":
    main()
