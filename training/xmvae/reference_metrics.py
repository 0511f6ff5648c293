"""Measure the corpora: the reference of `engine.measures.performance_metrics`, and an index of the training music.

    python -m training.xmvae.reference_metrics --data CORPORA [--out checkpoints/reference/metrics-v1.json] \\
        [--index PASSAGES.npz]

CORPORA has aligned/nasap-aligned.npz and scores/scores-compact.npz. The reference file:

    sets      "train", "validation" (all 256-note segments), "train openings", "validation openings" (the first of each
              performance), each with values (metric -> at most 1,000 evenly spaced quantiles), mean, sd, count (over
              all segments), histograms (counts) and pieces; metrics of beats are measured on the unfolded score
    scores    "train", "validation": key_share, loop, looped_notes of 256-note segments of the scores
    corpus    SHA-256 of the two files

Human performances have all played notes, with slips and ornaments, and key-held durations.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.measures.corpora import Measured, gather, measure_score
from engine.measures.distributions import HISTOGRAMS, histograms
from engine.measures.performance_metrics import METRICS, REFERENCE, SEGMENT, cut, measure
from engine.measures.sanity import Originality, key_share, longest_loop, looped_notes
from engine.music.types import Performance, Score
from training.core.corpora import QUARTER, SECOND, UNPLAYED, Nasap
from training.core.finished_run import write_config

KEPT = 1000  # values of a metric in the reference
ON_SCORE = ("UPC_8beats", "loop")


def played(nasap: Nasap, i: int) -> Performance:
    """All played notes of performance i, from second 0."""
    r = nasap.rows(i)
    heard = r["label"] != UNPLAYED
    start = r["onset_sec"][heard].min()
    return Performance(
        r["onset_sec"][heard] - start, r["p_duration"][heard] / SECOND, r["pitch"][heard],
        np.maximum(r["velocity"][heard], 1), r["pedal_sec"] - start, r["pedal_value"],
    )  # fmt: skip


def performances(nasap: Nasap, split: str) -> Iterator[Performance]:
    """Human performances of a split with at least one segment."""
    for i in np.flatnonzero(nasap.columns["split"] == split):
        performance = played(nasap, int(i))
        if len(performance) >= SEGMENT:
            yield performance


def scores(nasap: Nasap, split: str) -> Iterator[tuple[str, Score]]:
    """(work, score as unfolded) of each folder of the corpus, by its performance with the fewest unplayed notes."""
    c = nasap.columns
    best: dict[str, tuple[int, int]] = {}
    for i in np.flatnonzero(c["split"] == split):
        folder = str(c["id"][i]).rsplit("/", 1)[0]
        missing = int((c["label"][slice(*c["note_ptr"][i : i + 2])] == UNPLAYED).sum())
        best[folder] = min(best.get(folder, (missing, int(i))), (missing, int(i)))
    for _, i in best.values():
        yield str(c["work"][i]), nasap.load(i)[0]


def compact_scores(path: Path, split: str) -> Iterator[tuple[str, NDArray, NDArray, NDArray]]:
    """(work, onset_quarter, duration_quarter, pitch) of each score, sorted by (onset, pitch), without grace notes."""
    with np.load(path) as z:
        c = {k: z[k] for k in z.files}
    for i in np.flatnonzero(c["split"] == split):
        rows = slice(*c["note_ptr"][i : i + 2])
        onset, pitch = c["onset"][rows] / QUARTER, c["pitch"][rows].astype(int)
        order = np.lexsort((pitch, onset))
        order = order[(c["grace"][rows][order] == 0) & (c["duration"][rows][order] > 0)]
        yield str(c["work"][i]), onset[order], c["duration"][rows][order] / QUARTER, pitch[order]


def plain(score: Score) -> tuple[NDArray, NDArray, NDArray]:
    """(onset_quarter, duration_quarter, pitch) without grace notes, which the Composer does not write."""
    keep = ~score.grace
    return score.onset_quarter[keep], score.duration_quarter[keep], score.pitch[keep]


def written(data: Path, nasap: Nasap, split: str) -> Iterator[tuple[str, NDArray, NDArray, NDArray]]:
    """Every score of a split, of both corpora: (work, onset_quarter, duration_quarter, pitch)."""
    yield from compact_scores(data / "scores" / "scores-compact.npz", split)
    for work, score in scores(nasap, split):
        yield work, *plain(score)


def sanity_of(onset: NDArray, duration: NDArray, pitch: NDArray, length: int = SEGMENT) -> dict[str, list[float]]:
    """key_share (percent), loop and looped_notes of the 256-note segments of a score (a shorter one is one segment)."""
    out: dict[str, list[float]] = {"key_share": [], "loop": [], "looped_notes": []}
    starts = range(0, len(pitch) - length + 1, length) if len(pitch) >= length else [0]
    for a in starts:
        o, d, p = onset[a : a + length], duration[a : a + length], pitch[a : a + length]
        out["key_share"].append(100 * key_share(p, d))
        out["loop"].append(float(longest_loop(o, p)))
        out["looped_notes"].append(float(looped_notes(o, p)))
    return out


def training_passages(data: Path, nasap: Nasap) -> Originality:
    """The index of every 12-note passage of the training scores of both corpora."""
    return Originality.of((onset, pitch) for _, onset, _, pitch in written(data, nasap, "train"))


def quantiles(values: NDArray, kept: int = KEPT) -> list[float]:
    """At most `kept` evenly spaced values of the sorted ones."""
    values = np.sort(values)
    if len(values) > kept:
        values = np.quantile(values, (np.arange(kept) + 0.5) / kept)
    return [float(f"{v:.5g}") for v in values]


def _set(found: list[dict[str, NDArray]], on_score: list[dict[str, NDArray]], counts: dict[str, NDArray]) -> dict:
    measured: Measured = gather([{k: v for k, v in f.items() if k not in ON_SCORE} for f in found], [])
    beats = gather(on_score, [])
    for name in ON_SCORE:
        for part in ("values", "mean", "sd", "count"):
            getattr(measured, part)[name] = getattr(beats, part)[name]
    return {
        "values": {k: quantiles(v) for k, v in measured.values.items()},
        "mean": {k: round(v, 6) for k, v in measured.mean.items()},
        "sd": {k: round(v, 6) for k, v in measured.sd.items()},
        "count": measured.count, "pieces": len(found),
        "histograms": {k: np.round(v, 1).tolist() for k, v in counts.items()},
    }  # fmt: skip


def build(data: Path) -> dict:
    """The reference as a dictionary."""
    files = [data / "aligned" / "nasap-aligned.npz", data / "scores" / "scores-compact.npz"]
    nasap = Nasap(files[0])
    out: dict = {
        "format_version": 1, "segment": SEGMENT, "sets": {}, "scores": {},
        "corpus": {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files},
    }  # fmt: skip
    for split in ("train", "validation"):
        human = list(performances(nasap, split))
        found = [measure(cut(p)) for p in human]
        on_score = [measure_score(s) for _, s in scores(nasap, split) if len(s) >= SEGMENT]
        out["sets"][split] = _set(found, on_score, histograms(human))
        opening = [{k: v[:1] for k, v in f.items()} for f in found]
        firsts = histograms(_beginning(p) for p in human)
        out["sets"][f"{split} openings"] = _set(opening, [{k: v[:1] for k, v in f.items()} for f in on_score], firsts)
        sane: dict[str, list[float]] = {}
        for _, onset, duration, pitch in written(data, nasap, split):
            if len(pitch) >= SEGMENT:
                for k, v in sanity_of(onset, duration, pitch).items():
                    sane.setdefault(k, []).extend(v)
        out["scores"][split] = {
            k: {"values": quantiles(np.array(v), 500), "mean": float(np.mean(v)), "count": len(v),
                "percentile_99": float(np.percentile(v, 99))}
            for k, v in sane.items()
        }  # fmt: skip
    return out


def _beginning(p: Performance) -> Performance:
    first = np.lexsort((p.pitch, p.onset_sec))[:SEGMENT]
    return Performance(
        p.onset_sec[first], p.duration_sec[first], p.pitch[first], p.velocity[first], p.pedal_sec, p.pedal_value
    )


def about(out: Path, found: dict, args: argparse.Namespace) -> dict:
    """Contents of config.json for the reference: no model, but derived from the same data as the models."""
    return {
        "format_version": found["format_version"], "kind": "metrics reference", "file": out.name,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(), "corpus": found["corpus"],
        "training": {"command": f"python -m training.xmvae.reference_metrics --data {args.data.name} --out {out.name}"},
        "licence": "CC BY-NC-SA 4.0",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="CORPORA")
    parser.add_argument("--out", type=Path, default=REFERENCE)
    parser.add_argument("--index", type=Path, help="also write the hashes of the training passages there (.npz)")
    args = parser.parse_args()
    found = build(args.data)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, separators=(",", ":")) + "\n")
    write_config(args.out.parent, about(args.out, found, args))
    print(f"{args.out}: {args.out.stat().st_size / 1e3:.0f} kB, {len(METRICS)} metrics, {len(HISTOGRAMS)} histograms")
    for name, s in found["sets"].items():
        cells = (f"{m.name} {s['mean'][m.name]:.{m.digits}f} ± {s['sd'][m.name]:.{m.digits}f}" for m in METRICS)
        print(f"{name} ({s['pieces']} performances, {s['count']['PR']} segments): {', '.join(cells)}")
    for name, s in found["scores"].items():
        cells = (f"{k} {v['mean']:.2f}, 99th percentile {v['percentile_99']:.1f}" for k, v in s.items())
        print(f"scores, {name}: {'; '.join(cells)}; {s['loop']['count']} segments")
    if args.index:
        index = training_passages(args.data, Nasap(args.data / "aligned" / "nasap-aligned.npz"))
        np.savez_compressed(args.index, hashes=index.hashes)
        print(f"{args.index}: {len(index.hashes)} different passages, {args.index.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
