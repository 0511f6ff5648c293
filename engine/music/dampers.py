"""Damping times of notes, from key releases, pedal and repeated strokes."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Performance

SHORTEST_SEC = 0.03


def pedal_down(performance: Performance, end_sec: float) -> tuple[list[float], list[float]]:
    """Times at which the sustain pedal (controller 64, 64 and above) is pressed and released: two lists of seconds."""
    down, up = [], []
    for sec, value in zip(performance.pedal_sec.tolist(), performance.pedal_value.tolist(), strict=True):
        if value >= 64 and len(down) == len(up):
            down.append(sec)
        elif value < 64 and len(down) > len(up):
            up.append(sec)
    if len(down) > len(up):
        up.append(max(end_sec, down[-1]))
    return down, up


def damped_sec(performance: Performance, end_sec: float) -> NDArray[np.float64]:
    """(n,) seconds at which each note is damped: at its release, at the release of the holding pedal, or at a new
    stroke."""
    down, up = pedal_down(performance, end_sec)
    onset, release = performance.onset_sec, performance.onset_sec + performance.duration_sec
    damped = np.array(release)
    struck_again: dict[int, float] = {}
    for i in np.argsort(-onset, kind="stable").tolist():
        at = bisect_right(down, release[i]) - 1
        if at >= 0 and release[i] < up[at]:
            damped[i] = up[at]
        pitch = int(performance.pitch[i])
        damped[i] = min(max(damped[i], onset[i] + SHORTEST_SEC), struck_again.get(pitch, np.inf))
        struck_again[pitch] = float(onset[i])
    return damped
