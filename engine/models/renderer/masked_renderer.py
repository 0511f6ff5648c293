"""The codec model of the product: a masked codec language model conditioned on the notes of each frame.

From MIDI-VALLE (arXiv 2507.08530) it keeps codec tokens, a prompt of a few seconds for timbre and room, and the
coarse-to-fine order of codebooks. Because the times of a performance are known, it needs neither a MIDI prefix nor
left-to-right order. Further inputs are the codes of a guide, the notes on a sampled piano (`engine.sound.guide`).
Masked frames are sampled in a few passes, most confident first (MaskGIT, arXiv 2202.04200; SoundStorm, arXiv
2305.09636); within a frame a small head samples the four codebooks in order. The prompt's frames attend only to one
another, so they are encoded once per render.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.models.nn.int8 import Int8Linear
from engine.models.nn.renamed import accept_old_names
from engine.tokens.note_frames import WIDTH

SPAN = 3  # frames are masked in runs of this length
NEVER = -1e4
LEARNED = 64  # learned dimensions of a code's embedding, besides the codec's


@dataclass(frozen=True)
class RendererConfig:
    width: int = 256
    layers: int = 8
    heads: int = 4
    feed_forward: int = 1024
    head_width: int = 512
    latent: int = 64
    num_codebooks: int = 4
    codebook_size: int = 2048

    def to_json(self) -> dict:
        return asdict(self)


PromptCache = list[tuple[Tensor, Tensor]]  # keys and values of the prompt, one pair a layer


class RendererLayer(nn.Module):
    """Self-attention, with the prompt's frames among the keys, and a squared-ReLU feed-forward; pre-norm."""

    def __init__(self, c: RendererConfig):
        super().__init__()
        self.heads = c.heads
        self.norm_a, self.norm_f = nn.RMSNorm(c.width), nn.RMSNorm(c.width)
        self.qkv = nn.Linear(c.width, 3 * c.width, bias=False)
        self.out = nn.Linear(c.width, c.width, bias=False)
        self.up = nn.Linear(c.width, c.feed_forward, bias=False)
        self.down = nn.Linear(c.feed_forward, c.width, bias=False)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor, turn: Tensor, mask: Tensor, memory: tuple[Tensor, Tensor] | None):
        """x (B, F, width); turn (2, F, head / 2) cosines, sines; mask (B, 1, 1, S + F); returns x and its (k, v)."""
        b, f, _ = x.shape
        q, k, v = self.qkv(self.norm_a(x)).view(b, f, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = _rotate(q, turn), _rotate(k, turn)
        own = (k, v)
        if memory is not None:
            k, v = torch.cat([memory[0], k], 2), torch.cat([memory[1], v], 2)
        score = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + mask.to(q.dtype)
        mixed = (score.softmax(-1).to(v.dtype) @ v).transpose(1, 2).reshape(b, f, -1)
        x = x + self.out(mixed)
        return x + self.down(F.relu(self.up(self.norm_f(x))).square()), own


def _rotate(x: Tensor, turn: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    cos, sin = turn[0].to(x.dtype), turn[1].to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class CodebookHead(nn.Module):
    """Logits of one codebook, from the frame's hidden state and the vectors of the codebooks before it."""

    def __init__(self, c: RendererConfig):
        super().__init__()
        self.hidden = nn.Linear(c.width, c.head_width)
        self.coarser = nn.Linear(c.latent, c.head_width, bias=False)
        self.project = nn.Linear(c.head_width, c.latent + LEARNED)
        self.own = nn.Parameter(torch.randn(c.codebook_size, LEARNED) * 0.02)
        self.bias = nn.Parameter(torch.zeros(c.codebook_size))
        self.fast: nn.Module | None = None  # the last product, once `in_int8` has made it
        nn.init.zeros_(self.project.weight)

    def forward(self, h: Tensor, coarser: Tensor, codebook: Tensor) -> Tensor:
        """h (..., width), coarser (..., latent), codebook (size, latent) of unit scale -> (..., size)"""
        x = self.project(F.relu(self.hidden(h) + self.coarser(coarser)).square())
        if self.fast is not None:
            return self.fast(x)
        return F.linear(x, torch.cat([codebook, self.own], 1).to(x.dtype), self.bias.to(x.dtype))


class MaskedRenderer(nn.Module):
    """The network. `codebooks` are the codec's, (K, size, latent), stored with the model as frozen buffers."""

    def __init__(self, config: RendererConfig = RendererConfig(), codebooks: Tensor | None = None):
        super().__init__()
        accept_old_names(self, {"books": "codebooks", "heard": "code_proj", "sketch": "guide"})
        c = self.config = config
        shape = (c.num_codebooks, c.codebook_size, c.latent)
        self.register_buffer("codebooks", torch.zeros(shape) if codebooks is None else codebooks.clone())
        self.register_buffer("scale", torch.ones(c.num_codebooks) if codebooks is None else codebooks.std((1, 2)))
        self.codebooks: Tensor
        self.scale: Tensor
        self.code_proj = nn.Linear(c.latent, c.width)
        self.hidden_frame = nn.Parameter(torch.randn(c.width) * 0.02)
        self.notes = nn.Sequential(nn.Linear(WIDTH, 512), nn.GELU(), nn.Linear(512, c.width))
        self.without_notes = nn.Parameter(torch.zeros(c.width))
        self.guide = nn.Linear(c.latent, c.width)
        nn.init.zeros_(self.guide.weight)
        self.place = nn.Parameter(torch.randn(2, c.width) * 0.02)  # prompt, target
        self.style = nn.Sequential(nn.Linear(2 * c.latent, 512), nn.GELU(), nn.Linear(512, c.width))
        self.without_prompt = nn.Parameter(torch.zeros(c.width))
        self.layers = nn.ModuleList(RendererLayer(c) for _ in range(c.layers))
        self.norm = nn.RMSNorm(c.width)
        self.heads = nn.ModuleList(CodebookHead(c) for _ in range(c.num_codebooks))

    def vectors(self, codes: Tensor, codebooks: int | None = None) -> Tensor:
        """Codes (..., K) -> the codec's latent of the first `codebooks` of them, (..., latent), of unit scale"""
        count = self.config.num_codebooks if codebooks is None else codebooks
        total = self.codebooks.new_zeros(*codes.shape[:-1], self.config.latent)
        for k in range(count):
            total = total + self.codebooks[k][codes[..., k]]
        return total / self.scale[0]

    def read_prompt(
        self, codes: Tensor, notes: Tensor, guide: Tensor, noted: Tensor, valid: Tensor
    ) -> tuple[PromptCache, Tensor, Tensor]:  # fmt: skip
        """Encode the prompt as memory for `hidden_states`.

        codes (B, P, K); notes (B, P, WIDTH); guide (B, P, K) codes; noted (B,) bool: these two are known;
        valid (B, P) bool, all False: no prompt
        returns keys and values a layer, the additive mask (B, 1, 1, P) and the style vector (B, width)
        """
        latent = self.vectors(codes)
        weight = valid[..., None].to(latent.dtype)
        count = weight.sum(1).clamp(min=1)
        mean = (latent * weight).sum(1) / count
        spread = ((latent - mean[:, None]).square() * weight).sum(1).div(count).clamp(min=1e-6).sqrt()
        style = self.style(torch.cat([mean, spread], -1))
        style = torch.where(valid.any(1)[:, None], style, self.without_prompt)
        told = self.notes(notes) + self.guide(self.vectors(guide))
        heard = torch.where(noted[:, None, None], told, self.without_notes)
        x = self.code_proj(latent) + heard + self.place[0] + style[:, None]
        mask = torch.where(valid, 0.0, NEVER)[:, None, None]
        turn = self._turn(-valid.shape[1] - 100, valid.shape[1], x.device)
        memory = []
        for layer in self.layers:
            x, own = layer(x, turn, mask, None)
            memory.append(own)
        return memory, mask, style

    def hidden_states(
        self,
        codes: Tensor,
        known: Tensor,
        notes: Tensor,
        guide: Tensor,
        prompt: tuple[PromptCache, Tensor, Tensor],
        valid: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, F, width) of partly masked frames.

        codes (B, F, K), used where known (B, F); notes (B, F, WIDTH); guide (B, F, K) codes of the guide;
        valid (B, F) bool, False for padding
        """
        memory, prompt_mask, style = prompt
        x = torch.where(known[..., None], self.code_proj(self.vectors(codes)), self.hidden_frame)
        x = x + self.notes(notes) + self.guide(self.vectors(guide)) + self.place[1] + style[:, None]
        own = torch.zeros(*known.shape, device=x.device) if valid is None else torch.where(valid, 0.0, NEVER)
        mask = torch.cat([prompt_mask.expand(len(x), 1, 1, -1), own[:, None, None]], -1)
        turn = self._turn(0, x.shape[1], x.device)
        for layer, past in zip(self.layers, memory):
            x, _ = layer(x, turn, mask, past)
        return self.norm(x)

    def logits(self, h: Tensor, codes: Tensor, codebook: int) -> Tensor:
        """Logits (..., size) of one codebook; codes (..., K), of which the coarser codebooks are used."""
        return self.heads[codebook](h, self.vectors(codes, codebook), self.codebooks[codebook] / self.scale[codebook])

    def _turn(self, start: int, count: int, device: torch.device) -> Tensor:
        half = self.config.width // self.config.heads // 2
        rate = 2 * math.pi / (4 * 512 ** (torch.arange(half, device=device) / (half - 1)))  # periods 4 to 2,048 frames
        angle = torch.arange(start, start + count, device=device)[:, None] * rate
        return torch.stack([angle.cos(), angle.sin()])

    def read_batch_prompt(self, batch: dict[str, Tensor]) -> tuple[PromptCache, Tensor, Tensor]:
        """`read_prompt` of a training batch."""
        names = ("prompt_codes", "prompt_notes", "prompt_guide", "prompt_noted", "prompt_valid")
        return self.read_prompt(*(batch[name] for name in names))

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of the masked frames' codes, all codebooks, given the coarser ones; in nats per code.

        codes (B, F, K), guide (B, F, K), notes (B, F, WIDTH), known (B, F) bool, prompt_codes (B, P, K),
        prompt_sketch (B, P, K), prompt_notes (B, P, WIDTH), prompt_noted (B,), prompt_valid (B, P)
        """
        prompt = self.read_batch_prompt(batch)
        h = self.hidden_states(batch["codes"], batch["known"], batch["notes"], batch["guide"], prompt)
        hidden = ~batch["known"]
        h, codes = h[hidden], batch["codes"][hidden]
        parts = {}
        for k in range(self.config.num_codebooks):
            logits = self.logits(h, codes, k).float()
            parts[f"book_{k}"] = F.cross_entropy(logits, codes[:, k])
        return {"loss": torch.stack(list(parts.values())).mean(), **parts}

    def in_int8(self) -> MaskedRenderer:
        """An int8 copy for inference: three times as fast on a CPU."""
        model = copy.deepcopy(self)
        for k, head in enumerate(model.heads):
            head.fast = Int8Linear(torch.cat([self.codebooks[k] / self.scale[k], head.own], 1), head.bias)  # type: ignore
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(module, name, Int8Linear(child.weight, child.bias))
        return model.eval()
