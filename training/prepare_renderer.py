"""Encode a sound pack with a frozen codec: codes and notes, all that the renderer's training reads.

    OMP_NUM_THREADS=1 python -m training.prepare_renderer --pack data/sound-v1 --codec runs/piano-codec-v1 --out data/renderer-v1.npz

codes (frames, K) int16 of all clips one after the other, frame_ptr (c + 1,), the books (K, size, latent) and the
columns of the sound pack's index (session, piano, split, notes, pedal).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from engine.bundle import books_digest
from engine.models.piano_codec import CodecConfig, PianoCodec
from training.sound_pack import SoundPack


def codec_of(run: Path) -> PianoCodec:
    """The averaged codec of a training run, in evaluation mode."""
    about = json.loads((run / "config.json").read_text())
    model = PianoCodec(CodecConfig(**about["model"]))
    state = torch.load(run / "last.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["average"])
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, default=Path("data/sound-v1"))
    parser.add_argument("--codec", type=Path, default=Path("runs/piano-codec-v1"))
    parser.add_argument("--out", type=Path, default=Path("data/renderer-v1.npz"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    pack, codec = SoundPack(args.pack), codec_of(args.codec)
    codes, ends = [], [0]
    for clip in range(len(pack)):
        sound = torch.from_numpy(pack.sound(clip, 0, pack.frames(clip)))
        codes.append(codec.encode(sound[None])[0].T.to(torch.int16).numpy())
        ends.append(ends[-1] + len(codes[-1]))
        if clip % 500 == 0:
            print(f"{clip} of {len(pack)} clips", flush=True)
    books = torch.stack([b.codebook for b in codec.quantiser.books])
    columns = {k: v for k, v in pack.z.items() if k != "clip_ptr"}
    np.savez(args.out, codes=np.concatenate(codes), frame_ptr=np.array(ends), books=books.numpy(), codec=books_digest(books), **columns)
    print(f"{args.out}: {ends[-1] / 50 / 3600:.2f} h, codec {books_digest(books)}")


if __name__ == "__main__":
    main()
