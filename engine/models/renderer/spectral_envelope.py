"""Colour: what a piano, a room and a microphone do to a spectrum, band by band, measured against a sketch of the notes.

The same notes on the sketch's piano and in the prompt differ by the prompt's colour; the same difference is then
asked of the rendering, and what it lacks is filtered in. So the notes that happen to be played do not count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE, WINDOW = 32000, 2048
CENTRES = 50 * 2 ** (np.arange(25) / 3)  # Hz, thirds of an octave up to 12.8 kHz
MOST, LEAST = 2.0, -6.0  # nats, 17 dB and -52 dB: no band is moved further
ASKED = 1.4  # nats, 12 dB: no more of a band is asked than that above the sketch, whose soft notes may have none of it
QUIET = 1e-12  # of the loudest band: a band below says nothing
UNSURE = 1e-4  # of the loudest band: a decoder is not told of a band below
COLOURS = 2 * len(CENTRES) + 1


def bin_weights() -> NDArray[np.float64]:
    """(bins, bands) overlapping triangles on a logarithmic axis; each bin's weights sum to 1."""
    octave = np.log2(np.maximum(np.arange(WINDOW // 2 + 1) * SAMPLE_RATE / WINDOW, 1) / CENTRES[0]) * 3
    at = np.clip(octave, 0, len(CENTRES) - 1)
    return np.clip(1 - np.abs(at[:, None] - np.arange(len(CENTRES))), 0, None)


_WEIGHTS = bin_weights()


def band_energy(magnitudes: NDArray) -> NDArray[np.float64]:
    """(T, 1025) magnitudes -> (25,) energy in thirds of an octave, summed over time"""
    return (magnitudes.astype(np.float64) ** 2).sum(0) @ _WEIGHTS


def colour(sound: NDArray, sketch: NDArray, quiet: float = QUIET) -> NDArray[np.float64]:
    """(25,) nats by which bands of a sound stand above those of its sketch, from both energies; 0 where silent."""
    heard = (sketch > quiet * sketch.max()) & (sound > 0)
    return np.where(heard, 0.5 * np.log(np.maximum(sound, 1e-20) / np.maximum(sketch, 1e-20)), 0.0)


def prompt_colours(sound: NDArray, sketch: NDArray | None) -> NDArray[np.float32]:
    """(COLOURS,) what a decoder is told of a prompt, from (T, 1025) magnitudes of it and of its notes' sketch.

    The level of each band, in nats times 0.25; the colour against the sketch, and 1, or zeros when it is not known what
    is played in the prompt.
    """
    energy = band_energy(sound)
    level = 0.125 * np.log(energy / max(len(sound), 1) + 1e-4)
    if sketch is None:
        return np.concatenate([level, np.zeros(len(CENTRES) + 1)]).astype(np.float32)
    return np.concatenate([level, colour(energy, band_energy(sketch), UNSURE), [1.0]]).astype(np.float32)


class Recolour:
    """Filters spectra, as they come, so that their colour against the sketch becomes the wanted one.

    A decoder knows nothing below its floor, and would leave hiss there; what lies there is taken from the sketch.

    wanted  (25,) of `colour`; None leaves the colour as it is
    floor   the decoder's least magnitude
    """

    def __init__(self, wanted: NDArray[np.float64] | None, floor: float):
        self._wanted, self._floor = None if wanted is None else np.clip(wanted, LEAST, ASKED), floor
        self._sound, self._sketch = np.zeros(len(CENTRES)), np.zeros(len(CENTRES))
        self._gain: NDArray[np.float64] | None = None

    def add(self, magnitudes: NDArray[np.float32], sketch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, 1025) spectra and those of the sketch, both as they are -> (T, 1025); the filter moves without steps."""
        if not len(magnitudes):
            return magnitudes
        self._sketch += band_energy(sketch)
        if self._wanted is None:
            level = 0.5 * np.log((self._sound.sum() + (magnitudes**2).sum()) / max(self._sketch.sum(), 1e-20))
            shape = np.full(len(CENTRES), level)
        else:
            shape = self._wanted
        below = np.clip((magnitudes / self._floor - 1) / 0.5, 0, 1)  # 0 at the floor
        under = np.clip(sketch * np.exp(shape @ _WEIGHTS.T) / self._floor, 1e-4, 1)
        magnitudes = magnitudes * (below + (1 - below) * under)
        self._sound += band_energy(magnitudes)
        if self._wanted is None:
            return magnitudes.astype(np.float32)
        gain = np.clip(self._wanted - colour(self._sound, self._sketch), LEAST, MOST)
        before = gain if self._gain is None else self._gain
        self._gain = gain
        share = (np.arange(len(magnitudes)) + 1)[:, None] / len(magnitudes)
        return (magnitudes * np.exp((before + share * (gain - before)) @ _WEIGHTS.T)).astype(np.float32)
