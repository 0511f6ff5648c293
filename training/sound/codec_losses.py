"""Training losses of a codec: six losses on its output, the discriminator of the adversarial two, and the balancer.

EnCodec (Défossez et al. 2022, arXiv 2210.13438, sections 3.3 and 3.4) with the numbers of audiocraft's compression
recipe: weights 4 adversarial, 4 feature, 0.1 waveform, 0 mel, 2 multi-scale mel, 0 SI-SNR.

>>> a = torch.sin(torch.arange(4096) / 9)[None]
>>> float(si_snr_loss(a, a)) < -60, float(MultiScaleMel(32000)(a, a))
(True, 0.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

WEIGHTS = {"adversarial": 4.0, "feature": 4.0, "waveform": 0.1, "mel": 0.0, "multi_mel": 2.0, "si_snr": 0.0}
FLOOR = 1e-5  # of the mel spectra
MIN_HZ = 20.0  # audiocraft's recipe begins at 64 Hz; the piano's lowest string is at 27.5
DISCRIMINATOR_SIZES = (2048, 1024, 512, 256, 128)


def mel_filters(num_mels: int, n_fft: int, sample_rate: int, lowest: float, highest: float) -> Tensor:
    """Triangles of height 1, evenly spaced on the mel scale 2595 log10(1 + f / 700): (n_fft / 2 + 1, num_mels)."""

    def to_mel(hz: float) -> float:
        return 2595 * math.log10(1 + hz / 700)

    feet = 700 * (10 ** (torch.linspace(to_mel(lowest), to_mel(highest), num_mels + 2).double() / 2595) - 1)
    hz = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1).double()[:, None]
    up = (hz - feet[:-2]) / (feet[1:-1] - feet[:-2])
    down = (feet[2:] - hz) / (feet[2:] - feet[1:-1])
    return torch.minimum(up, down).clamp(min=0).float()


class MelSpectrum(nn.Module):
    """Mel power spectrum of (B, T) in ceil(T / hop) frames: (B, num_mels, frames). The window has unit energy."""

    def __init__(self, sample_rate: int, n_fft: int, num_mels: int, hop: int, unit_energy: bool) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        window = torch.hann_window(n_fft)
        self.window: Tensor
        self.filters: Tensor
        self.register_buffer("window", window / window.norm() if unit_energy else window)
        self.register_buffer("filters", mel_filters(num_mels, n_fft, sample_rate, MIN_HZ, sample_rate / 2))

    def forward(self, x: Tensor) -> Tensor:
        side = (self.n_fft - self.hop) // 2
        x = F.pad(x[:, None], (side, side), "reflect")[:, 0]
        x = F.pad(x, (0, -(x.shape[1] - self.n_fft) % self.hop))
        z = torch.stft(x, self.n_fft, self.hop, window=self.window, center=False, return_complex=True)
        return (z.real.square() + z.imag.square()).transpose(1, 2).matmul(self.filters).transpose(1, 2)


class MultiScaleMel(nn.Module):
    """Distance of the mel spectra at windows of 64 to 2,048 samples: L1 of the powers and L2 of their log10.

    64 mels, hops of a quarter window, floor 1e-5; the mean over scales and both terms (audiocraft's `normalized`).
    """

    def __init__(self, sample_rate: int, num_mels: int = 64, exponents: tuple[int, int] = (6, 11)) -> None:
        super().__init__()
        sizes = [2**e for e in range(exponents[0], exponents[1] + 1)]
        self.scales = nn.ModuleList([MelSpectrum(sample_rate, n, num_mels, n // 4, True) for n in sizes])

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        parts = []
        for scale in self.scales:
            a, b = scale(x), scale(y)
            parts.append(F.l1_loss(a, b) + F.mse_loss((a + FLOOR).log10(), (b + FLOOR).log10()))
        return torch.stack(parts).sum() / (2 * len(parts))


class LogMel(nn.Module):
    """L1 distance of log10 mel spectra, 64 mels, window 1,024, hop 256."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.spectrum = MelSpectrum(sample_rate, 1024, 64, 256, False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.l1_loss((self.spectrum(x) + FLOOR).log10(), (self.spectrum(y) + FLOOR).log10())


def si_snr_loss(x: Tensor, y: Tensor) -> Tensor:
    """Minus the scale-invariant signal-to-noise ratio of x against y (B, T), in dB; at least -80 dB."""
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    target = (x * y).sum(-1, keepdim=True) / (y.square().sum(-1, keepdim=True) + 1e-8) * y
    signal, noise = target.square().sum(-1), (x - target).square().sum(-1)
    return -10 * ((signal + 1e-10) / (noise + 1e-8 * signal + 1e-10)).log10().mean()


class STFTDiscriminator(nn.Module):
    """Discriminator at one window length: complex spectrum (B, 2, frames, bins) -> logits and features of each
    layer."""

    def __init__(self, filters: int, n_fft: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        window = torch.hann_window(n_fft)
        self.window: Tensor
        self.register_buffer("window", window / window.norm())

        def conv(channels: int, kernel: tuple[int, int], stride: int = 1, dilation: int = 1) -> nn.Module:
            padding = ((kernel[0] - 1) * dilation // 2, kernel[1] // 2)
            return weight_norm(nn.Conv2d(channels, filters, kernel, (1, stride), padding, (dilation, 1)))

        layers = [conv(2, (3, 9)), *(conv(filters, (3, 9), 2, d) for d in (1, 2, 4)), conv(filters, (3, 3))]
        self.layers = nn.ModuleList(layers)
        self.last = weight_norm(nn.Conv2d(filters, 1, 3, padding=1))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        with torch.autocast(x.device.type, enabled=False):
            z = torch.stft(
                x.float(), self.n_fft, self.n_fft // 4, window=self.window, center=False, return_complex=True
            )
        h = torch.stack([z.real, z.imag], 1).transpose(2, 3)
        seen = []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.3)
            seen.append(h)
        return self.last(h), seen


class Discriminator(nn.Module):
    """The multi-scale complex STFT discriminator: (B, T) -> logits and features of every scale."""

    def __init__(self, filters: int = 32, sizes: tuple[int, ...] = DISCRIMINATOR_SIZES) -> None:
        super().__init__()
        self.scales = nn.ModuleList([STFTDiscriminator(filters, n) for n in sizes])

    def forward(self, x: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        return [scale(x) for scale in self.scales]


def discriminator_loss(discriminator: Discriminator, fake: Tensor, real: Tensor) -> Tensor:
    """Hinge loss of the discriminator: real above 1, fake below -1; mean over scales."""
    pairs = zip(discriminator(fake.detach()), discriminator(real), strict=True)
    return torch.stack([F.relu(1 + f).mean() + F.relu(1 - r).mean() for (f, _), (r, _) in pairs]).mean()


def generator_losses(discriminator: Discriminator, fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """(adversarial, feature) losses of the codec: minus the mean logit; L1 distance of the discriminator's features."""
    with torch.no_grad():
        wanted = discriminator(real)
    heard = discriminator(fake)
    adversarial = torch.stack([-logits.mean() for logits, _ in heard]).mean()
    pairs = zip(heard, wanted, strict=True)
    feature = [torch.stack([F.l1_loss(a, b) for a, b in zip(h, w, strict=True)]).mean() for (_, h), (_, w) in pairs]
    return adversarial.float(), torch.stack(feature).mean().float()


class Balancer:
    """Gives each loss its share of the gradient at the codec's output, independent of its scale.

    With g_i the gradient of loss i with respect to the sound, n_i the running mean of its norm (mean over the batch of
    the norm of each item) and w_i its weight, the sound receives sum_i g_i / n_i * w_i / sum(w) (EnCodec, section 3.4).
    `norms` is the state to save.
    """

    def __init__(
        self, weights: dict[str, float], decay: float = 0.999, average: Callable[[Tensor], Tensor] = lambda x: x
    ):
        self.weights, self.decay, self.average = weights, decay, average
        self.norms: dict[str, tuple[float, float]] = {}  # name -> decayed sum of norms, decayed count

    def gradient(self, losses: dict[str, Tensor], sound: Tensor) -> Tensor:
        """The balanced gradient of `losses` with respect to `sound`, of its shape."""
        names = [name for name in losses if self.weights.get(name, 0) > 0]
        grads = [torch.autograd.grad(losses[name], sound, retain_graph=True)[0] for name in names]
        norms = self.average(torch.stack([g.flatten(1).norm(dim=1).mean() for g in grads]))
        total = sum(self.weights[name] for name in names)
        out = torch.zeros_like(sound)
        for name, grad, norm in zip(names, grads, norms.tolist(), strict=True):
            summed, count = self.norms.get(name, (0.0, 0.0))
            summed, count = self.decay * summed + norm, self.decay * count + 1
            self.norms[name] = (summed, count)
            out += grad * (self.weights[name] / total / (summed / count + 1e-12))
        return out
