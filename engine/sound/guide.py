"""The guide signal: the performance on a sampled piano, as conditioning for the renderer.

It gives the network the spectra of attacks and partials, which a small model learns slowly from notes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engine.music.types import AudioClip, Performance
from engine.sound.preview import SAMPLE_RATE, Preview, sounding_end

PIANO = "grand"
CHUNK_SEC = 2.0


class Guide:
    """The sound of a guide, computed on demand."""

    def __init__(self, preview: Preview, performance: Performance):
        self._parts: Iterator[AudioClip] = preview.stream(performance, PIANO, CHUNK_SEC)
        self._sound = np.zeros(0, np.float32)
        self._end = int(sounding_end(performance) * SAMPLE_RATE)

    def sound(self, start: int, end: int) -> NDArray[np.float32]:
        """Samples start to end, silence before the first and after the last."""
        while len(self._sound) < min(end, self._end):
            part = next(self._parts, None)
            if part is None:
                break
            self._sound = np.concatenate([self._sound, part.samples])
        sound = self._sound[max(start, 0) : max(end, 0)]
        return np.pad(sound, (max(-start, 0), max(end - start - max(-start, 0) - len(sound), 0)))


def whole(preview: Preview, performance: Performance, samples: int, lead_sec: float = 4.0) -> NDArray[np.float32]:
    """The first `samples` samples of the guide of an excerpt, including notes from up to `lead_sec` before it."""
    moved = Performance(
        np.maximum(performance.onset_sec + lead_sec, 0), performance.duration_sec, performance.pitch,
        performance.velocity,
        np.maximum(performance.pedal_sec + lead_sec, 0), performance.pedal_value,
    )  # fmt: skip
    lead = round(lead_sec * SAMPLE_RATE)
    return Guide(preview, moved).sound(lead, lead + samples)
