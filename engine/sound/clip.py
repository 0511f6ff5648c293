"""Sound files: encode an AudioClip, and decode untrusted bytes."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from numpy.typing import NDArray

from engine.limits import AUDIO_BYTES, AUDIO_CHANNELS, MAX_RATE, MIN_RATE
from engine.music.types import AudioClip, BadInput
from engine.sound.containers import HEAD, decode, demuxer

SHORTEST_SEC, LONGEST_SEC = 0.5, 60.0  # longer recordings are cut
SILENCE = 10 ** (-60 / 20)  # peak of a silent recording
READ = "WAV, FLAC, AIFF, M4A, WebM, OGG or MP3"
FORMATS = {"WAV", "WAVEX", "FLAC", "AIFF", "OGG", "MP3"}
FIRST_BYTES = (b"RIFF", b"fLaC", b"FORM", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")


def to_int16(clip: AudioClip) -> NDArray[np.int16]:
    """int16 samples, which a browser plays without normalising the level."""
    return np.round(np.clip(clip.samples, -1, 1) * 32767).astype(np.int16)


def encode_audio(clip: AudioClip, format: str = "wav", comment: str = "") -> bytes:
    """A 16-bit sound file; with a comment (seed, style, piano and credit).

    format  "wav" or "flac"; any other raises BadInput
    """
    if format not in ("wav", "flac"):
        raise BadInput(f'Sound can be saved as "wav" or "flac", not "{format}"; choose one of these.')
    data = io.BytesIO()
    with soundfile.SoundFile(data, "w", clip.sample_rate, clip.channels, "PCM_16", format=format.upper()) as file:
        if comment:
            file.comment = comment
        file.write(to_int16(clip))
    return data.getvalue()


def read_audio(data: bytes) -> AudioClip:
    """The recording of `read_stereo`, mono. Raises BadInput."""
    return read_stereo(data).mono()


def read_stereo(data: bytes, seconds: float = LONGEST_SEC) -> AudioClip:
    """A recording from an untrusted file, at its own sample rate: the first `seconds`, without its constant offset.

    Stereo stays stereo unless the channels cancel out (inverted polarity): then the louder one is used. More channels
    are mixed to one. Floating-point sound over full scale is attenuated.

    Raises BadInput for what is not WAV, FLAC, AIFF, M4A, WebM, OGG or MP3, over 20 MB, under half a second, at a rate
    or channel count out of bounds, and for sound that is silent or not finite.
    """
    if len(data) > AUDIO_BYTES:
        size, limit = len(data) / 1e6, AUDIO_BYTES / 1e6
        raise BadInput(f"This recording has {size:.0f} MB; up to {limit:.0f} MB are read, shorten it.")
    samples, sample_rate = _decoded(data, seconds)
    if len(samples) < SHORTEST_SEC * sample_rate:
        raise BadInput(
            f"This recording lasts {len(samples) / sample_rate:.2f} s; at least {SHORTEST_SEC:g} s are needed, "
            "choose a longer one."
        )
    if not np.isfinite(samples).all():
        raise BadInput("This recording contains NaN or infinite samples; export it again as 16-bit WAV or FLAC.")
    samples = samples if samples.shape[1] == 2 else samples.mean(1, keepdims=True)
    samples -= samples.mean(0)
    if samples.shape[1] == 2 and cancel_out(samples):
        samples = samples[:, [int((samples**2).sum(0).argmax())]]
    if np.abs(samples).max() < SILENCE:
        raise BadInput("This recording is silent (its peak is under -60 dBFS); choose one with sound.")
    samples /= max(1.0, float(np.abs(samples).max()))
    return AudioClip(samples[:, 0] if samples.shape[1] == 1 else samples, sample_rate)


def cancel_out(samples: NDArray[np.float32]) -> bool:
    """Whether the mean of both channels (num_samples, 2) has less than a hundredth of the louder one's energy."""
    return bool((samples.mean(1) ** 2).sum() < 0.01 * (samples**2).sum(0).max())


def _decoded(data: bytes, seconds: float) -> tuple[NDArray[np.float32], int]:
    """(num_samples, channels) of the first `seconds`, and Hz. Raises BadInput."""
    if kind := demuxer(data[:HEAD]):
        return decode(io.BytesIO(data), kind, 0.0, seconds, check_shape)
    if not data.startswith(FIRST_BYTES):
        raise BadInput(f"This recording cannot be read; save it as {READ}.")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format not in FORMATS:
                raise BadInput(f"This recording is {file.format}; save it as {READ}.")
            check_shape(file.samplerate, file.channels)
            samples = file.read(int(seconds * file.samplerate), dtype="float32", always_2d=True)
            return np.asarray(samples, np.float32), file.samplerate
    except soundfile.LibsndfileError as error:
        raise BadInput(f"This recording is damaged or of an unknown kind; save it as {READ}.") from error


def check_shape(sample_rate: int, channels: int) -> None:
    """Raises BadInput for an unsupported rate or number of channels."""
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise BadInput(f"This recording has {sample_rate} Hz; {MIN_RATE} to {MAX_RATE} Hz are read, save it at 44100.")
    if channels > AUDIO_CHANNELS:
        raise BadInput(f"This recording has {channels} channels; up to {AUDIO_CHANNELS} are read, save it as stereo.")
