"""Third-octave bands, the resolution of the fit of an instrument to a recording."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import stft

SAMPLE_RATE = 32000  # Hz; the rate of the sampled pianos
WINDOW, HOP = 2048, 512
HOP_SEC = HOP / SAMPLE_RATE
CENTRES = 50 * 2 ** (np.arange(25) / 3)  # Hz, 50 Hz to 12.8 kHz
COUNT = len(CENTRES)
TINY = 1e-12  # energy of digital silence, so that logarithms stay finite


def position(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frequencies as positions on the band axis: 0 at the lowest centre, COUNT - 1 at the highest, held outside."""
    return np.clip(np.log2(np.maximum(hz, 1.0) / CENTRES[0]) * 3, 0, COUNT - 1)


def over_frequency(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """(COUNT,) values of the bands -> (size // 2 + 1,) at the bins of an FFT, interpolated on a logarithmic axis."""
    return np.interp(position(np.fft.rfftfreq(size, 1 / SAMPLE_RATE)), np.arange(COUNT), values)


def _weights() -> NDArray[np.float64]:
    at = position(np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE))
    return np.clip(1 - np.abs(at[:, None] - np.arange(COUNT)), 0, None)


_WEIGHTS = _weights()


def spectra(samples: NDArray) -> NDArray[np.complex128]:
    """(num_samples,) at 32 kHz -> (frames, 1025) complex spectra, a frame every 16 ms."""
    return stft(samples, SAMPLE_RATE, nperseg=WINDOW, noverlap=WINDOW - HOP)[2].T


def energies(samples: NDArray) -> NDArray[np.float64]:
    """(num_samples,) at 32 kHz -> (frames, COUNT) energy of each band in each frame."""
    return (np.abs(spectra(samples)) ** 2) @ _WEIGHTS + TINY


def in_bands(of_bins: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 1025) energies of bins -> (..., COUNT)."""
    return of_bins @ _WEIGHTS


def db(energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energies in decibels."""
    return 10 * np.log10(np.maximum(energy, TINY))
