"""Question X2: does z_p contain a transferable style? Measured for XMVAE's z_p and the shipped Pianist's.

Three measurements: a linear probe for the pianist on held-out pieces, a probe for the piece on held-out pianists, and
the correlation between the descriptors of a performance and those of other scores performed with its z_p.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.checkpoints.bundle import PianistBundle, open_pianist
from engine.measures.side_by_side import pearson
from engine.models.pianist.features import Features, score_features
from engine.models.pianist.pianist import from_channels
from engine.models.pianist.sampling import EncodedScore, encode_style
from engine.models.pianist.style import descriptors
from engine.models.xmvae.network import XMVAE
from engine.models.xmvae.xmvae import render_tokens, style_of
from engine.music.types import Expression
from engine.tokens.tables import FAMILY, NOTE, PITCH
from training.core.probes import bootstrap, probe, table, without_piece
from training.pianist.export import pianist_of
from training.pianist.pack import Pack
from training.xmvae.passages import DESCRIPTORS, describe, passages
from training.xmvae.segments import PERFORMANCE, BeatCorpus, values_of
from training.xmvae.train_prior import load_xmvae

_NINE = [0, 2, 3, 4]  # indices of DESCRIPTORS among the nine style descriptors
WINDOW = 256  # notes of a source or a target for the shipped Pianist


@dataclass(frozen=True)
class StyleSample:
    """Styles and labels of n performances.

    z          (n, Z) z_p of the whole performance
    described  (n, 4) DESCRIPTORS
    written    (n, W) summary of the score
    work, pianist  (n,) names
    """

    z: NDArray[np.float64]
    described: NDArray[np.float64]
    written: NDArray[np.float64]
    work: NDArray
    pianist: NDArray


@dataclass(frozen=True)
class Sources:
    """Performances of passages that several pianists played.

    z, described  (n, Z), (n, 4)
    passage       (n,) index of the passage
    work          (n,) its composition
    """

    z: NDArray[np.float64]
    described: NDArray[np.float64]
    passage: NDArray[np.int64]
    work: NDArray


def written_summary(tokens: NDArray) -> NDArray[np.float64]:
    """Summary of a segment's score, (5,): mean and deviation of pitch, notes a step and a beat, mean duration class."""
    rows = tokens[tokens[:, FAMILY] == NOTE]
    beats = max(int((tokens[:, 1] == 1).sum()), 1)
    return np.array(
        [rows[:, PITCH].mean(), rows[:, PITCH].std(), len(rows) / len(tokens), len(rows) / beats, rows[:, 3].mean()]
    )


def xmvae_styles(model: XMVAE, corpora: list[BeatCorpus], most: int) -> StyleSample:
    """Styles of every performance, from up to `most` of its segments."""
    segments = defaultdict[tuple[str, str], list[NDArray]](list)
    for corpus in corpora:
        for piece, segment in corpus.segments():
            segments[piece.work, piece.name].append(segment)
    z, described, written = [], [], []
    for every in segments.values():
        chosen = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, min(most, len(every))).astype(int))]
        z.append(np.mean([style_of(model, t, values_of(t)) for t in chosen], axis=0))
        described.append(np.mean([describe(t) for t in chosen], axis=0))
        written.append(np.mean([written_summary(t) for t in chosen], axis=0))
    works, names = zip(*segments)
    pianists = [pianist_of(n) for n in names]
    return StyleSample(np.array(z), np.array(described), np.array(written), np.array(works), np.array(pianists))


def nine(f: Features, e: Expression) -> NDArray[np.float64]:
    """DESCRIPTORS of an expression, (4,)."""
    return descriptors(
        f.beat_index, f.chord_index, f.category[:, 0], np.log2(e.beat_period), e.velocity, e.timing_sec,
        e.articulation_log2, e.pedal, e.played,
    )[_NINE]  # fmt: skip


def pianist_styles(bundle: PianistBundle, pack: Pack, most: int, limit: int) -> StyleSample:
    """Styles of every performance of the Pianist's pack, from up to `most` of its windows."""
    z, described, written, works, pianists = [], [], [], [], []
    items = np.arange(len(pack)) if not limit else np.linspace(0, len(pack) - 1, limit).astype(int)
    for i in items.tolist():
        item = pack.item(i)
        f = score_features(item.score, item.composer)
        z.append(encode_style(bundle.model, f, item.expression, max_windows=most))
        described.append(nine(f, item.expression))
        written.append(np.concatenate([f.value.mean(0), f.value.std(0)]))
        works.append(item.work)
        pianists.append(pianist_of(item.name))
    return StyleSample(
        np.array(z), np.nan_to_num(np.array(described)), np.array(written), np.array(works), np.array(pianists)
    )


def report_probes(styles: StyleSample, least: int, draws: int) -> None:
    """Print the probes for pianist and for piece."""
    pieces = {p: len(set(styles.work[styles.pianist == p])) for p in np.unique(styles.pianist)}
    known = np.flatnonzero([pieces[p] >= least for p in styles.pianist])
    inputs = {"z_p": styles.z, "the four descriptors": styles.described, "the written notes only": styles.written}
    if len(np.unique(styles.pianist[known])) < 2:
        print(f"fewer than two pianists have {least} pieces: no probe")
        return
    rows: list[tuple[object, ...]] = []
    for name, x in inputs.items():
        figure, chance, shuffled = probe(x[known], styles.pianist[known], styles.work[known], draws)
        rows.append(("pianist, unseen pieces", name, len(known), figure, chance, shuffled))
    for name, x in list(inputs.items())[:2]:
        apart, kept = without_piece(x, styles.work)
        chosen = np.isin(kept, known)
        if len(np.unique(styles.pianist[kept[chosen]])) > 1:
            labels, groups = styles.pianist[kept[chosen]], styles.work[kept[chosen]]
            figure, chance, shuffled = probe(apart[chosen], labels, groups, draws)
            label = "pianist, unseen pieces, against the others' playing of each"
            rows.append((label, name, int(chosen.sum()), figure, chance, shuffled))
    count = {w: (styles.work == w).sum() for w in np.unique(styles.work)}
    often = np.flatnonzero([count[w] >= 6 for w in styles.work])
    if len(np.unique(styles.work[often])) > 1:
        for name, x in list(inputs.items())[:2]:
            figure, chance, shuffled = probe(x[often], styles.work[often], styles.pianist[often], draws, shuffles=5)
            rows.append(("piece, unseen pianists", name, len(often), figure, chance, shuffled))
    header = ("probe for", "from", "performances", "balanced accuracy", "chance", "95 % of shuffled labels")
    print(table(header, rows))


def transfer(sources: Sources, play: Callable[[NDArray], NDArray], draws: int) -> list[tuple[object, ...]]:
    """Correlation of each descriptor of a source with that of other scores played with its z_p, with intervals.

    play  z (n, Z) -> descriptors of every target played with each, (n, targets, 4)

    Computed twice: on the descriptors, and on their differences from the mean of the passage's other performances.
    """
    apart, rows = without_piece(sources.described, sources.passage)
    z_apart, _ = without_piece(sources.z, sources.passage)
    out = []
    for name, wanted, z, works in (
        ("as they are", sources.described, sources.z, sources.work),
        ("apart from the others", apart, sources.z.mean(0) + z_apart, sources.work[rows]),
    ):
        made = play(z)

        def mean_r(chosen: NDArray, k: int, made: NDArray = made, wanted: NDArray = wanted) -> float:
            r = [pearson(wanted[chosen, k], made[chosen, t, k]) for t in range(made.shape[1])]
            return float(np.mean(r))

        figures = [bootstrap(works, lambda c, k=k, f=mean_r: f(c, k), draws) for k in range(len(DESCRIPTORS))]
        overall = bootstrap(works, lambda c, f=mean_r: float(np.mean([f(c, k) for k in range(4)])), draws)
        out.append((name, len(z), made.shape[1], *figures, overall))
    return out


def others(items: list[int], taken: list[int]) -> list[int]:
    """The items that are not taken, or all items if all are taken."""
    return [i for i in items if i not in taken] or items


def spread(items: list[int], most: int) -> list[int]:
    """At most `most` of the items, evenly."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).astype(int))]


def xmvae_transfer(model: XMVAE, corpus: BeatCorpus, most: int, targets: int, draws: int) -> list[tuple[object, ...]]:
    """`transfer` of XMVAE: z_p of a segment, one for all notes, on other compositions, via z_s and score."""
    found = passages(corpus, 3)
    chosen = spread(list(range(len(found))), most)
    z, described, passage, work = [], [], [], []
    for k in chosen:
        for t in found[k].played:
            z.append(style_of(model, t, values_of(t)))
            described.append(describe(t))
            passage.append(k)
            work.append(found[k].work)
    sources = Sources(np.array(z, float), np.array(described), np.array(passage), np.array(work))
    scores = [found[k].score for k in spread(others(list(range(len(found))), chosen), targets)]

    def play(z: NDArray) -> NDArray:
        out = [render_tokens(model, [s] * len(z), "z_s+score", list(z), seed=1) for s in scores]
        return np.array([[describe(t) for t in column] for column in out]).swapaxes(0, 1)

    return transfer(sources, play, draws)


def pianist_transfer(
    bundle: PianistBundle, pack: Pack, most: int, targets: int, draws: int
) -> list[tuple[object, ...]]:
    """`transfer` of the shipped Pianist: windows of validation performances, on windows of other scores."""
    c = pack.columns
    of_score = defaultdict[int, list[int]](list)
    for i in np.flatnonzero(c["split"] == "validation").tolist():
        of_score[int(c["score"][i])].append(i)
    several = [k for k, items in of_score.items() if len(items) >= 3]
    z, described, passage, work = [], [], [], []
    chosen = spread(several, most)
    for n, k in enumerate(chosen):
        features = score_features(pack.score(k), int(c["composer"][of_score[k][0]]))
        part = _window(features, n)
        for i in of_score[k]:
            e = _part(pack.item(i).expression, part)
            f = _features(features, part)
            z.append(encode_style(bundle.model, f, e))
            described.append(nine(f, e))
            passage.append(k)
            work.append(str(c["work"][i]))
    sources = Sources(np.array(z, float), np.array(described), np.array(passage), np.array(work))
    readers = []
    for n, k in enumerate(spread(others(list(of_score), chosen), targets)):
        whole = score_features(pack.score(k), int(c["composer"][of_score[k][0]]))
        f = _features(whole, _window(whole, n + 1))
        readers.append((f, EncodedScore(bundle.model, f)))

    def play(z: NDArray) -> NDArray:
        rows = [[nine(f, from_channels(r.play(row, 1, bundle.sampling))) for f, r in readers] for row in z]
        return np.array(rows)

    return transfer(sources, play, draws)


def _window(f: Features, n: int) -> slice:
    """The n-th random window of a score."""
    start = int(np.random.default_rng(n).integers(0, max(len(f) - WINDOW, 0) + 1))
    return slice(start, min(start + WINDOW, len(f)))


def _features(f: Features, part: slice) -> Features:
    return Features(f.category[part], f.value[part], f.onset_beat[part], f.beat_index[part], f.chord_index[part])


def _part(e: Expression, part: slice) -> Expression:
    return Expression(
        e.beat_period[part], e.timing_sec[part], e.velocity[part], e.articulation_log2[part], e.pedal[part],
        e.played[part],
    )  # fmt: skip


def x2(args: argparse.Namespace) -> None:
    """Print the three measurements for XMVAE's pooled z_p and for the shipped Pianist's."""
    least, draws = (1, 50) if args.tiny else (args.least, 1000)
    most, passages_of, targets = (1, 1, 1) if args.tiny else (args.windows, args.sources, args.targets)
    header = ("transfer of descriptors", "sources", "targets", *(f"r {d}" for d in DESCRIPTORS), "mean of four")
    model = load_xmvae(args.run)
    corpora = [BeatCorpus(args.pack, PERFORMANCE, split, limit=args.limit) for split in ("train", "validation")]
    print(f"X2, XMVAE ({args.run}): z_p, the mean of mu over the notes, {model.config.z_size} dimensions\n")
    report_probes(xmvae_styles(model, corpora, most), least, draws)
    print("\n" + table(header, xmvae_transfer(model, corpora[1], passages_of, targets, draws)))
    bundle, pack = open_pianist(args.pianist), Pack(args.pianist_pack)
    print(f"\nX2, the Pianist ({args.pianist}): z_p, {bundle.model.config.style_size} dimensions\n")
    report_probes(pianist_styles(bundle, pack, most, 12 if args.tiny else 0), least, draws)
    print("\n" + table(header, pianist_transfer(bundle, pack, passages_of, targets, draws)))
