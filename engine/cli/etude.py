"""The `etude` command: compose, continue, infill, perform, preview, render, transcribe, convert and more.

Results go to standard output (with --json as one object), progress to standard error. An error is one sentence on
standard error and exit status 2. An output file is written aside and renamed, so that a failure leaves the old one.
argparse rather than tyro: it lets every error be one sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

EXAMPLES = """examples:
  etude compose -o new.mid --musicxml new.musicxml --composer Chopin --key "A minor" --meter 3/4
  etude compose -o waltz.mid --bars 16 --takes 3 --seed 5
  etude continue fugue.musicxml -o longer.mid --bars 8
  etude infill fugue.musicxml --bars 5-8 -o other.mid --staff upper
  etude perform fugue.musicxml -o fugue.mid
  etude perform fugue.musicxml -o fugue.mid --style WangA --seed 3
  etude perform fugue.musicxml -o fugue.mid --z 0.5,1,0,-1 --strength tempo=1.2,pedal=0
  etude perform fugue.musicxml -o like-hers.mid --style-from her-fugue.mid
  etude perform fugue.musicxml -o for-the-daw.mid --format locked
  etude preview fugue.mid -o fugue.wav
  etude curves fugue.mid --score fugue.musicxml -o fugue.html
  etude compare fugue.musicxml mine.mid hers.mid his.mid -o three.html --csv three.csv
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
  etude styles --json
"""


class _Parser(argparse.ArgumentParser):
    """argparse whose every complaint is one sentence."""

    def error(self, message: str) -> NoReturn:
        first = message[0].upper() + message[1:] if message else "This command is not understood"
        print(f"{first}; see {self.prog} --help.", file=sys.stderr)
        raise SystemExit(2)


class Progress:
    """What is being done and its finished share: one line on a terminal, updated in place; nothing elsewhere.

    Notes, a sentence each, are said wherever standard error goes, unless it shall be quiet.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.live = not quiet and sys.stderr.isatty()
        self._stage, self._line = "", ""

    def stage(self, name: str) -> None:
        self._stage = name
        self._show(f"{name} ...")

    def share(self, done: float) -> None:
        done = min(max(done, 0.0), 1.0)
        filled = round(30 * done)
        self._show(f"{self._stage:<12} [{'#' * filled}{'.' * (30 - filled)}] {done:4.0%}")

    def note(self, sentence: str) -> None:
        self.done()
        if not self.quiet:
            print(sentence, file=sys.stderr)

    def done(self) -> None:
        """Take the line away: what follows begins on an empty one."""
        self._show("")

    def _show(self, line: str) -> None:
        if not self.live or line == self._line:
            return
        rest = " " * (len(self._line) - len(line))  # of a longer line before
        print(f"\r{line}{rest}" if line else f"\r{rest}\r", end="", file=sys.stderr, flush=True)
        self._line = line


def _in_words(command: str, result: dict[str, Any]) -> str:
    """The result for a reader."""
    if command == "styles":
        lines = ["Axes, in the order of --z, in standard deviations (-3 to 3):"]
        lines += [f"  {a['name']:<14}{a['label']}: {a['low']} (-) to {a['high']} (+)" for a in result["axes"]]
        lines += ["Styles, for --style, by their axes:"]
        count = len(result["axes"])
        presets = result["presets"].items()
        return "\n".join(lines + [f"  {name:<14}" + " ".join(f"{v:+.1f}" for v in z[:count]) for name, z in presets])
    if "takes" in result:
        return "\n".join(_in_words("", take) for take in result["takes"])
    if "table" in result:
        return result["table"]
    if command == "import-weights":
        return f"{result['output']}: {result['tensors']} tensors, every one used; {result['parameters']} parameters"
    facts = [f"{result['notes']} notes"] if "notes" in result else []
    facts += [f"{len(result['performances'])} performances"] if "performances" in result else []
    facts += [f"{result['duration_sec']:.1f} s"] if "duration_sec" in result else []
    facts += [f"style {result['style']}, seed {result['seed']}"] if "seed" in result else []
    facts += [f"sounding like {result['prompt']}, seed {result['render_seed']}"] if "render_seed" in result else []
    facts += [f"{result['kbit_per_sec']:.2f} kbit/s"] if "kbit_per_sec" in result else []
    facts += [f"{result['matched']} of them matched"] if "matched" in result else []
    facts += [f"{result['new_notes']} of them new"] if "new_notes" in result else []
    facts += [f"score in {result['musicxml']}"] if "musicxml" in result else []
    return f"{result['output']}: {', '.join(facts)}"


def build_parser() -> argparse.ArgumentParser:
    from engine.cli import (
        batch,
        commands,
        compare_commands,
        compose_commands,
        import_commands,
        listen_commands,
        sound_commands,
    )

    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="etude", allow_abbrev=False, formatter_class=raw, epilog=EXAMPLES,
        description="Write piano music, and play it: a score in, a pianist's performance out.",
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
    import_commands.add_commands(add)
    p = add("perform", commands.perform, "Play a score as a pianist would.")
    p.add_argument("score", type=Path, metavar="SCORE", help="MusicXML, .mxl, MIDI, Humdrum kern or MEI")
    add_output(p, "OUT.mid")
    base = p.add_mutually_exclusive_group()
    base.add_argument("--style", metavar="NAME", help="a style of `etude styles`")
    base.add_argument("--style-from", type=Path, metavar="PERF.mid", help="the style of this performance of SCORE")
    p.add_argument("--z", metavar="V,V,...", help="style sliders in the order of `etude styles`, added to the style")
    p.add_argument("--strength", default="1", metavar="S", help="0 to 1.5 for all, or tempo=1.2,timing=1,...")
    p.add_argument("--seed", type=int, default=0, help="the same seed gives the same notes (default 0)")
    p.add_argument(
        "--format", choices=("midi", "locked", "musicxml"),
        help="midi: as played; locked: bars and beats for a DAW; musicxml: the score; by default from OUT's ending",
    )  # fmt: skip
    p.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="models to use instead of the repository's")

    p = add("preview", commands.preview, "Hear a performance on a sampled piano.")
    p.add_argument("performance", type=Path, metavar="PERF.mid")
    add_output(p, "OUT.wav")
    p.add_argument("--piano", default="grand", metavar="NAME", help="grand (default), upright, player or system")

    sound_commands.add_commands(add)
    p = add("curves", commands.curves, "Draw tempo, loudness, timing and articulation over the score, as a page.")
    p.add_argument("performance", type=Path, metavar="PERF.mid")
    p.add_argument("--score", type=Path, required=True, metavar="SCORE")
    p.add_argument("--reference", type=Path, metavar="HUMAN.mid", help="another performance to draw underneath")
    add_output(p, "OUT.html")

    compare_commands.add_commands(add)
    p = add("convert", commands.convert, "Write a score as MusicXML, or evenly played as MIDI.")
    p.add_argument("input", type=Path, metavar="IN")
    p.add_argument("output", type=Path, metavar="OUT")

    p = add("metrics", commands.metrics, "Measure a folder of music against another, or against human performances.")
    p.add_argument("folder", type=Path, metavar="DIR", help="MIDI performances and scores; subfolders too")
    p.add_argument("--reference", type=Path, metavar="DIR", help="measure against this folder")
    p.add_argument(
        "--corpus", choices=("train", "validation", "train openings", "validation openings"), default="validation",
        help="without --reference: which human performances of (n)ASAP (default validation)",
    )  # fmt: skip

    listen_commands.add_commands(add)
    batch.add_commands(add)
    p = add("styles", commands.styles, "List the style axes and the named styles.")
    p.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="models to use instead of the repository's")
    return parser


def join_negative(argv: Sequence[str]) -> list[str]:
    """Let `--z -1,0` be written with a space: argparse would take -1,0 for an option.

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, 2 for an error of the caller, 1 for one of ours, 130 when stopped."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(join_negative(sys.argv[1:] if argv is None else argv))
    if arguments.command == "batch":
        arguments.rest = rest  # options of the single command
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    progress = Progress(quiet=arguments.quiet or arguments.json)
    progress.stage("Starting")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # what libraries print is no part of the result
            result = arguments.run(arguments, progress)
    except KeyboardInterrupt:
        progress.done()
        return 130
    except Exception as error:
        progress.done()
        return _complain(error, arguments.json)
    progress.done()
    try:
        print(json.dumps(result) if arguments.json else _in_words(arguments.command, result), flush=True)
    except BrokenPipeError:  # `etude styles | head -1`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 2 if result.get("failed") else 0


def _complain(error: Exception, as_json: bool) -> int:
    """One sentence; ValueError covers BadInput, RuntimeError a damaged checkpoint."""
    from engine.checkpoints.bundle import BundleError

    expected = isinstance(error, ValueError | OSError | BundleError)
    sentence = " ".join(str(error).split())
    if not expected:
        if os.environ.get("ETUDE_DEBUG"):
            raise error
        sentence = f"Étude failed here ({type(error).__name__}: {sentence[:200]}); with ETUDE_DEBUG=1 it says where."
    if as_json:
        print(json.dumps({"error": sentence}))
    print(sentence, file=sys.stderr)
    return 2 if expected else 1


if __name__ == "__main__":
    raise SystemExit(main())
