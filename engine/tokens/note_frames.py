"""Frame-wise encoding of keys and pedal, every 20 ms, for the sound models.

The times of a performance are known, so no alignment is learned: each frame encodes onsets with velocity and position,
sounding notes with their remaining energy, and releases.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.music.dampers import damped_sec
from engine.music.types import Performance

MIN_KEY, KEYS = 21, 88
CHANNELS = 5  # a key: onset, its velocity, sounding, how much of it is left, release
WIDTH = KEYS * CHANNELS + 1  # and the pedal


def note_frames(performance: Performance, frame_rate: float, start: int, frames: int) -> NDArray[np.float32]:
    """(frames, WIDTH) encoding of the frames `start`, `start` + 1, ... of the performance.

    Frame t is centred on t / frame_rate seconds; an event between two frames is split over both by its distance.
    Channels of a key: 1 at its onset; velocity 0..1 there; 1 while its damper is up; velocity times the exponential
    decay of a string of that pitch; 1 at the damping. The last column is the pedal 0..1.
    """
    table = np.zeros((frames, KEYS, CHANNELS), np.float32)
    pedal = np.zeros(frames, np.float32)
    if len(performance.pedal_sec):
        at = (start + np.arange(frames)) / frame_rate
        last = np.searchsorted(performance.pedal_sec, at, side="right") - 1
        pedal = np.where(last >= 0, performance.pedal_value[np.maximum(last, 0)] / 127, 0).astype(np.float32)
    if len(performance):
        onset = performance.onset_sec * frame_rate - start
        damped = damped_sec(performance, performance.end_sec + 2.0) * frame_rate - start
        near = (damped > -1) & (onset < frames) & (performance.pitch >= MIN_KEY) & (performance.pitch < MIN_KEY + KEYS)
        for i in np.flatnonzero(near).tolist():
            _add(table, float(onset[i]), float(damped[i]), int(performance.pitch[i]) - MIN_KEY,
                 float(performance.velocity[i]) / 127, frame_rate)  # fmt: skip
    return np.concatenate([table.reshape(frames, -1), pedal[:, None]], 1)


def _add(table: NDArray, onset: float, damped: float, key: int, velocity: float, frame_rate: float) -> None:
    frames = len(table)
    first, into = int(np.floor(onset)), onset - np.floor(onset)
    for t, share in ((first, 1 - into), (first + 1, into)):
        if 0 <= t < frames:
            table[t, key, 0] += share
            table[t, key, 1] += share * velocity
    low, high = max(round(onset), 0), min(max(round(damped), round(onset) + 1), frames)
    if low < high:
        decay = 0.6 * 2 ** ((key - 39) / 15) / frame_rate  # per frame: half a minute in the bass, a second on top
        table[low:high, key, 2] = 1
        table[low:high, key, 3] = velocity * np.exp(-decay * (np.arange(low, high) - onset).clip(0))
    last, into = int(np.floor(damped)), damped - np.floor(damped)
    for t, share in ((last, 1 - into), (last + 1, into)):
        if 0 <= t < frames:
            table[t, key, 4] += share
