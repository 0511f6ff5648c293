"""Performances of the command line: MIDI files, and recordings, which are transcribed first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.cli.progress import CommandProgress
from engine.files import open_performance_file, write_output
from engine.music.types import BadInput, Performance

SCORE_SUFFIXES = (".musicxml", ".xml", ".mxl", ".krn", ".mei", ".abc", ".mid", ".midi")
MIDI_SUFFIXES = (".mid", ".midi")
NOTATION_SUFFIXES = tuple(suffix for suffix in SCORE_SUFFIXES if suffix not in MIDI_SUFFIXES)


def is_recording(path: Path) -> bool:
    """Whether a file's name is that of a sound file."""
    from engine.sound.recording import SUFFIXES

    return path.suffix.lower() in SUFFIXES


def score_and_performances(files: Sequence[Path]) -> tuple[Path, list[Path]]:
    """The score among the named files, the only one in notation or else the first, and the others, folders expanded.

    Raises BadInput for two scores or an empty folder.
    """
    scores = [path for path in files if path.suffix.lower() in NOTATION_SUFFIXES]
    if len(scores) > 1:
        raise BadInput(f"{scores[0].name} and {scores[1].name} are both scores; name one score, and performances.")
    score = scores[0] if scores else files[0]
    if is_recording(score) or score.is_dir():
        raise BadInput(f"No score is named; add the score, such as piece.musicxml ({', '.join(SCORE_SUFFIXES)}).")
    found: list[Path] = []
    for path in files:
        if path.is_dir():
            found += _inside(path, score)
        elif path != score:
            found.append(path)
    return score, found


def _inside(folder: Path, score: Path) -> list[Path]:
    from engine.sound.recording import SUFFIXES

    kinds = (*MIDI_SUFFIXES, *SUFFIXES)
    found = sorted(
        path for path in folder.rglob("*")
        if path.suffix.lower() in kinds and path.is_file() and not path.name.startswith(".") and path != score
    )  # fmt: skip
    if not found:
        raise BadInput(f"{folder} has no performances; MIDI files and recordings ({', '.join(kinds)}) are read.")
    return found


def transcript_of(path: Path, name: str, folder: Path) -> Path:
    """The MIDI file in a folder that keeps the notes of a recording.

    name  the recording's name among the others: equal file names in two folders have two transcripts
    """
    parts = [part for part in Path(name).with_name(path.stem).parts if part not in (Path(name).anchor, "..")]
    return folder / f"{'-'.join(parts)}{path.suffix.lower().replace('.', '-')}.mid"


def open_played(path: Path, progress: CommandProgress, kept: Path | None = None) -> Performance:
    """A performance from MIDI or from a recording. Raises BadInput.

    kept  MIDI file for the notes of a recording, which is read again if it is newer than the recording
    """
    if not is_recording(path):
        return open_performance_file(path)
    if kept is not None and kept.is_file() and path.is_file() and kept.stat().st_mtime >= path.stat().st_mtime:
        return open_performance_file(kept)
    from engine.music.io.midi import write_midi
    from engine.sound.recording import read_recording
    from engine.sound.transcribe import transcribe

    clip = read_recording(path)
    progress.stage(f"Transcribing {path.name}")
    performance = transcribe(clip, progress.share)
    if not len(performance):
        raise BadInput(f"No piano notes were found in {path.name}; choose a recording of a piano.")
    if kept is not None:
        write_output(kept, write_midi(performance))
    return performance
