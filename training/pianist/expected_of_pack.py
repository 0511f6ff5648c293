"""Expected values of every score of the Pianist's pack, predicted out of fold, as input of the flow's training.

`python -m training.pianist.expected_of_pack --pack data/pianist-v2.npz --table data/expected-v2.pkl
--runs runs/expected --out data/pianist-expected.npz`

A training score is predicted by networks that were trained without its work (KIND-foldF-seed*.pt), a validation score
by those trained on all training works (fold -1). Each score has three readings: "full", with all marks; "midi", with
loudness and tempo only, as in a notation program's MIDI; "none", the notes only. Scores without trained networks are
left for the next call.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from engine.models.expected.base import written_pace
from engine.models.expected.nets import TempoNet, TempoShape, TouchNet, TouchShape
from engine.models.expected.performance import Amplitude, ExpectedPerformance
from engine.music.types import MARK_NAMES, Marks, PageEvents, Score
from training.pianist.batches import READINGS
from training.pianist.expected_data import FOLDS, ExpectedTable
from training.pianist.export_expected import fit, usable
from training.pianist.pack import Pack

_PLAIN = [MARK_NAMES.index(k) for k in ("written_velocity", "tempo_bpm")]


def as_read(score: Score, reading: str) -> Score:
    """The score with the notation of the reading only."""
    if reading == "full":
        return score
    table = np.zeros_like(score.marks.table)
    if reading == "midi":
        table[:, _PLAIN] = score.marks.table[:, _PLAIN]
    return replace(score, marks=Marks(table), events=PageEvents(), voice=np.zeros(len(score), int))


@dataclass(frozen=True)
class PackValues:
    """Contents of `--out`: for each score of the pack its fold and, for each reading, curves and mean features.

    curves   (score, reading) -> (3, n) expected tempo, velocity and articulation of each note: octaves over the written
             pace, velocity, octaves; mean 0 over beats or notes
    pace     (score, reading) -> (n,) log2 seconds a felt beat as written
    summary  (score, reading) -> (G,)
    fold     score -> its fold, -1 for validation
    """

    curves: dict[tuple[int, str], NDArray]
    pace: dict[tuple[int, str], NDArray]
    summary: dict[tuple[int, str], NDArray]
    fold: dict[int, int]

    @classmethod
    def load(cls, path: Path) -> PackValues:
        out = cls({}, {}, {}, {})
        if path.exists():
            with np.load(path) as z:
                for key in z.files:
                    kind, k, *reading = key.split("@")
                    if kind == "fold":
                        out.fold[int(k)] = int(z[key])
                    else:
                        getattr(out, kind)[int(k), reading[0]] = z[key]
        return out

    def save(self, path: Path) -> None:
        tables = {"curves": self.curves, "pace": self.pace, "summary": self.summary}
        arrays = {f"{kind}@{k}@{r}": v for kind, t in tables.items() for (k, r), v in t.items()}
        arrays |= {f"fold@{k}": np.array(v) for k, v in self.fold.items()}
        scratch = path.with_suffix(".tmp.npz")
        np.savez(scratch, **arrays)
        scratch.replace(path)


def networks(table: ExpectedTable, runs: Path, fold: int) -> ExpectedPerformance | None:
    """The expected performance trained without the works of a fold; None while its networks are missing."""
    nets: dict[str, list] = {}
    for kind, make in (
        ("tempo", lambda: TempoNet(TempoShape(len(table.beat_names)))),
        ("touch", lambda: TouchNet(TouchShape(len(table.names), len(table.beat_names)))),
    ):
        files = sorted(runs.glob(f"{kind}-fold{fold}-seed*.pt"))
        nets[kind] = []
        for path in files if fold < 0 else files[:1]:
            net = make()
            net.load_state_dict(torch.load(path, weights_only=True))
            nets[kind].append(net)
    if not all(nets.values()):
        return None
    x, y, works = usable(table)
    learnt = np.array([w not in table.held_out(fold) for w in works])
    amplitude = Amplitude(fit(x[learnt], y[learnt]), *np.quantile(y[learnt], (0.01, 0.99), axis=0))
    return ExpectedPerformance(nets["tempo"], nets["touch"], table.beat_scale, table.scale, amplitude)


def predict(pack: Pack, table: ExpectedTable, runs: Path, out: Path) -> PackValues:
    """Predict all scores whose networks exist, and save."""
    done = PackValues.load(out)
    fold_of = {w: k for k in range(FOLDS) for w in table.held_out(k)}
    by_fold: dict[int, list[int]] = defaultdict(list)
    for k, i in zip(*np.unique(pack.columns["score"], return_index=True), strict=True):
        work, split = str(pack.columns["work"][i]), str(pack.columns["split"][i])
        if split in ("train", "validation") and int(k) not in done.fold:
            # no network was trained on a training work outside the table
            by_fold[fold_of.get(work, 0) if split == "train" else -1].append(int(k))
    for fold, scores in sorted(by_fold.items()):
        model = networks(table, runs, fold)
        if model is None:
            print(f"fold {fold}: networks are missing, {len(scores)} scores wait", flush=True)
            continue
        for k in tqdm(scores, desc=f"fold {fold}", file=sys.stderr, mininterval=10):
            for reading in READINGS:
                score = as_read(pack.score(k), reading)
                values = model.of(score)
                beat = values.grid.beat_of(score.onset_quarter)
                done.curves[k, reading] = np.stack(
                    [values.tempo[beat], values.velocity, values.articulation]
                ).astype(np.float32)  # fmt: skip
                done.pace[k, reading] = written_pace(score, values).astype(np.float32)
                done.summary[k, reading] = values.summary.astype(np.float32)
            done.fold[k] = fold
        done.save(out)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pack, table = Pack(args.pack), ExpectedTable(args.table)
    done = predict(pack, table, args.runs, args.out)
    total = len(np.unique(pack.columns["score"]))
    print(f"{args.out}: {len(done.fold)} of {total} scores")


if __name__ == "__main__":
    main()
