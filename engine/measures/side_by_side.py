"""Comparison of performances of one score: shapes over score time, measures, agreement.

Shapes are those of `engine.music.expression`: beat period, velocity, timing, articulation. Pairs are compared as in
Repp 1992 (J. Acoust. Soc. Am. 92, 2546-2568), by the correlation of their profiles; agreement with one pianist is a
weak measure of quality (arXiv 2401.00471), since good pianists disagree.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.models.pianist.style import descriptors
from engine.music.expression import beat_positions, beat_quarters, chords, encode_expression
from engine.music.types import Alignment, BadInput, Expression, Performance, Score

MOST = 8  # performances per figure: the number of distinguishable colours
MIN_SHARED = 8  # minimum notes or beats of a correlation
AGREEMENTS = ("tempo", "velocity", "timing", "articulation")


@dataclass(frozen=True)
class Played:
    """One performance of the score, with its display name."""

    name: str
    performance: Performance
    alignment: Alignment


@dataclass(frozen=True)
class Shape:
    """Expression of one performance, per beat and per note.

    name          as in Played
    beat          (k,) beats from the first barline; the same for every performance of a score
    quarter       (k,) the same in quarters
    tempo         (k,) beats a minute
    velocity      (k,) mean of the beat's played notes; NaN where none was played
    timing_ms     (k,) their mean distance from the beat grid, positive is late; NaN as above
    articulation  (k,) their mean length, played / written (geometric mean); NaN as above
    expression    Expression of the whole, one row a score note
    extra         number of insertions
    sounding_sec  seconds from the first key down to the last key up
    """

    name: str
    beat: NDArray[np.float64]
    quarter: NDArray[np.float64]
    tempo: NDArray[np.float64]
    velocity: NDArray[np.float64]
    timing_ms: NDArray[np.float64]
    articulation: NDArray[np.float64]
    expression: Expression
    extra: int
    sounding_sec: float


def shape_of(score: Score, played: Played) -> Shape:
    """Measure one performance. Raises BadInput if fewer than two onsets of the score are matched."""
    try:
        e = encode_expression(score, played.performance, played.alignment)
    except ValueError:
        raise BadInput(
            f'Too little of the score is found in "{played.name}"; compare performances of one piece.'
        ) from None
    quarter, beat = beats_of(score)
    of_note = np.clip(np.searchsorted(quarter, score.onset_quarter + 1e-6, side="right") - 1, 0, None)
    last = np.clip(np.searchsorted(score.onset_quarter, quarter + 1e-6, side="right") - 1, 0, None)

    def mean(values: NDArray) -> NDArray:
        count = np.bincount(of_note[e.played], minlength=len(beat))
        total = np.bincount(of_note[e.played], values[e.played], len(beat))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    p = played.performance
    return Shape(
        played.name, beat, quarter, 60 / e.beat_period[last], mean(e.velocity), 1000 * mean(e.timing_sec),
        np.exp2(mean(e.articulation_log2)), e, len(p) - len(played.alignment), p.end_sec - float(p.onset_sec.min()),
    )  # fmt: skip


def beats_of(score: Score) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Every beat from the first note on: quarters (k,) and beats from the first barline (k,)."""
    quarter = beat_positions(score)
    before = quarter[quarter <= score.onset_quarter[0] + 1e-6]
    quarter = quarter[quarter >= (before[-1] if len(before) else quarter[0])]
    quarter = quarter[quarter <= score.onset_quarter[-1] + 1e-6]
    if not len(quarter):
        quarter = score.onset_quarter[:1]
    m = score.measures
    length = beat_quarters(m.ts_num, m.ts_den)
    start = np.concatenate([[0.0], np.cumsum(np.diff(m.onset_quarter) / length[:-1])]) + m.onset_quarter[0] / length[0]
    i = np.clip(np.searchsorted(m.onset_quarter, quarter + 1e-6, side="right") - 1, 0, None)
    return quarter, start[i] + (quarter - m.onset_quarter[i]) / length[i]


def places(score: Score) -> list[str]:
    """Label of each beat of `beats_of`: "bar 5, beat 2"."""
    m = score.measures
    quarter, _ = beats_of(score)
    i = np.clip(np.searchsorted(m.onset_quarter, quarter + 1e-6, side="right") - 1, 0, None)
    step = beat_quarters(m.ts_num, m.ts_den)[i]
    number = 1 + (quarter - m.onset_quarter[i] + m.position_quarter[i]) / step
    return [f"bar {bar}, beat {k:g}" for bar, k in zip(m.number[i].tolist(), number.round(2).tolist(), strict=True)]


def bar_beats(score: Score) -> float:
    """The most common number of beats in a bar."""
    m = score.measures
    return float(np.median(m.duration_quarter / beat_quarters(m.ts_num, m.ts_den)))


def smoothed(values: NDArray, width: float) -> NDArray[np.float64]:
    """A beat-by-beat curve under a Gaussian window, (k,); unknown beats (NaN) are ignored.

    width  beats between the window's points of inflection, twice its standard deviation

    >>> smoothed(np.array([1.0, np.nan, 3.0]), 2.0).round(2)
    array([1.24, 2.  , 2.76])
    """
    half = max(1, int(np.ceil(1.5 * width)))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / (width / 2)) ** 2)
    known = np.isfinite(values)
    within = slice(half, half + len(values))
    total = np.convolve(np.where(known, values, 0.0), kernel)[within]
    weight = np.convolve(known.astype(float), kernel)[within]
    return np.where(weight > 1e-9, total / np.maximum(weight, 1e-9), np.nan)


def trajectory(shape: Shape, width: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The performance worm: tempo (k,) and loudness (k,) beat by beat, both smoothed over about a bar.

    After Langner and Goebl 2003 (Computer Music Journal 27(4), 69-83), with the mean MIDI velocity for the loudness in
    sone that they measure in recordings; tempo is smoothed on a logarithmic scale. width is that of `smoothed`.
    """
    return np.exp2(smoothed(np.log2(shape.tempo), width)), smoothed(shape.velocity, width)


@dataclass(frozen=True)
class Measure:
    """One row of the table: label, unit, decimals, meaning."""

    name: str
    label: str
    unit: str
    digits: int
    about: str


MEASURES = (
    Measure("duration", "Duration", "s", 1, "from the first key down to the last key up"),
    Measure("tempo", "Tempo", "beats/min", 1, "geometric mean over the notes"),
    Measure("rubato", "Rubato", "%", 1, "standard deviation of the tempo from beat to beat"),
    Measure("loudness", "Loudness", "velocity", 1, "mean over the notes"),
    Measure("contrast", "Dynamic contrast", "velocity", 1, "standard deviation over the notes"),
    Measure("articulation", "Articulation", "× written", 2, "geometric mean of the played over the written length"),
    Measure("spread", "Chord spread", "ms", 1, "standard deviation of the onsets in a chord"),
    Measure("voicing", "Melody voicing", "velocity", 1, "top note of a chord above its other notes"),
    Measure("lead", "Melody lead", "ms", 1, "top note of a chord before its other notes"),
    Measure("pedal", "Sustain pedal", "%", 0, "mean depth"),
    Measure("found", "Written notes played", "%", 1, "found in the performance by alignment"),
    Measure("extra", "Notes added", "notes", 0, "played, not written"),
)


def measures_of(score: Score, shape: Shape) -> dict[str, float]:
    """MEASURES of one performance by name; NaN if there is nothing to measure. Nine of them are the descriptors of the
    style sliders, see `engine.models.pianist.style`.
    """
    e, quarter = shape.expression, shape.quarter
    beat_index = np.searchsorted(quarter, score.onset_quarter + 1e-6, side="right")
    nine = descriptors(
        beat_index, chords(score).index, score.pitch.astype(float), np.log2(e.beat_period), e.velocity, e.timing_sec,
        e.articulation_log2, e.pedal, e.played,
    )  # fmt: skip
    values = (
        shape.sounding_sec, 60 * 2 ** nine[0], 100 * (2 ** nine[1] - 1), nine[2], nine[3], 2 ** nine[4],
        np.expm1(nine[5]), nine[6], nine[7], 100 * nine[8], 100 * e.played.mean(), shape.extra,
    )  # fmt: skip
    return {m.name: float(v) for m, v in zip(MEASURES, values, strict=True)}


def pearson(a: NDArray, b: NDArray, least: int = MIN_SHARED) -> float:
    """Correlation of the entries known in both (NaN is unknown); NaN below `least` of them, 0 when one is constant.

    >>> pearson(np.array([1, 2, 3, np.nan]), np.array([2, 4, 6, 0]), least=3)
    1.0
    """
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < least:
        return np.nan
    a, b = a[known] - a[known].mean(), b[known] - b[known].mean()
    size = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / size) if size > 1e-9 else 0.0


@dataclass(frozen=True)
class Agreement:
    """Agreement of two performances: Pearson's r of tempo (beat by beat, logarithmic) and of velocity, timing and
    articulation (note by note, over common notes); NaN if there are too few.
    """

    first: str
    second: str
    tempo: float
    velocity: float
    timing: float
    articulation: float
    shared: int


def agreement(a: Shape, b: Shape) -> Agreement:
    """Compare two performances of one score."""
    both = a.expression.played & b.expression.played

    def over_notes(name: str) -> float:
        return pearson(*(np.where(both, getattr(s.expression, name), np.nan) for s in (a, b)))

    tempo = pearson(np.log2(a.tempo), np.log2(b.tempo))
    velocity, timing, articulation = (over_notes(n) for n in ("velocity", "timing_sec", "articulation_log2"))
    return Agreement(a.name, b.name, tempo, velocity, timing, articulation, int(both.sum()))


def agreements(shapes: Sequence[Shape]) -> list[Agreement]:
    """Every pair once, in order."""
    return [agreement(a, b) for i, a in enumerate(shapes) for b in shapes[i + 1 :]]


def figure_text(value: float, digits: int) -> str:
    """A number for a table, with a true minus sign; a dash for none.

    >>> figure_text(-0.25, 1), figure_text(float("nan"), 1)
    ('−0.2', '–')
    """
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−") if np.isfinite(value) else "–"


def tables_html(score: Score, shapes: Sequence[Shape]) -> str:
    """Measures and agreement as HTML tables; names are escaped."""
    columns = [measures_of(score, shape) for shape in shapes]
    rows = [
        (f'<span title="{m.about}">{m.label}</span> <span class="unit">{m.unit}</span>',
         [figure_text(c[m.name], m.digits) for c in columns])
        for m in MEASURES
    ]  # fmt: skip
    first = html_table("Measured", [html.escape(shape.name) for shape in shapes], rows)
    if len(shapes) < 2:
        return first
    pairs = [
        (f"{html.escape(a.first)} – {html.escape(a.second)}",
         [*(figure_text(getattr(a, name), 2) for name in AGREEMENTS), str(a.shared)])
        for a in agreements(shapes)
    ]  # fmt: skip
    heads = [*(name.capitalize() for name in AGREEMENTS), "Notes in both"]
    return first + html_table("Agreement of pairs, Pearson’s r", heads, pairs)


def html_table(caption: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """An HTML table whose rows are named, from HTML."""
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>' for name, cells in rows
    )
    return (
        f'<table class="measured"><caption>{caption}</caption><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


CSV_HEADER = ("kind", "performance", "other", "measure", "unit", "value")  # of table_rows


def table_rows(score: Score, shapes: Sequence[Shape], pairs: bool = True) -> list[tuple[object, ...]]:
    """The same for a CSV file, one value a row: kind, performance, other performance, measure, unit, value.

    pairs  include the agreement of each pair
    """
    rows: list[tuple[object, ...]] = []
    for shape in shapes:
        found = measures_of(score, shape)
        rows += [("measure", shape.name, "", m.name, m.unit, _plain(found[m.name])) for m in MEASURES]
    for a in agreements(shapes) if pairs else ():
        rows += [("agreement", a.first, a.second, name, "r", _plain(getattr(a, name))) for name in AGREEMENTS]
        rows.append(("agreement", a.first, a.second, "shared", "notes", a.shared))
    return rows


def _plain(value: float) -> object:
    return round(value, 4) if np.isfinite(value) else ""
