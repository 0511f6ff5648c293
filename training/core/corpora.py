"""Read the aligned corpora into our own types. Only the prepare commands and the evaluations need the raw files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Alignment, Marks, Measures, Performance, Score

QUARTER = 10_080  # score units per quarter note in the corpus
SECOND = 960  # performed units per second
MATCH, UNPLAYED, INSERTED = 0, 1, 2


class Nasap:
    """The note-aligned (n)ASAP corpus, `nasap-aligned.npz`: performance i by `load(i)`.

    Performance i has the rows note_ptr[i]:note_ptr[i+1], in score order, and the pedal events
    pedal_ptr[i]:pedal_ptr[i+1]. One value a performance: id, work, split ("train", "validation"), robust (0 or 1).

    onset, duration, position  score time, 10,080 a quarter; position counts from the beginning of the bar
    bar, ts_num, ts_den, fifths, pitch, voice, staff, grace  of the score, repeats unfolded as played
    label           0 played as written, 1 not played, 2 inserted by the player
    p_onset_diff    performed onset minus that of the previous row, 1/960 s
    p_duration      1/960 s; velocity 1..127; pedal 0..127 at the onset
    pedal_time_diff, pedal_value  sustain events, 1/960 s from event to event
    """

    def __init__(self, path: str | Path):
        with np.load(path) as z:
            self.columns = {k: z[k] for k in z.files}

    def __len__(self) -> int:
        return len(self.columns["id"])

    def rows(self, i: int) -> dict[str, NDArray]:
        """The note columns of performance i, and its pedal in seconds."""
        c = self.columns
        note, pedal = slice(*c["note_ptr"][i : i + 2]), slice(*c["pedal_ptr"][i : i + 2])
        n = c["note_ptr"][-1]
        out = {k: v[note] for k, v in c.items() if len(v) == n and v.ndim == 1}
        out["onset_sec"] = np.cumsum(out.pop("p_onset_diff")) / SECOND
        out["pedal_sec"] = np.cumsum(c["pedal_time_diff"][pedal]) / SECOND
        out["pedal_value"] = c["pedal_value"][pedal]
        return out

    def load(self, i: int) -> tuple[Score, Performance, Alignment]:
        """Performance i: the score as unfolded by the player, everything that was played, which note is which."""
        r = self.rows(i)
        written = np.flatnonzero(r["label"] != INSERTED)
        grace = (r["grace"][written] > 0) | (r["duration"][written] == 0)
        order = np.lexsort((r["pitch"][written], ~grace, r["onset"][written]))
        written, grace = written[order], grace[order]
        # two voices on one key are one stroke; keep the played row, with the longer duration
        duration = r["duration"][written].astype(float)
        key = np.stack([r["onset"][written], r["pitch"][written], grace])
        _, inverse = np.unique(key, axis=1, return_inverse=True)
        longest = np.zeros(inverse.max() + 1)
        np.maximum.at(longest, inverse, duration)
        best = np.lexsort((r["label"][written], inverse))
        first = best[np.concatenate([[True], np.diff(inverse[best]) > 0])]
        keep = np.sort(first)
        duration, written, grace = longest[inverse][keep], written[keep], grace[keep]
        n = len(written)
        played = np.flatnonzero(r["label"] != UNPLAYED)
        shift = r["onset_sec"][played].min()
        performance = Performance(
            r["onset_sec"][played] - shift, r["p_duration"][played] / SECOND, r["pitch"][played],
            np.maximum(r["velocity"][played], 1), r["pedal_sec"] - shift, r["pedal_value"],
        )  # fmt: skip
        row_of = np.full(len(r["label"]), -1)
        row_of[played] = np.arange(len(played))
        matched = np.flatnonzero(r["label"][written] == MATCH)
        alignment = Alignment(matched, row_of[written[matched]])
        score = Score(
            r["onset"][written] / QUARTER, duration / QUARTER, r["pitch"][written],
            spell_in_key(r["pitch"][written], r["fifths"][written]), r["staff"][written], r["voice"][written], grace,
            Marks.none(n), _measures({k: v[written] for k, v in r.items() if len(v) == len(r["label"])}),
        )  # fmt: skip
        return score, performance, alignment


def spell_in_key(pitch: NDArray, fifths: NDArray) -> NDArray[np.int8]:
    """Tonal pitch class of each note on the line of fifths, as the key signature suggests: -5..6 around the tonic."""
    return (((pitch * 7 + 5 - fifths) % 12) - 5 + fifths).astype(np.int8)


def _measures(r: dict[str, NDArray]) -> Measures:
    """The measure table that the rows imply: a measure lasts until the next one starts."""
    bar = r["bar"].astype(int)
    _, first = np.unique(bar, return_index=True)
    first = np.sort(first)
    onset = (r["onset"][first].astype(float) - r["position"][first]) / QUARTER
    num, den = r["ts_num"][first].astype(int), r["ts_den"][first].astype(int)
    nominal = num * 4.0 / den
    position = np.zeros(len(first))
    if onset[0] < 0:
        pickup = -(r["onset"][first[0]] / QUARTER)
        position[0] = max(nominal[0] - pickup, 0.0)
        onset[0] = -min(pickup, nominal[0])
    keep = np.concatenate([[True], np.diff(onset) > 1e-6])
    onset, num, den, nominal, position = (a[keep] for a in (onset, num, den, nominal, position))
    fifths = r["fifths"][first][keep]
    last = max(nominal[-1], (r["onset"].max() / QUARTER) - onset[-1])
    return Measures(onset, np.append(np.diff(onset), last), position, num, den, fifths, np.arange(1, len(onset) + 1))
