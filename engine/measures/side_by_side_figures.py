"""Figures of several performances of one score: stacked curves over score time, and paths through tempo and loudness.

The colours are distinguishable with colour blindness (simulated after Machado et al. 2009) and have a contrast of 3 to
1 on white and near-black; dashes are a second cue.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.measures.curves import GRID, barlines, panels_layout
from engine.measures.side_by_side import Shape, bar_beats, places, trajectory
from engine.music.types import Score

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("#1e96ff", "#f06900", "#4ba569", "#b41eb4", "#696969", "#d21e2d", "#4b4bff", "#a587b4")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "4px 2px 1px 2px", "8px 3px 2px 3px")
TAIL = 12  # beats of the fading tail
MAX_STEPS = 150  # positions of the slider
_UNITS = ("%{y:.0f} beats/min", "velocity %{y:.0f}", "%{y:.0f} ms", "× %{y:.2f}")


def stacked_figure(score: Score, shapes: Sequence[Shape], slots: Sequence[int] | None = None) -> Figure:
    """Tempo, velocity, timing and articulation of each performance, beat by beat, over one axis of bars.

    slots  the colour of each, an index into COLOURS; by default in order
    """
    from plotly.graph_objects import Figure

    where, traces = places(score), []
    for k, shape in zip(_slots(shapes, slots), shapes, strict=True):
        columns = (shape.tempo, shape.velocity, shape.timing_ms, shape.articulation)
        for row, (values, unit) in enumerate(zip(columns, _UNITS, strict=True)):
            known = np.isfinite(values)
            traces.append({
                "type": "scatter", "mode": "lines", "x": shape.beat[known].round(3), "y": values[known].round(3),
                "name": _name(shape), "legendgroup": str(k), "showlegend": row == 0, "xaxis": "x",
                "yaxis": "y" if row == 0 else f"y{row + 1}", "line": _line(k, 1.6),
                "customdata": [where[i] for i in np.flatnonzero(known)],
                "hovertemplate": f"%{{customdata}}: {unit}<extra>%{{fullData.name}}</extra>",
            })  # fmt: skip
    layout = panels_layout(score, traces)
    layout["legend"] = {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"}
    layout["margin"] |= {"t": 26 + 18 * (len(shapes) // 3)}
    return Figure({"data": traces, "layout": layout})


def worm_figure(score: Score, shapes: Sequence[Shape], slots: Sequence[int] | None = None) -> Figure:
    """The path of each performance through tempo and loudness (Langner and Goebl 2003), with a slider over the bars.

    First one trace a performance, its whole path, whose customdata are the quarters of its points; then one a
    performance of its last TAIL beats, which the slider moves.
    """
    from plotly.graph_objects import Figure

    width, where = max(2.0, bar_beats(score)), places(score)
    paths = [tuple(v.round(2) for v in trajectory(shape, width)) for shape in shapes]
    chosen = _slots(shapes, slots)
    whole = [
        {
            "type": "scatter", "mode": "lines", "x": x, "y": y, "name": _name(shape), "legendgroup": str(k),
            "line": {**_line(k, 1.2), "shape": "spline"}, "opacity": 0.45, "text": where, "customdata": shape.quarter,
            "hovertemplate": "%{text}: %{x:.0f} beats/min, velocity %{y:.0f}<extra>%{fullData.name}</extra>",
        }
        for k, shape, (x, y) in zip(chosen, shapes, paths, strict=True)
    ]  # fmt: skip
    tails = [
        {
            "type": "scatter", "mode": "markers", "legendgroup": str(k), "showlegend": False, "hoverinfo": "skip",
            "marker": {
                "color": COLOURS[k], "size": np.linspace(3, 13, TAIL).round(1), "line": {"width": 0},
                "opacity": np.linspace(0.1, 1, TAIL).round(2),
            },
            **_tail(path, len(where) - 1),
        }
        for k, path in zip(chosen, paths, strict=True)
    ]  # fmt: skip
    return Figure({"data": whole + tails, "layout": _worm_layout(score, shapes, paths)})


def _worm_layout(score: Score, shapes: Sequence[Shape], paths: list) -> dict[str, Any]:
    """Fixed axes, and the slider: one step per bar, fewer in long pieces."""
    starts, labels = barlines(score)
    beat = shapes[0].beat
    first = np.unique(np.clip(np.searchsorted(beat, starts - 1e-3), 0, len(beat) - 1), return_index=True)
    every = -(-len(first[0]) // MAX_STEPS)
    moving = list(range(len(shapes), 2 * len(shapes)))
    steps = []
    for at, bar in list(zip(first[0].tolist(), first[1].tolist(), strict=True))[::every]:
        tails = [_tail(path, at) for path in paths]
        moved = {"x": [t["x"] for t in tails], "y": [t["y"] for t in tails]}
        steps.append({"label": labels[bar], "method": "restyle", "args": [moved, moving]})
    axis, label = {"gridcolor": GRID, "zeroline": False}, {"size": 12, "color": "#888"}
    return {
        "height": 470, "margin": {"l": 62, "r": 12, "t": 26 + 18 * (len(shapes) // 3), "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"size": 11, "color": "#888"},
        "hovermode": "closest", "uirevision": score.digest, "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"},
        "xaxis": {**axis, "title": {"text": "Tempo, beats per minute"}, "range": _range(p[0] for p in paths)},
        "yaxis": {**axis, "title": {"text": "Loudness, MIDI velocity"}, "range": _range(p[1] for p in paths)},
        "sliders": [{
            "active": len(steps) - 1, "steps": steps, "currentvalue": {"prefix": "Bar ", "font": label},
            "pad": {"t": 34, "b": 4}, "ticklen": 0, "minorticklen": 0, "font": {"color": "rgba(0,0,0,0)", "size": 1},
            "bgcolor": "#888", "activebgcolor": "#1e96ff", "bordercolor": "rgba(128,128,128,.5)", "len": 1, "x": 0,
        }],
    }  # fmt: skip


def _tail(path: tuple[NDArray, NDArray], at: int) -> dict[str, list]:
    """The TAIL points up to number `at`; before the beginning there are none."""
    first = at - TAIL + 1
    return {
        axis: [None] * max(0, -first) + np.where(np.isfinite(v), v, 0)[max(0, first) : at + 1].tolist()
        for axis, v in zip(("x", "y"), path, strict=True)
    }


def _range(values: Any) -> list[float]:
    every = np.concatenate([v[np.isfinite(v)] for v in values])
    low, high = float(every.min()), float(every.max())
    room = max(2.0, 0.08 * (high - low))
    return [low - room, high + room]


def _slots(shapes: Sequence[Shape], slots: Sequence[int] | None) -> list[int]:
    return [k % len(COLOURS) for k in (range(len(shapes)) if slots is None else slots)]


def _line(k: int, width: float) -> dict[str, Any]:
    return {"color": COLOURS[k], "dash": DASHES[k], "width": width}


def _name(shape: Shape) -> str:
    """Escape a name, because Plotly renders names as HTML."""
    return html.escape(shape.name, quote=False)
