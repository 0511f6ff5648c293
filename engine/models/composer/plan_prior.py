"""Prior over plans: the earlier bar that each bar resembles, phrase ends and cadences.

A recurrent network over bars, trained on the bar structure of real scores (`training.composer.train_plan`). The
Composer follows the sampled plan, which gives form without a template.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.models.composer.composer import MAX_GENRES
from engine.models.composer.conditions import PERIODS
from engine.models.composer.inputs import END_EDGES, SINCE_EDGES, bucket
from engine.tokens.composer_tokens import METERS
from engine.tokens.plan import CADENCES, MAX_TRANSPOSE, Plan

MAX_LAG = 128  # bars; a return from further back counts as new music
SAME = 1  # class of a lag: the same as the bar before; 0 is no return, 1 + L a return from L bars back
LAG_CLASSES = 2 + MAX_LAG
SHIFTS = 2 * MAX_TRANSPOSE + 1
NEAR, EXACT = 0.6, 0.9  # likeness of each class of return
# Nats added to a return from eight bars back or more. The Composer follows about two thirds of a plan, so that unbiased
# plans would give pieces with less form; chosen on composed pieces (training/LOG.md).
FAR, MORE_FAR = 8, 0.5
_SINCE_PHRASE = 16
# of the bar before: lag, likeness, transposition, phrase end, cadence; of this bar: its place; of the piece: conditions
BEFORE_SIZES = (LAG_CLASSES, 3, SHIFTS + 1, 2, len(CADENCES))
PLACE_SIZES = (_SINCE_PHRASE + 1, 8, len(SINCE_EDGES) + 1, len(END_EDGES) + 2)
PIECE_SIZES = (len(METERS) + 1, len(PERIODS) + 1, MAX_GENRES, 2)


@dataclass(frozen=True)
class PlanPriorConfig:
    """Width of the recurrent state and of the output layers."""

    width: int = 96

    def to_json(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class PlanRows:
    """The classes of m bars.

    lag        (m,) bars back, 0 for none
    exact      (m,) whether a return is exact
    transpose  (m,) semitones, 0 without a return
    phrase     (m,) whether a phrase ends in the bar
    cadence    (m,) index into CADENCES
    """

    lag: NDArray[np.int64]
    exact: NDArray[np.bool_]
    transpose: NDArray[np.int64]
    phrase: NDArray[np.bool_]
    cadence: NDArray[np.int64]

    def targets(self) -> NDArray[np.int64]:
        """(m, 5): class of the lag, exact, transposition + MAX_TRANSPOSE, phrase, cadence."""
        before = np.concatenate([[0], self.lag[:-1]])
        lag = np.where((self.lag > 0) & (self.lag == before), SAME, np.where(self.lag > 0, 1 + self.lag, 0))
        shift = np.clip(self.transpose, -MAX_TRANSPOSE, MAX_TRANSPOSE) + MAX_TRANSPOSE
        return np.stack([lag, self.exact, shift, self.phrase, self.cadence], axis=-1).astype(np.int64)


def before_and_place(rows: PlanRows, first: int, left: NDArray[np.int64]) -> NDArray[np.int64]:
    """(m, 9) inputs: the bar before each, and its place. `first` bars go before; `left` (m,) bars follow, -1 unknown.

    The lag of the bar before is the plain lag + 1, not SAME.
    """
    m = len(rows.lag)
    lag = np.where(rows.lag > 0, 1 + rows.lag, 0)
    like = np.where(rows.lag > 0, 1 + rows.exact, 0)
    shift = np.where(rows.lag > 0, 1 + MAX_TRANSPOSE + np.clip(rows.transpose, -MAX_TRANSPOSE, MAX_TRANSPOSE), 0)
    own = np.stack([lag, like, shift, rows.phrase, rows.cadence], axis=-1).astype(np.int64)
    before = np.concatenate([np.zeros((1, 5), np.int64), own[:-1]])
    ends = np.concatenate([[False], rows.phrase[:-1]])
    index = np.arange(m)
    last = np.maximum.accumulate(np.where(ends, index, 0))
    bar = first + index
    remaining = np.where(left < 0, 0, 1 + bucket(left, END_EDGES))
    place = np.stack([np.minimum(index - last, _SINCE_PHRASE), bar % 8, bucket(bar, SINCE_EDGES), remaining], axis=-1)
    return np.concatenate([before, place], axis=-1).astype(np.int64)


class PlanPrior(nn.Module):
    """Bars from left to right; each bar's classes in order: lag, exactness, transposition, phrase end, cadence."""

    def __init__(self, config: PlanPriorConfig):
        super().__init__()
        self.config = config
        width = config.width
        sizes = (*BEFORE_SIZES, *PLACE_SIZES, *PIECE_SIZES)
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        self.cell = nn.GRU(width, width, batch_first=True)
        self.lag = nn.Linear(width, LAG_CLASSES)
        self.of_lag = nn.Embedding(3, width)  # none, same, another
        self.hidden = nn.Linear(width, width)
        self.exact = nn.Linear(width, 2)
        self.shift = nn.Linear(width, SHIFTS)
        self.phrase = nn.Linear(width, 2)
        self.of_phrase = nn.Embedding(2, width)
        self.cadence = nn.Linear(width, len(CADENCES))
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.1)  # type: ignore[arg-type]

    def states(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, m, 13) inputs -> states (B, m, D) and the last one, to go on from."""
        x = torch.stack([table(inputs[..., k]) for k, table in enumerate(self.tables)]).sum(0)
        return self.cell(x, state)

    def rest(self, h: Tensor, lag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Given the class of the lag (...): logits of exactness and transposition, and the state that phrases are
        predicted from."""
        h = h + self.of_lag(lag.clamp(max=2))
        y = torch.relu(self.hidden(h))
        return self.exact(y), self.shift(y), y

    def forward(self, inputs: Tensor, target: Tensor) -> list[Tensor]:
        """Logits of the five targets, each given those before it; inputs (B, m, 13), target (B, m, 5)."""
        h, _ = self.states(inputs)
        exact, shift, y = self.rest(h, target[..., 0])
        phrase = self.phrase(y)
        return [self.lag(h), exact, shift, phrase, self.cadence(y + self.of_phrase(target[..., 3]))]

    @torch.inference_mode()
    def draw(
        self, bars: int, rng: np.random.Generator, meter: int = -1, period: int = 0, genre: int = 0,
        left: int | None = None, given: NDArray[np.int64] | None = None, temperature: float = 1.0,
    ) -> Plan:  # fmt: skip
        """A plan of `bars` bars.

        meter   index into METERS, -1 unknown; period as in Conditions' classes; genre a class, 0 unknown
        left    bars after the last one; None if the length is unknown
        given   (bars,) lags that are fixed, -1 where one is drawn
        """
        given = np.full(bars, -1) if given is None else given
        found = np.zeros((bars, 5), np.int64)
        piece = [1 + meter, period, genre, 0]
        state, since, before = None, 0, np.zeros(5, np.int64)
        for i in range(bars):
            remaining = 0 if left is None else 1 + int(bucket(bars - 1 - i + left, END_EDGES))
            place = [min(since, _SINCE_PHRASE), i % 8, int(bucket(i, SINCE_EDGES)), remaining]
            h, state = self.states(torch.tensor([[[*before, *place, *piece]]]), state)
            lag = self._lag(h[0, 0], int(before[0]) - 1, i, int(given[i]), rng, temperature)
            kind = 0 if lag == 0 else SAME if lag == before[0] - 1 else 2
            exact, shift, y = self.rest(h[0, 0], torch.tensor(kind))
            phrase = _choose(self.phrase(y), rng, temperature)
            cadence = _choose(self.cadence(y + self.of_phrase(torch.tensor(phrase))), rng, temperature)
            close = _choose(exact, rng, temperature) if lag else 0
            move = _choose(shift, rng, temperature) - MAX_TRANSPOSE if lag else 0
            found[i] = lag, close, move, phrase, cadence
            since = 0 if phrase else since + 1
            before = np.array([
                1 + lag if lag else 0, 1 + close if lag else 0, 1 + MAX_TRANSPOSE + move if lag else 0, phrase, cadence
            ])  # fmt: skip
        lag, close, move, phrase, cadence = found.T
        return Plan(lag, np.where(lag > 0, np.where(close, EXACT, NEAR), 0.0), move, phrase, cadence)

    def _lag(self, h: Tensor, before: int, bar: int, given: int, rng: np.random.Generator, temperature: float) -> int:
        if given >= 0:
            return given
        logits = self.lag(h).clone()
        logits[1 + FAR :] += MORE_FAR
        if before >= FAR:
            logits[SAME] += MORE_FAR
        logits[SAME + 1 + bar :] = -torch.inf  # no bar is that far back
        if before <= 0 or before > bar:
            logits[SAME] = -torch.inf
        else:
            logits[1 + before] = -torch.inf  # it is SAME
        drawn = _choose(logits, rng, temperature)
        return before if drawn == SAME else max(drawn - 1, 0)


def _choose(logits: Tensor, rng: np.random.Generator, temperature: float) -> int:
    p = torch.softmax(logits.double() / temperature, -1).numpy().cumsum()
    return int(min(np.searchsorted(p, rng.random() * p[-1], side="right"), len(p) - 1))
