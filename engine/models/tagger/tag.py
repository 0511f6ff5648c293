"""Tagging a score: where its phrases end, and with which cadences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from engine.models.tagger.decode import Decoding, peaks, read_cadences
from engine.models.tagger.features import BeatFeatures, bar_of_beat, beat_features
from engine.models.tagger.network import Tagger
from engine.tokens.composer_tokens import Written

SHIFTS = (0, 5, 7)  # semitones; the score is tagged as written, a fourth and a fifth higher (training/LOG.md)


@dataclass(frozen=True)
class Tags:
    """Phrases and cadences of a score of b beats and m bars.

    phrase_end   (b,) whether a phrase ends in the beat
    cadence      (b,) class of the cadence in it, index into CADENCES (0 none)
    probability  (b,) of a phrase end
    bar          (b,) index of the beat's bar
    """

    phrase_end: NDArray[np.bool_]
    cadence: NDArray[np.int64]
    probability: NDArray[np.float32]
    bar: NDArray[np.int64]

    def by_bar(self) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """(m,) whether a phrase ends in each bar, (m,) its last cadence."""
        bars = int(self.bar[-1]) + 1
        ends, cadence = np.zeros(bars, bool), np.zeros(bars, np.int64)
        ends[self.bar[self.phrase_end]] = True
        at = np.flatnonzero(self.cadence)
        cadence[self.bar[at]] = self.cadence[at]
        return ends, cadence


def rows_of(f: BeatFeatures, shift: int = 0) -> NDArray[np.float32]:
    """(b, INPUTS) features in the network's order, transposed up by `shift` semitones."""
    classes = np.roll(f.classes, shift, -1) if shift else f.classes
    return np.concatenate([classes.reshape(len(f), -1), f.texture.reshape(len(f), -1), f.beat], 1)


@torch.inference_mode()
def probabilities(model: Tagger, f: BeatFeatures) -> dict[str, NDArray[np.float32]]:
    """phrase (b,) and cadence (b, 4), the whole score at once, the mean over SHIFTS."""
    x = torch.from_numpy(np.stack([rows_of(f, shift) for shift in SHIFTS]))
    logits = model(x, torch.ones(x.shape[:2]))
    return {
        "phrase": logits["phrase"][..., 0].float().sigmoid().mean(0).numpy(),
        "cadence": logits["cadence"].float().softmax(-1).mean(0).numpy(),
    }


def tag(model: Tagger, decoding: Decoding, w: Written) -> Tags:
    """Phrase ends and cadences of a score (`engine.tokens.composer_tokens.write_tokens` makes a Written of a Score)."""
    found = probabilities(model, beat_features(w))
    ends = np.zeros(len(found["phrase"]), bool)
    ends[peaks(found["phrase"], decoding.phrase, decoding.apart)] = True
    return Tags(ends, read_cadences(found["cadence"], decoding), found["phrase"], bar_of_beat(w))
