"""The parser of the `etude` command: argparse, because every error can be one sentence."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from engine.music.types import DEFAULT_FREEDOM

EXAMPLES = """examples:
  etude compose -o new.mid --musicxml new.musicxml --composer Chopin --key "A minor" --meter 3/4
  etude compose -o waltz.mid --bars 16 --takes 3 --seed 5
  etude continue fugue.musicxml -o longer.mid --bars 8
  etude infill fugue.musicxml --bars 5-8 -o other.mid --staff upper
  etude compose -o song.mid --musicxml song.musicxml --form "A8 A'8 B8 A8"
  etude section song.musicxml -o other.mid --form "A8 A'8 B8 A8" --section 3 --recompose
  etude perform fugue.musicxml -o fugue.mid
  etude perform fugue.musicxml -o fugue.mid --style WangA --seed 3
  etude perform fugue.musicxml -o fugue.mid --z 0.5,1,0,-1 --strength tempo=1.2,pedal=0
  etude perform fugue.musicxml -o rising.mid --style-curve rising.csv
  etude perform fugue.musicxml -o like-hers.mid --style-from her-fugue.mid
  etude perform fugue.musicxml -o for-the-daw.mid --format locked
  etude preview fugue.mid -o fugue.wav
  etude curves fugue.mid --score fugue.musicxml -o fugue.html
  etude compare fugue.musicxml mine.mid hers.mp3 his.flac -o three.html --csv three.csv
  etude compare fugue.musicxml performances/ -o all.html --bars bars.csv
  etude export fugue.mid --score fugue.musicxml -o fugue-notes.csv --as notes
  etude export fugue.mid --score fugue.musicxml -o fugue.match
  etude render fugue.mid --prompt goldberg -o fugue.wav
  etude render fugue.mid --prompt hers.wav --prompt-midi hers.mid -o fugue.flac --seed 3
  etude codec recording.wav -o coded.wav
  etude convert fugue.krn fugue.musicxml
  etude metrics my-performances/ --reference theirs/
  etude transcribe recording.wav -o heard.mid
  etude evaluate-audio renders/ recordings/ --midi performances/
  etude import-weights midi-valle best-valid-loss.pt
  etude batch perform scores/ -o performances/ --style WangA
  etude batch render performances/ -o sounds/ --prompt goldberg --jobs 2
  etude space push OWNER/etude
  etude styles --json
"""


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        first = message[0].upper() + message[1:] if message else "This command is not understood"
        print(f"{first}; see {self.prog} --help.", file=sys.stderr)
        raise SystemExit(2)


def build_parser(*families: Callable[[Any], None]) -> argparse.ArgumentParser:
    """The parser of every command for one piece.

    families  more commands: functions that are called with `add`, as `batch.add_commands`
    """
    from engine.cli import (
        commands,
        compare_commands,
        compose_commands,
        export_commands,
        import_commands,
        listen_commands,
        section_commands,
        sound_commands,
        space_commands,
    )

    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="etude", allow_abbrev=False, formatter_class=raw, epilog=EXAMPLES,
        description="Compose, perform and render piano music.",
    )  # fmt: skip
    chosen = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        mine = "\n".join(line for line in EXAMPLES.splitlines() if f"etude {name} " in line)
        command = chosen.add_parser(
            name, help=text, description=text, formatter_class=raw, allow_abbrev=False, epilog=f"examples:\n{mine}"
        )
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="print the result as one JSON object")
        command.add_argument("--quiet", action="store_true", help="no progress")
        return command

    def add_output(command: argparse.ArgumentParser, metavar: str) -> None:
        command.add_argument("-o", "--output", type=Path, required=True, metavar=metavar)

    compose_commands.add_commands(add)
    section_commands.add_commands(add)
    import_commands.add_commands(add)
    p = add("perform", commands.perform, "Perform a score like a pianist.")
    p.add_argument("score", type=Path, metavar="SCORE", help="MusicXML, .mxl, MIDI, Humdrum kern or MEI")
    add_output(p, "OUT.mid")
    p.add_argument("--with-voice", action="store_true", help="also play the voice part of a song")
    base = p.add_mutually_exclusive_group()
    base.add_argument("--style", metavar="NAME", help="a style of `etude styles`")
    base.add_argument("--style-from", type=Path, metavar="PERF.mid", help="the style of this performance of SCORE")
    p.add_argument("--z", metavar="V,V,...", help="style sliders in the order of `etude styles`, added to the style")
    p.add_argument(
        "--style-curve", type=Path, metavar="FILE.csv",
        help="sliders and strengths over the bars: a column bar, and columns such as tempo or strength.velocity.lower",
    )  # fmt: skip
    p.add_argument("--strength", default="1", metavar="S", help="0 to 1.5 for all, or tempo=1.2,timing=1,...")
    p.add_argument(
        "--freedom", type=float, default=DEFAULT_FREEDOM, metavar="F",
        help=f"from 0, the expected performance, to 1, an individual sample (default {DEFAULT_FREEDOM})",
    )  # fmt: skip
    p.add_argument("--no-ornaments", action="store_true", help="omit trills, mordents, turns and tremolos")
    p.add_argument("--seed", type=int, default=0, help="the same seed gives the same notes (default 0)")
    p.add_argument(
        "--format", choices=("midi", "locked", "musicxml", "played"),
        help="midi: as played; locked: bars and beats for a DAW; musicxml: the score; played: MusicXML with the "
        "performance in it; by default from OUT's ending",
    )  # fmt: skip
    p.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="models to use instead of the repository's")

    p = add("preview", commands.preview, "Play a performance on a sampled piano, as a sound file.")
    p.add_argument("performance", type=Path, metavar="PERF.mid")
    add_output(p, "OUT.wav")
    p.add_argument("--piano", default="grand", metavar="NAME", help="grand (default), upright, player or system")

    sound_commands.add_commands(add)
    p = add("curves", commands.curves, "Draw tempo, loudness, timing and articulation over the score, as an HTML page.")
    p.add_argument("performance", type=Path, metavar="PERF.mid")
    p.add_argument("--score", type=Path, required=True, metavar="SCORE")
    p.add_argument("--reference", type=Path, metavar="HUMAN.mid", help="another performance to draw in the background")
    add_output(p, "OUT.html")

    compare_commands.add_commands(add)
    p = add("convert", commands.convert, "Convert a score to MusicXML, MEI, SVG, a page to print, or deadpan MIDI.")
    p.add_argument("input", type=Path, metavar="IN")
    p.add_argument("output", type=Path, metavar="OUT")
    p.add_argument("--with-voice", action="store_true", help="also keep the voice part of a song")

    p = add(
        "metrics",
        commands.metrics,
        "Compare the measures of a folder of music with another folder, or with human performances.",
    )
    p.add_argument("folder", type=Path, metavar="DIR", help="MIDI performances and scores; subfolders too")
    p.add_argument("--reference", type=Path, metavar="DIR", help="the folder to compare with")
    p.add_argument(
        "--corpus", choices=("train", "validation", "train openings", "validation openings"), default="validation",
        help="without --reference: part of (n)ASAP to compare with (default validation)",
    )  # fmt: skip

    export_commands.add_commands(add)
    listen_commands.add_commands(add)
    space_commands.add_commands(add)
    for add_commands in families:
        add_commands(add)
    p = add("styles", commands.styles, "List the style axes and the named styles.")
    p.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="models to use instead of the repository's")
    return parser


def join_negative(argv: Sequence[str]) -> list[str]:
    """Join `--z -1,0` to one argument, because argparse would read -1,0 as an option.

    >>> join_negative(["--z", "-1,0", "--seed", "3"])
    ['--z=-1,0', '--seed', '3']
    """
    out: list[str] = []
    for word in argv:
        if out and out[-1] == "--z" and word[:1] == "-" and word[1:2].isdecimal() | (word[1:2] == "."):
            out[-1] = f"--z={word}"
        else:
            out.append(word)
    return out
