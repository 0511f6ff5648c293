"""What `etude section` does: one section of a score with a form is composed again, varied or moved."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.cli.compose_commands import add_options, checked_outputs, conditions, finish, loaded, note_progress, top_p
from engine.cli.progress import CommandProgress
from engine.compose.form import parse_form
from engine.compose.sections import move_section, recomposing, varying
from engine.files import open_score_file
from engine.music.types import BadInput
from engine.requests import ComposeRequest

ACTS = {"recompose": recomposing, "vary": varying}


def section(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    """`etude section`."""
    wanted = checked_outputs(arguments, [arguments.score])
    form, k = parse_form(arguments.form), arguments.section - 1
    if form is None:
        raise BadInput('--form is free; give the sections of the score, such as "A8 A\'8 B8 A8".')
    if arguments.move is not None and arguments.takes != 1:
        raise BadInput(
            f"{arguments.takes} takes were asked for; a section is moved in one way only, so leave out --takes."
        )
    progress.stage("Reading")
    score = open_score_file(arguments.score, progress.note)
    if arguments.move is not None:
        moved, changed = move_section(score, form, k, arguments.move - 1)
        scores = [moved]
        engine = loaded(arguments, progress)
    else:
        settings = ComposeRequest(
            conditions(arguments), takes=arguments.takes, seed=arguments.seed, temperature=arguments.temperature,
            top_p=top_p(arguments),
        )  # fmt: skip
        request, changed = ACTS[arguments.act](score, form, k, settings)
        engine = loaded(arguments, progress)
        progress.stage("Composing")
        scores = engine.compose(request, on_note=note_progress(progress, request))
    return {**finish(arguments, progress, engine, wanted, scores, score), "form": str(changed)}


def add_commands(add: Callable[[str, Any, str], argparse.ArgumentParser]) -> None:
    """The command; `add` makes one of a name, what it runs, and a sentence."""
    p = add("section", section, "Compose one section of a score again, vary it or move it; all other bars stay.")
    p.add_argument("score", type=Path, metavar="IN", help="MusicXML, .mxl, MIDI, Humdrum kern or MEI")
    p.add_argument("--form", required=True, metavar="FORM", help='the sections of the score, such as "A8 A\'8 B8 A8"')
    p.add_argument("--section", type=int, required=True, metavar="K", help="number of the section, from 1")
    act = p.add_mutually_exclusive_group(required=True)
    for name, sentence in (("recompose", "new music"), ("vary", "a new ending, then a new staff")):
        act.add_argument(f"--{name}", dest="act", action="store_const", const=name, help=sentence)
    act.add_argument("--move", type=int, metavar="TO", help="move it to this place, from 1")
    add_options(p, notes=0)
