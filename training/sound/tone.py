"""Frequency response of a random microphone chain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def tone(g: np.random.Generator, size: int, sample_rate: float) -> NDArray[np.float32]:
    """Amplitude response (size // 2 + 1,) at the rfft bins of `size` samples: a tilt and a few broad bells."""
    octave = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), 20) / 800)
    db = g.normal(0, 1.3) * octave
    for _ in range(3):
        db += g.normal(0, 3.5) * np.exp(-0.5 * ((octave - g.uniform(-4, 4)) / g.uniform(0.3, 1.3)) ** 2)
    if g.random() < 0.15:  # low-pass of an old or cheap chain
        db -= 12 * np.clip(octave - g.uniform(1.5, 3.0), 0, None)
    return (10 ** (np.clip(db, -30, 18) / 20)).astype(np.float32)
