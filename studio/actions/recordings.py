"""Recordings of the open piece for Compare: read apart, transcribed, aligned. No gradio here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.files import put
from engine.limits import COMPARED_SEC, READ_SECONDS
from engine.music.passes import check_found
from engine.music.types import Alignment, AudioClip, BadInput, Performance, Score
from engine.process.notation_reader import Refusals
from engine.process.wire import from_bytes, to_bytes
from engine.sound.clip import READ, read_stereo
from engine.sound.recording import SUFFIXES
from engine.untrusted.scores import call_apart, open_performance
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine

MIDI = (".mid", ".midi")
FILES = (*MIDI, *SUFFIXES)  # endings that Compare accepts
_REFUSALS = Refusals(
    f"This recording is damaged or in an unknown format; save it as {READ}.",
    f"Reading this recording exceeded {READ_SECONDS} seconds; choose a shorter one.",
    "Reading this recording took too much memory; choose a shorter one.",
)


@dataclass(frozen=True)
class Opened:
    """A performance that was opened and aligned with the score.

    recording  its sound as it was uploaded, a file of the visitor's folder; None for MIDI
    """

    name: str
    performance: Performance
    alignment: Alignment
    recording: Path | None = None


def whole_recording(data: bytes, check: Callable[[], None] | None = None) -> AudioClip:
    """A recording of up to `COMPARED_SEC` seconds from untrusted bytes, mono, read in a child process. Raises BadInput.

    check  called several times a second; an exception that it raises ends the reading
    """
    return from_bytes(call_apart(f"{__name__}:mono_bytes", data, _REFUSALS, check))[1]


def mono_bytes(data: bytes) -> bytes:
    """In the child: read a whole recording and return its samples as bytes."""
    clip = read_stereo(data, COMPARED_SEC + 1).mono()
    if clip.duration_sec > COMPARED_SEC:
        raise BadInput(f"This recording lasts over {COMPARED_SEC / 60:.0f} minutes; shorten it.")
    return to_bytes(("audio", AudioClip(np.asarray(clip.samples, np.float32), clip.sample_rate)))


def open_files(
    shared: SharedEngine, score: Score, files: list[tuple[str, bytes]], folder: Path, job: Job
) -> tuple[list[Opened], list[str]]:
    """Read, transcribe and align performances of a score, one after the other.

    files    name and bytes of each; MIDI or a recording
    folder   keeps the sound of the recordings
    returns  those that match the score, and a sentence for each of the others

    Raises BadInput if none matches.
    """
    opened, refused = list[Opened](), list[str]()
    for k, (name, data) in enumerate(files):
        place = f"{name}, {k + 1} of {len(files)}" if len(files) > 1 else name
        try:
            opened.append(_opened(shared, score, name, data, folder, job, place))
        except BadInput as refusal:
            refused.append(f"{name}: {refusal}")
    if not opened:
        raise BadInput(" ".join(refused))
    return opened, refused


def _opened(
    shared: SharedEngine, score: Score, name: str, data: bytes, folder: Path, job: Job, place: str
) -> Opened:  # fmt: skip
    title, sounding = Path(name).stem[:60] or "A file", False
    if data[:4] == b"MThd" or name.lower().endswith(MIDI):
        performance = open_performance(data, name)
    else:
        job.begin(f"Reading {place}")
        clip = whole_recording(data, job.step)
        job.begin(f"Transcribing {place}")
        performance = shared.transcribe(clip, job.step)
        if not len(performance):
            raise BadInput("No piano notes were found in it; choose a recording of a piano.")
        sounding = True
    job.begin(f"Matching {place} with the score")
    alignment = shared.align(score, performance, job.step)
    check_found(score, alignment)
    if not sounding:
        return Opened(title, performance, alignment)
    recording = folder / f"recording-{performance.digest[:16]}"
    put(recording, data)
    return Opened(title, performance, alignment, recording)
