"""Transcription: the notes and pedal of a recording of piano music, and how well they match those played.

The network is that of `engine.models.transcriber` (transkun 2.0.1, Yujia Yan, MIT), its weights a checkpoint. It
transcribes prompts without MIDI, and renders for evaluation, where it finds 99 of 100 known notes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.checkpoints.index import CHECKPOINTS, TRANSCRIBER
from engine.music.types import AudioClip, BadInput, Performance
from engine.progress import ProgressCallback

if TYPE_CHECKING:  # at run time where they are used: matching notes needs no torch
    from engine.models.transcriber.network import Transcriber
    from engine.models.transcriber.transcribing import Event

WINDOW_SEC, STEP_SEC = 16.0, 12.0  # half of the default overlap: same notes in two thirds of the time
SUSTAIN = -64  # the transcriber's pitch of the sustain pedal; -67 is the soft pedal
ONSET_TOLERANCE = 0.05  # seconds, as in MIREX
LONGEST_SEC = 3600.0

_lock = threading.Lock()  # one transcription at a time: each takes hundreds of megabytes


def transcribe(
    clip: AudioClip, progress: ProgressCallback | None = None, checkpoints: Path = CHECKPOINTS
) -> Performance:
    """Transcribe a clip of piano music: notes, velocities and sustain pedal, sorted by (onset, pitch).

    clip     any sample rate and length; 16 s are read at a time, at about a second of one core per second
    progress  called with the finished share, 0 to 1, before each window; raise in it to cancel
    returns  seconds from the clip's start; velocities 1..127; pedal events of value 127 (down) and 0 (up)
    Raises BadInput for over an hour of sound, BundleError where the checkpoint is missing or damaged.
    """
    if clip.duration_sec > LONGEST_SEC:
        minutes = clip.duration_sec / 60
        raise BadInput(f"This recording lasts {minutes:.0f} minutes; up to 60 are transcribed, shorten it.")
    with _lock:
        return _performance(_events(_load(checkpoints), clip, progress))


def _events(model: Transcriber, clip: AudioClip, progress: ProgressCallback | None) -> list[Event]:
    import soxr
    import torch

    from engine.models.transcriber.transcribing import transcribe_samples

    def before(window: int, count: int) -> None:
        if progress is not None:
            progress(window / count)

    samples, rate = np.asarray(clip.samples), model.config.sample_rate
    if clip.sample_rate != rate:
        samples = soxr.resample(samples, clip.sample_rate, rate)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # on two busy cores a second thread makes it slower
        with torch.inference_mode():
            sound = torch.from_numpy(np.array(samples, np.float32))
            return transcribe_samples(model, sound, WINDOW_SEC, STEP_SEC, before)
    finally:
        torch.set_num_threads(threads)


def _performance(events: list[Event]) -> Performance:
    notes = sorted((e.start, e.pitch, e.end - e.start, e.velocity) for e in events if e.pitch > 0)
    pedal = sorted((sec, value) for e in events if e.pitch == SUSTAIN for sec, value in ((e.start, 127), (e.end, 0)))
    table = np.array(notes, float).reshape(-1, 4)
    moves = np.array(pedal, float).reshape(-1, 2)
    return Performance(table[:, 0], table[:, 2], table[:, 1], table[:, 3].clip(1, 127), moves[:, 0], moves[:, 1])


@cache
def _load(checkpoints: Path) -> Transcriber:
    """The network with its weights, 13.6 million parameters."""
    from engine.checkpoints.bundle import open_transcriber

    return open_transcriber(checkpoints / TRANSCRIBER).model


@dataclass(frozen=True)
class TranscriptionScore:
    """Agreement of transcribed and played notes; see `transcription_score`.

    precision, recall, f1  of notes: same pitch, onset within the tolerance
    onset_error_ms         mean distance of the matched onsets, milliseconds (0 without a match)
    onset_bias_ms          mean of heard minus played: the delay
    velocity_correlation   Pearson correlation of the matched velocities (nan under three matches or without variety)
    played, heard, matched  numbers of notes
    """

    precision: float
    recall: float
    f1: float
    onset_error_ms: float
    onset_bias_ms: float
    velocity_correlation: float
    played: int
    heard: int
    matched: int


def match_notes(
    reference: Performance, estimate: Performance, onset_tolerance: float = ONSET_TOLERANCE
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Maximum matching of notes with the same pitch and onsets within the tolerance (seconds).

    returns  (k,) indices into reference and (k,) into estimate, each note once

    Onsets of one pitch on a line, all with the same reach: pairing each with the earliest that it can have is optimal,
    and the number of pairs is that of mir_eval's graph matching. Distances count to 0.1 ms, as there.
    """
    pairs: list[tuple[int, int]] = []
    for pitch in np.intersect1d(reference.pitch, estimate.pitch):
        mine, theirs = np.flatnonzero(reference.pitch == pitch), np.flatnonzero(estimate.pitch == pitch)
        mine = mine[np.argsort(reference.onset_sec[mine], kind="stable")]
        theirs = theirs[np.argsort(estimate.onset_sec[theirs], kind="stable")]
        i = j = 0
        while i < len(mine) and j < len(theirs):
            gap = round(float(estimate.onset_sec[theirs[j]] - reference.onset_sec[mine[i]]), 4)
            if abs(gap) <= onset_tolerance:
                pairs.append((mine[i], theirs[j]))
                i, j = i + 1, j + 1
            elif gap > 0:
                i += 1
            else:
                j += 1
    table = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def transcription_score(
    reference: Performance, estimate: Performance, onset_tolerance: float = ONSET_TOLERANCE
) -> TranscriptionScore:
    """Compare transcribed with played notes. No notes in both counts as 1."""
    mine, theirs = match_notes(reference, estimate, onset_tolerance)
    played, heard, matched = len(reference), len(estimate), len(mine)
    silent = played == heard == 0
    precision, recall = (1.0 if silent else matched / max(n, 1) for n in (heard, played))
    late = (estimate.onset_sec[theirs] - reference.onset_sec[mine]) * 1000
    loud = reference.velocity[mine].astype(float), estimate.velocity[theirs].astype(float)
    varied = matched > 2 and min(v.std() for v in loud) > 0
    return TranscriptionScore(
        precision, recall, 1.0 if silent else 2 * matched / (played + heard),
        float(np.abs(late).mean()) if matched else 0.0, float(late.mean()) if matched else 0.0,
        float(np.corrcoef(*loud)[0, 1]) if varied else float("nan"), played, heard, matched,
    )  # fmt: skip


def note_f1(
    reference: Performance, estimate: Performance, onset_tolerance: float = ONSET_TOLERANCE
) -> tuple[float, float, float]:
    """(precision, recall, f1) of transcribed notes, by pitch and onset.

    >>> c_and_e = Performance([0.0, 0.5], [0.4, 0.4], [60, 64], [80, 80])
    >>> only_c = Performance([0.02], [0.3], [60], [70])
    >>> note_f1(c_and_e, only_c)
    (1.0, 0.5, 0.6666666666666666)
    """
    found = transcription_score(reference, estimate, onset_tolerance)
    return found.precision, found.recall, found.f1
