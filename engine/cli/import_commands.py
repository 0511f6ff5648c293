"""`etude import-weights`: convert published weights to checkpoint folders."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.checkpoints.index import IMPORTED_KINDS


def run(args: argparse.Namespace, progress: Any) -> dict[str, Any]:
    """Import one file; the result has the folder, the hash of the weights and the numbers of tensors and parameters."""
    from engine.checkpoints.importing import import_weights

    progress.stage("reading")
    done = import_weights(args.kind, args.weights, args.output)
    return {
        "output": str(done.folder), "kind": args.kind, "weights_sha256": done.digest,
        "tensors": done.tensors, "parameters": done.parameters,
    }  # fmt: skip


def add_commands(add: Callable[[str, Any, str], argparse.ArgumentParser]) -> None:
    """Put the command into the parser of `etude`."""
    p = add(
        "import-weights", run, "Convert published weights (MIDI-VALLE, Piano-Encodec, MusicGen's codec) for use here."
    )
    p.add_argument("kind", choices=IMPORTED_KINDS)
    p.add_argument("weights", type=Path, metavar="FILE", help="best-valid-loss.pt, compression_state_dict.bin, ...")
    p.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default: checkpoints/imported/KIND")
