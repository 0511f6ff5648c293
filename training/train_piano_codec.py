"""Train the product's piano codec on a sound pack (`training.render_pack`).

OMP_NUM_THREADS=1 python -m training.train_piano_codec --pack data/sound-v1 --out runs/piano-codec-v1 --minutes 60
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

import numpy as np
import torch

from engine.models.piano_codec import CodecConfig, PianoCodec
from engine.models.quantize import perplexity
from training.loop import Run, add_arguments, join_processes, train
from training.sound_pack import HOP, SoundPack

FREE_STEPS = 250  # before the codebooks are laid out, by k-means, over what the encoder then says
REAL_SHARE = 0.25  # of the crops are recordings: there are 20 minutes of them, and hours of renders


class Crops:
    """Random crops with their notes; half of the items hide their notes."""

    def __init__(self, pack: SoundPack, frames: int, batch: int, seed: int, limit: int = 0):
        self.pack, self.frames, self.batch = pack, frames, batch
        self.random = np.random.default_rng(seed)
        clips = pack.clips("train")
        clips = clips[[pack.frames(c) > frames for c in clips]]
        self.real, self.made = clips[pack.real[clips]], clips[~pack.real[clips]]
        if limit:
            self.made = self.made[:limit]

    def __call__(self) -> dict[str, torch.Tensor]:
        g, sounds, notes = self.random, [], []
        for _ in range(self.batch):
            pool = self.real if len(self.real) and (g.random() < REAL_SHARE or not len(self.made)) else self.made
            clip = int(g.choice(pool))
            start = int(g.integers(0, self.pack.frames(clip) - self.frames))
            sounds.append(self.pack.sound(clip, start, self.frames) * np.float32(10 ** (g.uniform(-8, 4) / 20)))
            notes.append(self.pack.notes(clip, start, self.frames))
        samples = torch.from_numpy(np.clip(np.stack(sounds), -1, 1))
        return {"samples": samples, "notes": torch.from_numpy(np.stack(notes)), "known": torch.rand(self.batch) < 0.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "data/sound-v1", "runs/piano-codec-v1")
    parser.add_argument("--frames", type=int, default=100, help="of a crop, 50 a second")
    parser.add_argument("--encoder", type=int, nargs=2, default=(256, 6), metavar=("WIDTH", "DEPTH"))
    parser.add_argument("--decoder", type=int, nargs=2, default=(384, 8), metavar=("WIDTH", "DEPTH"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rank, _, device = join_processes()
    torch.manual_seed(args.seed + rank)
    pack = SoundPack(args.pack)
    config = CodecConfig(
        encoder_width=args.encoder[0], encoder_depth=args.encoder[1],
        decoder_width=args.decoder[0], decoder_depth=args.decoder[1],
    )  # fmt: skip
    crops = Crops(pack, args.frames, args.batch, args.seed * 1000 + rank * 77 + np.random.randint(1 << 30), args.limit)
    held = [c for c in pack.clips("validation") if pack.frames(c) >= 400][::3]
    samples = torch.from_numpy(np.stack([pack.sound(c, 100, 300) for c in held])).to(device)
    notes = torch.from_numpy(np.stack([pack.notes(c, 100, 300) for c in held])).to(device)

    def losses(model: PianoCodec, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        model.bypass = run.step < FREE_STEPS
        return model.losses(batch)

    def validate(model: PianoCodec) -> dict[str, float]:
        figures = {}
        model.bypass = run.step < FREE_STEPS
        for name, known in (("", False), ("_with_notes", True)):
            parts = model.losses({"samples": samples, "notes": notes, "known": torch.full((len(held),), known)})
            figures |= {f"error{name}": float(parts["error"]), f"change{name}": float(parts["change"])}
        seen, _ = model.analyse(samples)
        codes = model.quantiser.encode(model.latents(seen))
        for k in range(model.num_codebooks):
            spread, used = perplexity(codes[..., k], model.codebook_size)
            figures |= {f"perplexity_{k}": float(spread), f"used_{k}": float(used)}
        return figures

    def make() -> PianoCodec:
        return PianoCodec(config)

    run = Run(make(), args.rate, device, make)
    run.resume(args.out / "last.pt")
    seconds = {"held_out_seconds": len(held) * 300 * HOP / 32000, "pack_hours": len(pack.audio) / 32000 / 3600}
    about = {"kind": "piano codec", "model": asdict(config), "pack": str(args.pack), **seconds}
    train(run, args, crops, losses, validate, about)


if __name__ == "__main__":
    main()
