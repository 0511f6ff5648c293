"""Metres, densities and composers of each genre: the table `engine.models.composer.genre_habits`.

    python -m training.composer.genre_habits --pack composer-v2g.npz

One edition of each work of the training split, songs left out.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from engine.tokens.composer_tokens import METERS, OTHER_METER, TICKS_PER_QUARTER
from engine.tokens.genres import GENRES
from training.composer.batches import ScorePiece, read_pieces

SHARE = 0.1  # minimum share of a genre's works with a usual metre or composer
MIDDLE = (0.2, 0.8)  # quantiles of the density


def usual(names: list[str]) -> list[str]:
    """Names with a share of at least SHARE, the most frequent first."""
    return [name for name, count in Counter(names).most_common() if count >= SHARE * len(names)]


def density(p: ScorePiece) -> float:
    """Notes a quarter."""
    w = p.written
    return len(w) / max(float(np.ptp(w.tick)) / TICKS_PER_QUARTER, 1.0)


def meter(p: ScorePiece) -> int:
    """Index into METERS of the most frequent metre."""
    return int(np.bincount(p.written.bars.meter).argmax())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True, help="a pack with genres, of training.composer.genres")
    args = parser.parse_args()
    first: dict[str, ScorePiece] = {}
    for p in read_pieces(args.pack, "train"):
        if p.genre and not p.accompaniment:
            first.setdefault(p.work, p)
    for k, genre in enumerate(GENRES, 1):
        pieces = [p for p in first.values() if p.genre == k]
        meters = [METERS[m] for m in map(meter, pieces) if m != OTHER_METER]
        low, high = np.quantile([density(p) for p in pieces], MIDDLE).round(2).tolist()
        composers = usual([p.composer for p in pieces])
        print(f'    "{genre}": Habits({tuple(usual(meters))}, ({low}, {high}), {tuple(composers)}),')


if __name__ == "__main__":
    main()
