"""MIDI-like events of Music Transformer (arXiv 1809.04281, section 3; arXiv 1808.03715): one integer per event.

    0            PAD
    1, 2         BOS, EOS
    3 .. 90      note-on of pitch 21 to 108
    91 .. 178    note-off of pitch 21 to 108
    179 .. 278   time shift of 10 ms to 1 s
    279 .. 310   velocity of the notes that follow, 32 classes of 4

Simultaneous releases precede strokes, each in ascending pitch; a velocity event occurs only on change. There is no
pedal: a note lasts as long as its key is held, as in ECP.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Performance
from engine.tokens.tables import PITCH_HIGH, PITCH_LOW, VELOCITIES

KEYS = PITCH_HIGH - PITCH_LOW + 1
SHIFTS = 100
STEP_SEC = 0.01
PAD, BOS, EOS = 0, 1, 2
NOTE_ON = 3
NOTE_OFF = NOTE_ON + KEYS
SHIFT = NOTE_OFF + KEYS
VELOCITY = SHIFT + SHIFTS
NUM_EVENTS = VELOCITY + len(VELOCITIES)
DEFAULT_VELOCITY = 64
MAX_HELD_SEC = 5.0  # of a note that is never released; Performance RNN's limit


@dataclass(frozen=True)
class EventRepairs:
    """Counts of repairs by `decode_events`.

    events         there were, without PAD, BOS and EOS
    stray_offs     releases of a key that was up: skipped
    restruck       strikes of a key that was down: it is released just then
    never_released notes still down at the end: they last until there, at most 5 s
    empty          notes released at the moment they were struck: 10 ms long
    unknown        notes before any velocity: 64
    """

    events: int
    stray_offs: int
    restruck: int
    never_released: int
    empty: int
    unknown: int

    @property
    def total(self) -> int:
        return self.stray_offs + self.restruck + self.never_released + self.empty + self.unknown

    @property
    def share(self) -> float:
        return self.total / max(self.events, 1)


def encode_events(performance: Performance) -> NDArray[np.int64]:
    """Encode a performance as events, (E,) int64, without BOS and EOS; the first note is at time 0.

    Times are rounded to 10 ms and a note lasts at least that long. Notes outside the piano are omitted; of two
    simultaneous strokes of one key the louder is kept; a key is released just before its next stroke.
    """
    pitch = performance.pitch.astype(np.int64)
    inside = np.flatnonzero((pitch >= PITCH_LOW) & (pitch <= PITCH_HIGH))
    if not len(inside):
        return np.zeros(0, np.int64)
    onset_sec = performance.onset_sec[inside]
    begin = onset_sec.min()
    start = np.round((onset_sec - begin) / STEP_SEC).astype(np.int64)
    end = np.round((onset_sec + performance.duration_sec[inside] - begin) / STEP_SEC).astype(np.int64)
    key, loud = pitch[inside] - PITCH_LOW, performance.velocity[inside].astype(np.int64) // 4
    order = np.lexsort((-loud, start, key))
    start, end, key, loud = start[order], end[order], key[order], loud[order]
    first = np.concatenate([[True], (np.diff(key) != 0) | (np.diff(start) != 0)])
    start, end, key, loud = start[first], end[first], key[first], loud[first]
    end = np.maximum(end, start + 1)
    again = key[1:] == key[:-1]
    end[:-1] = np.where(again, np.minimum(end[:-1], start[1:]), end[:-1])

    moment = np.concatenate([start, end])
    strike = np.repeat([1, 0], len(start))
    keys = np.concatenate([key, key])
    louds = np.concatenate([loud, loud])
    out: list[int] = []
    now, velocity = 0, -1
    for i in np.lexsort((keys, strike, moment)).tolist():
        wait = int(moment[i]) - now
        now = int(moment[i])
        out += [SHIFT + SHIFTS - 1] * (wait // SHIFTS)
        if wait % SHIFTS:
            out.append(SHIFT + wait % SHIFTS - 1)
        if not strike[i]:
            out.append(NOTE_OFF + int(keys[i]))
            continue
        if louds[i] != velocity:
            velocity = int(louds[i])
            out.append(VELOCITY + velocity)
        out.append(NOTE_ON + int(keys[i]))
    return np.array(out, np.int64)


def decode_events(events: NDArray) -> tuple[Performance, EventRepairs]:
    """Decode events, (E,) ints; PAD and BOS are skipped, EOS ends them. Notes are in order of onset. Raises ValueError
    for an event outside the vocabulary.
    """
    events = np.asarray(events).astype(np.int64)
    if events.ndim != 1 or (events < 0).any() or (events >= NUM_EVENTS).any():
        raise ValueError(f"events are (E,) integers in 0..{NUM_EVENTS - 1}, got {events.shape}; pass one sequence")
    now, velocity = 0, -1
    counts = {"events": 0, "stray_offs": 0, "restruck": 0, "never_released": 0, "empty": 0, "unknown": 0}
    notes: list[list[int]] = []  # start, end, key, velocity
    down: dict[int, int] = {}  # key -> its note

    def release(key: int) -> None:
        note = notes[down.pop(key)]
        counts["empty"] += note[0] == now
        note[1] = max(now, note[0] + 1)

    for event in events.tolist():
        if event == EOS:
            break
        if event in (PAD, BOS):
            continue
        counts["events"] += 1
        if event >= VELOCITY:
            velocity = int(VELOCITIES[event - VELOCITY])
        elif event >= SHIFT:
            now += event - SHIFT + 1
        elif event >= NOTE_OFF:
            key = event - NOTE_OFF
            if key in down:
                release(key)
            else:
                counts["stray_offs"] += 1
        else:
            key = event - NOTE_ON
            if key in down:
                counts["restruck"] += 1
                release(key)
            counts["unknown"] += velocity < 0
            down[key] = len(notes)
            notes.append([now, now, key, velocity if velocity > 0 else DEFAULT_VELOCITY])
    counts["never_released"] = len(down)
    for note in (notes[i] for i in down.values()):
        note[1] = min(max(now, note[0] + 1), note[0] + round(MAX_HELD_SEC / STEP_SEC))
    table = np.array(notes, np.int64).reshape(-1, 4)
    start, end, key, loud = table.T
    performance = Performance(start * STEP_SEC, (end - start) * STEP_SEC, key + PITCH_LOW, loud)
    return performance, EventRepairs(**counts)
