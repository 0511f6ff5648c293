"""Train Piano-Encodec on the sound pack: six balanced losses, the adversarial ones from a later share of the run on.

    python -m training.midi_valle.train_codec --pack data/sound-v1 --size compact --out runs/encodec --minutes 240
    torchrun --nproc_per_node 2 -m training.midi_valle.train_codec ...

The recipe is audiocraft's (see training.sound.codec_losses): Adam 3e-4 with betas 0.5 and 0.9, crops of one second,
running mean of the weights. `--adversarial-from 0.67` omits the discriminator in the first two thirds: it costs more
than the codec. To fine-tune a codec, pass its imported folder as --start; then use 1e-4 and crops of two seconds. The
first twentieth of the run has no quantiser, until the encoder is trained. OUT/last.pt is the state,
resumed from; OUT/bundle the codec as a folder that `PianoEncodec`s are opened from.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.checkpoints.importing import open_encodec, write_encodec
from engine.models.codec.encodec import SIZES, PianoEncodec
from training.core.loop import (
    Batch,
    Reporter,
    add_arguments,
    average_gradients,
    follow,
    join_processes,
    learning_rate,
    prefetch,
    write_state,
)
from training.sound.codec_losses import (
    WEIGHTS,
    Balancer,
    Discriminator,
    LogMel,
    MultiScaleMel,
    discriminator_loss,
    generator_losses,
    si_snr_loss,
)

BETAS = (0.5, 0.9)
HELD_OUT_SECONDS = 4.0
HELD_OUT_CROPS = 12
QUIET = 1e-3  # crops whose peak is below this are drawn again


class SplitSound:
    """The sound of one split of a pack (training.sound.make_pack), as a source of crops."""

    def __init__(self, folder: Path, split: str, limit: int = 0) -> None:
        with np.load(folder / "index.npz") as index:
            ends, chosen = index["clip_ptr"], np.flatnonzero(index["split"] == split)
        chosen = chosen[:limit] if limit else chosen
        self.audio = np.memmap(folder / "audio.i16", np.int16, "r")
        self.start, self.stop = ends[:-1][chosen], ends[1:][chosen]
        self.name = f"{folder.name}: {len(chosen)} {split} clips"
        if len(chosen) == 0:
            raise ValueError(f"the pack {folder} has no {split} clips; make them with training.sound.make_pack")

    def crop(self, rng: np.random.Generator, num_samples: int) -> NDArray[np.float32]:
        """(num_samples,) from a random position, longer clips more often; a short clip is padded with silence."""
        share = self.stop - self.start
        clip = int(rng.choice(len(share), p=share / share.sum()))
        at = int(self.start[clip] + rng.integers(0, max(int(share[clip]) - num_samples, 0) + 1))
        sound = self.audio[at : min(at + num_samples, int(self.stop[clip]))].astype(np.float32) / 32768
        return np.r_[sound, np.zeros(num_samples - len(sound), np.float32)]

    def batch(self, rng: np.random.Generator, size: int, num_samples: int) -> Batch:
        """samples (size, num_samples): crops that are not silent, at random levels and polarities."""
        crops = []
        while len(crops) < size:
            sound = self.crop(rng, num_samples)
            peak = float(np.abs(sound).max())
            if peak >= QUIET or rng.random() < 0.02:
                gain = min(10 ** (rng.uniform(-9, 6) / 20), 0.99 / max(peak, 1e-6)) * rng.choice((-1.0, 1.0))
                crops.append(sound * np.float32(gain))
        return {"samples": torch.from_numpy(np.stack(crops))}


class CodecRun:
    """Codec, discriminator, optimizers and balancer in training; `step` and `seconds` count over all sessions."""

    def __init__(
        self, codec: PianoEncodec, discriminator: Discriminator, rate: float, device: str, weights: dict[str, float]
    ) -> None:
        self.model, self.discriminator, self.device, self.rate = (
            codec.to(device),
            discriminator.to(device),
            device,
            rate,
        )
        self.average = PianoEncodec(codec.config, codec.num_codebooks, codec.codebook_size).to(device)
        self.average.load_state_dict(codec.state_dict())
        self.optimizer = torch.optim.Adam(codec.parameters(), lr=rate, betas=BETAS)
        self.discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=rate, betas=BETAS)
        self.multi_mel, self.log_mel = MultiScaleMel(codec.sample_rate).to(device), LogMel(codec.sample_rate).to(device)
        self.balancer, self.step, self.seconds = Balancer(weights, average=_mean_of_processes), 0, 0.0

    def resume(self, path: Path) -> None:
        """Go on from a saved state; nothing happens when there is none."""
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        for name, part in self._parts().items():
            old = name.replace("discriminator", "judge")  # its name in older runs
            part.load_state_dict(state[name] if name in state else state[old])
        self.balancer.norms = {k: (a, b) for k, (a, b) in state["norms"].items()}
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self, path: Path) -> None:
        """Write the state to be resumed from."""
        state: dict = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {"norms": self.balancer.norms, "step": self.step, "seconds": self.seconds}
        write_state(state, path)

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {
            "model": self.model, "average": self.average, "discriminator": self.discriminator,
            "optimizer": self.optimizer, "discriminator_optimizer": self.discriminator_optimizer,
        }  # fmt: skip

    def learn(self, batch: Batch, share: float, adversarial: bool, ema: float, done: bool) -> tuple[dict, bool]:
        """One step of the codec, and of the discriminator once it is used; returns the losses and whether to stop."""
        for optimizer in (self.optimizer, self.discriminator_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = self.rate * share
        real, figures = batch["samples"].to(self.device, non_blocking=True), {}
        self.model.train()
        kind = self.device.split(":")[0]
        with torch.autocast(kind, dtype=torch.bfloat16):
            heard = self.model(real)
        fake = heard.samples.float()
        if adversarial:
            with torch.autocast(kind, dtype=torch.bfloat16):
                discriminator_term = discriminator_loss(self.discriminator, fake, real)
            figures["discriminator"] = float(discriminator_term.detach())
            self.discriminator_optimizer.zero_grad(set_to_none=True)
            discriminator_term.backward()
            average_gradients(self.discriminator, False, self.device)
            self.discriminator_optimizer.step()
        losses = self._losses(fake, real, adversarial, kind)
        gradient = self.balancer.gradient(losses, fake)
        self.optimizer.zero_grad(set_to_none=True)
        (heard.commitment + (fake * gradient).sum()).backward()  # d/d fake is the balanced gradient
        stop = average_gradients(self.model, done, self.device)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        follow(
            self.average, self.model, min(ema, (1 + self.step) / (10 + self.step))
        )  # the codebooks are moving averages already
        figures |= {k: float(v.detach()) for k, v in losses.items()} | {"commitment": float(heard.commitment.detach())}
        return figures, stop

    def _losses(self, fake: Tensor, real: Tensor, adversarial: bool, kind: str) -> dict[str, Tensor]:
        """The losses whose weight is not 0."""
        weights, losses = self.balancer.weights, {}
        if adversarial:
            self.discriminator.requires_grad_(False)
            with torch.autocast(kind, dtype=torch.bfloat16):
                losses["adversarial"], losses["feature"] = generator_losses(self.discriminator, fake, real)
            self.discriminator.requires_grad_(True)
        rest: dict[str, Callable[[], Tensor]] = {
            "waveform": lambda: (fake - real).abs().mean(),
            "mel": lambda: self.log_mel(fake, real),
            "multi_mel": lambda: self.multi_mel(fake, real),
            "si_snr": lambda: si_snr_loss(fake, real),
        }
        return losses | {name: loss() for name, loss in rest.items() if weights.get(name, 0) > 0}


def _mean_of_processes(values: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(values)
        values = values / dist.get_world_size()
    return values


@torch.inference_mode()
def figures_of(codec: PianoEncodec, held_out: Tensor) -> dict[str, float]:
    """Held-out figures on samples (n, num_samples): SI-SDR and mel distance in dB, share of codes used."""
    log_mel = LogMel(codec.sample_rate).to(held_out.device)
    codes = torch.cat([codec.encode(x[None]) for x in held_out])
    heard = torch.cat([codec.decode(c[None]) for c in codes])[:, : held_out.shape[1]]
    figures = {"si_sdr": -float(si_snr_loss(heard, held_out)), "mel_db": 10 * float(log_mel(heard, held_out))}
    for k in range(codec.num_codebooks):
        used = torch.bincount(codes[:, k].flatten(), minlength=codec.codebook_size).float()
        p = used[used > 0] / used.sum()
        figures[f"perplexity_{k}"] = float((-(p * p.log()).sum()).exp())
    return figures


def train_codec(run: CodecRun, args: argparse.Namespace, pack: SplitSound, held_out: SplitSound, rank: int) -> None:
    """Train until --minutes have passed or --steps are reached."""
    args.out.mkdir(parents=True, exist_ok=True)
    shape = {"codebook_size": run.model.codebook_size, "num_codebooks": run.model.num_codebooks}
    about = {"kind": "piano-encodec", "model": dataclasses.asdict(run.model.config) | shape, "pack": pack.name}
    reporter = Reporter(args, about, run.step) if rank == 0 else None
    rng = np.random.default_rng([args.seed, run.step, rank])
    length = int(args.crop * run.model.sample_rate)
    batches = prefetch(lambda: pack.batch(rng, args.batch, length))
    fixed = np.random.default_rng(1)
    size = int(HELD_OUT_SECONDS * run.model.sample_rate)
    probe = torch.from_numpy(np.stack([held_out.crop(fixed, size) for _ in range(HELD_OUT_CROPS)])).to(run.device)
    schedule, before = 60 * (args.schedule_minutes or args.minutes), run.seconds
    began = saved = time.monotonic()
    stop = bool(args.steps) and run.step >= args.steps
    while not stop:
        run.seconds = before + time.monotonic() - began
        done = run.step + 1 >= args.steps if args.steps else run.seconds - before >= 60 * args.minutes
        progress = run.step / args.steps if args.steps else run.seconds / schedule
        adversarial = progress >= args.adversarial_from
        run.model.quantizer.free = progress < args.quantise_from and not args.start
        figures, stop = run.learn(next(batches), learning_rate(run.step, progress), adversarial, args.ema, done)
        if reporter:
            reporter.recent.append(figures)
            if stop or time.monotonic() - saved > 60 * args.save_minutes:
                reporter.recent = [r for r in reporter.recent if r.keys() == figures.keys()]
                reporter.report(run, figures_of(run.average.eval(), probe))  # type: ignore[arg-type]
                write_encodec(run.average, args.out / "bundle", f"training.midi_valle.train_codec, step {run.step}")
                saved = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "data/sound-v1", "runs/encodec")
    parser.set_defaults(rate=3e-4, ema=0.99)
    parser.add_argument("--size", choices=sorted(SIZES), default="compact")
    parser.add_argument("--start", type=Path, help="folder of an imported codec to fine-tune, instead of --size")
    parser.add_argument("--crop", type=float, default=1.0, help="seconds")
    parser.add_argument("--quantise-from", type=float, default=0.05, help="share of the run; see EncodecQuantiser.free")
    parser.add_argument("--filters", type=int, default=32, help="of the discriminator; 16 is half width")
    parser.add_argument("--adversarial-from", type=float, default=0.67, help="share of the run; 0 as published")
    for name, weight in WEIGHTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=weight, help="weight of this loss")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    rank, _, device = join_processes()
    torch.manual_seed(args.seed)
    codec = open_encodec(args.start).model if args.start else PianoEncodec(SIZES[args.size])
    weights = {name: float(getattr(args, name)) for name in WEIGHTS}
    run = CodecRun(codec, Discriminator(args.filters), args.rate, device, weights)
    run.resume(args.out / "last.pt")
    torch.manual_seed(args.seed + 1000 * rank + run.step)
    pack, held_out = SplitSound(args.pack, "train", args.limit), SplitSound(args.pack, "validation")
    print(f"{device}, {sum(p.numel() for p in codec.parameters()) / 1e6:.1f} M parameters, {pack.name}", flush=True)
    train_codec(run, args, pack, held_out, rank)


if __name__ == "__main__":
    main()
