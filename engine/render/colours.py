"""Spectral envelopes of groups of notes, low and high, soft and loud, against the envelope of all notes.

Two pianos differ in how much brighter a harder stroke sounds, and in how the registers are balanced. A recording shows
this only where its groups sound apart, so the differences are damped towards none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Performance
from engine.sound.bands import COUNT, db

MIDDLE_KEY = 60  # from here on notes are high
GROUPS = 4  # low and soft, low and loud, high and soft, high and loud
RANGE_DB = 50.0  # below the loudest band of the recording: nothing is compared below
MAX_GAP_DB = 12.0  # of one frame
PRIOR_FRAMES = 60.0  # frames' worth of evidence that a group has the envelope of all
MAX_SHIFT_DB = 6.0
MIN_SHIFT_DB = 0.5  # smaller differences are ignored
ROUNDS = 2
SHARED = np.array([1, 2, 3, 4, 3, 2, 1]) / 16.0  # a band's evidence is shared with its neighbours


@dataclass(frozen=True)
class Colours:
    """boundary: velocity from which notes are loud. shift_db: (GROUPS, COUNT) dB of each group above all notes."""

    boundary: float = 64.0
    shift_db: NDArray[np.float64] = field(default_factory=lambda: np.zeros((GROUPS, COUNT)))

    @property
    def differ(self) -> bool:
        """Whether any group has an envelope of its own."""
        return bool(np.abs(self.shift_db).max() >= MIN_SHIFT_DB)


def groups(performance: Performance, boundary: float) -> list[Performance]:
    """The notes of each group, in the order of GROUPS; the pedal goes to all."""
    of_note = 2 * (performance.pitch >= MIDDLE_KEY) + (performance.velocity >= boundary)
    return [_only(performance, of_note == g) for g in range(GROUPS)]


def _only(performance: Performance, kept: NDArray[np.bool_]) -> Performance:
    return replace(
        performance, onset_sec=performance.onset_sec[kept], duration_sec=performance.duration_sec[kept],
        pitch=performance.pitch[kept], velocity=performance.velocity[kept],
    )  # fmt: skip


def fit_colours(wanted: NDArray[np.float64], parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """(GROUPS, COUNT) dB by which each group is to be raised so that their sum comes nearer to the recording.

    wanted  (frames, COUNT) energies of the recording
    parts   (GROUPS, frames, COUNT) energies of the groups in the room, through the envelope of all notes

    Gauss-Newton steps on the difference in dB of each frame, of which a group explains as much as its share of the
    energy; the mean difference of a band belongs to the envelope of all and is left out.
    """
    target = db(wanted)
    heard = target > target.max() - RANGE_DB
    shift = np.zeros((GROUPS, COUNT))
    for band in range(COUNT):
        frames = heard[:, band]
        if frames.sum() < GROUPS:
            continue
        for _ in range(ROUNDS):
            made = parts[:, frames, band] * 10 ** (shift[:, band, None] / 10)
            share = made / made.sum(0)
            gap = target[frames, band] - db(made.sum(0))
            gap = np.clip(gap - np.median(gap), -MAX_GAP_DB, MAX_GAP_DB)
            pull = share @ gap - PRIOR_FRAMES * shift[:, band]
            shift[:, band] += np.linalg.solve(share @ share.T + PRIOR_FRAMES * np.eye(GROUPS), pull)
    padded = np.pad(shift, ((0, 0), (3, 3)), mode="edge")
    smooth = np.add.reduce([weight * padded[:, k : k + COUNT] for k, weight in enumerate(SHARED)])
    return np.clip(smooth, -MAX_SHIFT_DB, MAX_SHIFT_DB)
