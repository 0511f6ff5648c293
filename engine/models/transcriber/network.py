"""The transcriber's network: sound in, features of 88 keys and two pedals out, 43 times a second.

Log-mel spectra under six windows, convolutions that take 8 frames and 4 bands together, and a Transformer whose blocks
attend over bands, then over time. The 90 events (two pedals, 88 keys) are tokens beside the bands. "Scoring Time
Intervals Using Non-Hierarchical Transformer for Automatic Piano Transcription", Yan and Duan, ISMIR 2024.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SUSTAIN_PEDAL, SOFT_PEDAL = -64, -67  # minus the number of the MIDI controller
EVENTS = (SUSTAIN_PEDAL, SOFT_PEDAL, *range(21, 109))  # what each of the 90 tokens stands for
PATCH_FRAMES = 8  # frames that a token in time stands for
EPSILON = 1e-5  # power under which the log-mel spectrum is 0


@dataclass(frozen=True)
class TranscriberConfig:
    """Shape of the transcriber.

    sample_rate, hop_length, window_length  of the spectrum: Hz, samples, samples
    extra_windows   learned windows beside the Hann window
    mel_bands, low_hz, high_hz  of the mel filters
    width           channels of the first convolution; tokens have four times as many
    heads, depth    of the Transformer
    expansion       times the width: features of an event
    hidden          of the two heads that read velocity and exact times
    """

    sample_rate: int = 44100
    hop_length: int = 1024
    window_length: int = 4096
    extra_windows: int = 5
    mel_bands: int = 229
    low_hz: float = 30.0
    high_hz: float = 8000.0
    width: int = 64
    heads: int = 8
    depth: int = 6
    expansion: int = 4
    hidden: int = 512

    def to_json(self) -> dict:
        return asdict(self)


def mel_filters(config: TranscriberConfig) -> Tensor:
    """(window_length / 2 + 1, mel_bands) triangles on the HTK mel scale, each of height 1.

    >>> mel_filters(TranscriberConfig()).shape
    torch.Size([2049, 229])
    """

    def mel(hz: float) -> float:
        return 2595 * math.log10(1 + hz / 700)

    frequency = torch.linspace(0, config.sample_rate // 2, config.window_length // 2 + 1)
    corner = torch.linspace(mel(config.low_hz), mel(config.high_hz), config.mel_bands + 2)
    corner = 700 * (10 ** (corner / 2595) - 1)
    away, apart = corner[None] - frequency[:, None], corner.diff()
    return torch.minimum(-away[:, :-2] / apart[:-1], away[:, 2:] / apart[1:]).clamp(min=0)


class LogMel(nn.Module):
    """Frames (B, T, window_length) to log-mel spectra (B, 1 + extra_windows, T, mel_bands), 0 for silence, about 1."""

    hann: Tensor
    filters: Tensor

    def __init__(self, config: TranscriberConfig):
        super().__init__()
        self.spread = nn.Parameter(-torch.ones(config.extra_windows))
        self.centre = nn.Parameter(torch.zeros(config.extra_windows))
        self.register_buffer("hann", torch.hann_window(config.window_length), persistent=False)
        self.register_buffer("filters", mel_filters(config), persistent=False)

    def windows(self) -> Tensor:
        """(1 + extra_windows, window_length): Hann's, and Gaussians whose centres and spreads were learned."""
        length = len(self.hann)
        centre, spread = (torch.sigmoid(p)[:, None] * length for p in (self.centre, self.spread))
        gauss = torch.exp(-0.5 * ((torch.arange(length) - centre) / (spread / 2)) ** 2)
        return torch.cat([self.hann[None], gauss])

    def forward(self, frames: Tensor) -> Tensor:
        of_window = []
        for window in self.windows():  # one after another: six spectra at once take six times the memory
            power = torch.fft.rfft(frames * window, norm="ortho").abs().square()
            of_window.append(torch.log(power @ self.filters + EPSILON))
        return 1 - torch.stack(of_window, 1) / math.log(EPSILON)


class Position(nn.Module):
    """Learned features of a place, of one coordinate or two: coordinates (..., n) to (..., width)."""

    def __init__(self, width: int, coordinates: int):
        super().__init__()
        self.phase = nn.Linear(coordinates, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, *axes: Tensor) -> Tensor:
        place = torch.stack(torch.meshgrid(axes, indexing="ij"), -1)
        return self.mlp(torch.cos(self.phase(place)) / math.sqrt(self.phase.out_features / 2))


def rms_norm(x: Tensor) -> Tensor:
    """Divide each vector by its root mean square; nothing is learned."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Attention(nn.Module):
    """x + scale * attention: queries are the normed x, keys and values come from `memory` as it is. (..., n, width)"""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.01))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        def split(of: Tensor) -> Tensor:
            return of.unflatten(-1, (self.heads, -1)).transpose(-2, -3)

        q, k, v = split(self.query(rms_norm(x))), split(self.key(memory)), split(self.value(memory))
        fetched = F.scaled_dot_product_attention(q, k, v).transpose(-2, -3).flatten(-2)
        return x + self.out(fetched) * self.scale


class FeedForward(nn.Module):
    """x + scale * W gelu(W norm(x))."""

    def __init__(self, width: int):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.scale = nn.Parameter(torch.full((width,), 0.01))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(rms_norm(x)) * self.scale


class TranscriberBlock(nn.Module):
    """Attention over bands, then over time; both read the block's input. (B, T, bands, width)"""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.over_bands, self.bands_net = Attention(width, heads), FeedForward(width)
        self.over_time, self.time_net = Attention(width, heads), FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.bands_net(self.over_bands(x, x))
        return self.time_net(self.over_time(h.transpose(1, 2), x.transpose(1, 2))).transpose(1, 2)


class Transcriber(nn.Module):
    """Sound to features of events; `score_intervals` and `describe` read them."""

    def __init__(self, config: TranscriberConfig = TranscriberConfig()):
        super().__init__()
        self.config = c = config
        wide, features = 4 * c.width, c.expansion * c.width
        self.spectrum = LogMel(c)
        self.input_conv = nn.Conv2d(1 + c.extra_windows, c.width, 3, padding=1)
        self.input_position = Position(c.width, 1)

        def conv(of: int, to: int, stride: int | tuple[int, int]) -> list[nn.Module]:
            return [nn.Conv2d(of, to, 3, padding=1, stride=stride), nn.GroupNorm(4, to)]

        self.down = nn.Sequential(
            nn.ZeroPad2d((2, 1, 4, 3)),
            *conv(c.width, 2 * c.width, (2, 1)), nn.GELU(), *conv(2 * c.width, wide, 2), nn.GELU(),
            *conv(wide, wide, 2), nn.GELU(), *conv(wide, wide, 1),
        )  # fmt: skip
        self.band_position, self.event_position = Position(wide, 2), Position(wide, 2)
        self.blocks = nn.ModuleList(TranscriberBlock(wide, c.heads) for _ in range(c.depth))
        self.up = nn.ConvTranspose1d(wide, features, PATCH_FRAMES, stride=PATCH_FRAMES)
        self.scorer = nn.Linear(features, 2 * features + 1)
        self.velocity, self.edges = (
            nn.Sequential(nn.Linear(3 * features, c.hidden), nn.GELU(), nn.Linear(c.hidden, size)) for size in (128, 4)
        )

    def frames(self, samples: Tensor) -> Tensor:
        """(T, window_length) of sound (num_samples,), frame i around sample i * hop_length; mean 0, deviation 1."""
        hop, window = self.config.hop_length, self.config.window_length
        count = math.ceil(len(samples) / hop) + 1
        padded = F.pad(samples, (window // 2, (count - 1) * hop + window // 2 - len(samples)))
        frames = padded.unfold(0, window, hop)
        return (frames - frames.mean()) / (frames.std() + 1e-8)

    def forward(self, samples: Tensor) -> Tensor:
        """(90, T, features) of sound (num_samples,), T = ceil(num_samples / hop_length) + 1."""
        spectra = self.spectrum(self.frames(samples)[None])
        count, bands = spectra.shape[-2:]
        place = self.input_position(torch.arange(bands).float())
        h = self.down(self.input_conv(spectra) + place.T[:, None])
        h = F.pad(h.permute(0, 2, 3, 1), (0, 0, 1, 0, 1, 0))  # a token for all bands, and one for all times
        time, band = (torch.arange(n).float() for n in h.shape[1:3])
        events = self.event_position(time, torch.tensor(EVENTS).float())
        tokens = torch.cat([h + self.band_position(time, band), events[None]], -2)
        for block in self.blocks:
            tokens = block(tokens)
        of_events = tokens[0, 1:, -len(EVENTS) :].permute(1, 2, 0)
        return self.up(of_events)[..., :count].transpose(1, 2)

    def score_intervals(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(90, T, T) score of an event from frame i to a later frame j, and (90, T) of one within a frame."""
        size = features.shape[-1]
        end, begin, alone = self.scorer(features).split([size, size, 1], -1)
        frame = torch.arange(features.shape[1])
        score = begin @ (end / math.sqrt(size)).transpose(1, 2)
        return score.mul_((frame[None] - frame[:, None]).abs()), alone[..., 0]

    def describe(self, begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What events are, from the features (n, features) of their first and last frames.

        returns  velocity (n,); how many frames begin and end lie off theirs (n, 2), -0.5 to 0.5; whether each of the
                 two lies within the window (n, 2), to be asked only of events at a window's edge
        """
        pair = torch.cat([begin, end, begin * end], -1)
        off, within = self.edges(pair).chunk(2, -1)
        mean = torch.distributions.ContinuousBernoulli(logits=off).mean
        return self.velocity(pair).argmax(-1), ((mean - 0.5) / 0.99).clamp(-0.5, 0.5), within > 0
