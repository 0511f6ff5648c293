"""Measures of folders and corpora, and their comparison as a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.files import open_performance_file, open_score_file
from engine.measures.distributions import (
    HISTOGRAMS,
    bootstrap,
    divergence,
    histograms,
    intersection,
    jensen_shannon,
    overlap_area,
)
from engine.measures.form_metrics import measure_form
from engine.measures.performance_metrics import METRICS, SHORTEST, cut, measure, reference
from engine.music.expression import deadpan
from engine.music.types import BadInput, Performance, Score
from engine.progress import ProgressCallback

MIDI_SUFFIXES = (".mid", ".midi")
SCORE_SUFFIXES = (".musicxml", ".xml", ".mxl", ".krn", ".mei")
WRITTEN = ("PR", "APS", "UPC", "UPC_8beats", "UPC_seg", "PC", "key_share", "loop")  # metrics that need only a score


@dataclass(frozen=True)
class Measured:
    """Measures of a set of music.

    values      metric -> (s,) one a segment; sets without a metric have (0,)
    mean, sd    metric -> over all segments (of the reference: of more segments than `values` keeps)
    count       metric -> number of segments
    histograms  name of HISTOGRAMS -> counts (in shares); empty when only scores were read
    pieces      number of measured pieces
    skipped     (file name, reason) of the others
    forms       figures of each score file, see `engine.measures.form_metrics`
    """

    values: dict[str, NDArray[np.float64]]
    mean: dict[str, float]
    sd: dict[str, float]
    count: dict[str, int]
    histograms: dict[str, NDArray[np.float64]]
    pieces: int
    skipped: tuple[tuple[str, str], ...] = ()
    forms: tuple[dict[str, float], ...] = ()


def gather(
    found: Iterable[dict[str, NDArray]], performances: Iterable[Performance], skipped: Iterable[tuple[str, str]] = ()
) -> Measured:
    """Join the measures of pieces (dictionaries of (s,) arrays, NaN where a metric does not apply)."""
    found, played = list(found), list(performances)
    values = {m.name: np.concatenate([f[m.name] for f in found if m.name in f] or [np.zeros(0)]) for m in METRICS}
    values = {k: v[np.isfinite(v)] for k, v in values.items()}
    mean, sd = ({k: float(f(v)) if len(v) else np.nan for k, v in values.items()} for f in (np.mean, np.std))
    count = {k: len(v) for k, v in values.items()}
    return Measured(values, mean, sd, count, histograms(played) if played else {}, len(found), tuple(skipped))


def measure_pieces(pieces: Iterable[Performance | tuple[Performance, Score]]) -> Measured:
    """Measure performances, or pairs of a performance and its score, note for note.

    Pieces shorter than 32 notes are skipped.
    """
    found, played, skipped = [], [], []
    for k, piece in enumerate(pieces):
        performance, score = piece if isinstance(piece, tuple) else (piece, None)
        if len(performance) < SHORTEST:
            skipped.append((str(k), f"only {len(performance)} notes"))
            continue
        found.append(measure(cut(performance, score)))
        played.append(performance)
    return gather(found, played, skipped)


def measure_score(score: Score) -> dict[str, NDArray[np.float64]]:
    """The metrics of WRITTEN, per 256 notes of a score."""
    found = measure(cut(deadpan(score), score))
    return {name: found[name] for name in WRITTEN}


def measure_folder(folder: Path, on_file: ProgressCallback = lambda share: None) -> Measured:
    """Measure every MIDI file (as a performance) and every score file of a folder and its subfolders.

    A score has only the metrics of WRITTEN, because it has no performed time and loudness, and its form with repeats
    unfolded. Unreadable files and those under 32 notes are skipped and listed; raises BadInput if none is left.
    """
    if not folder.is_dir():
        raise BadInput(f"There is no folder {folder}; name a folder with MIDI or MusicXML files.")
    files = sorted(
        f for f in folder.rglob("*") if f.suffix.lower() in (*MIDI_SUFFIXES, *SCORE_SUFFIXES) and f.is_file()
    )
    found, played, skipped, forms = [], [], [], []
    for k, file in enumerate(files):
        try:
            if file.suffix.lower() in MIDI_SUFFIXES:
                performance = open_performance_file(file)
                found.append(measure(cut(performance)))
                played.append(performance)
            else:
                score = open_score_file(file)
                found.append(measure_score(score))
                forms.append(measure_form(score))
        except BadInput as error:
            skipped.append((str(file.relative_to(folder)), str(error)))
        on_file((k + 1) / len(files))
    if not found:
        why = f"{skipped[0][0]}: {skipped[0][1]}" if skipped else "name a folder with MIDI or MusicXML files."
        raise BadInput(f"No file in the folder {folder} can be measured; {why}")
    return replace(gather(found, played, skipped), forms=tuple(forms))


def shipped(which: str = "validation") -> Measured:
    """A set of the shipped reference: human performances of (n)ASAP; `performance_metrics.panel` has their names."""
    s = reference()["sets"][which]
    return Measured(
        {k: np.array(v) for k, v in s["values"].items()}, s["mean"], s["sd"], s["count"],
        {k: np.array(v) for k, v in s["histograms"].items()}, s["pieces"],
    )  # fmt: skip


def compare(made: Measured, real: Measured) -> list[dict]:
    """One dictionary for each metric that both sets have: means, deviations, counts, overlap area, KL, an interval.

    Then one for each histogram: Jensen-Shannon distance and intersection. `interval` is the 95 % bootstrap interval of
    the mean of `made`; `kl` is KL(made || real) in nats.
    """
    rows: list[dict] = []
    for m in METRICS:
        a, b = made.values[m.name], real.values[m.name]
        if len(a) and len(b):
            rows.append({
                "metric": m.name, "label": m.label, "unit": m.unit, "mean": made.mean[m.name], "sd": made.sd[m.name],
                "n": made.count[m.name], "interval": bootstrap(a), "real_mean": real.mean[m.name],
                "real_sd": real.sd[m.name], "real_n": real.count[m.name], "overlap": overlap_area(a, b),
                "kl": divergence(a, b),
            })  # fmt: skip
    for name in HISTOGRAMS:
        if name in made.histograms and name in real.histograms:
            p, q = made.histograms[name], real.histograms[name]
            if p.sum() and q.sum():
                rows.append({
                    "histogram": name, "jensen_shannon": jensen_shannon(p, q), "intersection": intersection(p, q),
                })  # fmt: skip
    return rows


def in_words(rows: list[dict]) -> str:
    """The rows of `compare` as two text tables."""
    digits = {m.name: m.digits for m in METRICS}
    lines = [
        f"{'metric':<12}{'mean':>10}{'± sd':>10}{'n':>7}{'reference':>12}{'± sd':>10}{'n':>7}{'overlap':>10}{'KL':>8}"
    ]
    for r in rows:
        if "metric" in r:
            d = digits[r["metric"]]
            lines.append(
                f"{r['metric']:<12}{r['mean']:>10.{d}f}{r['sd']:>10.{d}f}{r['n']:>7}{r['real_mean']:>12.{d}f}"
                f"{r['real_sd']:>10.{d}f}{r['real_n']:>7}{r['overlap']:>10.3f}{r['kl']:>8.3f}"
            )
    if any("histogram" in r for r in rows):
        lines += ["", f"{'histogram':<12}{'JS distance':>12}{'intersection':>14}"]
        for r in rows:
            if "histogram" in r:
                lines.append(f"{r['histogram']:<12}{r['jensen_shannon']:>12.3f}{r['intersection']:>14.3f}")
    return "\n".join(lines)
