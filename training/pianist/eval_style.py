"""Effects of the style sliders: `python -m training.pianist.eval_style --scores tests/data/ten_scores.npz`.

Plays ten scores with one axis at a time from -3 to 3 deviations, measures the nine descriptors of the result, and
prints Spearman's rank correlation of each axis with its own descriptor, the matrix of effects, and the change of its
own descriptor at each end, in deviations.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from engine.engine import Engine
from engine.models.pianist.features import COMPOSERS, Features, score_features
from engine.models.pianist.pianist import Pianist, from_channels
from engine.models.pianist.sampling import EncodedScore, FlowSampling
from engine.models.pianist.style import AXES, descriptors
from engine.music.types import Expression, Score
from engine.requests import PerformRequest
from training.pianist.pack import Pack

POSITIONS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)


def describe(features: Features, e: Expression) -> NDArray[np.float64]:
    """The nine descriptors of an expression, (9,)."""
    return descriptors(
        features.beat_index, features.chord_index, features.category[:, 0], np.log2(e.beat_period), e.velocity,
        e.timing_sec, e.articulation_log2, e.pedal, e.played,
    )  # fmt: skip


def sweep(
    model: Pianist,
    sampling: FlowSampling,
    sliders: NDArray,
    scores: list[Features],
    positions: Sequence[float] = POSITIONS,
    bases: Sequence[NDArray | None] = (),
) -> NDArray[np.float64]:
    """Descriptors (scores, axes, positions, 9) of every score with every slider at every position.

    bases  expected channel values (n, 3) of each score, for a model of the residual
    """
    size = model.config.style_size
    out = np.zeros((len(scores), len(AXES), len(positions), len(AXES)))
    for s, features in enumerate(scores):
        reader = EncodedScore(model, features, bases[s] if bases else None)
        for a in range(len(AXES)):
            for p, position in enumerate(positions):
                if position == 0.0 and a > 0:
                    out[s, a, p] = out[s, 0, p]  # the default style, already played
                    continue
                z = np.zeros(size)
                z[: len(AXES)] = position * sliders[a]
                out[s, a, p] = describe(features, from_channels(reader.play(z, 0, sampling)))
    return out


def sweep_program(engine: Engine, scores: list[Score], positions: Sequence[float] = POSITIONS) -> NDArray[np.float64]:
    """As `sweep`, for performances by the product: the flow around the expected performance."""
    out = np.zeros((len(scores), len(AXES), len(positions), len(AXES)))
    for s, score in enumerate(scores):
        features = score_features(score)
        for a in range(len(AXES)):
            for p, position in enumerate(positions):
                if position == 0.0 and a > 0:
                    out[s, a, p] = out[s, 0, p]
                    continue
                z = np.zeros(len(AXES))
                z[a] = position
                played = engine.perform(PerformRequest(score, engine.style(tuple(z))))
                out[s, a, p] = describe(features, engine.expression(score, played))
    return out


def monotony(found: NDArray, positions: Sequence[float] = POSITIONS) -> NDArray[np.float64]:
    """Spearman correlation of each axis with its own descriptor, mean over the measurable scores, (9,)."""
    out = np.zeros(len(AXES))
    for a in range(len(AXES)):
        values = [spearmanr(positions, one[a, :, a]).statistic for one in found if np.isfinite(one[a, :, a]).all()]
        out[a] = float(np.mean(values)) if values else np.nan
    return out


def effects(found: NDArray, deviation: NDArray, positions: Sequence[float] = POSITIONS) -> NDArray[np.float64]:
    """Slope of descriptor d (columns, in deviations among pianists) per deviation of slider a (rows), (9, 9)."""
    x = np.array(positions)
    slope = np.einsum("p,sapd->sad", x, found) / (x**2).sum()
    return np.nanmean(slope, axis=0) / deviation


def decoupled(effect: NDArray) -> NDArray[np.float64]:
    """Decoupled sliders: B with B @ effect diagonal, rows scaled to norm 1, (9, 9).

    Small singular values are damped, so that a weak axis does not get an extreme row.
    """
    u, s, vt = np.linalg.svd(effect)
    inverse = vt.T @ np.diag(s / (s**2 + 0.15**2)) @ u.T
    rows = np.diag(np.diag(effect)) @ inverse
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def read_scores(path: Path) -> list[Features]:
    """Features of the scores in a small pack."""
    pack = Pack(path)
    return [score_features(pack.score(k), int(pack.columns["composer"][k])) for k in range(len(pack))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=Path, help="models to use instead of the repository's")
    parser.add_argument("--scores", type=Path, default=Path("tests/data/ten_scores.npz"))
    parser.add_argument("--limit", type=int, default=0, help="play only this many scores")
    args = parser.parse_args()
    torch.set_num_threads(1)
    engine, pack = Engine.load(args.checkpoints), Pack(args.scores)
    scores = [
        replace(pack.score(k), composer=COMPOSERS[int(pack.columns["composer"][k])])
        for k in range(len(pack))[: args.limit or None]
    ]
    found = sweep_program(engine, scores)
    deviation = np.array(engine.pianist.config["axis_deviation"])
    matrix = effects(found, deviation)
    print(
        f"{'axis (row) moves ->':20s}"
        + "".join(f"{a.name:>13s}" for a in AXES)
        + "   Spearman with its own   -3     +3"
    )
    for a, (axis, row, rho) in enumerate(zip(AXES, matrix, monotony(found), strict=True)):
        ends = [np.nanmean(found[:, a, k, a] - found[:, a, 3, a]) / deviation[a] for k in (0, -1)]
        print(f"{axis.name:20s}" + "".join(f"{v:13.2f}" for v in row) + f"{rho:12.3f}{ends[0]:18.2f}{ends[1]:7.2f}")


if __name__ == "__main__":
    main()
