"""`etude export`: a performance of a score as tables and files for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from engine.cli.performances import open_played
from engine.cli.progress import CommandProgress
from engine.files import (
    check_input,
    check_output,
    open_match_file,
    open_score_file,
    write_output,
)
from engine.music.remarks import to_json
from engine.music.types import Alignment, BadInput, Performance, Score

PLAYED = "musicxml"  # MusicXML as played
KINDS = ("notes", "beats", "match", "sv-beats", "sv-tempo", "sv-notes", "labels", PLAYED, "all")
_OF_ENDING = {".match": "match", ".txt": "labels", ".zip": "all", ".musicxml": PLAYED, ".xml": PLAYED}


def add_commands(add: Any) -> None:
    """Add the command to the parser; `add` is that of `parser.build_parser`."""
    p = add("export", export, "Export a performance of a score as a table, or for another program.")
    p.add_argument(
        "performance", type=Path, metavar="PERF", help="MIDI, a recording, or a match file, which contains its score"
    )
    p.add_argument("--score", type=Path, metavar="SCORE", help="the performed score")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    p.add_argument(
        "--as", dest="kind", choices=KINDS, metavar="KIND",
        help="notes, beats: CSV; match; sv-beats, sv-tempo, sv-notes: Sonic Visualiser layers (.svl); labels: "
        "Audacity; musicxml: the score as played; all: a zip of the others; by default from OUT's ending (.match, "
        ".txt, .musicxml, .zip)",
    )  # fmt: skip


def export(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    """`etude export`."""
    out = arguments.output
    kind = arguments.kind or _OF_ENDING.get(out.suffix.lower())
    if kind is None:
        raise BadInput(f'"{out.name}" has no known ending; give --as one of {", ".join(KINDS)}.')
    for given in filter(None, (arguments.performance, arguments.score)):
        check_input(given)
    check_output(out, [p for p in (arguments.performance, arguments.score) if p])
    score, performance, alignment = _opened(arguments, progress)
    from engine.measures.exports import EXPORTS, export_all
    from engine.music.document.as_played import note_for_note
    from engine.untrusted.saving import save_as_played

    progress.stage("Writing")
    if kind == PLAYED:
        data = save_as_played(score, note_for_note(score, performance, alignment))
    elif kind == "all":
        data = export_all(score, performance, alignment, out.stem)
    else:
        data = EXPORTS[kind].make(score, performance, alignment)
    write_output(out, data)
    return {
        "output": str(out), "kind": kind, "notes": len(score), "matched": len(alignment),
        "remarks": to_json(score.remarks),
    }  # fmt: skip


def _opened(arguments: argparse.Namespace, progress: CommandProgress) -> tuple[Score, Performance, Alignment]:
    """Score, performance and alignment; those of a match file, unless another score is named."""
    is_match = arguments.performance.suffix.lower() == ".match"
    if not is_match and arguments.score is None:
        raise BadInput("MIDI and sound files do not contain their score; name it with --score.")
    progress.stage("Reading")
    if is_match and arguments.score is None:
        return open_match_file(arguments.performance)
    from engine.music.io.alignment import align

    score = open_score_file(arguments.score, progress.note)
    path = arguments.performance
    performance = open_match_file(path)[1] if is_match else open_played(path, progress)
    progress.stage("Aligning")
    return score, performance, align(score, performance, progress.share)
