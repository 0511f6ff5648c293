"""The network of XMVAE (arXiv 2507.01582; sizes are our choice): a VQ-VAE for scores (Composer) and a VAE for
performances (Pianist), over ECP tokens.

    E_st -> score encoder -> quantiser -> z_s, one code a step -> score decoder -> score tokens
    X_pv + E_st -> performance encoder -> z_p ~ N(mu, sigma^2), one a note -> performance decoder -> performance tokens

Both encoders are multiscale; both decoders run along time, then along the sub-tokens of a step.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.models.nn.vector_quantiser import Quantised, VectorQuantiser, perplexity
from engine.models.xmvae.layers import (
    Cache,
    Multiscale,
    MultiscaleLayer,
    Scope,
    SubTokenDecoder,
    TemporalDecoder,
    sinusoids,
)
from engine.tokens.tables import BEAT_PERIOD, BOS, COLUMN_NAMES, COLUMN_SIZES, FAMILY, NOTE

Via = Literal["z_s", "z_s+score"]
SCORE_SIZES, PERFORMANCE_SIZES = COLUMN_SIZES[:4], COLUMN_SIZES[4:8]
SMOOTHED = (True, False, True, True)  # performance fields with Gaussian-smoothed targets: all but velocity
SIGMA_BINS = 1.0


@dataclass(frozen=True)
class XMVAEConfig:
    """Shape of the model; the defaults are our reading of the paper, about 100 M parameters.

    multiscale       "serial", "parallel" or "off" (the ablation without attention within the beat)
    subtoken_layers  0 is the ablation: every field is predicted from the step's hidden state alone
    scope            "step": one code a step; "beat": one code a beat, from the mean of its steps
    aligned          add the code of a step to the decoders' input at that step, besides attention to all codes; off,
                     attention must find it by position, which a short training does not learn
    """

    width: int = 512
    heads: int = 8
    feed_forward: int = 2048
    encoder_layers: int = 4
    decoder_layers: int = 6
    subtoken_width: int = 512
    subtoken_layers: int = 2
    multiscale: Multiscale = "serial"
    scope: Literal["step", "beat"] = "step"
    num_codes: int = 512
    code_size: int = 64
    code_decay: float = 0.99
    commitment: float = 0.25
    z_size: int = 16
    kl_weight: float = 0.1
    free_nats: float = 0.1  # per dimension
    dropout: float = 0.1
    token_dropout: float = 0.2
    score_dropout: float = 0.3  # of the score condition, so that z_s alone suffices too
    aligned: bool = False

    def to_json(self) -> dict:
        return asdict(self)

    @classmethod
    def small(cls, **changes: object) -> XMVAEConfig:
        """A size that trains in minutes on two CPU cores; `changes` are fields of this class."""
        sizes = {"width": 128, "heads": 2, "feed_forward": 384, "encoder_layers": 2, "decoder_layers": 2}
        sizes |= {
            "subtoken_width": 96,
            "subtoken_layers": 1,
            "code_size": 32,
            "dropout": 0.0,
            "aligned": True,
            "code_decay": 0.95,
        }
        return cls(**(sizes | changes))  # type: ignore[arg-type]


class TokenEmbedding(nn.Module):
    """The sum of the embeddings of a step's fields; IGN (0) adds nothing."""

    def __init__(self, sizes: tuple[int, ...], width: int):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width, padding_idx=0) for size in sizes)
        for table in self.tables:
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=0.3)
            with torch.no_grad():
                table.weight[0] = 0

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., J) -> (..., D)"""
        return torch.stack([table(tokens[..., i]) for i, table in enumerate(self.tables)]).sum(0)


class Encoder(nn.Module):
    def __init__(self, c: XMVAEConfig):
        super().__init__()
        self.layers = nn.ModuleList(
            MultiscaleLayer(c.width, c.heads, c.feed_forward, c.multiscale, c.dropout) for _ in range(c.encoder_layers)
        )
        self.norm = nn.LayerNorm(c.width)

    def forward(self, x: Tensor, scope: Scope) -> Tensor:
        x = x + sinusoids(x.shape[1], x.shape[2], x.device)
        for layer in self.layers:
            x = layer(x, scope)
        return self.norm(x)


@dataclass(frozen=True)
class Latents:
    """memory (B, T, D) from z_s, masked in the decoders by memory_mask (B, 1, 1, T); output of the quantiser."""

    memory: Tensor
    memory_mask: Tensor
    quantised: Quantised


class XMVAE(nn.Module):
    """Composer and Pianist. Batches are those of `training.xmvae.segments.collate`."""

    def __init__(self, config: XMVAEConfig = XMVAEConfig()):
        super().__init__()
        self.config = c = config

        def decoder() -> TemporalDecoder:
            return TemporalDecoder(c.width, c.heads, c.feed_forward, c.decoder_layers, c.dropout)

        def fields(sizes: tuple[int, ...]) -> SubTokenDecoder:
            return SubTokenDecoder(sizes, c.width, c.subtoken_width, c.heads, c.subtoken_layers)

        # the Composer
        self.score_embed, self.score_encoder = TokenEmbedding(SCORE_SIZES, c.width), Encoder(c)
        self.code_in, self.code_out = nn.Linear(c.width, c.code_size), nn.Linear(c.code_size, c.width)
        self.code_norm = nn.LayerNorm(c.code_size, elementwise_affine=False)
        self.quantiser = VectorQuantiser(c.num_codes, c.code_size, c.code_decay)
        self.score_past, self.hidden_token = TokenEmbedding(SCORE_SIZES, c.width), nn.Parameter(torch.zeros(c.width))
        self.score_decoder, self.score_fields = decoder(), fields(SCORE_SIZES)
        # the Pianist
        self.value_in, self.read_embed = nn.Linear(5, c.width), TokenEmbedding(SCORE_SIZES, c.width)
        self.performance_encoder, self.z_out = Encoder(c), nn.Linear(c.width, 2 * c.z_size)
        self.z_in, self.score_given = nn.Linear(c.z_size, c.width), TokenEmbedding(SCORE_SIZES, c.width)
        self.performance_past = TokenEmbedding(PERFORMANCE_SIZES, c.width)
        self.performance_decoder, self.performance_fields = decoder(), fields(PERFORMANCE_SIZES)

    def scope(self, b: dict[str, Tensor], packed: bool | None = None) -> Scope:
        return Scope.of(b["beat"], b["pad"], self.config.multiscale, packed)

    # the Composer

    def encode_score(self, b: dict[str, Tensor], scope: Scope) -> Quantised:
        """z_s of each step, (B, T, code size), (B, T)."""
        u = self.code_in(self.score_encoder(self.score_embed(b["tokens"][..., :4]), scope))
        if self.config.scope == "beat":
            u = beat_mean(u.float(), b["beat"], b["pad"])
        return self.quantiser(self.code_norm(u), ~b["pad"])

    def memory(self, z: Tensor) -> Tensor:
        """M_s of code vectors (B, T, code size): (B, T, D)."""
        m = self.code_out(z.to(self.code_out.weight.dtype))
        return m + sinusoids(m.shape[1], m.shape[2], m.device)

    def score_inputs(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """Input of the score decoder at each step: the previous step, with input dropout in training; (B, T, D)."""
        past = F.pad(self.score_past(tokens[:, :-1, :4]), (0, 0, 1, 0))
        if self.training and self.config.token_dropout:
            hide = torch.rand(past.shape[:2], device=past.device)[..., None] < self.config.token_dropout
            past = torch.where(hide, self.hidden_token, past)
        return past + (memory if self.config.aligned else sinusoids(past.shape[1], past.shape[2], past.device))

    def score_states(self, tokens: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        return self.score_decoder(self.score_inputs(tokens, memory), memory, mask)

    # the Pianist

    def encode_performance(self, b: dict[str, Tensor], scope: Scope) -> tuple[Tensor, Tensor]:
        """mu and log variance of z_p, (B, T, Z) each; defined at played notes only."""
        played = played_steps(b["tokens"])[..., None]
        x = self.value_in(torch.cat([b["values"], played.to(b["values"].dtype)], dim=-1))
        h = self.performance_encoder(x + self.read_embed(b["tokens"][..., :4]), scope)
        mu, log_variance = self.z_out(h).float().chunk(2, dim=-1)
        return mu, log_variance.clamp(-8, 4)

    def performance_conditions(self, tokens: Tensor, z_p: Tensor, memory: Tensor, score: Tensor | None) -> Tensor:
        """Conditioning of the performance decoder at each step besides the past, (B, T, D).

        z_p    (B, T, Z); counts at Note steps
        score  None for via "z_s", else (B,) or () weight of the exact score token, 0 or 1
        """
        note = (tokens[..., FAMILY] == NOTE)[..., None]
        x = torch.where(note, self.z_in(z_p.to(self.z_in.weight.dtype)), 0.0)
        x = x + (memory if self.config.aligned else sinusoids(x.shape[1], x.shape[2], x.device))
        if score is not None:
            x = x + self.score_given(tokens[..., :4]) * score.view(-1, 1, 1)
        return x

    def performance_states(self, tokens: Tensor, conditions: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        past = F.pad(self.performance_past(tokens[:, :-1, 4:]), (0, 0, 1, 0))
        return self.performance_decoder(past + conditions, memory, mask)

    def caches(self, size: int, room: int, memory: Tensor, mask: Tensor | None) -> tuple[Cache, Cache]:
        """Empty caches of the score and the performance decoder."""
        decoders = self.score_decoder, self.performance_decoder
        score, performance = (d.cache(size, room, memory, mask) for d in decoders)
        return score, performance

    def latents(self, b: dict[str, Tensor], scope: Scope) -> Latents:
        q = self.encode_score(b, scope)
        return Latents(self.memory(q.z), scope.everyone, q)


def beat_mean(u: Tensor, beat: Tensor, pad: Tensor) -> Tensor:
    """The mean of each beat's steps at each of them, (B, T, D)."""
    size = int(beat.max()) + 1
    row = torch.where(pad, size, beat)[..., None].expand(u.shape)
    total = u.new_zeros(u.shape[0], size + 1, u.shape[2]).scatter_add(1, row, u)
    count = u.new_zeros(total.shape).scatter_add(1, row, torch.ones_like(u))
    return (total / count.clamp(min=1)).gather(1, row)


def played_steps(tokens: Tensor) -> Tensor:
    """Note steps whose performance is known, (..., T) bool."""
    return tokens[..., BEAT_PERIOD] > 0


def smoothed(size: int, device: torch.device) -> Tensor:
    """Target distribution of each class (size, size): a Gaussian of one bin over its neighbours, never over IGN."""
    at = torch.arange(size, device=device)
    weight = torch.exp(-0.5 * ((at[:, None] - at) / SIGMA_BINS) ** 2)
    weight[:, 0] = 0
    weight[0, 0] = 1
    return weight / weight.sum(1, keepdim=True)


def field_losses(
    decoder: SubTokenDecoder, h: Tensor, tokens: Tensor, names: tuple[str, ...], smooth: tuple[bool, ...]
) -> dict[str, Tensor]:
    """Cross-entropy in nats of each field over the rows where it is live; h (N, D), tokens (N, J)."""
    states = decoder(h, tokens)
    out = {}
    for j, name in enumerate(names):
        live = (tokens[:, j] > 0).nonzero()[:, 0]
        score, wanted = decoder.logits(states[live, j], j).float(), tokens[live, j]
        target = smoothed(score.shape[-1], h.device)[wanted] if smooth[j] else wanted
        out[name] = F.cross_entropy(score, target) if len(live) else score.sum()
    return out


def composer_losses(model: XMVAE, b: dict[str, Tensor], known: Latents) -> dict[str, Tensor]:
    """`score` (nats a step, over its live fields), each field, `vq`, and the codebook use."""
    tokens, valid = b["tokens"][..., :4], ~b["pad"]
    out, total = score_terms(model, tokens, valid, known.memory, known.memory_mask)
    spread, used = perplexity(known.quantised.codes[valid], model.config.num_codes)
    vq = model.config.commitment * known.quantised.commitment
    return out | {"score": total, "vq": vq, "perplexity": spread, "codes_used": used}


def score_terms(
    model: XMVAE, tokens: Tensor, valid: Tensor, memory: Tensor, mask: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Cross-entropy of each score field, and of a whole step on average."""
    h, rows = model.score_states(tokens, memory, mask)[valid], tokens[valid]
    begun = rows[:, FAMILY] != BOS
    h, rows = h[begun], rows[begun]
    parts = field_losses(model.score_fields, h, rows, COLUMN_NAMES[:4], (False,) * 4)
    share = (rows > 0).float().mean(0)
    total = torch.stack([v * share[j] for j, v in enumerate(parts.values())]).sum()
    return parts, total


def pianist_losses(
    model: XMVAE, b: dict[str, Tensor], known: Latents, scope: Scope, via: Via | None
) -> dict[str, Tensor]:
    """`performance` (nats a note), each field, `kl` (with free bits), `kl_true`, `z_active` dimensions.

    via  None drops the score condition of some segments, as training does
    """
    c, tokens = model.config, b["tokens"]
    mu, log_variance = model.encode_performance(b, scope)
    noise = torch.randn_like(mu) if model.training else 0.0
    z_p = mu + (0.5 * log_variance).exp() * noise
    given = torch.ones(len(tokens), device=mu.device)
    if via is None:
        given = (torch.rand(len(tokens), device=mu.device) >= c.score_dropout).float()
    conditions = model.performance_conditions(tokens, z_p, known.memory, None if via == "z_s" else given)
    h = model.performance_states(tokens, conditions, known.memory, known.memory_mask)
    played = played_steps(tokens)
    parts = field_losses(model.performance_fields, h[played], tokens[played][:, 4:], COLUMN_NAMES[4:8], SMOOTHED)
    kl = 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance)[played].mean(0)
    out = {"performance": torch.stack(list(parts.values())).sum(), "kl": kl.clamp(min=c.free_nats).sum()}
    return parts | out | {"kl_true": kl.sum(), "z_active": (kl > c.free_nats).sum().float()}


def losses(model: XMVAE, b: dict[str, Tensor], warm: float = 1.0, pretrain: bool = False) -> dict[str, Tensor]:
    """All terms of a training batch; "loss" = score + vq (+ performance + warm * kl weight * kl).

    warm      share of the KL weight, grows from 0
    pretrain  the Composer only
    """
    scope = model.scope(b)
    known = model.latents(b, scope)
    parts = composer_losses(model, b, known)
    loss = parts["score"] + parts["vq"]
    if not pretrain:
        parts |= pianist_losses(model, b, known, scope, None)
        loss = loss + parts["performance"] + warm * model.config.kl_weight * parts["kl"]
    return parts | {"loss": loss}


def code_use_gap(model: XMVAE, b: dict[str, Tensor], known: Latents) -> Tensor:
    """Increase of the loss per step with the codes of another segment, nats; under 0.05 the codes are ignored by the
    decoder."""
    tokens, valid = b["tokens"][..., :4], ~b["pad"]
    true = score_terms(model, tokens, valid, known.memory, known.memory_mask)[1]
    swapped = known.memory.roll(1, 0), known.memory_mask.roll(1, 0)
    return score_terms(model, tokens, valid, *swapped)[1] - true
