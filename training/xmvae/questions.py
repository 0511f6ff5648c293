"""Three open questions of the XMVAE paper, one command each, with 95 % intervals over compositions.

    python -m training.xmvae.questions x1 --run runs/paper/xmvae         can it play a given score?
    python -m training.xmvae.questions x2 --run runs/paper/xmvae         is z_p a style that can be moved?
    python -m training.xmvae.questions x3 --runs runs/paper/ecpt-0.125 ... runs/paper/ecpt   does more data help?

`--tiny` uses a few passages and samples only, to test a command.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.measures.distributions import intersection, jensen_shannon, overlap_area
from engine.measures.performance_metrics import PAPER, measure_all
from engine.measures.side_by_side import pearson
from engine.models.xmvae import ecpt
from engine.models.xmvae.ecpt import Ecpt
from engine.models.xmvae.network import XMVAE, Via, composer_losses, pianist_losses
from engine.models.xmvae.xmvae import XmvaeSampling, encode_performance, render, render_tokens, sample
from engine.music.types import Performance
from engine.tokens.grid import token_ticks
from engine.tokens.tables import BEAT_PERIOD, DURATION, FAMILY, NOTE, POSITION
from training.core.probes import Figure, bootstrap, table
from training.xmvae import style_questions, train_baselines
from training.xmvae.passages import QUANTITIES, Passage, onset_of, passages, quantities
from training.xmvae.segments import PERFORMANCE, BeatCorpus, collate, values_of
from training.xmvae.train_baselines import notes_in, played_notes, predictions_in
from training.xmvae.train_prior import load_prior, load_xmvae

LIKELIEST = XmvaeSampling(performance_temperature=0.0)
CLASSES = {"velocity": 5, "log2 beat period": 4, "articulation": 7}  # columns of the tokens
Shape = dict[str, NDArray]  # of a segment, by quantity


# X1: a given score


def deadpan(score: NDArray) -> Shape:
    """Constant loudness and tempo, full lengths."""
    notes = int((score[:, FAMILY] == NOTE).sum())
    onsets = int(onset_of(score).max()) + 1
    return {"velocity": np.zeros(notes), "log2 beat period": np.zeros(onsets), "articulation": np.zeros(notes)}


class MeanPlaying:
    """Mean performance by class of note and onset: tables of means over training segments, centred by segment. Notes
    are classified by written length, position in the chord and beat; onsets by number of notes, position in the beat
    and distance to the next onset."""

    def __init__(self, segments: list[NDArray]):
        self.tables: dict[str, dict[int, float]] = {}
        for name in QUANTITIES:
            total, count = defaultdict[int, float](float), defaultdict[int, int](int)
            for tokens in segments:
                value, kind = quantities(tokens)[name], self.kinds(tokens)[name]
                known = np.isfinite(value)
                for k, v in zip(kind[known].tolist(), (value - np.nanmean(value))[known].tolist(), strict=True):
                    total[k], count[k] = total[k] + v, count[k] + 1
            self.tables[name] = {k: total[k] / (count[k] + 5) for k in total}

    @staticmethod
    def kinds(tokens: NDArray) -> Shape:
        """The class of each note and onset, by quantity."""
        note = tokens[:, FAMILY] == NOTE
        rows, onset = tokens[note], onset_of(tokens)
        count = np.bincount(onset)
        top, bottom = np.append(np.diff(onset) > 0, True), np.append(True, np.diff(onset) > 0)
        role = np.where(count[onset] == 1, 0, np.where(top, 1, np.where(bottom, 2, 3)))
        last = np.maximum.accumulate(np.where(tokens[:, POSITION] > 0, np.arange(len(tokens)), 0))
        place, tick = tokens[last, POSITION][note], token_ticks(tokens)[1][note]
        gap = np.append(np.diff(tick[bottom]), 0)
        of_note = (rows[:, DURATION] * 4 + role) * 2 + (place == 1)
        of_onset = (place[bottom] * 4 + np.minimum(count, 3)) * 50 + np.minimum(gap, 49)
        return {"velocity": of_note, "log2 beat period": of_onset, "articulation": of_note}

    def play(self, score: NDArray) -> Shape:
        kinds = self.kinds(score)
        return {name: np.array([self.tables[name].get(int(k), 0.0) for k in kinds[name]]) for name in QUANTITIES}


def agreement(passage: Passage, shapes: list[Shape]) -> NDArray[np.float64]:
    """Mean Pearson r of each quantity over renderings and humans, (3,)."""
    human = [quantities(t) for t in passage.played]
    found = [[pearson(s[q], h[q]) for q in QUANTITIES] for s in shapes for h in human]
    return np.nanmean(np.array(found), axis=0)


def among_humans(passage: Passage) -> NDArray[np.float64]:
    """Pearson r of every pair of human performances of a passage, (pairs, 3)."""
    human = [quantities(t) for t in passage.played]
    pairs = [(a, b) for i, a in enumerate(human) for b in human[:i]]
    return np.array([[pearson(a[q], b[q]) for q in QUANTITIES] for a, b in pairs]).reshape(-1, 3)


def by_composition(found: list[NDArray], works: list[str]) -> tuple[Figure, ...]:
    """Mean over compositions of each column of (3,) values, one a passage, with its interval."""
    values, names = np.array(found), np.array(works)
    out = []
    for column in values.T:
        known = np.isfinite(column)
        chosen = np.unique(names[known])
        mean = np.array([column[known & (names == w)].mean() for w in chosen])
        out.append(bootstrap(chosen, lambda rows, mean=mean: float(mean[rows].mean())))
    return tuple(out)


def class_counts(tokens: list[NDArray]) -> dict[str, NDArray]:
    """Histogram of the performance classes by quantity: velocities in 32 classes, the others in fourths of theirs."""
    played = np.concatenate([t[t[:, BEAT_PERIOD] > 0] for t in tokens])
    return {
        name: np.bincount((played[:, column] - 1) // (1 if name == "velocity" else 4), minlength=41)
        for name, column in CLASSES.items()
    }


def x1(args: argparse.Namespace) -> None:
    """Print how the model's playing of unseen scores agrees with each human performance."""
    corpus = BeatCorpus(args.pack, PERFORMANCE, "validation", limit=args.limit)
    found = passages(corpus, 2, 4 if args.tiny else args.passages)
    model, works = load_xmvae(args.run), [p.work for p in found]
    seeds = range(1 if args.tiny else args.seeds)
    rng = np.random.default_rng(0)
    training = BeatCorpus(args.pack, PERFORMANCE, "train", limit=args.limit)
    mean = MeanPlaying([training.draw(rng, augmented=False) for _ in range(20 if args.tiny else 800)])
    humans = [t for p in found for t in p.played]
    truth = class_counts(humans)
    rows: list[tuple[object, ...]] = []

    def row(name: str, shapes: list[list[Shape]], tokens: list[NDArray], heard: list[Passage] = found) -> None:
        cells: list[object] = [name, *by_composition([agreement(p, s) for p, s in zip(heard, shapes)], works)]
        if tokens:
            made = class_counts(tokens)
            cells += [f"{jensen_shannon(made[q], truth[q]):.3f} / {intersection(made[q], truth[q]):.3f}" for q in truth]
        rows.append((*cells, *[""] * (7 - len(cells))))

    row("deadpan (a constant counts as 0)", [[deadpan(p.score)] for p in found], [])
    row("mean playing", [[mean.play(p.score)] for p in found], [])
    scores = [p.score for p in found]
    own = [encode_performance(model, t, values_of(t)) for t in (p.played[0] for p in found)]
    firsts = [Passage(p.work, p.performers[:1], p.played[:1]) for p in found]
    vias: tuple[Via, Via] = ("z_s", "z_s+score")
    for via in vias:
        drawn = [render_tokens(model, scores, via, seed=s) for s in seeds]
        row(f"{via}, z_p drawn", [[quantities(d[i]) for d in drawn] for i in range(len(found))], [*chain(*drawn)])
        zero = [np.zeros(model.config.z_size)] * len(found)
        likeliest = render_tokens(model, scores, via, zero, sampling=LIKELIEST)
        row(f"{via}, z_p = 0, likeliest", [[quantities(t)] for t in likeliest], likeliest)
        again = render_tokens(model, scores, via, own, sampling=LIKELIEST)
        row(f"{via}, z_p of that pianist, likeliest", [[quantities(t)] for t in again], again, firsts)
    pairs = [among_humans(p) for p in found]
    rows.append(("human against human", *by_composition([np.nanmean(p, axis=0) for p in pairs], works), "", "", ""))
    low, high = np.nanpercentile(np.concatenate(pairs), [5, 95], axis=0)
    rows.append(("its 5th to 95th percentile", *(f"{a:.3f} to {b:.3f}" for a, b in zip(low, high)), "", "", ""))
    count = sum(len(p.performers) for p in found)
    print(f"X1: {len(found)} passages of {len(set(works))} unseen compositions, {count} human performances; {args.run}")
    print(f"Pearson r within a passage, JS distance / intersection with all human values; {len(seeds)} drawings")
    print(table(("playing", *(f"r {q}" for q in QUANTITIES), *(f"JS / ∩ {q}" for q in QUANTITIES)), rows))


# X3: how much data


def held_out(folder: Path, corpus: BeatCorpus, most: int) -> tuple[dict[str, NDArray], NDArray]:
    """Loss terms of a run on the validation compositions, one value a composition, and their names.

    ECPT: nats a note of whole segments. XMVAE: "score" in nats a step given its own codes, "performance" in nats a note
    given its own z_p, "kl" in nats a note.
    """
    about = json.loads((folder / "config.json").read_text())
    segments = defaultdict[str, list](list)
    for piece, segment in corpus.segments():
        segments[piece.work].append(segment)
    model = load_xmvae(folder) if about["kind"] == "xmvae" else train_baselines.load(folder)
    out = defaultdict[str, list[float]](list)
    for work in sorted(segments):
        every = segments[work]
        chosen = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, min(most, len(every))).astype(int))]
        batch = collate(chosen)
        with torch.inference_mode():
            if isinstance(model, XMVAE):
                scope = model.scope(batch)
                known = model.latents(batch, scope)
                parts = pianist_losses(model, batch, known, scope, "z_s+score")
                terms = {"score": composer_losses(model, batch, known)["score"]}
                terms |= {"performance": parts["performance"], "kl": parts["kl_true"]}
            elif isinstance(model, Ecpt):
                terms = {"nats a note": ecpt.losses(model, batch)["loss"] * predictions_in(batch) / notes_in(batch)}
            else:
                raise SystemExit(f"{folder} is a run of {about['kind']}; x3 reads runs of xmvae and ecpt.")
        for name, value in terms.items():
            out[name].append(float(value))
    return {k: np.array(v) for k, v in out.items()}, np.array(sorted(segments))


def samples_of(folder: Path, corpus: BeatCorpus, count: int) -> tuple[list[Performance], tuple[str, ...]]:
    """Samples of a run, and the metrics to compare: pieces from scratch and all six metrics; for an XMVAE without a
    prior (FOLDER-prior), performances of held-out scores and the three performance metrics."""
    if json.loads((folder / "config.json").read_text())["kind"] == "ecpt":
        model = train_baselines.load(folder)
        assert isinstance(model, Ecpt)
        return ecpt.sample(model, count, 0), PAPER
    prior = folder.with_name(folder.name + "-prior")
    if prior.exists():
        return sample(load_xmvae(folder), load_prior(prior), count), PAPER
    every = [s for _, s in corpus.segments()]
    chosen = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, min(count, len(every))).astype(int))]
    return render(load_xmvae(folder), chosen), ("IOI", "DSTD", "AVI")


def closeness(made: list[Performance], real: dict[str, NDArray], metrics: tuple[str, ...] = PAPER) -> Figure:
    """Mean overlap area of metrics with those of real music, with its interval over the samples."""
    found = measure_all(made)

    def mean_overlap(rows: NDArray) -> float:
        return float(np.mean([overlap_area(found[m][rows], real[m]) for m in metrics]))

    return bootstrap(np.arange(len(found["PR"])), mean_overlap, draws=200)


def slope(shares: NDArray, losses: NDArray) -> Callable[[NDArray], float]:
    """Change of the mean loss per doubling of the data, as a function of the rows (compositions); losses (runs, n)."""
    x = np.log2(shares) - np.log2(shares).mean()
    return lambda rows: float((x * losses[:, rows].mean(1)).sum() / (x**2).sum())


def x3(args: argparse.Namespace) -> None:
    """Print held-out loss and closeness to real music against the share of the compositions."""
    corpus = BeatCorpus(args.pack, PERFORMANCE, "validation", limit=args.limit)
    most, count = (2, 2) if args.tiny else (args.segments, args.samples)
    real = measure_all([played_notes(s) for _, s in corpus.segments()])
    runs = [(float(json.loads((r / "config.json").read_text())["args"]["fraction"]), r) for r in args.runs]
    runs.sort(key=lambda pair: pair[0])
    losses, rows = [], []
    for share, folder in runs:
        found, works = held_out(folder, corpus, most)
        losses.append(found)
        made, metrics = samples_of(folder, corpus, count)
        near = f"{closeness(made, real, metrics)} ({'pieces, six' if metrics == PAPER else 'playing, three'})"
        figures = [bootstrap(works, lambda i, v=v: float(v[i].mean())) for v in found.values()]
        rows.append((f"{100 * share:g} %", folder.name, *figures, near))
    names = list(losses[0])
    print(f"X3: {len(works)} unseen compositions, up to {most} segments each; overlap area over {count} samples")
    print(table(("compositions", "run", *(f"held-out {n}" for n in names), "overlap area, mean of metrics"), rows))
    shares, changes = np.array([s for s, _ in runs]), []
    for name in names:
        values = np.stack([found[name] for found in losses])
        if len(runs) > 1:
            whole, last = slope(shares, values), slope(shares[-2:], values[-2:])
            changes.append((name, bootstrap(works, whole), bootstrap(works, last)))
    print(table(("change per doubling", "over all shares", "over the last doubling"), changes))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=("x1", "x2", "x3"))
    parser.add_argument("--pack", type=Path, default=Path("data/xmvae-v1.npz"))
    parser.add_argument("--run", type=Path, default=Path("runs/paper/xmvae"), help="x1, x2: a run of train_xmvae")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="x3: runs of train_xmvae or train_baselines")
    parser.add_argument("--pianist", type=Path, default=Path("checkpoints/pianist-v1"), help="x2: the shipped Pianist")
    parser.add_argument("--pianist-pack", type=Path, default=Path("data/pianist-v1.npz"), help="x2: its data")
    parser.add_argument("--passages", type=int, default=100, help="x1: how many")
    parser.add_argument("--seeds", type=int, default=2, help="x1: drawings of each passage")
    parser.add_argument("--segments", type=int, default=8, help="x3: held-out segments of each composition")
    parser.add_argument("--samples", type=int, default=100, help="x3: pieces drawn from nothing")
    parser.add_argument("--least", type=int, default=5, help="x2: pieces that a pianist must have played")
    parser.add_argument("--windows", type=int, default=4, help="x2: segments of each performance")
    parser.add_argument("--sources", type=int, default=24, help="x2: passages whose pianists' styles are moved")
    parser.add_argument("--targets", type=int, default=4, help="x2: passages they are moved to")
    parser.add_argument("--limit", type=int, default=0, help="only that many compositions of each split, 0 for all")
    parser.add_argument("--tiny", action="store_true", help="a few of everything, to see that it works")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse_arguments(arguments)
    torch.set_num_threads(1)
    {"x1": x1, "x2": style_questions.x2, "x3": x3}[args.question](args)


if __name__ == "__main__":
    main()
