"""Speed of MIDI-VALLE at the published sizes, with a KV cache and int8 layers; random weights.

    python -m training.bench.midi_valle [--seconds 3] [--threads 1] [--float]

RTF is seconds of work for a second of sound. "cpu" is the processor time of this process, which other work on the
machine changes little; "wall" is elapsed time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from engine.models.codec.encodec import PUBLISHED as CODEC_SIZE
from engine.models.codec.encodec import PianoEncodec
from engine.models.midi_valle.decode import decode_coarse, decode_fine
from engine.models.midi_valle.decoders import PUBLISHED, Valle, ValleConfig
from engine.models.nn.int8 import quantise
from engine.music.types import Performance
from engine.tokens.octuple import encode

NOTES_PER_SECOND = 10
PROMPT_FRAMES = 150


def timed(work: Callable[[], Any], seconds: float) -> tuple[Any, dict[str, float]]:
    """Result of `work`, and its real-time factors for `seconds` of sound."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, {
        "wall": (time.perf_counter() - wall) / seconds,
        "cpu": (time.process_time() - cpu) / seconds,
    }


def bench(seconds: float, int8: bool, config: ValleConfig = PUBLISHED) -> dict[str, dict[str, float]]:
    """Real-time factors of codebook 0, the finer codebooks and the codec, for one segment after a prompt of 3 s."""
    torch.manual_seed(0)
    rng, frames = np.random.default_rng(0), round(50 * seconds)
    model, codec = Valle(config).eval(), PianoEncodec(CODEC_SIZE, config.num_codebooks, config.codebook_size).eval()
    if int8:
        quantise(model)
    count = int(NOTES_PER_SECOND * (seconds + 3))
    onset = np.sort(rng.uniform(0, seconds + 3, count))
    notes = Performance(onset, rng.uniform(0.1, 2, count), rng.integers(30, 90, count), rng.integers(20, 110, count))
    tokens = torch.from_numpy(encode(notes))
    prompt = torch.randint(0, config.codebook_size, (PROMPT_FRAMES, config.num_codebooks))
    out: dict[str, dict[str, float]] = {}
    coarse, out["AR"] = timed(lambda: torch.stack(list(decode_coarse(model, tokens, prompt, frames))), seconds)
    codes, out["NAR"] = timed(lambda: decode_fine(model, tokens, prompt, coarse), seconds)
    with torch.inference_mode():
        _, out["codec"] = timed(lambda: codec.decode(codes.T[None]), seconds)
    out["all"] = {k: sum(part[k] for part in out.values()) for k in ("wall", "cpu")}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--float", action="store_true", help="float32 layers instead of int8")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.seconds:g} s of sound, {args.threads} threads, {'float32' if args.float else 'int8'}; RTF wall / cpu")
    for name, rtf in bench(args.seconds, not args.float).items():
        print(f"{name:6} {rtf['wall']:.2f} / {rtf['cpu']:.2f}", flush=True)


if __name__ == "__main__":
    main()
