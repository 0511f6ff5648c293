"""Encode a sound pack with a frozen codec: the codes and notes for the renderer's training.

Every session is levelled like a prompt in the studio (`engine.sound.spectra.LEVEL_DB`).

    OMP_NUM_THREADS=1 python -m training.sound.prepare_renderer --pack data/sound-v2 --codec runs/piano-codec-v2 \\
        --out data/renderer-v3.npz

codes (frames, K) int16 of all clips one after the other, frame_ptr (c + 1,), gain (c,) of each clip before
encoding, codebooks (K, size, latent) and the columns of the sound pack's index (session, piano, split, notes, pedal).
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.checkpoints.bundle import codebooks_digest
from engine.models.codec.piano_codec import SAMPLE_RATE, CodecConfig, PianoCodec
from engine.sound.spectra import level_gain
from training.sound.pack import SoundPack


def codec_of(run: Path) -> PianoCodec:
    """The averaged codec of a training run, in evaluation mode."""
    about = json.loads((run / "config.json").read_text())
    model = PianoCodec(CodecConfig(**about["model"]))
    state = torch.load(run / "last.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["average"])
    return model.eval()


def session_gains(pack: SoundPack) -> NDArray[np.float32]:
    """(c,) gain of each clip: one value per session, the median of the gains that level its clips."""
    each = np.array([level_gain(pack.sound(c, 0, pack.frames(c)), SAMPLE_RATE) for c in range(len(pack))])
    gains = np.zeros(len(pack), np.float32)
    for session in np.unique(pack.session):
        gains[pack.session == session] = np.median(each[pack.session == session])
    return gains


def encode(share: tuple[Path, Path, NDArray[np.int64], NDArray[np.float32]]) -> list[NDArray[np.int16]]:
    """The codes (F, K) of some clips, from (sound pack, codec run, clips, their gains)."""
    torch.set_num_threads(1)
    pack, codec = SoundPack(share[0]), codec_of(share[1])
    out = []
    for clip, gain in zip(share[2].tolist(), share[3], strict=True):
        sound = torch.from_numpy(np.clip(gain * pack.sound(clip, 0, pack.frames(clip)), -1, 1))
        out.append(codec.encode(sound[None], 1)[0].T.to(torch.int16).numpy())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, default=Path("data/sound-v2"))
    parser.add_argument("--codec", type=Path, default=Path("runs/piano-codec-v2"))
    parser.add_argument("--out", type=Path, default=Path("data/renderer-v3.npz"))
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    pack, codec = SoundPack(args.pack), codec_of(args.codec)
    codes, ends = [], [0]
    gains = session_gains(pack)
    shares = [(args.pack, args.codec, part, gains[part]) for part in np.array_split(np.arange(len(pack)), 40)]
    with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
        for i, part in enumerate(pool.map(encode, shares)):
            codes.extend(part)
            ends.extend(ends[-1] + np.cumsum([len(c) for c in part]))
            print(f"{i + 1} of {len(shares)} parts", flush=True)
    codebooks = torch.stack([b.codebook for b in codec.quantiser.listed()])
    columns = {k: v for k, v in pack.z.items() if k != "clip_ptr"}
    np.savez(
        args.out,
        codes=np.concatenate(codes),
        frame_ptr=np.array(ends),
        gain=gains,
        codebooks=codebooks.numpy(),
        codec=codebooks_digest(codebooks),
        **columns,
    )
    print(f"{args.out}: {ends[-1] / 50 / 3600:.2f} h, codec {codebooks_digest(codebooks)}")


if __name__ == "__main__":
    main()
