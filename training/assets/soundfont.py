"""Write a SoundFont with Ogg Vorbis samples (SF3), the form that fluidsynth reads.

The layout is SoundFont 2.04 (Creative, 2006): a RIFF file with three lists, INFO (names and credits), sdta (the samples
one after another) and pdta (nine tables that map keys and velocities to samples). SF3 differs in two
points: each sample is a complete Ogg Vorbis stream whose start and end are byte offsets, and bit 4 of its type is set.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

# Generators (SoundFont 2.04, section 8.1.3) and modulator sources (8.2) used here.
FILTER_CUTOFF, RELEASE, INSTRUMENT, KEY_RANGE, VELOCITY_RANGE = 8, 38, 41, 43, 44
ATTENUATION, FINE_TUNE, SAMPLE_ID, ROOT_KEY = 48, 52, 53, 58
VELOCITY_FALLING = 0x0102  # velocity, unipolar, 127 -> 0 and 0 -> 1
VELOCITY_SWITCH = 0x0C02  # velocity, on or off at 64
PEDAL_RISING = 0x00C0  # controller 64, unipolar, 0 -> 0 and 127 -> 1

ATTENUATION_PER_DB = 25  # 10 centibels by the standard, but EMU hardware and later players apply only 0.4 of the value
MONO_VORBIS = 0x11


@dataclass(frozen=True)
class Zone:
    """One sample with its keys and velocities.

    samples         (num_samples,) float in [-1, 1]
    root_key        MIDI key at which it sounds unchanged
    keys            lowest and highest MIDI key
    velocities      lowest and highest velocity
    attenuation_db  attenuation at velocity 127, at least 0
    release_sec     decay time of 100 dB after the damper falls
    tune_cents      tuning correction
    """

    samples: NDArray[np.float64]
    root_key: int
    keys: tuple[int, int]
    velocities: tuple[int, int]
    attenuation_db: float
    release_sec: float
    tune_cents: float = 0.0


def timecents(seconds: float) -> int:
    """Time in SoundFont units, 1200 to a doubling, 0 at one second."""
    return round(1200 * np.log2(seconds))


def encode_vorbis(samples: NDArray, sample_rate: int, quality: float) -> bytes:
    """One mono Ogg Vorbis stream, quality 0 (small) to 1, encoded in parts of a second (longer calls can crash
    libsndfile).
    """
    data = io.BytesIO()
    with soundfile.SoundFile(data, "w", sample_rate, 1, "VORBIS", format="OGG", compression_level=1 - quality) as file:
        for start in range(0, len(samples), sample_rate):
            file.write(samples[start : start + sample_rate])
    return data.getvalue()


def write_sf3(
    zones: Sequence[Zone],
    sample_rate: int,
    name: str,
    info: dict[str, str],
    quality: float = 0.5,
    softer_is_darker_cents: int = 0,
    half_pedal_timecents: int = 0,
) -> bytes:
    """A SoundFont of one preset (bank 0, program 0) and one instrument.

    info                    RIFF names to text: ICOP copyright, IENG engineer, ICMT comment
    softer_is_darker_cents  decrease of the low-pass cutoff from velocity 127 to 0
    half_pedal_timecents    increase of the release time per full pedal travel; applies below pedal 64
    """
    streams = [encode_vorbis(z.samples, sample_rate, quality) for z in zones]
    ends = np.cumsum([len(s) for s in streams])
    headers = b"".join(
        struct.pack(
            "<20sIIIIIBbHH",
            f"k{z.root_key:03d}v{z.velocities[0]:03d}".encode(),
            end - len(stream), end, 0, len(z.samples) - 1, sample_rate, z.root_key, 0, 0, MONO_VORBIS,
        )
        for z, stream, end in zip(zones, streams, ends, strict=True)
    ) + struct.pack("<20sIIIIIBbHH", b"EOS", *[0] * 9)  # fmt: skip

    modulators = [  # source, destination, amount, amount source, transform
        # The default modulator darkens soft notes; layers do this better. Set it, or disable it, in both forms that
        # players support.
        (VELOCITY_FALLING, FILTER_CUTOFF, -softer_is_darker_cents, 0, 0),
        (VELOCITY_FALLING, FILTER_CUTOFF, 0, VELOCITY_SWITCH, 0),
        (PEDAL_RISING, RELEASE, half_pedal_timecents, 0, 0),
    ]
    bags, generators = [(0, 0)], []  # the first, global zone holds the modulators
    for index, z in enumerate(zones):
        bags.append((len(generators), len(modulators)))
        generators += [
            (KEY_RANGE, z.keys[0] | z.keys[1] << 8),
            (VELOCITY_RANGE, z.velocities[0] | z.velocities[1] << 8),
            (RELEASE, timecents(z.release_sec)),
            (ATTENUATION, round(z.attenuation_db * ATTENUATION_PER_DB)),
            (FINE_TUNE, round(z.tune_cents)),
            (ROOT_KEY, z.root_key),
            (SAMPLE_ID, index),
        ]
    bags.append((len(generators), len(modulators)))

    title = name.encode()[:19]
    no_modulator = struct.pack("<HHhHH", 0, 0, 0, 0, 0)
    pdta = (
        _chunk(b"phdr", struct.pack("<20sHHHIII20sHHHIII", title, 0, 0, 0, 0, 0, 0, b"EOP", 0, 0, 1, 0, 0, 0))
        + _chunk(b"pbag", struct.pack("<HHHH", 0, 0, 1, 0))
        + _chunk(b"pmod", no_modulator)
        + _chunk(b"pgen", struct.pack("<HHHH", INSTRUMENT, 0, 0, 0))
        + _chunk(b"inst", struct.pack("<20sH20sH", title, 0, b"EOI", len(bags) - 1))
        + _chunk(b"ibag", b"".join(struct.pack("<HH", *b) for b in bags))
        + _chunk(b"imod", b"".join(struct.pack("<HHhHH", *m) for m in modulators) + no_modulator)
        + _chunk(b"igen", b"".join(struct.pack("<HH", g, v & 0xFFFF) for g, v in generators) + bytes(4))
        + _chunk(b"shdr", headers)
    )
    texts = {"isng": "EMU8000", "INAM": name, **info}
    about = _chunk(b"ifil", struct.pack("<HH", 3, 1))
    about += b"".join(_chunk(k.encode(), _text(v)) for k, v in texts.items())
    sound = b"".join(streams)
    sound += bytes(len(sound) % 2)
    body = b"sfbk" + _list(b"INFO", about) + _list(b"sdta", _chunk(b"smpl", sound)) + _list(b"pdta", pdta)
    return _chunk(b"RIFF", body)


def _chunk(tag: bytes, data: bytes) -> bytes:
    if len(data) % 2:
        raise ValueError(f"chunk {tag} has {len(data)} bytes; SoundFont chunks are even, pad the data")
    return tag + struct.pack("<I", len(data)) + data


def _text(value: str) -> bytes:
    """Text for INFO: at most 256 bytes, padded with one or two zeros to an even length."""
    text = value.encode()[:254] + b"\0"
    return text + bytes(len(text) % 2)


def _list(tag: bytes, data: bytes) -> bytes:
    return _chunk(b"LIST", tag + data)
