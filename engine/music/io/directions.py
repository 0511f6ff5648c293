"""What stands above and below the notes of a Score: dynamics, hairpins, metronome marks; as MusicXML."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from bisect import bisect_right
from fractions import Fraction

import numpy as np

from engine.music.engraving.layout import Layout
from engine.music.io.score_marks import DYNAMIC_VELOCITY

MAX_TEMPI = 60  # more changes of tempo than this are a performance, not marks


def directions(page: Layout) -> list[list[tuple[Fraction, ET.Element]]]:
    """For each bar its <direction> elements, as (quarters from the barline, element), in order."""
    score = page.score
    out: list[list[tuple[Fraction, ET.Element]]] = [[] for _ in page.chords]

    def add(row: int, placement: str, sound: dict[str, str] | None = None) -> ET.Element:
        """A new direction at a note's onset; returns its <direction-type> to be filled."""
        bar = min(max(bisect_right(page.starts, page.onset[row]) - 1, 0), len(out) - 1)
        direction = ET.Element("direction", placement=placement)
        kind = ET.SubElement(direction, "direction-type")
        ET.SubElement(direction, "staff").text = "1"
        if sound:
            ET.SubElement(direction, "sound", sound)
        out[bar].append((max(page.onset[row] - page.starts[bar], Fraction(0)), direction))
        return kind

    first = np.flatnonzero(np.diff(score.onset_quarter.round(6), prepend=np.nan) != 0)  # one note a chord
    names = {v: k for k, v in DYNAMIC_VELOCITY.items()}
    velocity, hairpin, bpm = (score.marks[k][first] for k in ("written_velocity", "hairpin", "tempo_bpm"))
    level = 0
    dynamics = []
    for i, (v, h) in enumerate(zip(velocity.tolist(), hairpin.tolist(), strict=True)):
        if v != level and v in names and (h == 0 or hairpin[i - 1] == 0 or i == 0):
            dynamics.append((i, names[v]))
        level = v  # a hairpin may have led away from the last mark, which is then written again
    if hairpin.any() or len(np.unique(velocity)) <= len(names):
        for i, name in dynamics:
            ET.SubElement(ET.SubElement(add(first[i], "below"), "dynamics"), name)
        for i in np.flatnonzero(np.diff(hairpin, prepend=0) != 0).tolist():
            if i > 0 and hairpin[i - 1]:
                ET.SubElement(add(first[i], "below"), "wedge", type="stop")
            if hairpin[i]:
                ET.SubElement(add(first[i], "below"), "wedge", type="crescendo" if hairpin[i] > 0 else "diminuendo")
    changes = [i for i in np.flatnonzero(np.diff(bpm, prepend=0) != 0).tolist() if bpm[i] > 0]
    for i in changes if len(changes) <= MAX_TEMPI else []:
        metronome = ET.SubElement(add(first[i], "above", {"tempo": str(int(bpm[i]))}), "metronome")
        ET.SubElement(metronome, "beat-unit").text = "quarter"
        ET.SubElement(metronome, "per-minute").text = str(int(bpm[i]))
    for found in out:
        found.sort(key=lambda d: d[0])
    return out
