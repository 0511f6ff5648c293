"""The stereo image of a recording, per band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.sound.bands import in_bands, spectra

WIDEST_DB = 3.0  # of the side against the middle
NARROWEST_DB = -30.0
MAX_LEAN = 0.7
SILENT = 1e-3  # of the middle's energy: minimum side energy of a stereo recording


@dataclass(frozen=True)
class Image:
    """The side, (left - right) / 2, relative to the middle, (left + right) / 2, per band.

    lean   (COUNT,) amplitude of the middle in the side: positive is towards the left
    width  (COUNT,) energy of the uncorrelated side relative to the middle's
    """

    lean: tuple[float, ...]
    width: tuple[float, ...]


def measure_image(left: NDArray, right: NDArray) -> Image | None:
    """The image of two channels (num_samples,) at 32 kHz; None if they are equal."""
    middle, side = spectra((left + right) / 2), spectra((left - right) / 2)
    energy = in_bands((np.abs(middle) ** 2).sum(0)) + 1e-12
    beside = in_bands((np.abs(side) ** 2).sum(0))
    if beside.sum() < SILENT * energy.sum():
        return None
    lean = np.clip(in_bands((side * middle.conj()).real.sum(0)) / energy, -MAX_LEAN, MAX_LEAN)
    width = np.clip(beside / energy - lean**2, 10 ** (NARROWEST_DB / 10), 10 ** (WIDEST_DB / 10))
    return Image(tuple(np.round(lean, 4).tolist()), tuple(np.round(width, 5).tolist()))
