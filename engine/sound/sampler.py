"""A piano from a bank of recorded notes: 32 kHz, damper pedal, hundreds of times faster than real time.

A bank is a folder of `index.json` and one FLAC file per recorded key and velocity layer; index.json is a list of rows
{"file", "key", "lovel", "hivel", "gain_db"}: gain_db brings the layer back to its level in the instrument.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from engine.music.dampers import damped_sec
from engine.music.types import Performance

SAMPLE_RATE = 32000
VELOCITY_DB = 40.0  # 127 against 12.7: amplitude goes with the square of the velocity
TAIL_SEC = 2.0
UNDAMPED_KEY = 90  # from here up a piano has no dampers


@dataclass
class Bank:
    """The recorded notes of one piano; each is read, and tuned to a key, when first played.

    rows         one dict a recording, see the module
    velocity_db  level difference of velocities 127 and 12.7, in addition to the layers' timbre
    """

    folder: Path
    rows: list[dict]
    velocity_db: float = VELOCITY_DB
    _waves: dict[tuple[str, int], NDArray[np.float32]] = field(default_factory=dict)
    _choice: dict[tuple[int, int], dict] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, velocity_db: float = VELOCITY_DB) -> Bank:
        """Open a bank folder; raises FileNotFoundError when it has no index.json."""
        return cls(Path(folder), json.loads((Path(folder) / "index.json").read_text()), velocity_db)

    def recording(self, key: int, velocity: int) -> dict:
        """The row for a key and velocity: the velocity's layer, and the nearest key in it."""
        if (key, velocity) not in self._choice:
            layer = [r for r in self.rows if r["lovel"] <= velocity <= r["hivel"]] or self.rows
            self._choice[key, velocity] = min(layer, key=lambda r: abs(r["key"] - key))
        return self._choice[key, velocity]

    def wave(self, row: dict, key: int) -> NDArray[np.float32]:
        """The recording of `row` at the pitch of `key`, (num_samples,) at 32 kHz."""
        name = row["file"]
        if (name, key) not in self._waves:
            if (name, row["key"]) not in self._waves:
                sound, rate = soundfile.read(self.folder / name, dtype="float32")
                sound = sound if sound.ndim == 1 else sound.mean(1)
                sound = sound if rate == SAMPLE_RATE else soxr.resample(sound, rate, SAMPLE_RATE)
                self._waves[name, row["key"]] = sound.astype(np.float32)
            if key != row["key"]:
                ratio = 2 ** ((key - row["key"]) / 12)
                sound = soxr.resample(self._waves[name, row["key"]], SAMPLE_RATE * ratio, SAMPLE_RATE, quality="MQ")
                self._waves[name, key] = sound.astype(np.float32)
        return self._waves[name, key]


def play(bank: Bank, performance: Performance, end_sec: float | None = None) -> NDArray[np.float32]:
    """The performance on this piano, dry: (num_samples,) float32 at 32 kHz, not levelled.

    end_sec  where the sound is cut, by default two seconds after the last release; onsets before 0 are not sounded
    """
    end = performance.end_sec + TAIL_SEC if end_sec is None else end_sec
    sound = np.zeros(round(end * SAMPLE_RATE), np.float32)
    notes = zip(performance.onset_sec.tolist(), damped_sec(performance, end).tolist(), performance.pitch.tolist(),
                performance.velocity.tolist(), strict=True)  # fmt: skip
    for onset, damped, key, velocity in notes:
        start = round(onset * SAMPLE_RATE)
        if start < 0 or start >= len(sound):
            continue
        row = bank.recording(key, velocity)
        wave = bank.wave(row, key)
        dies_sec = 0.35 - 0.25 * (key - 21) / 87  # bass dampers take longer
        held = int((damped - onset) * SAMPLE_RATE)
        count = min(len(wave), len(sound) - start)
        if key < UNDAMPED_KEY:
            count = min(count, held + int(6 * dies_sec * SAMPLE_RATE))
        gain = 10 ** ((row["gain_db"] + bank.velocity_db * np.log10(max(velocity, 1) / 127)) / 20)
        note = wave[:count] * np.float32(gain)
        if key < UNDAMPED_KEY and held < count:
            note[held:] *= np.exp(-np.arange(count - held, dtype=np.float32) / np.float32(dies_sec * SAMPLE_RATE))
        sound[start : start + count] += note
    return sound
