"""Training data: the corpus in memory, expected descriptors of the style axes, random windows as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.models.pianist.features import CATEGORIES, COMPOSERS, MARKED, STRUCTURE, Features, score_features
from engine.models.pianist.pianist import CHANNELS, EXPECTED, PEDAL, TEMPO, VELOCITY, from_channels, to_channels
from engine.models.pianist.style import descriptors
from training.pianist.pack import Pack

_FIRST_MARK = len(STRUCTURE)
_MARK_COLUMN = {k: _FIRST_MARK + i for i, k in enumerate(MARKED)}
_VELOCITY_COLUMNS = [_MARK_COLUMN[k] for k in ("velocity", "velocity_known", "velocity_step", "velocity_piece")]
_TEMPO_COLUMNS = [_MARK_COLUMN[k] for k in ("beat_period", "beat_period_known")]
_SIGN_COLUMNS = list(range(_MARK_COLUMN["crescendo"], _MARK_COLUMN["beat_period"]))
_ACCENT_STEP = 0.6  # increase of the velocity feature by an accent in a notation program's MIDI
_CATEGORY = {k: i for i, k in enumerate(CATEGORIES)}
READINGS = ("full", "midi", "none")  # degrees of notation available to the model
_INFILLED = 0.25  # share of windows in which only a span is performed and the rest is given
_RIDGE = 30.0


class PianistCorpus:
    """The corpus in memory: features per score, channels and sampling weight per performance.

    split  "train" or "validation"
    limit  use only that many performances; 0 is all
    share  use only this share of the works, drawn with a fixed seed; the smaller share lies within the larger
    given  (score, reading) -> (n, 3) expected channel values, for a model of the residual; readings as in `READINGS`
    """

    def __init__(
        self, pack: Pack, split: str, limit: int = 0, given: Mapping[tuple[int, str], NDArray] | None = None,
        share: float = 1.0,
    ):  # fmt: skip
        self.given = given
        items = [i for i in range(len(pack)) if pack.columns["split"][i] == split]
        if share < 1:
            works = np.unique([pack.columns["work"][i] for i in items])
            works = np.random.default_rng(0).permutation(works)[: max(1, round(share * len(works)))]
            items = [i for i in items if pack.columns["work"][i] in set(works)]
        self.features: dict[tuple[int, int], Features] = {}
        self.index, self.x, self.played, self.works, self.names = [], [], [], [], []
        for i in items[: limit or None]:
            item = pack.item(i)
            key = (int(pack.columns["score"][i]), item.composer)
            if key not in self.features:
                self.features[key] = score_features(item.score, item.composer)
            self.index.append(key)
            self.x.append(to_channels(item.expression))
            self.played.append(np.array(item.expression.played))
            self.works.append(item.work)
            self.names.append(item.name)
        self.labels = sorted(set(self.works))
        notes = np.array([len(x) for x in self.x], float)
        counts = {w: self.works.count(w) for w in set(self.works)}
        weight = notes / np.sqrt([counts[w] for w in self.works])
        self.weight = weight / weight.sum()

    def __len__(self) -> int:
        return len(self.x)

    def describe(self, i: int, start: int, end: int, x: NDArray) -> NDArray:
        """Raw style descriptors (9,) of the channels x of notes start:end of performance i."""
        f = self.features[self.index[i]]
        e = from_channels(x)
        return descriptors(
            f.beat_index[start:end], f.chord_index[start:end], f.category[start:end, 0],
            np.log2(e.beat_period), e.velocity, e.timing_sec, e.articulation_log2, e.pedal, self.played[i][start:end],
        )  # fmt: skip

    def summary(self, i: int, start: int, end: int) -> NDArray:
        """Score features of a window, the regressors of the expected descriptors."""
        f = self.features[self.index[i]]
        composer = np.eye(len(COMPOSERS))[f.category[start, _CATEGORY["composer"]]]
        return np.concatenate([[1.0], f.value[start:end].mean(0), f.value[start:end].std(0), composer])


@dataclass
class DescriptorRegression:
    """Expected descriptors (ridge regression on the score plus the piece's shrunk mean) and their residual.

    ridge      (P, 9) weights on `PianistCorpus.summary`
    work       name of a piece -> (9,) its mean residual
    deviation  (9,) standard deviation of the rest, the unit of the style axes
    """

    ridge: NDArray
    work: dict[str, NDArray]
    deviation: NDArray

    @classmethod
    def fit(cls, corpus: PianistCorpus, window: int, per_item: int = 6) -> DescriptorRegression:
        """Fit on `per_item` random windows of every performance."""
        rng = np.random.default_rng(0)
        inputs, targets, works = [], [], []
        for i in range(len(corpus)):
            for _ in range(per_item):
                start = int(rng.integers(0, max(len(corpus.x[i]) - window, 0) + 1))
                end = min(start + window, len(corpus.x[i]))
                inputs.append(corpus.summary(i, start, end))
                targets.append(corpus.describe(i, start, end, corpus.x[i][start:end]))
                works.append(corpus.works[i])
        a, y = np.array(inputs), np.array(targets)
        ridge = np.zeros((a.shape[1], y.shape[1]))
        for k in range(y.shape[1]):
            ok = np.isfinite(y[:, k])
            if ok.any():
                ridge[:, k] = np.linalg.solve(a[ok].T @ a[ok] + _RIDGE * np.eye(a.shape[1]), a[ok].T @ y[ok, k])
        rest = y - a @ ridge
        work = {}
        for w in set(works):
            r = rest[[v == w for v in works]]
            n = np.isfinite(r).sum(0) / per_item
            work[w] = np.nan_to_num(np.nansum(r, axis=0) / np.maximum(np.isfinite(r).sum(0), 1)) * n / (n + 1.0)
        rest = rest - np.array([work[w] for w in works])
        return cls(ridge, work, np.nan_to_num(np.nanstd(rest, axis=0), nan=1.0) + 1e-6)

    def residual(self, corpus: PianistCorpus, i: int, start: int, end: int, x: NDArray) -> NDArray:
        """Residual descriptors of a window in standard deviations, clipped to +-4; NaN when unmeasurable."""
        raw = corpus.describe(i, start, end, x)
        expected = corpus.summary(i, start, end) @ self.ridge + self.work.get(corpus.works[i], 0.0)
        return np.clip((raw - expected) / self.deviation, -4, 4)


def make_batch(
    corpus: PianistCorpus,
    expected: DescriptorRegression,
    rng: np.random.Generator,
    size: int,
    window: int,
    augment: bool,
) -> dict[str, Tensor]:
    """`size` (B) random windows as tensors.

    category (B, T, 6), value (B, T, F), onset (B, T): the score, as in `Features`
    x (B, T, 8), played (B, T), noise (B, T, 8): the performance, and noise that is shared like tempo and pedal
    valid, known (B, T): False in the padding; True for given notes, which are not performed
    axes, axes_known (B, 9): residual style in deviations, and whether it could be measured
    work (B,): index into `PianistCorpus.labels`
    expected (B, T, 3): where the corpus has expected values; they are then taken off x
    """
    rows = [
        _draw_window(corpus, expected, rng, i, window, augment)
        for i in rng.choice(len(corpus), size, p=corpus.weight)
    ]  # fmt: skip
    batch = {k: torch.from_numpy(np.stack([row[k] for row in rows])) for k in rows[0]}
    batch["axes_known"] = torch.isfinite(batch["axes"])
    batch["axes"] = torch.nan_to_num(batch["axes"]).float()
    return batch


def _draw_window(
    corpus: PianistCorpus, expected: DescriptorRegression, rng: np.random.Generator, i: int, window: int, augment: bool
) -> dict[str, NDArray]:
    """One random window of performance i, padded to `window` notes; the ends are as frequent as the middle."""
    f, n = corpus.features[corpus.index[i]], len(corpus.x[i])
    start = max(int(rng.integers(-window // 4, max(n - window // 2, 1))), 0)
    end = min(start + window, n)
    x, played = corpus.x[i][start:end].copy(), corpus.played[i][start:end]
    category, value = f.category[start:end].copy(), f.value[start:end].copy()
    reading = "full"
    if augment:
        _vary(x, category, rng)
        reading = _drop_marks(category, value, rng)
    axes = expected.residual(corpus, i, start, end, x)
    noise = rng.standard_normal(x.shape).astype(np.float32)
    beat, chord = f.beat_index[start:end], f.chord_index[start:end]
    noise[:, TEMPO] = rng.standard_normal(np.ptp(beat) + 1)[beat - beat.min()]
    noise[:, PEDAL] = rng.standard_normal((np.ptp(chord) + 1, CHANNELS - 4))[chord - chord.min()]
    row = {
        "category": category, "value": value, "onset": f.onset_beat[start:end], "x": x,
        "valid": np.ones(len(x), bool), "played": played, "known": _given_notes(len(x), rng) & played, "noise": noise,
    }  # fmt: skip

    if corpus.given is not None:
        row["expected"] = corpus.given[corpus.index[i][0], reading][start:end]
        x[:, EXPECTED] -= row["expected"]

    def padded(name: str, a: NDArray) -> NDArray:
        mode = "edge" if name == "onset" else "constant"
        return np.pad(a, [(0, window - len(a))] + [(0, 0)] * (a.ndim - 1), mode=mode)

    work = np.array(corpus.labels.index(corpus.works[i]))
    return {k: padded(k, v) for k, v in row.items()} | {"axes": axes, "work": work}


def _vary(x: NDArray, category: NDArray, rng: np.random.Generator) -> None:
    """Augment loudness, tempo and key of the whole window, in place."""
    x[:, VELOCITY] += rng.uniform(-0.4, 0.4)
    x[:, TEMPO] += rng.uniform(-0.15, 0.15)
    shift = int(rng.integers(-5, 7))
    if category[:, 0].min() + shift >= 21 and category[:, 0].max() + shift <= 108:
        category[:, 0] += shift


def _given_notes(n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Flags of the given notes of a window, (n,): usually none, sometimes all but a span (infilling)."""
    known = np.zeros(n, bool)
    if rng.random() < _INFILLED:
        span = int(rng.integers(4, max(n, 6)))
        at = int(rng.integers(0, max(n - span, 0) + 1))
        known[:] = True
        known[at : at + span] = False
    return known


def _drop_marks(category: NDArray, value: NDArray, rng: np.random.Generator) -> str:
    """Hide notation at random, so that the model also performs plain files: all, MIDI-like, none, or a random part.

    Returns the remaining reading, of READINGS; a random part counts as "full".
    """
    marks = slice(_FIRST_MARK, None)
    mode = rng.choice(4, p=(0.45, 0.25, 0.15, 0.15))
    if mode == 1:  # as in a notation program's MIDI: velocities with accents, possibly a tempo
        accent = _ACCENT_STEP * (value[:, _MARK_COLUMN["accent"]] + value[:, _MARK_COLUMN["marcato"]])
        kept = value[:, _VELOCITY_COLUMNS + _TEMPO_COLUMNS].copy()
        known = kept[:, 1] > 0
        for column in (0, 2, 3):
            kept[:, column] += np.where(known, accent, 0)
        if rng.random() < 0.3:
            kept[:, 4:] = 0
        value[:, marks] = 0
        value[:, _VELOCITY_COLUMNS + _TEMPO_COLUMNS] = kept
        category[:, _CATEGORY["tempo_word"]] = 0
    elif mode == 2:
        value[:, marks] = 0
        category[:, _CATEGORY["tempo_word"]] = 0
    elif mode == 3:
        for group in (_VELOCITY_COLUMNS, _TEMPO_COLUMNS, _SIGN_COLUMNS):
            if rng.random() < 0.5:
                value[:, group] = 0
        if rng.random() < 0.5:
            category[:, _CATEGORY["tempo_word"]] = 0
    if rng.random() < 0.3:
        category[:, _CATEGORY["composer"]] = 0
    if rng.random() < 0.1:
        category[:, _CATEGORY["staff"]] = 0
    return {1: "midi", 2: "none"}.get(int(mode), "full")
