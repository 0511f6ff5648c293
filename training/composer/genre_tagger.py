"""A genre classifier, to measure whether a composed piece has the requested genre.

    python -m training.composer.genre_tagger --pack composer-v2g.npz --out genre-tagger.npz

Multinomial logistic regression on texture, rhythm, metre and pace (`features`) of the scores of the training split.
One work in five is held out; the printed figures are measured on these. Songs are left out. Pace is notes a quarter,
because few scores state a tempo.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.tokens.composer_tokens import NOTE_TICKS, TICKS_PER_QUARTER, Written
from engine.tokens.genres import GENRES
from training.composer.batches import ScorePiece, read_pieces

MIN_WORKS = 20  # minimum works of a genre
KEPT_OUT = 5  # one work in five is held out
MOST_NOTES = 600  # notes read of a piece: composed pieces are short
_BINS = 12  # positions in a bar
_LENGTHS = np.array([0.2, 0.3, 0.45, 0.55, 0.7, 0.8, 1.1, 1.6, 2.2])  # quarters, edges of note lengths
_LEAPS = np.array([1, 2, 3, 5, 8, 12])  # semitones, edges of melodic steps


@dataclass(frozen=True)
class GenreTagger:
    """Weights of the regression.

    genres  names of its classes
    weight  (features, classes), bias (classes,); mean, scale (features,) of the features
    """

    genres: tuple[str, ...]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    def logits(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """(pieces, classes) of (pieces, features)."""
        return ((rows - self.mean) / self.scale) @ self.weight + self.bias

    def save(self, path: Path) -> None:
        np.savez(path, **{k: np.asarray(getattr(self, k)) for k in self.__dataclass_fields__})

    @classmethod
    def load(cls, path: Path) -> GenreTagger:
        with np.load(path) as z:
            c = {k: z[k] for k in z.files}
        return cls(tuple(map(str, c.pop("genres"))), **c)


def features(w: Written) -> NDArray[np.float64]:
    """Features (features,) of a score, from its first MOST_NOTES notes."""
    n = min(len(w), MOST_NOTES)
    tick, pitch, staff, bar = w.tick[:n], w.pitch[:n], w.staff[:n], w.bar[:n]
    length = NOTE_TICKS[w.duration[:n]] / TICKS_PER_QUARTER
    whole = (w.bars.length + w.bars.offset)[bar]
    place = np.minimum(_BINS * w.in_bar[:n] // np.maximum(whole, 1), _BINS - 1)
    quarters = max((tick[-1] - tick[0]) / TICKS_PER_QUARTER, 1.0)
    meter = np.bincount(w.bars.meter[bar], minlength=16)[:16] / n
    parts = [meter, [np.log(whole.mean() / TICKS_PER_QUARTER), np.log(n / quarters)]]
    for hand in (0, 1):
        mine = staff == hand
        count = max(int(mine.sum()), 1)
        parts.append([mine.mean()])
        parts.append(np.bincount(place[mine], minlength=_BINS) / count)
        parts.append(np.bincount(np.searchsorted(_LENGTHS, length[mine]), minlength=len(_LENGTHS) + 1) / count)
        onset, size = np.unique(tick[mine], return_counts=True)
        chord = [size.mean(), (size > 1).mean(), (size > 2).mean()] if len(size) else [0.0] * 3
        per_bar = len(onset) / len(np.unique(bar))
        parts.append([*chord, np.log1p(per_bar)])
        line = pitch[mine][np.unique(tick[mine], return_index=True)[1]] if mine.any() else np.zeros(1)
        leap = np.abs(np.diff(line))
        parts.append(np.bincount(np.searchsorted(_LEAPS, leap), minlength=len(_LEAPS) + 1) / max(len(leap), 1))
        parts.append([line.mean() / 12, line.std() / 12])
        # by position in the bar: pitch of the hand relative to its mean, and number of simultaneous notes
        height = np.zeros(_BINS)
        np.add.at(height, place[mine], pitch[mine] - line.mean())
        parts.append(height / np.maximum(np.bincount(place[mine], minlength=_BINS), 1) / 12)
    fresh = np.unique(np.stack([bar, place, staff]), axis=1)
    rhythm = [frozenset(map(tuple, fresh[1:, fresh[0] == b].T.tolist())) for b in np.unique(bar)]
    parts.append([len(set(rhythm)) / len(rhythm), np.mean([a == b for a, b in pairwise(rhythm)] or [0.0])])
    return np.concatenate([np.asarray(p, float) for p in parts])


def kept_out(work: str) -> bool:
    """Whether a work is held out."""
    return int(hashlib.sha256(f"genre {work}".encode()).hexdigest(), 16) % KEPT_OUT == 0


def usable(pieces: list[ScorePiece]) -> list[ScorePiece]:
    """Piano pieces of a genre with MIN_WORKS works, of 64 notes or more."""
    works: dict[int, set[str]] = {}
    for p in pieces:
        if p.genre and not p.accompaniment:
            works.setdefault(p.genre, set()).add(p.work)
    known = {g for g, of in works.items() if len(of) >= MIN_WORKS}
    return [p for p in pieces if p.genre in known and not p.accompaniment and len(p.written) >= 64]


def fit(rows: NDArray[np.float64], target: NDArray[np.int64], weight: NDArray[np.float64], genres: tuple[str, ...],
        decay: float = 3e-3, steps: int = 300) -> GenreTagger:  # fmt: skip
    """The regression with a ridge penalty; `weight` (pieces,) are the sample weights."""
    mean, scale = rows.mean(0), rows.std(0) + 1e-6
    x = torch.from_numpy(((rows - mean) / scale).astype(np.float32))
    y, share = torch.from_numpy(target), torch.from_numpy((weight / weight.sum()).astype(np.float32))
    layer = nn.Linear(x.shape[1], len(genres))
    nn.init.zeros_(layer.weight)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        cost = (nn.functional.cross_entropy(layer(x), y, reduction="none") * share).sum()
        cost = cost + decay * layer.weight.square().sum()
        cost.backward()
        return cost

    optimiser.step(loss)  # type: ignore[arg-type]
    return GenreTagger(
        genres, layer.weight.detach().numpy().T.astype(float), layer.bias.detach().numpy().astype(float), mean, scale
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True, help="a pack with genres, of training.composer.genres")
    parser.add_argument("--out", type=Path, required=True, help="where the weights are written")
    args = parser.parse_args()
    torch.set_num_threads(1)
    pieces = usable(read_pieces(args.pack, "train"))
    classes = sorted({p.genre for p in pieces})
    genres = tuple(GENRES[g - 1] for g in classes)
    rows = np.stack([features(p.written) for p in pieces])
    target = np.array([classes.index(p.genre) for p in pieces])
    work = np.array([p.work for p in pieces])
    out = np.array([kept_out(p.work) for p in pieces])
    print(f"{len(pieces)} scores, {len(set(work))} works, {rows.shape[1]} features, {len(genres)} genres")
    # editions of a work share its weight; a genre's weight is the square root of its number of works
    editions = np.array([(work == v).sum() for v in work])
    weight = 1 / editions
    for k in range(len(genres)):
        weight[target == k] /= weight[target == k].sum() ** 0.5
    tagger = fit(rows[~out], target[~out], weight[~out], genres)
    order = (-tagger.logits(rows[out])).argsort(1)
    share = 1 / editions[out]
    first, third = order[:, 0] == target[out], (order[:, :3] == target[out, None]).any(1)
    print(f"kept out: {len(set(work[out]))} works")
    print("| genre | works | first guess, % | among three, % |\n|---|---|---|---|")
    for k, name in enumerate(genres):
        m = target[out] == k
        if m.any():
            hit, near = (100 * np.average(v[m], weights=share[m]) for v in (first, third))
            print(f"| {name} | {len(set(work[out][m]))} | {hit:.0f} | {near:.0f} |")
    total = [100 * np.average(v, weights=share) for v in (first, third)]
    print(f"| all | {len(set(work[out]))} | {total[0]:.1f} | {total[1]:.1f} |")
    most = max(share[target[out] == k].sum() for k in range(len(genres))) / share.sum()
    print(f"the most frequent genre always: {100 * most:.1f} %")
    fit(rows, target, weight, genres).save(args.out)


if __name__ == "__main__":
    main()
