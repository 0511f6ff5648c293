"""What a person reads: the hand-counted notes of small files, in a `notes.json` beside them."""

from __future__ import annotations

import json
from pathlib import Path

from training.bench.reading.facts import Facts


def hand_facts(path: Path) -> Facts:
    """The hand count of a file: {name: [[onset, duration, pitch], ...]}, grace notes with duration 0.

    Onset and duration in quarters. Bars and signs are not counted. Raises ValueError for a file without a count.
    """
    counts = path.with_name("notes.json")
    notes = json.loads(counts.read_text()).get(path.name) if counts.exists() else None
    if notes is None:
        raise ValueError("no hand count of this file")
    return Facts([(float(onset), float(length), pitch, length == 0) for onset, length, pitch in notes])
