"""Curves of DDSP-Piano to sound at 16 kHz: stiff strings as sums of cosines, and filtered noise. Streamed."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.models.ddsp_piano.network import Curves, DdspPiano

SAMPLE_RATE, HOP = 16000, 64  # 250 frames a second
SILENT = 3e-6  # an amplitude below it, -110 dB, is not computed
LATENCY = 61  # samples by which the sound is late: the delay of the noise filters, which the strings wait for


class Synthesiser:
    """Sound of one performance. Frame i of the curves is at sample 64 i; the sound between two frames needs both.

    groups  number of groups of notes, each of which has its own output

    The noise of a group's voices is drawn at once, with the root of their summed squares: independent noises of the
    same spectrum sound the same.
    """

    def __init__(
        self, model: DdspPiano, piano: int, cents: Tensor | None = None, groups: int = 1, seed: int = 0
    ) -> None:
        config = model.config
        self._groups = groups
        self._phase = torch.zeros(config.voices, 2, config.partials, dtype=torch.float64)  # turns, at the next frame
        self._of_key = _turns_of_keys(model, piano, cents)
        self._random = torch.Generator().manual_seed(seed)
        self._left: tuple[Tensor, ...] | None = None
        taps = 2 * (config.noise_bands - 1)
        self._window = torch.hann_window(taps).roll(taps // 2)
        self._tail, self._late = torch.zeros(groups, taps - 1), torch.zeros(groups, LATENCY)

    @torch.inference_mode()
    def push(self, curves: Curves, group: Tensor, last: bool = False) -> Tensor:
        """(groups, 64 (G - 1)) samples, G frames with the one left over; 64 G samples with `last`.

        group  (G, V) the group of each voice's note in each frame
        """
        given = (*(getattr(curves, f) for f in _FIELDS), group)
        if self._left is not None:
            given = tuple(torch.cat(pair) for pair in zip(self._left, given, strict=True))
        if last and len(given[0]):
            given = tuple(torch.cat([x, x[-1:]]) for x in given)
        self._left = tuple(x[-1:] for x in given)
        if len(given[0]) < 2:
            return torch.zeros(self._groups, 0)
        curves, group = Curves(*given[:-1]), given[-1]
        strings = torch.cat([self._late, self._strings(curves, group)], 1)
        self._late = strings[:, -LATENCY:]
        return strings[:, :-LATENCY] + self._noise(curves, group)

    def _strings(self, curves: Curves, group: Tensor) -> Tensor:
        """(groups, 64 (G - 1)) sum of the partials."""
        key = curves.pitch.long()  # a whole number
        below = self._of_key[:, 0] < 0.5
        share = curves.partials * below[key]
        share = share / share.sum(-1, keepdim=True).clamp(min=1e-7)
        level = (share * (curves.amplitude * (curves.pitch > 0))[..., None] / 2).float()
        frames = len(key) - 1
        sound = torch.zeros(self._groups * frames, HOP)
        for voice in range(key.shape[1]):
            turns = self._of_key[key[:, voice]]  # (G, 2, K)
            # linear from frame to frame: samples 0 to 63 of a frame advance by its sum
            rise = turns[1:] - turns[:-1]
            steps = HOP * turns[:-1] + rise * ((HOP - 1) / 2)
            at = torch.cat([self._phase[voice][None], self._phase[voice] + steps.cumsum(0)]).remainder(1)
            self._phase[voice] = at[-1]
            row = group[:-1, voice] * frames + torch.arange(frames)
            self._add(sound, row, level[:, voice], turns, rise, at)
        return sound.view(self._groups, -1)

    def _add(self, sound: Tensor, row: Tensor, level: Tensor, turns: Tensor, rise: Tensor, at: Tensor) -> None:
        """Add a voice, computing only frames and partials that sound; frame i is added to row[i] of the sound."""
        peak = torch.maximum(level[:-1], level[1:])
        frame, partial = torch.nonzero(peak > SILENT, as_tuple=True)
        if not len(frame):
            return
        n = torch.arange(HOP)
        fade = 0.5 + 0.5 * torch.cos(math.pi * n / HOP)
        start, speed, bend = at[frame, :, partial], turns[frame, :, partial], rise[frame, :, partial]  # (n, 2)
        # two strings: cos a + cos b = 2 cos((a + b) / 2) cos((a - b) / 2), whose second factor is slow
        apart = (start[:, 0] - start[:, 1]) / 2
        further = (HOP * speed + bend * ((HOP - 1) / 2)) @ _HALVES
        beats = (torch.cos(2 * math.pi * x).float() for x in (apart, apart + further))
        first, second = (2 * level[frame + i, partial] * beat for i, beat in enumerate(beats))
        height = second[:, None] + (first - second)[:, None] * fade
        begin, step, curve = (x.mean(1).float()[:, None] for x in (start, speed, bend))
        turned = begin + step * n + curve * (n * (n - 1) / (2 * HOP))
        sound.index_add_(0, row[frame], height * torch.cos(2 * math.pi * turned))

    def _noise(self, curves: Curves, group: Tensor) -> Tensor:
        """(groups, 64 (G - 1)) filtered noise."""
        frames = len(curves.pitch) - 1
        power = (curves.noise * (curves.pitch > 0)[..., None])[:-1].square()
        of_group = group[:-1, :, None] == torch.arange(self._groups)  # (G - 1, V, groups)
        magnitude = torch.einsum("fvb,fvg->gfb", power, of_group.float()).sqrt()
        response = (torch.fft.irfft(magnitude) * self._window).roll(len(self._window) // 2, -1)  # centred
        drawn = 2 * torch.rand(frames, self._groups, HOP, generator=self._random) - 1
        size = 256
        pieces = torch.fft.irfft(torch.fft.rfft(drawn.transpose(0, 1), size) * torch.fft.rfft(response, size))
        width = HOP + len(self._window) - 1
        whole = F.fold(
            pieces[..., :width].transpose(1, 2), (1, HOP * (frames - 1) + width), (1, width), stride=(1, HOP)
        ).flatten(1)
        whole[:, : self._tail.shape[1]] += self._tail
        made, self._tail = whole[:, : HOP * frames], whole[:, HOP * frames :]
        return made


_HALVES = torch.tensor([0.5, -0.5], dtype=torch.float64)
_FIELDS = ("pitch", "amplitude", "partials", "noise")


@torch.inference_mode()
def _turns_of_keys(model: DdspPiano, piano: int, cents: Tensor | None) -> Tensor:
    """(128, 2, K) turns a sample of the partials of both strings of each key."""
    keys, order = torch.arange(128.0), torch.arange(1, model.config.partials + 1, dtype=torch.float64)
    stretch = (1 + model.inharmonicity(keys, piano).double()[:, None] * order**2).sqrt()
    return model.strings_hz(keys, piano, cents).double()[:, :, None] * order * stretch[:, None] / SAMPLE_RATE
