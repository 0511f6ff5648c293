"""ECPT: a compound-word transformer (Hsiao et al. 2021, arXiv 2101.02402) on ECP tokens, a baseline of XMVAE.

A step's eight sub-token embeddings are concatenated and projected; the head of the Family reads the hidden state, and
the seven others read, in parallel, the hidden state and the embedding of the sampled family (section 3.3). Plain causal
attention replaces the paper's linear attention, as in the other models compared here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.models.nn.sampling import sample_top_p
from engine.models.xmvae.music_transformer import CausalDecoder, channel_dropout
from engine.music.types import Performance
from engine.tokens.decode import decode
from engine.tokens.tables import (
    BEAT_PERIOD,
    BOS,
    COLUMN_NAMES,
    COLUMN_SIZES,
    DURATION,
    EOS,
    FAMILY,
    IGN,
    METRIC,
    NOTE,
    PITCH,
    POSITION,
)  # fmt: skip

COLUMNS = 8
SIZES, NAMES = COLUMN_SIZES[:COLUMNS], COLUMN_NAMES[:COLUMNS]
EMBEDDING_AT_512 = (32, 64, 512, 128, 128, 128, 64, 64)  # widths of the sub-tokens in a model of width 512
TEMPERATURE = (1.0, 1.0, 1.0, 1.0, 0.9, 0.9, 0.9, 0.9)
TOP_P = (0.9, 0.9, 0.95, 0.95, 0.9, 0.9, 0.9, 0.9)
MAX_CHORD = 12  # notes at one position
MAX_SILENT_BEATS = 8  # in a row
GRACE = 1  # the Duration token of a grace note


@dataclass(frozen=True)
class EcptConfig:
    """The shape of ECPT; sub-token embeddings shrink with the width."""

    width: int = 512
    layers: int = 6
    heads: int = 8
    feed_forward: int = 2048
    dropout: float = 0.1

    def to_json(self) -> dict:
        return asdict(self)

    @property
    def embedding_widths(self) -> tuple[int, ...]:
        return tuple(max(8, w * self.width // 512) for w in EMBEDDING_AT_512)


class Ecpt(nn.Module):
    """The network over steps of ECP."""

    def __init__(self, config: EcptConfig):
        super().__init__()
        self.config = config
        c, widths = config, config.embedding_widths
        self.column = nn.ModuleList(nn.Embedding(s, w) for s, w in zip(SIZES, widths, strict=True))
        self.enter = nn.Linear(sum(widths), c.width)
        self.decoder = CausalDecoder(c.width, c.layers, c.heads, c.feed_forward, 0, c.dropout)
        self.family = nn.Linear(c.width, SIZES[FAMILY])
        self.join = nn.Linear(c.width + widths[FAMILY], c.width)
        self.leave = nn.ModuleList(nn.Linear(c.width, s) for s in SIZES[1:])

    def embed(self, tokens: Tensor) -> Tensor:
        """Input vectors (..., D) of steps (..., 8), without positions."""
        return self.enter(torch.cat([table(tokens[..., k]) for k, table in enumerate(self.column)], dim=-1))

    def places(self, start: int, stop: int) -> Tensor:
        """Sinusoids of steps start .. stop-1, (stop - start, D)."""
        half = self.config.width // 2
        rate = 10_000.0 ** (-torch.arange(half, device=self.enter.weight.device) / half)
        angle = torch.arange(start, stop, device=rate.device)[:, None] * rate
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    def given_family(self, h: Tensor, family: Tensor) -> list[Tensor]:
        """Logits of the seven other columns, [(..., size)], for hidden states (..., D) and families (...)."""
        joined = self.join(torch.cat([h, self.column[FAMILY](family).to(h.dtype)], dim=-1))
        return [head(joined) for head in self.leave]

    def forward(self, tokens: Tensor, family: Tensor) -> list[Tensor]:
        """Logits of all eight columns, [(B, T, size)], of the step after each of tokens (B, T, 8).

        family  (B, T) the families of those next steps, an input of the seven other heads
        """
        x = self.embed(tokens) + self.places(0, tokens.shape[1])
        h = self.decoder(channel_dropout(x, self.config.dropout, self.training))
        return [self.family(h), *self.given_family(h, family)]


def losses(model: Ecpt, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Negative log-likelihood of batch["tokens"] (B, T, 8) in nats per step, and of each column where it is live.

    A column is live where its token is not 0: a position on Metric steps, pitch and the others on Note steps, the
    performance columns on played notes only.
    """
    tokens = batch["tokens"]
    wanted = tokens[:, 1:]
    logits = model(tokens[:, :-1], wanted[..., FAMILY])
    total, out = torch.zeros((), device=tokens.device), {}
    for k, (name, scores) in enumerate(zip(NAMES, logits, strict=True)):
        target = wanted[..., k].flatten()
        nats = F.cross_entropy(scores.float().flatten(0, 1), target, ignore_index=IGN, reduction="sum")
        out[name] = nats / (target != IGN).sum().clamp(min=1)
        total = total + nats
    return {"loss": total / (wanted[..., FAMILY] != IGN).sum(), **out}


class _Grammar:
    """Grammar state of n segments and the allowed next tokens (see `grammar_faults`)."""

    def __init__(self, n: int, notes: int, device: torch.device):
        self.device, self.notes = device, notes
        self.row = torch.arange(n, device=device)
        self.place = torch.full((n,), -1, device=device)  # position in the beat, -1 before the first
        self.written = torch.zeros(n, dtype=torch.long, device=device)  # notes so far
        self.chord = torch.zeros_like(self.written)  # of them at this position
        self.silent = torch.zeros_like(self.written)  # beats in a row without a note
        self.plain = torch.zeros_like(self.written)  # highest pitch here: of plain notes, of grace notes; 0 none
        self.grace = torch.zeros_like(self.written)
        self.period = torch.zeros_like(self.written)  # beat period of this chord, 0 if not set yet

    def family(self) -> Tensor:
        """(n, 5) bool: allowed families."""
        full = self.written >= self.notes
        begun, waiting = self.place >= 0, (self.place > 0) & (self.chord == 0)
        room = (self.plain < SIZES[PITCH] - 1) & (self.chord < MAX_CHORD)
        out = torch.zeros(len(full), SIZES[FAMILY], dtype=torch.bool, device=self.device)
        out[:, NOTE] = ~full & begun & room
        # a Metric always has a target: another position, or the next beat unless too many were silent
        out[:, METRIC] = ~full & ~waiting & self.positions().any(1)
        out[:, EOS] = full
        return out

    def positions(self) -> Tensor:
        """(n, 25) bool: allowed Beat Positions of a Metric."""
        token = torch.arange(SIZES[POSITION], device=self.device)
        later = (token > self.place[:, None] + 1) & (self.place >= 0)[:, None] & (token > 1)
        later[:, 1] = self.silent < MAX_SILENT_BEATS
        return later

    def durations(self) -> Tensor:
        """(n, 52) bool: grace notes stand before the others of a chord."""
        out = torch.ones(len(self.row), SIZES[DURATION], dtype=torch.bool, device=self.device)
        out[:, IGN], out[:, GRACE] = False, self.plain == 0
        return out

    def pitches(self, duration: Tensor) -> Tensor:
        """(n, 89) bool: pitches rise among the plain notes of a chord, and do not fall among its grace notes."""
        lowest = torch.where(duration == GRACE, self.grace.clamp(min=1), self.plain + 1)
        return torch.arange(SIZES[PITCH], device=self.device) >= lowest[:, None]

    def take(self, step: Tensor) -> None:
        """Update the state with the new steps (n, 8)."""
        note, metric = step[:, FAMILY] == NOTE, step[:, FAMILY] == METRIC
        beat = metric & (step[:, POSITION] == 1)
        self.silent = torch.where(note, 0, self.silent + beat)
        self.place = torch.where(metric, step[:, POSITION] - 1, self.place)
        self.written, self.chord = self.written + note, torch.where(metric, 0, self.chord + note)
        grace = note & (step[:, DURATION] == GRACE)
        self.plain = torch.where(metric, 0, torch.where(note & ~grace, step[:, PITCH], self.plain))
        self.grace = torch.where(metric, 0, torch.where(grace, step[:, PITCH], self.grace))
        self.period = torch.where(metric, 0, torch.where(note, step[:, BEAT_PERIOD], self.period))


@torch.no_grad()
def sample_tokens(
    model: Ecpt, n: int, seed: int, notes: int = 256, temperature: tuple[float, ...] = TEMPERATURE,
    top_p: tuple[float, ...] = TOP_P, max_steps: int = 768,
) -> Tensor:  # fmt: skip
    """Sample n segments from scratch, (n, T, 8), well formed, of `notes` notes: BOS, the steps, EOS, then zeros.

    One value of temperature and top_p a column. Nothing but EOS may follow the last note, and EOS only then; a chord
    keeps its first note's beat period. A segment not finished after max_steps steps is cut off there.
    """
    device = model.enter.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    grammar, cache = _Grammar(n, notes, device), model.decoder.cache(n, max_steps)
    step = torch.zeros(n, COLUMNS, dtype=torch.long, device=device)
    step[:, FAMILY] = BOS
    ended, out = torch.zeros(n, dtype=torch.bool, device=device), [step]
    places = model.places(0, max_steps)

    def draw(logits: Tensor, allowed: Tensor, column: int) -> Tensor:
        # if nothing is allowed, the column is not live in this row and the sample is discarded
        open_row = allowed | ~allowed.any(1, keepdim=True)
        return sample_top_p(logits.masked_fill(~open_row, -torch.inf), temperature[column], top_p[column], generator)

    for at in range(max_steps):
        h = model.decoder.step(model.embed(step) + places[at], cache, at)
        family = draw(model.family(h), grammar.family(), FAMILY)
        logits = [torch.empty(0), *model.given_family(h, family)]
        step = torch.zeros_like(step)
        step[:, FAMILY] = family
        note, metric = family == NOTE, family == METRIC
        step[:, POSITION] = metric * draw(logits[POSITION], grammar.positions(), POSITION)
        step[:, DURATION] = note * draw(logits[DURATION], grammar.durations(), DURATION)
        step[:, PITCH] = note * draw(logits[PITCH], grammar.pitches(step[:, DURATION]), PITCH)
        for k in range(BEAT_PERIOD, COLUMNS):
            told = torch.arange(SIZES[k], device=device) > 0
            step[:, k] = note * draw(logits[k], told.expand(n, -1), k)
        tied = note & (grammar.period > 0)
        step[:, BEAT_PERIOD] = torch.where(tied, grammar.period, step[:, BEAT_PERIOD])
        step[ended] = 0
        grammar.take(step)
        ended |= step[:, FAMILY] == EOS
        out.append(step)
        if ended.all():
            break
    return torch.stack(out, dim=1)


def sample_segments(
    model: Ecpt, n: int, seed: int, notes: int = 256, temperature: tuple[float, ...] = TEMPERATURE,
    top_p: tuple[float, ...] = TOP_P, batch: int = 64,
) -> list[np.ndarray]:  # fmt: skip
    """n segments of `sample_tokens` without padding, (T, 8) each, `batch` at a time."""
    model.eval()
    out = []
    for k, at in enumerate(range(0, n, batch)):
        tokens = sample_tokens(model, min(batch, n - at), seed + 7919 * k, notes, temperature, top_p)
        out += [played(row) for row in tokens.cpu().numpy()]
    return out


def sample(
    model: Ecpt, n: int, seed: int, notes: int = 256, temperature: tuple[float, ...] = TEMPERATURE,
    top_p: tuple[float, ...] = TOP_P, batch: int = 64,
) -> list[Performance]:  # fmt: skip
    """n performances of `notes` notes each from scratch, `batch` at a time."""
    return [decode(row).performance for row in sample_segments(model, n, seed, notes, temperature, top_p, batch)]


def played(tokens: np.ndarray) -> np.ndarray:
    """A segment without the padding at its end, (T, 8)."""
    return tokens[: np.flatnonzero(tokens[:, FAMILY] != IGN)[-1] + 1]
