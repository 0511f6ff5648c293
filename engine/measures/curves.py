"""Curves of tempo, loudness, timing and articulation over score time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.music.expression import beat_positions, beat_quarters, beat_times, encode_expression, score_beats
from engine.music.types import Alignment, Performance, Score

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PANELS = (
    ("Tempo", "beats per minute"),
    ("Velocity", "1–127"),
    ("Timing", "ms, + is late"),
    ("Articulation", "× written length"),
)
LENS_UNITS = {"Tempo": "beats/min", "Velocity": "velocity", "Timing": "ms", "Articulation": "× written length"}
LEAST_TEMPO_RANGE = 0.12  # of the median, each way, so that a steady tempo looks steady
UPPER, LOWER, HUMAN = "#e8590c", "#1c7ed6", "#868e96"
GRID = "rgba(128,128,128,.22)"
MAX_BAR_LABELS = 20
_ARTICULATION_TICKS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class OtherLine:
    """Another performance of the score, drawn as a line in every panel: notes are averaged beat by beat.

    colour, dash  as CSS and Plotly name them; "" for the page's own
    """

    name: str
    performance: Performance
    alignment: Alignment
    colour: str = ""
    dash: str = ""


def curves_figure(
    score: Score,
    performance: Performance,
    reference: Performance | None = None,
    reference_alignment: Alignment | None = None,
    alignment: Alignment | None = None,
) -> Figure:
    """Draw four stacked panels over one axis of bars: tempo, velocity, timing, articulation.

    performance  note i plays note i of the score, unless `alignment` says otherwise
    reference    a human performance of the same score, drawn underneath in grey; needs `reference_alignment`
    Raises ValueError for a reference without its alignment, or fewer than two matched onsets.
    """
    from plotly.graph_objects import Figure

    traces = _all_traces(score, performance, reference, reference_alignment, alignment)
    # a plain dictionary, checked once here by plotly's own reader
    return Figure({"data": traces, "layout": panels_layout(score, traces)})


def curve_lenses(
    score: Score,
    performance: Performance,
    reference: Performance | None = None,
    reference_alignment: Alignment | None = None,
    alignment: Alignment | None = None,
    others: Sequence[OtherLine] = (),
) -> list[dict[str, Any]]:
    """Return the panels of `curves_figure` as plain data over written time, for a view with its own time axis.

    One entry per panel and one of the sustain pedal: name, label, unit, digits; low, high (log10 of the values if
    `log`), zero (the value of the reference line or None), ticks [[value, text], ...]; lines [{who, dots, q (k,)
    quarters, y (k,)}, ...], `others` first, with their colour and dash, then a human performance; step: a value holds
    until the next. Arguments and errors as for `curves_figure`.
    """
    traces = _all_traces(score, performance, reference, reference_alignment, alignment)
    beside = [(line, _traces(score, line.performance, line.alignment, human=True)) for line in others]
    traces += [trace for _, theirs in beside for trace in theirs]
    own = len(traces) - sum(len(theirs) for _, theirs in beside)
    layout = panels_layout(score, traces)
    lenses = []
    for row, (name, _) in enumerate(PANELS):
        axis = layout["yaxis" if row == 0 else f"yaxis{row + 1}"]
        lines = [
            {
                "who": t["name"],
                "dots": t["mode"] == "markers",
                "q": _quarters(score, t["x"]).tolist(),
                "y": np.asarray(t["y"]).tolist(),
            }
            for t in traces[:own]
            if t["yaxis"] == ("y" if row == 0 else f"y{row + 1}")
        ]
        lines = [_line(score, line, theirs[row]) for line, theirs in beside] + lines
        log = axis.get("type") == "log"
        low, high = axis.get("range") or _velocity_range(traces)
        texts = axis.get("ticktext") if log else None
        values = list(axis["tickvals"]) if log else _round_ticks(low, high)
        lenses.append({
            "name": name.lower(), "unit": LENS_UNITS[name], "digits": 2 if log else 0, "low": low, "high": high,
            "log": log, "zero": {"Timing": 0, "Articulation": 1}.get(name),
            "ticks": [[v, texts[k] if texts else f"{v:g}"] for k, v in enumerate(values)], "lines": lines,
        })  # fmt: skip
    pedalled = [(line.name, line.performance, line.alignment, line.colour, line.dash) for line in others]
    if reference is not None and reference_alignment is not None:
        pedalled.append(("human", reference, reference_alignment, "", ""))
    pedalled.append(("pianist", performance, alignment or Alignment.identity(len(score)), "", ""))
    lenses.append({
        "name": "pedal", "unit": "% down", "digits": 0, "low": -8, "high": 135, "log": False, "zero": None,
        "ticks": [[0, "up"], [64, "half"], [127, "down"]], "lines": [_pedal_line(score, *one) for one in pedalled],
    })  # fmt: skip
    return lenses


def _pedal_line(
    score: Score, who: str, performance: Performance, alignment: Alignment, colour: str, dash: str
) -> dict[str, Any]:
    """The sustain pedal over written time, controller values 0 to 127; up before the first event."""
    quarter, group = np.unique(score.onset_quarter[alignment.score_index], return_inverse=True)
    onset = np.bincount(group, performance.onset_sec[alignment.performance_index]) / np.bincount(group)
    sec = np.append(np.maximum.accumulate(onset), max(onset.max(), performance.end_sec))
    at = np.interp(performance.pedal_sec, sec, np.append(quarter, max(quarter[-1], score.measures.end_quarter)))
    q = [round(float(min(quarter[0], 0.0)), 3), *np.round(at, 3).tolist()]
    own = {} if not (colour or dash) else {"colour": colour, "dash": dash}
    return {"who": who, "dots": False, "step": True, "q": q, "y": [0, *performance.pedal_value.tolist()], **own}


def _line(score: Score, line: OtherLine, trace: dict[str, Any]) -> dict[str, Any]:
    """One panel of another performance as a line; the values of one beat are averaged."""
    x, y = np.asarray(trace["x"], float), np.asarray(trace["y"], float)
    if trace["mode"] == "markers":
        beat, group = np.unique(np.floor(x), return_inverse=True)
        x, y = beat + 0.5, np.round(np.bincount(group, y) / np.bincount(group), 2)
    q = _quarters(score, x).tolist()
    return {"who": line.name, "dots": False, "q": q, "y": y.tolist(), "colour": line.colour, "dash": line.dash}


def _all_traces(
    score: Score,
    performance: Performance,
    reference: Performance | None,
    reference_alignment: Alignment | None,
    alignment: Alignment | None,
) -> list[dict[str, Any]]:
    if reference is not None and reference_alignment is None:
        raise ValueError(
            "a reference needs its alignment to the score; make one with engine.music.io.alignment.align()"
        )
    traces: list[dict[str, Any]] = []
    if reference is not None and reference_alignment is not None:
        traces += _traces(score, reference, reference_alignment, human=True)
    return traces + _traces(score, performance, alignment or Alignment.identity(len(score)), human=False)


def _traces(score: Score, performance: Performance, alignment: Alignment, human: bool) -> list[dict[str, Any]]:
    expression = encode_expression(score, performance, alignment)
    beat, _ = score_beats(score)
    who = "human" if human else "pianist"
    x, bpm = _tempo(score, performance, alignment, expression.beat_period)
    tempo = {
        "type": "scatter", "mode": "lines", "x": x, "y": bpm, "name": who, "legendgroup": who,
        "line": {"color": HUMAN if human else UPPER, "width": 1.5 if human else 2, "shape": "linear"},
        "xaxis": "x", "yaxis": "y", "showlegend": human, "hovertemplate": "%{y:.0f} bpm<extra>" + who + "</extra>",
    }  # fmt: skip
    played = expression.played
    columns = (expression.velocity, 1000 * expression.timing_sec, np.exp2(expression.articulation_log2))
    hover = ("velocity %{y:.0f}", "%{y:.0f} ms", "× %{y:.2f}")
    hands = [(played, HUMAN, who)] if human else _hands(score, played)
    traces = [tempo]
    for row, (y, text) in enumerate(zip(columns, hover, strict=True), start=2):
        for notes, colour, name in hands:
            traces.append({
                "type": "scatter" if notes.sum() < 4000 else "scattergl", "mode": "markers",
                "x": np.round(beat[notes], 3), "y": np.round(y[notes], 2), "name": name, "legendgroup": name,
                "marker": {"size": 3.5 if human else 4, "color": colour, "opacity": 0.45 if human else 0.75},
                "xaxis": "x", "yaxis": f"y{row}", "showlegend": row == 2 and not human,
                "hovertemplate": f"{text}<extra>{name}</extra>",
            })  # fmt: skip
    return traces


def _hands(score: Score, played: NDArray) -> list[tuple[NDArray, str, str]]:
    lower = score.staff == 2
    if not lower.any() or lower.all():
        return [(played, UPPER, "notes")]
    return [(played & ~lower, UPPER, "upper staff"), (played & lower, LOWER, "lower staff")]


def _tempo(
    score: Score, performance: Performance, alignment: Alignment, beat_period: NDArray
) -> tuple[NDArray, NDArray]:
    """Beats per minute at each beat: the score position (k,) in beats and the tempo there (k,).

    A rendering has every note and is read beat by beat; anything else is read from its beat periods.
    """
    beat, _ = score_beats(score)
    whole = len(alignment) == len(score) and (np.asarray(alignment.performance_index) == np.arange(len(score))).all()
    if whole and len(beat_positions(score)) > 2:
        at, sec, _ = beat_times(score, performance)
        if len(at) > 2:
            return np.round(at[:-1], 3), np.round(60 * np.diff(at) / np.diff(sec), 2)
    _, first = np.unique(beat, return_index=True)
    return np.round(beat[first], 3), np.round(60 / beat_period[first], 2)


def panels_layout(score: Score, traces: list[dict[str, Any]]) -> dict[str, Any]:
    """Four stacked panels over one axis of bars, scaled to the traces' values in yaxis y, y2, y3, y4."""
    start, label = barlines(score)
    steps = (1, 2, 4, 5, 10, 20, 50, 100, len(start))
    every = next(k for k in steps if len(start) <= k * MAX_BAR_LABELS or k >= len(start))
    gap, n = 0.05, len(PANELS)
    height = (1 - gap * (n - 1)) / n
    layout: dict[str, Any] = {
        "height": 620, "margin": {"l": 62, "r": 12, "t": 26, "b": 36}, "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"size": 11, "color": "#888"}, "uirevision": score.digest,
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"},
        "xaxis": {
            "title": {"text": "bar", "standoff": 6}, "anchor": f"y{n}", "domain": [0, 1], "zeroline": False,
            "tickmode": "array", "tickvals": start[::every], "ticktext": label[::every], "tickangle": 0,
            "gridcolor": GRID,
        },
        "annotations": [],
    }  # fmt: skip
    for row, (name, unit) in enumerate(PANELS):
        top = 1 - row * (height + gap)
        axis: dict[str, Any] = {
            "domain": [max(0.0, top - height), top], "anchor": "x", "zeroline": False, "gridcolor": GRID,
            "title": {"text": f"{name}<br><span style='font-size:9px'>{unit}</span>", "standoff": 4},
        }  # fmt: skip
        if name == "Timing":
            axis |= {"zeroline": True, "zerolinecolor": "rgba(128,128,128,.6)", "range": _ms_range(traces)}
        if name == "Articulation":
            axis |= {"type": "log", "range": _log_range(traces, f"y{row + 1}")}
            axis |= {"tickvals": _ARTICULATION_TICKS, "ticktext": ["⅛", "¼", "½", "1", "2", "4"]}
        if name == "Tempo":
            axis |= {"range": _tempo_range(traces)}
        layout["yaxis" if row == 0 else f"yaxis{row + 1}"] = axis
    return layout


def _tempo_range(traces: list[dict[str, Any]]) -> list[float]:
    """A range that one hurried bar cannot stretch: the middle 98 % of all tempi, with room around it."""
    bpm = np.concatenate([t["y"] for t in traces if t["yaxis"] == "y"])
    low, middle, high = np.percentile(bpm, [1, 50, 99])
    low, high = min(low, middle * (1 - LEAST_TEMPO_RANGE)), max(high, middle * (1 + LEAST_TEMPO_RANGE))
    return [float(max(0, low - 0.15 * (high - low) - 2)), float(high + 0.15 * (high - low) + 2)]


def _velocity_range(traces: list[dict[str, Any]]) -> tuple[float, float]:
    """All velocities, with room around them."""
    values = np.concatenate([t["y"] for t in traces if t["yaxis"] == "y2"])
    return float(max(0, values.min() - 6)), float(min(130, values.max() + 6))


def _round_ticks(low: float, high: float) -> list[float]:
    """Three to seven round values inside a range."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if (high - low) / s <= 6 or s == 1000)
    return [float(step * k) for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def _quarters(score: Score, beat: NDArray) -> NDArray:
    """Score positions (k,) in beats, as quarters (k,)."""
    m = score.measures
    start, _ = barlines(score)
    length = beat_quarters(m.ts_num, m.ts_den)
    end = start[-1] + (m.end_quarter - m.onset_quarter[-1]) / length[-1]
    return np.round(np.interp(beat, np.append(start, end), np.append(m.onset_quarter, m.end_quarter)), 3)


def _ms_range(traces: list[dict[str, Any]]) -> list[float]:
    """The middle 99 % of the timing, the same to both sides, at least 50 ms."""
    most = np.percentile(np.abs(np.concatenate([t["y"] for t in traces if t["yaxis"] == "y3"])), 99)
    return [-max(50.0, 1.2 * float(most)), max(50.0, 1.2 * float(most))]


def _log_range(traces: list[dict[str, Any]], axis: str) -> list[float]:
    """The middle 99 % of one axis, as powers of ten, at least an octave each way around 1."""
    values = np.concatenate([t["y"] for t in traces if t["yaxis"] == axis])
    low, high = np.log10(np.percentile(np.maximum(values, 1e-3), [0.5, 99.5]))
    return [float(min(low, -0.35)) - 0.05, float(max(high, 0.3)) + 0.05]


def barlines(score: Score) -> tuple[NDArray, list[str]]:
    """Position in beats and printed number of each barline."""
    m = score.measures
    length = beat_quarters(m.ts_num, m.ts_den)
    start = m.onset_quarter[0] / length[0] + np.concatenate([[0.0], np.cumsum(np.diff(m.onset_quarter) / length[:-1])])
    return np.round(start, 3), [str(k) for k in m.number]
