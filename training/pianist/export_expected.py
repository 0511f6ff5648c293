"""Publish the expected performance:
`python -m training.pianist.export_expected --table T --runs runs/expected --out checkpoints/expected-v2`

Takes the networks trained on all training works (fold -1), fits the amplitude, and writes config.json and
model.safetensors in half precision. Prints the cross-validated correlation of the amplitude, on five folds of works.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from engine.checkpoints.bundle import FORMAT_VERSION, weights_digest
from engine.models.expected.nets import TempoShape, TouchShape
from engine.models.expected.performance import LEVELS, MOVES, Amplitude, features_digest, summary
from training.pianist.expected_data import FOLDS, ExpectedTable, PieceReadings

PENALTY = 10.0  # ridge penalty, chosen by five folds of training works


def targets(p: PieceReadings) -> NDArray[np.float64]:
    """(5,): log2 deviation of tempo, velocity and articulation, mean velocity, mean articulation, mean of players."""
    r = p.reading("xml")
    with np.errstate(all="ignore"):
        moves = [np.log2(np.nanstd(y, -1)).mean() for y in (r.curves, r.y[0], r.y[1])]
        levels = [np.nanmean(y, -1).mean() for y in (r.y[0], r.y[1])]
    return np.array(moves + levels)


def fit(x: NDArray, y: NDArray, penalty: float = PENALTY) -> NDArray[np.float64]:
    """Ridge with a free constant, (5, F + 1)."""
    mx, my = x.mean(0), y.mean(0)
    w = np.linalg.solve((x - mx).T @ (x - mx) + penalty * np.eye(x.shape[1]), (x - mx).T @ (y - my)).T
    return np.concatenate([w, (my - w @ mx)[:, None]], 1)


def usable(table: ExpectedTable) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """(p, G) mean features, (p, 5) targets and works of the training pieces with all targets known, one row for each
    reading of a piece: the amplitude does not depend on the reading.
    """
    rows = [(p, r) for p in table.pieces if p.split == "train" for r in p.readings.values()]
    x = np.array([summary(r.bx) for _, r in rows])
    of_piece = {p.folder: targets(p) for p, _ in rows}
    y = np.array([of_piece[p.folder] for p, _ in rows])
    ok = np.isfinite(y).all(1)
    return x[ok], y[ok], [p.work for (p, _), k in zip(rows, ok, strict=True) if k]


def amplitude(table: ExpectedTable) -> Amplitude:
    """The amplitude of all training pieces; prints its cross-validated correlation."""
    x, y, works = usable(table)
    for penalty in (3.0, 10.0, 30.0, 100.0):
        guess = np.zeros_like(y)
        for fold in range(FOLDS):
            held = np.array([w in table.held_out(fold) for w in works])
            w = fit(x[~held], y[~held], penalty)
            guess[held] = x[held] @ w[:, :-1].T + w[:, -1]
        r = [np.corrcoef(guess[:, k], y[:, k])[0, 1] for k in range(y.shape[1])]
        rmse = np.sqrt(((guess - y) ** 2).mean(0))
        cells = ", ".join(f"{n} r {a:.2f} rmse {b:.2f}" for n, a, b in zip((*MOVES, *LEVELS), r, rmse, strict=True))
        print(f"penalty {penalty:g}: {cells}")
    return Amplitude(fit(x, y), np.quantile(y, 0.01, axis=0), np.quantile(y, 0.99, axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    table = ExpectedTable(args.table)
    found = amplitude(table)
    tensors: dict[str, torch.Tensor] = {}
    counts = {}
    for kind in ("tempo", "touch"):
        files = sorted(args.runs.glob(f"{kind}-fold-1-seed*.pt"))
        counts[kind] = len(files)
        for i, path in enumerate(files):
            state = torch.load(path, weights_only=True)
            tensors |= {f"{kind}.{i}.{k}": v.half().contiguous() for k, v in state.items()}
    tempo_w, touch_w = (np.load(args.runs / f"{k}-linear.npz") for k in ("tempo", "touch"))
    f, g = len(table.names), len(table.beat_names)
    tensors["linear_tempo.beats.weight"] = torch.from_numpy(
        tempo_w["beats"].reshape(5, g, 1).transpose(2, 1, 0).astype(np.float32)
    ).contiguous()
    notes, beats = touch_w["notes"][: 3 * f], touch_w["notes"][3 * f :]
    tensors["linear_touch.notes.weight"] = torch.from_numpy(
        notes.reshape(3, f, 2).transpose(2, 1, 0).astype(np.float32)
    ).contiguous()
    tensors["linear_touch.beats.weight"] = torch.from_numpy(beats.T.astype(np.float32)).contiguous()
    for name, scale in (("beat_scale", table.beat_scale), ("note_scale", table.scale)):
        tensors |= {f"{name}.{k}": torch.from_numpy(getattr(scale, k)).float() for k in ("mean", "deviation")}
    tensors |= {
        f"amplitude.{k}": torch.from_numpy(getattr(found, k)).float().contiguous() for k in ("weight", "low", "high")
    }
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, args.out / "model.safetensors")
    config = {
        "format_version": FORMAT_VERSION, "kind": "expected performance", "networks": counts,
        "tempo": TempoShape(len(table.beat_names)).to_json(),
        "touch": TouchShape(len(table.names), len(table.beat_names)).to_json(),
        "features": features_digest(list(table.names), list(table.beat_names)),
        "licence": "CC BY-NC-SA 4.0", "data": "(n)ASAP, training works",
        "weights_sha256": weights_digest(args.out / "model.safetensors"),
    }  # fmt: skip
    (args.out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    size = (args.out / "model.safetensors").stat().st_size / 2**20
    print(f"{args.out}: {counts['tempo']} tempo and {counts['touch']} touch networks, {size:.1f} MiB")


if __name__ == "__main__":
    main()
