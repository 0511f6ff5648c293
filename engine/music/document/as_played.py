"""MusicXML as played: a score with the tempo, loudness, times and pedal of a performance for playback.

W3C MusicXML 4.0: `<sound tempo>` in quarters a minute at every beat; of each `<note>` `dynamics` in per cent of a forte
(velocity 90), `attack` and `release` in divisions, early is negative; `<pedal>` with `damper-pedal`. A notation program
that supports these attributes reproduces the performance; others show the score unchanged.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from lxml import etree
from numpy.typing import NDArray

from engine.music.document.patch import saved
from engine.music.document.unfold import unfold
from engine.music.expression import beat_times, decode_expression, encode_expression, in_written_order
from engine.music.io.musicxml_page import number, page_of
from engine.music.io.written import Page, score_of
from engine.music.types import Alignment, BadInput, Performance, Score

FORTE = 90  # velocity of 100 per cent
_FINEST = 480  # divisions of a quarter at least
_LEADING = ("print", "attributes", "barline")


@dataclass(frozen=True)
class Clock:
    """The map between score time and performed time: sec (k,) at quarter (k,), both strictly increasing, k >= 2."""

    quarter: NDArray[np.float64]
    sec: NDArray[np.float64]

    @classmethod
    def of(cls, score: Score, performance: Performance) -> Clock:
        _, sec, quarter = beat_times(score, performance)
        quarter, first = np.unique(quarter, return_index=True)
        sec = sec[first]
        if len(quarter) < 2:
            quarter, sec = np.array([quarter[0], quarter[0] + 1]), np.array([sec[0], sec[0] + 1])
        ramp = 0.01 * np.arange(len(sec))  # a beat takes 10 ms at least
        return cls(quarter, np.maximum.accumulate(sec - ramp) + ramp)

    def quarter_at(self, sec: NDArray) -> NDArray[np.float64]:
        """Score times of performed seconds; outside at the tempo of the first and last beat."""
        k = np.clip(np.searchsorted(self.sec, sec, side="right") - 1, 0, len(self.sec) - 2)
        slope = (self.quarter[k + 1] - self.quarter[k]) / (self.sec[k + 1] - self.sec[k])
        return self.quarter[k] + (sec - self.sec[k]) * slope


def musicxml_as_played(score: Score, performance: Performance) -> bytes:
    """The score's document, or a new one, with a performance in it; repeats are unfolded.

    performance  note for note the score's
    Raises BadInput unless it has one note for each note of the score.
    """
    if len(performance) != len(score):
        raise BadInput(
            f"This performance has {len(performance)} notes and the score {len(score)}; MusicXML as played needs one "
            "played note for each written one, so perform the score first."
        )
    root, page, rows = _document(score)
    _count_finely(root)
    clock = Clock.of(score, performance)
    start = clock.quarter_at(performance.onset_sec)
    end = clock.quarter_at(performance.onset_sec + performance.duration_sec)
    for heads, row in zip(page.heads, rows, strict=True):
        if row < 0:
            continue
        first, last = heads[0][1], heads[-1][1]
        first.element.set("dynamics", f"{100 * int(performance.velocity[row]) / FORTE:.2f}")
        if first.grace:
            continue
        onset, offset = score.onset_quarter[row], score.onset_quarter[row] + score.duration_quarter[row]
        first.element.set("attack", _divisions(start[row] - onset))
        last.element.set("release", _divisions(end[row] - offset))
    for sound in root.iter("sound"):
        sound.attrib.pop("tempo", None)
    _write_events(root, page, _events(page, score, clock, performance))
    tree = root.getroottree()
    return etree.tostring(tree, xml_declaration=True, encoding=tree.docinfo.encoding or "UTF-8")


def note_for_note(score: Score, performance: Performance, alignment: Alignment) -> Performance:
    """An aligned performance as one note for each note of the score, at its own times.

    Notes of the score that are not played get the tempo and touch of their neighbours; other played notes are omitted.
    Raises BadInput if fewer than two onsets are matched.
    """
    try:
        whole = in_written_order(score, decode_expression(score, encode_expression(score, performance, alignment)))
    except ValueError as error:
        raise BadInput("Too little of the score is found in this performance; open a performance of it.") from error
    rows, played = alignment.score_index, alignment.performance_index
    shift = float(np.median(performance.onset_sec[played] - whole.onset_sec[rows]))
    columns = {"onset_sec": whole.onset_sec + shift, "duration_sec": whole.duration_sec, "velocity": whole.velocity}
    columns = {name: np.array(values) for name, values in columns.items()}
    for name, values in columns.items():
        values[rows] = getattr(performance, name)[played]
    return replace(whole, **columns, pedal_sec=performance.pedal_sec, pedal_value=performance.pedal_value)


def _document(score: Score) -> tuple[Any, Page, list[int]]:
    """The tree without repeats, its page, and for each row of the page the note of the score (-1: none)."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    root = etree.fromstring(saved(score), parser)
    page = page_of(root)
    read = score_of(page)
    if page.played_bars != list(range(len(page.bars))):
        unfold(root, page.played_bars)
        page = page_of(root)
        read = score_of(page)
    waiting: dict[tuple, list[int]] = defaultdict(list)
    for i, key in enumerate(_keys(score)):
        waiting[key].append(i)
    return root, page, [waiting[key].pop(0) if waiting[key] else -1 for key in _keys(read)]


def _keys(score: Score) -> list[tuple]:
    onset = np.round(score.onset_quarter * 1000).astype(int).tolist()
    return list(zip(onset, score.pitch.tolist(), score.grace.tolist(), strict=True))


def _divisions(quarters: float) -> str:
    return str(round(float(quarters) * _FINEST))


def _count_finely(root: Any) -> None:
    """Change the document to multiples of _FINEST divisions of a quarter."""
    for part in root.findall("part"):
        divisions, first = Fraction(1), True
        for measure in part.findall("measure"):
            if first and measure.find("attributes/divisions") is None:
                measure.insert(0, etree.fromstring(f"<attributes><divisions>{_FINEST}</divisions></attributes>"))
            first = False
            for element in measure.iter("divisions", "duration", "offset"):
                value = number(element.text) or Fraction(0)
                if element.tag == "divisions":
                    divisions = value or divisions
                    element.text = str(_FINEST)
                else:
                    scaled = value / divisions * _FINEST
                    element.text = str(scaled) if scaled.denominator == 1 else f"{float(scaled):.6f}"


# ---- tempo and pedal
def _events(page: Page, score: Score, clock: Clock, performance: Performance) -> list[list[tuple[int, Any]]]:
    """For each bar (divisions from its barline, element) in order: tempi and pedals."""
    starts = score.measures.onset_quarter[: len(page.bars)]
    out: list[list[tuple[int, Any]]] = [[] for _ in page.bars]

    def put(quarter: float, element: Any) -> None:
        bar = int(np.clip(np.searchsorted(starts, quarter + 1e-6, side="right") - 1, 0, len(out) - 1))
        length = float(page.bars[bar].length)
        at = min(max(quarter - float(starts[bar]), 0.0), length)
        out[bar].append((round(at * _FINEST), element))

    tempi = 60 * np.diff(clock.quarter) / np.diff(clock.sec)
    for k, (quarter, bpm) in enumerate(zip(clock.quarter[:-1], tempi, strict=True)):
        put(float(starts[0]) if k == 0 else float(quarter), etree.Element("sound", tempo=f"{bpm:.3f}"))
    down = False
    for quarter, value in zip(clock.quarter_at(performance.pedal_sec), performance.pedal_value, strict=True):
        if (value >= 64) != down and math.isfinite(quarter):
            down = not down
            put(float(quarter), _pedal(down))
    for found in out:
        found.sort(key=lambda e: e[0])
    return out


def _pedal(down: bool) -> Any:
    direction = etree.Element("direction", placement="below")
    kind = etree.SubElement(direction, "direction-type")
    etree.SubElement(kind, "pedal", type="start" if down else "stop", line="no", sign="yes")
    etree.SubElement(direction, "sound", {"damper-pedal": "yes" if down else "no"})
    return direction


def _write_events(root: Any, page: Page, events: Sequence[Sequence[tuple[int, Any]]]) -> None:
    """Insert them at the beginning of each bar of the first played part, with <forward> and <backup> between them."""
    part = min((heads[0][1].part for heads in page.heads), default=0)
    for measure, found in zip(root.findall("part")[part].findall("measure"), events, strict=False):
        at = next((k for k, e in enumerate(measure) if e.tag not in _LEADING), len(measure))
        here, new = 0, []
        for place, element in found:
            if place > here:
                new.append(_step("forward", place - here))
                here = place
            new.append(element)
        if here:
            new.append(_step("backup", here))
        for k, element in enumerate(new):
            measure.insert(at + k, element)


def _step(tag: str, duration: int) -> Any:
    element = etree.Element(tag)
    etree.SubElement(element, "duration").text = str(duration)
    return element


def played_bytes(data: bytes) -> bytes:
    """`musicxml_as_played` of `pair_to_bytes`; for the child process."""
    from engine.music.score_bytes import pair_from_bytes

    return musicxml_as_played(*pair_from_bytes(data))
