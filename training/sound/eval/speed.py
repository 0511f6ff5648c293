"""The fitted piano's own table: how long it takes, and how its loudness follows the performance."""

from __future__ import annotations

import time

import numpy as np

from engine.music.types import AudioClip
from engine.render.fitted import FittedRenderer
from engine.sound.preview import Preview
from engine.sound.spectra import level_db
from training.sound.eval.material import ReportTable
from training.sound.eval.recordings import HeldOutRecording

STEP_SEC = 1.0
PAUSE_DB = 40.0  # under the loudest second: not compared


def fitted_table(recordings: list[HeldOutRecording], preview: Preview) -> ReportTable:
    """One row a recording, each fitted anew: seconds of one core, and loudness second by second against the preview's.

    Loudness: correlation, and the largest of the middle nine tenths of the differences after one constant a prompt, dB.
    """
    for piano in preview.available():
        preview.load(piano)
    rows: list[list[str | float]] = []
    for r in recordings:
        renderer = FittedRenderer(preview)
        start = time.process_time()
        renderer.instrument(r.prompt)
        fit = time.process_time() - start
        start, first, parts = time.process_time(), 0.0, []
        for part in renderer.render_stream(r.notes, r.prompt):
            first = first or time.process_time() - start
            parts.append(part)
        spent, sound = time.process_time() - start, AudioClip.joined(parts)
        ours, theirs = (level_db(c.samples, c.sample_rate, STEP_SEC) for c in (sound.mono(), preview.preview(r.notes)))
        both = min(len(ours), len(theirs))
        ours, theirs = ours[:both], theirs[:both]
        heard = theirs > theirs.max() - PAUSE_DB
        gap = (ours - theirs)[heard]
        off = float(np.percentile(np.abs(gap - np.median(gap)), 90))
        follows = float(np.corrcoef(ours[heard], theirs[heard])[0, 1])
        rows.append([r.player, fit, first, spent / sound.duration_sec, follows, off])
    mean = [float(np.mean([float(row[i]) for row in rows])) for i in range(1, 6)]
    return ReportTable(
        "Fitted piano: seconds of one core, and loudness against the preview's",
        ("player", "fit, s", "first sound, s", "real-time factor", "loudness r", "loudness off, dB"),
        [*rows, ["mean", *mean]],
    )  # fmt: skip
