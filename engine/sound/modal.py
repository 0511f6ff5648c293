"""A physical model of a piano: stiff strings, felt hammer, soundboard.

It is a baseline for the learned renderer (question V4), with the same interface as the sampled pianos. Each key has one
to three strings; a string's partials are f_n = n f_0 sqrt(1 + B n^2) (Fletcher 1964), each a damped sinusoid:

    hammer      strikes at an eighth of the string (a comb), and the harder the shorter: a low pass that opens with
                velocity (Chaigne and Askenfelt 1994)
    decay       at first fast, as the strings push the bridge together, then slow: two rates a string (Weinreich 1977);
                losses grow with f^2
    damper      falls when key and pedal are up; it stops high partials first; the topmost keys have none
    soundboard  about 300 random damped modes, denser and shorter-lived upwards, and the knock of the key
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from engine.music.dampers import damped_sec
from engine.music.types import AudioClip, Performance

SAMPLE_RATE = 32000
TAIL_SEC = 2.0
UNDAMPED_KEY = 90
BLOCK = 256  # samples that one matrix product makes of all partials
FADE_DB = 70.0  # decay after which a note ends
MAX_HZ = 14000.0
GAIN = 0.05  # brings real performances to the level of the sampled pianos


def play_strings(performance: Performance, end_sec: float | None = None) -> AudioClip:
    """The performance on the modal piano, 32 kHz; about ten times faster than real time.

    end_sec  where the sound is cut, by default two seconds after the last release
    """
    end = max(performance.end_sec, 0.0) + TAIL_SEC if end_sec is None else end_sec
    sound = np.zeros(round(end * SAMPLE_RATE) + 1)
    damped = damped_sec(performance, end)
    for i in range(len(performance)):
        start = round(float(performance.onset_sec[i]) * SAMPLE_RATE)
        if not 0 <= start < len(sound):
            continue
        held = float(damped[i] - performance.onset_sec[i])
        note = strike(int(performance.pitch[i]), int(performance.velocity[i]), held)
        room = len(sound) - start
        sound[start : start + len(note)] += note[:room]
    board = soundboard()
    heard = fftconvolve(sound, board)[: len(sound)] if len(sound) > 1 else sound
    peak = np.abs(heard).max(initial=0.0) * GAIN
    return AudioClip((heard * GAIN * min(1.0, 0.99 / max(peak, 1e-9))).astype(np.float32), SAMPLE_RATE)


def strike(key: int, velocity: int, held_sec: float, cents: float = 0.0) -> NDArray[np.float64]:
    """One note until its sound has gone: key 21..108, velocity 1..127, damper down after `held_sec` seconds, tuned
    away by `cents`."""
    hz, size, fast, slow, share = strings(key)
    hz = hz * 2 ** (cents / 1200)
    force = float(np.clip(velocity, 1, 127)) / 127
    even = np.sqrt((_struck(hz, size, key, 0.5) ** 2).sum())  # keys are normalised to one loudness at mezzo-forte
    size = _struck(hz, size, key, force) * force**1.5 / even
    length = held_sec + (0.0 if key < UNDAMPED_KEY else 20.0)
    gone = FADE_DB / 8.686 / max(float(np.quantile(slow, 0.1)), 0.3)
    held = min(length, gone)
    sound = _ring(hz, np.concatenate([size * (1 - share), size * share]), fast, slow, round(held * SAMPLE_RATE))
    if key < UNDAMPED_KEY and length < gone:  # the damper: the felt stops the low strings later, the low partials too
        stop = 9.0 + 0.3 * (key - 21) + 0.004 * hz
        now = np.concatenate([size * (1 - share) * np.exp(-fast * held), size * share * np.exp(-slow * held)])
        after = min(FADE_DB / 8.686 / float(stop.min()), 1.2)
        sound = np.concatenate([sound, _ring(hz, now, fast + stop, slow + stop, round(after * SAMPLE_RATE), held)])
    contact = round((0.0042 - 0.0028 * force) * (1.2 - (key - 21) / 97) * SAMPLE_RATE)
    sound[:contact] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(contact) / contact)[: len(sound)]
    thump = knock(key) * (0.01 * force**1.3)
    count = min(len(thump), len(sound))
    sound[:count] += thump[:count]
    return sound


def _struck(hz: NDArray, size: NDArray, key: int, force: float) -> NDArray:
    """Sizes after the hammer, whose felt hardens with the blow: a low pass opens. In the treble it is small."""
    corner = 260.0 * 2 ** (4.4 * force) * (1 + (key - 21) / 30)  # Hz
    return size / (1 + (hz / corner) ** 2) ** 0.9


@cache
def strings(key: int) -> tuple[NDArray, NDArray, NDArray, NDArray, float]:
    """Of all strings of a key together: frequencies (p,) Hz, sizes (p,), fast and slow decay (p,) 1/s; slow share."""
    rng = np.random.default_rng(key)
    f0 = 440 * 2 ** ((key - 69 + 0.004 * (key - 60) * abs(key - 60) / 48) / 12)  # octaves are stretched a little
    stiffness = np.exp(0.0926 * key - 13.64) + np.exp(-0.0847 * key - 5.82)  # treble and bass bridge (Rauhala 2007)
    n = np.arange(1, 160)
    partial = n * f0 * np.sqrt((1 + stiffness * n**2) / (1 + stiffness))
    n, partial = n[partial < MAX_HZ], partial[partial < MAX_HZ]
    cents = np.array([0.0] if key < 33 else [-0.4, 0.4] if key < 48 else [-0.45, 0.05, 0.5])
    bridge = 1 / (1 + (75 / partial) ** 4)  # the soundboard is too small for the lowest bass
    size = np.abs(np.sin(np.pi * n / 8.1 + 0.05 * rng.standard_normal(len(n)))) / n**0.45 * bridge
    size = size * 10 ** (rng.normal(0, 1.5, len(n)) / 20)
    loss = 0.35 + 2.6 * ((key - 21) / 87) ** 1.8 + 2.2e-7 * partial**2
    hz = np.concatenate([partial * 2 ** (c / 1200) for c in cents])
    fast = np.tile(loss * 3.2, len(cents))
    slow = np.concatenate([loss * f for f in (1.0, 0.8, 1.2)[: len(cents)]])
    return hz, np.tile(size / len(cents), len(cents)), fast, slow, 0.16


def _ring(
    hz: NDArray, size: NDArray, fast: NDArray, slow: NDArray, count: int, since_sec: float = 0.0
) -> NDArray[np.float64]:
    """(count,) samples of sum size exp(-decay t) sin(2 pi f (t + since)): size (2 p,), the fast stage's first.

    A sinusoid's block is its first sample times the powers of its pole: one matrix product makes all blocks.
    """
    if count <= 0:
        return np.zeros(0)
    both, decay = np.concatenate([hz, hz]), np.concatenate([fast, slow])
    pole = (-decay + 2j * np.pi * both) / SAMPLE_RATE
    keep = size > size.max(initial=0.0) * 1e-5
    pole, first = pole[keep], (size * np.exp(2j * np.pi * both * since_sec))[keep]
    blocks = -(-count // BLOCK)
    starts = (first * np.exp(pole * BLOCK * np.arange(blocks)[:, None])).astype(np.complex64)
    powers = np.exp(pole[:, None] * np.arange(BLOCK)).astype(np.complex64)
    return (starts @ powers).imag.reshape(-1)[:count].astype(np.float64)


@cache
def knock(key: int) -> NDArray[np.float64]:
    """(n,) the key bed and the hammer's wood: 50 ms of low-passed noise."""
    rng = np.random.default_rng(1000 + key)
    t = np.arange(int(0.05 * SAMPLE_RATE))
    noise = rng.standard_normal(len(t)) * np.exp(-t / (0.009 * SAMPLE_RATE))
    return fftconvolve(noise, np.hanning(24) / 12)[: len(t)] * 4


@cache
def soundboard() -> NDArray[np.float64]:
    """(n,) impulse response of the soundboard, 0.35 s: the strike itself, and modes that colour it."""
    rng = np.random.default_rng(7)
    t = np.arange(int(0.35 * SAMPLE_RATE)) / SAMPLE_RATE
    board = np.zeros(len(t))
    for hz in np.geomspace(60, 9000, 300) * 2 ** rng.normal(0, 0.03, 300):
        decay = 12 + 0.02 * hz
        board += rng.normal() * (hz / 500 + 1) ** -0.35 * np.exp(-decay * t) * np.sin(2 * np.pi * hz * t)
    board *= 0.02
    board[0] += 1.0
    return board
