"""Labels for whole corpora: expert labels if available, else those of the tagger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from engine.checkpoints.bundle import TaggerBundle
from engine.models.tagger.features import bar_of_beat
from engine.models.tagger.tag import Tags
from training.core.score_packs import PackedScore
from training.tagger.data import label_beats


def labelled(
    items: Iterable[PackedScore], tagger: TaggerBundle, experts: dict[str, list[dict[str, str]]]
) -> Iterator[PackedScore]:
    """The same scores with phrase_end and cadence of each bar.

    experts  rows of dcml-labels.tsv.xz by the id of their score; a score without expert cadences gets the tagger's
             cadences, and likewise with phrases
    """
    for item in items:
        found = tagger.tag(item.written)
        ends, cadence = found.by_bar()
        if item.id in experts:
            known = label_beats(item.written, experts[item.id])
            marks = known["phrase"] == 1, np.maximum(known["cadence"], 0)
            theirs = Tags(*marks, found.probability, bar_of_beat(item.written))
            ends = theirs.by_bar()[0] if known["phrase"][0] >= 0 else ends
            cadence = theirs.by_bar()[1] if known["cadence"][0] >= 0 else cadence
        yield replace(item, phrase_end=tuple(ends.tolist()), cadence=tuple(cadence.tolist()))
