"""Two readings of one file, field by field."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

import numpy as np

from engine.music.io.written import fill_signs
from engine.music.types import MARK_NAMES
from training.bench.reading.facts import Facts, Note, Sign

FIELDS = ("notes", "onsets", "durations", "repeats", "tempo", "dynamics")
_NEAR = 1 / 40  # tolerance of times in quarters: MIDI notes are quantised
_VELOCITY = 16  # one dynamic level
_HAIRPIN = 2.0  # tolerance in quarters: music21 moves the ends of hairpins to notes
_SHOWN = 3
_UNCOMPARED = ("<key-step>",)  # elements without a compared field: their remarks are ignored


@dataclass
class Comparison:
    """Differences between our reading and another; `differs` has a short example for each field."""

    differs: dict[str, str] = field(default_factory=dict)
    compared: tuple[str, ...] = FIELDS
    told: bool = False  # whether the difference is reported: a remark names a bar and an element
    remarks: int = 0
    graces: bool = True  # grace notes were compared, or there are none
    disputed: bool = False  # the other readers do not agree with each other

    @property
    def agrees(self) -> bool:
        return not self.differs

    @property
    def right(self) -> bool:
        """Agreement without a remark, or a difference with one.

        Where the other readers differ from each other the file can be read in two ways, so a remark is right also if
        one of them agrees.
        """
        if self.agrees:
            return not self.remarks or (self.disputed and self.told)
        return self.told


def agreed_by_either(first: Comparison | None, second: Comparison | None) -> Comparison | None:
    """The first comparison without the differences that the second reader does not find. Differences of notes are only
    removed by a reader with grace notes.
    """
    if first is None or second is None:
        return first or second
    settled = {f for f in second.compared if f not in second.differs and (f != "notes" or second.graces)}
    kept = {f: why for f, why in first.differs.items() if f not in settled}
    added = tuple(f for f in FIELDS if f in first.compared or f in second.compared)
    late = {f: why for f, why in second.differs.items() if f not in first.compared}
    both = [f for f in first.compared if f in second.compared]
    disputed = first.disputed or any((f in first.differs) != (f in second.differs) for f in both)
    return replace(first, differs=kept | late, compared=added, disputed=disputed)


def compare(ours: Facts, other: Facts) -> Comparison:
    """Compare two readings. Notes, onsets and durations are those played; tempo and dynamics those of the page.

    notes      the same pitches as often, and the same order of the grace notes at one place
    onsets     the same pitches at the same times
    durations  the same lengths of notes that both have
    repeats    the bars in the same order
    tempo      the same metronome mark in force at every note
    dynamics   the same running velocity (dynamic marks and hairpins) at every note, within one level of those that the
               other reader has up to two quarters away
    """
    remarks = [r for r in ours.remarks if r[1] not in _UNCOMPARED]
    found = Comparison(
        told=any(bar > 0 and element for bar, element, _ in remarks), remarks=len(remarks),
        graces=other.places or not any(grace for *_, grace in ours.notes),
    )  # fmt: skip
    skipped = set()
    if d := _notes(ours.notes, other):
        found.differs["notes"] = d
    mine, theirs = ([n for n in x.notes if other.places or not n[3]] for x in (ours, other))
    pairs, here, there = _paired(mine, theirs)
    if here or there:
        found.differs["onsets"] = _only(here, there)
    off = [(round(a[0], 3), a[2], round(a[1], 3), round(b[1], 3)) for a, b in pairs if abs(a[1] - b[1]) > _NEAR]
    if off:
        found.differs["durations"] = f"{len(off)} of {len(pairs)}: {off[:_SHOWN]}"
    if ours.bars is None or other.bars is None:
        skipped.add("repeats")
    elif d := _order(ours.bars, other.bars):
        found.differs["repeats"] = d
    if ours.signs is None or other.signs is None:
        skipped |= {"tempo", "dynamics"}
    else:
        at = np.array(sorted({round(o, 4) for o, *_ in ours.notes}))
        tables = _table(at, ours.signs), _table(at, other.signs)
        for name, column, near, reach in (
            ("tempo", "tempo_bpm", 1, 0.0), ("dynamics", "written_velocity", _VELOCITY, _HAIRPIN),
        ):  # fmt: skip
            k = MARK_NAMES.index(column)
            low, high = _around(at, tables[1][:, k], reach)
            far = np.flatnonzero((tables[0][:, k] < low - near) | (tables[0][:, k] > high + near))
            if len(far):
                i = far[0]
                pair = f"{tables[0][i, k]} against {tables[1][i, k]}"
                found.differs[name] = f"at {at[i]:g}: {pair} ({len(far)} of {len(at)})"
    found.compared = tuple(f for f in FIELDS if f not in skipped)
    return found


def _around(at: np.ndarray, values: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Minimum and maximum of the values (n,) within `reach` quarters of each position `at` (n,)."""
    first, last = np.searchsorted(at, at - reach - 1e-6), np.searchsorted(at, at + reach + 1e-6)
    spans = [values[a:b] for a, b in zip(first, last, strict=True)]
    return np.array([s.min() for s in spans], int), np.array([s.max() for s in spans], int)


def _paired(mine: list[Note], theirs: list[Note]) -> tuple[list[tuple[Note, Note]], list[Note], list[Note]]:
    """Notes of one pitch at one time in both lists, and those that only one of them has."""
    pairs, here, there = [], [], []
    of_pitch: list[dict[int, list[Note]]] = [defaultdict(list), defaultdict(list)]
    for notes, table in zip((mine, theirs), of_pitch, strict=True):
        for n in notes:
            table[n[2]].append(n)
    for pitch in of_pitch[0].keys() | of_pitch[1].keys():
        a, b = (sorted(table[pitch], key=lambda n: (n[0], n[1])) for table in of_pitch)
        i = k = 0
        while i < len(a) and k < len(b):
            if abs(a[i][0] - b[k][0]) <= _NEAR:
                pairs.append((a[i], b[k]))
                i, k = i + 1, k + 1
            elif a[i][0] < b[k][0]:
                here.append(a[i])
                i += 1
            else:
                there.append(b[k])
                k += 1
        here += a[i:]
        there += b[k:]
    return pairs, here, there


def _only(here: list[Note], there: list[Note]) -> str:
    parts = [
        f"{name} {len(notes)}: {[(round(o, 3), p) for o, _, p, _ in sorted(notes)[:_SHOWN]]}"
        for name, notes in (("only here", here), ("missing", there)) if notes
    ]  # fmt: skip
    return "; ".join(parts)


def _notes(mine: list[Note], other: Facts) -> str:
    theirs, unpitched = other.notes, other.unpitched
    mine = [n for n in mine if other.places or not n[3]]
    a, b = Counter(p for _, _, p, _ in mine), Counter(p for _, _, p, _ in theirs)
    if a != b:
        return f"only here {sum((a - b).values())}, missing {sum((b - a).values())}"
    if unpitched:
        return f"{unpitched} notes without pitch"
    graces: list[dict[int, list[int]]] = []
    for notes in (mine, theirs):
        at: dict[int, list[int]] = defaultdict(list)
        for onset, _, pitch, grace in notes:
            if grace:
                at[round(onset / _NEAR)].append(pitch)
        graces.append(at)
    if sum(map(len, graces[0].values())) != sum(map(len, graces[1].values())):
        return f"{sum(map(len, graces[0].values()))} grace notes against {sum(map(len, graces[1].values()))}"
    for onset, pitches in graces[0].items() if other.places else ():
        theirs = graces[1].get(onset, pitches)
        if pitches != theirs and sorted(pitches) == sorted(theirs):
            return f"at {onset * _NEAR:g}: grace notes {pitches} against {theirs}"
    return ""


def _order(mine: list[int], theirs: list[int]) -> str:
    if mine == theirs:
        return ""
    k = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
    return f"bars {len(mine)} against {len(theirs)}; from place {k}: {mine[k : k + 6]} against {theirs[k : k + 6]}"


def _table(at: np.ndarray, signs: list[Sign]) -> np.ndarray:
    table = np.zeros((len(at), len(MARK_NAMES)), np.int16)
    ordered = sorted(((start, end, kind, value) for start, kind, value, end in signs), key=lambda s: s[0])
    fill_signs(table, at, ordered)
    return table
