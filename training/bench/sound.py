"""Speed of the renderer: `python -m training.bench.sound` prints the sound rows of `make bench`."""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from engine.engine import Engine
from engine.music.io.midi import read_midi_performance
from engine.music.types import Performance
from engine.requests import RenderRequest
from training.bench.rows import PIECES, Row, timed

PIECE = "chopin_etude_25_2_Karpeyev02.mid"


def longer(played: Performance, seconds: float) -> Performance:
    """The performance, repeated to at least `seconds`."""
    every = played.end_sec + 0.5
    times = np.arange(int(np.ceil(seconds / every)))
    shift = np.repeat(times, len(played)) * every
    foot = np.repeat(times, len(played.pedal_sec)) * every
    n = len(times)
    return Performance(
        np.tile(played.onset_sec, n) + shift, np.tile(played.duration_sec, n), np.tile(played.pitch, n),
        np.tile(played.velocity, n), np.tile(played.pedal_sec, n) + foot, np.tile(played.pedal_value, n),
    )  # fmt: skip


def rendering(engine: Engine, minutes: float = 10.0) -> list[Row]:
    """Rows for loading, the first sound, a piece of `minutes`, the codec both ways, and memory."""
    played = read_midi_performance((PIECES / PIECE).read_bytes())
    prompt = next(iter(engine.prompts.values()))
    began = time.perf_counter()
    next(engine.render_stream(RenderRequest(played, prompt)))
    rows = [Row("load codec and renderer, first sound", time.perf_counter() - began, "s")]
    first, _ = timed(lambda: next(engine.render_stream(RenderRequest(played, prompt))), 5)
    rows.append(Row("render: first sound, after load", first, "ms", 1000))
    piece = longer(played, 60 * minutes)
    began = time.perf_counter()
    seconds = sum(
        clip.duration_sec for clip in engine.render_stream(RenderRequest(piece, prompt, span=(0.0, 60 * minutes)))
    )
    rows.append(
        Row(
            f"render {seconds / 60:.1f} min: time per second of sound",
            1000 * (time.perf_counter() - began) / seconds,
            "ms",
            300,
        )
    )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [*rows, Row("most memory of this process", memory, "MB", 3000)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the long piece")
    for row in rendering(Engine.load(), parser.parse_args().minutes):
        print(row, flush=True)


if __name__ == "__main__":
    main()
