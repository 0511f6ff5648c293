"""Preview of a performance on a sampled piano, by fluidsynth in this process.

The rate is 32 kHz, that of the stored pianos: a piano has little energy above 16 kHz. Loudness is never normalised, so
that performances can be compared.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.music.types import AudioClip, BadInput, Performance
from engine.sound.room import Room

SAMPLE_RATE = 32000
BLOCK = 64  # fluidsynth processes events every 64 samples (2 ms), so the error of an onset is at most 1 ms
TAIL_SEC = 2.0
FADE_SEC = 0.5  # fade-out of the tail, against a click if the pedal is never lifted
PEDAL_WAIT_SEC = 6.0  # maximum tail after the last key while the pedal is down
LONGEST_SEC = 3600.0
POLYPHONY = 96  # against 256, the dense end of an étude differs at -50 dB and takes half the time
MAX_IDLE = 4
KNEE = 0.8  # soft-clipping threshold
PEDAL, KEY_UP, KEY_DOWN = 0, 1, 2  # order of simultaneous events: the pedal first, so that it sustains released keys

PIANO_FOLDER = Path(__file__).parent / "pianos"


@dataclass(frozen=True)
class Piano:
    """One entry of the menu.

    files   SoundFonts; the first that exists is played
    gain    equalises the loudness of the pianos: real performances average -20 to -30 dBFS and seldom exceed KNEE
    credit  author and licence, to be displayed
    """

    label: str
    files: tuple[Path, ...]
    gain: float
    credit: str


FITTED_CANDIDATES = ("grand", "upright", "player")  # names in PIANOS that Render may fit to a recording
PIANOS: dict[str, Piano] = {
    "grand": Piano(
        "Grand piano (Yamaha C3)",
        (PIANO_FOLDER / "grand.sf3",),
        1.6,
        "Bengt Nilsson, Headroom Piano, CC BY 4.0; SFZ mapping by kinwie; cut, evened and packed for Étude",
    ),
    "upright": Piano(
        "Upright piano (Kawai)", (PIANO_FOLDER / "upright.sf3",), 1.4, "Gonzalo and Roberto, FreePats project, CC0 1.0"
    ),
    "player": Piano(
        "Old player piano (Francis Bacon)",
        (PIANO_FOLDER / "player.sf3",),
        1.6,
        "Piotr Barcz, FreePats project, CC0 1.0",
    ),
    "system": Piano(
        "This computer's General MIDI piano",
        tuple(
            Path(folder) / name
            for folder in ("/usr/share/sounds/sf2", "/usr/share/soundfonts")
            for name in ("FluidR3_GM.sf2", "default-GM.sf2", "default.sf2", "TimGM6mb.sf2")
        ),
        1.3,
        "a SoundFont installed on this computer",
    ),
}


class Preview:
    """Plays performances on the pianos of the menu.

    One instance serves an app: methods are thread-safe, and streams may run concurrently. A piano is loaded on first
    use (the grand in about half a second) and cached.
    """

    PIANOS = PIANOS

    def __init__(self) -> None:
        self._lock = Lock()
        self._idle: dict[str, list[Any]] = {}

    def available(self) -> dict[str, str]:
        """The pianos whose SoundFont is on this computer: name to label."""
        return {name: piano.label for name, piano in PIANOS.items() if any(f.exists() for f in piano.files)}

    def candidates(self) -> tuple[str, ...]:
        """The pianos that may be fitted to a recording: the first is taken unless another is clearly nearer."""
        here = self.available()
        return tuple(name for name in FITTED_CANDIDATES if name in here)

    def load(self, piano: str = "grand") -> None:
        """Load a piano in advance. Raises BadInput like preview."""
        Room(SAMPLE_RATE)
        self._give_back(piano, self._take(piano))

    def preview(self, performance: Performance, piano: str = "grand") -> AudioClip:
        """The whole performance as sound, with two seconds to ring out; half a second of silence if it has no notes.

        Raises BadInput for an unknown piano, a missing SoundFont or fluidsynth library, and over an hour of music.
        """
        return AudioClip.joined(self.stream(performance, piano, 30.0))

    def stream(self, performance: Performance, piano: str = "grand", chunk_sec: float = 1.0) -> Iterator[AudioClip]:
        """The same sound in parts of chunk_sec seconds, the last one shorter, as a stream."""
        if chunk_sec <= 0:
            raise BadInput(f"Parts of {chunk_sec:g} s were requested; give more than 0 seconds.")
        end_sec = sounding_end(performance)
        if end_sec > LONGEST_SEC:
            raise BadInput(f"This performance lasts {end_sec / 60:.0f} minutes; a preview plays up to 60, shorten it.")
        blocks = -(-int(end_sec * SAMPLE_RATE) // BLOCK)
        chunk = max(1, round(chunk_sec * SAMPLE_RATE / BLOCK))
        fade = int(FADE_SEC * SAMPLE_RATE)
        room = Room(SAMPLE_RATE)
        synth = self._take(piano)  # exclusive to this stream until it ends
        try:
            for start, sound in _play(synth, _events(performance), blocks, chunk):
                left = blocks * BLOCK - start * BLOCK - np.arange(len(sound))  # samples to the end
                sound = round_peaks(room.add(sound)) * np.clip(left / fade, 0, 1).astype(np.float32)
                yield AudioClip(sound, SAMPLE_RATE)
        finally:
            self._give_back(piano, synth)

    def dry(
        self, performance: Performance, piano: str, samples: int, cents: NDArray[np.float64] | None = None,
        chunk: int = 2 * SAMPLE_RATE,
    ) -> Iterator[NDArray[np.float32]]:  # fmt: skip
        """The first `samples` samples at 32 kHz of the instrument alone, without room, fade or rounded peaks.

        cents  (128,) by which each key is tuned away from the piano's own tuning
        chunk  samples of a part, the last one shorter
        """
        synth = self._take(piano)
        try:
            if cents is not None:
                _tune(synth, cents)
            for start, sound in _play(synth, _events(performance), -(-samples // BLOCK), max(1, chunk // BLOCK)):
                yield sound[: samples - start * BLOCK]
        finally:
            if cents is not None:
                _tune(synth, None)
            self._give_back(piano, synth)

    def _take(self, piano: str) -> Any:
        if piano not in PIANOS:
            raise BadInput(f'There is no piano "{piano}"; choose one of {", ".join(PIANOS)}.')
        with self._lock:
            if self._idle.get(piano):
                return self._idle[piano].pop()
            return _open(PIANOS[piano])  # one at a time: the second shares the first one's samples

    def _give_back(self, piano: str, synth: Any) -> None:
        _silence(synth)
        with self._lock:
            idle = self._idle.setdefault(piano, [])
            if len(idle) < MAX_IDLE:
                idle.append(synth)
                return
        synth.delete()


def sounding_end(performance: Performance) -> float:
    """Seconds until the preview ends: the last key, or the pedal lifted soon after it, and the tail."""
    if len(performance) == 0:
        return FADE_SEC
    end = performance.end_sec
    if len(performance.pedal_sec):
        end = max(end, min(float(performance.pedal_sec[-1]), end + PEDAL_WAIT_SEC))
    return max(end, 0.0) + TAIL_SEC


def _events(performance: Performance) -> list[tuple[int, int, int, int]]:
    """Events for the synth: (block, kind, pitch, velocity or pedal value), in order of time. Overlapping notes of one
    key have only the last release: the new stroke ends the old sound.
    """
    n, p = len(performance), len(performance.pedal_sec)
    offset_sec = performance.onset_sec + np.maximum(performance.duration_sec, BLOCK / SAMPLE_RATE)
    order = np.lexsort((performance.onset_sec, performance.pitch))
    same_key = performance.pitch[order[:-1]] == performance.pitch[order[1:]]
    struck_again = same_key & (performance.onset_sec[order[1:]] <= offset_sec[order[:-1]])
    released = np.ones(n, bool)
    released[order[:-1][struck_again]] = False
    k = int(released.sum())

    time = np.concatenate([performance.onset_sec, offset_sec[released], performance.pedal_sec])
    kind = np.repeat([KEY_DOWN, KEY_UP, PEDAL], [n, k, p])
    pitch = np.concatenate([performance.pitch, performance.pitch[released], np.zeros(p, int)])
    value = np.concatenate([performance.velocity.clip(1, 127), np.zeros(k, int), performance.pedal_value.clip(0, 127)])
    block = np.round(np.maximum(time, 0) * SAMPLE_RATE / BLOCK).astype(int)
    table = np.stack([block, kind, pitch, value], 1)[np.lexsort((kind, time))]
    return [tuple(row) for row in table.tolist()]


def _play(
    synth: Any, events: list[tuple[int, int, int, int]], blocks: int, chunk: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (first block, sound) for every `chunk` blocks, the last part shorter."""
    next_event = 0
    for start in range(0, blocks, chunk):
        size = min(chunk, blocks - start)
        stereo = np.zeros((2, size * BLOCK), np.float32)
        at = start
        while next_event < len(events) and events[next_event][0] < start + size:
            block, kind, pitch, value = events[next_event]
            if block > at:
                _render(synth, stereo, (at - start) * BLOCK, (block - at) * BLOCK)
                at = block
            if kind == KEY_DOWN:
                synth.noteon(0, pitch, value)
            elif kind == KEY_UP:
                synth.noteoff(0, pitch)
            else:
                synth.cc(0, 64, value)
            next_event += 1
        _render(synth, stereo, (at - start) * BLOCK, (start + size - at) * BLOCK)
        yield start, stereo.mean(0)


def _render(synth: Any, stereo: NDArray[np.float32], start: int, count: int) -> None:
    """Fill `count` samples of (2, num_samples) from `start` with what the synth plays next."""
    if count:
        _write_float()(synth.synth, count, stereo[0].ctypes.data, start, 1, stereo[1].ctypes.data, start, 1)


def round_peaks(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Soft clipping: unchanged within KNEE, compressed to below 1 above."""
    size = np.abs(sound)
    bent = KNEE + (1 - KNEE) * np.tanh((size - KNEE) / (1 - KNEE))
    return np.where(size > KNEE, np.sign(sound) * bent, sound).astype(np.float32)


def _fluidsynth() -> ModuleType:
    """pyfluidsynth, imported here because the library that it wraps may be missing."""
    try:
        import fluidsynth
    except ImportError as error:
        raise BadInput(
            "The preview needs the fluidsynth library, which is not on this computer; "
            "install it (apt install libfluidsynth3, or brew install fluid-synth) and start again."
        ) from error
    return fluidsynth


@cache
def _write_float() -> Callable[..., int]:
    """fluidsynth's output as floats, which pyfluidsynth leaves out: its 16-bit output clips and adds noise."""
    names = ("len", "left", "left_start", "left_step", "right", "right_start", "right_step")
    kinds = (ctypes.c_int, *2 * (ctypes.c_void_p, ctypes.c_int, ctypes.c_int))
    arguments = [(name, kind, 1) for name, kind in zip(names, kinds, strict=True)]
    return _fluidsynth().cfunc("fluid_synth_write_float", ctypes.c_int, ("synth", ctypes.c_void_p, 1), *arguments)


def _tune(synth: Any, cents: NDArray[np.float64] | None) -> None:
    """Move each key of channel 0 by (128,) cents; None gives back the piano's own tuning."""
    library, handle, integer = _fluidsynth(), ("synth", ctypes.c_void_p, 1), ctypes.c_int
    if cents is None:
        deactivate = library.cfunc(
            "fluid_synth_deactivate_tuning", integer, handle, ("c", integer, 1), ("apply", integer, 1)
        )
        deactivate(synth.synth, 0, 1)
        return
    pitches = np.ascontiguousarray(100.0 * np.arange(128) + cents)
    create = library.cfunc(
        "fluid_synth_activate_key_tuning", integer, handle, ("bank", integer, 1), ("prog", integer, 1),
        ("name", ctypes.c_char_p, 1), ("pitch", ctypes.c_void_p, 1), ("apply", integer, 1),
    )  # fmt: skip
    activate = library.cfunc(
        "fluid_synth_activate_tuning", integer, handle, ("c", integer, 1), ("bank", integer, 1), ("prog", integer, 1),
        ("apply", integer, 1),
    )  # fmt: skip
    create(synth.synth, 0, 0, b"fitted", pitches.ctypes.data, 1)
    activate(synth.synth, 0, 0, 0, 1)


def _open(piano: Piano) -> Any:
    """A silent synth with the piano on channel 0."""
    path = next((f for f in piano.files if f.exists()), None)
    if path is None:
        names = " or ".join(dict.fromkeys(f.name for f in piano.files))
        raise BadInput(f'The SoundFont of "{piano.label}", {names}, is not on this computer; choose another piano.')
    synth = _fluidsynth().Synth(gain=piano.gain, samplerate=float(SAMPLE_RATE), channels=16)
    synth.setting("synth.polyphony", POLYPHONY)
    synth.setting("synth.chorus.active", 1)
    synth.setting("synth.reverb.active", 0)
    font = synth.sfload(str(path))
    if font == -1 or synth.program_select(0, font, 0, 0) == -1:
        synth.delete()
        raise BadInput(f"The SoundFont {path.name} could not be read; fetch it again, or choose another piano.")
    # A voice fades in for 2 ms at its first use only: use each once now, so that output is deterministic.
    for index in range(2 * POLYPHONY):
        if synth.get_active_voice_count() < POLYPHONY:  # one voice a note, two if the piano is stereo
            synth.noteon(0, 21 + index % 88, 1)
    _render(synth, np.zeros((2, BLOCK), np.float32), 0, BLOCK)
    _silence(synth)
    return synth


def _silence(synth: Any) -> None:
    """End every sound and lift the pedal."""
    synth.system_reset()  # lifts the pedal, but only releases the notes
    synth.all_sounds_off(0)
    _render(
        synth, np.zeros((2, BLOCK), np.float32), 0, BLOCK
    )  # it obeys at the next block: not in the next performance
