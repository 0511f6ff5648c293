"""The physical model as a method of Render: modal strings in the tuning, room, envelope and image of the prompt.

The fit and the filters are those of the fitted piano; `engine.sound.modal` makes the dry sound instead of samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.checkpoints.index import CHECKPOINTS
from engine.music.dampers import damped_sec
from engine.music.types import AudioClip, Performance
from engine.render.filters import Convolver
from engine.render.fitted import FittedRenderer
from engine.requests import FITTED_METHODS
from engine.sound.modal import GAIN, SAMPLE_RATE, TAIL_SEC, soundboard, strike
from engine.sound.preview import Preview


class ModalPiano:
    """The modal strings behind the interface of `engine.render.fit.Pianos`."""

    def __init__(self, preview: Preview | None = None) -> None:
        self._preview = preview or Preview()

    def candidates(self) -> tuple[str, ...]:
        """One piano."""
        return ("strings",)

    def preview(self, performance: Performance, piano: str = "grand") -> AudioClip:
        """The sampled preview, whose loudness renders have."""
        return self._preview.preview(performance, "grand")

    def dry(
        self, performance: Performance, piano: str, samples: int, cents: NDArray[np.float64] | None = None,
        chunk: int = 2 * SAMPLE_RATE,
    ) -> Iterator[NDArray[np.float32]]:  # fmt: skip
        """The first `samples` samples at 32 kHz, in parts of `chunk`: each note is computed when its part begins.

        cents  (128,) by which each key is tuned away from the model's own tuning
        """
        damped = damped_sec(performance, max(performance.end_sec, 0.0) + TAIL_SEC)
        start = np.round(performance.onset_sec * SAMPLE_RATE).astype(int)
        waiting = [int(i) for i in np.argsort(start, kind="stable")[::-1] if start[i] >= 0]
        board, late = Convolver(soundboard()[None]), np.zeros(0)
        for first in range(0, samples, chunk):
            count = min(chunk, samples - first)
            sound = np.pad(late, (0, max(0, count - len(late))))
            while waiting and start[waiting[-1]] < first + count:
                i = waiting.pop()
                key = int(performance.pitch[i])
                held = float(damped[i] - performance.onset_sec[i])
                note = strike(key, int(performance.velocity[i]), held, 0.0 if cents is None else float(cents[key]))
                at = int(start[i]) - first
                sound = np.pad(sound, (0, max(0, at + len(note) - len(sound))))
                sound[at : at + len(note)] += note
            sound, late = sound[:count], sound[count:]
            yield GAIN * board.add(sound.astype(np.float32))[0]


class PhysicalRenderer(FittedRenderer):
    """The modal strings fitted to the prompt: about ten times faster than real time."""

    profile = "physical"
    digest = FITTED_METHODS["physical"]

    def __init__(self, preview: Preview | None = None, checkpoints: Path = CHECKPOINTS) -> None:
        super().__init__(ModalPiano(preview), checkpoints)
