"""Banks of piano notes for training renders: from a SoundFont, from a folder of recorded notes, or from physics.

`engine.sound.sampler` plays banks. Banks of real pianos have their own licences and are not in the repository (the
model card of the codec lists them).

    python -m training.assets.note_banks soundfont /usr/share/sounds/sf2/TimGM6mb.sf2 data/banks/timgm
    python -m training.assets.note_banks recordings FOLDER_OF_OGG data/banks/salamander
    python -m training.assets.note_banks strings data/banks/strings-1 --seed 1
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

SAMPLE_RATE = 32000
KEYS = range(21, 109, 3)
NAMES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
NOTE_FILE = re.compile(r"([A-G])(#?)(\d)v(\d+)\.(ogg|wav|flac)$")


def write_bank(folder: Path, notes: list[tuple[int, int, int, NDArray[np.float32], float]]) -> None:
    """notes: (key, lowest velocity, highest velocity, sound (num_samples,), gain in dB that restores its level)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for key, low, high, sound, gain_db in notes:
        name = f"{key:03d}_{low:03d}.flac"
        soundfile.write(folder / name, sound, SAMPLE_RATE, subtype="PCM_16")
        rows.append({"file": name, "key": key, "lovel": low, "hivel": high, "gain_db": gain_db})
    (folder / "index.json").write_text(json.dumps(rows, indent=0))


def from_soundfont(path: Path, folder: Path, velocities: tuple[int, ...] = (24, 44, 62, 80, 98, 118)) -> None:
    """Play every third key at a few velocities through fluidsynth, 10 s held, dry."""
    import fluidsynth

    synth = fluidsynth.Synth(gain=0.9, samplerate=float(SAMPLE_RATE))
    synth.setting("synth.reverb.active", 0)
    synth.setting("synth.chorus.active", 0)
    font = synth.sfload(str(path))
    synth.program_select(0, font, 0, 0)
    edges = [1, *((a + b) // 2 for a, b in itertools.pairwise(velocities)), 128]
    notes = []
    for key in KEYS:
        for layer, velocity in enumerate(velocities):
            synth.noteon(0, key, velocity)
            sound = synth.get_samples(10 * SAMPLE_RATE).reshape(-1, 2).mean(1).astype(np.float32) / 32768
            synth.noteoff(0, key)
            synth.system_reset()
            synth.program_select(0, font, 0, 0)
            level = 40 * np.log10(127 / velocity)  # the sampler's velocity law, removed so that the SoundFont's remains
            notes.append((key, edges[layer], edges[layer + 1] - 1, *_fit(sound, level)))
    synth.delete()
    write_bank(folder, notes)


def _fit(sound: NDArray, extra_db: float = 0.0) -> tuple[NDArray[np.float32], float]:
    """Trim start and silent end, normalise the peak to 0.9; returns the sound and the inverse gain."""
    peak = max(float(np.abs(sound).max()), 1e-6)
    first = int(np.argmax(np.abs(sound) > 0.02 * peak))
    last = len(sound) - int(np.argmax(np.abs(sound[::-1]) > 2.5e-4 * peak))
    sound = sound[max(first - 64, 0) : last] * (0.9 / peak)
    return sound.astype(np.float32), float(20 * np.log10(peak / 0.9) + extra_db)


def from_recordings(source: Path, folder: Path) -> None:
    """A folder of files named like D#4v9.ogg, key and layer 1..16 (as Alexander Holm's Salamander is distributed)."""
    found = [(m, p) for p in sorted(source.rglob("*")) if (m := NOTE_FILE.search(p.name))]
    layers = sorted({int(m[4]) for m, _ in found})
    edges = [1 + round(127 * i / len(layers)) for i in range(len(layers) + 1)]
    notes = []
    for match, path in found:
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        sound = soxr.resample(sound.mean(1), rate, SAMPLE_RATE)[: 14 * SAMPLE_RATE]
        key = 12 * (int(match[3]) + 1) + NAMES[match[1]] + (match[2] == "#")
        layer = layers.index(int(match[4]))
        middle = (edges[layer] + edges[layer + 1] - 1) / 2
        sound, gain = _fit(sound, 40 * np.log10(127 / middle))
        notes.append((key, edges[layer], edges[layer + 1] - 1, sound, gain))
    write_bank(folder, notes)


def from_strings(folder: Path, seed: int, layers: int = 4) -> None:
    """Stiff strings struck by a hammer (modal synthesis): partials f_n = n f0 sqrt((1 + B n^2) / (1 + B)), two-stage
    decay of detuned strings, shorter hammer contact at higher velocity. Each seed is a different instrument.
    """
    g = np.random.default_rng(seed)
    stiff, loss, strike = 2 ** g.uniform(-1, 1.3), 2 ** g.uniform(-0.8, 0.8), g.uniform(0.09, 0.15)
    felt, tilt, detune = 2 ** g.uniform(-0.8, 0.8), g.uniform(0.1, 0.7), g.uniform(0.3, 1.6)
    body = np.interp(np.arange(128), np.linspace(0, 127, 24), g.normal(0, 3.0, 24))  # soundboard, dB by semitone
    edges = np.linspace(1, 128, layers + 1).astype(int)
    notes = []
    for key in KEYS:
        f0 = 440 * 2 ** ((key - 69) / 12)
        b = stiff * (np.exp(0.0926 * key - 13.64) if key > 44 else 7e-5 * 2 ** ((44 - key) / 12))
        seconds = float(np.clip(12 * 2 ** (-(key - 21) / 22), 0.9, 10))
        time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        n = np.arange(1, 120)
        hz = n * f0 * np.sqrt((1 + b * n**2) / (1 + b))
        n, hz = n[hz < 14000], hz[hz < 14000]
        decay = loss * (0.55 + 3.5 * ((key - 21) / 87) ** 1.5 + 5.5e-7 * hz**2)
        cents = np.array([0.0] if key < 33 else [-0.5, 0.5] if key < 48 else [-0.6, 0.05, 0.6]) * detune
        colour = 10 ** (np.interp(69 + 12 * np.log2(hz / 440), np.arange(128), body) / 20)
        for layer in range(layers):
            velocity = (edges[layer] + edges[layer + 1] - 1) / 2 / 127
            corner = felt * 350 * 2 ** (5.2 * velocity) * (1 + (key - 21) / 60)
            size = np.abs(np.sin(np.pi * n * strike)) / n**tilt / (1 + (hz / corner) ** 2) * colour
            sound = np.zeros(len(time))
            for f, a, d in zip(hz, size, decay, strict=True):
                if a < 1e-5 * size.max():
                    continue
                for string, c in enumerate(cents):
                    rate = d * (1.0 if string % 2 == 0 else 0.4)
                    phase = 2 * np.pi * g.uniform()
                    sound += (
                        a / len(cents) * np.exp(-rate * time) * np.sin(2 * np.pi * f * 2 ** (c / 1200) * time + phase)
                    )
            knock = g.standard_normal(1920) * np.exp(-np.arange(1920) / 380) * size.max() * 0.2 * velocity
            sound[:1920] += np.convolve(knock, np.ones(8) / 8)[:1920]
            sound[:40] *= np.linspace(0, 1, 40)
            notes.append(
                (
                    key,
                    int(edges[layer]),
                    int(edges[layer + 1]) - 1,
                    (0.8 * sound / np.abs(sound).max()).astype(np.float32),
                    0.0,
                )
            )
    write_bank(folder, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["soundfont", "recordings", "strings"])
    parser.add_argument("paths", nargs="+", type=Path, help="source (none for strings) and bank folder")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.kind == "soundfont":
        from_soundfont(*args.paths)
    elif args.kind == "recordings":
        from_recordings(*args.paths)
    else:
        from_strings(args.paths[0], args.seed)


if __name__ == "__main__":
    main()
