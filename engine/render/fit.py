"""Fit a sampled piano to a recording: tuning, velocities, room, spectral envelopes, noise, stereo image, level.

Analysis by synthesis: the sampled piano plays the recording's own notes, and each step takes out one difference between
the two sounds. The result is a set of filters, so rendering is a sampler and convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from engine.music.types import AudioClip, Performance
from engine.render.colours import Colours, fit_colours, groups
from engine.render.filters import EQ_TAPS, minimum_phase
from engine.render.noise import SILENT_DB, fit_noise, noise_loop
from engine.render.room import RoomFit, echoes, fit_room, response, usual_room
from engine.render.tuning import Tuning, fit_tuning
from engine.render.velocity import VelocityCurve, fit_velocity
from engine.sound.bands import COUNT, SAMPLE_RATE, db, energies, over_frequency
from engine.sound.spectra import level_db, sounding_db
from engine.sound.stereo import Image

MIN_GAIN_DB, MAX_GAIN_DB = -40.0, 18.0
UNHEARD_DB = -60.0  # of the loudest band of the dry sound: a band below gives no gain of its own
SMOOTH = np.array([0.25, 0.5, 0.25])
EARLY_SEC = 0.015  # of the noise that widens the direct sound
MIDDLE_SEED, SIDE_SEED, EARLY_SEED, NOISE_SEED, SIDE_NOISE_SEED = 1, 2, 3, 4, 5
PENALTY_DB = 0.5  # by which another piano must be nearer: the error of six seconds says little about other music


class Pianos(Protocol):
    """Dry pianos that can be fitted, and the loudness of the result: `Preview`, `ModalPiano`, `DdspPianos`."""

    def candidates(self) -> tuple[str, ...]:
        """The pianos that a fit tries: the first is taken unless another is clearly nearer."""
        ...

    def preview(self, performance: Performance, piano: str = "grand") -> AudioClip: ...

    def dry(
        self, performance: Performance, piano: str, samples: int, cents: NDArray[np.float64] | None = None,
        chunk: int = 2 * SAMPLE_RATE,
    ) -> Iterator[NDArray[np.float32]]: ...  # fmt: skip


@runtime_checkable
class TogetherPianos(Protocol):
    """Pianos that play several groups of notes at once with less work than one after the other."""

    def dry_groups(
        self, groups: list[Performance], piano: str, samples: int, cents: NDArray[np.float64] | None = None,
        chunk: int = 2 * SAMPLE_RATE,
    ) -> Iterator[NDArray[np.float32]]: ...  # fmt: skip


def dry_groups(
    pianos: Pianos, groups: list[Performance], piano: str, samples: int, cents: NDArray[np.float64] | None = None,
    chunk: int = 2 * SAMPLE_RATE,
) -> Iterator[NDArray[np.float32]]:  # fmt: skip
    """Parts (groups, n) of the dry sounds of groups of notes that are played together; arguments as of `Pianos.dry`."""
    if isinstance(pianos, TogetherPianos):
        yield from pianos.dry_groups(groups, piano, samples, cents, chunk)
        return
    for several in zip(*(pianos.dry(group, piano, samples, cents, chunk) for group in groups), strict=True):
        yield np.stack(several)


@dataclass(frozen=True)
class Instrument:
    """A sampled piano fitted to a recording.

    piano      one of `Pianos.candidates`
    colours    envelopes of groups of notes against that of all
    gain_db    (COUNT,) spectral envelope: dB by which each band of the dry piano and its echoes is raised
    noise      (1 or 2, num_samples) the recording's steady noise, to be repeated; None where it has none
    responses  (1 or 2, taps) middle, and side where the recording is stereo: what the dry sound is convolved with
    error_db   mean distance of the fitted sound from the recording, per band and frame
    """

    piano: str
    tuning: Tuning
    velocity: VelocityCurve
    colours: Colours
    room: RoomFit
    gain_db: NDArray[np.float64]
    noise: NDArray[np.float32] | None
    responses: NDArray[np.float32]
    error_db: float

    def __post_init__(self) -> None:
        self.responses.setflags(write=False)


def fit_instrument(
    preview: Pianos, recording: NDArray[np.float32], notes: Performance, image: Image | None = None, seed: int = 0,
) -> Instrument:  # fmt: skip
    """The piano that sounds like the recording when it plays the recording's notes.

    recording  (num_samples,) at 32 kHz: a prompt's sound
    notes      what is played in it
    image      its stereo image; None makes an instrument of one channel
    seed       another seed has other echoes of the same room
    """
    wanted, count = energies(recording), len(recording)
    plain = {piano: played(preview, notes, piano, count) for piano in preview.candidates()}
    piano = nearest_piano(wanted, {name: energies(dry) for name, dry in plain.items()})
    tuning, velocity = fit_tuning(recording, plain[piano], notes), fit_velocity(recording, plain[piano], notes)
    strokes = velocity.played(notes)
    boundary = float(np.median(strokes.velocity)) + 0.5
    cents = tuning.of_keys()
    dry = np.concatenate(list(dry_groups(preview, groups(strokes, boundary), piano, count, cents)), 1)
    of_groups = np.stack([energies(d) for d in dry])
    room = fit_room(wanted, of_groups.sum(0))
    heard = np.stack([g + in_room(g, room) for g in of_groups])
    gain = envelope(wanted, heard.sum(0))
    colours = Colours(boundary, fit_colours(wanted, heard * 10 ** (gain / 10)))
    coloured = np.sum([fftconvolve(d, f)[:count] for d, f in zip(dry, colour_filters(colours), strict=True)], 0)
    echo = response(room, _seed(seed, MIDDLE_SEED))
    # once more against the sound itself, whose echoes are not the expected ones but these
    gain = gain + envelope(wanted, energies(fftconvolve(coloured, middle_response(gain, echo))[:count]))
    fitted = Instrument(piano, tuning, velocity, colours, room, gain, None, np.zeros((1, 1), np.float32), 0.0)
    return finished(preview, notes, recording, coloured, fitted, echo, image, seed)


def nearest_piano(wanted: NDArray[np.float64], plain: dict[str, NDArray[np.float64]]) -> str:
    """The piano whose notes, each in its own room and envelope, come nearest to the recording: the first of `plain`
    unless another one's error is lower by PENALTY_DB.

    wanted  (frames, COUNT) energies of the recording; plain: of each piano that plays its notes
    """
    error: dict[str, float] = {}
    for name, dry in plain.items():
        room = fit_room(wanted, dry)
        made = dry + in_room(dry, room)
        error[name] = distance_db(wanted, made * 10 ** (envelope(wanted, made) / 10))
    first = next(iter(error))
    best = min(error, key=lambda name: error[name])
    return best if error[best] < error[first] - PENALTY_DB else first


def in_room(dry: NDArray[np.float64], room: RoomFit) -> NDArray[np.float64]:
    """(frames, COUNT) the energies of the echoes of dry energies."""
    late = np.hstack([echoes(dry[:, b : b + 1], t60, room.delay_sec) for b, t60 in enumerate(room.t60_sec)])
    return 10 ** (room.wet_db / 10) * late


def distance_db(wanted: NDArray[np.float64], made: NDArray[np.float64]) -> float:
    """Mean distance of (frames, COUNT) energies in dB, from 50 dB under the loudest on."""
    target, ours = db(wanted), db(made)
    floor = target.max() - 50
    return float(np.abs(np.maximum(target, floor) - np.maximum(ours, floor)).mean())


def colour_filters(colours: Colours) -> list[NDArray[np.float64]]:
    """Of each group of notes its filter, (EQ_TAPS,)."""
    return [minimum_phase(shift) for shift in colours.shift_db]


def finished(
    preview: Pianos, notes: Performance, recording: NDArray[np.float32], dry: NDArray[np.float64],
    fitted: Instrument, echo: NDArray[np.float64], image: Image | None, seed: int,
) -> Instrument:  # fmt: skip
    """The responses and the noise of fitted parameters, at the level at which the preview plays the recording's notes.

    dry  (num_samples,) the fitted piano playing the notes, in its colours, without the envelope of all and the room
    """
    middle = middle_response(fitted.gain_db, echo)
    sound = fftconvolve(dry, middle)[: len(dry)].astype(np.float32)
    target, ours = energies(recording), energies(sound)
    noise = fit_noise(target, ours)
    heard = preview.preview(notes, "grand").samples[: len(sound)]
    level = 10 ** ((_loudness_db(heard) - _loudness_db(sound)) / 20)
    responses = middle[None]
    if image is not None:
        responses = np.stack([middle, side_response(middle, fitted.gain_db, fitted.room, image, seed)])
    return replace(
        fitted, noise=_noise(noise, level, image, seed), responses=(level * responses).astype(np.float32),
        error_db=distance_db(target, ours),
    )  # fmt: skip


def _noise(noise_db: NDArray, level: float, image: Image | None, seed: int) -> NDArray[np.float32] | None:
    """(1 or 2, num_samples) noise of the middle, and of its own in the side; None for none."""
    if noise_db.max() <= SILENT_DB:
        return None
    loops = [noise_loop(noise_db, _seed(seed, NOISE_SEED))]
    if image is not None:
        wide = noise_db + np.minimum(db(np.array(image.width)), 0)
        loops.append(noise_loop(wide, _seed(seed, SIDE_NOISE_SEED)))
    return (level * np.stack(loops)).astype(np.float32)


def played(
    preview: Pianos, notes: Performance, piano: str, samples: int, tuning: Tuning | None = None
) -> NDArray[np.float32]:  # fmt: skip
    """(samples,) the notes on the dry piano."""
    return np.concatenate(list(preview.dry(notes, piano, samples, None if tuning is None else tuning.of_keys())))


def envelope(wanted: NDArray[np.float64], made: NDArray[np.float64]) -> NDArray[np.float64]:
    """(COUNT,) dB by which the bands of one sound are above those of another, from (frames, COUNT) energies."""
    target, ours = db(wanted.sum(0)), db(made.sum(0))
    gain = np.clip(target - ours, MIN_GAIN_DB, MAX_GAIN_DB)
    heard = ours > ours.max() + UNHEARD_DB
    gain = np.interp(np.arange(COUNT), np.flatnonzero(heard), gain[heard])
    return np.convolve(np.pad(gain, 1, mode="edge"), SMOOTH, "valid")


def middle_response(gain: NDArray[np.float64], echo: NDArray[np.float64]) -> NDArray[np.float64]:
    """(taps,) direct sound and echoes, both through the envelope."""
    whole = np.pad(echo, (0, max(0, EQ_TAPS - len(echo))))
    whole[0] += 1.0
    return fftconvolve(whole, minimum_phase(gain))


def side_response(
    middle: NDArray[np.float64], gain: NDArray[np.float64], room: RoomFit, image: Image, seed: int
) -> NDArray[np.float64]:
    """Impulse response (taps,) of the side channel: the panned part, decorrelated echoes, the width of the direct
    sound."""
    width = np.array(image.width)
    wet = 10 ** (room.wet_db / 10)
    share = np.minimum(width * (1 + wet), wet)  # of the echoes, whose side has no more than their middle
    rest = np.maximum(width * (1 + wet) - share, 1e-4)
    late = response(replace(room, wet_db=db(np.maximum(share, 1e-4))), _seed(seed, SIDE_SEED))
    early = response(RoomFit(np.full(COUNT, 4 * EARLY_SEC), db(rest), 0.0), EARLY_SEED)
    spread = np.zeros(max(len(late), len(early)))
    spread[: len(late)] += late
    spread[: len(early)] += early
    side = np.zeros(len(middle))
    for part in (fftconvolve(spread, minimum_phase(gain)), leaning(middle, np.array(image.lean))):
        side[: len(part)] += part[: len(side)]
    return side


def leaning(middle: NDArray[np.float64], lean: NDArray[np.float64]) -> NDArray[np.float64]:
    """(taps,) the middle times (COUNT,) amplitudes of either sign, without delay."""
    size = 512
    shape = np.roll(np.fft.irfft(over_frequency(lean, size)), size // 2) * np.hanning(size)
    return fftconvolve(middle, shape)[size // 2 :]


def _seed(seed: int, part: int) -> int:
    return 1000 * seed + part


def _loudness_db(samples: NDArray[np.float32]) -> float:
    return sounding_db(level_db(samples, SAMPLE_RATE, 0.05))


def unfitted(preview: Pianos, recording: NDArray[np.float32], image: Image | None, seed: int = 0) -> Instrument:
    """The first piano in a usual room, with half of the recording's spectral envelope: where its notes are not known.

    The envelope is taken against a chromatic scale; half, because it is the music's as much as the instrument's.
    """
    keys = np.arange(36, 97)
    scale = Performance(0.1 * np.arange(len(keys)), np.full(len(keys), 0.5), keys, np.full(len(keys), 64))
    piano = preview.candidates()[0]
    dry = played(preview, scale, piano, round(0.1 * len(keys) * SAMPLE_RATE))
    gain = envelope(energies(recording), energies(dry))
    gain = 0.5 * (gain - gain.mean())
    room = usual_room()
    fitted = Instrument(
        piano, Tuning(), VelocityCurve(), Colours(), room, gain, None, np.zeros((1, 1), np.float32), 0.0
    )
    made = finished(preview, scale, dry, dry, fitted, response(room, _seed(seed, MIDDLE_SEED)), image, seed)
    return replace(made, noise=None)
