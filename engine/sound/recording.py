"""Recordings of any length from the local disk, for transcription and measurement. Uploads go through clip.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from engine.limits import AUDIO_CHANNELS, MAX_RATE, MIN_RATE
from engine.music.types import AudioClip, BadInput
from engine.sound.clip import FORMATS, READ, SHORTEST_SEC
from engine.sound.containers import HEAD, decode, demuxer

LONGEST_SEC = 3600.0
SUFFIXES = (".wav", ".flac", ".aiff", ".aif", ".m4a", ".webm", ".ogg", ".mp3")


def resample(samples: NDArray[np.float32], old_rate: int, new_rate: int) -> NDArray[np.float32]:
    """Sound at another rate, float32; the same array when the rates are equal."""
    import soxr

    return samples if old_rate == new_rate else soxr.resample(samples, old_rate, new_rate).astype(np.float32)


class StreamResampler:
    """Sound at another rate, part by part, without a seam; the whole has an exact length."""

    def __init__(self, old_rate: int, new_rate: int, channels: int) -> None:
        import soxr

        self._channels, self.made = channels, 0
        self._stream = None if old_rate == new_rate else soxr.ResampleStream(old_rate, new_rate, channels, "float32")

    def push(self, samples: NDArray[np.float32], last: bool = False) -> NDArray[np.float32]:
        """(n,) or (n, 2) -> the output so far, with the same channels."""
        given = np.ascontiguousarray(samples, np.float32)
        made = given if self._stream is None else self._stream.resample_chunk(given, last=last)
        self.made += len(made)
        return made

    def finish(self, total: int | None = None) -> NDArray[np.float32]:
        """The remaining output. total: samples of the whole; longer output is cut, shorter output is padded with
        silence."""
        empty = np.zeros(0 if self._channels == 1 else (0, self._channels), np.float32)
        left = self.push(empty, last=True)
        if total is None:
            return left
        wanted = total - (self.made - len(left))
        pad = [(0, max(0, wanted - len(left))), *([(0, 0)] if self._channels > 1 else [])]
        return np.pad(left, pad)[: max(wanted, 0)]


def read_recording(
    path: Path, sample_rate: int | None = None, start_sec: float = 0.0, seconds: float = LONGEST_SEC
) -> AudioClip:
    """A sound file, mono, without level change.

    sample_rate         Hz to bring it to; None keeps its own
    start_sec, seconds  the part to read; up to an hour
    Raises BadInput for an invalid file, one under half a second, and NaN or infinite samples.
    """
    sound, rate = _decoded(path, start_sec, seconds)
    if len(sound) < SHORTEST_SEC * rate:
        raise BadInput(f"{path.name} lasts {len(sound) / rate:.2f} s from {start_sec:g} s on; {SHORTEST_SEC:g} s are "
                       "needed, choose a longer recording.")  # fmt: skip
    if not np.isfinite(sound).all():
        raise BadInput(f"{path.name} contains NaN or infinite samples; export it again as 16-bit WAV or FLAC.")
    mono = sound.mean(1)
    rate_wanted = sample_rate or rate
    return AudioClip(resample(mono, rate, rate_wanted), rate_wanted)


def _decoded(path: Path, start_sec: float, seconds: float) -> tuple[NDArray[np.float32], int]:
    """(num_samples, channels) and Hz. Raises BadInput."""

    def check(rate: int, channels: int) -> None:
        if not MIN_RATE <= rate <= MAX_RATE or channels > AUDIO_CHANNELS:
            raise BadInput(
                f"{path.name} has {channels} channels at {rate} Hz; up to {AUDIO_CHANNELS} channels "
                f"at {MIN_RATE} to {MAX_RATE} Hz are read, save it as stereo at 44100 Hz."
            )

    try:
        with path.open("rb") as head:
            kind = demuxer(head.read(HEAD))
        if kind:
            return decode(path, kind, start_sec, min(seconds, LONGEST_SEC), check)
        with soundfile.SoundFile(path) as file:
            if file.format not in FORMATS:
                raise BadInput(f"{path.name} is {file.format}; save it as {READ}.")
            check(file.samplerate, file.channels)
            if min(file.frames / file.samplerate - start_sec, seconds) > LONGEST_SEC:
                raise BadInput(f"{path.name} lasts over an hour; up to 60 minutes are read, shorten it.")
            file.seek(min(round(start_sec * file.samplerate), file.frames))
            wanted = round(min(seconds, LONGEST_SEC) * file.samplerate)
            return np.asarray(file.read(wanted, dtype="float32", always_2d=True), np.float32), file.samplerate
    except (soundfile.LibsndfileError, OSError) as error:
        if path.is_dir():
            raise BadInput(f"{path} is a folder; name a sound file in it.") from None
        if not path.exists():
            raise BadInput(f"There is no file {path}; check the name and the folder.") from None
        raise BadInput(f"{path.name} cannot be read as a recording; save it as {READ}.") from error
