"""Tables of the fitted piano: computing time, and agreement of its loudness with the performance."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from engine.music.types import AudioClip
from engine.render.fitted import FittedRenderer
from engine.sound.preview import Preview
from engine.sound.spectra import level_db, sounding_db
from training.sound.eval.material import ReportTable, part
from training.sound.eval.recordings import HeldOutRecording

STEP_SEC = 1.0
PAUSE_DB = 40.0  # seconds with a level this far under the loudest are not compared
ACROSS_SEC = 12.0  # length of each performance that every instrument plays


def fitted_table(recordings: list[HeldOutRecording], preview: Preview) -> ReportTable:
    """One row a recording, each fitted separately: seconds of one core, and loudness against the preview's.

    Loudness: correlation second by second, and the largest of the middle nine tenths of the differences after one
    constant a prompt, dB; then the same across performances, of which each has one level (`sounding_db`): the opening
    of every recording's notes, played on this recording's instrument.
    """
    for piano in preview.available():
        preview.load(piano)
    openings = [part(r.notes, 0.0, ACROSS_SEC) for r in recordings]
    plain = np.array([_loudness_db(preview.preview(notes)) for notes in openings])
    rows: list[list[str | float]] = []
    for r in recordings:
        renderer = FittedRenderer(preview)
        start = time.process_time()
        renderer.instrument(r.prompt)
        fit = time.process_time() - start
        start, first, parts = time.process_time(), 0.0, []
        for clip in renderer.render_stream(r.notes, r.prompt):
            first = first or time.process_time() - start
            parts.append(clip)
        spent, sound = time.process_time() - start, AudioClip.joined(parts)
        ours, theirs = (level_db(c.samples, c.sample_rate, STEP_SEC) for c in (sound.mono(), preview.preview(r.notes)))
        both = min(len(ours), len(theirs))
        ours, theirs = ours[:both], theirs[:both]
        heard = theirs > theirs.max() - PAUSE_DB
        across = np.array([_loudness_db(renderer.render(notes, r.prompt).mono()) for notes in openings])
        rows.append([
            r.player, fit, first, spent / sound.duration_sec, *_follows(ours[heard], theirs[heard]),
            *_follows(across, plain),
        ])  # fmt: skip
    mean = [float(np.mean([float(row[i]) for row in rows])) for i in range(1, 8)]
    return ReportTable(
        "Fitted piano: seconds of one core, and loudness against the preview's",
        ("player", "fit, s", "first sound, s", "real-time factor", "loudness r", "loudness off, dB",
         "r across performances", "off across performances, dB"),
        [*rows, ["mean", *mean]],
    )  # fmt: skip


def _follows(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, float]:
    """Correlation of levels in dB, and the 90th percentile of their differences after one constant."""
    gap = ours - theirs
    return float(np.corrcoef(ours, theirs)[0, 1]), float(np.percentile(np.abs(gap - np.median(gap)), 90))


def _loudness_db(clip: AudioClip) -> float:
    return sounding_db(level_db(clip.samples, clip.sample_rate, 0.05))
