"""Filters from band values, and convolution of a stream with long responses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from engine.sound.bands import over_frequency

EQ_TAPS = 2048
_SIZE = 16384  # of the transform in which the minimum phase is found


def minimum_phase(gain_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """(COUNT,) gains in dB -> (EQ_TAPS,) response of minimum phase: nothing sounds before the attack.

    The phase comes from the real cepstrum (Oppenheim and Schafer, Discrete-Time Signal Processing, 13.5).
    """
    log = over_frequency(gain_db, _SIZE) * np.log(10) / 20
    cepstrum = np.fft.irfft(log)
    cepstrum[1 : _SIZE // 2] *= 2
    cepstrum[_SIZE // 2 + 1 :] = 0
    response = np.fft.irfft(np.exp(np.fft.rfft(cepstrum)))[:EQ_TAPS]
    fade = EQ_TAPS // 4
    response[-fade:] *= np.cos(np.linspace(0, np.pi / 2, fade))
    return response


class Convolver:
    """Convolves a stream with one or more responses; later parts carry the ringing of earlier ones on."""

    def __init__(self, responses: NDArray[np.float32]) -> None:
        """responses  (channels, taps)"""
        self._responses = np.atleast_2d(responses).astype(np.float32)
        self._spectra: dict[int, NDArray] = {}  # of the responses, by FFT size
        self._late = np.zeros((len(self._responses), self._responses.shape[1] - 1), np.float32)

    def add(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """(num_samples,) -> (channels, num_samples)."""
        count = len(sound) + self._late.shape[1]
        size = int(fft.next_fast_len(count, real=True))
        if size not in self._spectra:
            self._spectra[size] = fft.rfft(self._responses, size)
        made = fft.irfft(fft.rfft(sound.astype(np.float32), size) * self._spectra[size], size)[:, :count]
        made[:, : self._late.shape[1]] += self._late
        self._late = made[:, len(sound) :].copy()
        return made[:, : len(sound)]
