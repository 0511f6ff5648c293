"""The `etude` command: compose, continue, infill, perform, preview, render, transcribe, convert and more.

Results go to standard output (with --json as one object), progress to standard error. An error is one sentence on
standard error and exit status 2. An output file is written aside and renamed, so that a failure leaves the old one.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from engine.cli import batch
from engine.cli.parser import build_parser, join_negative
from engine.cli.progress import TerminalProgress


def _in_words(command: str, result: dict[str, Any]) -> str:
    """The result as text."""
    if command == "styles":
        lines = ["Axes, in the order of --z, in standard deviations (-3 to 3):"]
        lines += [
            f"  {a['name']:<14}{a['label']}: {a['low']} (-) to {a['high']} (+); 1 is {a['one']}" for a in result["axes"]
        ]
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
    facts += [f"with the sound of {result['prompt']}, seed {result['render_seed']}"] if "render_seed" in result else []
    facts += [f"{result['kbit_per_sec']:.2f} kbit/s"] if "kbit_per_sec" in result else []
    facts += [f"{result['matched']} of them matched"] if "matched" in result else []
    facts += [f"{result['new_notes']} of them new"] if "new_notes" in result else []
    facts += [f"score in {result['musicxml']}"] if "musicxml" in result else []
    return f"{result['output']}: {', '.join(facts)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, 2 for an error of the caller, 1 for one of ours, 130 when stopped."""
    parser = build_parser(batch.add_commands)
    arguments, rest = parser.parse_known_args(join_negative(sys.argv[1:] if argv is None else argv))
    if arguments.command == "batch":
        arguments.rest = rest  # options of the command in a batch
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    progress = TerminalProgress(quiet=arguments.quiet or arguments.json)
    progress.stage("Starting")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # output of libraries is not part of the result
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
    except BrokenPipeError:  # `etude styles | head -1`: the reader closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 2 if result.get("failed") else 0


def _complain(error: Exception, as_json: bool) -> int:
    """Print one sentence; ValueError covers BadInput, RuntimeError a damaged checkpoint."""
    from engine.music.types import BundleError

    expected = isinstance(error, ValueError | OSError | BundleError)
    sentence = " ".join(str(error).split())
    if not expected:
        if os.environ.get("ETUDE_DEBUG"):
            raise error
        sentence = f"Étude failed here ({type(error).__name__}: {sentence[:200]}); set ETUDE_DEBUG=1 for the traceback."
    if as_json:
        print(json.dumps({"error": sentence}))
    print(sentence, file=sys.stderr)
    return 2 if expected else 1


if __name__ == "__main__":
    raise SystemExit(main())
