"""`etude compare`: performances of one score on one page, and their measures as a table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from engine.cli.many_performances import group_rows, groups_of, html_page, many_page
from engine.cli.performances import open_played, score_and_performances, transcript_of
from engine.cli.progress import CommandProgress
from engine.files import check_input, check_output, open_score_file, write_output
from engine.measures.bands import MOST_MANY, band_columns, band_rows, bands
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
from engine.music.passes import check_found, repeat_remarks
from engine.music.remarks import remark_lines, to_json
from engine.music.types import BadInput, Score


def add_commands(add: Any) -> None:
    """Add the command to the parser; `add` is that of `parser.build_parser`."""
    p = add("compare", compare, "Compare performances of one score: curves, paths and a table on one page.")
    p.add_argument(
        "files", type=Path, nargs="+", metavar="FILE",
        help=f"the score, and 2 to {MOST} performances of it, MIDI or recordings, or a folder of up to {MOST_MANY}",
    )  # fmt: skip
    p.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.html")
    p.add_argument("--csv", type=Path, metavar="OUT.csv", help="also write the measures as a table")
    p.add_argument("--bars", type=Path, metavar="OUT.csv", help="also write the curves bar by bar, with mean and SD")
    p.add_argument(
        "--transcripts", type=Path, metavar="FOLDER",
        help="keep the notes of recordings here as MIDI, and read them from here the next time; a folder a piece",
    )  # fmt: skip


@dataclass(frozen=True)
class _Found:
    """The performances that were aligned, and (file, sentence) of those that were refused."""

    played: list[Played]
    refused: list[tuple[str, str]]


def compare(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    """`etude compare`."""
    many = any(path.is_dir() for path in arguments.files)
    score_file, files = score_and_performances(arguments.files)
    if many and len(files) > MOST_MANY:
        raise BadInput(f"{len(files)} performances are in the folder; up to {MOST_MANY} are compared at a time.")
    if not many and not 2 <= len(files) <= MOST:
        raise BadInput(
            f"{len(files)} performances are named; 2 to {MOST} can be compared, or name a folder of up to {MOST_MANY}."
        )
    if arguments.output.suffix.lower() not in (".html", ".htm"):
        raise BadInput(f'"{arguments.output.name}" is not an HTML page; end it with .html.')
    for out in filter(None, (arguments.output, arguments.csv, arguments.bars)):
        check_output(out, [score_file, *files])
    if arguments.transcripts is not None and not arguments.transcripts.is_dir():
        raise BadInput(f"There is no folder {arguments.transcripts}; make it first, or name another.")
    for path in (score_file, *files):
        check_input(path)
    progress.stage("Reading")
    score = open_score_file(score_file, progress.note)
    found = _aligned(score, files, many, arguments.transcripts, progress)
    progress.stage("Measuring")
    shapes = [shape_of(score, p) for p in found.played]
    title = score.title or score_file.stem
    of_bars = bands(score, found.played, shapes)
    if many:
        group = groups_of(score, found.played, of_bars[0], progress)
        write_output(arguments.output, many_page(score, of_bars, shapes, group, found.refused, title).encode())
        rows = [*table_rows(score, shapes, pairs=False), *group_rows(group)]
    else:
        write_output(arguments.output, page(score, shapes, title).encode())
        group, rows = [], table_rows(score, shapes)
    if arguments.csv:
        write_output(arguments.csv, csv_text(CSV_HEADER, rows))
    if arguments.bars:
        names = [shape.name for shape in shapes]
        write_output(arguments.bars, csv_text(band_columns(names), band_rows(score, of_bars)))
    left = [
        replace(r, text=f"{r.text} ({p.name})") for p in found.played for r in repeat_remarks(score, p.alignment)
    ]  # fmt: skip
    for line in remark_lines(left):
        progress.note(line)
    result = _result(arguments, replace(score, remarks=(*score.remarks, *left)), shapes, pairs=not many)
    if many:
        result |= {"groups": [asdict(g) for g in group], "refused": [list(r) for r in found.refused]}
    return result


def _aligned(
    score: Score, files: Sequence[Path], many: bool, transcripts: Path | None, progress: CommandProgress
) -> _Found:
    """Read, transcribe and align the performances. A refused one ends the command, or is noted if there are many.

    Raises BadInput if fewer than two remain.
    """
    from engine.music.io.alignment import align

    played: list[Played] = []
    refused: list[tuple[str, str]] = []
    for k, (name, path) in enumerate(zip(_names(files), files, strict=True)):
        try:
            kept = None if transcripts is None else transcript_of(path, name, transcripts)
            performance = open_played(path, progress, kept)
            progress.stage("Aligning")
            alignment = align(score, performance, partial(_share, progress, k, len(files)))
            check_found(score, alignment)
            shape_of(score, Played(name, performance, alignment))
        except BadInput as refusal:
            sentence = f"{path.name}: {refusal}"
            if not many:
                raise BadInput(sentence) from refusal
            refused.append((path.name, str(refusal)))
            progress.note(sentence)
        else:
            played.append(Played(name, performance, alignment))
    if len(played) < 2:
        raise BadInput(f"{len(played)} of {len(files)} performances can be compared with this score; 2 are needed.")
    return _Found(played, refused)


def _share(progress: CommandProgress, k: int, of: int, share: float) -> None:
    progress.share((k + share) / of)


def page(score: Score, shapes: Sequence[Shape], title: str) -> str:
    """A whole HTML page that needs no network."""
    from engine.measures.side_by_side_figures import stacked_figure, worm_figure

    curves = stacked_figure(score, shapes).to_html(full_html=False, include_plotlyjs=True)
    worm = worm_figure(score, shapes).to_html(full_html=False, include_plotlyjs=False)
    return html_page(
        title, f"<h2>Curves</h2>{curves}<h2>Tempo and loudness</h2>"
        "<p>The path of each performance, smoothed over a bar (Langner and Goebl 2003); the slider moves by bars.</p>"
        f"{worm}{tables_html(score, shapes)}",
    )  # fmt: skip


def _names(files: Sequence[Path]) -> list[str]:
    """The files' names without ending; duplicates keep their folders."""
    stems = [path.stem for path in files]
    return [stem if stems.count(stem) == 1 else str(path) for stem, path in zip(stems, files, strict=True)]


def _result(
    arguments: argparse.Namespace, score: Score, shapes: Sequence[Shape], pairs: bool = True
) -> dict[str, Any]:  # fmt: skip
    agreed = [{k: _finite(v) for k, v in vars(a).items()} for a in agreements(shapes)] if pairs else []
    measured = [{"name": s.name, **{k: _finite(v) for k, v in measures_of(score, s).items()}} for s in shapes]
    facts = {"output": str(arguments.output), "notes": len(score), "performances": measured, "agreement": agreed}
    facts["remarks"] = to_json(score.remarks)
    return facts | {name: str(getattr(arguments, name)) for name in ("csv", "bars") if getattr(arguments, name)}


def _finite(value: Any) -> Any:
    """A number as JSON accepts it: None for NaN and infinity."""
    return (round(value, 4) if value == value else None) if isinstance(value, float) else value
