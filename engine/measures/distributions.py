"""Distances between the distributions of two sets of performances.

`overlap_area` and `divergence` are those of mgeval (Yang & Lerch 2020, doi 10.1007/s00521-018-3849-7): densities
smoothed by a Gaussian kernel of Scott's width, their common area and their Kullback-Leibler divergence. mgeval applies
them to distances between samples (`distances_overlap`); we apply them to the per-segment values themselves, which also
detects a shifted mean.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from engine.measures.performance_metrics import CHORD_SEC
from engine.music.types import Performance

_POINTS = 1024  # of the grid on which densities are compared
_FLOOR = 1e-12
_TICK_SEC = 0.001
HISTOGRAMS = {
    "velocity": np.arange(129.0),  # 128 bins
    "duration": np.arange(251) * 0.002,  # seconds; 2 ms bins to 500 ms
    "IOI": np.arange(201) * 0.001,  # seconds between successive notes; 1 ms bins to 200 ms
    "pedal": np.arange(17.0),  # 16 patterns of four samples between an onset and the next
}


def smoothed(values: NDArray, grid: NDArray) -> NDArray[np.float64]:
    """Density of `values` on an even `grid`: Gaussian kernels, width sd · n^(-1/5) (Scott), as scipy's gaussian_kde.

    Computed on a fine histogram, so the cost does not depend on the number of values. Equal values get a width of three
    grid steps.
    """
    step = grid[1] - grid[0]
    width = values.std(ddof=1) * len(values) ** -0.2 if len(values) > 1 else 0.0
    width = max(width, 3 * step)
    place = np.clip((values - grid[0]) / step, 0, len(grid) - 1)
    low = np.minimum(place.astype(int), len(grid) - 2)
    counts = np.bincount(low, 1 - (place - low), len(grid)) + np.bincount(low + 1, place - low, len(grid))
    reach = np.arange(-len(grid) + 1, len(grid)) * step
    kernel = np.exp(-0.5 * (reach / width) ** 2)
    size = 1 << int(np.ceil(np.log2(3 * len(grid))))
    spread = np.fft.irfft(np.fft.rfft(counts, size) * np.fft.rfft(kernel, size), size)
    density = np.maximum(spread[len(grid) - 1 : 2 * len(grid) - 1], 0)
    return density / (density.sum() * step)


def _both(a: NDArray, b: NDArray) -> tuple[NDArray, NDArray, float]:
    """Densities of two sets on one grid, and its step."""
    a, b = (np.asarray(x, float)[np.isfinite(x)] for x in (a, b))
    if not len(a) or not len(b):
        raise ValueError("a distribution needs at least one finite value; nothing arrived for one of the two sets")
    both = np.concatenate([a, b])
    margin = 3 * max(x.std() * len(x) ** -0.2 for x in (a, b)) + 1e-9 * max(1.0, np.abs(both).max())
    grid = np.linspace(both.min() - margin, both.max() + margin, _POINTS)
    return smoothed(a, grid), smoothed(b, grid), float(grid[1] - grid[0])


def overlap_area(a: NDArray, b: NDArray) -> float:
    """Area under the lower of the two smoothed densities: 1 for equal distributions, 0 for disjoint ones.

    >>> overlap_area(np.arange(100), np.arange(100)), overlap_area(np.zeros(9), np.ones(9))
    (1.0, 0.0)
    """
    p, q, step = _both(a, b)
    return round(float(np.minimum(p, q).sum() * step), 6)


def divergence(a: NDArray, b: NDArray) -> float:
    """Kullback-Leibler divergence of the smoothed densities, KL(a || b), in nats."""
    p, q, step = _both(a, b)
    return float((p * np.log((p + _FLOOR) / (q + _FLOOR))).sum() * step)


def distances_overlap(made: NDArray, real: NDArray, most: int = 400, seed: int = 0) -> tuple[float, float]:
    """mgeval's measures: (overlap area, KL) of the distances within `real` and the distances from `made` to `real`.

    Distances are absolute differences of the per-segment values; `most` values of a set are drawn when it has more.
    """
    rng = np.random.default_rng(seed)
    made, real = (np.asarray(x, float)[np.isfinite(x)] for x in (made, real))
    made, real = (x if len(x) <= most else rng.choice(x, most, replace=False) for x in (made, real))
    intra = np.abs(real[:, None] - real)[np.triu_indices(len(real), 1)]
    inter = np.abs(made[:, None] - real).ravel()
    return overlap_area(intra, inter), divergence(intra, inter)


def pedal_patterns(performance: Performance) -> NDArray[np.int64]:
    """The pedal under each note as a number 0..15: down at 0, 1/4, 1/2, 3/4 of the time to the next onset, 8 4 2 1.

    In order of onset; the last onset has no successor and is left out. Onsets are groups within 30 ms.
    """
    onset = np.sort(performance.onset_sec)
    opens = np.append(True, np.diff(onset) > CHORD_SEC)
    start = onset[opens]
    at = start[:-1, None] + np.diff(start)[:, None] * np.array([0, 0.25, 0.5, 0.75])
    last = np.searchsorted(performance.pedal_sec, at, side="right") - 1
    value = np.append(performance.pedal_value, 0)[last]  # before the first event the pedal is up
    pattern = (value >= 64).astype(np.int64) @ np.array([8, 4, 2, 1])
    return np.repeat(pattern, np.bincount(np.cumsum(opens) - 1)[:-1])


def histograms(performances: Iterable[Performance]) -> dict[str, NDArray[np.float64]]:
    """Counts of HISTOGRAMS over all notes of many performances; values beyond a range count in its last bin.

    A time is spread over a millisecond, because files quantise times to ticks of about a millisecond, which would
    otherwise fall into different bins.
    """
    total = {name: np.zeros(len(edges) - 1) for name, edges in HISTOGRAMS.items()}
    for p in performances:
        for name, times in (("duration", p.duration_sec), ("IOI", np.diff(np.sort(p.onset_sec)))):
            edges = HISTOGRAMS[name]
            low, high = (np.asarray(times) + half for half in (-_TICK_SEC / 2, _TICK_SEC / 2))
            first, last = (np.clip(np.floor(v / edges[1]), 0, len(edges) - 2).astype(np.int64) for v in (low, high))
            share = np.where(last > first, (high - last * edges[1]) / _TICK_SEC, 1.0).clip(0, 1)
            total[name] += np.bincount(last, share, len(edges) - 1) + np.bincount(first, 1 - share, len(edges) - 1)
        total["velocity"] += np.bincount(p.velocity.clip(0, 127), minlength=128)
        total["pedal"] += np.bincount(pedal_patterns(p), minlength=16)
    return total


def jensen_shannon(p: NDArray, q: NDArray) -> float:
    """Jensen-Shannon distance of two histograms: the square root of the divergence in bits, 0 equal, 1 disjoint.

    >>> jensen_shannon(np.array([1, 1, 0]), np.array([2, 2, 0])), jensen_shannon(np.array([1, 0]), np.array([0, 5]))
    (0.0, 1.0)
    """
    p, q = p / p.sum(), q / q.sum()
    m = (p + q) / 2
    bits = sum(0.5 * np.sum(x[x > 0] * np.log2(x[x > 0] / m[x > 0])) for x in (p, q))
    return float(np.sqrt(max(bits, 0.0)))


def intersection(p: NDArray, q: NDArray) -> float:
    """Histogram intersection, 1 for equal ones.

    >>> intersection(np.array([1, 1]), np.array([1, 3]))
    0.75
    """
    return float(np.minimum(p / p.sum(), q / q.sum()).sum())


def bootstrap(values: NDArray, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    values = np.asarray(values, float)[np.isfinite(values)]
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
