"""The losses of MIDI-VALLE's two decoders, as published and corrected, in its four prefix modes.

As in the released `VALLE.forward`: sums of cross-entropies over a micro-batch. The published AR loss includes padded
frames, with EOS as their target; the corrected one excludes padding and is divided by the number of frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.midi_valle.decoders import Valle, seen

MAX_PROMPT = 150  # frames


@dataclass(frozen=True)
class Sums:
    """A summed loss, its number of codes, and its factor in the published recipe."""

    loss: Tensor
    count: Tensor
    scale: Tensor | float = 1.0


def padding_of(batch: dict[str, Tensor]) -> Tensor:
    """(B, F) True on padded frames."""
    codes = batch["codes"]
    inside = seen(batch["frame_lengths"], codes.shape[1])
    return torch.zeros(codes.shape[:2], dtype=torch.bool, device=codes.device) if inside is None else ~inside


def ar_sums(model: Valle, batch: dict[str, Tensor], published: bool = True) -> Sums:
    """Codebook 0: frame t + 1 from frames up to t, EOS after the last. Frames of a spliced prompt have no loss."""
    padded, eos, prefix = padding_of(batch), model.config.eos, int(batch["prefix"])
    inputs = batch["codes"][..., 0].masked_fill(padded, eos)
    targets = F.pad(inputs[:, 1:], (0, 1), value=eos)
    logits = model.ar_logits(batch["tokens"], inputs, batch["note_lengths"], batch["frame_lengths"])
    if not published:
        targets = targets.masked_fill(padded, -100)
    if prefix:
        logits, targets = logits[:, prefix - 1 :], targets[:, prefix - 1 :]
    loss = F.cross_entropy(logits.transpose(1, 2).float(), targets, ignore_index=-100, reduction="sum")
    return Sums(loss, (targets != -100).sum())


def nar_sums(
    model: Valle, batch: dict[str, Tensor], codebook: int, random: torch.Generator | None = None, published: bool = True
) -> Sums:
    """One finer codebook over all frames after the prompt, by the model's prefix mode.

    codebook    1 to 3; training draws one for every micro-batch
    random  random generator for the prompts of modes 1 and 2
    The published loss is multiplied by (all frames) / (all frames - prompt frames) in modes 0 to 2.
    """
    mode, size, codebooks = model.config.prefix_mode, model.config.codebook_size, model.config.num_codebooks
    codes, lengths, padded = batch["codes"], batch["frame_lengths"], padding_of(batch)
    filled = codes.masked_fill(padded[..., None], 0)
    filled = torch.cat([filled[..., :1].masked_fill(padded[..., None], size), filled[..., 1:]], -1)
    targets = codes[..., codebook].masked_fill(padded, -100)
    given, own = int(batch["prefix"]), True  # frames of prompt; whether they are the item's own first frames
    if mode == 0:
        frames = model.nar_frames(filled, codebook)
    elif mode == 1:
        given = given or draw_prefix(lengths, random)
        frames = torch.cat(
            [model.nar_frames(filled[:, :given], codebooks), model.nar_frames(filled[:, given:], codebook)], 1
        )
    else:
        if mode == 2:
            prompt, targets = random_slices(codes, targets, lengths, random)
        else:
            prompt = batch["prompt"]
        given, own = prompt.shape[1], False
        frames = torch.cat([model.nar_frames(prompt, codebooks), model.nar_frames(filled, codebook)], 1)
    targets = targets[:, given:] if own else targets
    logits = model.nar_logits(
        batch["tokens"], frames, codebook, given, batch["note_lengths"], lengths if own else lengths + given
    )
    loss = F.cross_entropy(logits.transpose(1, 2).float(), targets, ignore_index=-100, reduction="sum")
    scale = lengths.sum() / (lengths.sum() - given * len(lengths)) if published and mode != 4 else 1.0
    return Sums(loss, (targets != -100).sum(), scale)


def draw_prefix(lengths: Tensor, random: torch.Generator | None) -> int:
    """Mode 1: a quarter to a half of the shortest item, 3 s at most."""
    low = int(0.25 * int(lengths.min()))
    drawn = int(torch.randint(low, max(2 * low, low + 1), (), generator=random))
    return min(drawn, MAX_PROMPT)


def random_slices(
    codes: Tensor, targets: Tensor, lengths: Tensor, random: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Mode 2: a slice (B, P, K) of each item as its prompt; the slice is left out of the targets."""
    count = min(MAX_PROMPT, int(0.25 * int(lengths.min())))
    targets, slices = targets.clone(), list[Tensor]()
    for b, length in enumerate(lengths.tolist()):
        start = int(torch.randint(0, length - count + 1, (), generator=random))
        slices.append(codes[b, start : start + count])
        targets[b, start : start + count] = -100
    return torch.stack(slices), targets


def losses(
    model: Valle, batch: dict[str, Tensor], stage: int, codebook: int, random: torch.Generator | None, published: bool
) -> dict[str, Tensor]:
    """The minimised "loss", and nats a code of both decoders.

    stage  0 both decoders, 1 AR alone, 2 NAR alone
    Published: the sum (of both, halved, in stage 0). Corrected: the mean over the target codes.
    """
    out: dict[str, Tensor] = {}
    parts = list[Sums]()
    if stage in (0, 1):
        parts.append(ar_sums(model, batch, published))
        out["ar"] = (parts[-1].loss / parts[-1].count).detach()
    if stage in (0, 2):
        parts.append(nar_sums(model, batch, codebook, random, published))
        out["nar"] = (parts[-1].loss / parts[-1].count).detach()
    whole = [p.loss * p.scale if published else p.loss / p.count for p in parts]
    return out | {"loss": torch.stack(whole).sum() / len(whole)}
