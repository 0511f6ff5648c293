"""Inference of XMVAE: sampling from scratch (`sample`), variation of a passage through its codes (`varied_codes`,
`mixed_codes`, `write_codes`), performing a score (`render`), encoding a performance (`encode_performance`).

The network itself is in `network`, the prior over its codes in `code_prior`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.models.nn.sampling import sample_top_p
from engine.models.xmvae.code_prior import CodePrior
from engine.models.xmvae.layers import forbid, sinusoids
from engine.models.xmvae.network import XMVAE, Via
from engine.models.xmvae.score_grammar import ScoreGrammar
from engine.models.xmvae.style_prior import StylePrior
from engine.music.types import Performance
from engine.progress import ProgressCallback
from engine.tokens.decode import decode
from engine.tokens.grid import MAX_NOTES, MAX_STEPS
from engine.tokens.tables import BEAT_PERIOD, BOS, FAMILY, METRIC, NOTE, POSITION

MIN_STEPS = 64  # of a sampled code sequence


@dataclass(frozen=True)
class XmvaeSampling:
    """Temperatures and top-p thresholds: of the codes, of the score's fields in order, of the performance's."""

    code_temperature: float = 1.0
    code_top_p: float = 0.95
    score_temperature: float = 1.0
    score_top_p: tuple[float, ...] = (0.9, 0.9, 0.95, 0.95)
    performance_temperature: float = 0.9
    performance_top_p: float = 0.9
    style_temperature: float = 0.7  # of z_p, where a prior of it is given; chosen on training performances


def collated(segments: Sequence[NDArray]) -> dict[str, Tensor]:
    """Segments (T, 4 or 8) as the network's batch: tokens, beat, pad; without X_pv."""
    length = max(len(s) for s in segments)
    tokens = np.zeros((len(segments), length, segments[0].shape[1]), np.int64)
    for row, s in zip(tokens, segments, strict=True):
        row[: len(s)] = s
    metric = (tokens[..., FAMILY] == METRIC) & (tokens[..., POSITION] == 1)
    batch = {"tokens": tokens, "beat": metric.cumsum(1), "pad": tokens[..., FAMILY] == 0}
    return {k: torch.from_numpy(v) for k, v in batch.items()}


@torch.inference_mode()
def sample(
    model: XMVAE, prior: CodePrior, n: int, seed: int = 0, sampling: XmvaeSampling = XmvaeSampling(),
    via: Via = "z_s", batch: int = 50, progress: ProgressCallback | None = None,
) -> list[Performance]:  # fmt: skip
    """Sample n pieces of up to 256 notes, score and performance, from scratch.

    via      condition of the performance: the codes, as in the paper, or also the new score
    progress  called with the finished share, 0..1; an exception it raises stops
    """
    return [decode(t).performance for t in sample_tokens(model, prior, n, seed, sampling, via, batch, progress)]


@torch.inference_mode()
def sample_tokens(
    model: XMVAE, prior: CodePrior, n: int, seed: int = 0, sampling: XmvaeSampling = XmvaeSampling(),
    via: Via = "z_s", batch: int = 50, progress: ProgressCallback | None = None, notes: int = MAX_NOTES,
    shift: Tensor | None = None, style: StylePrior | None = None,
) -> list[NDArray[np.int64]]:  # fmt: skip
    """The tokens of `sample`, (T, 8) each: BOS, steps, EOS; at most `notes` notes. shift, style: of `write_codes`."""
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    out: list[NDArray[np.int64]] = []
    for first in range(0, n, batch):
        size = min(batch, n - first)
        done = [0]

        def step(_: int, first: int = first, size: int = size, done: list[int] = done) -> None:
            done[0] += 1
            if progress is not None:
                progress((first + size * min(done[0] / (3 * MAX_STEPS), 1.0)) / n)

        codes, pad = prior.sample(
            size, generator, MAX_STEPS, sampling.code_temperature, sampling.code_top_p, MIN_STEPS, step
        )
        out += write_codes(model, codes, pad, generator, sampling, via, step, notes, shift, style)
    return out


@torch.inference_mode()
def write_codes(
    model: XMVAE, codes: Tensor, pad: Tensor, generator: torch.Generator, sampling: XmvaeSampling = XmvaeSampling(),
    via: Via = "z_s", step: Callable[[int], None] = lambda _: None, notes: int = MAX_NOTES,
    shift: Tensor | None = None, style: StylePrior | None = None,
) -> list[NDArray[np.int64]]:  # fmt: skip
    """Write scores from codes, and play them with z_p ~ N(shift, I), or shift + sample of `style`: tokens (T, 8) each.

    codes  (B, T) int64
    pad    (B, T) bool, True after the end of a row
    step   called at every time step of both decoders; an exception it raises stops
    notes  at most in each score, up to 256
    shift  (Z,), 0 without
    """
    memory, mask = model.memory(model.quantiser.codebook[codes]), forbid(~pad[:, None, None, :])
    score = _write(model, memory, mask, (~pad).sum(1), generator, sampling, step, notes)
    z_p = draw_z_p(model, score, memory, generator, style, sampling.style_temperature)
    if shift is not None:
        z_p = z_p + shift
    played = _play(model, score, memory, mask, z_p, via, generator, sampling, step)
    both = torch.cat([score, played], dim=-1).numpy()
    return [row[row[:, FAMILY] > 0] for row in both]


@torch.inference_mode()
def draw_z_p(
    model: XMVAE, score: Tensor, memory: Tensor, generator: torch.Generator, style: StylePrior | None = None,
    temperature: float = 1.0,
) -> Tensor:  # fmt: skip
    """z_p of each step of scores, (B, T, Z): N(0, I) without `style`, else its samples at the notes.

    score   (B, T, 4 or more) tokens
    memory  (B, at least T, D) of their codes
    """
    steps = score.shape[1]
    if style is None:
        return torch.randn(len(score), steps, model.config.z_size, generator=generator)
    note = score[..., FAMILY] == NOTE
    order = (~note).long().argsort(dim=1, stable=True)[:, : int(note.sum(1).max())]  # notes first, in order
    onset = (score[..., FAMILY] == METRIC).cumsum(1).gather(1, order)
    chord = torch.cat([torch.zeros_like(onset[:, :1], dtype=torch.bool), onset[:, 1:] == onset[:, :-1]], 1)
    at = order[..., None]
    z = style.sample(memory.gather(1, at.expand(-1, -1, memory.shape[2])), chord, generator, temperature)
    return z.new_zeros(len(score), steps, z.shape[2]).scatter(1, at.expand(-1, -1, z.shape[2]), z)


@torch.inference_mode()
def codes_of(model: XMVAE, segment: NDArray) -> Tensor:
    """The codes z_s of a score segment's tokens (T, 4 or more), (T,)."""
    model.eval()
    b = collated([segment[:, :4]])
    return model.encode_score(b, model.scope(b)).codes[0]


@torch.inference_mode()
def varied_codes(
    prior: CodePrior, codes: Tensor, share: float, generator: torch.Generator,
    sampling: XmvaeSampling = XmvaeSampling(),
) -> Tensor:  # fmt: skip
    """Codes (T,) with a share, 0 to 1, sampled again from the prior, each given all previous codes."""
    steps = len(codes)
    count = min(steps, max(1, round(share * steps)))
    chosen = torch.zeros(steps, dtype=torch.bool)
    chosen[torch.randperm(steps, generator=generator)[:count]] = True
    return prior.redrawn(codes, chosen, generator, sampling.code_temperature, sampling.code_top_p)


def mixed_codes(model: XMVAE, first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Codes between two passages: the codebook entries nearest to (1 - weight) first + weight second, (min(T, U),)."""
    size, codebook = min(len(first), len(second)), model.quantiser.codebook
    between = (1 - weight) * codebook[first[:size]] + weight * codebook[second[:size]]
    return torch.cdist(between, codebook).argmin(1)


def _write(
    model: XMVAE, memory: Tensor, mask: Tensor, length: Tensor, generator: torch.Generator, sampling: XmvaeSampling,
    progress: Callable[[int], None], notes: int = MAX_NOTES,
) -> Tensor:  # fmt: skip
    """Score tokens (B, T, 4) that obey the grammar, of at most `length` (B,) steps each, 0 after EOS."""
    size, time = memory.shape[:2]
    cache, _ = model.caches(size, time, memory, mask)
    place = memory if model.config.aligned else sinusoids(time, memory.shape[2], memory.device).expand(memory.shape)
    tokens, grammar = torch.zeros(size, time, 4, dtype=torch.int64), ScoreGrammar(size, notes)
    tokens[:, 0, FAMILY] = BOS
    model.score_decoder.step(place[:, 0], cache)
    for i in range(1, time):
        progress(i)
        h = model.score_decoder.step(model.score_past(tokens[:, i - 1]) + place[:, i], cache)
        row = torch.zeros(size, 0, dtype=torch.int64)
        for j in range(4):
            states = model.score_fields(h, row)
            score = model.score_fields.logits(states[:, min(j, states.shape[1] - 1)], j)
            score = score.masked_fill(~grammar.allowed(row, length - i), -torch.inf)
            row = torch.cat(
                [row, sample_top_p(score, sampling.score_temperature, sampling.score_top_p[j], generator)[:, None]], 1
            )
        ended = grammar.ended.clone()
        grammar.take(row)
        tokens[:, i] = torch.where(ended[:, None], 0, row)
        if grammar.ended.all():
            return tokens[:, : i + 1]
    return tokens


def _play(
    model: XMVAE, score: Tensor, memory: Tensor, mask: Tensor | None, z_p: Tensor, via: Via,
    generator: torch.Generator, sampling: XmvaeSampling, progress: Callable[[int], None],
) -> Tensor:  # fmt: skip
    """Performance tokens (B, T, 4) of score tokens (B, T, 4); one beat period an onset."""
    size, time = score.shape[:2]
    given = torch.ones(()) if via == "z_s+score" else None
    conditions = model.performance_conditions(score, z_p, memory[:, :time], given)
    _, cache = model.caches(size, time, memory, mask)
    out = torch.zeros(size, time, 4, dtype=torch.int64)
    period = torch.zeros(size, dtype=torch.int64)  # of the onset that is being played, 0 before its first note
    for i in range(time):
        progress(i)
        past = model.performance_past(out[:, i - 1]) if i else torch.zeros_like(conditions[:, 0])
        h = model.performance_decoder.step(past + conditions[:, i], cache)
        note = (score[:, i, FAMILY] == NOTE).nonzero()[:, 0]
        period[score[:, i, FAMILY] == METRIC] = 0
        if not len(note):
            continue
        row = torch.zeros(len(note), 0, dtype=torch.int64)
        for j in range(4):
            states = model.performance_fields(h[note], row)
            logits = model.performance_fields.logits(states[:, min(j, states.shape[1] - 1)], j)
            logits[:, 0] = -torch.inf
            drawn = sample_top_p(logits, sampling.performance_temperature, sampling.performance_top_p, generator)
            if j == 0:
                drawn = torch.where(period[note] > 0, period[note], drawn)
                period[note] = drawn
            row = torch.cat([row, drawn[:, None]], 1)
        out[note, i] = row
    return out


@torch.inference_mode()
def render_tokens(
    model: XMVAE, segments: Sequence[NDArray], via: Via = "z_s", z_p: Sequence[NDArray] | None = None, seed: int = 0,
    sampling: XmvaeSampling = XmvaeSampling(), batch: int = 50, step: Callable[[int], None] = lambda _: None,
    style: StylePrior | None = None, shift: Tensor | None = None,
) -> list[NDArray[np.int64]]:  # fmt: skip
    """Given scores played: the segments' score columns with performance columns sampled by the Pianist.

    segments  (T, 4 or 8) each; performance columns are not looked at
    via       "z_s": the model knows the score by its codes alone; "z_s+score": it reads each step too
    z_p       for each segment (Z,), one style for all its steps, or (T, Z), such as `encode_performance` gives; None
              draws them as `write_codes` does, with style and shift
    step      called at every time step; an exception it raises stops
    returns   (T, 8) each, row i for row i of the segment
    """
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    out: list[NDArray[np.int64]] = []
    for first in range(0, len(segments), batch):
        part = segments[first : first + batch]
        b = collated([s[:, :4] for s in part])
        known = model.latents(b, model.scope(b))
        z = draw_z_p(model, b["tokens"], known.memory, generator, style, sampling.style_temperature)
        if shift is not None:
            z = z + shift
        if z_p is not None:
            for k, given in enumerate(z_p[first : first + batch]):
                z[k, : len(part[k])] = torch.from_numpy(np.asarray(given, np.float32))
        played = _play(model, b["tokens"], known.memory, known.memory_mask, z, via, generator, sampling, step)
        both = torch.cat([b["tokens"], played], dim=-1).numpy()
        out += [row[: len(s)] for row, s in zip(both, part, strict=True)]
    return out


def render(
    model: XMVAE, segments: Sequence[NDArray], via: Via = "z_s", z_p: Sequence[NDArray] | None = None, seed: int = 0,
    sampling: XmvaeSampling = XmvaeSampling(),
) -> list[Performance]:  # fmt: skip
    """`render_tokens` as performances."""
    return [decode(t).performance for t in render_tokens(model, segments, via, z_p, seed, sampling)]


@torch.inference_mode()
def encode_performance(model: XMVAE, tokens: NDArray, values: NDArray) -> NDArray[np.float32]:
    """z_p of a played segment, its mean mu at each step (T, Z), 0 for unplayed steps.

    tokens  (T, 8)
    values  (T, 4) X_pv, as in `engine.tokens.encode.Segment` or from `training.xmvae.segments.values_of`
    """
    model.eval()
    b = collated([tokens]) | {"values": torch.from_numpy(np.asarray(values, np.float32))[None]}
    mu, _ = model.encode_performance(b, model.scope(b))
    return torch.where(b["tokens"][..., BEAT_PERIOD, None] > 0, mu, 0.0)[0].numpy()


def style_of(model: XMVAE, tokens: NDArray, values: NDArray) -> NDArray[np.float32]:
    """The mean of `encode_performance` over the played notes, (Z,): a style that can be moved to another score."""
    return encode_performance(model, tokens, values)[tokens[:, BEAT_PERIOD] > 0].mean(0)
