"""The networks of DDSP-Piano, inference only, as a stream: notes of 16 voices to curves of partials and noise.

After Renault, Mignot and Roebel, "Differentiable Piano Model for MIDI-to-Audio Performance Synthesis", DAFx 2022, and
the code of github.com/lrenault/ddsp-piano (Apache-2.0). The published networks normalise over a whole sequence, three
seconds in training. Here the statistics are those of the three seconds around each frame, so that a long piece is
rendered in parts without seams and as the networks were trained.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RELEASE = 250  # frames for which a note that has ended keeps its pitch: a second
AROUND = 375  # frames on each side whose statistics normalise a frame
EPSILON = 1e-5


@dataclass(frozen=True)
class DdspPianoConfig:
    """Shapes. Frame rate 250 Hz, sound at 16 kHz."""

    pianos: int = 10
    voices: int = 16
    piano_code: int = 16
    context: int = 32
    context_hidden: int = 64
    voice_dense: int = 128
    voice_hidden: int = 192
    partials: int = 96
    noise_bands: int = 64
    room_samples: int = 24000

    def to_json(self) -> dict[str, int]:
        """The fields, for config.json."""
        return asdict(self)


class LocalNorm(nn.Module):
    """Normalisation over frames and channels together, with the statistics of the frames around each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))


class NormStream:
    """LocalNorm of a sequence that comes in parts. The output is AROUND frames late."""

    def __init__(self, norm: LocalNorm) -> None:
        self._norm, self._x, self._first = norm, None, 0  # _first: frame of _x that comes out next

    def push(self, x: Tensor, last: bool = False) -> Tensor:
        """(F, N, C) -> the frames (G, N, C) whose surroundings are known; all that are left with `last`."""
        self._x = x if self._x is None else torch.cat([self._x, x])
        count = len(self._x)
        end = count if last else max(count - AROUND, self._first)
        at = torch.arange(self._first, end)
        low, high = (at - AROUND).clamp(min=0), (at + AROUND + 1).clamp(max=count)
        moments = torch.stack([self._x.mean(-1), self._x.square().mean(-1)]).double()
        sums = F.pad(moments.cumsum(1), (0, 0, 1, 0))
        mean, square = (sums[:, high] - sums[:, low]) / (high - low)[None, :, None]
        made = (self._x[self._first : end] - mean[..., None].float()) * torch.rsqrt(
            (square - mean.square())[..., None].float().clamp(min=0) + EPSILON
        )
        keep = max(0, end - AROUND)
        self._x, self._first = self._x[keep:], end - keep
        return made * self._norm.scale + self._norm.shift


class Context(nn.Module):
    """All notes and the pedal to what every voice is given."""

    def __init__(self, config: DdspPianoConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(2 * config.voices + 4 + config.piano_code, config.context)
        self.gru = nn.GRU(config.context, config.context_hidden)
        self.norm = LocalNorm(config.context_hidden)
        self.out = nn.Linear(config.context_hidden, config.context)


class Voice(nn.Module):
    """One note at a time to its amplitude, partials and noise."""

    def __init__(self, config: DdspPianoConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(3 + config.context, config.voice_dense)
        self.gru = nn.GRU(config.voice_dense, config.voice_hidden)
        self.mix = nn.Linear(config.voice_hidden, config.voice_hidden)
        self.norm = LocalNorm(config.voice_hidden)
        self.out = nn.Linear(config.voice_hidden, 1 + config.partials + config.noise_bands)


@dataclass(frozen=True)
class Curves:
    """What the synthesiser plays, of G frames and V voices.

    pitch      (G, V) MIDI pitch, kept for a second after the note, 0 where nothing sounds
    amplitude  (G, V)
    partials   (G, V, K) relative amplitudes
    noise      (G, V, B) magnitudes from 0 Hz to half the sample rate
    """

    pitch: Tensor
    amplitude: Tensor
    partials: Tensor
    noise: Tensor


class DdspPiano(nn.Module):
    """Ten pianos. `PianoStream` runs it; `strings_hz` and `inharmonicity` give the strings of a pitch."""

    def __init__(self, config: DdspPianoConfig = DdspPianoConfig()) -> None:
        super().__init__()
        self.config = config
        self.piano_code = nn.Embedding(config.pianos, config.piano_code)
        self.detune, self.stiffness = nn.Embedding(config.pianos, 1), nn.Embedding(config.pianos, 1)
        self.context, self.voice = Context(config), Voice(config)
        self.tuning = nn.Linear(1, 2)
        self.slopes, self.offsets = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
        self.stiffness_weight = nn.Parameter(torch.zeros(1))
        self.rooms = nn.Embedding(config.pianos, config.room_samples)

    def strings_hz(self, pitch: Tensor, piano: int, cents: Tensor | None = None) -> Tensor:
        """(..., 2) fundamental frequencies of the two strings of MIDI pitches (...).

        cents  (128,) added to the tuning of each key
        """
        semitones = pitch[..., None] + self.tuning(pitch[..., None] / 128).tanh() + self.detune.weight[piano].tanh()
        if cents is not None:
            semitones = semitones + cents[pitch.long().clamp(0, 127)][..., None] / 100
        return 440 * 2 ** ((semitones - 69) / 12)

    def inharmonicity(self, pitch: Tensor, piano: int) -> Tensor:
        """(...) coefficient B of MIDI pitches: partial k lies at k f0 sqrt(1 + B k^2)."""
        bass, treble = (self.slopes[i] * (pitch / 128 + self.offsets[i]) for i in (0, 1))
        return bass.exp() + (treble + self.stiffness_weight * 10 * self.stiffness.weight[piano]).exp()


class PianoStream:
    """One performance through the networks, in parts."""

    def __init__(self, model: DdspPiano, piano: int) -> None:
        self._model, self._piano = model, piano
        self._context_norm, self._voice_norm = NormStream(model.context.norm), NormStream(model.voice.norm)
        self._context_state: Tensor | None = None
        self._voice_state: Tensor | None = None
        self._notes = torch.zeros(0, model.config.voices, 3)  # frames whose context is not known yet
        self._pitch = torch.zeros(0, model.config.voices)  # frames that have not come out

    @torch.inference_mode()
    def push(self, notes: Tensor, pedal: Tensor, extended: Tensor, last: bool = False) -> Curves:
        """Frames (F, V, 2) of pitch and onset velocity, of pedal events (F, 4) and of pitches kept after their notes
        (F, V) -> the curves of the frames that are ready, about three seconds later."""
        model, code = self._model, self._model.piano_code.weight[self._piano]
        given = torch.cat([notes.flatten(1), pedal, code.expand(len(notes), -1)], -1)
        hidden, self._context_state = model.context.gru(
            F.leaky_relu(model.context.dense(given), 0.2)[:, None], self._context_state
        )
        context = model.context.out(self._context_norm.push(hidden, last))[:, 0]
        self._notes = torch.cat([self._notes, torch.cat([extended[..., None] / 128, notes / _UNIT], -1)])
        self._pitch = torch.cat([self._pitch, extended])
        ready, self._notes = self._notes[: len(context)], self._notes[len(context) :]
        x = torch.cat([ready, context[:, None].expand(-1, ready.shape[1], -1)], -1)
        x = F.leaky_relu(model.voice.dense(x), 0.2)
        hidden = x.new_zeros(0, x.shape[1], model.config.voice_hidden)
        if len(x):
            hidden, self._voice_state = model.voice.gru(x, self._voice_state)
        made = self._voice_norm.push(F.leaky_relu(model.voice.mix(hidden), 0.2), last)
        parts = [1, model.config.partials, model.config.noise_bands]
        amplitude, partials, noise = model.voice.out(made).split(parts, -1)
        pitch, self._pitch = self._pitch[: len(made)], self._pitch[len(made) :]
        return Curves(pitch, _positive(amplitude)[..., 0], _positive(partials), _positive(noise - 5))


_UNIT = torch.tensor([128.0, 1.0])  # of pitch and velocity


def _positive(x: Tensor) -> Tensor:
    return 2 * x.sigmoid() ** math.log(10) + 1e-7
