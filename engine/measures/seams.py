"""Seam test for long renders: detectability of joins by four measures across a moment.

If no measure separates seams from random moments, the area under the ROC curve is 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from engine.music.types import AudioClip, BadInput
from engine.sound.spectra import log_mel

NEAR_SEC = 0.1  # compared before and after a moment
AWAY_SEC = 0.25  # minimum distance of random moments from seams
MEASURES = ("spectral flux", "loudness step", "timbre distance", "click")


@dataclass(frozen=True)
class SeamTest:
    """auc of each of MEASURES and of their sum of ranks; how many seams and random moments were compared.

    rare  share of the seams whose spectral flux is above that of 95 % of the moments, 0.05 where they are alike
    """

    auc: dict[str, float]
    together: float
    seams: int
    moments: int
    rare: float


def across(clip: AudioClip, sec: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 4) changes across each moment, in the order of MEASURES.

    Spectral flux: sum of rises of 40 log-mel bands (23 ms every 3 ms) over the 12 ms around it. Loudness step: |dB|
    between the 100 ms after and before. Timbre distance: RMS difference of their mean mel spectra, without level.
    Click: the largest second difference of samples within 2 ms, over its typical size within 100 ms.
    """
    rate, samples = clip.sample_rate, clip.samples
    hop = round(0.003 * rate)
    table = log_mel(samples, rate, 1 << int(np.log2(0.032 * rate)), hop, 40, 60.0, 14000.0, 1e-3).astype(np.float64)
    bend = np.abs(np.diff(samples.astype(np.float64), 2))
    near, rows = round(NEAR_SEC * rate), []
    for t in sec:
        at = round(t * rate)
        before, after = samples[max(at - near, 0) : at], samples[at : at + near]
        f, wide = round(at / hop), near // hop
        past, future = table[max(f - wide, 0) : max(f - 3, 1)].mean(0), table[f + 4 : f + wide + 1].mean(0)
        step = 10 * abs(np.log10(((after**2).mean() + 1e-10) / ((before**2).mean() + 1e-10)))
        timbre = np.sqrt((((past - past.mean()) - (future - future.mean())) ** 2).mean())
        flux = np.maximum(table[f + 2] - table[max(f - 2, 0)], 0).sum()
        around = bend[max(at - near, 0) : at + near]
        click = bend[max(at - round(0.002 * rate), 0) : at + round(0.002 * rate)].max() / (
            np.sqrt((around**2).mean()) + 1e-9
        )
        rows.append((flux, step, timbre, click))
    return np.array(rows, float).reshape(-1, 4)


def auc(higher: NDArray, lower: NDArray) -> float:
    """How often a value of the first set is above one of the second, ties counting half: 0.5 when they are alike."""
    ranks = rankdata(np.concatenate([higher, lower]))
    return float((ranks[: len(higher)].sum() - len(higher) * (len(higher) + 1) / 2) / (len(higher) * len(lower)))


def seam_test(clip: AudioClip, seams_sec: NDArray[np.float64], moments: int = 400, seed: int = 0) -> SeamTest:
    """Compare seams (seconds) with random moments of the same sound away from them. Raises BadInput under 5 seams."""
    seams = np.asarray(seams_sec, float)
    seams = seams[(seams > 2 * NEAR_SEC) & (seams < clip.duration_sec - 2 * NEAR_SEC - 2.0)]  # excludes the final decay
    if len(seams) < 5:
        raise BadInput(
            f"{len(seams)} seams can be measured in this sound; at least 5 are needed, render a longer piece."
        )
    rng = np.random.default_rng(seed)
    other = rng.uniform(seams.min(), seams.max(), 8 * moments)
    other = other[np.abs(other[:, None] - seams).min(1) > AWAY_SEC][:moments]
    if not len(other):
        raise BadInput("The seams lie so close that nothing is between them; render in longer parts.")
    here, there = across(clip, seams), across(clip, other)
    found = {name: auc(here[:, i], there[:, i]) for i, name in enumerate(MEASURES)}
    ranks = np.stack([rankdata(column) for column in np.concatenate([here, there]).T]).sum(0)
    rare = float((here[:, 0] > np.quantile(there[:, 0], 0.95)).mean())
    return SeamTest(found, auc(ranks[: len(here)], ranks[len(here) :]), len(here), len(there), rare)
