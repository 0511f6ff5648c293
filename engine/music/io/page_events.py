"""Page events, the signs between notes: dynamics, words, barlines, key changes, fermatas, pedal marks.

Marks per note cannot represent them. They raise the correlation of the predicted tempo per beat with a pianist's from
0.56 to 0.59 (five folds of (n)ASAP's training works).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from engine.music.io.musicxml_page import number
from engine.music.io.words import metronome
from engine.music.types import Measures, PageEvents

WORDS = {
    "rit": r"\brit|rall|slent|calando|smorz|morendo|perdend|allarg|c[ée]d|zögernd",
    "accel": r"accel|string|affret|stretto|anim|incalz|più mosso|schneller",
    "a_tempo": r"tempo",
    "slower": r"meno|più lento|plus lent|langsamer|lento|largo|adagio|grave",
    "faster": r"presto|vivace|allegro|mosso|vif|veloce",
    "dolce": r"dolc|espr|cantab|sotto|legato",
    "force": r"agitat|fuoco|appass|con forza|marc|risol|imper",
    "held": r"\bten|sost|pesante|largam",
    "free": r"libit|rubato|piacere|recit|cadenz",
    "cresc": r"cresc|rinf",
    "dim": r"dim|decresc",
    "senza_pedale": r"senza ped|sans p[ée]d|ohne ped|without ped",
    "con_pedale": r"con ped|col ped|avec p[ée]d|mit ped|with ped|sempre ped|ped\. ?simile",
}  # fmt: skip
BAR_END = -1.0  # position of a sign on the bar's last barline
_BEFORE_END = 1e-3


def word_events(text: str) -> list[str]:
    """Kinds of event of a text direction.

    >>> word_events("poco rit."), word_events("Andante (♩ = 72)")
    (['rit'], ['metronome'])
    """
    found = [kind for kind, pattern in WORDS.items() if re.search(pattern, text.lower())]
    return [*found, "metronome"] if metronome(text)[0] else found


def musicxml_events(root: Any, measures: Measures) -> PageEvents:
    """Events of a partwise MusicXML tree, placed in the unfolded bars of the score.

    measures  of its score, repeats unfolded; bars are identified by printed numbers
    """
    table: dict[int, list[tuple[float, str]]] = defaultdict(list)
    numbers: list[int] = []
    for k, part in enumerate(root.findall("part")):
        divisions = 1.0
        for i, bar in enumerate(part.findall("measure")):
            if k == 0:
                name = bar.get("number", "")
                numbers.append(int(name) if name.isdecimal() else numbers[-1] if numbers else 0)
            now = 0.0
            for e in bar:
                if e.tag == "attributes":
                    stated = number(e.findtext("divisions"))
                    divisions = float(stated) if stated and stated > 0 else divisions
                length = float(number(e.findtext("duration")) or 0) / divisions
                table[i] += [(place if place < 0 else now, kind) for place, kind in _of_element(e, i)]
                if e.tag == "note" and e.find("chord") is None and e.find("grace") is None:
                    now += length
                elif e.tag in ("forward", "backup"):
                    now = max(now + (length if e.tag == "forward" else -length), 0.0)
    return placed(table, numbers, measures)


def _of_element(e: Any, bar: int) -> list[tuple[float, str]]:
    """(0 here or BAR_END, kind) of each sign in one child of a measure."""
    if e.tag == "attributes":
        return [(0.0, "key")] if bar and e.find("key") is not None else []
    if e.tag == "note":
        held = e.find("chord") is None and e.find("notations/fermata") is not None
        return [(0.0, "fermata")] * held
    if e.tag == "direction":
        found = [kind for w in e.iter("words") for kind in word_events(w.text or "")]
        found += ["dynamic" for _ in e.iter("dynamics")]
        found += ["metronome" for m in e.iter("metronome") if m.find("per-minute") is not None]
        for pedal in e.iter("pedal"):
            how = pedal.get("type")
            found += {"start": ["pedal_down"], "resume": ["pedal_down"], "stop": ["pedal_up"],
                      "discontinue": ["pedal_up"], "change": ["pedal_up", "pedal_down"]}.get(how or "", [])  # fmt: skip
        return [(0.0, kind) for kind in found]
    if e.tag == "barline" and e.get("location", "right") == "right":
        style = e.findtext("bar-style")
        found = ["double"] * (style == "light-light")
        found += ["repeat"] * (style == "light-heavy" or e.find("repeat") is not None)
        found += ["fermata"] * (e.find("fermata") is not None)
        return [(BAR_END, kind) for kind in found]
    return []


def placed(table: dict[int, list[tuple[float, str]]], numbers: Sequence[int], measures: Measures) -> PageEvents:
    """Events of printed bars, placed at each pass of these bars.

    table    printed bar: [(quarters from its start, or BAR_END; kind)]
    numbers  the printed bars' numbers; a bar without one has the previous number
    """
    of_number = defaultdict(list)
    for i, printed in enumerate(numbers):
        of_number[printed].append(i)
    same = len(numbers) == len(measures)
    out, last = [], -1
    for k, printed in enumerate(measures.number.tolist()):
        candidates = of_number.get(printed, [])
        i = k if same else last + 1 if last + 1 in candidates else candidates[0] if candidates else -1
        last = i
        start, length = measures.onset_quarter[k], measures.duration_quarter[k]
        for at, kind in table.get(i, ()):
            out.append((start + (max(length - _BEFORE_END, 0.0) if at < 0 else min(at, length)), kind))
    return PageEvents.of(out)
