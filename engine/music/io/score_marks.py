"""Propagation of dynamics, hairpins and tempo marks to notes, each in force until the next sign."""

from __future__ import annotations

import re

import numpy as np

from engine.music.types import MARK_NAMES

# Classes of tempo words, slow to fast; the value of the "tempo_word" mark. 0 is "no word in force".
TEMPO_WORDS = {
    1: r"grave|larg(o|hissimo)|lent(o|issimo)|molto adagio|sehr langsam|très lent|tres lent",
    2: r"adagio|larghetto|langsam|adagietto|lentement",
    3: r"andante|sostenuto|gehend|getragen|modéré|tempo di men|menuet|con moto",
    4: r"andantino|moderato|allegretto|mässig|maestoso|grazioso|tempo giusto|animé",
    5: r"allegro|animato|agitato|con brio|lebhaft|schnell|vif|bewegt|anime",
    6: r"vivac|vivo|presto|molto allegro|allegro (molto|assai|vivace)|prestissimo|très vif"
    r"|sehr (schnell|lebhaft|rasch)",
}

# MIDI velocity of dynamic marks in notation programs (MuseScore's table).
DYNAMIC_VELOCITY = {
    "pppp": 10, "ppp": 16, "pp": 33, "p": 49, "mp": 64, "mf": 80, "f": 96, "ff": 112, "fff": 120, "ffff": 126,
}  # fmt: skip
_DEFAULT_VELOCITY = 80.0  # before the first dynamic mark
_HAIRPIN_STEP = 16.0  # change by a hairpin without a target: one dynamic level
WORD_REACH = 16.0  # quarters that a "cresc." or "rit." without an end stays in force


def tempo_word(text: str) -> int:
    """Class of the tempo word in a text in lower case, the fastest of several; 0 for none."""
    return max((k for k, pattern in TEMPO_WORDS.items() if re.search(rf"\b({pattern})", text)), default=0)


def fill_in_force(table: np.ndarray, onset: np.ndarray, levels: list, wedges: list, bpms: list, words: list) -> None:
    """Fill the columns of a marks table (n, 12) that depend on dynamics, hairpins, metronome marks and tempo words.

    levels, bpms, words  (quarter, value), in any order: running velocity, quarters a minute, class of tempo word
    wedges               (start, end, sign) in quarters, 1 a crescendo, -1 a diminuendo
    """
    velocity, hairpin = _written_velocity(onset, sorted(levels), sorted(wedges))
    columns = {
        "written_velocity": velocity,
        "hairpin": hairpin,
        "tempo_bpm": _in_force(onset, bpms),
        "tempo_word": _in_force(onset, words),
    }
    for name, values in columns.items():
        table[:, MARK_NAMES.index(name)] = values


def fill_directions(
    table: np.ndarray, onset: np.ndarray, levels: list, impulses: list, wedges: list, bpms: list, words: list,
    changes: list,
) -> None:  # fmt: skip
    """`fill_in_force`, and the columns of dynamic accents and tempo changes.

    impulses  (quarter, kind of accent) of sf, fp and the like
    changes   as in `tempo_change`, in any order; a tempo word also ends a change
    """
    fill_in_force(table, onset, levels, wedges, bpms, words)
    accent = table[:, MARK_NAMES.index("accent")]
    for start, kind in impulses:
        accent[np.abs(onset - start) < 1e-4] = kind
    table[:, MARK_NAMES.index("tempo_change")] = tempo_change(
        onset, sorted(changes, key=lambda c: c[0]), [start for start, _ in words]
    )


def _in_force(onset: np.ndarray, events: list[tuple[float, float]], before: float = 0.0) -> np.ndarray:
    """The value of the last event at or before each onset, `before` ahead of the first."""
    if not events:
        return np.full(len(onset), before)
    events = sorted(events)
    times, values = np.array([e[0] for e in events]), np.array([e[1] for e in events])
    i = np.searchsorted(times, onset + 1e-4, side="right") - 1
    return np.where(i >= 0, values[np.maximum(i, 0)], before).round()


def _written_velocity(onset: np.ndarray, levels: list, wedges: list) -> tuple[np.ndarray, np.ndarray]:
    """Dynamics as a running velocity (0 without any mark) and the hairpin sign, both (n,)."""
    hairpin = np.zeros(len(onset))
    if not levels and not wedges:
        return np.zeros(len(onset)), hairpin
    times = np.array([t for t, _ in levels])
    values = np.array([v for _, v in levels], float)
    velocity = _in_force(onset, levels, _DEFAULT_VELOCITY)
    for start, end, sign in wedges:
        after = np.flatnonzero(times > start + 1e-4) if len(times) else np.zeros(0, int)
        goal_time = times[after[0]] if len(after) else np.inf
        end = min(end, goal_time)
        begin = np.flatnonzero(onset >= start - 1e-4)
        if end <= start or not len(begin):
            continue
        level = velocity[begin[0]]
        goal = values[after[0]] if len(after) and goal_time <= end + 2 else level + sign * _HAIRPIN_STEP
        if sign * (goal - level) <= 0:
            goal = level + sign * _HAIRPIN_STEP / 2
        inside = (onset >= start - 1e-4) & (onset < end - 1e-4)
        velocity[inside] = level + (goal - level) * (onset[inside] - start) / (end - start)
        velocity[(onset >= end - 1e-4) & (onset < goal_time - 1e-4)] = goal
        hairpin[inside] = sign
    return np.clip(velocity, 5, 127).round(), hairpin


def tempo_change(onset: np.ndarray, changes: list, resets: list[float]) -> np.ndarray:
    """-1 under a ritardando, 1 under an accelerando: until its end, the next change or tempo word, or 16 quarters."""
    out = np.zeros(len(onset))
    stops = sorted([c[0] for c in changes] + resets)
    for start, end, sign in changes:
        following = [s for s in stops if s > start + 1e-4]
        stop = end if end is not None else min([start + WORD_REACH, *following[:1]])
        out[(onset >= start - 1e-4) & (onset < stop - 1e-4)] = sign
    return out
