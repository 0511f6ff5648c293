"""`etude compose`, `continue` and `infill`: from argparse's values to the dictionary that --json prints."""

from __future__ import annotations

import argparse
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.cli.commands import FORMAT_OF_SUFFIX, find_preset
from engine.cli.progress import CommandProgress
from engine.compose.form import NAMED, parse_form
from engine.files import check_output, open_score_file, write_output
from engine.limits import MAX_SEED
from engine.music.remarks import to_json
from engine.music.types import BadInput, Performance, Score
from engine.progress import NoteCallback
from engine.requests import (
    MODELS,
    ComposeRequest,
    ContinueRequest,
    InfillRequest,
    PassageRequest,
    PerformRequest,
    WritingRequest,
    read_direction,
)

if TYPE_CHECKING:
    from engine.engine import Engine
    from engine.models.composer.conditions import Conditions

_NOTES_A_BAR = 10  # for the progress bar only
COMPOSER_NAME = "composer"  # --model of the Étude Composer
_OF_COMPOSER = ("composer", "period", "key", "meter", "tempo", "density", "bars", "form", "top_p")  # its options alone
STAVES = {"upper": 1, "lower": 2}


@dataclass(frozen=True)
class Outputs:
    """Files to write: `played` (the -o of each take) and `written` (its --musicxml, or None)."""

    played: tuple[Path, ...]
    written: tuple[Path | None, ...]


def outputs(arguments: argparse.Namespace, inputs: Sequence[Path]) -> Outputs:
    """Output files of each take, checked before any work: OUT-1.mid, OUT-2.mid ... for several."""
    takes = arguments.takes
    if not 1 <= takes <= 8:
        raise BadInput(f"{takes} takes were requested; 1 to 8 are accepted.")
    out, score = arguments.output, arguments.musicxml
    if out.suffix.lower() not in FORMAT_OF_SUFFIX:
        raise BadInput(f'"{out.name}" has no known ending; end it with .mid, or with .musicxml for the score.')
    if score is not None and FORMAT_OF_SUFFIX.get(score.suffix.lower()) != "musicxml":
        raise BadInput(f'--musicxml is "{score.name}"; end it with .musicxml.')
    played = tuple(numbered(out, k, takes) for k in range(takes))
    written = tuple(numbered(score, k, takes) if score is not None else None for k in range(takes))
    for path in (*played, *(p for p in written if p is not None)):
        check_output(path, inputs)
    if set(played) & set(written):
        raise BadInput(f"{out} and --musicxml are the same file; give them two names.")
    return Outputs(played, written)


def numbered(path: Path, take: int, takes: int) -> Path:
    """The file of one take.

    >>> str(numbered(Path("waltz.mid"), 1, 3)), str(numbered(Path("waltz.mid"), 0, 1))
    ('waltz-2.mid', 'waltz.mid')
    """
    return path.with_name(f"{path.stem}-{take + 1}{path.suffix}") if takes > 1 else path


def conditions(arguments: argparse.Namespace) -> Conditions:
    """The conditions given as options; names in any case; accents and initials are optional."""
    from engine.models.composer.conditions import COMPOSERS, PERIODS, Conditions, composer_of

    composer = closest(arguments.composer, COMPOSERS)
    return Conditions(
        composer=composer if composer in COMPOSERS else composer_of(composer.title())[0] or composer,
        period=closest(arguments.period, PERIODS),
        key=arguments.key or "", meter=arguments.meter or "", tempo=arguments.tempo, density=arguments.density,
    ).check()  # fmt: skip


def closest(name: str | None, known: Sequence[str]) -> str:
    """The matching known name, or `name` itself, which the check then refuses.

    >>> closest("dvorak", ["Dvořák", "Grieg"]), closest("js bach", ["C. P. E. Bach", "J. S. Bach"])
    ('Dvořák', 'J. S. Bach')
    """

    def plain(text: str) -> str:
        letters = unicodedata.normalize("NFD", text.casefold().replace("ł", "l"))
        return "".join(c for c in letters if c.isalnum())

    if not name:
        return ""
    alike = [k for k in known if plain(k) == plain(name)] or [k for k in known if plain(k).endswith(plain(name))]
    return alike[0] if len(alike) == 1 else name


def top_p(arguments: argparse.Namespace) -> float:
    """--top-p, or the engine's own."""
    from engine.models.composer.conditions import TOP_P

    return TOP_P if arguments.top_p is None else arguments.top_p


def note_progress(progress: CommandProgress, request: WritingRequest) -> NoteCallback:
    """A note callback that moves the progress bar."""
    notes, bars = request.length
    if isinstance(request, InfillRequest):
        notes = max(int(request.selected.sum()), 1)
    expected, count = request.takes * (bars * _NOTES_A_BAR or notes), 0

    def on_note(take: int, onset_quarter: float, duration_quarter: float, pitch: int, staff: int) -> None:
        nonlocal count
        count += 1
        progress.share(min(count / expected, 0.98))

    return on_note


def compose(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    """`etude compose`."""
    wanted = checked_outputs(arguments, [])
    if arguments.model != COMPOSER_NAME:
        return _passages(arguments, progress, wanted)
    form = parse_form(arguments.form)
    if form is not None and arguments.bars:
        raise BadInput(f"The form has {form.bars} bars of its own; leave --bars out, or leave --form out.")
    engine = loaded(arguments, progress)
    progress.stage("Composing")
    request = ComposeRequest(
        conditions(arguments), arguments.notes, arguments.bars, arguments.takes, arguments.seed, arguments.temperature,
        top_p(arguments), arguments.form,
    )  # fmt: skip
    scores = engine.compose(request, on_note=note_progress(progress, request))
    return finish(arguments, progress, engine, wanted, scores)


def _passages(arguments: argparse.Namespace, progress: CommandProgress, wanted: Outputs) -> dict[str, Any]:
    """`etude compose --model xmvae`: passages performed by their model, or in a style if one is given."""
    given = [name for name in _OF_COMPOSER if getattr(arguments, name) not in (None, "", 0, 0.0)]
    if given:
        raise BadInput(
            f"{MODELS[arguments.model]} composes without conditions; leave --{given[0].replace('_', '-')} out, "
            f"or use --model {COMPOSER_NAME}."
        )
    source = None
    if arguments.vary is not None:
        progress.stage("Reading")
        source = open_score_file(arguments.vary, progress.note)
    request = PassageRequest(
        arguments.model, arguments.notes, arguments.takes, arguments.seed, arguments.temperature, source,
        None if arguments.towards is None else open_score_file(arguments.towards, progress.note),
        arguments.share, tuple(map(read_direction, arguments.z_p)),
    ).check()  # fmt: skip
    engine = loaded(arguments, progress)
    progress.stage("Composing")
    passages = engine.compose_passages(request, progress.share)
    own = None if arguments.style else [p.performance for p in passages]
    return finish(arguments, progress, engine, wanted, [p.score for p in passages], own=own)


def continue_(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    """`etude continue`."""
    wanted = checked_outputs(arguments, [arguments.score])
    progress.stage("Reading")
    score = open_score_file(arguments.score, progress.note)
    engine = loaded(arguments, progress)
    progress.stage("Continuing")
    request = ContinueRequest(
        score, conditions(arguments), arguments.notes, arguments.bars, arguments.takes, arguments.seed,
        arguments.temperature, top_p(arguments),
    )  # fmt: skip
    scores = engine.compose(request, on_note=note_progress(progress, request))
    return finish(arguments, progress, engine, wanted, scores, score)


def infill(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    """`etude infill`."""
    wanted = checked_outputs(arguments, [arguments.score])
    numbers = parse_bars(arguments.passage)
    progress.stage("Reading")
    score = open_score_file(arguments.score, progress.note)
    selected, span = passage(score, numbers, STAVES.get(arguments.staff, 0))
    engine = loaded(arguments, progress)
    progress.stage("Filling in")
    request = InfillRequest(
        score, selected, span, conditions(arguments), arguments.takes, arguments.seed, arguments.temperature,
        top_p(arguments),
    )  # fmt: skip
    scores = engine.compose(request, on_note=note_progress(progress, request))
    return finish(arguments, progress, engine, wanted, scores, score)


def parse_bars(text: str) -> tuple[int, int]:
    """First and last bar.

    >>> parse_bars("5-8"), parse_bars("7")
    ((5, 8), (7, 7))
    """
    found = re.fullmatch(r"\s*(\d{1,6})\s*(?:[-–]\s*(\d{1,6})\s*)?", text)
    if not found or int(found[2] or found[1]) < int(found[1]):
        raise BadInput(f'--bars is "{text}"; give a bar, or the first and the last, such as 5-8.')
    return int(found[1]), int(found[2] or found[1])


def passage(score: Score, numbers: tuple[int, int], staff: int = 0) -> tuple[NDArray[np.bool_], tuple[float, float]]:
    """The notes that begin in these bars, flags (n,), and their span in quarters; bars by their printed numbers.

    staff  1 or 2: the notes of that staff only, 0 of both
    With repeats a number occurs more than once; the first pass counts. Raises BadInput when the score has no such bars,
    or the staff no notes in them.
    """
    m = score.measures
    known = m.number.tolist()
    for number in numbers:
        if number not in known:
            raise BadInput(f"The score has no bar {number}; its bars are {min(known)} to {max(known)}.")
    first = known.index(numbers[0])
    last = next((k for k in range(first, len(known)) if known[k] == numbers[1]), known.index(numbers[1]))
    if last < first:
        raise BadInput(f"Bar {numbers[1]} is played before bar {numbers[0]}; name bars in the order they are played.")
    span = (float(m.onset_quarter[first]), float(m.onset_quarter[last] + m.duration_quarter[last]))
    # an ulp of slack: a note on the barline belongs to the bar that begins there
    selected = (score.onset_quarter >= span[0] - 1e-9) & (score.onset_quarter < span[1] - 1e-9)
    if staff:
        lower = score.staff == 2
        selected &= lower if staff == 2 else ~lower
        if not selected.any():
            raise BadInput(f"The {'lower' if staff == 2 else 'upper'} staff has no notes there; leave --staff out.")
    return selected, span


# ---- common parts


def checked_outputs(arguments: argparse.Namespace, inputs: Sequence[Path]) -> Outputs:
    """Check everything that can be refused before files and models are read."""
    if not 0 <= arguments.seed <= MAX_SEED:
        raise BadInput(f"The seed is {arguments.seed}; 0 to {MAX_SEED} is accepted.")
    wanted = outputs(arguments, inputs)
    conditions(arguments)
    if arguments.style:
        find_preset(arguments.checkpoints, arguments.style)
    return wanted


def loaded(arguments: argparse.Namespace, progress: CommandProgress) -> Engine:
    """The engine with the checkpoints that are asked for."""
    from engine.engine import Engine

    progress.stage("Loading")
    return Engine.load(arguments.checkpoints)


def finish(
    arguments: argparse.Namespace, progress: CommandProgress, engine: Engine, wanted: Outputs, scores: list[Score],
    old: Score | None = None, own: Sequence[Performance | None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Perform the takes, then write them all: an interrupt leaves no file.

    own  performances by the composing model; the Pianist performs a take without one
    """
    from engine.music.edition import edited, is_composed
    from engine.music.io.midi import write_midi
    from engine.untrusted.saving import save_musicxml

    files: list[tuple[Path, bytes]] = []
    takes = []
    for k, (score, played, written) in enumerate(zip(scores, wanted.played, wanted.written, strict=True)):
        take: dict[str, Any] = {"output": str(played), "notes": len(score), "measures": len(score.measures)}
        if old is not None:
            take["new_notes"] = _new_notes(old, score)
        if FORMAT_OF_SUFFIX[played.suffix.lower()] == "midi":
            progress.stage("Performing" if len(scores) == 1 else f"Playing {k + 1}")
            performance = (own[k] if own else None) or _play(engine, score, arguments, progress)
            files.append((played, write_midi(performance)))
            take["duration_sec"] = round(performance.end_sec, 3)
            page = edited(score, performance)
        else:
            page = edited(score, _play(engine, score, arguments, progress)) if is_composed(score) else score
            files.append((played, save_musicxml(page)))
        if written is not None:
            files.append((written, save_musicxml(page)))
            take["musicxml"] = str(written)
        takes.append(take)
    for path, data in files:
        write_output(path, data)
    return {"takes": takes, "seed": arguments.seed, "remarks": to_json(old.remarks if old is not None else ())}


def _play(engine: Engine, score: Score, arguments: argparse.Namespace, progress: CommandProgress) -> Performance:
    base = find_preset(arguments.checkpoints, arguments.style) if arguments.style else ()
    request = PerformRequest(score, engine.style((), base, seed=arguments.seed))
    return engine.perform(request, progress=progress.share)


def _new_notes(old: Score, new: Score) -> int:
    from engine.music.io.alignment import kept_notes

    return int((kept_notes(old, new) < 0).sum())


def add_commands(add: Callable[[str, Any, str], argparse.ArgumentParser]) -> None:
    """Add the three commands; `add` makes one from a name, its function and a help sentence."""
    p = add("compose", compose, "Compose a piece and perform it.")
    add_options(p, notes=256)
    p.add_argument("--form", default="", metavar="FORM", help=f'{", ".join(NAMED)}, or such as "A8 A\'8 B8 A8"')
    p.add_argument(
        "--model", choices=(COMPOSER_NAME, *MODELS), default=COMPOSER_NAME,
        help="the Étude Composer (default), or a system of the XMVAE paper: up to 256 notes, without conditions",
    )  # fmt: skip
    p.add_argument(
        "--vary", type=Path, metavar="IN", help="with --model xmvae: a passage to vary; some of its codes are kept"
    )
    p.add_argument("--towards", type=Path, metavar="IN", help="with --vary: a second passage, whose codes are mixed in")
    p.add_argument(
        "--share", type=float, default=0.3, metavar="S",
        help="share of the codes to sample again (default 0.3), 0 to play the notes again; weight of --towards",
    )  # fmt: skip
    p.add_argument(
        "--z-p", action="append", default=[], metavar="NAME=D",
        help="move XMVAE's playing by D deviations in a direction of its z_p, such as Tempo=1.5; can be repeated",
    )  # fmt: skip
    p = add("continue", continue_, "Continue a score after its last note.")
    p.add_argument("score", type=Path, metavar="IN", help="MusicXML, .mxl, MIDI, Humdrum kern or MEI")
    add_options(p, notes=128)
    p = add("infill", infill, "Rewrite some bars of a score; all others stay unchanged.")
    p.add_argument("score", type=Path, metavar="IN", help="MusicXML, .mxl, MIDI, Humdrum kern or MEI")
    p.add_argument("--bars", dest="passage", required=True, metavar="A-B", help="bars by their printed numbers")
    p.add_argument("--staff", choices=tuple(STAVES), help="rewrite this staff only; both by default")
    add_options(p, notes=0)


def add_options(p: argparse.ArgumentParser, notes: int) -> None:
    """The options that composing commands share; `notes` is the default length, 0 for a command without one."""
    p.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT.mid",
        help="the performance; a name in .musicxml writes the score alone",
    )  # fmt: skip
    p.add_argument("--musicxml", type=Path, metavar="OUT.musicxml", help="the score as well")
    if notes:
        p.add_argument(
            "--notes", type=int, default=notes, metavar="N", help=f"approximate number of notes (default {notes})"
        )
        p.add_argument("--bars", type=int, default=0, metavar="N", help="exact number of bars instead")
    p.add_argument(
        "--takes", type=int, default=1, metavar="K", help="alternatives, as OUT-1.mid, OUT-2.mid ... (up to 8)"
    )
    p.add_argument("--composer", metavar="NAME", help="composer label: Chopin, Mozart, ...")
    p.add_argument("--period", metavar="NAME", help="Baroque, Classical, Romantic or Modern")
    p.add_argument("--key", metavar="KEY", help="such as 'Eb major' or 'F# minor'")
    p.add_argument("--meter", metavar="M/N", help="such as 3/4")
    p.add_argument("--tempo", type=float, default=0.0, metavar="Q", help="quarters a minute")
    p.add_argument("--density", type=float, default=0.0, metavar="D", help="notes a quarter, such as 3")
    p.add_argument("--seed", type=int, default=0, help="the same seed gives the same piece (default 0)")
    p.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="sampling temperature, 0.1 to 2; lower is more conservative (default 1)",
    )
    p.add_argument("--top-p", type=float, metavar="P", help="nucleus sampling threshold, 0 to 1")
    p.add_argument("--style", metavar="NAME", help="style of the performance, from `etude styles`")
    p.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="models to use instead of the repository's")
