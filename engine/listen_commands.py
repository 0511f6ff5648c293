"""What `etude transcribe` and `evaluate-audio` do: they listen to sound and say in notes or numbers what is heard."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from engine.commands import Progress
from engine.files import check_output, write_output
from engine.music.types import BadInput


def add_commands(add: Any) -> None:
    """Add both commands to the parser; `add` is that of `cli.build_parser`."""
    p = add("transcribe", transcribe, "Hear a recording of piano music, and write its notes and pedal as MIDI.")
    p.add_argument("recording", type=Path, metavar="IN.wav", help="WAV, FLAC, OGG or MP3, up to an hour")
    p.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mid")


def transcribe(arguments: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    from engine.music.midi import write_midi
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
        raise BadInput(f"No piano notes are heard in {arguments.recording.name}; choose a recording of a piano.")
    write_output(out, write_midi(performance))
    return {
        "output": str(out), "notes": len(performance), "pedals": int((performance.pedal_value > 63).sum()),
        "duration_sec": round(clip.duration_sec, 3),
    }  # fmt: skip
