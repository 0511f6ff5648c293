"""How human is the Pianist? `python -m training.pianist.eval --set validation --nasap SCORES [--midi-out DIR]`.

Renders the pieces of the measuring set three ways (from the notation program's MIDI, from MusicXML, in the style of one
human performance of the piece) and prints the distances of `expression_distribution` and the correlations of
`expression_agreement` beside human against human. A rendering plays the MIDI's notes one to one; "MusicXML" means
the same notes with the marks of the MusicXML file.
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

from engine.checkpoints.bundle import PianistBundle, open_pianist
from engine.models.pianist.features import Features, score_features
from engine.models.pianist.pianist import Reader, Sampling, encode_style, from_channels, mix
from engine.music.expression import decode_expression, encode_expression, steady_pedal
from engine.music.io.alignment import align
from engine.music.io.midi import read_midi_performance, read_midi_score, write_midi
from engine.music.io.read_musicxml import read_musicxml_file
from engine.music.types import Performance, Score
from training.pianist import expression_agreement as agreement
from training.pianist import expression_distribution as distribution
from training.pianist.marks import attach_marks

KEYS = (*distribution.BINS, "velocity r", "beat_period r", "articulation r")


@dataclass
class Piece:
    """One piece of the measuring set: notes of its score MIDI, human views, and the score with and without marks."""

    name: str
    notes: NDArray
    views: list[dict]
    human: list[dict]
    from_midi: Score
    from_xml: Score
    human_files: list[Path]


def load_set(folder: Path, nasap: Path, limit: int = 0) -> list[Piece]:
    """The pieces of the set, with their MusicXML marks from a folder of (n)ASAP scores."""
    warnings.simplefilter("ignore")
    source = {}
    with open(folder / "index.csv") as f:
        for row in csv.DictReader(f):
            source.setdefault(row["piece"], row["file"])
    pieces = []
    for name, (notes, views) in agreement.humans(folder).items():
        files = sorted((folder / "human").glob(f"{name}-*.mid"))
        human: list[dict] = []
        for f in files:
            found = distribution.features(f)
            if not any(np.array_equal(found["velocity"], other["velocity"]) for other in human):
                human.append(found)
        score = read_midi_score((folder / "score" / f"{name}.mid").read_bytes())
        written = read_musicxml_file(nasap / Path(source[name]).parent / "xml_score.musicxml")
        marked, _ = attach_marks(score, written)
        pieces.append(Piece(name, notes, views, human, score, replace(marked, composer=written.composer), files))
        if limit and len(pieces) == limit:
            break
    return pieces


def rendering_notes(performance: Performance) -> NDArray:
    """A performance as the rows that the measuring scripts read: onset, duration, pitch, velocity, sorted."""
    p = performance
    rows = np.stack([p.onset_sec, p.duration_sec, p.pitch, p.velocity], axis=1)
    return rows[np.lexsort((rows[:, 3], rows[:, 2], rows[:, 1], rows[:, 0]))]


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


def measure(pieces: list[Piece], performances: list[Performance]) -> dict[str, float]:
    """JS distance per quantity with "mean JS", and median r per quantity over pieces."""
    truth: dict[str, list] = defaultdict(list)
    ours: dict[str, list] = defaultdict(list)
    found: dict[str, list] = {k: [] for k in agreement.KEYS}
    for piece, performance in zip(pieces, performances, strict=True):
        rows = rendering_notes(performance)
        quantity = {
            "velocity": rows[:, 3],
            "duration": rows[:, 1],
            "ioi": np.diff(rows[:, 0]),
            "pedal": pedal_spans(performance),
        }
        for human in piece.human:
            for k in distribution.BINS:
                truth[k].append(human[k])
                ours[k].append(quantity[k])
        scores: dict[str, list] = {k: [] for k in agreement.KEYS}
        for h in piece.views:
            view = agreement.view_of_rendering(piece.notes, rows, h["score_beats"])
            for k in agreement.KEYS:
                if len(view[k]) == len(h[k]):
                    scores[k].append(agreement.pearson(view[k], h[k]))
        for k in agreement.KEYS:
            if piece.views:
                found[k].append(np.nanmean(scores[k]) if scores[k] else np.nan)
    out = {}
    for k, bins in distribution.BINS.items():
        p, q = (distribution.histogram(np.concatenate(v[k]), bins) for v in (truth, ours))
        out[k] = float(jensenshannon(p, q, base=2))
    out["mean JS"] = float(np.mean([out[k] for k in distribution.BINS]))
    return out | {f"{k} r": float(np.nanmedian(found[k])) for k in agreement.KEYS}


class Drawn:
    """Expected values and a sample of every piece, so that sampling settings can be compared without the model."""

    def __init__(
        self,
        bundle: PianistBundle,
        pieces: list[Piece],
        source: str,
        z_of=None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ):
        self.scores = [p.from_xml if source == "xml" else p.from_midi for p in pieces]
        self.features: list[Features] = [score_features(s) for s in self.scores]
        self.sampling = sampling or bundle.sampling
        self.values = []
        zero = np.zeros(bundle.model.config.style_size)
        for i, f in enumerate(self.features):
            z = zero if z_of is None else z_of(pieces[i], self.scores[i], f)
            self.values.append(Reader(bundle.model, f).draw(z, seed + i, self.sampling))

    def perform(self, sampling: Sampling | None = None) -> list[Performance]:
        chosen = sampling or self.sampling
        mixed = (mix(f, e, x, chosen) for f, (e, x) in zip(self.features, self.values, strict=True))
        return [steady_pedal(decode_expression(s, from_channels(x))) for s, x in zip(self.scores, mixed, strict=True)]


def style_of_human(bundle: PianistBundle):
    """A function piece -> z_p of the piece's first human performance, aligned by parangonar."""

    def z_of(piece: Piece, score: Score, features: Features) -> NDArray:
        played = read_midi_performance(piece.human_files[0].read_bytes())
        return encode_style(bundle.model, features, encode_expression(score, played, align(score, played)))

    return z_of


def human_row(folder: Path) -> None:
    """Print the human-against-human rows of both scripts."""
    distribution.main(str(folder))
    agreement.main(str(folder))


def print_table(rows: dict[str, dict[str, float]]) -> None:
    keys = [*distribution.BINS, "mean JS", *(f"{k} r" for k in agreement.KEYS)]
    print(f"{'':34s}" + "".join(f"{k:>15s}" for k in keys))
    for name, row in rows.items():
        print(f"{name:34s}" + "".join(f"{row[k]:15.3f}" for k in keys), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", type=Path, required=True, dest="folder", help="the unpacked validation set")
    parser.add_argument("--nasap", type=Path, required=True, help="folder of (n)ASAP scores (Bach/..., Beethoven/...)")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoints/pianist-v1"))
    parser.add_argument("--midi-out", type=Path, help="write the renderings here as well, one folder a row")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    bundle = open_pianist(args.checkpoint)
    began = time.monotonic()
    pieces = load_set(args.folder, args.nasap, args.limit)
    print(f"{len(pieces)} pieces read in {time.monotonic() - began:.0f} s", file=sys.stderr)
    human_row(args.folder)
    rows = {}
    for name, source, z_of in (
        ("MusicXML, default style", "xml", None),
        ("MIDI, default style", "midi", None),
        ("MusicXML, style of one human", "xml", style_of_human(bundle)),
    ):
        performances = Drawn(bundle, pieces, source, z_of).perform()
        rows[name] = measure(pieces, performances)
        if args.midi_out:
            out = args.midi_out / name.replace(", ", "-").replace(" ", "_")
            out.mkdir(parents=True, exist_ok=True)
            for piece, performance in zip(pieces, performances, strict=True):
                (out / f"{piece.name}.mid").write_bytes(write_midi(performance))
    print_table(rows)


if __name__ == "__main__":
    main()
