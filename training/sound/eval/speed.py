"""How long the fitted piano takes: the fit once a prompt, then the rendering, in seconds of one core."""

from __future__ import annotations

import time

from engine.render.fitted import FittedRenderer
from engine.sound.preview import Preview
from training.sound.eval.material import Table
from training.sound.eval.recordings import Recording


def speed_table(recordings: list[Recording], preview: Preview) -> Table:
    """One row a recording, each fitted anew. Real-time factor: processor seconds over seconds of sound."""
    preview.load()
    rows: list[list[str | float]] = []
    for r in recordings:
        renderer = FittedRenderer(preview)
        start = time.process_time()
        renderer.instrument(r.prompt)
        fit = time.process_time() - start
        start, first, parts = time.process_time(), 0.0, []
        for part in renderer.render_stream(r.notes, r.prompt):
            first = first or time.process_time() - start
            parts.append(part.duration_sec)
        rows.append([r.player, fit, first, (time.process_time() - start) / sum(parts)])
    mean = [sum(float(row[i]) for row in rows) / len(rows) for i in (1, 2, 3)]
    return Table(
        "Fitted piano: seconds of one core", ("player", "fit, s", "first sound, s", "real-time factor"),
        [*rows, ["mean", *mean]],
    )  # fmt: skip
