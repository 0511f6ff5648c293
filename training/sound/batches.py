"""Batches for the renderer: target and prompt from different clips of one session."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.models.renderer.masked_renderer import SPAN
from engine.models.renderer.spectral_envelope import WINDOW, prompt_envelope
from engine.music.types import Performance
from engine.tokens.note_frames import WIDTH, note_frames
from training.sound.pack import FRAME_RATE, HOP, SoundPack, clip_performance

REAL_SHARE = 0.12
PROMPT = (100, 150)  # frames
NO_PROMPT, NO_PROMPT_NOTES = 0.06, 0.4


class CodePack:
    """The file that `training.sound.prepare_renderer` writes."""

    def __init__(self, path: Path, guided: bool = False):
        z = np.load(path)
        self.z = {k: z[k] for k in z.files}
        self.frame_ptr, self.session, self.split = self.z["frame_ptr"], self.z["session"], self.z["split"]
        self.real = np.char.startswith(self.z["piano"], "real-")
        name = "codebooks" if "codebooks" in self.z else "books"  # the name in older packs
        self.codebooks = torch.from_numpy(self.z[name])
        self.codec = str(self.z["codec"])
        sound = path.with_suffix(".sketches.i16")
        self.guide_samples = np.memmap(sound, np.int16, "r") if sound.exists() else np.zeros(0, np.int16)
        self.guides = np.load(path.with_suffix(".sketches.npy"), mmap_mode="r") if guided else self.z["codes"][:0]

    def frames(self, clip: int) -> int:
        return int(self.frame_ptr[clip + 1] - self.frame_ptr[clip])

    def codes(self, clip: int, start: int, frames: int) -> NDArray[np.int64]:
        at = int(self.frame_ptr[clip]) + start
        return self.z["codes"][at : at + frames].astype(np.int64)

    def guide(self, clip: int, start: int, frames: int) -> NDArray[np.int64]:
        """The codes of the clip's guide, from `training.sound.prepare_guides`."""
        at = int(self.frame_ptr[clip]) + start
        return np.asarray(self.guides[at : at + frames], np.int64)

    def guide_sound(self, clip: int, start: int, frames: int) -> NDArray[np.float32]:
        """(640 frames,) samples of the clip's guide."""
        at = (int(self.frame_ptr[clip]) + start) * HOP
        return (self.guide_samples[at : at + frames * HOP] / 32768).astype(np.float32)

    def sound(self, pack: SoundPack, clip: int, start: int, frames: int) -> NDArray[np.float32]:
        """(640 frames,) samples of the clip, at the level at which it was coded."""
        return np.clip(self.z["gain"][clip] * pack.sound(clip, start, frames), -1, 1)

    def performance(self, clip: int) -> Performance:
        return clip_performance(self.z, clip)

    def notes(self, clip: int, start: int, frames: int) -> NDArray[np.float32]:
        return note_frames(self.performance(clip), FRAME_RATE, start, frames)

    def sessions(self, split: str) -> list[NDArray[np.int64]]:
        """The clips of each session of this split with at least two clips."""
        rows = np.flatnonzero((self.split == split) & (np.diff(self.frame_ptr) > PROMPT[1]))
        groups = [rows[self.session[rows] == s] for s in np.unique(self.session[rows])]
        return [g for g in groups if len(g) > 1]


class Batches:
    """Random batches; `frames` is the length of a target. Given the sound pack of the same clips, with samples."""

    def __init__(
        self, pack: CodePack, split: str, frames: int, batch: int, seed: int, limit: int = 0,
        sound: SoundPack | None = None, iterative: bool = False,
    ):  # fmt: skip
        self.sound, self.iterative = sound, iterative
        self.pack, self.frames, self.batch, self.random = pack, frames, batch, np.random.default_rng(seed)
        sessions = pack.sessions(split)
        self.real = [s for s in sessions if pack.real[s[0]]]
        self.made = [s for s in sessions if not pack.real[s[0]]]
        if limit:
            self.made = self.made[:limit]

    def __call__(self) -> dict[str, Tensor]:
        items = [self._item() for _ in range(self.batch)]
        return {k: torch.from_numpy(np.stack([item[k] for item in items])) for k in items[0]}

    def _item(self) -> dict[str, NDArray]:
        g, pack = self.random, self.pack
        real = self.real and (g.random() < REAL_SHARE or not self.made)
        pool = self.real if real else self.made
        target, source = g.choice(pool[int(g.integers(len(pool)))], 2, replace=False).tolist()
        start = int(g.integers(0, max(pack.frames(target) - self.frames, 0) + 1))
        if pack.frames(target) < self.frames:
            return self._item()
        length = int(g.integers(PROMPT[0], PROMPT[1] + 1))
        at = int(g.integers(0, pack.frames(source) - length + 1))
        room = PROMPT[1] - length
        valid = np.arange(PROMPT[1]) >= room
        prompt_codes = np.pad(pack.codes(source, at, length), ((room, 0), (0, 0)))
        prompt_guide = np.pad(pack.guide(source, at, length), ((room, 0), (0, 0)))
        noted = bool(g.random() >= NO_PROMPT_NOTES)
        prompt_notes = np.zeros((PROMPT[1], WIDTH), np.float32)
        if noted:
            prompt_notes[room:] = pack.notes(source, at, length)
        extra = {}
        if self.sound is not None:
            heard = _magnitudes(pack.sound(self.sound, source, at, length))
            guide = _magnitudes(pack.guide_sound(source, at, length)) if noted else None
            extra = {
                "samples": pack.sound(self.sound, target, start, self.frames),
                "guide_samples": pack.guide_sound(target, start, self.frames),
                "colours": prompt_envelope(heard, guide),
            }
        return extra | {
            "codes": pack.codes(target, start, self.frames),
            "notes": pack.notes(target, start, self.frames),
            "guide": pack.guide(target, start, self.frames),
            "prompt_guide": prompt_guide,
            "known": self._known(),
            "prompt_codes": prompt_codes,
            "prompt_notes": prompt_notes,
            "prompt_noted": np.array(noted),
            "prompt_valid": valid & (g.random() >= NO_PROMPT),
        }

    def _known(self) -> NDArray[np.bool_]:
        """(frames,) flags of the frames given to the model: none, or, for decoding in several passes, a past, often a
        future, and a part of the frames between.
        """
        g, count = self.random, self.frames
        known = np.zeros(count, bool)
        if not self.iterative:
            return known
        low = int(g.integers(20, 121)) if g.random() < 0.7 else 0
        high = count - (int(g.integers(10, 80)) if g.random() < 0.2 else 0)
        spans = np.arange(low, high, SPAN)
        shown = g.permutation(spans)[: len(spans) - max(1, math.ceil(math.cos(math.pi / 2 * g.random()) * len(spans)))]
        known[:low] = True
        known[high:] = True
        for s in shown:
            known[s : min(s + SPAN, high)] = True
        return known


def _magnitudes(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, 1025) magnitudes, every 640 samples, without the ends."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
    return np.abs(np.fft.rfft(frames * np.hanning(WINDOW + 1)[:-1].astype(np.float32), axis=1)).astype(np.float32)
