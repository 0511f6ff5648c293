"""The steady noise of a recording, where it is louder between the notes than the fitted instrument is there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.sound.bands import SAMPLE_RATE, db, energies, over_frequency

QUIET_PERCENT = 10  # the softest frames of a band: between the notes
MIN_GAP_DB = 3.0  # by which the recording must be louder there
MAX_DB = -45.0  # of a band's noise, against the mean of the loudest band: more is music that rings on
SILENT_DB = -120.0  # a band without noise
LOOP_SEC = 8.0
RISE_SEC = 0.2  # noise begins so slowly


def fit_noise(wanted: NDArray[np.float64], made: NDArray[np.float64]) -> NDArray[np.float64]:
    """(COUNT,) dB of the energy that is missing in the softest frames of each band; SILENT_DB where nothing is.

    wanted, made  (frames, COUNT) energies of the recording and of the fitted instrument playing its notes
    """
    ours, theirs = (np.percentile(x, QUIET_PERCENT, axis=0) for x in (made, wanted))
    most = db(wanted.mean(0)).max() + MAX_DB
    missing = np.minimum(db(np.maximum(theirs - ours, 0)), most)
    return np.where(db(theirs) > db(ours) + MIN_GAP_DB, np.maximum(missing, SILENT_DB), SILENT_DB)


def noise_loop(noise_db: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
    """(num_samples,) LOOP_SEC of noise at 32 kHz with this energy in each band; its end goes on to its beginning."""
    count = round(LOOP_SEC * SAMPLE_RATE)
    white = np.random.default_rng(seed).standard_normal(count)
    per_band = db(energies(white).mean(0))
    gain = over_frequency(noise_db - per_band, count) / 20
    return np.fft.irfft(np.fft.rfft(white) * 10**gain, count).astype(np.float32)


def noise_from(loop: NDArray[np.float32], first: int, count: int) -> NDArray[np.float32]:
    """(..., count) samples of the endless noise from sample `first` of the piece on."""
    at = np.arange(first, first + count)
    rise = np.clip(at / (RISE_SEC * SAMPLE_RATE), 0, 1).astype(np.float32)
    return loop[..., at % loop.shape[-1]] * rise
