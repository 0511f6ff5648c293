"""Train MIDI-VALLE's decoders on a pack of segments (training.midi_valle.data).

    python -m training.midi_valle.train --pack data/valle-v1.npz --out runs/valle            corrected
    torchrun --nproc_per_node 2 -m training.midi_valle.train --published ...                 as published

--published: ScaledAdam and Eden, 0.05, losses summed, eight micro-batches of 200 s an update, float32, whole segments,
prefix mode 1, dropout 0.1. Corrected: AdamW 3e-4 with a cosine, bfloat16, losses by code without padding, and items
that begin with three seconds of a neighbouring segment, as in rendering. OUT/last.pt is the state, resumed from;
OUT/bundle has the decoders as a folder for the `paper` profile.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from engine.checkpoints.importing import open_valle, write_valle
from engine.models.midi_valle.decoders import Valle, ValleConfig
from training.core.loop import Batch, add_arguments, average_gradients, join_processes, train, write_state
from training.midi_valle.data import MAX_COST, SegmentCorpus
from training.midi_valle.losses import losses
from training.midi_valle.scaled_adam import ScaledAdam, eden

HELD_OUT_BATCHES = 8
NOTE_TABLES = "feat_emb."


class ValleRun:
    """Decoders in training: gradients of `accumulate` micro-batches make one update. `step` counts micro-batches.

    stage  0 trains all; 1 and 2 only parameters named ar_ or nar_. The released code trains the embeddings of notes in
           neither (they keep their initial values); here they are trained in both, unless `published`
    """

    def __init__(self, model: Valle, args: argparse.Namespace, device: str, epoch_batches: int) -> None:
        self.model = self.average = model.to(device)  # no weight averaging, as published
        self.args, self.device, self.epoch_batches, self.step, self.seconds = args, device, epoch_batches, 0, 0.0
        self.warmed_from = 0
        self.params = [p for name, p in model.named_parameters() if p.requires_grad and self._trains(name)]
        self.optimizer: torch.optim.Optimizer
        if args.published:
            self.optimizer = ScaledAdam(self.params, args.rate, (0.9, 0.95))
        else:
            self.optimizer = torch.optim.AdamW(self.params, args.rate, betas=(0.9, 0.98), weight_decay=0.01)
        self._ending = False

    def _trains(self, name: str) -> bool:
        side = {1: "ar_", 2: "nar_"}.get(self.args.stage, "")
        return name.startswith(side) or (name.startswith(NOTE_TABLES) and not self.args.published)

    def resume(self, path: Path) -> None:
        """Go on from a saved state; nothing happens when there is none."""
        if path.exists():
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]

    def save(self, path: Path) -> None:
        """Write the state to be resumed from, and the bundle."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        write_state(state | {"step": self.step, "seconds": self.seconds}, path)
        write_valle(self.model, path.parent / "bundle", f"training.midi_valle.train, step {self.step}")

    def learn(
        self, batch: Batch, terms: Callable[[nn.Module, Batch], Batch], share: float, ema: float, done: bool
    ) -> tuple[dict[str, float], bool]:
        """Train on one micro-batch; the optimizer steps after `accumulate` of them. Returns losses, whether to stop."""
        batch = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
        self.model.train()
        with torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16, enabled=not self.args.published):
            parts = terms(self.model, batch)
        whole = parts["loss"] if self.args.published else parts["loss"] / self.args.accumulate
        whole.backward()
        self.step += 1
        self._ending = self._ending or done
        stop = False
        if self.step % self.args.accumulate == 0:
            stop = self._update(share)
        return {k: float(v.detach()) for k, v in parts.items()}, stop

    def _update(self, share: float) -> bool:
        epoch = self.step / self.epoch_batches
        share = eden(self.step, int(epoch), self.args.warm_up) if self.args.published else share
        for group in self.optimizer.param_groups:
            group["lr"] = self.args.rate * share
        stop = average_gradients(self.model, self._ending, self.device)
        finite = all(bool(torch.isfinite(p.grad).all()) for p in self.params if p.grad is not None)
        if not self.args.published:
            torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        if finite:
            self.optimizer.step()
        self.model.zero_grad(set_to_none=True)
        return stop


def add_own_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--published", action="store_true", help="the paper's optimizer, losses and items")
    parser.add_argument("--stage", type=int, choices=(0, 1, 2), default=0, help="0 both decoders, 1 AR, 2 NAR")
    parser.add_argument("--prefix-mode", type=int, choices=(0, 1, 2, 4), default=1)
    parser.add_argument("--no-absolute-time", action="store_true", help="notes without position and bar (defect W8)")
    parser.add_argument("--accumulate", type=int, default=8, help="micro-batches an update")
    parser.add_argument("--cost", type=float, default=MAX_COST, help="of a micro-batch; 200 is four segments")
    parser.add_argument("--warm-up", type=int, default=20, help="micro-batches, of Eden")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--start", type=Path, help="folder of imported weights to go on from, instead of a new model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, "data/valle-v1.npz", "runs/valle")
    parser.set_defaults(rate=None)
    add_own_arguments(parser)
    args = parser.parse_args()
    args.rate = args.rate if args.rate is not None else 0.05 if args.published else 3e-4
    torch.set_num_threads(args.threads)
    rank, world, device = join_processes()
    torch.manual_seed(args.seed)
    if args.start:
        model = open_valle(args.start).model
    else:
        shape = ValleConfig(
            width=args.width, layers=args.layers, heads=args.heads, dropout=args.dropout,
            prefix_mode=args.prefix_mode, absolute_time=not args.no_absolute_time,
        )  # fmt: skip
        model = Valle(shape)
    mode, absolute = model.config.prefix_mode, model.config.absolute_time
    spliced = not args.published and mode == 1
    corpus = SegmentCorpus(args.pack, "train", spliced, mode == 4, args.limit, args.cost)
    others = SegmentCorpus(args.pack, "validation", spliced, mode == 4, args.limit, args.cost)
    frames = sum(len(c.codes) for c in corpus.cuts)
    epoch_batches = max(1, round(frames / 50 / 17.5 / (args.cost / 48) / world))  # 17.5 s cost 48
    run = ValleRun(model, args, device, epoch_batches)
    run.resume(args.out / "last.pt")
    rng = np.random.default_rng([args.seed, run.step, rank])
    random = torch.Generator().manual_seed(args.seed + 1000 * rank + run.step)
    torch.manual_seed(args.seed + 1000 * rank + run.step)
    fixed = [others.batch(np.random.default_rng(i), absolute) for i in range(HELD_OUT_BATCHES)]
    codebooks = model.config.num_codebooks

    def terms(model: nn.Module, batch: Batch) -> Batch:
        codebook = int(torch.randint(1, codebooks, (), generator=random))
        return losses(model, batch, args.stage, codebook, random, args.published)  # type: ignore[arg-type]

    def validate(model: nn.Module) -> dict[str, float]:
        model.eval()
        sums: dict[str, list[float]] = {}
        for i, batch in enumerate(fixed):
            batch = {k: v.to(device) for k, v in batch.items()}
            same = torch.Generator().manual_seed(i)
            parts = losses(model, batch, args.stage, 1 + i % (codebooks - 1), same, False)  # type: ignore[arg-type]
            for name, value in parts.items():
                sums.setdefault(name, []).append(float(value))
        return {name: float(np.mean(values)) for name, values in sums.items()}

    about = {"kind": "midi-valle", "model": asdict(model.config), "pack": corpus.name}
    train(run, args, lambda: corpus.batch(rng, absolute), terms, validate, about)  # type: ignore[arg-type]
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
