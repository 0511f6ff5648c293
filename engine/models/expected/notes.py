"""Note features of a score, for the network of velocity and articulation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.models.expected.beats import BeatGrid
from engine.models.pianist.features import MARKED, STRUCTURE, score_features
from engine.music.types import Score

_GRACE_QUARTERS = 1 / 8
NOTE_MARK_GROUPS = ("mark", "loud", "print", "voice", "run")  # absent in a plain MIDI file


def _ratio(a: NDArray, b: NDArray | float, limit: float = 4) -> NDArray:
    return np.clip(np.log2(np.maximum(a, 1 / 64) / np.maximum(b, 1 / 64)), -limit, limit)


def _lines(name: str, label: NDArray, onset: NDArray, duration: NDArray, pitch: NDArray) -> dict[str, NDArray]:
    """Neighbours within a line (staff or voice): gaps, rests, leaps, place in the chord."""
    keys = (
        "next", "back", "legato", "rest", "dur_step_on", "dur_step_back", "up_on", "up_back", "low_on", "low_back",
        "size", "rank", "top", "bottom", "same_on", "same_back",
    )  # fmt: skip
    f = {k: np.zeros(len(onset)) for k in keys}
    for v in np.unique(label):
        i = np.flatnonzero(label == v)
        t, g = np.unique(np.round(onset[i], 4), return_inverse=True)
        high, low = np.full(len(t), -1.0), np.full(len(t), 200.0)
        size, longest = np.bincount(g), np.zeros(len(t))
        np.maximum.at(high, g, pitch[i])
        np.minimum.at(low, g, pitch[i])
        np.maximum.at(longest, g, duration[i])
        gap = np.append(np.diff(t), 4.0)
        back = np.append(4.0, gap[:-1])
        f["next"][i], f["back"][i] = _ratio(gap, 1)[g], _ratio(back, 1)[g]
        f["legato"][i], f["rest"][i] = _ratio(duration[i], gap[g]), (gap - longest > 0.05)[g]
        f["dur_step_on"][i] = _ratio(np.append(longest[1:], longest[-1:])[g], duration[i])
        f["dur_step_back"][i] = _ratio(np.append(longest[:1], longest[:-1])[g], duration[i])
        d, e = np.clip(np.diff(high), -24, 24) / 6, np.clip(np.diff(low), -24, 24) / 6
        f["up_on"][i], f["up_back"][i] = np.append(d, 0)[g], np.append(0, d)[g]
        f["low_on"][i], f["low_back"][i] = np.append(e, 0)[g], np.append(0, e)[g]
        f["size"][i], f["rank"][i] = np.log2(size)[g], (high[g] - pitch[i]) / 12
        f["top"][i], f["bottom"][i] = pitch[i] == high[g], pitch[i] == low[g]
        f["same_on"][i], f["same_back"][i] = (np.append(d, 1) == 0)[g], (np.append(1, d) == 0)[g]
    return {f"{name}_{k}": v for k, v in f.items()}


def _repeats(onset: NDArray, duration: NDArray, pitch: NDArray) -> dict[str, NDArray]:
    """Time to the next and since the previous stroke of the key."""
    on, back = np.full(len(onset), 8.0), np.full(len(onset), 8.0)
    for p in np.unique(pitch):
        i = np.flatnonzero(pitch == p)
        d = np.diff(onset[i])
        on[i[:-1]], back[i[1:]] = d, d
    return {"key_on": _ratio(on, 1), "key_room": _ratio(on, duration, 3), "key_back": _ratio(back, 1)}


def _runs(score: Score, staff: NDArray) -> dict[str, NDArray]:
    """Position of a note in its slur and hairpin, and distance to the next and previous change of dynamics."""
    onset, marks, n = score.onset_quarter, score.marks, len(score)
    keys = ("slur_to_end", "slur_since", "pin_since", "pin_to_end", "dyn_since", "dyn_last", "dyn_next", "dyn_to")
    f = {k: np.zeros(n) for k in keys}
    for s in np.unique(staff):
        i = np.flatnonzero(staff == s)
        o, end = onset[i], onset[i][marks["slur"][i] == 2]
        k, j = np.searchsorted(end, o), np.searchsorted(end, o - 1e-6) - 1
        to_end = np.where(k < len(end), np.append(end, 1e9)[k] - o, 1e9)
        f["slur_to_end"][i] = np.exp(-to_end / 2) * (marks["slur"][i] > 0)
        f["slur_since"][i] = np.exp(-np.where(j >= 0, o - np.append(end, 0)[j], 1e9) / 2)
        pin, loud = np.sign(marks["hairpin"][i]).astype(float), marks["written_velocity"][i].astype(float)
        for value in (pin, loud):
            change = np.flatnonzero(np.diff(value)) + 1
            after = np.searchsorted(change, np.arange(len(i)), side="right")
            last = after - 1
            start, stop = np.append(change, 0)[last], np.append(change, len(i) - 1)[after]
            past, future = np.where(last >= 0, o - o[start], 64), np.where(after < len(change), o[stop] - o, 64)
            if value is pin:
                f["pin_since"][i], f["pin_to_end"][i] = pin * np.log2(1 + past) / 2, pin * np.exp(-future / 4)
                continue
            step = np.where(last >= 0, value[start] - value[np.maximum(start - 1, 0)], 0) / 16
            ahead = np.where(after < len(change), value[stop] - value, 0) / 16
            f["dyn_since"][i], f["dyn_last"][i] = step * np.exp(-past / 2), step * np.exp(-past / 8)
            f["dyn_to"][i], f["dyn_next"][i] = ahead * np.exp(-future / 2), ahead * np.exp(-future / 8)
    return {f"run_{k}": v for k, v in f.items()}


def note_features(score: Score, grid: BeatGrid) -> dict[str, NDArray[np.float32]]:
    """{group_name: (n, k)} for the n notes of a score; a grace note counts as an eighth of a quarter long."""
    base, pitch, onset, n = score_features(score), score.pitch.astype(float), score.onset_quarter, len(score)
    duration = np.where(score.duration_quarter > 0, score.duration_quarter, _GRACE_QUARTERS)
    f: dict[str, NDArray] = {
        f"base_{k}" if k in STRUCTURE else f"mark_{k}": base.value[:, i] for i, k in enumerate(STRUCTURE + MARKED)
    }
    second, until = (np.interp(x, grid.quarter, grid.seconds) for x in (onset, onset + duration))
    f |= {
        "pitch_tonal": np.eye(16)[base.category[:, 1].clip(0, 15)], "pitch_height": (pitch - 60) / 12,
        "line_staff": np.eye(3)[base.category[:, 2]],
        "time_held": np.log2(np.maximum(until - second, 0.01)) + 2,
        "time_quarter": np.log2(np.maximum(duration, 1 / 64)),
    }  # fmt: skip
    loud = score.marks["written_velocity"].astype(float)
    local = np.array([loud[np.abs(second - s) < 4].mean() for s in second[::8]])
    f |= {
        "loud_piece": (loud - loud.mean()) / 16,
        "loud_here": (loud - np.interp(np.arange(n), np.arange(n)[::8], local)) / 16,
    }
    staff, voice = score.staff.astype(int), score.voice.astype(int).clip(0, 8)
    f |= {"print_known": voice > 0, "print_grace": score.grace, "line_voice": np.eye(9)[voice]}
    f |= _lines("staff", staff, onset, duration, pitch) | _lines("voice", staff * 100 + voice, onset, duration, pitch)
    f |= _repeats(onset, duration, pitch) | _runs(score, staff)
    bass = np.full(base.chord_index.max() + 1, 200.0)
    np.minimum.at(bass, base.chord_index, pitch)
    f["pitch_above_bass"] = np.eye(12)[((pitch - bass[base.chord_index]) % 12).astype(int)]
    return {k: np.nan_to_num(np.asarray(v, np.float32)).reshape(n, -1) for k, v in f.items()}


def line_of(score: Score) -> NDArray[np.int64]:
    """A number for each note's line (staff and voice), in which the network reads them one after the other."""
    return score.staff.astype(int).clip(0, 2) * 16 + score.voice.astype(int).clip(0, 8)
