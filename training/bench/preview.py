"""Speed of the preview: `python training/bench/preview.py [PERFORMANCE.mid]` prints one line per piano."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from engine.music.io.midi import read_midi_performance
from engine.music.types import Performance
from engine.sound.preview import Preview


def usual_performance(seconds: float = 120.0, notes_per_second: float = 8.0) -> Performance:
    """Random notes at a typical density, with a pedal change every second."""
    rng = np.random.default_rng(0)
    n = int(seconds * notes_per_second)
    pedal_sec = np.arange(0, seconds, 0.5)
    return Performance(
        np.sort(rng.uniform(0, seconds, n)), rng.uniform(0.1, 0.6, n), rng.integers(36, 90, n),
        rng.integers(30, 100, n), pedal_sec, np.tile([0, 110], len(pedal_sec) // 2),
    )  # fmt: skip


def main() -> None:
    performance = read_midi_performance(Path(sys.argv[1]).read_bytes()) if len(sys.argv) > 1 else usual_performance()
    preview = Preview()
    for name in preview.available():
        start = time.perf_counter()
        preview.load(name)
        loaded = time.perf_counter()
        parts = preview.stream(performance, name)
        seconds = next(parts).duration_sec
        first = time.perf_counter()
        seconds += sum(clip.duration_sec for clip in parts)
        end = time.perf_counter()
        print(
            f"{name:8s} load {loaded - start:5.2f} s, first second of sound after {1000 * (first - loaded):4.0f} ms, "
            f"{seconds:.0f} s of sound at {seconds / (end - loaded):.0f} x real time"
        )


if __name__ == "__main__":
    main()
