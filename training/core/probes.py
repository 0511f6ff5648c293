"""Statistics for the open questions: a linear probe with held-out groups, and bootstrap intervals over groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % interval; `str` prints it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def standardised(x: NDArray, known: NDArray) -> NDArray[np.float64]:
    """Columns of x (n, d) with mean 0 and deviation 1 over the rows `known`; constant columns become 0."""
    deviation = x[known].std(0)
    return np.where(deviation > 1e-9, (x - x[known].mean(0)) / np.maximum(deviation, 1e-9), 0.0)


def logistic(x: NDArray, label: NDArray, classes: int, decay: float = 0.02, steps: int = 300) -> NDArray[np.float64]:
    """Multinomial logistic regression by gradient descent with momentum, (d + 1, classes); the last row is the bias.

    x      (n, d) standardised
    label  (n,) int; all classes have the same weight, whatever their frequency
    decay  weight of the squared coefficients, except the bias
    """
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    count = np.bincount(label, minlength=classes)
    share = (1 / np.maximum(count, 1))[label] / (count > 0).sum()
    target = np.eye(classes)[label]
    weight, speed = np.zeros((x.shape[1], classes)), np.zeros((x.shape[1], classes))
    curvature = 0.5 * np.linalg.eigvalsh((x * share[:, None]).T @ x)[-1] + decay
    for _ in range(steps):
        score = x @ weight
        p = np.exp(score - score.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        gradient = x.T @ ((p - target) * share[:, None]) + decay * np.append(weight[:-1], 0 * weight[-1:], axis=0)
        speed = 0.9 * speed - gradient / curvature
        weight = weight + speed
    return weight


def predicted_by_fold(x: NDArray, label: NDArray, group: ArrayLike, folds: int = 5, seed: int = 0) -> NDArray[np.int64]:
    """Predicted class of each row, (n,), by a linear probe trained on the other groups.

    A class that occurs in one group only cannot be learned for that group and counts as missed.

    x      (n, d)
    label  (n,) int
    group  (n,) rows of one group are never split between training and test
    """
    names, index = np.unique(group, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(names))[index] % min(folds, len(names))
    classes = int(label.max()) + 1
    out = np.full(len(x), -1)
    for k in np.unique(fold):
        train = fold != k
        z = standardised(x, train)
        weight = logistic(z[train], label[train], classes)
        known = np.bincount(label[train], minlength=classes) > 0
        score = np.where(known, z[~train] @ weight[:-1] + weight[-1], -np.inf)
        out[~train] = score.argmax(1)
    return out


def balanced_accuracy(predicted: NDArray, label: NDArray) -> float:
    """Balanced accuracy: recall averaged over the classes; 1 / classes is chance.

    >>> balanced_accuracy(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
    0.8333333333333333
    """
    return float(np.mean([(predicted[label == c] == c).mean() for c in np.unique(label)]))


def bootstrap(groups: ArrayLike, figure: Callable[[NDArray], float], draws: int = 1000, seed: int = 0) -> Figure:
    """A figure with its 95 % bootstrap interval over groups.

    groups  (n,) group of each row; whole groups are resampled with replacement
    figure  rows (m,) int -> value; draws with a value that is not finite are left out
    """
    names, index = np.unique(groups, return_inverse=True)
    rows = [np.flatnonzero(index == g) for g in range(len(names))]
    rng = np.random.default_rng(seed)
    found = [figure(np.concatenate([rows[g] for g in rng.integers(0, len(names), len(names))])) for _ in range(draws)]
    found = [v for v in found if np.isfinite(v)] or [np.nan]
    low, high = np.percentile(found, [2.5, 97.5])
    return Figure(figure(np.arange(len(index))), float(low), float(high))


def probe(
    x: NDArray, label: ArrayLike, group: ArrayLike, draws: int = 1000, shuffles: int = 20
) -> tuple[Figure, float, float]:
    """Balanced accuracy of a linear probe on unseen groups with its interval over groups, chance, and the 95th
    percentile of the same probe on shuffled labels.

    Labels are shuffled among all rows.
    """
    names, index = np.unique(label, return_inverse=True)
    groups = np.asarray(group)
    found = predicted_by_fold(x, index, groups)
    rng = np.random.default_rng(0)
    shuffled = []
    for k in range(shuffles):
        other = rng.permutation(index)
        shuffled.append(balanced_accuracy(predicted_by_fold(x, other, groups, seed=k), other))
    accuracy = bootstrap(groups, lambda rows: balanced_accuracy(found[rows], index[rows]), draws)
    return accuracy, 1 / len(names), float(np.percentile(shuffled, 95))


def without_piece(x: NDArray, piece: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows of pieces that have two or more, minus the mean of the piece's other rows: (k, d), and which rows (k,)."""
    names, index = np.unique(piece, return_inverse=True)
    count = np.bincount(index, minlength=len(names))
    rows = np.flatnonzero(count[index] >= 2)
    total = np.zeros((len(names), x.shape[1]))
    np.add.at(total, index, x)
    others = (total[index] - x)[rows] / (count[index][rows] - 1)[:, None]
    return x[rows] - others, rows


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table.

    >>> print(table(("a", "b"), [(1, 0.5)]))
    | a | b |
    |---|---|
    | 1 | 0.500 |
    """
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        cells = (f"{v:.3f}" if isinstance(v, float) else str(v) for v in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
