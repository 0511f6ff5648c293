"""The page and the tables of a folder of performances: bands over the bars, measures, style and groups."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from engine.cli.progress import CommandProgress
from engine.measures.bands import Band, bands_figure, clusters
from engine.measures.side_by_side import MEASURES, Played, Shape, figure_text, html_table, measures_of
from engine.models.pianist.style import AXES, character
from engine.music.types import BadInput, BundleError, Score

_STYLE = """
body { font: 14px system-ui, sans-serif; margin: 24px auto; max-width: 1200px; padding: 0 16px; color: #222; }
h1 { font-size: 22px } h2 { font-size: 16px; margin-top: 28px } .unit, p { color: #666 }
table { border-collapse: collapse; margin: 10px 0 24px } caption { text-align: left; font-weight: 600; padding: 6px 0 }
th, td { border-bottom: 1px solid #ccc; padding: 5px 12px; text-align: right }
th[scope=row] { text-align: left; font-weight: 400 }
@media (prefers-color-scheme: dark) { body { background: #18181b; color: #e4e4e7 } .unit, p { color: #a1a1aa } }
"""


@dataclass(frozen=True)
class Place:
    """The place of a performance among the others.

    group      number of its group by the shape of its tempo, from 1
    z          the nine style axes, standard deviations among performances of the same music; () if unknown
    character  its most unusual axes in words
    """

    name: str
    group: int
    z: tuple[float, ...]
    character: str


def groups_of(
    score: Score, played: Sequence[Played], tempo: Band, progress: CommandProgress
) -> list[Place]:  # fmt: skip
    """Group and style of each performance; a style needs the Pianist's checkpoint and half of the notes."""
    from engine.engine import Engine

    group = clusters(tempo)
    progress.stage("Styles")
    styles: list[tuple[float, ...]] = []
    try:
        engine = Engine.load()
        for k, p in enumerate(played):
            try:
                z = engine.style_from(score, p.performance, p.alignment)[: len(AXES)]
            except BadInput:
                z = ()
            styles.append(tuple(round(v, 3) for v in z))
            progress.share((k + 1) / len(played))
    except BundleError as error:
        progress.note(f"Without styles: {error}")
        styles = [()] * len(played)
    return [Place(p.name, g, z, character(z)) for p, g, z in zip(played, group, styles, strict=True)]


def group_rows(places: Sequence[Place]) -> list[tuple[object, ...]]:
    """Rows of `side_by_side.CSV_HEADER`: the group and the style axes of each performance."""
    rows: list[tuple[object, ...]] = []
    for place in places:
        rows.append(("group", place.name, "", "group", "", place.group))
        rows += [("style", place.name, "", a.name, "deviations", v) for a, v in zip(AXES, place.z, strict=False)]
    return rows


def many_page(
    score: Score, found: Sequence[Band], shapes: Sequence[Shape], places: Sequence[Place],
    refused: Sequence[tuple[str, str]], title: str,
) -> str:  # fmt: skip
    """A whole HTML page that needs no network: bands over the bars, and a row for each performance."""
    names = [shape.name for shape in shapes]
    figure = bands_figure(score, names, found).to_html(full_html=False, include_plotlyjs=True)
    measured = []
    for shape in shapes:
        values = measures_of(score, shape)
        measured.append((html.escape(shape.name), [figure_text(values[m.name], m.digits) for m in MEASURES]))
    heads = [f'<span title="{m.about}">{m.label}</span> <span class="unit">{m.unit}</span>' for m in MEASURES]
    of_style = [
        (html.escape(p.name), [str(p.group), *(figure_text(v, 1) for v in p.z), html.escape(p.character)])
        for p in places
    ]  # fmt: skip
    style_heads = ["Group", *(axis.label for axis in AXES), "Most unusual"]
    lines = "".join(f"<li>{html.escape(name)}: {html.escape(sentence)}</li>" for name, sentence in refused)
    omitted = f"<h2>Not compared</h2><ul>{lines}</ul>" if lines else ""
    return html_page(
        title, f"<h2>{len(shapes)} performances, bar by bar</h2>"
        "<p>Mean and one standard deviation on each side; each grey line is a performance.</p>"
        f"{figure}{html_table('Measured', heads, measured)}"
        f"{html_table('Style in standard deviations, and groups by the shape of the tempo', style_heads, of_style)}"
        f"{omitted}",
    )  # fmt: skip


def html_page(title: str, body: str) -> str:
    """A page of a comparison; `title` is text, `body` HTML."""
    title = html.escape(title)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}: performances compared</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{body}</body></html>"
    )
