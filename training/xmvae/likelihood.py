"""Held-out nats per note of the systems of the XMVAE paper, on the same segments.

`python -m training.xmvae.likelihood --pack data/xmvae-v2.npz [--checkpoints DIR] [--runs RUNS] [--segments 256]`

XMVAE's figure is an upper bound of the negative log-likelihood. Score: nats of the prior over its codes z_s (the end
included) and of the score fields given the codes. Performance: nats of its four fields given score, codes and one
sample of z_p, and the divergence of z_p from its prior. ECPT's figure is exact and has the same two parts. MT writes
MIDI events, which hold no score: only its total is comparable.

Intervals are a bootstrap over compositions, the same compositions for all systems (paired).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.models.xmvae.code_prior import CodePrior
from engine.models.xmvae.ecpt import Ecpt
from engine.models.xmvae.layers import SubTokenDecoder
from engine.models.xmvae.music_transformer import MusicTransformer
from engine.models.xmvae.network import XMVAE, played_steps
from engine.tokens.events import PAD
from engine.tokens.tables import BOS, FAMILY, NOTE
from training.core.probes import Figure, table
from training.xmvae.segments import PERFORMANCE, BeatCorpus, collate
from training.xmvae.systems import PAPER_RUNS, Trained, find
from training.xmvae.train_baselines import collate_events

SCORE, PERFORMED = "score", "performance"
DRAWS = 2000
_BATCH = 8


@dataclass(frozen=True)
class Nats:
    """Nats of each segment, (S,) each. score and performance are NaN for a system that does not separate them."""

    score: NDArray[np.float64]
    performance: NDArray[np.float64]
    total: NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Segments of the validation split.

    segments  (T, 8) each
    work      (S,) composition of each
    notes     (S,) notes of each
    """

    segments: list[NDArray[np.int64]]
    work: NDArray[np.str_]
    notes: NDArray[np.int64]


def held_out(corpus: BeatCorpus, most: int = 0) -> HeldOut:
    """All segments of a corpus, or `most` of them, spread evenly."""
    every = corpus.segments()
    if most and most < len(every):
        every = [every[i] for i in np.linspace(0, len(every) - 1, most).astype(int)]
    segments = [s for _, s in every]
    notes = np.array([(s[:, FAMILY] == NOTE).sum() for s in segments])
    return HeldOut(segments, np.array([piece.work for piece, _ in every]), notes)


@torch.inference_mode()
def measure(system: Trained, data: HeldOut, progress: Callable[[float], None] = lambda _: None) -> Nats:
    """Nats of every segment under one system. progress: called with the finished share, 0..1."""
    model, rows = system.model, np.full((len(data.segments), 3), np.nan)
    generator = torch.Generator().manual_seed(0)
    order = np.argsort([len(s) for s in data.segments], kind="stable")
    for at in range(0, len(order), _BATCH):
        chosen = order[at : at + _BATCH]
        segments = [data.segments[i] for i in chosen]
        if isinstance(model, XMVAE):
            assert system.prior is not None
            rows[chosen] = xmvae_nats(model, system.prior, collate(segments), generator)
        elif isinstance(model, Ecpt):
            rows[chosen] = ecpt_nats(model, collate(segments))
        else:
            rows[chosen, 2] = mt_nats(model, collate_events(segments))
        progress(min(at + _BATCH, len(order)) / len(order))
    return Nats(*rows.T)


def xmvae_nats(model: XMVAE, prior: CodePrior, b: dict[str, Tensor], generator: torch.Generator) -> NDArray[np.float64]:
    """Bounds of a batch in nats a segment, (B, 3): score, performance, both."""
    tokens, pad = b["tokens"], b["pad"]
    scope = model.scope(b)
    known = model.latents(b, scope)
    codes = known.quantised.codes
    nats = prior.nats(codes, pad)
    valid = ~pad & (tokens[..., FAMILY] != BOS)
    h = model.score_states(tokens[..., :4], known.memory, known.memory_mask)
    score = nats + _per_segment(_field_nats(model.score_fields, h[valid], tokens[valid][:, :4]), valid)
    mu, log_variance = model.encode_performance(b, scope)
    z_p = mu + (0.5 * log_variance).exp() * torch.randn(mu.shape, generator=generator)
    conditions = model.performance_conditions(tokens, z_p, known.memory, torch.ones(len(tokens)))
    h = model.performance_states(tokens, conditions, known.memory, known.memory_mask)
    played = played_steps(tokens)
    fields = _field_nats(model.performance_fields, h[played], tokens[played][:, 4:8])
    divergence = 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).sum(-1)
    performance = _per_segment(fields, played) + (divergence * played).sum(1)
    return torch.stack([score, performance, score + performance], 1).double().numpy()


def ecpt_nats(model: Ecpt, b: dict[str, Tensor]) -> NDArray[np.float64]:
    """Nats of a batch a segment, (B, 3): score fields, performance fields, both."""
    tokens = b["tokens"]
    wanted = tokens[:, 1:]
    logits = model(tokens[:, :-1], wanted[..., FAMILY])
    parts = torch.stack([
        F.cross_entropy(x.float().flatten(0, 1), wanted[..., k].flatten(), ignore_index=0, reduction="none")
        .view(wanted.shape[:2]).sum(1)
        for k, x in enumerate(logits)
    ], 1)  # fmt: skip
    score, performance = parts[:, :4].sum(1), parts[:, 4:].sum(1)
    return torch.stack([score, performance, score + performance], 1).double().numpy()


def mt_nats(model: MusicTransformer, b: dict[str, Tensor]) -> NDArray[np.float64]:
    """Nats of a batch a segment, (B,)."""
    wanted = b["events"][:, 1:]
    scores = model(b["events"][:, :-1]).float().flatten(0, 1)
    nats = F.cross_entropy(scores, wanted.flatten(), ignore_index=PAD, reduction="none")
    return nats.view(wanted.shape).sum(1).double().numpy()


def _field_nats(decoder: SubTokenDecoder, h: Tensor, rows: Tensor) -> Tensor:
    """Nats of each row over its live fields, (N,); h (N, D), rows (N, J), 0 where a field is not live."""
    states, total = decoder(h, rows), torch.zeros(len(rows))
    for j in range(rows.shape[1]):
        live = rows[:, j] > 0
        if live.any():
            scores = decoder.logits(states[live, j], j).float()
            total[live] += F.cross_entropy(scores, rows[live, j], reduction="none")
    return total


def _per_segment(nats: Tensor, where: Tensor) -> Tensor:
    """Sums (B,) of nats (N,) at the true places of where (B, T)."""
    table = torch.zeros(where.shape)
    table[where] = nats
    return table.sum(1)


def per_note(nats: NDArray, data: HeldOut, against: NDArray | None = None) -> Figure:
    """Nats per note over all segments, or the difference from another system (`against`), by compositions."""
    _, index = np.unique(data.work, return_inverse=True)
    size = index.max() + 1
    notes = np.bincount(index, data.notes, size)
    found = np.bincount(index, nats if against is None else nats - against, size)
    rows = np.random.default_rng(0).integers(0, size, (DRAWS, size))
    low, high = np.percentile(found[rows].sum(1) / notes[rows].sum(1), [2.5, 97.5])
    return Figure(float(found.sum() / notes.sum()), float(low), float(high))


def rows_of(found: dict[str, Nats], data: HeldOut) -> list[list[str]]:
    """Rows of the printed table: system, score, performance, total, and total against the first system."""
    rows, first = [], next(iter(found.values()), None)
    for name, nats in found.items():
        parts = [nats.score, nats.performance, nats.total]
        cells = ["–" if np.isnan(p).any() else str(per_note(p, data)) for p in parts]
        assert first is not None
        other = "" if nats is first else str(per_note(nats.total, data, first.total))
        rows.append([name, *cells, other])
    return rows


HEAD = ("system", "score", "performance", "total", "total, difference from the first row")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True, help="of training.xmvae.prepare")
    parser.add_argument("--checkpoints", type=Path, default=None)
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--segments", type=int, default=256, help="of the validation split, 0 for all")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = held_out(BeatCorpus(args.pack, PERFORMANCE, "validation"), args.segments)
    found = {}
    for name in PAPER_RUNS:
        try:
            found[name] = measure(find(name, args.runs, args.checkpoints), data)
        except FileNotFoundError as error:
            print(f"Skipped {error}")
    print(table(HEAD, rows_of(found, data)))


if __name__ == "__main__":
    main()
