"""The product's piano codec: 32 kHz, 50 frames a second, 4 residual codebooks of 2,048 (2.2 kbit/s), as Piano-Encodec.

A spectral codec in the manner of Vocos (Siuzdak, arXiv 2306.00814): ConvNeXt blocks at the frame rate on both sides of
a residual vector quantiser, and an inverse STFT at the end. The decoder predicts log magnitudes only; phases are
reconstructed afterwards (`engine.models.codec.phase`), because 2.2 kbit/s cannot encode them. So the codes contain no
phase, which makes them much easier to predict from notes. Known notes are an optional input of the decoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from engine.models.nn.renamed import accept_old_names
from engine.models.nn.residual_quantiser import ResidualQuantiser
from engine.progress import ProgressCallback
from engine.tokens.note_frames import WIDTH

SAMPLE_RATE = 32000
WINDOW, HOP = 2048, 320  # of the analysed and predicted spectrum
BINS = WINDOW // 2 + 1
SHORT_WINDOW, SHORT_HOP, SHORT_BANDS = 512, 160, 48  # second analysis window, for onsets
FLOOR = 5e-3  # lowest magnitude, -100 dBFS
BELOW = 1.0  # nats: predictions at the floor are decoded this far below it (recordings: 1.6, renders: 0.7)
NEAR = 0.1  # nats above the floor that count as at the floor
BEAM = 8
STEPS = 2  # predicted spectra per frame
BLOCK = 1500  # frames encoded at a time, half a minute


@dataclass(frozen=True)
class CodecConfig:
    """width, depth of encoder and decoder; kernel of their convolutions over time in frames (odd)."""

    encoder_width: int = 256
    encoder_depth: int = 6
    encoder_kernel: int = 7
    decoder_width: int = 384
    decoder_depth: int = 8
    decoder_kernel: int = 5
    latent: int = 64
    num_codebooks: int = 4
    codebook_size: int = 2048


class ConvNeXt(nn.Module):
    """One block: a convolution over time per channel, then two linear layers on each frame (Liu et al. 2022, 1-D)."""

    def __init__(self, width: int, kernel: int, expand: int = 3):
        super().__init__()
        self.over_time = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, expand * width)
        self.narrow = nn.Linear(expand * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, width) -> (B, F, width)"""
        y = self.over_time(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.narrow(F.gelu(self.widen(self.norm(y))))


class PianoCodec(nn.Module):
    """Sound to codes and back; see the module. All times are frames of 640 samples."""

    sample_rate, hop_length = SAMPLE_RATE, STEPS * HOP

    def __init__(self, config: CodecConfig = CodecConfig()):
        super().__init__()
        accept_old_names(self, {"look": "input_proj", "hear_notes": "encode_notes", "to_spectrum": "spectrum_head"})
        self.config = config
        self.num_codebooks, self.codebook_size = config.num_codebooks, config.codebook_size
        self.frame_rate = self.sample_rate / self.hop_length
        # receptive field per side in frames; the long window adds two
        self.encoder_receptive_field = config.encoder_depth * (config.encoder_kernel // 2) + 2
        self.decoder_receptive_field = config.decoder_depth * (config.decoder_kernel // 2)
        width, deep = config.encoder_width, config.encoder_depth
        seen = STEPS * BINS + self.hop_length // SHORT_HOP * SHORT_BANDS
        self.input_proj = nn.Linear(seen, width)
        self.encoder = nn.Sequential(*(ConvNeXt(width, config.encoder_kernel) for _ in range(deep)))
        self.to_latent = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, config.latent), nn.LayerNorm(config.latent, elementwise_affine=False)
        )
        self.quantiser = ResidualQuantiser(config.num_codebooks, config.codebook_size, config.latent)
        self.bypass = False  # warm-up: latents bypass the quantiser
        width = config.decoder_width
        self.from_latent = nn.Linear(config.latent, width)
        self.encode_notes = nn.Sequential(nn.Linear(WIDTH, width), nn.GELU(), nn.Linear(width, width))
        self.without_notes = nn.Parameter(torch.zeros(width))
        self.decoder = nn.Sequential(*(ConvNeXt(width, config.decoder_kernel) for _ in range(config.decoder_depth)))
        last = nn.Linear(width, STEPS * BINS)
        with torch.no_grad():
            last.weight.mul_(0.2)
        self.spectrum_head = nn.Sequential(nn.LayerNorm(width), last)
        window = torch.hann_window
        self.register_buffer("window", window(WINDOW), persistent=False)
        self.register_buffer("short_window", window(SHORT_WINDOW), persistent=False)
        self.register_buffer("bands", _bands(), persistent=False)
        self.window: Tensor
        self.short_window: Tensor
        self.bands: Tensor

    def analyse(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """(B, num_samples), whole frames -> encoder input (B, F, seen) and log magnitudes (B, F, 2, BINS).

        The spectrum of step s of frame t is centred on sample (2 t + s) * 320.
        """
        frames = samples.shape[-1] // self.hop_length
        samples = samples[:, : frames * self.hop_length]
        long = self.magnitudes(samples).clamp(min=FLOOR).log()  # (B, 2 F, BINS)
        short = torch.stft(
            samples, SHORT_WINDOW, SHORT_HOP, window=self.short_window, return_complex=True, pad_mode="constant"
        ).abs()
        short = (
            (short[:, :, : self.hop_length // SHORT_HOP * frames].transpose(1, 2) @ self.bands).clamp(min=FLOOR).log()
        )
        b = len(samples)
        magnitudes = long.reshape(b, frames, STEPS, BINS)
        seen = torch.cat([long.reshape(b, frames, -1), short.reshape(b, frames, -1)], -1)
        return 0.25 * seen, magnitudes

    def magnitudes(self, samples: Tensor) -> Tensor:
        """(B, num_samples), whole frames -> magnitudes (B, 2 F, BINS), without the floor"""
        long = torch.stft(samples, WINDOW, HOP, window=self.window, return_complex=True, pad_mode="constant").abs()
        return long[:, :, : STEPS * (samples.shape[-1] // self.hop_length)].transpose(1, 2)

    def latents(self, seen: Tensor) -> Tensor:
        """(B, F, seen) -> (B, F, latent), before quantisation"""
        return self.to_latent(self.encoder(self.input_proj(seen)))

    def spectra(self, latent: Tensor, notes: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """Quantised latents (B, F, latent) -> log magnitudes (B, F, 2, BINS).

        notes  (B, F, WIDTH) of `engine.tokens.note_frames`, if known; known (B,) bool: the items with notes
        """
        x = self.from_latent(latent)
        if notes is None:
            x = x + self.without_notes
        else:
            heard = self.encode_notes(notes)
            x = x + (heard if known is None else torch.where(known[:, None, None], heard, self.without_notes))
        log = 4 * self.spectrum_head(self.decoder(x))
        return log.reshape(*log.shape[:2], STEPS, BINS)

    @torch.inference_mode()
    def encode(self, samples: Tensor, beam: int = BEAM, progress: ProgressCallback | None = None) -> Tensor:
        """(B, num_samples) at 32 kHz -> codes (B, 4, F), F = ceil(num_samples / 640)

        beam     as in `ResidualQuantiser.encode`; 1 is faster; the renderer was trained with it
        progress  called with the finished share after every half minute of sound; raise in it to cancel
        """
        samples = F.pad(samples, (0, -samples.shape[-1] % self.hop_length))
        hop, parts = self.hop_length, []
        for start, end, low, high in _blocks(samples.shape[-1] // hop, self.encoder_receptive_field):
            seen, _ = self.analyse(samples[:, low * hop : high * hop])
            parts.append(self.quantiser.encode(self.latents(seen)[:, start - low : end - low], beam))
            if progress:
                progress(end * hop / samples.shape[-1])
        return torch.cat(parts, 1).transpose(1, 2)

    @torch.inference_mode()
    def decode(self, codes: Tensor, notes: Tensor | None = None, progress: ProgressCallback | None = None) -> Tensor:
        """Codes (B, K <= 4, F) -> samples (B, 640 F); notes (B, F, WIDTH) of `engine.tokens.note_frames` if known.

        progress  as in `encode`
        """
        from engine.models.codec.phase import PhaseFinder

        count, finders = codes.shape[-1], [PhaseFinder() for _ in codes]
        parts: list[list[NDArray[np.float32]]] = [[] for _ in codes]
        for start, end, low, high in _blocks(count, self.decoder_receptive_field):
            told = None if notes is None else notes[:, low:high]
            log = self.spectra(self.quantiser.decode(codes[..., low:high].transpose(1, 2)), told)
            above = (log[:, start - low : end - low].float().clamp(max=8) - np.log(FLOOR)).clamp(min=0).flatten(1, 2)
            played = (np.log(FLOOR) + above - BELOW * (1 - above / NEAR).clamp(min=0)).exp()
            for part, finder, magnitudes in zip(parts, finders, played, strict=True):
                part.append(finder.push(magnitudes.numpy()))
            if progress:
                progress(end / count)
        whole = [np.concatenate([*part, finder.finish()]) for part, finder in zip(parts, finders, strict=True)]
        return torch.from_numpy(np.stack(whole))

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """samples (B, num_samples), notes (B, F, WIDTH), known (B,) bool -> "loss" and its terms.

        The spectral loss is the L1 distance of log magnitudes, weighted towards low frequencies and spectral peaks, and
        of their change over time.
        """
        with torch.autocast(batch["samples"].device.type, enabled=False), torch.no_grad():
            seen, true = self.analyse(batch["samples"])
        u = self.latents(seen)
        quantised = None if self.bypass else self.quantiser(u)
        latent = u.float() if quantised is None else quantised.latent
        if self.training:  # code dropout: with notes the decoder learns to do without some codes
            lost = torch.rand(latent.shape[:2], device=latent.device) < 0.08 * torch.rand(
                len(latent), 1, device=latent.device
            )
            latent = latent * ~lost[..., None]
        log = self.spectra(latent, batch["notes"], batch["known"]).float().flatten(1, 2)
        parts = spectral_losses(log, true.flatten(1, 2))
        if quantised is not None:
            parts["loss"] = parts["loss"] + 0.25 * quantised.commitment
            parts["commitment"] = quantised.commitment
        return parts


def _blocks(count: int, receptive_field: int) -> Iterator[tuple[int, int, int, int]]:
    """(start, end, low, high) of blocks of `count` frames, low and high include the receptive field on both sides."""
    for start in range(0, max(count, 1), BLOCK):
        end = min(start + BLOCK, count)
        yield start, end, max(start - receptive_field, 0), min(end + receptive_field, count)


def spectral_distance(log: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted L1 distance of log magnitudes (B, T, BINS), and of their change from one spectrum to the next."""
    weight = _weights(true)
    error = ((log - true).abs() * weight).mean()
    change = ((log.diff(dim=1) - true.diff(dim=1)).abs() * weight[:, 1:]).mean()
    return error, change


def spectral_losses(log: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Training losses of decoders: "loss", the "error" and half the "change"."""
    error, change = spectral_distance(log, true)
    return {"loss": error + 0.5 * change, "error": error, "change": change}


def _weights(true: Tensor) -> Tensor:
    """Weights of mean 1 over (B, T, BINS) log magnitudes: 1 / (f + 500 Hz), more within 45 dB of the frame's peak."""
    hz = torch.arange(BINS, device=true.device) * (SAMPLE_RATE / WINDOW)
    by_pitch = 1 / (hz + 500)
    peak = true.amax(-1, keepdim=True)
    weight = by_pitch * (0.25 + torch.sigmoid((true - peak + 5.2) / 0.8))
    return weight / weight.mean()


def _bands() -> Tensor:
    """(257, 48) triangles, evenly spaced on the mel scale from 40 Hz to 14 kHz, each of sum 1."""
    mel = torch.linspace(2595 * np.log10(1 + 40 / 700), 2595 * np.log10(1 + 14000 / 700), SHORT_BANDS + 2)
    edge = 700 * (10 ** (mel / 2595) - 1)
    hz = torch.arange(SHORT_WINDOW // 2 + 1) * (SAMPLE_RATE / SHORT_WINDOW)
    rise = (hz[:, None] - edge[:-2]) / (edge[1:-1] - edge[:-2])
    fall = (edge[2:] - hz[:, None]) / (edge[2:] - edge[1:-1])
    triangles = torch.minimum(rise, fall).clamp(min=0)
    nearest = F.one_hot((hz[:, None] - edge[1:-1]).abs().argmin(0), len(hz)).T.float()  # at least one bin per band
    triangles = torch.where(triangles.sum(0) > 0.3, triangles, nearest)
    return triangles / triangles.sum(0)
