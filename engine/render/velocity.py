"""How much louder a recorded piano is for a harder stroke, against the sampled one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.measures.sound_metrics import note_levels
from engine.music.types import AudioClip, Performance
from engine.sound.bands import SAMPLE_RATE

FEWEST = 8  # notes
PRIOR_NOTES = 100.0  # notes' worth of evidence, 3 dB of dynamics each, that both pianos answer alike
LEAST, MOST = 0.85, 1.2


@dataclass(frozen=True)
class VelocityCurve:
    """Velocities are moved away from `middle` by `exponent`: v -> middle (v / middle) ** exponent."""

    exponent: float = 1.0
    middle: float = 64.0

    def played(self, performance: Performance) -> Performance:
        """The performance as the sampled piano has to play it."""
        if self.exponent == 1.0:
            return performance
        velocity = self.middle * (performance.velocity / self.middle) ** self.exponent
        return replace(performance, velocity=np.clip(np.round(velocity), 1, 127).astype(performance.velocity.dtype))


def fit_velocity(recording: NDArray, dry: NDArray, notes: Performance) -> VelocityCurve:
    """The exponent by which the notes' levels in the recording spread more than in the dry sound of the same notes.

    Damped: few notes, or notes of one loudness, leave the velocities as they are.
    """
    ours, theirs = (
        note_levels(AudioClip(np.clip(x, -1, 1).astype(np.float32), SAMPLE_RATE), notes) for x in (dry, recording)
    )
    heard = np.isfinite(ours) & np.isfinite(theirs)
    if heard.sum() < FEWEST:
        return VelocityCurve()
    velocity = notes.velocity[heard].astype(float)
    middle = float(np.median(velocity))
    stroke = 40 * np.log10(velocity / middle)  # dB that the sampled piano makes of it
    gap = theirs[heard] - ours[heard]
    gap = np.clip(gap - np.median(gap), -12, 12)
    pitch = (notes.pitch[heard] - 64.0) / 24
    basis = np.stack([np.ones_like(pitch), pitch, pitch**2, stroke], 1)
    slope = np.linalg.solve(basis.T @ basis + np.diag([0.1, 0.1, 0.1, 9.0 * PRIOR_NOTES]), basis.T @ gap)[3]
    return VelocityCurve(float(np.clip(1 + slope, LEAST, MOST)), middle)
