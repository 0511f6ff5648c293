"""Train the baselines of XMVAE: `python -m training.xmvae.train_baselines --model mt|ecpt --out runs/NAME`.

Both are trained on the performances in the pack of `training.xmvae.prepare`, with the segments (at most 256 notes) and
the augmentation of XMVAE; for MT each decoded segment is encoded as MIDI-like events.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engine.models.xmvae import ecpt, music_transformer
from engine.models.xmvae.ecpt import Ecpt, EcptConfig
from engine.models.xmvae.music_transformer import MtConfig, MusicTransformer
from engine.music.types import Performance
from engine.tokens import events
from engine.tokens.decode import decode
from engine.tokens.tables import BEAT_PERIOD, FAMILY, NOTE
from training.core.loop import Run, add_arguments, join_processes, train
from training.xmvae.segments import PERFORMANCE, BeatCorpus, collate

KINDS = ("mt", "ecpt")


def played_notes(tokens: np.ndarray) -> Performance:
    """The performance in a segment (T, 8), without the omitted notes."""
    whole = decode(tokens)
    p, known = whole.performance, tokens[whole.step, BEAT_PERIOD] > 0
    return Performance(p.onset_sec[known], p.duration_sec[known], p.pitch[known], p.velocity[known])


def collate_events(segments: list[np.ndarray]) -> dict[str, Tensor]:
    """events (B, E) int64: BOS, the events of each segment, EOS, PAD to the longest one."""
    rows = [[events.BOS, *events.encode_events(played_notes(s)).tolist(), events.EOS] for s in segments]
    table = torch.full((len(rows), max(map(len, rows))), events.PAD)
    for i, row in enumerate(rows):
        table[i, : len(row)] = torch.tensor(row)
    return {"events": table}


def notes_in(batch: dict[str, Tensor]) -> int:
    """Notes of a batch of either kind."""
    if "events" in batch:
        return int(((batch["events"] >= events.NOTE_ON) & (batch["events"] < events.NOTE_OFF)).sum())
    return int((batch["tokens"][..., FAMILY] == NOTE).sum())


def predictions_in(batch: dict[str, Tensor]) -> int:
    """Number of predictions that the "loss" of a batch averages: its events or steps, without the first."""
    table = batch["events"] if "events" in batch else batch["tokens"][..., FAMILY]
    return int((table[:, 1:] != 0).sum())


def validate(model: nn.Module, batches: list[dict[str, Tensor]], losses) -> dict[str, float]:
    """Held-out loss terms, and nats_per_note: the whole negative log-likelihood over the number of notes."""
    device = next(model.parameters()).device
    sums, weight, notes = dict[str, float](), 0, 0
    for batch in batches:
        count = predictions_in(batch)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            parts = losses(model, {k: v.to(device) for k, v in batch.items()})
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + count * float(value.detach())
        weight, notes = weight + count, notes + notes_in(batch)
    return {k: v / weight for k, v in sums.items()} | {"nats_per_note": sums["loss"] / notes}


def load(folder: Path, weights: str = "average") -> MusicTransformer | Ecpt:
    """Load the model of a training run from `folder`: its moving average, or the raw weights with weights="model"."""
    about = json.loads((folder / "config.json").read_text())
    shape = about["model"]
    model = MusicTransformer(MtConfig(**shape)) if about["kind"] == "mt" else Ecpt(EcptConfig(**shape))
    state = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state[weights])
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, "data/xmvae-v1.npz", "runs/mt")
    parser.add_argument("--model", choices=KINDS, required=True)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--feed-forward", type=int, default=2048)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--max-distance", type=int, default=1024, help="of the relative attention of mt, in events")
    parser.add_argument("--fraction", type=float, default=1.0, help="share of the compositions to learn from")
    parser.add_argument("--validation", type=int, default=64, help="held-out segments of each report")
    args = parser.parse_args()
    rank, _, device = join_processes()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    corpus = BeatCorpus(args.pack, PERFORMANCE, "train", args.fraction, args.limit)
    held_out = BeatCorpus(args.pack, PERFORMANCE, "validation", limit=args.limit)
    shape = (args.width, args.layers, args.heads, args.feed_forward)

    def make() -> nn.Module:
        if args.model == "mt":
            return MusicTransformer(MtConfig(*shape, args.max_distance, args.dropout))
        return Ecpt(EcptConfig(*shape, args.dropout))

    model = make()
    run = Run(model, args.rate, device, make)
    run.resume(args.out / "last.pt")
    rng = np.random.default_rng([args.seed, rank, run.step])
    together = collate_events if args.model == "mt" else collate
    losses = music_transformer.losses if args.model == "mt" else ecpt.losses
    every = [s for _, s in held_out.segments()]
    count = min(args.validation, len(every))
    chosen = sorted((every[i] for i in np.linspace(0, len(every) - 1, count).astype(int)), key=len)
    fixed = [together(chosen[i : i + args.batch]) for i in range(0, count, args.batch)]
    about = {"kind": args.model, "model": model.config.to_json(), "pack": f"{args.pack.name} {corpus.digest}"}  # type: ignore[union-attr]
    train(
        run, args, lambda: together([corpus.draw(rng) for _ in range(args.batch)]), losses,
        lambda average: validate(average, fixed, losses), about,
    )  # fmt: skip


if __name__ == "__main__":
    main()
