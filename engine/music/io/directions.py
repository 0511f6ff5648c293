"""Directions of a Score as MusicXML: dynamics, hairpins, pedal, tempo."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from bisect import bisect_right
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from engine.music.edition import beat_quarters, tempo_words
from engine.music.engraving.layout import Layout
from engine.music.io.score_marks import DYNAMIC_VELOCITY

MAX_TEMPI = 60  # more tempo changes than this are a performance, not marks
_BEAT_UNITS = {1.0: ("quarter", False), 1.5: ("quarter", True), 2.0: ("half", False)}


def directions(page: Layout) -> list[list[tuple[Fraction, ET.Element]]]:
    """For each bar its <direction> elements, as (quarters from the barline, element), in order.

    Tempo words are written for composed scores only; for others a Score has only classes.
    """
    made = _Directions(page)
    first = np.flatnonzero(np.diff(page.score.onset_quarter.round(6), prepend=np.nan) != 0)  # one note a chord
    made.dynamics(first)
    made.tempi(first)
    made.pedal()
    for found in made.bars:
        found.sort(key=lambda d: d[0])
    return made.bars


class _Directions:
    """Collects directions: `bars` as `directions` returns it."""

    def __init__(self, page: Layout) -> None:
        self.page, self.score = page, page.score
        self.bars: list[list[tuple[Fraction, ET.Element]]] = [[] for _ in page.chords]

    def add(self, at: Fraction, placement: str, kinds: list[ET.Element], bpm: int = 0, staff: int = 1) -> None:
        """One direction `at` so many quarters; `bpm` is the playback tempo from there."""
        starts = self.page.starts
        bar = min(max(bisect_right(starts, at) - 1, 0), len(self.bars) - 1)
        direction = ET.Element("direction", placement=placement)
        for kind in kinds:
            ET.SubElement(direction, "direction-type").append(kind)
        ET.SubElement(direction, "staff").text = str(staff)
        if bpm:
            ET.SubElement(direction, "sound", tempo=str(bpm))
        place = min(max(at - starts[bar], Fraction(0)), starts[bar + 1] - starts[bar])
        self.bars[bar].append((place, direction))

    def dynamics(self, first: NDArray[np.int64]) -> None:
        """Dynamics signs and hairpins; `first` has one note of each chord."""
        names = {v: k for k, v in DYNAMIC_VELOCITY.items()}
        velocity, hairpin = (self.score.marks[k][first] for k in ("written_velocity", "hairpin"))
        if not hairpin.any() and len(np.unique(velocity)) > len(names):
            return
        level = 0
        for i, (v, h) in enumerate(zip(velocity.tolist(), hairpin.tolist(), strict=True)):
            at = self.page.onset[first[i]]
            if v != level and v in names and (h == 0 or hairpin[i - 1] == 0 or i == 0):
                sign = ET.Element("dynamics")
                ET.SubElement(sign, names[v])
                self.add(at, "below", [sign])
            level = v  # after a hairpin the last mark is written again
        for i in np.flatnonzero(np.diff(hairpin, prepend=0) != 0).tolist():
            at = self.page.onset[first[i]]
            if i > 0 and hairpin[i - 1]:
                self.add(at, "below", [ET.Element("wedge", type="stop")])
            if hairpin[i]:
                self.add(at, "below", [ET.Element("wedge", type="crescendo" if hairpin[i] > 0 else "diminuendo")])

    def tempi(self, first: NDArray[np.int64]) -> None:
        """Metronome marks; before the first of a composed score its tempo word."""
        bpm = self.score.marks["tempo_bpm"][first]
        changes = [i for i in np.flatnonzero(np.diff(bpm, prepend=0) != 0).tolist() if bpm[i] > 0]
        words = tempo_words(self.score)
        for i in changes if len(changes) <= MAX_TEMPI else []:
            kinds = [self._metronome(int(bpm[i]), bool(words))]
            if words and i == 0:
                kinds.insert(0, ET.Element("words", {"font-weight": "bold"}))
                kinds[0].text = words
            self.add(self.page.onset[first[i]], "above", kinds, int(bpm[i]))

    def _metronome(self, bpm: int, by_beat: bool) -> ET.Element:
        """Quarters a minute; `by_beat` in beats of the metre where that is a whole number."""
        m = self.score.measures
        beat = beat_quarters(int(m.ts_num[0]), int(m.ts_den[0])) if by_beat and bpm else 1.0
        if bpm % beat:
            beat = 1.0
        unit, dotted = _BEAT_UNITS[beat]
        out = ET.Element("metronome")
        ET.SubElement(out, "beat-unit").text = unit
        if dotted:
            ET.SubElement(out, "beat-unit-dot")
        ET.SubElement(out, "per-minute").text = str(int(bpm / beat))
        return out

    def pedal(self) -> None:
        """Pedal brackets; where one ends and the next begins, a change."""
        down, up = (
            {Fraction(float(q)).limit_denominator(self.page.divisions) for q in self.score.events.at(f"pedal_{way}")}
            for way in ("down", "up")
        )
        pressed = False
        for at in sorted(down | up):
            kind = "change" if at in down and at in up and pressed else "start" if at in down else "stop"
            if kind == "change" or (kind == "start") != pressed:  # skip repeated signs of one kind
                self.add(at, "below", [ET.Element("pedal", type=kind, line="yes", sign="no")], staff=2)
                pressed = kind != "stop"
