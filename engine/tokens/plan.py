"""The plan of a piece: for each bar, the earlier bar that it resembles, phrase ends and cadences.

A plan is five integer classes a bar, PLAN_COLUMNS; class 0 leaves a column open. The distance, likeness and
transposition are measured by `engine.measures.form`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

PLAN_COLUMNS = ("lag", "likeness", "transpose", "phrase", "cadence")
OPEN = 0
LAG_EDGES = np.array([1, 2, 3, 5, 9, 17, 33, 65])  # bars: 1, 2, 3-4, 5-8, 9-16, 17-32, 33-64, more
NO_LAG = 1  # the bar resembles no earlier bar
CLOSE = 0.8  # minimum likeness of an exact return
MAX_TRANSPOSE = 12
PLAN_SIZES = (2 + len(LAG_EDGES), 4, 2 + 2 * MAX_TRANSPOSE, 3, 5)
CADENCES = ("", "PAC", "HC", "other")


@dataclass(frozen=True)
class Plan:
    """One entry a bar.

    lag        (m,) bars back to the bar that it resembles; 0 none, -1 open
    likeness   (m,) 0 to 1, Jaccard similarity to that bar
    transpose  (m,) semitones from that bar to this one
    phrase     (m,) 1 if a phrase ends in the bar, 0 if not, -1 open
    cadence    (m,) index into CADENCES, -1 open
    """

    lag: NDArray[np.int64]
    likeness: NDArray[np.float64]
    transpose: NDArray[np.int64]
    phrase: NDArray[np.int64]
    cadence: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lag)

    @classmethod
    def open(cls, bars: int) -> Plan:
        """A plan that leaves every bar open."""
        none, zero = np.full(bars, -1), np.zeros(bars, np.int64)
        return cls(none, zero.astype(float), zero, none, none)

    def first(self, bars: int) -> Plan:
        """The plan of the first `bars` bars."""
        return Plan(*(getattr(self, k)[:bars] for k in self.__dataclass_fields__))

    def closed(self) -> Plan:
        """This plan with the end of a phrase and an authentic cadence in its last bar."""
        phrase, cadence = self.phrase.copy(), self.cadence.copy()
        phrase[-1], cadence[-1] = 1, CADENCES.index("PAC")
        return replace(self, phrase=phrase, cadence=cadence)

    def last(self, bars: int) -> Plan:
        """The plan of the last `bars` bars."""
        begin = len(self) - bars
        return Plan(*(getattr(self, k)[begin:] for k in self.__dataclass_fields__))

    def followed_by_open(self, bars: int) -> Plan:
        """This plan with `bars` open bars after it."""
        return self.followed_by(Plan.open(bars))

    def followed_by(self, more: Plan) -> Plan:
        """This plan and then another; the other's lags stay as they are."""
        return Plan(*(np.concatenate([getattr(self, k), getattr(more, k)]) for k in self.__dataclass_fields__))

    def classes(self) -> NDArray[np.int64]:
        """(m, 5) PLAN_COLUMNS.

        >>> one = np.ones(1, int)
        >>> Plan(8 * one, 0.9 * one, 0 * one, one, 2 * one).classes()
        array([[ 5,  3, 13,  2,  3]])
        >>> Plan(0 * one, 0.2 * one, 0 * one, 0 * one, -one).classes()
        array([[1, 1, 0, 1, 0]])
        """
        return plan_classes(self.lag, self.likeness, self.transpose, self.phrase, self.cadence)


def plan_classes(
    lag: ArrayLike, likeness: ArrayLike, transpose: ArrayLike, phrase: ArrayLike, cadence: ArrayLike
) -> NDArray[np.int64]:
    """(m, 5) PLAN_COLUMNS of the columns of a Plan."""
    far = np.asarray(lag)
    refers, known = far > 0, far >= 0
    lags = np.where(refers, 1 + np.searchsorted(LAG_EDGES, far, side="right"), np.where(known, NO_LAG, OPEN))
    like = np.where(refers, np.where(np.asarray(likeness) >= CLOSE, 3, 2), np.where(known, 1, OPEN))
    shift = np.where(refers, 1 + MAX_TRANSPOSE + np.clip(transpose, -MAX_TRANSPOSE, MAX_TRANSPOSE), OPEN)
    return np.stack([lags, like, shift, np.asarray(phrase) + 1, np.asarray(cadence) + 1], axis=-1).astype(np.int64)
