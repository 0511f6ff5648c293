"""Fine-tune a codec's decoder with a spectrogram discriminator (`training.sound.discriminator`); encoder and codebooks
are frozen.

    OMP_NUM_THREADS=1 python -m training.sound.train_codec_adversarial --pack data/sound-v2 \\
        --warm checkpoints/piano-codec-v2 --out runs/piano-codec-v3 --minutes 25

The codes keep their meaning, so renderers that predict them stay valid. In place of a guide the discriminator gets the
output of the decoder before this training. Its state is OUT/discriminator.pt.
"""

from __future__ import annotations

import argparse
import copy
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.checkpoints.bundle import open_codec
from engine.models.codec.piano_codec import FLOOR, PianoCodec, spectral_distance
from engine.models.nn.residual_quantiser import FEWER
from training.core.loop import Batch, Run, add_arguments, join_processes, train
from training.sound.discriminator import AdversarialTraining
from training.sound.pack import SoundPack
from training.sound.train_codec import Crops, held_out

TRAINED = ("from_latent", "encode_notes", "without_notes", "decoder", "spectrum_head")


@torch.no_grad()
def coded(codec: PianoCodec, samples: Tensor, beam: int, fewer: float) -> tuple[Tensor, Tensor]:
    """Quantised latents (B, F, latent) and true log magnitudes (B, 2 F, BINS) of samples (B, num_samples)."""
    with torch.autocast(samples.device.type, enabled=False):
        seen, true = codec.analyse(samples)
        codes = codec.quantiser.encode(codec.latents(seen), beam)
        depth = codec.quantiser.depths(len(samples), samples.device, fewer)
        latent = torch.stack([codec.quantiser.decode(c[..., :k]) for c, k in zip(codes, depth.tolist(), strict=True)])
        return latent, true.flatten(1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "data/sound-v2", "runs/piano-codec-v3")
    parser.add_argument("--warm", type=Path, required=True, help="the codec's checkpoint folder")
    parser.add_argument("--frames", type=int, default=100, help="of a crop, 50 a second")
    parser.add_argument("--discriminator", type=float, default=5e-4, help="learning rate of the discriminator")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rank, _, device = join_processes()
    torch.manual_seed(args.seed + rank)
    pack = SoundPack(args.pack)
    seed = args.seed * 1000 + rank * 77 + np.random.randint(1 << 30)
    crops = Crops(pack, args.frames, args.batch, seed, args.limit, real_share=0.5, varied=True)
    before = open_codec(args.warm).model.float().to(device).requires_grad_(False)
    samples, notes = (x.to(device) for x in held_out(pack))

    def make() -> PianoCodec:
        model = copy.deepcopy(before)
        for name in TRAINED:
            getattr(model, name).requires_grad_(True)
        return model

    def losses(model: PianoCodec, batch: Batch) -> Batch:
        latent, true = coded(before, batch["samples"], 4, FEWER)
        with torch.no_grad():
            blurred = before.spectra(latent, batch["notes"], batch["known"]).float().flatten(1, 2)
        log = model.spectra(latent, batch["notes"], batch["known"]).float().flatten(1, 2)
        return discriminator.weigh(log, blurred.clamp(min=math.log(FLOOR)), true)

    def validate(model: PianoCodec) -> dict[str, float]:
        latent, true = coded(before, samples, 8, 0.0)
        figures = {}
        for name, told in (("", None), ("_with_notes", notes)):
            error, change = spectral_distance(model.spectra(latent, told).flatten(1, 2), true)
            figures |= {f"error{name}": float(error), f"change{name}": float(change)}
        discriminator.save(args.out / "discriminator.pt")  # the loop saves the run after every validation
        return figures

    run = Run(make(), args.rate, device, make)
    run.resume(args.out / "last.pt")
    discriminator = AdversarialTraining(args.discriminator, device, math.log(FLOOR))
    discriminator.resume(args.out / "discriminator.pt")
    about = {"kind": "piano codec", "model": asdict(before.config), "pack": str(args.pack)}
    train(run, args, crops, losses, validate, about)


if __name__ == "__main__":
    main()
