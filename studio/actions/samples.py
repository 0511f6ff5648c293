"""Two bars of the open piece by another pianist, heard before the choice. No Gradio here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.music.excerpts import excerpt
from engine.music.types import AudioClip, BadInput
from engine.progress import ProgressCallback
from engine.requests import PerformRequest
from studio.actions.editing import style_of
from studio.service.shared_engine import SharedEngine
from studio.state.session import Controls, Session

BARS, LEAST_NOTES = 2, 4
LONGEST_SEC, FADE_SEC = 9.0, 0.4


def bars_from(session: Session, quarter: float) -> slice:
    """The bars to play: two from the one at `quarter`, or later ones if these have few notes. Raises BadInput."""
    score = session.score
    if score is None:
        raise BadInput("There is no piece yet; choose an example or open a file.")
    start = score.measures.onset_quarter
    first = max(0, int(np.searchsorted(start, quarter + 1e-6, side="right")) - 1)
    ends = np.append(start, score.measures.end_quarter)
    for k in [*range(first, len(start)), *range(first - 1, -1, -1)]:
        last = min(len(start), k + BARS)
        inside = (score.onset_quarter >= ends[k]) & (score.onset_quarter < ends[last])
        if inside.sum() >= LEAST_NOTES:
            return slice(k, last)
    raise BadInput("This piece is too short for two bars.")


def two_bars(
    shared: SharedEngine, session: Session, name: str, quarter: float, piano: str, step: ProgressCallback
) -> AudioClip:
    """Two bars from `quarter` on in a pianist's style, on the preview piano; faded out. Raises BadInput."""
    if name not in shared.presets:
        raise BadInput("There is no such pianist; choose another.")
    bars = bars_from(session, quarter)
    score = session.score
    assert score is not None
    ends = np.append(score.measures.onset_quarter, score.measures.end_quarter)
    rows = (score.onset_quarter >= ends[bars.start]) & (score.onset_quarter < ends[bars.stop])
    controls = Controls(preset=name, axes=(0.0,) * len(shared.axes))
    style = style_of(shared, replace(session, controls=controls), controls)
    performance = shared.perform(PerformRequest(excerpt(score, rows, bars), style), step)
    clip = shared.preview(performance, piano, step)
    samples = clip.samples[: round(LONGEST_SEC * clip.sample_rate)].copy()
    fade = min(len(samples), round(FADE_SEC * clip.sample_rate))
    ramp = np.linspace(1, 0, fade, dtype=samples.dtype)
    samples[len(samples) - fade :] *= ramp if samples.ndim == 1 else ramp[:, None]
    return AudioClip(samples, clip.sample_rate)
