"""`etude evaluate-audio`: compare sounds with their references, per file and as sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.measures.frechet import Embedding, embed_all, frechet, frechet_at_infinity, log_mel_statistics
from engine.measures.sound_metrics import (
    RATE,
    decay_time,
    distances,
    long_term_spectrum,
    loudness_follows_velocity,
    notes_with_offset_and_velocity,
    spectrum_distance,
)
from engine.music.types import AudioClip, BadInput, Performance
from engine.progress import ProgressCallback
from engine.sound.recording import SUFFIXES, read_recording
from engine.sound.transcribe import transcribe, transcription_score

# name of a measure, label, decimals
SHOWN = (
    ("nrmse", "NRMSE", 3), ("nrmse_corrected", "corrected", 3), ("chroma_mae", "chroma MAE", 3),
    ("chroma_mae_corrected", "corrected", 3), ("mel_db", "mel dB", 2), ("spectral_db", "LSD dB", 2),
    ("si_sdr_db", "SI-SDR dB", 1), ("timbre_db", "timbre dB", 2), ("decay_sec", "decay s", 2),
    ("longer_sec", "longer s", 2),
    ("note_f1", "note F1", 3), ("onset_error_ms", "onset ms", 1), ("offset_f1", "+offset", 3),
    ("velocity_f1", "+velocity", 3),
    ("velocity_correlation", "velocity r", 3), ("loudness", "loudness ρ", 3),
)  # fmt: skip


@dataclass
class Evaluation:
    """rows: one dict a file, "file" and measures by name; frechet: embedding to (at infinity, plain) or a sentence."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    frechet: dict[str, Any] = field(default_factory=dict)

    def mean(self) -> dict[str, float]:
        """Mean of each measure over the files that have it."""
        known = {n: [row[n] for row in self.rows if np.isfinite(row.get(n, np.nan))] for n, _, _ in SHOWN}
        return {n: float(np.mean(values)) for n, values in known.items() if values}

    def table(self) -> str:
        """Text table: a line per file, the mean, the distances between the sets."""
        mean = self.mean()
        shown = [(n, title, digits) for n, title, digits in SHOWN if n in mean]
        rows = [*self.rows, *([{"file": "mean", **mean}] if len(self.rows) > 1 else [])]
        cells = [["", *(title for _, title, _ in shown)]]
        cells += [[r["file"], *(f"{r.get(n, float('nan')):.{d}f}" for n, _, d in shown)] for r in rows]
        width = [max(len(row[i]) for row in cells) for i in range(len(shown) + 1)]
        lines = []
        for row in cells:
            right = [c.rjust(w) for c, w in zip(row[1:], width[1:], strict=True)]
            lines.append("  ".join([row[0].ljust(width[0]), *right]))
        for name, found in self.frechet.items():
            value = found if isinstance(found, str) else f"{found[0]:.4g} (plain {found[1]:.4g})"
            lines.append(f"Fréchet distance, {name}: {value}")
        return "\n".join(lines)


def pairs(made: Path, reference: Path) -> list[tuple[str, Path, Path]]:
    """(name, made, reference) of two files, or of two folders' sound files with equal stems. Raises BadInput."""
    if made.is_file() and reference.is_file():
        return [(made.name, made, reference)]
    if made.is_dir() != reference.is_dir():
        raise BadInput(f"{made} and {reference} are a folder and a file; give two folders, or two files.")
    theirs = sound_files(reference)
    found = [(name, path, theirs[name]) for name, path in sound_files(made).items() if name in theirs]
    if not found:
        raise BadInput(f"No sound file of {made} has the name of one in {reference}; name each as its reference.")
    return found


def sound_files(folder: Path) -> dict[str, Path]:
    """Stem to path of a folder's sound files, by name. Raises BadInput when it has none."""
    if not folder.is_dir():
        raise BadInput(f"There is no folder or file {folder}; check the name.")
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES}
    if not found:
        raise BadInput(f"{folder} holds no sound files; WAV, FLAC, AIFF, M4A, WebM, OGG and MP3 are read.")
    return found


def evaluate(
    files: Sequence[tuple[str, Path, Path]], performances: dict[str, Performance] | None = None, notes: bool = False,
    embeddings: dict[str, Embedding] | None = None, progress: ProgressCallback | None = None,
) -> Evaluation:  # fmt: skip
    """Measure each file against its reference, and all of them against all references.

    performances  intended performance by the reference's stem, compared with the transcribed notes
    notes         without a performance, compare with the transcribed notes of the reference
    embeddings    of Fréchet distances; log-mel statistics are always among them
    """
    result, clips = Evaluation(), []
    for i, (name, made_path, reference_path) in enumerate(files):
        made, reference = read_recording(made_path, RATE), read_recording(reference_path, RATE)
        clips.append((reference, made))
        played = (performances or {}).get(reference_path.stem)
        result.rows.append({"file": name, **measures(reference, made, played, notes)})
        if progress is not None:
            progress((i + 1) / (len(files) + 1))
    for label, embedding in {"log-mel statistics": log_mel_statistics, **(embeddings or {})}.items():
        try:
            sets = [embed_all(embedding, (pair[k] for pair in clips)) for k in (0, 1)]
            result.frechet[label] = (frechet_at_infinity(*sets), frechet(*sets))
        except BadInput as error:
            result.frechet[label] = str(error)
    return result


def measures(
    reference: AudioClip, made: AudioClip, played: Performance | None = None, notes: bool = False
) -> dict[str, float]:
    """Every measure of one sound relative to its reference (for notes, relative to the intended performance)."""
    found = asdict(distances(reference, made))
    found["timbre_db"] = spectrum_distance(long_term_spectrum(reference), long_term_spectrum(made))
    found["decay_sec"] = decay_time(made)
    if played is None and not notes:
        return found
    wanted = played if played is not None else transcribe(reference)
    heard = transcribe(made)
    match = transcription_score(wanted, heard)
    found |= {"note_f1": match.f1, "onset_error_ms": match.onset_error_ms}
    found["velocity_correlation"] = match.velocity_correlation
    found["offset_f1"], found["velocity_f1"] = notes_with_offset_and_velocity(wanted, heard)
    found["loudness"] = loudness_follows_velocity(made, wanted)
    return found
