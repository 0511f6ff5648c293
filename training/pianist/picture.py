"""Tempo, dynamics and articulation of measured pieces as SVG pictures: two people, the flow model alone, and now.

`python -m training.pianist.picture --set validation --nasap SCORES --metadata metadata.csv --pieces 4 12 20`
"""

from __future__ import annotations

import argparse
import csv
from html import escape
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.engine import Engine
from engine.models.expected.joined import joined
from engine.music.types import Performance, Score, Style
from engine.requests import PerformRequest
from training.core.halves import half_of
from training.pianist import expression_agreement as agreement
from training.pianist.eval import MeasuredPiece, load_set, matched

WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 120, 52, 30, 26  # pixels of a panel
LINES = {  # name -> colour, width, dashes
    "a pianist": ("#9a9a9a", 1.6, ""), "another pianist": ("#c9a37a", 1.6, ""),
    "the flow model alone": ("#c2455a", 1.6, "5 3"), "now": ("#2456b8", 2.2, ""),
}  # fmt: skip
PANELS = {"beat_period": "tempo", "velocity": "velocity", "articulation": "held / written"}
SMOOTHED_BEATS = 3


def flow_alone(engine: Engine, score: Score, seed: int) -> Performance:
    """The score as the flow model plays it without the expected performance, as before there was one."""
    import engine.engine as program

    def plain(_: Score, __: object, mixed: NDArray, *___: object) -> NDArray:
        return mixed

    program.joined = plain
    try:
        return engine.perform(PerformRequest(score, Style(seed=seed)))
    finally:
        program.joined = joined


def by_beat(values: NDArray, onset: NDArray, beats: NDArray) -> NDArray[np.float64]:
    """(b - 1,) mean of note values (n,) in each beat, smoothed over `SMOOTHED_BEATS`; nan where nothing is near."""
    index = np.clip(np.searchsorted(beats, onset + 1e-6, side="right") - 1, 0, len(beats) - 2)
    known = np.isfinite(values)
    window = np.ones(SMOOTHED_BEATS)
    total = np.convolve(np.bincount(index[known], values[known], len(beats) - 1), window, "same")
    count = np.convolve(np.bincount(index[known], minlength=len(beats) - 1), window, "same")
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def curves(piece: MeasuredPiece, view: dict, beats: NDArray) -> dict[str, NDArray[np.float64]]:
    """The three curves of a performance, one value a beat: tempo as a factor of its median, velocity, octaves."""
    period = np.convolve(np.pad(view["beat_period"], 1, "edge"), np.ones(3) / 3, "valid")
    return {
        "beat_period": 2.0**-period,
        "velocity": by_beat(view["velocity"], piece.notes[:, 0], beats),
        "articulation": 2.0 ** by_beat(view["articulation"], piece.notes[:, 0], beats),
    }


def drawn(title: str, found: dict[str, dict[str, NDArray]], most: int) -> str:
    """An SVG of three panels over one axis of beats; `found`: line name -> panel -> values."""
    height = TOP + len(PANELS) * (HEIGHT + GAP) + 18
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 10} {height}" '
        'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-weight="bold">{escape(title)}</text>',
    ]  # fmt: skip
    for k, (panel, label) in enumerate(PANELS.items()):
        top = TOP + k * (HEIGHT + GAP)
        values = np.concatenate([lines[panel][:most] for lines in found.values()])
        low, high = np.nanquantile(values, (0.005, 0.995))
        pad = 0.08 * (high - low) + 1e-6
        low, high = low - pad, high + pad
        out.append(f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 4}" y="{top + 10}" text-anchor="end">{high:.3g}</text>')
        out.append(f'<text x="{LEFT - 4}" y="{top + HEIGHT}" text-anchor="end">{low:.3g}</text>')
        out.append(f'<text x="{LEFT + 6}" y="{top + 14}" fill="#555">{label}</text>')
        for name, (colour, width, dashes) in LINES.items():
            y = found[name][panel][:most]
            x = LEFT + (np.arange(len(y)) + 0.5) / most * WIDTH
            place = top + HEIGHT * (1 - (np.clip(y, low, high) - low) / (high - low))
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, place, strict=True) if np.isfinite(b))
            out.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" '
                f'stroke-dasharray="{dashes}"/>'
            )
    for k, (name, (colour, width, dashes)) in enumerate(LINES.items()):
        x, y = LEFT + 180 * k, height - 8
        line = f'x1="{x}" x2="{x + 26}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}"'
        out.append(f'<line {line} stroke-width="{width}" stroke-dasharray="{dashes}"/>')
        out.append(f'<text x="{x + 32}" y="{y}">{name}</text>')
    return "\n".join([*out, "</svg>\n"])


def picture(engine: Engine, piece: MeasuredPiece, title: str, most: int) -> str:
    """The SVG of one piece, its first `most` beats."""
    beats = piece.views[0]["score_beats"]
    two = [v for v in piece.views if len(v["score_beats"]) == len(beats)][:2]
    played = {
        "the flow model alone": flow_alone(engine, piece.from_xml, 0),
        "now": engine.perform(PerformRequest(piece.from_xml)),
    }
    found = {name: curves(piece, view, beats) for name, view in zip(LINES, two, strict=False)}
    for name, p in played.items():
        rows = np.stack([p.onset_sec, p.duration_sec, p.pitch, p.velocity], axis=1)
        view = agreement.view_of_rendering(piece.notes, rows, beats, matched(piece, p, True))
        found[name] = curves(piece, view, beats)
    most = min(most, len(beats) - 1)
    return drawn(f"{title}, its first {most} beats", found, most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, required=True, dest="folder", help="the unpacked validation set")
    parser.add_argument("--nasap", type=Path, required=True, help="folder of (n)ASAP scores")
    parser.add_argument("--metadata", type=Path, required=True)
    parser.add_argument("--pieces", nargs="*", default=[], help="numbers in the set; without any they are listed")
    parser.add_argument("--beats", type=int, default=96)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    pieces = {piece.name: piece for piece in load_set(args.folder, args.nasap, args.metadata)}
    with open(args.folder / "index.csv") as f:
        titles = {row["piece"]: str(Path(row["file"]).parent).replace("_", " ") for row in csv.DictReader(f)}
    if not args.pieces:
        for piece in pieces.values():
            print(
                piece.name,
                titles[piece.name],
                half_of(piece.work),
                f"{len(piece.views)} people, {len(piece.notes)} notes",
            )
        return
    loaded = Engine.load()
    for k, name in enumerate(args.pieces):
        path = args.out / f"performance-{k + 1}.svg"
        path.write_text(picture(loaded, pieces[name], titles[name], args.beats))
        print(path)


if __name__ == "__main__":
    main()
