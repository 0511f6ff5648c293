"""A small room around a dry piano, by convolution with its echo, whole or in parts.

fluidsynth's own reverb is modulated from its start, so its output is not reproducible.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

BANDS_HZ = (0, 250, 1000, 4000, 16000)
DECAY_SEC = (0.9, 1.0, 0.8, 0.45, 0.3)  # until 60 dB down, at each of BANDS_HZ: air and curtains take the treble first
FIRST_ECHO_SEC = 0.012
LEVEL = 0.22  # energy of the echoes against the direct sound, as an amplitude ratio


@cache
def room_response(sample_rate: int) -> NDArray[np.float32]:
    """Impulse response of the room without the direct sound: (num_samples,), constant.

    Decaying noise with a rate per frequency (Moorer, About this reverberation business, 1979).
    """
    count = int(max(DECAY_SEC) * sample_rate)
    time = np.arange(count) / sample_rate
    noise = np.fft.rfft(np.random.default_rng(1).standard_normal(count))
    hz = np.fft.rfftfreq(count, 1 / sample_rate)
    response = np.zeros(count)
    for band, decay in enumerate(DECAY_SEC):  # neighbouring bands overlap and add up to the whole
        share = np.interp(hz, BANDS_HZ, np.eye(len(BANDS_HZ))[band])
        response += np.fft.irfft(noise * share, count) * 10 ** (-3 * time / decay)
    response *= np.clip(time / 0.02, 0, 1)  # the density of echoes builds up
    response *= np.cos(np.linspace(0, np.pi / 2, count))
    response *= LEVEL / np.sqrt((response**2).sum())
    response = np.concatenate([np.zeros(int(FIRST_ECHO_SEC * sample_rate)), response]).astype(np.float32)
    response.setflags(write=False)  # the cache hands the same array to all
    return response


class Room:
    """Streaming reverb: later parts include the echoes of earlier ones."""

    def __init__(self, sample_rate: int) -> None:
        self._response = room_response(sample_rate)
        self._spectra: dict[int, NDArray] = {}  # of the response, by FFT size
        self._late = np.zeros(len(self._response) - 1, np.float32)  # echoes still to come

    def add(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """(num_samples,) dry -> (num_samples,) with the echoes of this and all earlier parts."""
        count = len(sound) + len(self._late)
        size = 1 << (count - 1).bit_length()
        if size not in self._spectra:
            self._spectra[size] = np.fft.rfft(self._response, size)
        echoes = np.fft.irfft(np.fft.rfft(sound, size) * self._spectra[size], size)[:count]
        echoes[: len(self._late)] += self._late
        self._late = echoes[len(sound) :].astype(np.float32)
        return sound + echoes[: len(sound)].astype(np.float32)
