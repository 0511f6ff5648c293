"""Many performances of one score bar by bar: mean and standard deviation, clusters, and their figure.

A bar's tempo is its beats over their time; velocity, timing and articulation are means over its beats. The band is the
mean over the performances and one sample standard deviation on each side. Passes that a performance omits are unknown.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.measures.curves import barlines, panels_layout
from engine.measures.side_by_side import Played, Shape, pearson
from engine.music.passes import left_out
from engine.music.types import Score

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_MANY = 200  # performances in one table
MOST_CLUSTERS = 6
MIN_SILHOUETTE = 0.25  # below it the performances do not divide into groups (Kaufman and Rousseeuw 1990, p. 88)


@dataclass(frozen=True)
class Band:
    """One measure of p performances over the m bars of a score, in playing order; NaN is unknown.

    values  (p, m); mean, sd (m,) over the known values, count (m,) how many; sd is NaN for one
    """

    name: str
    unit: str
    digits: int
    values: NDArray[np.float64]

    @property
    def count(self) -> NDArray[np.int64]:
        return np.isfinite(self.values).sum(0)

    @property
    def mean(self) -> NDArray[np.float64]:
        total = np.where(np.isfinite(self.values), self.values, 0).sum(0)
        return np.where(self.count > 0, total / np.maximum(self.count, 1), np.nan)

    @property
    def sd(self) -> NDArray[np.float64]:
        square = np.where(np.isfinite(self.values), self.values - self.mean, 0) ** 2
        return np.where(self.count > 1, np.sqrt(square.sum(0) / np.maximum(self.count - 1, 1)), np.nan)


def bands(score: Score, played: Sequence[Played], shapes: Sequence[Shape]) -> tuple[Band, ...]:
    """Tempo, velocity, timing and articulation of each bar; played[i] is the performance of shapes[i]."""
    m = score.measures
    bar = np.clip(np.searchsorted(m.onset_quarter, shapes[0].quarter + 1e-6, side="right") - 1, 0, len(m) - 1)

    def mean(values: NDArray) -> NDArray[np.float64]:
        known = np.isfinite(values)
        count = np.bincount(bar[known], minlength=len(m))
        total = np.bincount(bar[known], values[known], len(m))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    omitted = np.zeros((len(shapes), len(m)), bool)
    for k, performance in enumerate(played):
        for rows in left_out(score, performance.alignment):
            omitted[k, rows.start : rows.stop] = True

    def band(name: str, unit: str, digits: int, values: list[NDArray]) -> Band:
        return Band(name, unit, digits, np.where(omitted, np.nan, np.stack(values)))

    return (
        band("tempo", "beats/min", 2, [1 / mean(1 / shape.tempo) for shape in shapes]),
        band("velocity", "velocity", 2, [mean(shape.velocity) for shape in shapes]),
        band("timing", "ms", 2, [mean(shape.timing_ms) for shape in shapes]),
        band("articulation", "played / written", 4, [mean(shape.articulation) for shape in shapes]),
    )


def band_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Header of `band_rows` for these performances."""
    return ("measure", "unit", "bar", "pass", "quarter", "performances", "mean", "sd", *names)


def band_rows(score: Score, found: Sequence[Band]) -> list[tuple[object, ...]]:
    """One row for each measure and bar: its printed number and pass, count, mean, sd, and the value of each."""
    m, seen, turn = score.measures, dict[int, int](), []
    for number in m.number.tolist():
        seen[number] = seen.get(number, 0) + 1
        turn.append(seen[number])
    return [
        (band.name, band.unit, int(m.number[k]), turn[k], round(float(m.onset_quarter[k]), 4), int(band.count[k]),
         *(_cell(v, band.digits) for v in (band.mean[k], band.sd[k], *band.values[:, k])))
        for band in found for k in range(len(m))
    ]  # fmt: skip


def _cell(value: float, digits: int) -> object:
    return round(float(value), digits) if np.isfinite(value) else ""


def clusters(tempo: Band) -> list[int]:
    """Group of each performance by the shape of its tempo, from 1; all 1 if they do not divide.

    Average linkage over 1 - r of the logarithmic bar tempi; the number of groups has the largest mean silhouette.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    p = len(tempo.values)
    if p < 4:
        return [1] * p
    log_tempo = np.log2(tempo.values)
    apart = np.zeros((p, p))
    for i in range(p):
        for j in range(i):
            r = pearson(log_tempo[i], log_tempo[j])
            apart[i, j] = apart[j, i] = 1 - (r if np.isfinite(r) else 0)
    tree = linkage(squareform(apart, checks=False), "average")
    tried = [fcluster(tree, k, "maxclust") for k in range(2, min(MOST_CLUSTERS, p - 1) + 1)]
    best = max(tried, key=lambda groups: silhouette(apart, groups))
    return best.tolist() if silhouette(apart, best) >= MIN_SILHOUETTE else [1] * p


def silhouette(apart: NDArray, groups: NDArray) -> float:
    """Mean silhouette of groups (p,) under distances (p, p); 0 for one group and for members alone in theirs."""
    if len(set(groups.tolist())) < 2:
        return 0.0
    total = 0.0
    for i, own in enumerate(groups):
        mates = (groups == own) & (np.arange(len(groups)) != i)
        if mates.any():
            inside = apart[i, mates].mean()
            outside = min(apart[i, groups == other].mean() for other in set(groups.tolist()) - {own})
            total += (outside - inside) / max(inside, outside, 1e-9)
    return total / len(groups)


def bands_figure(score: Score, names: Sequence[str], found: Sequence[Band]) -> Figure:
    """Each performance as a thin line over the bars, with the mean and one standard deviation around it."""
    from plotly.graph_objects import Figure

    start = np.asarray(barlines(score)[0], float)
    traces: list[dict[str, Any]] = []
    for row, band in enumerate(found):
        axis = {"type": "scatter", "mode": "lines", "xaxis": "x", "yaxis": "y" if row == 0 else f"y{row + 1}"}
        for name, values in zip(names, band.values, strict=True):
            known = np.isfinite(values)
            traces.append({
                **axis, "x": start[known], "y": values[known].round(3), "name": html.escape(name, quote=False),
                "line": {"color": "rgba(128,128,128,.45)", "width": 0.8}, "showlegend": False,
                "hovertemplate": "%{y}<extra>%{fullData.name}</extra>",
            })  # fmt: skip
        known = np.isfinite(band.sd)
        mean, sd, x = band.mean[known], band.sd[known], start[known]
        edge = {"color": "rgba(30,150,255,0)", "width": 0}
        low = np.maximum(mean - sd, 0.05) if band.name == "articulation" else mean - sd
        traces += [
            {**axis, "x": x, "y": low.round(3), "line": edge, "showlegend": False, "hoverinfo": "skip"},
            {**axis, "x": x, "y": (mean + sd).round(3), "line": edge, "fill": "tonexty", "hoverinfo": "skip",
             "fillcolor": "rgba(30,150,255,.25)", "name": "± 1 standard deviation", "showlegend": row == 0},
            {**axis, "x": x, "y": mean.round(3), "line": {"color": "#1e96ff", "width": 2}, "name": "mean",
             "showlegend": row == 0, "hovertemplate": f"%{{y}} {band.unit}<extra>mean</extra>"},
        ]  # fmt: skip
    layout = panels_layout(score, traces)
    layout["legend"] = {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"}
    return Figure({"data": traces, "layout": layout})
