"""Curves of DDSP-Piano to sound at 16 kHz: stiff strings as sums of cosines, and filtered noise. Streamed."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.models.ddsp_piano.network import Curves, DdspPiano

SAMPLE_RATE, HOP = 16000, 64  # 250 frames a second
SILENT = 1e-6  # an amplitude below it, -120 dB, is not computed
LATENCY = 61  # samples by which the sound is late: the delay of the noise filters, which the strings wait for


class Synthesiser:
    """Sound of one performance. Frame i of the curves is at sample 64 i; the sound between two frames needs both.

    The noise of all voices is drawn at once, with the root of their summed squares: independent noises of the same
    spectrum sound the same.
    """

    def __init__(self, model: DdspPiano, piano: int, cents: Tensor | None = None, seed: int = 0) -> None:
        config = model.config
        self._phase = torch.zeros(config.voices, 2, config.partials, dtype=torch.float64)  # turns, at the next frame
        self._of_key = _turns_of_keys(model, piano, cents)
        self._random = torch.Generator().manual_seed(seed)
        self._left: Curves | None = None
        taps = 2 * (config.noise_bands - 1)
        self._window = torch.hann_window(taps).roll(taps // 2)
        self._tail, self._late = torch.zeros(taps - 1), torch.zeros(LATENCY)

    @torch.inference_mode()
    def push(self, curves: Curves, last: bool = False) -> Tensor:
        """(64 (G - 1),) samples, G frames with the one left over; 64 G samples with `last`."""
        if self._left is not None:
            curves = Curves(*(torch.cat([getattr(self._left, f), getattr(curves, f)]) for f in _FIELDS))
        if last and len(curves.pitch):
            curves = Curves(*(torch.cat([getattr(curves, f), getattr(curves, f)[-1:]]) for f in _FIELDS))
        self._left = Curves(*(getattr(curves, f)[-1:] for f in _FIELDS))
        if len(curves.pitch) < 2:
            return torch.zeros(0)
        strings = torch.cat([self._late, self._strings(curves)])
        self._late = strings[-LATENCY:]
        return strings[:-LATENCY] + self._noise(curves)

    def _strings(self, curves: Curves) -> Tensor:
        """(64 (G - 1),) sum of the partials."""
        key = curves.pitch.long()  # a whole number
        below = self._of_key[:, 0] < 0.5
        share = curves.partials * below[key]
        share = share / share.sum(-1, keepdim=True).clamp(min=1e-7)
        level = (share * (curves.amplitude * (curves.pitch > 0))[..., None] / 2).float()
        sound = torch.zeros(len(key) - 1, HOP)
        for voice in range(key.shape[1]):
            turns = self._of_key[key[:, voice]]  # (G, 2, K)
            # linear from frame to frame: samples 0 to 63 of a frame advance by its sum
            rise = turns[1:] - turns[:-1]
            steps = HOP * turns[:-1] + rise * ((HOP - 1) / 2)
            at = torch.cat([self._phase[voice][None], self._phase[voice] + steps.cumsum(0)]).remainder(1)
            self._phase[voice] = at[-1]
            self._add(sound, level[:, voice], turns, rise, at)
        return sound.flatten()

    def _add(self, sound: Tensor, level: Tensor, turns: Tensor, rise: Tensor, at: Tensor) -> None:
        """Add a voice, computing only frames and partials that sound."""
        peak = torch.maximum(level[:-1], level[1:])
        frame, partial = torch.nonzero(peak > SILENT, as_tuple=True)
        if not len(frame):
            return
        n = torch.arange(HOP)
        fade = 0.5 + 0.5 * torch.cos(math.pi * n / HOP)
        height = level[frame, partial, None] * fade + level[frame + 1, partial, None] * (1 - fade)
        wave = torch.zeros(len(frame), HOP)
        for string in range(2):
            start, speed = at[frame, string, partial].float(), turns[frame, string, partial].float()
            bend = rise[frame, string, partial].float()
            turned = start[:, None] + speed[:, None] * n + bend[:, None] * (n * (n - 1) / (2 * HOP))
            wave += torch.cos(2 * math.pi * turned)
        sound.index_add_(0, frame, height * wave)

    def _noise(self, curves: Curves) -> Tensor:
        """(64 (G - 1),) filtered noise."""
        frames = len(curves.pitch) - 1
        magnitude = (curves.noise * (curves.pitch > 0)[..., None])[:-1].square().sum(1).sqrt()
        response = (torch.fft.irfft(magnitude) * self._window).roll(len(self._window) // 2, -1)  # centred
        drawn = 2 * torch.rand(frames, HOP, generator=self._random) - 1
        size = 256
        pieces = torch.fft.irfft(torch.fft.rfft(drawn, size) * torch.fft.rfft(response, size))
        width = HOP + len(self._window) - 1
        whole = F.fold(
            pieces[:, :width].T[None], (1, HOP * (frames - 1) + width), (1, width), stride=(1, HOP)
        ).flatten()
        whole[: len(self._tail)] += self._tail
        made, self._tail = whole[: HOP * frames], whole[HOP * frames :]
        return made


_FIELDS = ("pitch", "amplitude", "partials", "noise")


@torch.inference_mode()
def _turns_of_keys(model: DdspPiano, piano: int, cents: Tensor | None) -> Tensor:
    """(128, 2, K) turns a sample of the partials of both strings of each key."""
    keys, order = torch.arange(128.0), torch.arange(1, model.config.partials + 1, dtype=torch.float64)
    stretch = (1 + model.inharmonicity(keys, piano).double()[:, None] * order**2).sqrt()
    return model.strings_hz(keys, piano, cents).double()[:, :, None] * order * stretch[:, None] / SAMPLE_RATE
