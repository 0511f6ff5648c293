"""The fitted piano, the default method of Render: a sampled piano made to sound like the prompt, streamed.

The fit (`engine.render.fit`) is made once for a prompt and kept. Rendering then is the sampler, with the fitted
velocities and tuning, convolved with a response for the middle and one for the side channel.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.checkpoints.index import CHECKPOINTS
from engine.music.types import AudioClip, BadInput, Performance
from engine.progress import ProgressCallback
from engine.render.colours import groups
from engine.render.filters import Convolver
from engine.render.fit import Instrument, Pianos, colour_filters, dry_groups, fit_instrument, unfitted
from engine.render.noise import noise_from
from engine.render.rendering import FRAME_RATE, check_drawing, frame_span
from engine.render.streaming import StreamingRenderer
from engine.requests import FITTED_METHODS
from engine.sound.bands import SAMPLE_RATE
from engine.sound.preview import Preview, round_peaks
from engine.sound.prompt_remarks import MIN_NOTES
from engine.sound.prompts import Prompt
from engine.sound.recording import StreamResampler
from engine.sound.transcribe import transcribe

OUTPUT_RATE = 48000  # Hz
FRAME = OUTPUT_RATE // FRAME_RATE
FIRST_SEC, PART_SEC = 0.5, 2.0
LEAD_SEC = 12.0  # notes that begin so long before a part still sound in it
FITS_KEPT = 16
FADE_SEC = 0.5


class FittedRenderer(StreamingRenderer):
    """The default renderer. Thread-safe; fits are kept for the latest prompts.

    checkpoints  where the transcriber is, for prompts without notes
    """

    profile = "fitted"
    digest = FITTED_METHODS["fitted"]

    def __init__(self, pianos: Pianos | None = None, checkpoints: Path = CHECKPOINTS) -> None:
        self.preview: Pianos = pianos or Preview()
        self.checkpoints = checkpoints
        self._fits: OrderedDict[tuple[str, int], Instrument] = OrderedDict()
        self._lock = threading.Lock()

    def render_stream(
        self, performance: Performance, prompt: Prompt, seed: int = 0, temperature: float = 1.0,
        span: tuple[float, float | None] = (0.0, None), progress: ProgressCallback | None = None,
    ) -> Iterator[AudioClip]:  # fmt: skip
        """Sound at 48 kHz in parts as they are made, of two channels where the prompt has two.

        Together ceil(50 (end + 2 s)) * 960 samples for a whole piece. Loudness follows the performance as the preview's
        does: a performance as loud as the prompt's comes out as loud as the preview plays it.

        seed         another seed has other echoes of the same room
        temperature  must be 1: nothing is drawn
        progress      called with the finished share after every part; raise in it to cancel

        Raises BadInput for an empty or over-long performance, a span out of range, another temperature.
        """
        first, last = frame_span(performance, span)
        check_drawing(seed, temperature)
        if temperature != 1.0:
            raise BadInput(f"The temperature is {temperature:g}; a fitted piano has none, leave it at 1.")
        return self._stream(performance, prompt, seed, first, last, progress or (lambda share: None))

    def instrument(self, prompt: Prompt, seed: int = 0, progress: ProgressCallback | None = None) -> Instrument:
        """The piano fitted to a prompt; its notes are transcribed first where they are not known (seconds)."""
        key = (prompt.digest, seed)
        with self._lock:
            if key in self._fits:
                self._fits.move_to_end(key)
                return self._fits[key]
        notes = prompt.notes if prompt.notes is not None else transcribe(prompt.clip, progress, self.checkpoints)
        sound = np.array(prompt.clip.samples)
        if len(notes) < MIN_NOTES:
            made = unfitted(self.preview, sound, prompt.image, seed)
        else:
            made = fit_instrument(self.preview, sound, notes, prompt.image, seed)
        with self._lock:
            self._fits[key] = made
            while len(self._fits) > FITS_KEPT:
                self._fits.popitem(last=False)
        return made

    def _dry(self, notes: Performance, instrument: Instrument, samples: int) -> Iterator[NDArray[np.float32]]:
        """The notes on the fitted piano without its room, each group of notes through its own envelope."""
        first, cents, colours = round(FIRST_SEC * SAMPLE_RATE), instrument.tuning.of_keys(), instrument.colours
        if not colours.differ:
            yield from self.preview.dry(notes, instrument.piano, samples, cents, first)
            return
        parts = dry_groups(self.preview, groups(notes, colours.boundary), instrument.piano, samples, cents, first)
        filters = [Convolver(f[None]) for f in colour_filters(colours)]
        for several in parts:
            yield np.sum([f.add(part)[0] for f, part in zip(filters, several, strict=True)], 0)

    def _stream(
        self, performance: Performance, prompt: Prompt, seed: int, first: int, last: int, report: ProgressCallback
    ) -> Iterator[AudioClip]:
        instrument = self.instrument(prompt, seed, lambda share: report(0.0))
        start, end = first / FRAME_RATE, last / FRAME_RATE
        lead = min(start, LEAD_SEC)
        heard = beginning_at(instrument.velocity.played(performance), start - lead)
        rate = SAMPLE_RATE // FRAME_RATE
        total, skip = (last - first) * rate, round(lead * SAMPLE_RATE)
        convolver, made = Convolver(instrument.responses), 0
        out = StreamResampler(SAMPLE_RATE, OUTPUT_RATE, len(instrument.responses))
        dry = self._dry(heard, instrument, skip + total)
        for part in gathered(dry, skip, round(PART_SEC * SAMPLE_RATE)):
            sound = convolver.add(part)
            if skip:
                cut = min(skip, sound.shape[1])
                sound, skip = sound[:, cut:], skip - cut
            if not sound.shape[1]:
                continue
            if instrument.noise is not None:
                sound = sound + noise_from(instrument.noise, first * rate + made, sound.shape[1])
            made += sound.shape[1]
            ends = total - made + np.arange(sound.shape[1])[::-1]
            sound = sound * np.clip(ends / (FADE_SEC * SAMPLE_RATE), 0, 1) if end >= performance.end_sec + 1 else sound
            ready = out.push(as_channels(sound))
            if len(ready):
                yield AudioClip(np.clip(ready, -1, 1), OUTPUT_RATE)
            report(made / total)
        yield AudioClip(np.clip(out.finish((last - first) * FRAME), -1, 1), OUTPUT_RATE)


def gathered(parts: Iterator[NDArray[np.float32]], skip: int, size: int) -> Iterator[NDArray[np.float32]]:
    """Small parts at first, so that sound starts early; then several together, which cost less."""
    waiting: list[NDArray[np.float32]] = []
    passed = 0
    for part in parts:
        waiting.append(part)
        passed += len(part)
        if skip < passed <= skip + size or sum(map(len, waiting)) >= size:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def as_channels(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """(1, n) as (n,), or middle and side (2, n) as left and right (n, 2); peaks are rounded, never clipped."""
    channels = sound[0] if len(sound) == 1 else np.stack([sound[0] + sound[1], sound[0] - sound[1]], 1)
    return round_peaks(channels.astype(np.float32))


def beginning_at(performance: Performance, second: float) -> Performance:
    """The notes that begin at `second` or later, and the pedal as it stands there, in seconds from there."""
    if second <= 0:
        return performance
    kept = performance.onset_sec >= second
    before = int(np.searchsorted(performance.pedal_sec, second, side="right"))
    sec, value = performance.pedal_sec[before:] - second, performance.pedal_value[before:]
    if before:
        sec = np.concatenate([[0.0], sec])
        value = np.concatenate([performance.pedal_value[before - 1 : before], value])
    return replace(
        performance, onset_sec=performance.onset_sec[kept] - second, duration_sec=performance.duration_sec[kept],
        pitch=performance.pitch[kept], velocity=performance.velocity[kept], pedal_sec=sec, pedal_value=value,
    )  # fmt: skip
