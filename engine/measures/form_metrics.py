"""Measures of form: returns, phrase lengths and cadences, compared with real scores.

Returns are those of `engine.measures.form` in the first 48 bars; phrase ends and cadences are the phrase tagger's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from engine.checkpoints.bundle import TaggerBundle, open_tagger
from engine.checkpoints.index import CHECKPOINTS, TAGGER
from engine.measures.distributions import bootstrap
from engine.measures.form import compare_bars, returns
from engine.models.tagger.tag import Tags
from engine.music.types import BadInput, Score
from engine.tokens.composer_tokens import TICKS_PER_QUARTER, Written, write_tokens

BARS = 48  # of a piece that are measured
REFERENCE = CHECKPOINTS / "reference" / "form-v1.json"
PAC = 1
_SQUARE = (4, 8)
_LAST_BARS = 2


@dataclass(frozen=True)
class FormMetric:
    """One column: name, label, unit, decimals, and display factor of a stored share."""

    name: str
    label: str
    unit: str
    digits: int
    scale: float = 1.0


FORM_METRICS = (
    FormMetric("far", "Bars that resemble one at least 8 bars earlier", "%", 1, 100),
    FormMetric("exact", "Bars that repeat such a bar at the same pitch", "%", 1, 100),
    FormMetric("near", "Bars that resemble one of the 7 bars before", "%", 1, 100),
    FormMetric("longest", "Longest run of bars that returns", "bars", 1),
    FormMetric("phrase", "Length of a phrase", "bars", 1),
    FormMetric("square", "Phrases of 4 or 8 bars", "%", 1, 100),
    FormMetric("cadences", "Cadences a phrase", "", 2),
    FormMetric("final", "Pieces that end with an authentic cadence", "%", 1, 100),
)


def phrase_figures(tags: Tags, last: int = BARS) -> dict[str, float]:
    """`phrase`, `square`, `cadences` of the first bars (missing without a phrase end there) and `final` of a score.

    A phrase lasts from the end of the one before to its own, the last beat of which counts. `final` is 1 when the last
    two bars hold a perfect authentic cadence.
    """
    ends, cadence = tags.by_bar()
    out = {"final": float((cadence[-_LAST_BARS:] == PAC).any())}
    at = np.flatnonzero(ends[:last])
    if len(at):
        lengths = np.diff(np.append(-1, at))
        out["phrase"] = float(lengths.mean())
        out["square"] = float(np.isin(lengths, _SQUARE).mean())
        out["cadences"] = float((cadence[: at[-1] + 1] > 0).sum() / len(at))
    return out


def form_figures(written: Written, tags: Tags) -> dict[str, float]:
    """FORM_METRICS of a score on the Composer's grid; shares from 0 to 1. The returns are missing below 17 bars."""
    likeness = compare_bars(written.bar, written.in_bar / TICKS_PER_QUARTER, written.pitch, len(written.bars.start))
    return returns(likeness, last=BARS) | phrase_figures(tags)


def measure_form(score: Score) -> dict[str, float]:
    """`form_figures` of a score. Raises BundleError where the phrase tagger is missing or damaged."""
    written = write_tokens(score)
    return form_figures(written, _tagger().tag(written))


@cache
def _tagger() -> TaggerBundle:
    return open_tagger(CHECKPOINTS / TAGGER)


@dataclass(frozen=True)
class FormRow:
    """A set of scores.

    name     which scores
    pieces   how many
    mean     metric -> mean over the pieces that have it
    interval metric -> its 95 % bootstrap interval
    """

    name: str
    pieces: int
    mean: dict[str, float]
    interval: dict[str, tuple[float, float]]


def form_row(name: str, figures: Sequence[dict[str, float]]) -> FormRow:
    """Means over pieces; metrics without values are omitted."""
    values = {m.name: np.array([f[m.name] for f in figures if m.name in f]) for m in FORM_METRICS}
    known = {k: v for k, v in values.items() if len(v)}
    return FormRow(
        name, len(figures), {k: float(v.mean()) for k, v in known.items()}, {k: bootstrap(v) for k, v in known.items()}
    )


@cache
def real_rows() -> tuple[FormRow, ...]:
    """Real scores, as `training.composer.form_reference` measured them: all, dances, others, each genre, with repeats
    as written and as played. Raises BadInput when the file is missing or damaged.
    """
    try:
        rows = json.loads(REFERENCE.read_text())["rows"]
        return tuple(FormRow(r["name"], r["pieces"], r["mean"], r["interval"]) for r in rows)
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(
            f"The reference {REFERENCE.name} is missing or damaged; restore it from the repository."
        ) from None


def cell(row: FormRow, metric: FormMetric, interval: bool = False) -> str:
    """A formatted mean, optionally with its interval; "–" if missing."""
    if metric.name not in row.mean:
        return "–"
    d = metric.digits
    shown = f"{metric.scale * row.mean[metric.name]:.{d}f}"
    if not interval:
        return shown
    low, high = (metric.scale * v for v in row.interval[metric.name])
    return f"{shown} [{low:.{d}f}, {high:.{d}f}]"


def in_words(rows: Sequence[FormRow]) -> str:
    """The rows as a table for a terminal; beneath it the interval of each mean of the first row, and the columns."""
    wide = max(len(r.name) for r in rows) + 2
    head = "".join(f"{m.name:>10}" for m in FORM_METRICS)
    lines = [f"{'form, per score':<{wide}}{'pieces':>7}{head}"]
    for r in rows:
        lines.append(f"{r.name:<{wide}}{r.pieces:>7}" + "".join(f"{cell(r, m):>10}" for m in FORM_METRICS))
    shown = [(m, f"{m.label}{f', {m.unit}' if m.unit else ''}") for m in FORM_METRICS]
    lines += ["", *(f"{m.name:<10}{cell(rows[0], m, interval=True):<24}{label}" for m, label in shown)]
    return "\n".join(lines)
