"""Train the networks of the expected performance; each takes minutes on one core.

`python -m training.pianist.train_expected tempo --table data/expected-v2.pkl --out runs/expected --fold 0 --seed 0`
`... touch ...`, `... report --table T --out runs/expected`; --fold -1 trains on all training works.
Each run writes KIND-foldF-seedS.pt (weights) and .npz (its predictions on held-out and validation works); a run with
existing files is skipped, so an interrupted series resumes.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.models.expected.nets import TempoNet, TempoShape, TouchNet, TouchShape
from training.pianist.expected_data import (
    TARGETS,
    ExpectedTable,
    PieceReadings,
    Reading,
    collate,
    consensus,
    crop,
    tempo_batches,
    touch_batches,
)

RATE, DECAY = 2e-3, 0.05
EPOCHS = {"tempo": 12, "touch": 8}


def loss_of(out: Tensor, y: Tensor, known: Tensor, centred: bool) -> Tensor:
    """Huber plus 0.3 (1 - r), mean over crops; out, y, known (B, C, n). `centred` removes the means first."""
    n = known.sum(-1).clamp(min=1)
    a, b = ((v - ((v * known).sum(-1) / n)[..., None]) * known for v in (out, y))
    error = F.huber_loss(a, b, reduction="none") if centred else F.huber_loss(out, y, reduction="none") * known
    r = (a * b).sum(-1) / ((a * a).sum(-1) * (b * b).sum(-1)).clamp(min=1e-6).sqrt()
    each = error.sum(-1) / n + 0.3 * (1 - r)
    seen = known.sum(-1) > 0
    return torch.where(seen, each, torch.zeros_like(each)).sum() / seen.sum().clamp(min=1)


def predict(model: nn.Module, r: Reading) -> NDArray[np.float32]:
    """(1, b) or (2, n) z-scores of one reading."""
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        if isinstance(model, TempoNet):
            return model(torch.from_numpy(r.bx)[None], torch.ones(1, len(r.bx))).float().numpy()
        b = collate([crop(r, 0, len(r.x))])
        return model(b["x"], b["beats"], b["beat"], b["order"], b["valid"])[0].numpy()


def fit(kind: str, table: ExpectedTable, fold: int, seed: int, epochs: int) -> nn.Module:
    """One network, its weights averaged over the last steps."""
    torch.manual_seed(seed)
    rng, (learnt, _) = np.random.default_rng(seed), table.split(fold)
    if kind == "tempo":
        model: nn.Module = TempoNet(TempoShape(len(table.beat_names)))
        draw, names = tempo_batches, table.beat_names
    else:
        model = TouchNet(TouchShape(len(table.names), len(table.beat_names)))
        draw, names = touch_batches, table.names
    lengths = [len(p.reading("midi").bx) / 512 if kind == "tempo" else len(p.reading("midi").x) / 2048 for p in learnt]
    total = epochs * -(-sum(max(1, round(v)) for v in lengths) // (8 if kind == "tempo" else 2))
    average, step, began = copy.deepcopy(model), 0, time.time()
    matrices, vectors = ([p for p in model.parameters() if (p.ndim > 1) == m] for m in (True, False))
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}], lr=RATE
    )
    for epoch in range(epochs):
        model.train()
        for b in draw(learnt, names, rng):
            for g in optimizer.param_groups:
                g["lr"] = RATE * min(1, (step + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * min(step / total, 1)))
            with torch.autocast("cpu", torch.bfloat16):
                if kind == "tempo":
                    out = model(b["x"], b["known"][:, 0])[:, None]
                else:
                    out = model(b["x"], b["beats"], b["beat"], b["order"], b["valid"])
            loss = loss_of(out.float(), b["y"], b["known"], centred=kind == "tempo")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            with torch.no_grad():
                for p, q in zip(average.parameters(), model.parameters(), strict=True):
                    p.lerp_(q, 0.02 if step > 100 else 0.2)
        print(f"{kind} fold {fold} seed {seed}: epoch {epoch + 1} of {epochs}, loss {loss.item():.3f}, "
              f"{(time.time() - began) / 60:.1f} min", flush=True)  # fmt: skip
    return average


def pearson(a: NDArray, b: NDArray) -> float:
    ok = np.isfinite(a) & np.isfinite(b)
    a, b = a[ok], b[ok]
    return float(np.corrcoef(a, b)[0, 1]) if len(a) >= 20 and min(a.std(), b.std()) > 1e-9 else np.nan


def agreement(curve: NDArray, people: NDArray) -> float:
    """Mean r of a curve with single human performances; NaN without any."""
    return float(np.nanmean([pearson(curve, c) for c in people])) if len(people) else float("nan")


def truth(kind: str, r: Reading) -> list[NDArray]:
    return [r.curves] if kind == "tempo" else [r.y[0], r.y[1]]


def _key(piece: PieceReadings, reading: str) -> str:
    return f"{piece.folder.replace('/', '|')}@{reading}"


def report(kind: str, table: ExpectedTable, out: Path) -> None:
    """r against single humans, mean (median) over pieces, of the mean of each group's networks."""
    runs = {p.stem: np.load(p) for p in sorted(out.glob(f"{kind}-fold*.npz"))}
    unit = lambda c: (c - c.mean(1, keepdims=True)) / (c.std(1, keepdims=True) + 1e-9)  # noqa: E731
    names = ("beat period",) if kind == "tempo" else TARGETS
    train = [p for p in table.pieces if p.split == "train"]
    for title, pieces, chosen in (
        ("training works held out", train, [z for k, z in runs.items() if "fold-1" not in k]),
        ("validation", table.validation, [z for k, z in runs.items() if "fold-1" in k] or list(runs.values())),
    ):
        for reading in ("xml", "page", "midi"):
            found: list[list[float]] = []
            for p in pieces:
                curves = [z[_key(p, reading)] for z in chosen if _key(p, reading) in z.files]
                if curves and reading in p.readings:
                    mean = np.mean([unit(c.astype(np.float32)) for c in curves], 0)
                    found.append([agreement(c, t) for c, t in zip(mean, truth(kind, p.readings[reading]), strict=True)])
            if found:
                m, d = np.nanmean(found, 0), np.nanmedian(found, 0)
                cells = "; ".join(f"{k} {a:.3f} ({b:.3f})" for k, a, b in zip(names, m, d, strict=True))
                print(f"{title:24s} {reading:5s} {len(found):3d} pieces, {len(chosen)} runs: {cells}", flush=True)


def _solve(parts: list[tuple[NDArray, NDArray]], penalty: float) -> NDArray[np.floating]:
    a, b = sum(p[0] for p in parts), sum(p[1] for p in parts)
    return np.linalg.solve(a + penalty * np.eye(len(a)), b)


def _beat_rows(r: Reading) -> NDArray[np.float32]:
    """Features of five neighbouring beats, (b, 5 F), the earliest first; zeros beyond the ends."""
    padded = np.pad(r.bx, ((2, 2), (0, 0)))
    return np.concatenate([padded[k : k + len(r.bx)] for k in range(5)], 1)


def _note_rows(r: Reading) -> NDArray[np.float32]:
    """A note with the ones before and after, and its beat, (n, 3 F + G)."""
    padded = np.pad(r.x, ((1, 1), (0, 0)))
    return np.concatenate([*(padded[k : k + len(r.x)] for k in range(3)), r.bx[r.beat]], 1)


def _sums(kind: str, r: Reading) -> tuple[NDArray, NDArray]:
    """x'x and x'y of one reading about its means, each piece of equal weight."""
    if kind == "tempo":
        t, rows = consensus(r.curves)[None], _beat_rows(r)
    else:
        t, rows = consensus(r.z, 1), _note_rows(r)
    rows = rows - rows.mean(0)
    c = []
    for y in t:
        ok = np.isfinite(y)
        wide = np.nanstd(y) + 0.03 if kind == "tempo" else 1.0
        c.append(rows[ok].T @ (y[ok] - y[ok].mean()) / max(ok.sum(), 1) / wide)
    return (rows.T @ rows / len(rows)).astype(np.float64), np.stack(c, 1).astype(np.float64)


def linear(table: ExpectedTable, out: Path) -> None:
    """The linear members of the ensembles, and the check of the table: r of tempo on held-out works is 0.58 or more."""
    pieces = [p for p in table.pieces if p.split == "train"]
    for kind, penalty in (("tempo", 2.0), ("touch", 1.0)):
        rows, names = (_beat_rows, ("beat period",)) if kind == "tempo" else (_note_rows, TARGETS)
        fold_of = {w: k for k in range(5) for w in table.held_out(k)}
        parts: list[list[tuple[NDArray, NDArray]]] = [[] for _ in range(5)]
        for p in pieces:
            found = [_sums(kind, p.reading("xml"))]
            k = fold_of[p.work]
            parts[k] = [(parts[k][0][0] + found[0][0], parts[k][0][1] + found[0][1])] if parts[k] else found
        held: dict[str, list] = {k: [] for k in ("held-out works", "validation", "validation, MIDI")}
        for k in range(6):
            w = _solve([s for j in range(5) if j != k for s in parts[j]], penalty)
            if k == 5:
                save = {"beats": w} if kind == "tempo" else {"notes": w}
                np.savez(out / f"{kind}-linear.npz", **save)
            for title, reading, test in (
                ("held-out works", "xml", [p for p in pieces if fold_of[p.work] == k]),
                ("validation", "xml", table.validation if k == 5 else []),
                ("validation, MIDI", "midi", table.validation if k == 5 else []),
            ):
                for p in test:
                    r = p.reading(reading)
                    curves = (rows(r) @ w).T
                    held[title].append([agreement(c, t) for c, t in zip(curves, truth(kind, r), strict=True)])
        for title, values in held.items():
            m, d = np.nanmean(values, 0), np.nanmedian(values, 0)
            cells = "; ".join(f"{n} {a:.3f} ({b:.3f})" for n, a, b in zip(names, m, d, strict=True))
            print(f"linear {kind}, {title}, {len(values)} pieces: {cells}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("tempo", "touch", "linear", "report"))
    parser.add_argument("--table", type=Path, default=Path("data/expected-v2.pkl"))
    parser.add_argument("--out", type=Path, default=Path("runs/expected"))
    parser.add_argument("--fold", type=int, nargs="+", default=[-1])
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = ExpectedTable(args.table)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.what == "report":
        report("tempo", table, args.out)
        report("touch", table, args.out)
        return
    if args.what == "linear":
        linear(table, args.out)
        return
    for seed in args.seed:
        for fold in args.fold:
            name = args.out / f"{args.what}-fold{fold}-seed{seed}"
            if name.with_suffix(".pt").exists():
                continue
            model = fit(args.what, table, fold, seed, args.epochs or EPOCHS[args.what])
            test = table.split(fold)[1] + [p for p in table.pieces if p.split == "validation"]
            curves = {_key(p, k): predict(model, r).astype(np.float16) for p in test for k, r in p.readings.items()}
            np.savez_compressed(name.with_suffix(".npz"), **curves)
            torch.save(model.state_dict(), name.with_suffix(".pt"))
    report(args.what, table, args.out)


if __name__ == "__main__":
    main()
