"""MT: Music Transformer (Huang et al. 2018, arXiv 1809.04281), a decoder with relative attention over MIDI-like events.

Attention scores are (q_i . k_j + q_i . e_{i-j}) / sqrt(d_h) with one learned vector e per distance and head (equation
3); the second term is computed for all pairs by one product and a "skew" (section 3.4.1). Distances beyond the table
use its last vector. It is the baseline "MT" of XMVAE (arXiv 2507.01582); `CausalDecoder` also carries the other one,
ECPT, without the relative term.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.models.nn.sampling import sample_top_p
from engine.music.types import Performance
from engine.tokens.events import BOS, EOS, KEYS, NOTE_OFF, NOTE_ON, NUM_EVENTS, PAD, SHIFT, VELOCITY, decode_events

QUERY_BLOCK = 192
MAX_SILENT_STEPS = 6  # time shifts in a row that sampling allows, at most 6 s
Cache = list[tuple[Tensor, Tensor]]  # of each layer: keys and values, (B, H, steps, D / H)


@dataclass(frozen=True)
class MtConfig:
    """Music Transformer's shape.

    max_distance  largest distance in events with its own vector
    """

    width: int = 512
    layers: int = 6
    heads: int = 8
    feed_forward: int = 2048
    max_distance: int = 1024
    dropout: float = 0.1

    def to_json(self) -> dict:
        return asdict(self)


def skew(x: Tensor) -> Tensor:
    """Move column 1 + n-1-i + j of row i to column j: (..., n, t + 1) -> (..., n, t), without a copy.

    The last n queries of t steps against the vectors of distances t-1 .. 0, with one column of zeros before them,
    become the scores of key j; entries above the diagonal are undefined.

    >>> skew(torch.tensor([[0, 9, 9, 10], [0, 9, 21, 20], [0, 32, 31, 30]])).tril()
    tensor([[10,  0,  0],
            [21, 20,  0],
            [32, 31, 30]])
    """
    n, wide = x.shape[-2:]
    return x.flatten(-2)[..., n:].view(*x.shape[:-2], n, wide - 1)


def channel_dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Drop whole channels of (B, T, D), the same ones at every step: cheaper on a CPU than to drop elements."""
    if p == 0 or not training:
        return x
    keep = (torch.rand(len(x), 1, x.shape[-1], device=x.device) >= p).to(x.dtype) / (1 - p)
    return x * keep


class CausalLayer(nn.Module):
    """Causal self-attention, relative when max_distance > 0, and a feed-forward; pre-norm."""

    def __init__(self, width: int, heads: int, feed_forward: int, max_distance: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_a, self.norm_f = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, feed_forward), nn.Linear(feed_forward, width)
        # row k is distance max_distance - 1 - k
        size = (heads, max_distance, width // heads)
        self.distance = nn.Parameter(0.02 * torch.randn(size)) if max_distance else None

    def vectors(self, time: int) -> Tensor:
        """e of distances time-1 .. 0, (H, time, D / H)."""
        assert self.distance is not None
        far = self.distance[:, :1].expand(-1, max(time - self.distance.shape[1], 0), -1)
        return torch.cat([far, self.distance[:, max(self.distance.shape[1] - time, 0) :]], dim=1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All steps at once: q, k, v (H, B, T, D / H), causal; returns the same shape.

        Queries are processed in blocks, which skips most entries above the diagonal.
        """
        heads, size, time, head = q.shape
        q, flat_k, flat_v = (q * head**-0.5), k.flatten(0, 1), v.flatten(0, 1)
        out = []
        for start in range(0, time, QUERY_BLOCK):
            stop = min(start + QUERY_BLOCK, time)
            n, mine = stop - start, q[:, :, start:stop]
            keys = flat_k[:, :stop].transpose(1, 2)
            if self.distance is not None:
                far = F.pad(self.vectors(stop), (0, 0, 1, 0)).to(q.dtype).transpose(1, 2)
                bias = torch.bmm(mine.reshape(heads, size * n, head), far).view(heads, size, n, stop + 1)
                scores = torch.baddbmm(skew(bias).flatten(0, 1), mine.flatten(0, 1), keys)
            else:
                scores = torch.bmm(mine.flatten(0, 1), keys)
            future = torch.full((n, n), -1e4, dtype=scores.dtype, device=q.device).triu(1)
            scores.detach()[:, :, start:].add_(future)  # a constant without gradient
            with torch.autocast(q.device.type, enabled=False):
                weight = scores.softmax(-1)  # bfloat16 in and out, float32 inside
            out.append(torch.bmm(weight.to(v.dtype), flat_v[:, :stop]))
        return torch.cat(out, dim=1).view(heads, size, time, head)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D)."""
        size, time, width = x.shape
        q, k, v = self.qkv(self.norm_a(x)).view(size, time, 3, self.heads, -1).permute(2, 3, 0, 1, 4)
        mixed = self.attend(q, k, v).permute(1, 2, 0, 3).reshape(size, time, width)
        x = x + channel_dropout(self.out(mixed), self.dropout, self.training)
        return x + channel_dropout(self.down(F.gelu(self.up(self.norm_f(x)))), self.dropout, self.training)

    def step(self, x: Tensor, cache: tuple[Tensor, Tensor], at: int) -> Tensor:
        """One step, x (B, D), after `at` steps that are in the cache; its key and value are put there."""
        size, width = x.shape
        q, k, v = self.qkv(self.norm_a(x)).view(size, 3, self.heads, -1).unbind(1)
        keys, values = cache
        keys[:, :, at], values[:, :, at] = k, v
        q = q * (width // self.heads) ** -0.5
        seen = keys[:, :, : at + 1]
        if self.distance is not None:
            scores = torch.einsum("bhd,bhtd->bht", q, seen) + torch.einsum("bhd,htd->bht", q, self.vectors(at + 1))
        else:
            scores = torch.einsum("bhd,bhtd->bht", q, seen)
        mixed = torch.einsum("bht,bhtd->bhd", scores.softmax(-1), values[:, :, : at + 1])
        x = x + self.out(mixed.reshape(size, width))
        return x + self.down(F.gelu(self.up(self.norm_f(x))))


class CausalDecoder(nn.Module):
    """A stack of causal layers with a closing norm."""

    def __init__(self, width: int, layers: int, heads: int, feed_forward: int, max_distance: int, dropout: float):
        super().__init__()
        self.width, self.heads = width, heads
        self.layers = nn.ModuleList(
            CausalLayer(width, heads, feed_forward, max_distance, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D); step i sees steps up to i. Padding belongs at the end."""
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)

    def cache(self, size: int, steps: int) -> Cache:
        """Room for `steps` steps of `size` sequences."""
        shape, device = (size, self.heads, steps, self.width // self.heads), self.norm.weight.device
        return [(torch.zeros(shape, device=device), torch.zeros(shape, device=device)) for _ in self.layers]

    def step(self, x: Tensor, cache: Cache, at: int) -> Tensor:
        """One step, x (B, D) -> (B, D), after `at` cached ones."""
        for layer, held in zip(self.layers, cache, strict=True):
            x = layer.step(x, held, at)  # type: ignore[operator]
        return self.norm(x)


class MusicTransformer(nn.Module):
    """The network over events of `engine.tokens.events`."""

    def __init__(self, config: MtConfig):
        super().__init__()
        self.config = config
        c = config
        self.event = nn.Embedding(NUM_EVENTS, c.width)
        self.decoder = CausalDecoder(c.width, c.layers, c.heads, c.feed_forward, c.max_distance, c.dropout)
        self.head = nn.Linear(c.width, NUM_EVENTS)
        nn.init.normal_(self.event.weight, std=c.width**-0.5)

    def forward(self, events: Tensor) -> Tensor:
        """Logits (B, T, NUM_EVENTS) of the event after each of events (B, T)."""
        x = channel_dropout(self.event(events) * self.config.width**0.5, self.config.dropout, self.training)
        return self.head(self.decoder(x))


def losses(model: MusicTransformer, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean negative log-likelihood in nats per event of batch["events"] (B, T): BOS, the events, EOS, PAD."""
    events = batch["events"]
    logits = model(events[:, :-1])
    wanted = events[:, 1:]
    return {"loss": F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=PAD)}


class _Keys:
    """Key states of n sequences: a pressed key cannot be struck, a released one cannot be released."""

    def __init__(self, n: int, notes: int, device: torch.device):
        self.down = torch.zeros(n, KEYS, dtype=torch.bool, device=device)
        self.struck = torch.zeros(n, dtype=torch.long, device=device)
        self.waited = torch.zeros_like(self.struck)
        self.notes = notes

    def forbidden(self) -> Tensor:
        """(n, NUM_EVENTS) bool."""
        full = self.struck >= self.notes
        out = torch.zeros(len(full), NUM_EVENTS, dtype=torch.bool, device=full.device)
        out[:, PAD] = out[:, BOS] = True
        out[:, EOS] = ~full
        out[:, NOTE_ON:NOTE_OFF] = self.down | full[:, None]
        out[:, NOTE_OFF:SHIFT] = ~self.down
        out[:, SHIFT:VELOCITY] = (self.waited >= MAX_SILENT_STEPS)[:, None]
        out[:, VELOCITY:] = full[:, None]  # only releases and the end are left
        return out

    def take(self, event: Tensor) -> None:
        """Follow the events (n,) that were drawn."""
        row = torch.arange(len(event), device=event.device)
        on, off = (event >= NOTE_ON) & (event < NOTE_OFF), (event >= NOTE_OFF) & (event < SHIFT)
        self.down[row[on], event[on] - NOTE_ON] = True
        self.down[row[off], event[off] - NOTE_OFF] = False
        self.struck += on
        shift = (event >= SHIFT) & (event < VELOCITY)
        self.waited = torch.where(shift, self.waited + 1, torch.where(on | off, 0, self.waited))


@torch.no_grad()
def sample_events(
    model: MusicTransformer, n: int, seed: int, notes: int = 256, temperature: float = 1.0, top_p: float = 0.95,
    max_events: int = 2048,
) -> Tensor:  # fmt: skip
    """Draw n sequences from scratch, (n, E) with BOS in front: `notes` notes each, then releases up to EOS, then PAD.

    A longer sequence is cut after max_events events.
    """
    device = model.head.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    keys, cache = _Keys(n, notes, device), model.decoder.cache(n, max_events)
    event = torch.full((n,), BOS, device=device)
    ended = torch.zeros(n, dtype=torch.bool, device=device)
    out = [event]
    for at in range(max_events):
        h = model.decoder.step(model.event(event) * model.config.width**0.5, cache, at)
        logits = model.head(h).masked_fill(keys.forbidden(), -torch.inf)
        event = torch.where(ended, PAD, sample_top_p(logits, temperature, top_p, generator))
        # once the last note is struck, the first moment with every key up ends the piece
        keys.take(event)
        ended |= (event == EOS) | ((keys.struck >= notes) & ~keys.down.any(1))
        out.append(event)
        if ended.all():
            break
    return torch.stack(out, dim=1)


def sample(
    model: MusicTransformer, n: int, seed: int, notes: int = 256, temperature: float = 1.0, top_p: float = 0.95,
    batch: int = 64,
) -> list[Performance]:  # fmt: skip
    """n performances of `notes` notes each from scratch, `batch` at a time."""
    model.eval()
    out = []
    for k, at in enumerate(range(0, n, batch)):
        events = sample_events(model, min(batch, n - at), seed + 7919 * k, notes, temperature, top_p)
        out += [decode_events(row)[0] for row in events.cpu().numpy()]
    return out
