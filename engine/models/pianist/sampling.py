"""Sampling of the Pianist: windows over a score, Euler steps of the flow, and the style of a performance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.models.pianist.features import DYNAMICS, MARKED, STRUCTURE, Features
from engine.models.pianist.pianist import (
    CHANNELS,
    EXPECTED,
    PEDAL,
    TEMPO,
    TEMPO_CENTRE,
    TEMPO_SCALE,
    VELOCITY,
    Pianist,
    to_channels,
)
from engine.music.types import PEDAL_SAMPLES, Expression
from engine.progress import ProgressCallback

MAX_TEMPO_SHIFT = 0.06  # octaves by which dynamic signs may move the tempo: loud pieces are fast, a sign alone is not


@dataclass(frozen=True)
class FlowSampling:
    """Settings of sampling.

    steps       Euler steps of the flow
    guidance    classifier-free guidance on z_p; 1 is off
    looseness   (8,) per channel: 0 has the shape of the expected values, 1 is a full random sample
    gain        (8,) per channel: scale of the deviation from the running mean, 1 is that of a sample
    """

    steps: int = 8
    guidance: float = 1.0
    looseness: tuple[float, ...] = (0.3, 0.3, 1.0, 0.5, 0.9, 0.9, 0.9, 0.9)
    gain: tuple[float, ...] = (1.0,) * CHANNELS


def base_channels(expected: NDArray | None, n: int) -> NDArray[np.float32]:
    """(n, 8): expected values (n, 3) in their channels, 0 elsewhere; all 0 without."""
    out = np.zeros((n, CHANNELS), np.float32)
    if expected is not None:
        out[:, EXPECTED] = expected
    return out


def windows(n: int, size: int, hop: int) -> list[tuple[int, int]]:
    """Overlapping spans that cover n notes; the last one ends at n."""
    if n <= size:
        return [(0, n)]
    starts = [*range(0, n - size, hop), n - size]
    return [(s, s + size) for s in starts]


def render_windows(n: int, size: int) -> list[tuple[int, int]]:
    """The windows of a score of n notes, which overlap by a third."""
    return windows(n, size, size * 2 // 3)


def noise(features: Features, seed: int) -> NDArray[np.float32]:
    """Starting noise (n, 8): one draw per note, but one per beat for the tempo and one per chord for the pedal."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((len(features), CHANNELS)).astype(np.float32)
    x[:, TEMPO] = rng.standard_normal(features.beat_index.max() + 1)[features.beat_index]
    x[:, PEDAL] = rng.standard_normal((features.chord_index.max() + 1, PEDAL_SAMPLES))[features.chord_index]
    return x


class EncodedScore:
    """A score encoded by the Pianist in windows, to be performed in any style. Windows overlap by a third and every
    Euler step averages their fields (MultiDiffusion, Bar-Tal et al. 2023), which avoids seams. Encoding costs as much
    as a few steps; a slider only calls `play`.
    """

    @torch.inference_mode()
    def __init__(self, model: Pianist, features: Features, expected: NDArray | None = None):
        """expected  (n, 3) expected channel values, which a model of the residual needs."""
        model.eval()
        self.model, self.features = model, features
        self.base = torch.from_numpy(base_channels(expected, len(features)))
        n, size = len(features), model.config.window
        spans = render_windows(n, size)
        length = min(size, n)
        self.index = torch.tensor([[s + k for k in range(length)] for s, _ in spans])
        ramp = 1.0 - (2 * (torch.arange(length) + 0.5) / length - 1).abs() + 1e-3
        self.ramp = ramp.expand(len(spans), -1)
        self.weight = torch.zeros(n).index_add_(0, self.index.flatten(), self.ramp.flatten())
        self.valid = torch.ones(len(spans), length, dtype=torch.bool)
        self.angle = model.angles(torch.from_numpy(features.onset_beat)[self.index])
        category, value = torch.from_numpy(features.category)[self.index], torch.from_numpy(features.value)[self.index]
        self.given = () if expected is None else (self.base[:, EXPECTED][self.index],)
        self.hidden = _batched(model.read, category, value, self.angle, self.valid, *self.given)
        self._default: tuple[int, NDArray[np.float32]] | None = None  # seed and expected values in the default style

    def _field(self, x: Tensor, t: float, style: Tensor, known_x: Tensor, known: Tensor) -> Tensor:
        """The flow's field over the whole piece, (n, 8)."""
        k = len(self.index)
        v = _batched(
            self.model.velocity_field, self.hidden, x[self.index], torch.full((k,), t), style.expand(k, -1),
            known_x[self.index], known[self.index], self.angle, self.valid,
        )  # fmt: skip
        out = torch.zeros_like(x).index_add_(0, self.index.flatten(), (v * self.ramp[..., None]).reshape(-1, CHANNELS))
        return _tie(out / self.weight[:, None], self.features)

    @torch.inference_mode()
    def play(
        self, z: NDArray, seed: int = 0, sampling: FlowSampling = FlowSampling(), known_x: NDArray | None = None,
        known: NDArray | None = None, progress: ProgressCallback | None = None,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Channel values (n, 8) of the whole score in style z (Z,); the same seed gives the same notes.

        known_x  (n, 8) and known (n,) bool: notes to keep exactly; the others are sampled given them
        progress  called with the finished share, 0..1; an exception it raises stops the rendering
        """
        given = None if known_x is None else np.array(known_x, np.float32)
        expected, sample = self.draw(z, seed, sampling, given, known, progress)
        if len(self.index) == 1:  # the gain compensates the smoothing by averaged windows; a single one is not averaged
            gain = list(sampling.gain)
            gain[VELOCITY] = 1 + (gain[VELOCITY] - 1) / 6
            sampling = replace(sampling, gain=tuple(gain))
        out = mix(self.features, expected, sample, sampling)
        if given is not None and known is not None:
            out[known] = given[known]
        return out

    @torch.inference_mode()
    def level(self, most: int = 8) -> float:
        """log2 seconds a felt beat in the default style: mean over up to `most` windows.

        The dynamics move it by at most MAX_TEMPO_SHIFT.
        """
        model, f = self.model, self.features
        value = f.value.copy()
        value[:, [(*STRUCTURE, *MARKED).index(name) for name in DYNAMICS]] = 0
        k = np.unique(np.linspace(0, len(self.index) - 1, min(len(self.index), most)).astype(int))
        index, angle, valid = self.index[k], self.angle[k], self.valid[k]
        given = (g[k] for g in self.given)
        hidden = model.read(torch.from_numpy(f.category)[index], torch.from_numpy(value)[index], angle, valid, *given)
        start = torch.from_numpy(noise(f, 0))[index]
        style = torch.zeros(len(k), model.config.style_size + 1)
        style[:, -1] = 1
        none, zero = torch.zeros(index.shape, dtype=torch.bool), torch.zeros(len(k))

        def mean(h: Tensor) -> float:
            field = model.velocity_field(h, start, zero, style, torch.zeros_like(start), none, angle, valid)
            return float((self.base[index] + start + field)[..., TEMPO].mean()) * TEMPO_SCALE + TEMPO_CENTRE

        plain = mean(hidden)
        return plain + float(np.clip(mean(self.hidden[k]) - plain, -MAX_TEMPO_SHIFT, MAX_TEMPO_SHIFT))

    @torch.inference_mode()
    def expected(self, z: NDArray, seed: int) -> NDArray[np.float32]:
        """The expected values (n, 8) of style z (Z,), as the first of `draw`, without drawing."""
        n = len(self.features)
        style = torch.from_numpy(np.append(z, 1.0).astype(np.float32))[None]
        start = torch.from_numpy(noise(self.features, seed))
        nothing = torch.zeros(n, dtype=torch.bool)
        return (self.base + start + self._field(start, 0.0, style, torch.zeros(n, CHANNELS), nothing)).numpy()

    def default(self, seed: int) -> NDArray[np.float32]:
        """`expected` in the default style; those of the last seed are cached, because every slider step needs them."""
        known = self._default
        if known is None or known[0] != seed:
            known = self._default = seed, self.expected(np.zeros(self.model.config.style_size), seed)
        return known[1]

    @torch.inference_mode()
    def draw(
        self, z: NDArray, seed: int, sampling: FlowSampling, known_x: NDArray | None = None,
        known: NDArray | None = None, progress: ProgressCallback | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:  # fmt: skip
        """The expected values (the flow's field at t = 0) and one random sample, each (n, 8); `mix` joins them."""
        n = len(self.features)
        kept = torch.zeros(n, dtype=torch.bool) if known is None else torch.from_numpy(np.array(known, bool))
        given = torch.zeros(n, CHANNELS) if known_x is None else torch.from_numpy(known_x) - self.base
        style = torch.from_numpy(np.append(z, 1.0).astype(np.float32))[None]

        def field(x: Tensor, t: float) -> Tensor:
            v = self._field(x, t, style, given, kept)
            if sampling.guidance != 1.0:
                base = self._field(x, t, torch.zeros_like(style), given, kept)
                v = base + sampling.guidance * (v - base)
            return v

        start = torch.from_numpy(noise(self.features, seed))
        first = field(start, 0.0)
        x = start
        for k in range(sampling.steps):
            x = x + (first if k == 0 else field(x, k / sampling.steps)) / sampling.steps
            if progress is not None:
                progress((k + 1) / sampling.steps)
        return (self.base + start + first).numpy(), (self.base + x).numpy()


def mix(features: Features, expected: NDArray, sample: NDArray, sampling: FlowSampling) -> NDArray[np.float32]:
    """Interpolate expected values and a sample per channel, (n, 8). Expected values have the right shape but too little
    variance, a sample the right variance: the deviation of the mixture from its running mean is scaled to the sample's,
    times `gain`.
    """
    loose, gain = np.array(sampling.looseness, np.float32), np.array(sampling.gain, np.float32)
    mixed = expected + loose * (sample - expected)
    centre, sample_centre = (_smooth(torch.from_numpy(x), features).numpy() for x in (mixed, sample))
    moved, wanted = (np.sqrt(((x - c) ** 2).mean(0)) for x, c in ((mixed, centre), (sample, sample_centre)))
    scale = gain * np.clip(wanted / np.maximum(moved, 1e-6), 0.5, 3.0)
    return _tie(torch.from_numpy(centre + scale * (mixed - centre)), features).numpy()


@torch.inference_mode()
def encode_style(
    model: Pianist, features: Features, expression: Expression, max_windows: int = 24, expected: NDArray | None = None
) -> NDArray[np.float32]:
    """z_p of a performance, (Z,): the encoder's mean, averaged over up to `max_windows` of its windows.

    expected  (n, 3) expected channel values, which a model of the residual needs
    """
    model.eval()
    base = torch.from_numpy(base_channels(expected, len(features)))
    x = torch.from_numpy(to_channels(expression)) - base
    played = torch.from_numpy(np.array(expression.played))
    out = []
    spans = windows(len(features), model.config.window, model.config.window // 2)
    spans = [spans[i] for i in np.unique(np.linspace(0, len(spans) - 1, min(len(spans), max_windows)).astype(int))]
    for s, e in spans:
        angle = model.angles(torch.from_numpy(features.onset_beat[None, s:e]))
        valid = torch.ones(1, e - s, dtype=torch.bool)
        value = torch.from_numpy(features.value[None, s:e])
        given = () if expected is None else (base[None, s:e][..., EXPECTED],)
        h = model.read(torch.from_numpy(features.category[None, s:e]), value, angle, valid, *given)
        context = model.style_context(h, value)
        out.append(model.style(context, x[None, s:e], played[None, s:e], angle, valid)[0][0])
    return torch.stack(out).mean(0).numpy()


def _batched(fn: Callable[..., Tensor], *args: Tensor, size: int = 8) -> Tensor:
    """Apply fn over slices of the first axis, to keep memory small on long scores."""
    return torch.cat([fn(*(a[i : i + size] for a in args)) for i in range(0, len(args[0]), size)])


def _group_mean(x: Tensor, index: NDArray) -> Tensor:
    i = torch.from_numpy(np.ascontiguousarray(index))
    count = torch.bincount(i).clamp(min=1).to(x.dtype)
    total = torch.zeros((len(count), x.shape[1]), dtype=x.dtype).index_add_(0, i, x)
    return (total / count[:, None])[i]


def _tie(x: Tensor, features: Features) -> Tensor:
    """Average the tempo per beat and the pedal per chord."""
    x = x.clone()
    x[:, TEMPO : TEMPO + 1] = _group_mean(x[:, TEMPO : TEMPO + 1], features.beat_index)
    x[:, PEDAL] = _group_mean(x[:, PEDAL], features.chord_index)
    return x


def _smooth(x: Tensor, features: Features, width_beats: float = 64.0) -> Tensor:
    """Running mean over `width_beats` either side: the centre of the gain."""
    onset = features.onset_beat
    low = torch.from_numpy(np.searchsorted(onset, onset - width_beats, side="left"))
    high = torch.from_numpy(np.searchsorted(onset, onset + width_beats, side="right"))
    total = torch.cat([torch.zeros(1, x.shape[1]), x.double().cumsum(0).float()])
    return (total[high] - total[low]) / (high - low)[:, None]
