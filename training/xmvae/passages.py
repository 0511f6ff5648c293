"""Passages with performances by several pianists, from the pack of ECP tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.tokens.tables import (
    ARTICULATION,
    ARTICULATIONS,
    BEAT_PERIOD,
    FAMILY,
    LOG2_BEAT_PERIODS,
    METRIC,
    NOTE,
    VELOCITIES,
    VELOCITY,
)  # fmt: skip
from training.xmvae.segments import BeatCorpus, enclose

QUANTITIES = ("velocity", "log2 beat period", "articulation")
DESCRIPTORS = ("tempo", "loudness", "contrast", "articulation")


@dataclass(frozen=True)
class Passage:
    """One segment of a composition, in the tokens of all its performances.

    work       the composition
    performers (k,) names
    played     (k, T, 8): BOS, the steps, EOS; the first four columns are the same in all
    """

    work: str
    performers: tuple[str, ...]
    played: NDArray[np.int64]

    @property
    def score(self) -> NDArray[np.int64]:
        """(T, 4)"""
        return self.played[0, :, :4]


def find(rows: NDArray, inside: NDArray) -> int:
    """First row of `inside` (m, 4) at which `rows` (n, 4) occur consecutively, -1 if nowhere."""
    needle, hay = rows.astype(np.uint8).tobytes(), inside.astype(np.uint8).tobytes()
    at = hay.find(needle)
    while at % 4 > 0:  # -1 % 4 is 3, but -1 ends the search
        if at < 0:
            return -1
        at = hay.find(needle, at + 1)
    return at // 4


def passages(corpus: BeatCorpus, least: int = 1, most: int = 0) -> list[Passage]:
    """Passages of a split: the segments of each composition's longest performance that others contain too.

    least  minimum pianists of a passage
    most   maximum passages, spread evenly; 0 for all
    """
    out: list[Passage] = []
    for work in sorted(corpus.works):
        mine = [corpus.pieces[i] for i in corpus.works[work]]
        of_name: dict[str, list] = {}
        for piece in mine:
            of_name.setdefault(piece.name, []).append(piece)
        longest = max(of_name, key=lambda name: sum(len(p.tokens) for p in of_name[name]))
        seen: set[bytes] = set()
        for piece, segment in corpus.segments():
            rows = segment[1:-1, :4]
            if piece.name != longest or rows.tobytes() in seen:
                continue
            seen.add(rows.tobytes())
            names, played = [], []
            for name, runs in of_name.items():
                places = [(r, find(rows, r.tokens[:, :4])) for r in runs]
                there = next(((r, at) for r, at in places if at >= 0), None)
                if there is not None:
                    names.append(name.rsplit("/", 1)[-1])
                    played.append(enclose(there[0].tokens[there[1] : there[1] + len(rows)]))
            if len(names) >= least:
                out.append(Passage(work, tuple(names), np.stack(played)))
    if most and most < len(out):
        out = [out[i] for i in np.linspace(0, len(out) - 1, most).astype(int)]
    return out


def onset_of(tokens: NDArray) -> NDArray[np.int64]:
    """Index of the onset of each Note step in the segment, (notes,), from 0."""
    note = tokens[:, FAMILY] == NOTE
    _, index = np.unique(np.cumsum(tokens[:, FAMILY] == METRIC)[note], return_inverse=True)
    return index


def quantities(tokens: NDArray) -> dict[str, NDArray[np.float64]]:
    """QUANTITIES of a played segment (T, 8): velocity and articulation_log2 one a note, log2 beat period one an onset.

    NaN for omissions.
    """
    rows = tokens[tokens[:, FAMILY] == NOTE]
    known = rows[:, BEAT_PERIOD] > 0
    onset = onset_of(tokens)
    period = np.full(onset.max() + 1, np.nan)
    period[onset[known]] = LOG2_BEAT_PERIODS[rows[known, BEAT_PERIOD] - 1]
    return {
        "velocity": np.where(known, VELOCITIES[rows[:, VELOCITY] - 1], np.nan),
        "log2 beat period": period,
        "articulation": np.where(known, ARTICULATIONS[rows[:, ARTICULATION] - 1], np.nan),
    }


def describe(tokens: NDArray) -> NDArray[np.float64]:
    """DESCRIPTORS of a played segment, (4,): minus mean log2 beat period, mean and deviation of velocity, mean
    articulation_log2."""
    q = quantities(tokens)
    v = q["velocity"]
    return np.array([-np.nanmean(q["log2 beat period"]), np.nanmean(v), np.nanstd(v), np.nanmean(q["articulation"])])
