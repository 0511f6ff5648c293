"""The nine style axes: descriptors of a performance, and labels of the sliders.

The first nine dimensions of z_p are trained to equal these descriptors (attribute-regularised latent, after AR-VAE,
Pati and Lerch 2020): each in standard deviations from other performances of the same music.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.music.types import BadInput


@dataclass(frozen=True)
class Axis:
    """One slider: name in code, label on screen, meaning of its two ends."""

    name: str
    label: str
    low: str
    high: str


AXES = (
    Axis("tempo", "Tempo", "slower", "faster"),
    Axis("rubato", "Rubato", "steady", "free"),
    Axis("loudness", "Loudness", "softer", "louder"),
    Axis("contrast", "Dynamic contrast", "even", "varied"),
    Axis("articulation", "Articulation", "detached", "legato"),
    Axis("spread", "Chord spread", "together", "rolled"),
    Axis("voicing", "Melody voicing", "blended", "sung out"),
    Axis("lead", "Melody lead", "with the bass", "ahead"),
    Axis("pedal", "Pedal", "dry", "pedalled"),
)


_DB_PER_VELOCITY = 0.27  # about velocity 64, where loudness grows with 40 log10 of the velocity


def units(deviation: NDArray) -> tuple[str, ...]:
    """One standard deviation of each axis in musical units, as text.

    deviation  (9,) in the units of `descriptors`

    >>> units(np.array([0.265, 0.106, 5.41, 2.05, 0.297, 0.289, 4.28, 7.13, 0.135]))[:3]
    ('20 % of the tempo', '8 % of a beat', '5.4 velocities (1.5 dB)')
    """
    d = np.asarray(deviation, float)

    def share(octaves: float) -> str:
        return f"{100 * (2**octaves - 1):.0f} %"

    def loud(velocity: float) -> str:
        return f"{velocity:.1f} velocities ({_DB_PER_VELOCITY * velocity:.1f} dB)"

    return (
        f"{share(d[0])} of the tempo", f"{share(d[1])} of a beat", loud(d[2]), loud(d[3]), f"{share(d[4])} of a note",
        f"{100 * np.expm1(d[5]):.0f} % of the spread", loud(d[6]), f"{d[7]:.0f} ms", f"{100 * d[8]:.0f} % of the pedal",
    )  # fmt: skip


def z_from_sliders(z_axes: Sequence[float], base: Sequence[float], sliders: NDArray, size: int) -> tuple[float, ...]:
    """z of `size` numbers: `base` (zeros when empty), moved by sliders (standard deviations each).

    sliders  (9, 9): row a is the change of the first nine numbers per deviation of slider a
    Raises BadInput for too many sliders, another base, and values beyond -10 to 10.
    """
    if len(z_axes) > len(AXES) or len(base) not in (0, size):
        raise BadInput(
            f"A style has up to {len(AXES)} axis values on a base of {size}; {len(z_axes)} and {len(base)} arrived."
        )
    z = np.zeros(size)
    z[: len(base)] = base
    z[: len(AXES)] += np.asarray(z_axes, float) @ sliders[: len(z_axes)]
    if not np.isfinite(z).all() or np.abs(z).max(initial=0) > 10:
        raise BadInput("A style value is outside -10 to 10; sliders go from -3 to 3.")
    return tuple(float(v) for v in z)


def character(z: Sequence[float], most: int = 2, least: float = 0.35) -> str:
    """Words for what is most unusual about a style: the ends of up to `most` axes, the strongest first.

    z      (d,); the first nine numbers are the descriptors, in standard deviations among performances of one music
    least  deviations below which an axis is usual and has no word

    >>> character((-1.2, 0.8, 0, 0, 0.1, 0, 0.5, 0, 0))
    'slower, free'
    >>> character((0.0,) * 9)
    ''
    """
    axes = sorted(zip(AXES, z, strict=False), key=lambda pair: -abs(pair[1]))
    return ", ".join(axis.high if value > 0 else axis.low for axis, value in axes[:most] if abs(value) >= least)


def descriptors(
    beat_index: NDArray, chord_index: NDArray, pitch: NDArray, log2_beat_period: NDArray, velocity: NDArray,
    timing_sec: NDArray, articulation_log2: NDArray, pedal: NDArray, played: NDArray,
) -> NDArray[np.float64]:  # fmt: skip
    """Nine numbers of one passage, in the order of AXES; NaN if the passage has nothing to measure.

    All arguments (n,), pedal (n, 4) 0..127. Units: octaves of tempo, octaves, velocity, velocity, octaves, log ms,
    velocity, ms, 0..1. Chord measures use chords of two or more played notes; the top note is the melody.
    """
    k = np.flatnonzero(played)
    out = np.full(len(AXES), np.nan)
    if len(k) < 8:
        return out
    beats = np.unique(beat_index[k], return_index=True)[1]
    log_period = log2_beat_period[k]
    out[0], out[1] = -log_period.mean(), log_period[beats].std()
    out[2], out[3] = velocity[k].mean(), velocity[k].std()
    out[4] = np.clip(articulation_log2[k], -4, 3).mean()
    out[8] = pedal[k].mean() / 127
    _, group = np.unique(chord_index[k], return_inverse=True)
    count = np.bincount(group)
    if (count >= 2).sum() < 4:
        return out
    big = count >= 2
    ms = np.clip(timing_sec[k] * 1000, -400, 400)
    order = np.lexsort((pitch[k], group))
    top = order[np.append(np.diff(group[order]) > 0, True)]  # the highest note of each chord, in group order
    others = np.maximum(count - 1, 1)
    mean_ms = np.bincount(group, ms) / count
    spread = np.sqrt(np.maximum(np.bincount(group, ms**2) / count - mean_ms**2, 0))
    out[5] = np.log1p(np.minimum(spread[big], 100)).mean()
    rest_velocity = (np.bincount(group, velocity[k]) - velocity[k][top]) / others
    out[6] = (velocity[k][top] - rest_velocity)[big].mean()
    rest_ms = (np.bincount(group, ms) - ms[top]) / others
    out[7] = np.clip(rest_ms - ms[top], -60, 60)[big].mean()
    return out
