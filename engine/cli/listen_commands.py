"""`etude transcribe` and `etude evaluate-audio`: from sound to notes or measures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from engine.cli.progress import CommandProgress
from engine.files import check_output, open_performance_file, write_output
from engine.music.types import BadInput, Performance


def add_commands(add: Any) -> None:
    """Add both commands to the parser; `add` is that of `parser.build_parser`."""
    p = add("transcribe", transcribe, "Transcribe a recording of piano music: notes and pedal as MIDI.")
    p.add_argument("recording", type=Path, metavar="IN.wav", help="a sound file, up to an hour")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mid")
    p = add("evaluate-audio", evaluate_audio, "Measure sounds against their references.")
    p.add_argument("made", type=Path, metavar="MADE", help="a sound file, or a folder of them")
    p.add_argument("reference", type=Path, metavar="REFERENCE", help="a sound file, or a folder with the same names")
    p.add_argument(
        "--midi", type=Path, metavar="PERF", help="the intended performance: a MIDI file, or a folder of them"
    )
    p.add_argument("--notes", action="store_true", help="transcribe both and compare their notes (slow)")
    p.add_argument("--embeddings", type=Path, metavar="DIR", help="musicnn_*.npz, for more Fréchet distances")
    p.add_argument("--codec", action="store_true", help="also the Fréchet distance in the piano codec's latent")


def transcribe(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    from engine.music.io.midi import write_midi
    from engine.sound.recording import read_recording
    from engine.sound.transcribe import transcribe as hear

    out = arguments.output
    if out.suffix.lower() not in (".mid", ".midi"):
        raise BadInput(f'"{out.name}" is not a MIDI file; end it with .mid.')
    check_output(out, [arguments.recording])
    progress.stage("Reading")
    clip = read_recording(arguments.recording)
    progress.stage("Listening")
    performance = hear(clip, progress.share)
    if len(performance) == 0:
        raise BadInput(f"No piano notes were found in {arguments.recording.name}; choose a recording of a piano.")
    write_output(out, write_midi(performance))
    return {
        "output": str(out), "notes": len(performance), "pedals": int((performance.pedal_value > 63).sum()),
        "duration_sec": round(clip.duration_sec, 3),
    }  # fmt: skip


def evaluate_audio(arguments: argparse.Namespace, progress: CommandProgress) -> dict[str, Any]:
    from engine.engine import Engine
    from engine.measures.frechet import codec_latent, musicnn
    from engine.measures.sound_evaluation import evaluate, pairs

    files = pairs(arguments.made, arguments.reference)
    performances = _performances(arguments.midi, [reference.stem for _, _, reference in files])
    embeddings = {}
    if arguments.embeddings is not None:
        weights = sorted(arguments.embeddings.glob("musicnn_*.npz"))
        if not weights:
            raise BadInput(f"{arguments.embeddings} contains no musicnn_mtt.npz or musicnn_msd.npz; name their folder.")
        embeddings = {path.stem.replace("_", " "): musicnn(path) for path in weights}
    if arguments.codec:
        embeddings["codec latent"] = codec_latent(Engine.load().codec.model)
    progress.stage("Measuring")
    found = evaluate(files, performances, arguments.notes, embeddings, progress.share)
    return {
        "files": len(files),
        "rows": found.rows,
        "mean": found.mean(),
        "frechet": found.frechet,
        "table": found.table(),
    }


def _performances(path: Path | None, stems: list[str]) -> dict[str, Performance]:
    """The intended performances, by stem. Raises BadInput if a file has none."""
    if path is None:
        return {}
    if path.is_file():
        if len(stems) > 1:
            raise BadInput(f"{path} is one performance for {len(stems)} sounds; give a folder with one for each.")
        return {stems[0]: open_performance_file(path)}
    found = {p.stem: p for p in sorted(path.glob("*")) if p.suffix.lower() in (".mid", ".midi")}
    if missing := [stem for stem in stems if stem not in found]:
        raise BadInput(f"{path} has no MIDI file for {missing[0]}; name each performance as its reference.")
    return {stem: open_performance_file(found[stem]) for stem in stems}
