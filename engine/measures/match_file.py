"""Match files (Foscarin et al. 2022): a score, a performance and their alignment.

Written with partitura; `engine.music.io.alignment.read_match` reads them. Also scores and performances as partitura's.
"""

from __future__ import annotations

import io
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from engine.music.io._partitura import load_partitura
from engine.music.io.alignment import rows_of_ids
from engine.music.io.write_musicxml import write_musicxml
from engine.music.types import Alignment, Performance, Score

TICK_SEC = 1e-4  # a match file counts time in whole ticks; this is the length of ours


def to_partitura(score: Score) -> tuple[Any, dict[str, int]]:
    """A score as partitura's Score of one Part, repeats unfolded, and the row of ours that each of its note ids has."""
    pt = load_partitura()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = pt.load_musicxml(io.BytesIO(write_musicxml(score)))
    for part in made.parts:
        for k, note in enumerate(part.notes):
            note.id = f"s{k}"
    return made, rows_of_ids(made, score)


def to_performed_part(performance: Performance) -> Any:
    """A performance as partitura's PerformedPart; note j has the id "nj", the sustain pedal is controller 64."""
    pt = load_partitura("partitura.performance")
    notes = [
        {
            "id": f"n{j}", "midi_pitch": int(performance.pitch[j]), "note_on": float(performance.onset_sec[j]),
            "note_off": float(performance.onset_sec[j] + performance.duration_sec[j]),
            "velocity": int(performance.velocity[j]), "channel": 0, "track": 0,
        }
        for j in range(len(performance))
    ]  # fmt: skip
    controls = [
        {"type": "sustain_pedal", "number": 64, "time": float(t), "value": int(v), "channel": 0, "track": 0}
        for t, v in zip(performance.pedal_sec, performance.pedal_value, strict=True)
    ]
    return pt.PerformedPart(notes, controls=controls)


def write_match(score: Score, performance: Performance, alignment: Alignment) -> bytes:
    """A match file, version 1.0.0: every written note, matched or omitted, and every inserted note.

    Times are whole multiples of TICK_SEC. Of the notation partitura writes pitches, durations, metre, key, voices,
    staves, articulations, ornaments and fermatas.
    """
    pt = load_partitura()
    made, row_of = to_partitura(score)
    partner = dict(zip(alignment.score_index.tolist(), alignment.performance_index.tolist(), strict=True))
    label: list[dict[str, str]] = []
    for name, row in row_of.items():
        if row in partner:
            label.append({"label": "match", "score_id": name, "performance_id": f"n{partner[row]}"})
        else:
            label.append({"label": "deletion", "score_id": name})
    added = np.setdiff1d(np.arange(len(performance)), alignment.performance_index)
    label += [{"label": "insertion", "performance_id": f"n{j}"} for j in added.tolist()]
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        path = Path(folder) / "written.match"
        pt.save_match(
            label, to_performed_part(performance), made, out=str(path), mpq=1_000_000, ppq=round(1 / TICK_SEC),
            composer=_field(score.composer), piece=_field(score.title), version=(1, 0, 0),
        )  # fmt: skip
        return path.read_bytes()


def _field(text: str) -> str | None:
    """Text without the separators of a match file."""
    return re.sub(r"[\s(),\[\]]+", " ", text).strip() or None
