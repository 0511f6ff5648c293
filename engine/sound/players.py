"""Non-neural pianos behind one interface: baselines of the renderer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from engine.music.types import AudioClip, BadInput, Performance
from engine.sound.modal import play_strings
from engine.sound.preview import Preview
from engine.sound.spectra import LEVEL_DB, MAX_PEAK, level_gain

Player = Callable[[Performance], AudioClip]


def players(banks: Path | None = None) -> Mapping[str, Player]:
    """Name to player: the preview pianos of FluidSynth that are on this computer, the modal piano, and note banks.

    banks  a folder whose subfolders are note banks (see `engine.sound.sampler`); BadInput when it holds none
    """
    preview = Preview()

    def sampled(piano: str) -> Player:
        return lambda performance: preview.preview(performance, piano)

    found: dict[str, Player] = {f"fluidsynth {name}": sampled(name) for name in preview.available()}
    found["modal strings"] = play_strings
    if banks is not None:
        folders = sorted(path.parent for path in Path(banks).glob("*/index.json"))
        if not folders:
            raise BadInput(f"{banks} holds no note bank; name a folder with banks in it, each with its index.json.")
        found.update({f"bank {folder.name}": bank_player(folder) for folder in folders})
    return MappingProxyType(found)


def bank_player(folder: Path) -> Player:
    """A player of one note bank, opened at its first note."""
    from engine.sound.sampler import SAMPLE_RATE, Bank, play

    opened: list[Bank] = []

    def sound(performance: Performance) -> AudioClip:
        if not opened:
            opened.append(Bank.load(folder))
        samples = play(opened[0], performance)
        return AudioClip(samples / max(1.0, float(np.abs(samples).max(initial=0.0)) / MAX_PEAK), SAMPLE_RATE)

    return sound


def levelled(clip: AudioClip, db: float = LEVEL_DB) -> AudioClip:
    """The clip with its gated mean power (down to 25 dB under the loudest) at `db` dBFS, or as close as peaks allow, so
    that comparisons do not depend on level."""
    gain = level_gain(clip.samples, clip.sample_rate, db)
    return AudioClip(clip.samples * np.float32(gain), clip.sample_rate)
