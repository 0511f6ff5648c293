"""Reader of the sound pack of `training.sound.make_pack`: crops of sound with their notes, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Performance
from engine.tokens.note_frames import note_frames

HOP, FRAME_RATE = 640, 50.0


def clip_performance(z: Mapping[str, NDArray], clip: int) -> Performance:
    """The notes and pedal of a clip, seconds from its start, out of a pack's columns."""
    n, p = slice(*z["note_ptr"][clip : clip + 2]), slice(*z["pedal_ptr"][clip : clip + 2])
    return Performance(
        z["onset_sec"][n], z["duration_sec"][n], z["pitch"][n], z["velocity"][n],
        z["pedal_sec"][p], z["pedal_value"][p],
    )  # fmt: skip


class SoundPack:
    """The clips of a pack folder; the sound stays on disk.

    real  (c,) bool: a recording, not a render
    """

    def __init__(self, folder: Path):
        self.audio = np.memmap(folder / "audio.i16", np.int16, "r")
        z = np.load(folder / "index.npz")
        self.z = {k: z[k] for k in z.files}
        self.clip_ptr, self.session, self.split = self.z["clip_ptr"], self.z["session"], self.z["split"]
        self.real = np.char.startswith(self.z["piano"], "real-")

    def __len__(self) -> int:
        return len(self.session)

    def frames(self, clip: int) -> int:
        """Number of whole frames of 640 samples in the clip."""
        return int(self.clip_ptr[clip + 1] - self.clip_ptr[clip]) // HOP

    def clips(self, split: str) -> NDArray[np.int64]:
        return np.flatnonzero(self.split == split)

    def sound(self, clip: int, start: int, frames: int) -> NDArray[np.float32]:
        """(640 frames,) samples from frame `start` of a clip."""
        at = int(self.clip_ptr[clip]) + start * HOP
        return (self.audio[at : at + frames * HOP] / 32768).astype(np.float32)

    def performance(self, clip: int) -> Performance:
        """The notes and pedal of a clip, seconds from its start."""
        return clip_performance(self.z, clip)

    def notes(self, clip: int, start: int, frames: int) -> NDArray[np.float32]:
        """(frames, WIDTH) of `engine.tokens.note_frames` from frame `start` of a clip."""
        return note_frames(self.performance(clip), FRAME_RATE, start, frames)
