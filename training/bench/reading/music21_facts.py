"""Files read by music21: notes, barlines and signs, in the order of music21's expander of repeats.

music21 merges ties and copies repeats very slowly and loses ties into endings, so these two steps are done here.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from training.bench.reading.facts import Facts, Sign

_TIES_ON = ("start", "continue")


def music21_facts(path: Path) -> Facts:
    """Read a file with music21, every part with its own clock. Raises whatever music21 raises."""
    return _facts(path, by_bar=False)


def music21_bar_facts(path: Path) -> Facts:
    """Read a file with music21, every bar of all parts at one time. Raises whatever music21 raises.

    music21 puts a bar where its part's bars before it end. After a bar in which the parts differ in length, or in which
    a direction has an offset past the barline, its parts are no longer together until the end. Here bar k of every part
    begins with bar k of the others.
    """
    return _facts(path, by_bar=True)


def _facts(path: Path, by_bar: bool) -> Facts:
    from music21 import converter, stream

    read = converter.parse(path, forceSource=True)
    if isinstance(read, stream.Opus):
        read = read.scores[0]
    if read.atSoundingPitch is not True:
        read.toSoundingPitch(inPlace=True)
    parts = list(read.parts) if isinstance(read, stream.Score) else [read]
    measures = [list(p.getElementsByClass(stream.Measure)) for p in parts]
    by_bar = by_bar and all(measures)
    starts = _bar_starts(measures) if by_bar else _starts(measures, parts)
    order = _order(parts, measures)
    lengths = [b - a for a, b in pairwise(starts)]
    places = _places(parts, measures, starts, by_bar)
    facts = Facts(bars=order, starts=[float(s) for s in starts[:-1]], signs=_signs(parts, places))
    begins = [0.0]
    for k in order:
        begins.append(begins[-1] + lengths[k])
    for part, bars in zip(parts, measures, strict=True):
        struck: list[list] = []
        of_bar = _notes_in(bars, facts) if by_bar else _notes_of(part, starts, facts)
        for k, begin in zip(order, begins, strict=False):
            struck += [[begin + at, length, pitch, grace, tie] for at, length, pitch, grace, tie in of_bar[k]]
        facts.notes += _merged(struck)
    facts.notes.sort(key=lambda n: (round(n[0], 4), not n[3]))
    return facts


def _starts(measures: list[list], parts: list) -> list[float]:
    """Where each bar begins, and where the last one ends."""
    longest = max(measures, key=len)
    if not longest:
        return [0.0, float(max(p.highestTime for p in parts))]
    out = [float(bar.offset) for bar in longest]
    end = max(float(m[-1].offset + m[-1].highestTime) for m in measures if m)
    return [*out, max(end, out[-1])]


def _bar_starts(measures: list[list]) -> list[float]:
    """Where each bar begins if it lasts as long as the notes of its longest part, or as its rests up to the metre."""
    out = [0.0]
    metre = 4.0
    for k in range(max(map(len, measures))):
        notes = rests = 0.0
        for bar in (bars[k] for bars in measures if k < len(bars)):
            metre = float(bar.timeSignature.barDuration.quarterLength) if bar.timeSignature else metre
            for e in bar.flatten().notesAndRests:
                end = float(e.offset + e.quarterLength)
                rests, notes = max(rests, end), notes if e.isRest else max(notes, end)
        out.append(out[-1] + max(notes, min(rests, metre)))
    return out


def _notes_in(bars: list, facts: Facts) -> dict[int, list[tuple]]:
    """Per written bar as `_notes_of`, by the bars that music21 has read."""
    return defaultdict(list, {k: _strokes(bar.flatten().notes, 0.0, facts) for k, bar in enumerate(bars)})


def _notes_of(part: Any, starts: list[float], facts: Facts) -> dict[int, list[tuple]]:
    """Per written bar (quarters from its beginning, length, pitch, grace, tie type), by the time in the part."""
    out: dict[int, list[tuple]] = defaultdict(list)
    for element in part.flatten().notes:
        onset = float(element.offset)
        k = max((i for i, s in enumerate(starts[:-1]) if s <= onset + 1e-6), default=0)
        if element.duration.isGrace and k + 1 < len(starts) - 1 and abs(starts[k + 1] - onset) < 1e-6:
            k += 1
        out[k] += _strokes([element], starts[k], facts)
    return out


def _strokes(elements: Iterable[Any], begin: float, facts: Facts) -> list[tuple]:
    """(quarters after `begin`, length, pitch, grace, tie type) of each note; `facts` counts unpitched ones."""
    out: list[tuple] = []
    for element in elements:
        if "Harmony" in element.classes or "ChordSymbol" in element.classes:
            continue
        if "Unpitched" in element.classes or "PercussionChord" in element.classes:
            facts.unpitched += 1
            continue
        for note in element.notes if "Chord" in element.classes else [element]:
            tie = note.tie.type if note.tie else ""
            grace = bool(element.duration.isGrace)
            length = 0.0 if grace else float(element.quarterLength)
            out.append((float(element.offset) - begin, length, int(note.pitch.midi), grace, tie))
    return out


def _merged(struck: list[list]) -> list[tuple[float, float, int, bool]]:
    """Key strokes of one part: a tied note lengthens the one before it."""
    out: list[list] = []
    open_: dict[int, list[list]] = defaultdict(list)
    for onset, length, pitch, grace, tie in sorted(struck, key=lambda n: (round(n[0], 4), not n[3])):
        before = next((w for w in open_[pitch] if abs(w[0] + w[1] - onset) < 1e-4), None)
        if tie in ("stop", "continue") and before is not None:
            before[1] += length
            before[3] = before[3] and grace
            if tie == "stop":
                open_[pitch].remove(before)
            continue
        out.append([onset, length, pitch, grace])
        if tie in _TIES_ON:
            open_[pitch].append(out[-1])
    return [tuple(n) for n in out]  # type: ignore[misc]


def _order(parts: list, measures: list[list]) -> list[int]:
    """Playing order of the bars, by music21's expander, on bars that contain only their signs."""
    from music21 import repeat, spanner, stream

    longest = max(range(len(parts)), key=lambda k: len(measures[k]))
    bars = measures[longest]
    if len(bars) < 2:
        return list(range(max(len(bars), 1)))
    light = stream.Part()
    copies = []
    for i, bar in enumerate(bars):
        new = stream.Measure(number=i + 1)
        new.groups.append(str(i))  # the expander copies this but renumbers the bars
        for name in ("leftBarline", "rightBarline"):
            line = getattr(bar, name)
            if line is not None and "Repeat" in line.classes:
                setattr(new, name, copy.deepcopy(line))
        seen = set()
        for m in (m[i] for m in measures if i < len(m)):
            for sign in m.recurse().getElementsByClass(repeat.RepeatExpression):
                if type(sign) not in seen:
                    seen.add(type(sign))
                    new.insert(sign.getOffsetInHierarchy(m), copy.deepcopy(sign))
        new.insert(0, stream.Voice())
        copies.append(new)
        light.append(new)
    number = {id(bar): i for i, bar in enumerate(bars)}
    for bracket in parts[longest].recurse().getElementsByClass(spanner.RepeatBracket):
        inside = [copies[number[id(m)]] for m in bracket.getSpannedElements() if id(m) in number]
        if inside:
            light.insert(0, spanner.RepeatBracket(inside, number=bracket.number))
    expander = repeat.Expander(light)
    if not expander.isExpandable():
        return list(range(len(bars)))
    return [int(m.groups[0]) for m in expander.process().getElementsByClass(stream.Measure)]


def _places(parts: list, measures: list[list], starts: list[float], by_bar: bool) -> dict[int, float]:
    """The quarter of every element of the page, by its `id`."""
    if by_bar:
        bars = [(begin, bar) for bars in measures for begin, bar in zip(starts, bars, strict=False)]
    else:
        bars = [(0.0, part) for part in parts]
    return {id(e): begin + float(e.getOffsetInHierarchy(bar)) for begin, bar in bars for e in bar.recurse()}


def _signs(parts: list, places: dict[int, float]) -> list[Sign]:
    """Dynamics, hairpins, words and metronome marks, part by part; `places` has the quarter of every element."""
    from music21 import dynamics, expressions, tempo

    out: list[Sign] = []
    for part in parts:
        signs = part.recurse().getElementsByClass([dynamics.Dynamic, expressions.TextExpression, tempo.TempoIndication])
        for e in signs:
            if id(e) not in places:
                continue
            at = places[id(e)]
            if isinstance(e, dynamics.Dynamic):
                out.append((at, "mark", str(e.value), None))
            elif isinstance(e, expressions.TextExpression):
                out.append((at, "words", str(e.content), None))
            elif isinstance(e, tempo.MetricModulation):
                new = e.newMetronome
                if new is not None and new.number:
                    out.append((at, "bpm", float(new.getQuarterBPM()), None))
            elif isinstance(e, tempo.MetronomeMark):
                bpm = e.getQuarterBPM() if e.number is not None and not e.numberImplicit else e.numberSounding
                if e.text and not e.textImplicit:
                    out.append((at, "words", str(e.text), None))
                if bpm:
                    out.append((at, "bpm", float(bpm), None))
            elif isinstance(e, tempo.TempoText):
                out.append((at, "words", str(e.text), None))
        for wedge in part.recurse().getElementsByClass(dynamics.DynamicWedge):
            ends = [e for e in wedge.getSpannedElements() if id(e) in places]  # music21 loses some notes
            if ends:
                end = places[id(ends[-1])] + float(ends[-1].quarterLength)
                out.append((places[id(ends[0])], "wedge", 1 if "Crescendo" in wedge.classes else -1, end))
    return out
