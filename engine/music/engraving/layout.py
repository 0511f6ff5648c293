"""Layout of a Score: bars, voices without overlaps, ties, slurs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count, groupby, islice
from math import lcm

import numpy as np
from numpy.typing import NDArray

from engine.music.engraving.hands import split_hands
from engine.music.engraving.spelling import spelling_of_pitch
from engine.music.engraving.voices import MAX_VOICES, separate
from engine.music.types import Score

STEPS = "FCGDAEB"  # along the line of fifths from -1
_CHROMA = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))
_MAX_DIVISIONS = 100_000
_FALLBACK_DIVISIONS = 10_080


@dataclass
class Chord:
    """Notes of one voice that start and end together inside one measure; times in quarters from the barline."""

    start: Fraction
    length: Fraction
    rows: list[int]
    stop: set[int] = field(default_factory=set)  # rows tied from before
    go_on: set[int] = field(default_factory=set)  # rows tied onwards


class Layout:
    """A Score laid out: per note `step`, `alter`, `octave`, `staff`, `voice`, exact `onset` and `end` (quarters);
    per bar `chords` (voice -> chords) and `graces` ((voice, start) -> rows); `starts` of bars; `home`, voice -> staff;
    `slurs`, row -> ("start" or "stop", its number); `divisions` of a quarter in which all times are whole.
    """

    def __init__(self, score: Score) -> None:
        self.score = score
        self.starts, self.divisions = self._bars()
        spelling = spelling_of_pitch(score.pitch, score.spelling).astype(int)
        self.step = [STEPS[(s + 1) % 7] for s in spelling]
        self.alter = [int((s + 1) // 7) for s in spelling]
        self.octave = [
            (int(p) - a - _CHROMA[s]) // 12 - 1 for p, a, s in zip(score.pitch, self.alter, self.step, strict=True)
        ]
        self.staff = self._staves()
        self.onset = [self._exact(x) for x in score.onset_quarter]
        self.end = [self._exact(x) for x in score.onset_quarter + score.duration_quarter]
        self.grace = score.grace | np.array([e <= o for o, e in zip(self.onset, self.end, strict=True)])
        self.voice = self._voices()
        self.chords, self.graces = self._bar_contents()
        self.slurs = self._slurs()

    def _staves(self) -> NDArray[np.int8]:
        """The staff of each note; unknown ones are assigned by hand."""
        s = self.score
        unknown = (s.staff != 1) & (s.staff != 2)
        order = np.lexsort((s.pitch, s.onset_quarter))
        hands = np.ones(len(s), np.int8)
        if unknown.any():
            hands[order] = split_hands(s.onset_quarter[order], s.duration_quarter[order], s.pitch[order])
        return np.where(unknown, hands, s.staff).astype(np.int8)

    def _exact(self, quarters: float) -> Fraction:
        return Fraction(round(float(quarters) * self.divisions), self.divisions)

    def _bars(self) -> tuple[list[Fraction], int]:
        """Barlines, with the end of the last bar, and divisions per quarter in which all times are whole."""
        s, m = self.score, self.score.measures
        barlines = [*m.onset_quarter.tolist(), m.end_quarter]
        nominal = max(4.0 * m.ts_num[-1] / m.ts_den[-1], 0.25)
        last = float((s.onset_quarter + s.duration_quarter).max())
        while barlines[-1] < last - 1e-6:  # notes beyond the last bar get additional bars
            barlines.append(barlines[-1] + nominal)
        divisions = 1
        for x in np.unique(np.concatenate([s.onset_quarter, s.duration_quarter, barlines]).round(7)):
            divisions = lcm(divisions, Fraction(float(x)).limit_denominator(_FALLBACK_DIVISIONS).denominator)
            if divisions > _MAX_DIVISIONS:
                divisions = _FALLBACK_DIVISIONS
                break
        exact = [Fraction(round(x * divisions), divisions) for x in barlines]
        return sorted(set(exact)), divisions

    # ---- voices

    def _voices(self) -> list[int]:
        """A voice number for each note such that no two notes of a voice overlap unless they are a chord."""
        self.given, self.home = self._given_voices()
        wished = self._separated(list(self.given), self.home)
        groups = defaultdict(list)
        for i in np.flatnonzero(~self.grace).tolist():
            groups[self.onset[i], wished[i], self.end[i]].append(i)
        first_spare = max(self.home) + 1
        free: dict[int, Fraction] = {}  # voice: time at which it is free
        out = list(wished)
        for (onset, voice, end), rows in sorted(groups.items()):
            spare = [v for v, staff in self.home.items() if v >= first_spare and staff == self.home[voice]]
            fitting = [v for v in (voice, *spare) if free.get(v, onset) <= onset]
            chosen = fitting[0] if fitting else max(self.home) + 1
            self.home.setdefault(chosen, self.home[voice])
            free[chosen] = end
            for i in rows:
                out[i] = chosen
        starting = defaultdict(list)
        for i in np.flatnonzero(~self.grace).tolist():
            starting[self.onset[i], int(self.staff[i])].append(out[i])
        for i in np.flatnonzero(self.grace).tolist():  # a grace note goes with a note that follows it
            beside = starting.get((self.onset[i], int(self.staff[i])), [])
            if beside and wished[i] not in beside:
                out[i] = beside[0]
        return out

    def _given_voices(self) -> tuple[list[int], dict[int, int]]:
        """The given voice of each note, and each voice's staff. A voice may briefly change staff; a number used equally
        on both staves (as in a score of two parts) is split into two voices.
        """
        voice = np.where(self.score.voice > 0, self.score.voice, np.where(self.staff == 1, 1, 5)).astype(int)
        numbers = np.unique(voice)
        low_share = {v: float((self.staff[voice == v] == 2).mean()) for v in numbers.tolist()}
        if any(0.3 < share < 0.7 for share in low_share.values()):
            voice = np.where(self.staff == 2, voice + 4 * -(-int(numbers.max()) // 4), voice)
        home = {v: 2 if (self.staff[voice == v] == 2).mean() > 0.5 else 1 for v in np.unique(voice).tolist()}
        return voice.tolist(), home

    def _separated(self, voice: list[int], home: dict[int, int]) -> list[int]:
        """Assign the notes of unknown voice, and notes that overlap them, to voices of their staff."""
        unknown = (self.score.voice <= 0) & ~self.grace
        pitch = self.score.pitch.tolist()
        for staff in (1, 2) if unknown.any() else ():
            rows = np.flatnonzero((self.staff == staff) & ~self.grace).tolist()
            own = sorted(v for v, at in home.items() if at == staff)
            unused = (v for v in count(own[0] + 1 if own else 1) if v not in home)
            numbers = [*own, *islice(unused, MAX_VOICES)][:MAX_VOICES]
            for tangle in separate(self.onset, self.end, pitch, rows):
                if unknown[list(tangle)].any():
                    for row, k in tangle.items():
                        voice[row] = numbers[k]
                        home[numbers[k]] = staff
        return voice

    def _bar_contents(self) -> tuple[list[dict], list[dict]]:
        """For each bar: voice -> chords, and (voice, start) -> grace notes; notes are cut at barlines."""
        chords: list[dict] = [defaultdict(dict) for _ in self.starts[:-1]]
        graces: list[dict] = [defaultdict(list) for _ in self.starts[:-1]]
        starts = np.array([float(x) for x in self.starts])
        for i, (onset, end, voice) in enumerate(zip(self.onset, self.end, self.voice, strict=True)):
            bar = int(np.clip(np.searchsorted(starts, float(onset) + 1e-9, side="right") - 1, 0, len(chords) - 1))
            if self.grace[i]:
                graces[bar][voice, onset - self.starts[bar]].append(i)
                continue
            at = onset
            while at < end:
                stop = min(end, self.starts[bar + 1])
                key = (at - self.starts[bar], stop - at)
                chord = chords[bar][voice].setdefault(key, Chord(*key, []))
                chord.rows.append(i)
                if at > onset:
                    chord.stop.add(i)
                if stop < end:
                    chord.go_on.add(i)
                at, bar = stop, bar + 1
        return chords, graces

    def _slurs(self) -> dict[int, list[tuple[str, int]]]:
        """Row -> "start" or "stop" of a slur and its number, from the marks along each voice as it was written."""
        state = self.score.marks["slur"]
        out: dict[int, list[tuple[str, int]]] = defaultdict(list)
        by_voice = defaultdict(list)
        for i in np.flatnonzero(~self.grace).tolist():
            by_voice[int(self.staff[i]), self.given[i]].append(i)
        for number, rows in enumerate(by_voice.values()):
            opened: list[int] = []
            last: list[int] = []
            for _, same in groupby([*rows, -1], key=lambda i: self.onset[i] if i >= 0 else None):
                chord = [i for i in same if i >= 0]
                inside = any(state[i] == 1 for i in chord)
                if opened and not inside:
                    ends = [i for i in chord if state[i] == 2] or last
                    if self.onset[ends[0]] > self.onset[opened[0]]:
                        begin, end = self._slur_ends(opened, ends)
                        out[begin].append(("start", number % 6 + 1))
                        out[end].append(("stop", number % 6 + 1))
                    opened = []
                elif inside and not opened:
                    opened = chord
                last = chord
        return out

    def _slur_ends(self, first: list[int], last: list[int]) -> tuple[int, int]:
        """The end notes of a slur: one of the first and one of the last chord, in one voice if possible."""
        pairs = [(a, b) for a in first for b in last if self.voice[a] == self.voice[b]]
        return max(pairs or [(a, b) for a in first for b in last], key=lambda ab: self.score.pitch[list(ab)].sum())
