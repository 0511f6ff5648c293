"""DDSP-Piano as a method of Render: its strings and noise in the room, envelope and image of the prompt.

The fit and the filters are those of the fitted piano. The dry sound is that of the networks of
`engine.models.ddsp_piano`, up to 8 kHz, together with the sampled grand from 500 Hz on, which is tuned to them. Both
together are nearer to recordings than either alone (training/LOG.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from engine.checkpoints.index import CHECKPOINTS, DDSP_PIANO
from engine.music.dampers import damped_sec
from engine.music.types import AudioClip, BadInput, Performance
from engine.render.fitted import FittedRenderer
from engine.requests import FITTED_METHODS
from engine.sound.preview import BLOCK, Preview
from engine.sound.recording import StreamResampler

if TYPE_CHECKING:
    from engine.models.ddsp_piano.network import DdspPiano

RATE = 32000  # Hz, of the dry sound
FRAME_RATE, FRAMES = 250, 500  # frames a second; frames of a step
LEAD = 125  # frames of silence before the piece: the networks begin unsettled
RELEASE = 250  # frames that a note sounds after its end
GRAND_HZ = 500.0  # the sampled grand plays along from here on
GRAND_CENTS = -3.9 - 1.7 * (np.arange(128) - 64) / 12  # (128,) that bring its keys to the first piano's tuning
GAIN = 4.0  # the networks are quiet; this is about the level of the sampled grand


class DdspPianos:
    """The ten pianos behind the interface of `engine.render.fit.Pianos`. Raises BundleError without the checkpoint."""

    def __init__(self, preview: Preview | None = None, checkpoints: Path = CHECKPOINTS) -> None:
        self._preview, self._checkpoints = preview or Preview(), checkpoints

    @cached_property
    def model(self) -> DdspPiano:
        """The networks, in evaluation mode."""
        from engine.checkpoints.bundle import open_ddsp_piano

        return open_ddsp_piano(self._checkpoints / DDSP_PIANO).model

    def candidates(self) -> tuple[str, ...]:
        """The first of the ten pianos: it was nearest to every recording on which settings were chosen."""
        return ("ddsp-0",)

    def preview(self, performance: Performance, piano: str = "grand") -> AudioClip:
        """The sampled preview, whose loudness renders have."""
        return self._preview.preview(performance, "grand")

    def dry(
        self, performance: Performance, piano: str, samples: int, cents: NDArray[np.float64] | None = None,
        chunk: int = 2 * RATE,
    ) -> Iterator[NDArray[np.float32]]:  # fmt: skip
        """The first `samples` samples at 32 kHz, in parts of `chunk`. The sampled grand plays along above 500 Hz.

        cents  (128,) by which each key is tuned away from the model's own tuning
        """
        for part in self.dry_groups([performance], piano, samples, cents, chunk):
            yield part[0]

    def dry_groups(
        self, groups: list[Performance], piano: str, samples: int, cents: NDArray[np.float64] | None = None,
        chunk: int = 2 * RATE,
    ) -> Iterator[NDArray[np.float32]]:  # fmt: skip
        """(groups, n) the same of groups of notes that sound together: the networks are given all notes at once."""
        chunk = max(1, chunk // BLOCK) * BLOCK  # as the sampler's parts
        high_pass = butter(8, GRAND_HZ, "highpass", fs=RATE, output="sos")
        state = np.zeros((len(high_pass), len(groups), 2))
        low = self._low(groups, piano, samples, cents, chunk)
        tuned = GRAND_CENTS if cents is None else GRAND_CENTS + cents
        sampled = zip(*(self._preview.dry(g, "grand", samples, tuned, chunk) for g in groups), strict=True)
        for part, high in zip(low, sampled, strict=True):
            above, state = sosfilt(high_pass, np.stack(high), zi=state)
            yield part + above.astype(np.float32)

    def _low(
        self, groups: list[Performance], piano: str, samples: int, cents: NDArray[np.float64] | None, chunk: int
    ) -> Iterator[NDArray[np.float32]]:
        """(groups, n) what the networks play, nothing above 8 kHz."""
        from engine.models.ddsp_piano.synthesis import HOP, LATENCY, SAMPLE_RATE

        number = piano_number(piano)
        waiting, skip, made = np.zeros((len(groups), 0), np.float32), (LEAD * HOP + LATENCY) * RATE // SAMPLE_RATE, 0
        resamplers = [StreamResampler(SAMPLE_RATE, RATE, 1) for _ in groups]
        for part in self._at_16_khz(groups, number, samples, cents):
            ready = np.stack([r.push(GAIN * p) for r, p in zip(resamplers, part, strict=True)])
            waiting = np.concatenate([waiting, ready], 1)
            cut = min(skip, waiting.shape[1])
            waiting, skip = waiting[:, cut:], skip - cut
            while waiting.shape[1] >= chunk and made + chunk <= samples:
                yield waiting[:, :chunk]
                waiting, made = waiting[:, chunk:], made + chunk
        waiting = np.concatenate([waiting, np.stack([r.finish() for r in resamplers])], 1)[:, skip:]
        while made < samples:
            count = min(chunk, samples - made)
            yield np.pad(waiting[:, :count], ((0, 0), (0, max(0, count - waiting.shape[1]))))
            waiting, made = waiting[:, count:], made + count

    def _at_16_khz(
        self, groups: list[Performance], piano: int, samples: int, cents: NDArray[np.float64] | None
    ) -> Iterator[NDArray[np.float32]]:
        import torch

        from engine.models.ddsp_piano.network import PianoStream
        from engine.models.ddsp_piano.synthesis import Synthesiser

        together, of_note = together_of(groups)
        tables = voice_tables(together, -(-samples * FRAME_RATE // RATE), self.model.config.voices)
        stream = PianoStream(self.model, piano)
        tuned = None if cents is None else torch.from_numpy(cents).float()
        synthesiser = Synthesiser(self.model, piano, tuned, len(groups))
        group = torch.from_numpy(np.append(of_note, 0)[tables.note])
        count, out = len(tables.notes), 0
        for start in range(0, count, FRAMES):
            part = (torch.from_numpy(t[start : start + FRAMES]) for t in (tables.notes, tables.pedal, tables.extended))
            last = start + FRAMES >= count
            curves = stream.push(*part, last=last)
            end = out + len(curves.pitch)
            yield synthesiser.push(curves, group[out:end], last).numpy()
            out = end


def together_of(groups: list[Performance]) -> tuple[Performance, NDArray[np.int64]]:
    """The notes of all groups, with the first one's pedal, and the group of each note."""
    onset, duration, pitch, velocity = (
        np.concatenate([getattr(g, name) for g in groups])
        for name in ("onset_sec", "duration_sec", "pitch", "velocity")
    )
    of_note = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
    first = groups[0]
    return Performance(onset, duration, pitch, velocity, first.pedal_sec, first.pedal_value), of_note


@dataclass(frozen=True)
class VoiceTables:
    """What the networks and the synthesiser are given, of F frames and V voices.

    notes     (F, V, 2) pitch and onset velocity
    pedal     (F, 4) pedal events
    extended  (F, V) pitches that a note keeps for a second after its end
    note      (F, V) index of the note of these pitches, 0 where there is none
    """

    notes: NDArray[np.float32]
    pedal: NDArray[np.float32]
    extended: NDArray[np.float32]
    note: NDArray[np.int64]


def voice_tables(performance: Performance, frames: int, voices: int) -> VoiceTables:
    """The voices of LEAD and at most `frames` frames.

    A note takes the voice that has been free longest. Where all sound, the highest pitches win.
    """
    onset = LEAD + np.round(performance.onset_sec * FRAME_RATE).astype(int)
    damped = damped_sec(performance, max(performance.end_sec, 0.0) + 2.0)
    end = np.maximum(LEAD + np.round(damped * FRAME_RATE).astype(int), onset + 1)
    total = LEAD + min(frames, max(0, int(end.max(initial=0)) + RELEASE - LEAD) + 1)
    notes = np.zeros((total, voices, 2), np.float32)
    extended = np.zeros((total, voices), np.float32)
    note = np.zeros((total, voices), np.int64)
    free = np.zeros(voices, int)  # frame from which each voice is free
    key = np.zeros(voices, int)
    for i in np.lexsort((-performance.pitch, onset)):
        first, pitch = int(onset[i]), int(performance.pitch[i])
        if not 0 <= first < total:
            continue
        voice = int(free.argmin())
        if free[voice] > first:
            voice = int(key.argmin())
            if key[voice] >= pitch:
                continue
        notes[first : free[voice], voice], extended[first : free[voice] + RELEASE, voice] = 0, 0  # cut off the last one
        notes[first : end[i], voice, 0] = pitch
        notes[first : first + 2, voice, 1] = performance.velocity[i] / 127
        extended[first : end[i] + RELEASE, voice], note[first : end[i] + RELEASE, voice] = pitch, i
        free[voice], key[voice] = int(end[i]), pitch
    pedal = np.zeros((total, 4), np.float32)
    at = LEAD + np.round(performance.pedal_sec * FRAME_RATE).astype(int)
    here = (at >= 0) & (at < total)
    pedal[at[here], 0] = (performance.pedal_value[here] + 1) / 128
    return VoiceTables(notes, pedal, extended, note)


def piano_number(name: str) -> int:
    """Index of a piano by its name. Raises BadInput for an unknown one."""
    number = name.removeprefix("ddsp-")
    if not (name.startswith("ddsp-") and number.isdecimal() and int(number) < 10):
        raise BadInput(f'There is no DDSP-Piano "{name}"; choose ddsp-0 to ddsp-9.')
    return int(number)


class DdspRenderer(FittedRenderer):
    """DDSP-Piano fitted to the prompt."""

    profile = "ddsp"
    digest = FITTED_METHODS["ddsp"]

    def __init__(self, preview: Preview | None = None, checkpoints: Path = CHECKPOINTS) -> None:
        super().__init__(DdspPianos(preview, checkpoints), checkpoints)
