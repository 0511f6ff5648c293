"""SEANet: the convolutional encoder and decoder of EnCodec, 640 samples a frame.

Tagliasacchi et al. 2020 (arXiv 2009.02095) in the shape of EnCodec (Défossez et al. 2022, arXiv 2210.13438, section
3.1) and of the 32 kHz codec of MusicGen. Parameter names are those of audiocraft's codecs:
`encoder.model.0.conv.conv.weight_g` and so on.

Not causal, but local: a frame of sound depends on four frames of codes on each side (and on all previous frames through
an optional LSTM, whose state is passed on). So long sound is processed in chunks with identical results.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ENCODER_CONTEXT = 1  # receptive field per side, in frames, of the encoder's convolutions
HEAD_CONTEXT = 3  # per side, of the decoder's first convolution
TAIL_CONTEXT = 1  # per side, of the layers after the decoder's LSTM

ELU_GAIN = 1.55  # 1 / mean square of ELU(x) for normal x

State = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class SEANetConfig:
    """The shape of encoder and decoder.

    filters      channels at the sample rate; doubled at every stage
    ratios       strides of the decoder's stages; the encoder has them in the opposite order
    dimension    channels of the latent
    lstm_layers  at the frame rate; 0 for none
    padding      "constant" (audiocraft) or "reflect", at the ends of the sound
    """

    filters: int = 64
    ratios: tuple[int, ...] = (8, 5, 4, 4)
    dimension: int = 128
    lstm_layers: int = 2
    padding: str = "constant"

    def __post_init__(self) -> None:
        if self.padding not in ("constant", "reflect"):
            raise ValueError(f'padding is {self.padding!r}; "constant" or "reflect" is accepted')

    @property
    def hop_length(self) -> int:
        return math.prod(self.ratios)


class NormedWeight(nn.Module):
    """The weight of a convolution as direction and length, w = g v / |v| (Salimans and Kingma 2016), and a bias.

    The first axis is kept: output channels of a convolution, input channels of a transposed one. The initialisation
    preserves the power of the signal through the ELU. With torch's default initialisation the signal after the
    encoder's fourteen convolutions is a thousandth of the input, and training needs thousands of steps to recover it.
    """

    def __init__(self, shape: tuple[int, int, int], out_channels: int, fan_in: int) -> None:
        super().__init__()
        bound = math.sqrt(3 * ELU_GAIN / fan_in)
        self.weight_v = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.weight_g = nn.Parameter(self.weight_v.detach().flatten(1).norm(dim=1)[:, None, None])
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def weight(self) -> Tensor:
        length = self.weight_v.flatten(1).norm(dim=1)[:, None, None]
        return self.weight_v * (self.weight_g / length)


class Conv(nn.Module):
    """A convolution that keeps ceil(T / stride) steps: (B, C, T) -> (B, out, ceil(T / stride))."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, padding: str = "constant") -> None:
        super().__init__()
        self.conv = nn.ModuleDict({"conv": NormedWeight((out, channels, kernel), out, channels * kernel)})
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        inner: NormedWeight = self.conv["conv"]  # type: ignore[assignment]
        total = self.kernel - self.stride
        right = total // 2
        right_more = -x.shape[-1] % self.stride  # the last window is full
        sides = (total - right, right + right_more)
        mode = self.padding if x.shape[-1] > max(sides) else "constant"
        return F.conv1d(F.pad(x, sides, mode=mode), inner.weight(), inner.bias, self.stride)


class ConvTranspose(nn.Module):
    """A transposed convolution: (B, C, T) -> (B, out, T * stride)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        kernel = 2 * stride
        self.convtr = nn.ModuleDict({"convtr": NormedWeight((channels, out, kernel), out, 2 * channels)})
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        inner: NormedWeight = self.convtr["convtr"]  # type: ignore[assignment]
        y = F.conv_transpose1d(x, inner.weight(), inner.bias, self.stride)
        left = self.stride - self.stride // 2
        return y[..., left : left + x.shape[-1] * self.stride]


class ResidualUnit(nn.Module):
    """x + conv1(ELU(conv3(ELU(x)))) with half the channels inside."""

    def __init__(self, channels: int, padding: str) -> None:
        super().__init__()
        half = channels // 2
        self.block = nn.Sequential(
            nn.ELU(), Conv(channels, half, 3, padding=padding), nn.ELU(), Conv(half, channels, 1, padding=padding)
        )
        with torch.no_grad():
            self.block[3].conv["conv"].weight_g.mul_(0.5)  # type: ignore[index, union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class SkipLSTM(nn.Module):
    """x + LSTM(x) over (B, C, T); with an explicit state."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, None)[0]

    def run(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        steps = x.permute(2, 0, 1)
        y, last = self.lstm(steps, state)
        return (y + steps).permute(1, 2, 0), last


class SEANetEncoder(nn.Module):
    """Sound to latent: (B, 1, T) -> (B, dimension, ceil(T / hop_length))."""

    def __init__(self, config: SEANetConfig) -> None:
        super().__init__()
        widths = [config.filters * 2**i for i in range(len(config.ratios) + 1)]
        layers: list[nn.Module] = [Conv(1, widths[0], 7, padding=config.padding)]
        for ratio, (inside, outside) in zip(reversed(config.ratios), pairwise(widths)):
            layers += [ResidualUnit(inside, config.padding), nn.ELU()]
            layers += [Conv(inside, outside, 2 * ratio, ratio, config.padding)]
        self.local = len(layers)  # layers before the LSTM
        layers += [SkipLSTM(widths[-1], config.lstm_layers)] if config.lstm_layers else []
        layers += [nn.ELU(), Conv(widths[-1], config.dimension, 7, padding=config.padding)]
        self.model, self.hop_length = nn.Sequential(*layers), config.hop_length

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def chunked(self, x: Tensor, chunk: int) -> Tensor:
        """The same as forward, with convolutions over `chunk` frames at a time, to limit memory."""
        front, back, hop = self.model[: self.local], self.model[self.local :], self.hop_length
        frames = -(-x.shape[-1] // hop)
        parts = []
        for start in range(0, frames, chunk):
            left, stop = max(0, start - ENCODER_CONTEXT), min(frames, start + chunk)
            y = front(x[..., left * hop : (stop + ENCODER_CONTEXT) * hop])
            parts.append(y[..., start - left : stop - left])
        return back(torch.cat(parts, -1))


class SEANetDecoder(nn.Module):
    """Latent to sound: (B, dimension, F) -> (B, 1, F * hop_length)."""

    def __init__(self, config: SEANetConfig) -> None:
        super().__init__()
        widths = [config.filters * 2**i for i in range(len(config.ratios), -1, -1)]
        layers: list[nn.Module] = [Conv(config.dimension, widths[0], 7, padding=config.padding)]
        layers += [SkipLSTM(widths[0], config.lstm_layers)] if config.lstm_layers else []
        self.recurrent = len(layers)  # where the tail begins
        for ratio, (inside, outside) in zip(config.ratios, pairwise(widths)):
            layers += [nn.ELU(), ConvTranspose(inside, outside, ratio), ResidualUnit(outside, config.padding)]
        layers += [nn.ELU(), Conv(widths[-1], 1, 7, padding=config.padding)]
        self.model, self.hop_length = nn.Sequential(*layers), config.hop_length
        with torch.no_grad():
            layers[-1].conv["conv"].weight_g.mul_(0.1)  # type: ignore[index, union-attr]  # it begins as soft as music is

    def forward(self, z: Tensor) -> Tensor:
        return self.model(z)

    def head(self, z: Tensor) -> Tensor:
        """The first convolution, without the LSTM: (B, dimension, F) -> (B, C, F)."""
        return self.model[0](z)

    def recur(self, h: Tensor, state: State | None) -> tuple[Tensor, State | None]:
        """The LSTM over the next frames; returns (B, C, F) and the new state."""
        lstm = self.model[1]
        return lstm.run(h, state) if isinstance(lstm, SkipLSTM) else (h, None)

    def tail(self, h: Tensor, start: int, stop: int) -> Tensor:
        """Frames start to stop of the sound, from (B, C, F) with up to TAIL_CONTEXT frames around them.

        returns (B, 1, (stop - start) * hop_length)
        """
        left, right = max(0, start - TAIL_CONTEXT), min(h.shape[-1], stop + TAIL_CONTEXT)
        y = self.model[self.recurrent :](h[..., left:right])
        return y[..., (start - left) * self.hop_length : (stop - left) * self.hop_length]

    def chunked(self, z: Tensor, chunk: int) -> Tensor:
        """The same as forward, `chunk` frames at a time: less memory, and faster, since activations stay in cache."""
        h = self.recur(self.head(z), None)[0]
        frames = z.shape[-1]
        return torch.cat([self.tail(h, at, min(frames, at + chunk)) for at in range(0, frames, chunk)], -1)
