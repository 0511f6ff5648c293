"""Fine-tune a copy of the codec's decoder on the codes that a trained renderer samples (`guide_decoder`).

    OMP_NUM_THREADS=1 python -m training.sound.tune_decoder --sound data/sound-v2 --pack data/renderer-v3.npz \\
        --codec checkpoints/piano-codec-v2 --renderer runs/renderer-v4 --out runs/sketch-decoder-v2 --minutes 25

With --discriminator, a spectrogram discriminator is trained too (`training.sound.discriminator`); its state is
OUT/discriminator.pt.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.checkpoints.bundle import open_codec
from engine.models.codec.piano_codec import FLOOR, PianoCodec, spectral_losses
from engine.models.renderer.guide_decoder import GuideDecoder, drawn_codes
from engine.models.renderer.masked_renderer import MaskedRenderer, RendererConfig
from training.core.finished_run import weights_to_begin_with
from training.core.loop import Batch, Run, add_arguments, join_processes, train
from training.sound.batches import Batches, CodePack
from training.sound.discriminator import AdversarialTraining
from training.sound.pack import SoundPack

TEMPERATURE = (0.6, 0.4)
HELD_BATCHES = 3


def renderer_of(run: Path, codebooks: torch.Tensor) -> MaskedRenderer:
    """The averaged renderer of a training run, in evaluation mode."""
    about = json.loads((run / "config.json").read_text())
    model = MaskedRenderer(RendererConfig(**about["model"]), codebooks)
    model.load_state_dict(torch.load(run / "last.pt", map_location="cpu", weights_only=True)["average"])
    return model.eval()


def decoded(
    decoder: GuideDecoder, batch: Batch, codec: PianoCodec, renderer: MaskedRenderer
) -> tuple[Tensor, Tensor, Tensor]:
    """Log magnitudes (B, 2 F, BINS): decoded, of the guide, true. Hidden frames have codes sampled by the renderer."""
    with torch.no_grad():
        codes, style = drawn_codes(renderer, batch, TEMPERATURE)
        latent = codec.quantiser.decode(codes)
        with torch.autocast(latent.device.type, enabled=False):
            true, guide = codec.analyse(batch["samples"])[1], codec.analyse(batch["guide_samples"])[1]
    log = decoder(latent, guide, batch["notes"], style.float(), batch["colours"]).float()
    return log.flatten(1, 2), guide.flatten(1, 2), true.flatten(1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "data/renderer-v3.npz", "runs/sketch-decoder-v2")
    parser.add_argument("--sound", type=Path, default=Path("data/sound-v2"))
    parser.add_argument("--codec", type=Path, default=Path("checkpoints/piano-codec-v2"))
    parser.add_argument("--renderer", type=Path, default=Path("runs/renderer-v4"))
    parser.add_argument("--warm", type=Path, help="another run's last.pt or a renderer's folder, to begin with")
    parser.add_argument("--held", type=Path, nargs=2, help="code and sound pack of unseen pianos and pieces")
    parser.add_argument(
        "--discriminator", type=float, default=0.0, help="learning rate of a spectrogram discriminator; 0: none"
    )
    parser.add_argument("--frames", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rank, _, device = join_processes()
    torch.manual_seed(args.seed + rank)
    pack, sound = CodePack(args.pack, guided=True), SoundPack(args.sound)
    codec, renderer = open_codec(args.codec).model.to(device), renderer_of(args.renderer, pack.codebooks).to(device)
    seed = args.seed * 1000 + rank * 77 + np.random.randint(1 << 30)
    batches = Batches(pack, "train", args.frames, args.batch, seed, args.limit, sound)
    held = {"real": (pack, sound)}
    if args.held:
        held["other_pianos"] = (CodePack(args.held[0], guided=True), SoundPack(args.held[1]))
    fixed = {
        name: [Batches(codes, "validation", args.frames, 6, i, 0, heard)() for i in range(HELD_BATCHES)]
        for name, (codes, heard) in held.items()
    }

    def distance(model: GuideDecoder, batch: Batch) -> Batch:
        log, _, true = decoded(model, batch, codec, renderer)
        return spectral_losses(log, true)

    def adversarial(model: GuideDecoder, batch: Batch) -> Batch:
        return discriminator.weigh(*decoded(model, batch, codec, renderer))

    def validate(model: GuideDecoder) -> dict[str, float]:
        torch.manual_seed(0)
        figures = {}
        for name, rows in fixed.items():
            parts = [distance(model, {k: v.to(device) for k, v in b.items()}) for b in rows]
            figures |= {f"{name}_{k}": float(np.mean([float(p[k]) for p in parts])) for k in parts[0]}
        discriminator.save(args.out / "discriminator.pt")  # the loop saves the run after every validation
        return figures

    def make() -> GuideDecoder:
        return GuideDecoder(codec, renderer.config.width)

    run = Run(make(), args.rate, device, make)
    if args.warm and not (args.out / "last.pt").exists():
        state = weights_to_begin_with(args.warm, "decoder." if args.warm.is_dir() else "")
        if args.warm.is_dir():  # subtract the offset that was added to the guide's weight after its training
            state["to_trust.1.bias"] -= json.loads((args.warm / "config.json").read_text())["decoder"]["trust"]
        run.model.load_state_dict(state, strict=False)
        run.average.load_state_dict(run.model.state_dict())
    run.resume(args.out / "last.pt")
    discriminator = AdversarialTraining(args.discriminator, device, math.log(FLOOR))
    discriminator.resume(args.out / "discriminator.pt")
    about = {
        "kind": "note decoder",
        "model": {"style_width": renderer.config.width},
        "pack": str(args.pack),
        "codec": pack.codec,
    }
    with torch.inference_mode():
        print(json.dumps({"before": validate(run.average.eval())}), flush=True)
    train(run, args, batches, adversarial if args.discriminator else distance, validate, about)


if __name__ == "__main__":
    main()
