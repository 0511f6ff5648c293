"""Make the guide signal of every clip of a code pack (`engine.sound.guide`); writes its codes and sound.

PACK.sketches.npy  (frames, K) int16
PACK.sketches.i16  (640 frames,) int16 samples, mono, 32 kHz

OMP_NUM_THREADS=1 python -m training.sound.prepare_guides --pack data/renderer-v3.npz \\
    --codec checkpoints/piano-codec-v2
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.checkpoints.bundle import open_codec
from engine.sound.guide import whole
from engine.sound.preview import Preview
from training.sound.batches import CodePack


def guides(share: tuple[Path, Path, NDArray[np.int64]]) -> list[tuple[NDArray[np.int16], NDArray[np.int16]]]:
    """The codes (F, K) and samples of some clips' guides, from (code pack, codec folder, clips)."""
    torch.set_num_threads(1)
    pack, codec, preview = CodePack(share[0]), open_codec(share[1]).model, Preview()
    out = []
    for clip in share[2].tolist():
        frames = pack.frames(clip)
        sound = whole(preview, pack.performance(clip), frames * codec.hop_length)
        code = codec.encode(torch.from_numpy(sound)[None], 1)[0].T.to(torch.int16).numpy()
        out.append((code, np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16)))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, default=Path("data/renderer-v3.npz"))
    parser.add_argument("--codec", type=Path, default=Path("checkpoints/piano-codec-v2"))
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    pack = CodePack(args.pack)
    shares = [(args.pack, args.codec, part) for part in np.array_split(np.arange(len(pack.session)), 24)]
    with (
        ProcessPoolExecutor(args.workers, get_context("spawn")) as pool,
        open(args.pack.with_suffix(".sketches.tmp"), "wb") as samples,
    ):
        codes = []
        for i, part in enumerate(pool.map(guides, shares)):
            for code, sound in part:
                codes.append(code)
                samples.write(sound.tobytes())
            print(f"{i + 1} of {len(shares)} parts", flush=True)
    args.pack.with_suffix(".sketches.tmp").replace(args.pack.with_suffix(".sketches.i16"))
    np.save(args.pack.with_suffix(".sketches.npy"), np.concatenate(codes))


if __name__ == "__main__":
    main()
