"""`etude compare`: performances of one score on one page, and their measures as a table."""

from __future__ import annotations

import argparse
import html
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from engine.cli.commands import CommandProgress
from engine.files import check_output, open_performance_file, open_score_file, write_output
from engine.measures.csv_text import csv_text
from engine.measures.side_by_side import (
    CSV_HEADER,
    MOST,
    Played,
    Shape,
    agreements,
    measures_of,
    shape_of,
    table_rows,
    tables_html,
)
from engine.music.passes import repeat_remarks
from engine.music.remarks import remark_lines, to_json
from engine.music.types import BadInput, Score

_STYLE = """
body { font: 14px system-ui, sans-serif; margin: 24px auto; max-width: 1200px; padding: 0 16px; color: #222; }
h1 { font-size: 22px } h2 { font-size: 16px; margin-top: 28px } .unit, p { color: #666 }
table { border-collapse: collapse; margin: 10px 0 24px } caption { text-align: left; font-weight: 600; padding: 6px 0 }
th, td { border-bottom: 1px solid #ccc; padding: 5px 12px; text-align: right }
th[scope=row] { text-align: left; font-weight: 400 }
@media (prefers-color-scheme: dark) { body { background: #18181b; color: #e4e4e7 } .unit, p { color: #a1a1aa } }
"""


def add_commands(add: Any) -> None:
    """Add the command to the parser; `add` is that of `parser.build_parser`."""
    p = add("compare", compare, "Compare performances of one score: curves, paths and a table on one page.")
    p.add_argument("score", type=Path, metavar="SCORE", help="MusicXML, .mxl, MIDI, Humdrum kern or MEI")
    p.add_argument("performances", type=Path, nargs="+", metavar="PERF.mid", help=f"2 to {MOST} performances of it")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.html")
    p.add_argument("--csv", type=Path, metavar="OUT.csv", help="also write the measures as a table")


def _share(progress: CommandProgress, k: int, of: int, share: float) -> None:
    progress.share((k + share) / of)


def compare(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    from engine.music.io.alignment import align

    files = arguments.performances
    if not 2 <= len(files) <= MOST:
        raise BadInput(f"{len(files)} performances are named; 2 to {MOST} can be compared.")
    if arguments.output.suffix.lower() not in (".html", ".htm"):
        raise BadInput(f'"{arguments.output.name}" is not an HTML page; end it with .html.')
    for out in (arguments.output, *([arguments.csv] if arguments.csv else [])):
        check_output(out, [arguments.score, *files])
    progress.stage("Reading")
    score = open_score_file(arguments.score, progress.note)
    opened = [open_performance_file(path) for path in files]
    progress.stage("Aligning")
    played = []
    for k, (name, performance) in enumerate(zip(_names(files), opened, strict=True)):
        step = partial(_share, progress, k, len(files))
        played.append(Played(name, performance, align(score, performance, step)))
    progress.stage("Drawing")
    shapes = [shape_of(score, p) for p in played]
    write_output(arguments.output, page(score, shapes, score.title or arguments.score.stem).encode())
    if arguments.csv:
        write_output(arguments.csv, csv_text(CSV_HEADER, table_rows(score, shapes)))
    left = [
        replace(r, text=f"{r.text} ({p.name})") for p in played for r in repeat_remarks(score, p.alignment)
    ]  # fmt: skip
    for line in remark_lines(left):
        progress.note(line)
    return _result(arguments, replace(score, remarks=(*score.remarks, *left)), shapes)


def page(score: Score, shapes: Sequence[Shape], title: str) -> str:
    """A whole HTML page that needs no network."""
    from engine.measures.side_by_side_figures import stacked_figure, worm_figure

    curves = stacked_figure(score, shapes).to_html(full_html=False, include_plotlyjs=True)
    worm = worm_figure(score, shapes).to_html(full_html=False, include_plotlyjs=False)
    title = html.escape(title)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}: performances compared</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1><h2>Curves</h2>{curves}<h2>Tempo and loudness</h2>"
        "<p>The path of each performance, smoothed over a bar (Langner and Goebl 2003); the slider moves by bars.</p>"
        f"{worm}{tables_html(score, shapes)}</body></html>"
    )


def _names(files: Sequence[Path]) -> list[str]:
    """The files' names without ending; duplicates keep their folders."""
    stems = [path.stem for path in files]
    return [stem if stems.count(stem) == 1 else str(path) for stem, path in zip(stems, files, strict=True)]


def _result(arguments: argparse.Namespace, score: Score, shapes: Sequence[Shape]) -> dict[str, Any]:
    pairs = [{k: _finite(v) for k, v in vars(a).items()} for a in agreements(shapes)]
    measured = [{"name": s.name, **{k: _finite(v) for k, v in measures_of(score, s).items()}} for s in shapes]
    facts = {"output": str(arguments.output), "notes": len(score), "performances": measured, "agreement": pairs}
    facts["remarks"] = to_json(score.remarks)
    return {**facts, "csv": str(arguments.csv)} if arguments.csv else facts


def _finite(value: Any) -> Any:
    """A number as JSON accepts it: None for NaN and infinity."""
    return (round(value, 4) if value == value else None) if isinstance(value, float) else value
