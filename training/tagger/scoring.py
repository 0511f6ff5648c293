"""F1 of phrase ends and cadences, with a tolerance of one beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.models.tagger.decode import Decoding, peaks, read_cadences
from engine.tokens.composer_tokens import Written
from training.tagger.data import Labelled

TOLERANCE = 1  # beats


@dataclass
class Count:
    """Numbers of correct, predicted and true marks."""

    right: int = 0
    found: int = 0
    there: int = 0

    def add(self, found: NDArray, there: NDArray) -> None:
        """Count the marks of one score; each mark is matched once, in order, within TOLERANCE."""
        self.found, self.there = self.found + len(found), self.there + len(there)
        i = j = 0
        while i < len(found) and j < len(there):
            if abs(int(found[i]) - int(there[j])) <= TOLERANCE:
                self.right, i, j = self.right + 1, i + 1, j + 1
            elif found[i] < there[j]:
                i += 1
            else:
                j += 1

    @property
    def f1(self) -> float:
        return 2 * self.right / max(self.found + self.there, 1)


def scores(pieces: list[Labelled], marks: list[tuple[NDArray, NDArray]]) -> dict[str, float]:
    """F1 of phrase ends, of each class of cadence and their mean; marks are (phrase (b,) 0 or 1, cadence (b,))."""
    phrase, cadence, anywhere = Count(), [Count() for _ in range(3)], Count()
    for p, (ends, classes) in zip(pieces, marks, strict=True):
        if p.phrase[0] >= 0:
            phrase.add(np.flatnonzero(ends), np.flatnonzero(p.phrase == 1))
        if p.cadence[0] >= 0:
            anywhere.add(np.flatnonzero(classes), np.flatnonzero(p.cadence > 0))
            for k, count in enumerate(cadence):
                count.add(np.flatnonzero(classes == k + 1), np.flatnonzero(p.cadence == k + 1))
    each = {name: c.f1 for name, c in zip(("PAC", "HC", "other"), cadence, strict=True)}
    return {"phrase": phrase.f1, **each, "macro": float(np.mean(list(each.values()))), "any": anywhere.f1}


def decode(p: dict[str, NDArray], decoding: Decoding) -> tuple[NDArray, NDArray]:
    """Marks of one score from its probabilities, see `engine.models.tagger.tag.tag`."""
    ends = np.zeros(len(p["phrase"]), np.int64)
    ends[peaks(p["phrase"], decoding.phrase, decoding.apart)] = 1
    return ends, read_cadences(p["cadence"], decoding)


def choose(pieces: list[Labelled], probabilities: list[dict[str, NDArray]]) -> Decoding:
    """The thresholds with the best F1 on these pieces, optimised one after the other."""
    grid = np.round(np.arange(0.08, 0.7, 0.04), 2)

    def score(d: Decoding, name: str) -> float:
        return scores(pieces, [decode(p, d) for p in probabilities])[name]

    phrase = max(grid, key=lambda v: score(Decoding(phrase=float(v)), "phrase"))
    least = [0.3, 0.3, 0.3]
    for _ in range(2):
        for k in range(3):

            def with_value(v: float, k: int = k) -> Decoding:
                row = [*least]
                row[k] = float(v)
                return Decoding(float(phrase), (row[0], row[1], row[2]))

            least[k] = float(max(grid, key=lambda v: score(with_value(v), "macro")))
    return Decoding(float(phrase), (least[0], least[1], least[2]))


def every_fourth_bar(w: Written, beats: int) -> tuple[NDArray, NDArray]:
    """The baseline: a phrase ends on the first beat of every fourth whole bar; cadences alternate, HC then PAC."""
    first = int(w.bars.offset[0] > 0)
    at = w.bars.first[first + 3 :: 4]
    ends, classes = np.zeros(beats, np.int64), np.zeros(beats, np.int64)
    ends[at], classes[at[::2]], classes[at[1::2]] = 1, 2, 1
    return ends, classes
