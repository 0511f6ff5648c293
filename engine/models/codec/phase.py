"""Streaming phase reconstruction: SPSI plus fast Griffin-Lim, block by block.

Single-pass spectrogram inversion (Beauregard, Harish and Wyse 2015) advances the phase of each spectral peak at its
frequency, which suits ringing strings; a few iterations of fast Griffin-Lim (Perraudin, Balazs and Sondergaard 2013)
then make neighbouring spectra consistent. Streamed and whole output are equal.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

WINDOW, HOP = 2048, 320
ROUNDS = 4
MOMENTUM = 0.99
BLOCK = 40  # spectra per block, 0.4 s
AHEAD = 8  # look-ahead in spectra, 80 ms
BEHIND = 8  # previous spectra of the consistency constraint
_SHAPE = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
_BIN = np.arange(WINDOW // 2 + 1)
_TURN = np.exp(-1j * np.pi * _BIN).astype(np.complex64)  # phase reference: the middle of the window


class PhaseFinder:
    """Streaming conversion of magnitude spectra to sound; spectrum t is centred on sample 320 t. The output does not
    depend on the split into calls.
    """

    def __init__(self) -> None:
        bins = WINDOW // 2 + 1
        self._waiting = np.zeros((0, bins), np.float32)
        self._decided = np.zeros((0, bins), np.complex64)  # the last BEHIND spectra
        self._overlap = np.zeros(WINDOW, np.float32)  # sound of the decided spectra, from sample _at - WINDOW / 2
        self._weight = np.zeros(WINDOW, np.float32)
        self._count = 0  # spectra decided

    def push(self, magnitudes: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, 1025) magnitudes -> the final samples so far, (num_samples,) float32, possibly none."""
        self._waiting = np.concatenate([self._waiting, magnitudes.astype(np.float32)])
        parts = []
        while len(self._waiting) >= BLOCK + AHEAD:
            parts.append(self._decide(BLOCK))
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def finish(self) -> NDArray[np.float32]:
        """The rest, up to 320 samples per spectrum in total."""
        total = (self._count + len(self._waiting)) * HOP
        given = max(self._count * HOP - WINDOW // 2, 0)
        parts = []
        while len(self._waiting):
            parts.append(self._decide(min(BLOCK, len(self._waiting))))
        tail = self._overlap / np.maximum(self._weight, 0.05)
        start = max(WINDOW // 2 - self._count * HOP, 0)
        parts.append(tail[start:])
        sound = np.concatenate(parts)[: total - given]
        return np.pad(sound, (0, total - given - len(sound)))

    def _decide(self, count: int) -> NDArray[np.float32]:
        """Find the phases of the next `count` spectra and return the samples that no later spectrum affects."""
        magnitude = self._waiting[: count + AHEAD]
        known = len(self._decided)
        phase = np.angle(self._decided[-1]) if known else np.zeros(len(_BIN), np.float32)
        spectra = np.concatenate([self._decided, magnitude * np.exp(1j * _carry(magnitude, phase))]).astype(
            np.complex64
        )
        before = np.zeros_like(spectra)
        for _ in range(ROUNDS):
            again = _spectra(_overlap_add(spectra), len(spectra))
            moved = again + MOMENTUM * (again - before)
            before = again
            size = np.abs(moved)
            spectra[known:] = magnitude * moved[known:] / np.maximum(size[known:], 1e-12)
        fresh = spectra[known : known + count]
        self._waiting = self._waiting[count:]
        self._decided = spectra[max(known + count - BEHIND, 0) : known + count].copy()
        return self._add(fresh)

    def _add(self, fresh: NDArray[np.complex64]) -> NDArray[np.float32]:
        size = (len(fresh) - 1) * HOP + WINDOW
        sound, weight = np.zeros(size + HOP, np.float32), np.zeros(size + HOP, np.float32)
        frames = np.asarray(scipy.fft.irfft(fresh * _TURN, WINDOW, axis=1)) * _SHAPE
        for t, frame in enumerate(frames):
            sound[t * HOP : t * HOP + WINDOW] += frame
            weight[t * HOP : t * HOP + WINDOW] += _SHAPE**2
        sound[:WINDOW] += self._overlap
        weight[:WINDOW] += self._weight
        final = len(fresh) * HOP
        start = max(WINDOW // 2 - self._count * HOP, 0)  # nothing sounds before sample 0
        self._count += len(fresh)
        self._overlap, self._weight = sound[final : final + WINDOW], weight[final : final + WINDOW]
        return (sound[start:final] / np.maximum(weight[start:final], 0.05)).astype(np.float32)


def to_sound(magnitudes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, 1025) magnitudes of a Hann-windowed STFT, window 2,048, hop 320 -> (320 T,) samples."""
    finder = PhaseFinder()
    return np.concatenate([finder.push(magnitudes), finder.finish()])


def _carry(magnitude: NDArray, phase: NDArray) -> NDArray[np.float32]:
    """SPSI: phases (T, 1025) after a spectrum with phases `phase`; each peak advances at its frequency."""
    log = np.log(magnitude + 1e-9)
    left, middle, right = log[:, :-2], log[:, 1:-1], log[:, 2:]
    is_peak = (middle > left) & (middle >= right)
    shift = 0.5 * (left - right) / np.minimum(left - 2 * middle + right, -1e-6)
    out = np.zeros(magnitude.shape, np.float32)
    for t in range(len(magnitude)):
        peak = np.flatnonzero(is_peak[t]) + 1
        if len(peak):
            turn = 2 * np.pi * HOP / WINDOW * (peak + np.clip(shift[t, peak - 1], -0.5, 0.5))
            owner = np.searchsorted((peak[1:] + peak[:-1]) // 2, _BIN)
            phase = ((phase[peak] + turn) % (2 * np.pi))[owner]  # the bins of a peak share its phase advance
        out[t] = phase
    return out


def _overlap_add(spectra: NDArray[np.complex64]) -> NDArray[np.float32]:
    frames = np.asarray(scipy.fft.irfft(spectra * _TURN, WINDOW, axis=1)) * _SHAPE
    size = (len(frames) - 1) * HOP + WINDOW
    sound, weight = np.zeros(size, np.float32), np.full(size, 1e-2, np.float32)
    for t, frame in enumerate(frames):
        sound[t * HOP : t * HOP + WINDOW] += frame
        weight[t * HOP : t * HOP + WINDOW] += _SHAPE**2
    return sound / weight


def _spectra(sound: NDArray[np.float32], count: int) -> NDArray[np.complex64]:
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP][:count]
    return (scipy.fft.rfft(frames * _SHAPE, axis=1) * np.conj(_TURN)).astype(np.complex64)
