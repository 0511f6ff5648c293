"""Match the prompt's spectral envelope: the effect of piano, room and microphone, with the notes factored out.

The envelope is the level of each band relative to the guide, the same notes on a sampled piano. The renderer's sound is
filtered until its envelope equals that of the prompt.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE, WINDOW = 32000, 2048
CENTRES = 50 * 2 ** (np.arange(25) / 3)  # Hz, thirds of an octave up to 12.8 kHz
MOST, LEAST = 2.0, -6.0  # nats, 17 dB and -52 dB: limits of the correction per band
ASKED = 1.4  # nats, 12 dB: limit of a band's target above the guide, whose soft notes may lack the band
QUIET = 1e-12  # of the loudest band: weaker bands are ignored
UNSURE = 1e-4  # of the loudest band: weaker bands are masked in the decoder's input
ENVELOPE_SIZE = 2 * len(CENTRES) + 1


def bin_weights() -> NDArray[np.float64]:
    """(bins, bands) overlapping triangles on a logarithmic axis; each bin's weights sum to 1."""
    octave = np.log2(np.maximum(np.arange(WINDOW // 2 + 1) * SAMPLE_RATE / WINDOW, 1) / CENTRES[0]) * 3
    at = np.clip(octave, 0, len(CENTRES) - 1)
    return np.clip(1 - np.abs(at[:, None] - np.arange(len(CENTRES))), 0, None)


_WEIGHTS = bin_weights()


def band_energy(magnitudes: NDArray) -> NDArray[np.float64]:
    """(T, 1025) magnitudes -> (25,) energy in thirds of an octave, summed over time"""
    return (magnitudes.astype(np.float64) ** 2).sum(0) @ _WEIGHTS


def spectral_envelope(sound: NDArray, guide: NDArray, quiet: float = QUIET) -> NDArray[np.float64]:
    """(25,) level of bands relative to the guide in nats, from both energies; 0 if silent."""
    heard = (guide > quiet * guide.max()) & (sound > 0)
    return np.where(heard, 0.5 * np.log(np.maximum(sound, 1e-20) / np.maximum(guide, 1e-20)), 0.0)


def prompt_envelope(sound: NDArray, guide: NDArray | None) -> NDArray[np.float32]:
    """(ENVELOPE_SIZE,) decoder input for a prompt, from (T, 1025) magnitudes of it and of its guide: the level of each
    band in nats times 0.25; the envelope relative to the guide, and 1, or zeros if the prompt's notes are unknown.
    """
    energy = band_energy(sound)
    level = 0.125 * np.log(energy / max(len(sound), 1) + 1e-4)
    if guide is None:
        return np.concatenate([level, np.zeros(len(CENTRES) + 1)]).astype(np.float32)
    return np.concatenate([level, spectral_envelope(energy, band_energy(guide), UNSURE), [1.0]]).astype(np.float32)


class EnvelopeMatcher:
    """Streaming filter that gives spectra the target envelope relative to the guide. A decoder has no information below
    its floor, where hiss would remain; the guide replaces it there.

    wanted  (25,) of `spectral_envelope`; None keeps the envelope
    floor   the decoder's least magnitude
    """

    def __init__(self, wanted: NDArray[np.float64] | None, floor: float):
        self._wanted, self._floor = None if wanted is None else np.clip(wanted, LEAST, ASKED), floor
        self._sound, self._guide = np.zeros(len(CENTRES)), np.zeros(len(CENTRES))
        self._gain: NDArray[np.float64] | None = None

    def add(self, magnitudes: NDArray[np.float32], guide: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, 1025) magnitudes and those of the guide -> (T, 1025); the filter changes smoothly."""
        if not len(magnitudes):
            return magnitudes
        self._guide += band_energy(guide)
        if self._wanted is None:
            level = 0.5 * np.log((self._sound.sum() + (magnitudes**2).sum()) / max(self._guide.sum(), 1e-20))
            shape = np.full(len(CENTRES), level)
        else:
            shape = self._wanted
        below = np.clip((magnitudes / self._floor - 1) / 0.5, 0, 1)  # 0 at the floor
        under = np.clip(guide * np.exp(shape @ _WEIGHTS.T) / self._floor, 1e-4, 1)
        magnitudes = magnitudes * (below + (1 - below) * under)
        self._sound += band_energy(magnitudes)
        if self._wanted is None:
            return magnitudes.astype(np.float32)
        gain = np.clip(self._wanted - spectral_envelope(self._sound, self._guide), LEAST, MOST)
        before = gain if self._gain is None else self._gain
        self._gain = gain
        share = (np.arange(len(magnitudes)) + 1)[:, None] / len(magnitudes)
        return (magnitudes * np.exp((before + share * (gain - before)) @ _WEIGHTS.T)).astype(np.float32)
