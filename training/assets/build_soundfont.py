"""Make the preview pianos of engine/sound/pianos from note banks of real pianos.

A bank is a folder with index.json (a list of {file, key, lovel, ...}) and one mono sound file per key and layer.
Recorded notes differ in loudness from key to key and layer to layer; here every note is scaled to one smooth curve, so
that only the SoundFont's velocity law (40 log10(velocity / 127) dB) determines the loudness, and the layer only the
timbre. Loudness is then monotonic in velocity.

    python -m training.assets.build_soundfont --banks BANKS    BANKS holds headroom-close/, upright-kw/, old-piano-fb/
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
import tyro
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from engine.sound.preview import PIANO_FOLDER, PIANOS
from training.assets.soundfont import Zone, write_sf3

LAST_DAMPED_KEY = 88  # E6: the strings above have no dampers
UNDAMPED_SEC = 18.0
LEAD_SEC = 0.004  # kept before a tenth of the peak; the maximum delay after the MIDI onset
FADE_SEC = 2.0
FLOOR_DB = -55.0  # level relative to the loudest moment at which a recording ends
PEAK = 0.85  # Vorbis may overshoot a little
HALF_PEDAL_TIMECENTS = 4800  # release 1.9x longer at pedal 30, 3.9x just under 64


@dataclass(frozen=True)
class Recipe:
    """Settings for making one preview piano from one bank.

    longest_sec             maximum length of a held note
    quality                 Vorbis, 0 to 1
    layer_from              lowest velocity of each layer, soft to loud; () keeps the bank's own
    softer_is_darker_cents  for banks of few layers: decrease of the low-pass cutoff from velocity 127 to 0
    """

    name: str
    bank: str
    longest_sec: float
    quality: float
    layer_from: tuple[int, ...] = ()
    softer_is_darker_cents: int = 0


RECIPES = (
    # The grand's layers are 18, 11, 8, 3 and 0 dB under the loudest: by 40 log10 they correspond to velocities 44,
    # 66, 82, 106 and 127. Each layer ends halfway to the next.
    Recipe("grand", "headroom-close", 9.0, 0.45, layer_from=(1, 55, 74, 93, 116)),
    Recipe("upright", "upright-kw", 8.0, 0.4, softer_is_darker_cents=2400),
    Recipe("player", "old-piano-fb", 6.0, 0.4, softer_is_darker_cents=4800),
)


def a_weight(frequency: NDArray) -> NDArray:
    """A-weighting (IEC 61672) as a factor on amplitude; frequency in Hz."""
    f2 = frequency**2
    return 12194**2 * f2**2 / ((f2 + 20.6**2) * (f2 + 12194**2) * np.sqrt((f2 + 107.7**2) * (f2 + 737.9**2)))


def loudness_db(samples: NDArray, sample_rate: int) -> float:
    """A-weighted level of the first half second, dB re full scale."""
    head = samples[: sample_rate // 2]
    spectrum = np.abs(np.fft.rfft(head)) * a_weight(np.fft.rfftfreq(len(head), 1 / sample_rate))
    return float(10 * np.log10(2 * (spectrum**2).sum() / len(head) ** 2 + 1e-12))


def prepare(samples: NDArray, sample_rate: int, key: int, longest_sec: float) -> NDArray:
    """Cut a recorded note to its sounding part, (num_samples,): no rumble, a sharp start, a faded end, peak at PEAK."""
    fundamental = 440 * 2 ** ((key - 69) / 12)
    high_pass = butter(2, np.clip(fundamental / 2, 20, 60), "highpass", fs=sample_rate, output="sos")
    x = np.asarray(sosfilt(high_pass, samples))
    early = np.abs(x[: sample_rate // 4])
    lead = int(LEAD_SEC * sample_rate)
    start = max(0, int(np.argmax(early > 0.1 * early.max())) - lead)
    x = x[start:]
    x[:lead] *= np.linspace(0, 1, lead) ** 2

    frame = sample_rate // 50
    power = (x[: len(x) // frame * frame].reshape(-1, frame) ** 2).mean(1)
    alive = np.nonzero(power > power.max() * 10 ** (FLOOR_DB / 10))[0].max() + 1
    x = x[: min(alive * frame, int(longest_sec * sample_rate))]
    fade = min(int(FADE_SEC * sample_rate), len(x) // 2)
    x[-fade:] *= np.cos(np.linspace(0, np.pi / 2, fade)) ** 2
    return x * (PEAK / np.abs(x).max())


def release_sec(key: int) -> float:
    """Seconds from damper to silence (100 dB): heavy bass strings ring longer, the top octaves have no dampers."""
    return UNDAMPED_SEC if key > LAST_DAMPED_KEY else float(np.interp(key, (21, 60, 88), (0.9, 0.6, 0.4)))


def key_ranges(keys: list[int]) -> list[tuple[int, int]]:
    """Range of MIDI keys for each recorded key: those nearest to it; `keys` ascend.

    >>> key_ranges([21, 24, 30])
    [(0, 22), (23, 27), (28, 127)]
    """
    borders = [(a + b) // 2 for a, b in pairwise(keys)]
    return list(zip([0] + [b + 1 for b in borders], [*borders, 127], strict=True))


def build_zones(bank: Path, recipe: Recipe) -> tuple[list[Zone], int]:
    """All zones of a piano and their sample rate in Hz."""
    rows = json.loads((bank / "index.json").read_text())
    layers = sorted({row["lovel"] for row in rows})
    starts = recipe.layer_from or tuple(layers)
    cut, loudness, rate = {}, {}, 0
    recorded: dict[int, list[float]] = {}
    for row in rows:
        x, rate = soundfile.read(bank / row["file"])
        note = (row["lovel"], row["key"])
        cut[note] = prepare(x, rate, row["key"], recipe.longest_sec)
        loudness[note] = loudness_db(cut[note], rate)
        recorded.setdefault(row["key"], []).append(loudness_db(x, rate))

    # the piano's balance from bass to treble, smoothed over the notes
    medians = {key: float(np.median(levels)) for key, levels in recorded.items() if len(levels) == len(layers)}
    balance = np.polynomial.Polynomial.fit(list(medians), list(medians.values()), 2)
    # attenuation is at least 0: the note with the lowest level gets none
    headroom = min(loudness[note] - balance(note[1]) for note in loudness)

    zones = []
    for layer, low, high in zip(layers, starts, [*(s - 1 for s in starts[1:]), 127], strict=True):
        keys = sorted(key for level, key in cut if level == layer)
        for key, (first, last) in zip(keys, key_ranges(keys), strict=True):
            attenuation = loudness[layer, key] - balance(key) - headroom
            zones.append(Zone(cut[layer, key], key, (first, last), (low, high), attenuation, release_sec(key)))
    return zones, rate


def main(banks: Path, out: Path = PIANO_FOLDER, only: str = "") -> None:
    """Build the pianos.

    Args:
        banks: folder with the note banks
        out: folder for the SoundFonts
        only: build just this piano
    """
    out.mkdir(parents=True, exist_ok=True)
    for recipe in RECIPES:
        if only not in ("", recipe.name):
            continue
        zones, rate = build_zones(banks / recipe.bank, recipe)
        piano = PIANOS[recipe.name]
        info = {"ICOP": piano.credit, "ICMT": "Cut, evened and packed from the recordings named in CREDITS.md"}
        darker = recipe.softer_is_darker_cents
        data = write_sf3(zones, rate, piano.label, info, recipe.quality, darker, HALF_PEDAL_TIMECENTS)
        (out / f"{recipe.name}.sf3").write_bytes(data)
        seconds = sum(len(z.samples) for z in zones) / rate
        print(f"{recipe.name}: {len(zones)} zones, {seconds:.0f} s of sound, {len(data) / 2**20:.1f} MiB")


if __name__ == "__main__":
    tyro.cli(main)
