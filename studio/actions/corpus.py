"""Table that compares the piece with the corpus: value, corpus mean and deviation, percentile."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.music.types import BadInput
from studio.actions.written import NOTHING_OPEN, locked_pair
from studio.state.session import Session

if TYPE_CHECKING:
    from engine.measures.performance_metrics import MetricRow

WIDTH, HEIGHT = 160, 18  # of the strip


def corpus_rows(session: Session) -> list[MetricRow]:
    """Measures of the present performance, edits included. Raises BadInput if it is too short."""
    from engine.measures.performance_metrics import panel

    if session.score is None or session.rendered is None:
        raise BadInput(NOTHING_OPEN)
    score, performance = locked_pair(session)
    return panel(performance, score)


def corpus_table(rows: Sequence[MetricRow]) -> str:
    """The rows as HTML. Labels come from the engine, values are numbers."""
    lines = "".join(_line(row) for row in rows)
    segments = rows[0].n if rows else 0
    return (
        '<table class="corpus"><thead><tr><th scope="col">Measure</th><th scope="col">Here</th>'
        '<th scope="col">Corpus, mean ± sd</th><th scope="col">Where it lies, % of the corpus below</th></tr></thead>'
        f"<tbody>{lines}</tbody></table><p class='hint'>Means over {segments} "
        f"{'stretch' if segments == 1 else 'stretches'} of the performance; the corpus is human performances cut the "
        "same way. The bar on each line holds the middle two thirds of them.</p>"
    )


def corpus_refusal(sentence: str) -> str:
    """The reason why there is no table, as HTML."""
    return f"<p class='hint'>{html.escape(sentence)}</p>"


def _line(row: MetricRow) -> str:
    unit = f" <span class='unit'>{html.escape(row.unit)}</span>" if row.unit else ""
    scale = max(abs(row.corpus_mean), abs(row.value), row.corpus_sd)
    digits = 3 if scale < 1 else 2 if scale < 10 else 1
    return (
        f"<tr><th scope='row'>{html.escape(row.label)}</th><td>{row.value:.{digits}f}{unit}</td>"
        f"<td>{row.corpus_mean:.{digits}f} ± {row.corpus_sd:.{digits}f}</td>"
        f"<td>{_strip(row)}<span class='percent'>{row.percentile:.0f}</span></td></tr>"
    )


def _strip(row: MetricRow) -> str:
    x = 4 + (WIDTH - 8) * min(100.0, max(0.0, row.percentile)) / 100
    a, b = (4 + (WIDTH - 8) * share for share in (1 / 6, 5 / 6))
    middle = HEIGHT / 2
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="above {row.percentile:.0f} % of the corpus"><path class="whole" d="M4,{middle}H{WIDTH - 4}"/>'
        f'<path class="most" d="M{a:.1f},{middle}H{b:.1f}"/>'
        f'<circle class="here" cx="{x:.1f}" cy="{middle}" r="4.5"/></svg>'
    )
