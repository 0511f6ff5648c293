"""Evaluation of the Pianist against human performances: `python -m training.pianist.eval --set validation --nasap
SCORES [--midi-out DIR]`.

Plays the pieces of the measuring set as `etude perform` plays them, and prints the distances of
`expression_distribution` and the correlations of `expression_agreement` beside human against human. Rows: the notes of
the score MIDI with the marks of the MusicXML; the score MIDI alone; the first again in the style of one human
performance of the piece; the MusicXML as a user opens it, ornaments played out. The last one's notes are matched by
alignment, the others' by identity. Settings are chosen on the half "choose" of the works, figures are reported on
"report".
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon

from engine.engine import Engine
from engine.music.io.alignment import align
from engine.music.io.midi import read_midi_performance, read_midi_score, write_midi
from engine.music.io.read_musicxml import read_musicxml_file
from engine.music.types import DEFAULT_FREEDOM, Performance, Score, Style
from engine.requests import PerformRequest
from training.core.halves import HALVES, half_of
from training.pianist import expression_agreement as agreement
from training.pianist import expression_distribution as distribution
from training.pianist.expected_table import of_table
from training.pianist.marks import attach_marks

ROWS = ("MusicXML marks", "MIDI", "style of one human", "MusicXML as opened")
_BESIDES = ("beat_period mean -8", "articulation r 80 ms")


@dataclass
class MeasuredPiece:
    """One piece of the measuring set: notes of its score MIDI, human views, the score with and without marks, and the
    MusicXML as it is opened.
    """

    name: str
    notes: NDArray
    views: list[dict]
    human: list[dict]
    from_midi: Score
    from_xml: Score
    opened: Score
    work: str
    human_files: list[Path]


def load_set(folder: Path, nasap: Path, metadata: Path, limit: int = 0) -> list[MeasuredPiece]:
    """The pieces of the set, with their MusicXML marks from a folder of (n)ASAP scores; metadata names their works."""
    warnings.simplefilter("ignore")
    source = {}
    with open(folder / "index.csv") as f:
        for row in csv.DictReader(f):
            source.setdefault(row["piece"], row["file"])
    with open(metadata) as f:
        work_of = {row["folder"]: row["work"] for row in csv.DictReader(f)}
    pieces = []
    for name, (notes, views) in agreement.humans(folder).items():
        files = sorted((folder / "human").glob(f"{name}-*.mid"))
        human: list[dict] = []
        for f in files:
            found = distribution.features(f)
            if not any(np.array_equal(found["velocity"], other["velocity"]) for other in human):
                human.append(found)
        score = read_midi_score((folder / "score" / f"{name}.mid").read_bytes())
        home = Path(source[name]).parent
        written = read_musicxml_file(nasap / home / "xml_score.musicxml")
        marked, _ = attach_marks(score, written)
        marked = replace(marked, composer=written.composer)
        work = work_of.get(str(home), str(home))
        pieces.append(MeasuredPiece(name, notes, views, human, score, marked, written, work, files))
        if limit and len(pieces) == limit:
            break
    return pieces


def pedal_spans(performance: Performance) -> NDArray:
    """Seconds that the sustain pedal stays down, one entry a press."""
    spans, down = [], None
    for t, value in zip(performance.pedal_sec, performance.pedal_value, strict=True):
        if value >= 64 and down is None:
            down = t
        elif value < 64 and down is not None:
            spans.append(t - down)
            down = None
    return np.array(spans)


def measure(pieces: list[MeasuredPiece], row: Row) -> dict[str, float]:
    """JS distance per quantity with "mean JS"; r against single humans per quantity, median and mean over pieces.

    Besides: "beat_period mean -8" without the last eight beats; "articulation r 80 ms" over notes written as long.
    """
    truth: dict[str, list] = defaultdict(list)
    ours: dict[str, list] = defaultdict(list)
    found: dict[str, list] = {k: [] for k in (*agreement.KEYS, *_BESIDES)}
    for piece, performance in zip(pieces, row.performances, strict=True):
        p = performance
        rows = np.stack([p.onset_sec, p.duration_sec, p.pitch, p.velocity], axis=1)
        quantity = {
            "velocity": p.velocity, "duration": p.duration_sec, "ioi": np.diff(np.sort(p.onset_sec)),
            "pedal": pedal_spans(p),
        }  # fmt: skip
        for human in piece.human:
            for k in distribution.BINS:
                truth[k].append(human[k])
                ours[k].append(quantity[k])
        match = matched(piece, p, row.one_to_one)
        scores: dict[str, list] = {k: [] for k in found}
        for h in piece.views:
            view = agreement.view_of_rendering(piece.notes, rows, h["score_beats"], match)
            for k in agreement.KEYS:
                if len(view[k]) == len(h[k]):
                    scores[k].append(agreement.pearson(view[k], h[k]))
            if len(view["beat_period"]) == len(h["beat_period"]):
                scores[_BESIDES[0]].append(agreement.pearson(view["beat_period"][:-8], h["beat_period"][:-8]))
            long = piece.notes[:, 1] >= 0.08
            scores[_BESIDES[1]].append(agreement.pearson(view["articulation"][long], h["articulation"][long]))
        for k in found:
            if piece.views:
                found[k].append(np.nanmean(scores[k]) if scores[k] else np.nan)
    out = {}
    for k, bins in distribution.BINS.items():
        p, q = (distribution.histogram(np.concatenate(v[k]), bins) for v in (truth, ours))
        out[k] = float(jensenshannon(p, q, base=2))
    out["mean JS"] = float(np.mean([out[k] for k in distribution.BINS]))
    for k in agreement.KEYS:
        out |= {f"{k} r": float(np.nanmedian(found[k])), f"{k} mean": float(np.nanmean(found[k]))}
    without_end, long_notes = _BESIDES
    out |= {without_end: float(np.nanmean(found[without_end])), long_notes: float(np.nanmedian(found[long_notes]))}
    return out


def matched(piece: MeasuredPiece, performance: Performance, one_to_one: bool) -> NDArray[np.int64]:
    """Index of the note of a rendering that plays each note of the measuring set's score, -1 for none.

    one_to_one  the rendering has the score MIDI's notes in the same order; else both are aligned
    """
    score, out = piece.from_midi, np.full(len(piece.notes), -1)
    if one_to_one:
        written = played = np.arange(len(score))
    else:
        found = align(score, performance)
        written, played = found.score_index, found.performance_index
    out[of_table(score, piece.notes)[written]] = played
    return out


@dataclass(frozen=True)
class Row:
    """One row of the table: renderings of all pieces.

    one_to_one  the notes are those of the score MIDI, in its order
    """

    performances: list[Performance]
    one_to_one: bool = True


def perform_all(
    engine: Engine, scores: list[Score], styles: list[tuple[float, ...]], style: Style
) -> list[Performance]:
    """Every piece performed by the product, piece i with seed i."""
    return [
        engine.perform(PerformRequest(score, replace(style, z=z, seed=i)))
        for i, (score, z) in enumerate(zip(scores, styles, strict=True))
    ]


def human_row(folder: Path) -> None:
    """Print the human-against-human rows of both scripts."""
    distribution.main(str(folder))
    agreement.main(str(folder))


def print_table(rows: dict[str, dict[str, float]]) -> None:
    """Print the table: one line per measure, one column per row of the evaluation."""
    keys = list(next(iter(rows.values())))
    print(f"{'':24s}" + "".join(f"{name:>30s}" for name in rows))
    for key in keys:
        print(f"{key:24s}" + "".join(f"{row[key]:30.3f}" for row in rows.values()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", type=Path, required=True, dest="folder", help="the unpacked validation set")
    parser.add_argument("--nasap", type=Path, required=True, help="folder of (n)ASAP scores (Bach/..., Beethoven/...)")
    parser.add_argument("--metadata", type=Path, help="(n)ASAP's metadata.csv; by default in --nasap")
    parser.add_argument("--checkpoints", type=Path, help="models to use instead of the repository's")
    parser.add_argument("--midi-out", type=Path, help="write the renderings here as well, one folder a row")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--freedom", type=float, default=DEFAULT_FREEDOM)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    engine = Engine.load(args.checkpoints)
    began = time.monotonic()
    pieces = load_set(args.folder, args.nasap, args.metadata or args.nasap / "metadata.csv", args.limit)
    print(f"{len(pieces)} pieces read in {time.monotonic() - began:.0f} s", file=sys.stderr)
    human_row(args.folder)
    style, halves = Style(freedom=args.freedom), [half_of(p.work) for p in pieces]
    plain: list[tuple[float, ...]] = [()] * len(pieces)
    table: dict[str, dict[str, dict[str, float]]] = {half: {} for half in (*HALVES, "all")}
    for name in args.rows:
        scores = [{"MIDI": p.from_midi, "MusicXML as opened": p.opened}.get(name, p.from_xml) for p in pieces]
        styles = plain
        if name == "style of one human":
            played = [read_midi_performance(p.human_files[0].read_bytes()) for p in pieces]
            styles = [engine.style_from(s, x) for s, x in zip(scores, played, strict=True)]
        opened = name == "MusicXML as opened"
        row = Row(perform_all(engine, scores, styles, replace(style, ornaments=opened)), one_to_one=not opened)
        for half, columns in table.items():
            chosen = [i for i, h in enumerate(halves) if half in (h, "all")]
            part = replace(row, performances=[row.performances[i] for i in chosen])
            columns[name] = measure([pieces[i] for i in chosen], part)
        if args.midi_out:
            out = args.midi_out / name.replace(" ", "_")
            out.mkdir(parents=True, exist_ok=True)
            for piece, performance in zip(pieces, row.performances, strict=True):
                (out / f"{piece.name}.mid").write_bytes(write_midi(performance))
    for half, rows in table.items():
        print(f"\n{half}: {sum(half in (h, 'all') for h in halves)} pieces")
        print_table(rows)


if __name__ == "__main__":
    main()
