"""Train the product's piano codec on a sound pack (`training.sound.make_pack`).

OMP_NUM_THREADS=1 python -m training.sound.train_codec --pack data/sound-v2 --out runs/piano-codec-v2 --minutes 60
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.models.codec.piano_codec import SAMPLE_RATE, CodecConfig, PianoCodec
from engine.models.nn.vector_quantiser import perplexity
from engine.sound.spectra import level_gain
from training.core.loop import Run, add_arguments, join_processes, train
from training.sound.pack import HOP, SoundPack
from training.sound.tone import tone

FREE_STEPS = 250  # steps without quantiser, before k-means initialises the codebooks
REAL_SHARE = 0.25  # share of crops from recordings: there are 20 minutes of recordings and hours of renders
LEVELLED = 0.75  # share of crops at the level of encoded recordings
SHIFT = 3.0  # maximum resampling of recordings, semitones; their notes are then hidden


class Crops:
    """Random crops with their notes; the notes of half of the items are hidden.

    varied  resample and filter half of the recordings' crops at random, because there are few recordings
    """

    def __init__(
        self, pack: SoundPack, frames: int, batch: int, seed: int, limit: int = 0,
        real_share: float = REAL_SHARE, varied: bool = False,
    ):  # fmt: skip
        self.pack, self.frames, self.batch = pack, frames, batch
        self.real_share, self.varied = real_share, varied
        self.random, self.gains = np.random.default_rng(seed), dict[int, float]()
        clips = pack.clips("train")
        self.longer = int(np.ceil(frames * 2 ** (SHIFT / 12))) + 2  # frames that make a crop when played faster
        clips = clips[[pack.frames(c) > (self.longer if varied else frames) for c in clips]]
        self.real, self.made = clips[pack.real[clips]], clips[~pack.real[clips]]
        if limit:
            self.made = self.made[:limit]

    def __call__(self) -> dict[str, torch.Tensor]:
        g, sounds, notes, known = self.random, [], [], torch.rand(self.batch) < 0.5
        for i in range(self.batch):
            pool = self.real if len(self.real) and (g.random() < self.real_share or not len(self.made)) else self.made
            clip = int(g.choice(pool))
            other = self.varied and pool is self.real and g.random() < 0.5
            length = self.longer if other else self.frames
            start = int(g.integers(0, self.pack.frames(clip) - length))
            sound = self.pack.sound(clip, start, length)
            if other:
                sound, known[i] = varied(g, sound, self.frames * HOP), False
            sounds.append(sound * np.float32(self.gain(clip)))
            notes.append(self.pack.notes(clip, start, self.frames))
        samples = torch.from_numpy(np.clip(np.stack(sounds), -1, 1))
        return {"samples": samples, "notes": torch.from_numpy(np.stack(notes)), "known": known}

    def gain(self, clip: int) -> float:
        """Usually the gain that levels the whole clip, with a small deviation; sometimes a random gain."""
        if self.random.random() > LEVELLED:
            return 10 ** (self.random.uniform(-8, 4) / 20)
        if clip not in self.gains:
            self.gains[clip] = level_gain(self.pack.sound(clip, 0, self.pack.frames(clip)), SAMPLE_RATE)
        return self.gains[clip] * 10 ** (self.random.normal(0, 1.5) / 20)


def varied(g: np.random.Generator, sound: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """`count` samples of a longer `sound`, played up to SHIFT semitones faster or slower and with another tone.

    >>> varied(np.random.default_rng(0), np.zeros(3000, np.float32), 2000).shape
    (2000,)
    """
    ratio = 2 ** (g.uniform(-SHIFT, SHIFT) / 12)
    spectrum = np.fft.rfft(sound)
    spectrum *= tone(g, len(sound), SAMPLE_RATE)
    size = round(len(sound) / ratio)
    again = np.fft.irfft(spectrum[: size // 2 + 1], size) * (size / len(sound))  # removes the highest frequencies
    first = (size - count) // 2  # omits the ends, where circular resampling wraps around
    return again[first : first + count].astype(np.float32)


def held_out(pack: SoundPack) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples (n, 300 * 640) and notes (n, 300, WIDTH) of crops of the validation split."""
    held = [c for c in pack.clips("validation") if pack.frames(c) >= 400][::3]
    samples = torch.from_numpy(np.stack([pack.sound(c, 100, 300) for c in held]))
    return samples, torch.from_numpy(np.stack([pack.notes(c, 100, 300) for c in held]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "data/sound-v2", "runs/piano-codec-v2")
    parser.add_argument("--frames", type=int, default=100, help="of a crop, 50 a second")
    parser.add_argument("--encoder", type=int, nargs=2, default=(256, 6), metavar=("WIDTH", "DEPTH"))
    parser.add_argument("--decoder", type=int, nargs=2, default=(384, 8), metavar=("WIDTH", "DEPTH"))
    parser.add_argument("--codebooks", type=int, default=4, help="of 2,048 codes, 0.55 kbit/s each")
    parser.add_argument("--real-share", type=float, default=REAL_SHARE, help="of the crops that are recordings")
    parser.add_argument("--varied", action="store_true", help="recordings also higher, lower, and of another tone")
    parser.add_argument("--warm", type=Path, help="begin with the weights of this checkpoint folder")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rank, _, device = join_processes()
    torch.manual_seed(args.seed + rank)
    pack = SoundPack(args.pack)
    config = CodecConfig(
        num_codebooks=args.codebooks,
        encoder_width=args.encoder[0], encoder_depth=args.encoder[1],
        decoder_width=args.decoder[0], decoder_depth=args.decoder[1],
    )  # fmt: skip
    seed = args.seed * 1000 + rank * 77 + np.random.randint(1 << 30)
    crops = Crops(pack, args.frames, args.batch, seed, args.limit, args.real_share, args.varied)
    free_steps = 0 if args.warm else FREE_STEPS
    samples, notes = (x.to(device) for x in held_out(pack))

    def losses(model: PianoCodec, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        model.bypass = run.step < free_steps
        return model.losses(batch)

    def validate(model: PianoCodec) -> dict[str, float]:
        figures = {}
        model.bypass = run.step < free_steps
        for name, known in (("", False), ("_with_notes", True)):
            parts = model.losses({"samples": samples, "notes": notes, "known": torch.full((len(samples),), known)})
            figures |= {f"error{name}": float(parts["error"]), f"change{name}": float(parts["change"])}
        seen, _ = model.analyse(samples)
        codes = model.quantiser.encode(model.latents(seen))
        for k in range(model.num_codebooks):
            spread, used = perplexity(codes[..., k], model.codebook_size)
            figures |= {f"perplexity_{k}": float(spread), f"used_{k}": float(used)}
        return figures

    def make() -> PianoCodec:
        return PianoCodec(config)

    def warm() -> PianoCodec:
        from engine.checkpoints.bundle import open_codec  # not needed for a run from scratch

        model, known = make(), open_codec(args.warm).model.float()
        model.load_state_dict(
            known.state_dict(), strict=args.codebooks == known.num_codebooks
        )  # further codebooks are new
        for codebook in model.quantiser.listed()[: known.num_codebooks]:  # all codes start with equal use
            count = args.batch * args.frames / codebook.num_codes
            codebook.moved.fill_(1)
            codebook.count.fill_(count)
            codebook.total.copy_(codebook.codebook * count)
        return model

    run = Run(warm() if args.warm else make(), args.rate, device, make)
    run.resume(args.out / "last.pt")
    seconds = {"held_out_seconds": len(samples) * 300 * HOP / 32000, "pack_hours": len(pack.audio) / 32000 / 3600}
    about = {"kind": "piano codec", "model": asdict(config), "pack": str(args.pack), **seconds}
    train(run, args, crops, losses, validate, about)


if __name__ == "__main__":
    main()
