"""Piano-Encodec: 32 kHz piano sound as four codebooks of 2,048 codes, 50 frames a second.

EnCodec (Défossez et al. 2022, arXiv 2210.13438) as MIDI-VALLE uses it: SEANet, residual vector quantisation with EMA
codebooks (section 3.2), no loudness normalisation. `PUBLISHED` is the size of MusicGen's 32 kHz codec and of the
released Piano-Encodec, whose weights are compatible; `COMPACT` is our size for two CPU cores.

>>> codec = PianoEncodec(SEANetConfig(filters=2, dimension=8, lstm_layers=0), num_codebooks=2, codebook_size=16)
>>> codes = codec.encode(torch.zeros(1, 1000))
>>> tuple(codes.shape), tuple(codec.decode(codes).shape)
((1, 2, 2), (1, 1280))
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.codec.seanet import HEAD_CONTEXT, TAIL_CONTEXT, SEANetConfig, SEANetDecoder, SEANetEncoder, State

PUBLISHED = SEANetConfig(filters=64, lstm_layers=2)
COMPACT = SEANetConfig(filters=32, lstm_layers=0)
SIZES = {"published": PUBLISHED, "compact": COMPACT}
NUM_CODEBOOKS, CODEBOOK_SIZE, SAMPLE_RATE = 4, 2048, 32000

DECAY = 0.99  # of the codebook's exponential moving averages
K_MEANS_ITERATIONS = 10
FREE_VECTORS = 8192  # latents of the unquantised warm-up used for k-means
DEAD_SHARE = 0.03  # a code below this share of the mean use is dead and is reset to a vector of the batch


class EncodecCodebook(nn.Module):
    """EMA codebook (van den Oord et al. 2017, appendix A.1).

    embed         (codebook_size, dimension) the code vectors
    cluster_size  (codebook_size,) EMA of each code's uses per batch
    embed_avg     (codebook_size, dimension) EMA of the sum of its assigned vectors
    inited        (1,) 0 until k-means has set the codes
    """

    def __init__(self, codebook_size: int, dimension: int) -> None:
        super().__init__()
        self.inited: Tensor
        self.cluster_size: Tensor
        self.embed: Tensor
        self.embed_avg: Tensor
        self.register_buffer("inited", torch.zeros(1))
        self.register_buffer("cluster_size", torch.zeros(codebook_size))
        self.register_buffer("embed", torch.randn(codebook_size, dimension) * 0.1)
        self.register_buffer("embed_avg", self.embed.clone())

    def nearest(self, x: Tensor) -> Tensor:
        """Index of the nearest code vector: (n, dimension) -> (n,) int64."""
        return (self.embed.square().sum(1) - 2 * x @ self.embed.t()).argmin(1)

    @torch.no_grad()
    def learn(self, x: Tensor) -> Tensor:
        """EMA update with a batch of vectors (n, dimension); returns the code of each, (n,) int64. Under
        torch.distributed counts and sums are all-reduced, so the codebooks of all processes stay equal.
        """
        chosen = self.nearest(x)
        counts = torch.bincount(chosen, minlength=len(self.embed)).to(x.dtype)
        sums = torch.zeros_like(self.embed).index_add_(0, chosen, x)
        _add_up(counts, sums)
        self.cluster_size.lerp_(counts, 1 - DECAY)
        self.embed_avg.lerp_(sums, 1 - DECAY)
        self._revive(x)
        smooth = self.cluster_size + 1e-5
        smooth = smooth * (self.cluster_size.sum() / smooth.sum())
        self.embed.copy_(self.embed_avg / smooth[:, None])
        return chosen

    @torch.no_grad()
    def begin(self, x: Tensor) -> None:
        """Initialise the codes by k-means on vectors (n, dimension)."""
        size = len(self.embed)
        self.embed.copy_(_draw(x, size))
        for _ in range(K_MEANS_ITERATIONS):
            chosen = self.nearest(x)
            counts = torch.bincount(chosen, minlength=size).to(x.dtype)
            sums = torch.zeros_like(self.embed).index_add_(0, chosen, x)
            self.embed.copy_(torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), self.embed))
        counts = torch.bincount(self.nearest(x), minlength=size).to(x.dtype)
        self.cluster_size.copy_(counts.clamp(min=0.1 * len(x) / size))
        self.inited.fill_(1)
        _same_everywhere(self.embed, self.cluster_size)
        self.embed_avg.copy_(self.embed * self.cluster_size[:, None])

    def _revive(self, x: Tensor) -> None:
        """Reset dead codes to random vectors of the batch."""
        mean = self.cluster_size.mean()
        dead = self.cluster_size < DEAD_SHARE * mean
        if not dead.any():
            return
        fresh = _draw(x, len(self.embed))
        _same_everywhere(fresh)
        self.cluster_size[dead] = mean
        self.embed_avg[dead] = fresh[dead] * mean


class EncodecQuantiser(nn.Module):
    """Residual quantiser: each codebook quantises the residual of the previous ones (SoundStream, algorithm 1). While
    `free` is set (warm-up), training passes latents through unquantised and stores them; the first quantised batch
    initialises the codebooks by k-means on the stored latents. Without the warm-up the nearly constant latents of an
    untrained encoder use only a few codes.
    """

    def __init__(self, num_codebooks: int, codebook_size: int, dimension: int) -> None:
        super().__init__()
        codebooks = [
            nn.ModuleDict({"_codebook": EncodecCodebook(codebook_size, dimension)}) for _ in range(num_codebooks)
        ]
        self.vq = nn.ModuleDict({"layers": nn.ModuleList(codebooks)})  # parameter names of audiocraft
        self.free, self._kept = False, list[Tensor]()

    @property
    def codebooks(self) -> list[EncodecCodebook]:
        return [layer["_codebook"] for layer in self.vq["layers"]]  # type: ignore[union-attr, return-value]

    def encode(self, z: Tensor, num_codebooks: int | None = None) -> Tensor:
        """(B, dimension, F) -> codes (B, K, F) int64."""
        rest, codes = z.transpose(1, 2), []
        for codebook in self.codebooks[:num_codebooks]:
            chosen = codebook.nearest(rest.flatten(0, 1)).view(rest.shape[:2])
            rest = rest - codebook.embed[chosen]
            codes.append(chosen)
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """codes (B, K, F), K at most the number of codebooks -> (B, dimension, F)."""
        chosen = zip(self.codebooks, codes.unbind(1))
        return torch.stack([codebook.embed[c] for codebook, c in chosen]).sum(0).transpose(1, 2)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise a batch in training: quantised latent (straight-through gradient), codes (B, K, F), commitment loss
        ()."""
        if self.training and self.free:
            self._kept = [*self._kept, z.detach().transpose(1, 2).flatten(0, 1).float()]
            while sum(map(len, self._kept[1:])) >= FREE_VECTORS:
                self._kept.pop(0)
            return z, self.encode(z.detach().float()), z.new_zeros(())
        codes, commitment = [], []
        with torch.autocast(z.device.type, enabled=False):  # bfloat16 distances would select wrong codes
            rest = z.transpose(1, 2).float()
            if self.training and not self.codebooks[0].inited.item():
                self._begin(torch.cat([*self._kept, rest.detach().flatten(0, 1)]))
            for codebook in self.codebooks:
                flat = rest.flatten(0, 1)
                chosen = (codebook.learn(flat.detach()) if self.training else codebook.nearest(flat)).view(
                    rest.shape[:2]
                )
                vectors = codebook.embed[chosen]
                commitment.append(F.mse_loss(rest, vectors))
                rest = rest - vectors
                codes.append(chosen)
            quantised = z - rest.detach().transpose(
                1, 2
            )  # the sum of the code vectors; straight-through gradient estimator
        return quantised, torch.stack(codes, 1), torch.stack(commitment).mean()

    @torch.no_grad()
    def _begin(self, rest: Tensor) -> None:
        for codebook in self.codebooks:
            codebook.begin(rest)
            rest = rest - codebook.embed[codebook.nearest(rest)]
        self._kept.clear()


@dataclass(frozen=True)
class Reconstruction:
    """Output of the codec for a training batch.

    samples     (B, num_samples)
    codes       (B, K, F) int64
    commitment  () mean squared distance of the latents from their codes
    """

    samples: Tensor
    codes: Tensor
    commitment: Tensor


class PianoEncodec(nn.Module):
    """The codec: mono sound in [-1, 1] at 32 kHz to codes (B, K, F) and back."""

    def __init__(
        self, config: SEANetConfig = PUBLISHED, num_codebooks: int = NUM_CODEBOOKS, codebook_size: int = CODEBOOK_SIZE
    ) -> None:
        super().__init__()
        self.config, self.sample_rate, self.hop_length = config, SAMPLE_RATE, config.hop_length
        self.num_codebooks, self.codebook_size = num_codebooks, codebook_size
        self.encoder, self.decoder = SEANetEncoder(config), SEANetDecoder(config)
        self.quantizer = EncodecQuantiser(num_codebooks, codebook_size, config.dimension)

    def forward(self, samples: Tensor) -> Reconstruction:
        """(B, num_samples) through encoder, quantiser and decoder, for training; the length stays."""
        quantised, codes, commitment = self.quantizer(self.encoder(samples[:, None]))
        return Reconstruction(self.decoder(quantised)[:, 0, : samples.shape[1]], codes, commitment)

    def encode(self, samples: Tensor, chunk: int = 500) -> Tensor:
        """(B, num_samples) -> codes (B, K, ceil(num_samples / 640)) int64; `chunk` frames at a time."""
        return self.quantizer.encode(self.encoder.chunked(samples[:, None], chunk))

    def decode(self, codes: Tensor, chunk: int = 50) -> Tensor:
        """codes (B, K, F) -> samples (B, F * 640); fewer codebooks give a coarser sound."""
        return self.decoder.chunked(self.quantizer.decode(codes), chunk)[:, 0]

    def latent(self, codes: Tensor) -> Tensor:
        """codes (B, K, F) -> the quantised latent (B, dimension, F), the embedding of the paper's Fréchet distance."""
        return self.quantizer.decode(codes)


class DecodeStream:
    """Streaming decoder; the concatenated output equals `decode` of all codes. A part ends four frames (80 ms) before
    the last code; `finish` returns the rest.
    """

    def __init__(self, codec: PianoEncodec) -> None:
        self.codec = codec
        self.state: State | None = None
        dimension, width = codec.config.dimension, codec.config.filters * 2 ** len(codec.config.ratios)
        self._latent, self._hidden = torch.zeros(1, dimension, 0), torch.zeros(1, width, 0)
        self._headed = self._sent = 0  # frames processed by the head, frames returned
        self._latent_from = self._hidden_from = 0  # frame index of the first column of each buffer

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """next codes (K, n) -> samples (m,), m a multiple of 640, possibly 0."""
        self._latent = torch.cat([self._latent, self.codec.quantizer.decode(codes[None])], -1)
        return self._advance(HEAD_CONTEXT, TAIL_CONTEXT)

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """The remaining sound, (m,)."""
        return self._advance(0, 0)

    def _advance(self, head_wait: int, tail_wait: int) -> Tensor:
        decoder, known = self.codec.decoder, self._latent_from + self._latent.shape[-1]
        stop = max(self._headed, known - head_wait)
        if stop > self._headed:
            h = decoder.head(self._latent)[..., self._headed - self._latent_from : stop - self._latent_from]
            h, self.state = decoder.recur(h, self.state)
            self._hidden, self._headed = torch.cat([self._hidden, h], -1), stop
        until = max(self._sent, self._headed - tail_wait)
        if until == self._sent:
            return torch.zeros(0)
        first = self._hidden_from
        sound = decoder.tail(self._hidden, self._sent - first, until - first)[0, 0]
        self._sent = until
        self._hidden_from, self._hidden = _forget(self._hidden, first, self._sent - TAIL_CONTEXT)
        self._latent_from, self._latent = _forget(self._latent, self._latent_from, self._headed - HEAD_CONTEXT)
        return sound


def _forget(buffer: Tensor, first: int, keep_from: int) -> tuple[int, Tensor]:
    """Drop the columns before `keep_from`; `first` is the index of the first column."""
    keep_from = max(first, keep_from)
    return keep_from, buffer[..., keep_from - first :]


def _draw(x: Tensor, count: int) -> Tensor:
    """`count` random rows of x, without replacement if there are enough."""
    rows = torch.randperm(len(x), device=x.device) if len(x) >= count else None
    return x[rows[:count]] if rows is not None else x[torch.randint(len(x), (count,), device=x.device)]


def _add_up(*tensors: Tensor) -> None:
    if dist.is_initialized():
        for t in tensors:
            dist.all_reduce(t)


def _same_everywhere(*tensors: Tensor) -> None:
    if dist.is_initialized():
        for t in tensors:
            dist.broadcast(t, 0)
