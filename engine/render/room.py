"""The room of a recording: reverberation time, level and delay of its echoes, by band, and the response made of them.

The echoes of a band decay exponentially (Polack's model), so its energy in the recording is that of the dry instrument
plus an exponentially weighted sum of its past. The parameters are the ones whose sum comes nearest to the recording.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from engine.sound.bands import COUNT, HOP_SEC, SAMPLE_RATE, db, over_frequency

T60_SEC = np.geomspace(0.15, 5.0, 14)  # candidates
WET_DB = np.arange(-27.0, 6.1, 3.0)
DELAY_SEC = np.array([0.0, 0.016, 0.032])  # on the grid of the frames
USUAL_T60_SEC, USUAL_WET_DB = 1.0, -10.0  # what a recording that shows nothing is taken for
SPREAD_OCTAVES, SPREAD_DB = 1.0, 6.0  # how far rooms lie from that: standard deviations
SURE_DB = 0.08  # a candidate whose error is so much above the best has 1/e of its weight
SHARED = np.array([1, 2, 3, 4, 3, 2, 1]) / 16.0  # a band's evidence is shared with its neighbours
RANGE_DB = 50.0  # below the loudest band of the recording: nothing is compared below
LONGEST_SEC = 3.5
RAMP_SEC = 0.01


@dataclass(frozen=True)
class RoomFit:
    """t60_sec, wet_db (COUNT,): reverberation time; energy of the echoes against the direct sound. delay_sec: before
    the first echo."""

    t60_sec: NDArray[np.float64]
    wet_db: NDArray[np.float64]
    delay_sec: float


def usual_room() -> RoomFit:
    """The default room, used where the fit fails."""
    return RoomFit(np.full(COUNT, USUAL_T60_SEC), np.full(COUNT, USUAL_WET_DB), 0.01)


def echoes(dry: NDArray[np.float64], t60_sec: float, delay_sec: float) -> NDArray[np.float64]:
    """(frames, COUNT) dry energies -> the energies of their echoes, as many in all as there is dry energy."""
    keep = 10 ** (-6 * HOP_SEC / t60_sec)
    late = lfilter([0, 1 - keep], [1, -keep], dry, axis=0)
    frames = round(delay_sec / HOP_SEC)
    return np.pad(late, ((frames, 0), (0, 0)))[: len(late)]


def errors(wanted: NDArray[np.float64], dry: NDArray[np.float64], delay_sec: float) -> NDArray[np.float64]:
    """(T60_SEC, WET_DB, COUNT) mean distance in dB of each candidate from the recording, from (frames, COUNT) energies.

    The gain of a band is whatever gives it the recording's energy.
    """
    target = db(wanted)
    floor = target.max() - RANGE_DB
    target = np.maximum(target, floor)
    found = np.empty((len(T60_SEC), len(WET_DB), COUNT))
    for i, t60 in enumerate(T60_SEC):
        late = echoes(dry, t60, delay_sec)
        for j, wet in enumerate(10 ** (WET_DB / 10)):
            made = dry + wet * late
            made *= wanted.sum(0) / made.sum(0)
            found[i, j] = np.abs(target - np.maximum(10 * np.log10(made + 1e-12), floor)).mean(0)
    return found


def fit_room(wanted: NDArray[np.float64], dry: NDArray[np.float64]) -> RoomFit:
    """The room in which the dry instrument comes nearest to the recording.

    wanted, dry  (frames, COUNT) energies of the recording and of the instrument playing its notes

    Each value is the mean over all candidates, weighted by how near they come and how usual they are. So it moves as
    far from the usual as the recording gives reason to, and never lies at the end of the range.
    """
    usual = np.add.outer(
        (np.log2(T60_SEC / USUAL_T60_SEC) / SPREAD_OCTAVES) ** 2, ((WET_DB - USUAL_WET_DB) / SPREAD_DB) ** 2
    )
    tables = np.stack([errors(wanted, dry, delay) for delay in DELAY_SEC])
    padded = np.pad(tables, ((0, 0), (0, 0), (0, 0), (3, 3)), mode="edge")
    tables = np.add.reduce([share * padded[..., k : k + COUNT] for k, share in enumerate(SHARED)])
    of_delay = tables.mean(-1).min((1, 2))
    chance = np.exp(-(of_delay - of_delay.min()) / SURE_DB)
    log = -tables[int(of_delay.argmin())] / SURE_DB - 0.5 * usual[..., None]
    weight = np.exp(log - log.max((0, 1)))
    weight /= weight.sum((0, 1))
    t60 = 2 ** (weight * np.log2(T60_SEC)[:, None, None]).sum((0, 1))
    wet = (weight * WET_DB[None, :, None]).sum((0, 1))
    return RoomFit(t60, wet, float((chance * DELAY_SEC).sum() / chance.sum()))


def response(room: RoomFit, seed: int) -> NDArray[np.float64]:
    """(num_samples,) the echoes of an impulse at 32 kHz, without the impulse: noise whose bands decay each at its rate.

    Its expected energy in a band is `wet_db` above the impulse's; other seeds give other, independent echoes.
    """
    count = int(min(room.t60_sec.max() * 1.05, LONGEST_SEC) * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    noise = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    made = np.zeros(count)
    for band, (t60, wet) in enumerate(zip(room.t60_sec, room.wet_db, strict=True)):
        decay = 10 ** (-3 * time / t60) * np.clip(time / RAMP_SEC, 0, 1)
        share = over_frequency(np.eye(COUNT)[band], 2 * (len(noise) - 1))[: len(noise)]
        made += np.fft.irfft(noise * share, count) * decay * np.sqrt(10 ** (wet / 10) / (decay**2).sum())
    fade = count // 8
    made[-fade:] *= np.cos(np.linspace(0, np.pi / 2, fade))
    return np.concatenate([np.zeros(round(room.delay_sec * SAMPLE_RATE)), made])
