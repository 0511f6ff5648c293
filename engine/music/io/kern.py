"""Reader of Humdrum **kern scores (the Chopin, Polish and Craig Sapp's collections).

The format: humdrum.org/rep/kern. A line has the events of one time; a column (spine) is a staff, split by *^ into two
voices. Reads notes, ties, graces, articulation, slurs, **dynam, bars, keys, metres, tempi, repeats. Of two small
hand-counted files partitura 1.9 reads none correctly, music21 10.5 and verovio 6.4 one; notes and repeats of 719 of 723
public files agree with verovio (docs/reading.md).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from engine.limits import MAX_SCORE_NOTES
from engine.music.engraving.spelling import FIFTHS
from engine.music.io.page_events import BAR_END, placed, word_events
from engine.music.io.score_marks import DYNAMIC_VELOCITY
from engine.music.io.words import IMPULSES
from engine.music.io.written import Bar, Note, Page, Part, Sign, score_of
from engine.music.types import BadInput, Score

MAX_SPINES = 64
_CHROMA = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_NOTE = re.compile(r"([A-Ga-g])\1*")
_LENGTH = re.compile(r"(\d{1,5})(?:%(\d{1,4}))?(\.{0,3})")
_DYNAMIC = re.compile(r"[a-z]+")
_LABEL = re.compile(r"\*>([^\[\]]+)$")
_ORDER = re.compile(r"\*>\[(.+)\]$")
_METER = re.compile(r"\*M(\d{1,2}(?:\+\d{1,2})*)/(\d{1,2})")
_ACCIDENTALS_MOST = 3


@dataclass
class _Spine:
    kind: str  # "**kern", "**dynam", ...
    origin: int  # column in which it began
    staff: int  # 0 unknown
    voice: int  # 1, 2 ... within its column
    until: Fraction = Fraction(0)  # end time of its last event
    length: Fraction = Fraction(1)  # of the last note


@dataclass
class _Note:
    onset: Fraction
    length: Fraction
    pitch: int
    spelling: int
    origin: int
    voice: int
    bar: int  # number of barlines before it, at distinct times
    token: str
    tie_from: bool
    tie_on: bool


@dataclass
class _Reading:
    """State of the reader; times in quarters from the start of the file."""

    notes: list[_Note] = field(default_factory=list)
    slurs: dict[int, list[Fraction]] = field(default_factory=lambda: defaultdict(list))  # origin: open slurs
    slur_spans: list[tuple[int, Fraction, Fraction]] = field(default_factory=list)  # origin, start, end
    bars: list[tuple[Fraction, str]] = field(default_factory=list)
    bar_times: list[Fraction] = field(default_factory=lambda: [Fraction(0)])  # start of each bar
    meters: list[tuple[Fraction, int, int]] = field(default_factory=list)
    keys: list[tuple[Fraction, int]] = field(default_factory=list)
    signs: list[tuple[Fraction, str, str | float]] = field(default_factory=list)  # as in `Sign`
    wedges: list[tuple[Fraction, Fraction, int]] = field(default_factory=list)
    open_wedge: tuple[Fraction, int] | None = None
    pedals: list[tuple[Fraction, str]] = field(default_factory=list)  # "pedal_down" or "pedal_up"
    labels: list[tuple[Fraction, str]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    staff_of: dict[int, int] = field(default_factory=dict)  # origin: staff
    part_of: dict[int, str] = field(default_factory=dict)  # origin: number of the part
    name_of: dict[int, str] = field(default_factory=dict)  # origin: instrument
    about: dict[str, str] = field(default_factory=dict)  # reference records: COM, OTL ...
    last_onset: Fraction = Fraction(-1)  # of the last line with a note or rest
    remarks: list[tuple[int, str, str]] = field(default_factory=list)  # bar, element, text


def read_kern(data: bytes, all_parts: bool = False) -> Score:
    """Read a Humdrum file with **kern spines; repeats follow its expansion list or its barlines. For untrusted bytes
    use `engine.untrusted.scores`. Raises BadInput.
    """
    page = kern_page(data)
    score = score_of(page, all_parts)
    return replace(score, events=placed(page.events, page.numbers(), score.measures))


def kern_page(data: bytes) -> Page:
    """The page of a Humdrum file. Raises BadInput over a limit, and for a file without notes."""
    r = _Reading()
    spines: list[_Spine] = []
    for line in data.decode("utf-8-sig", errors="replace").splitlines():
        if not line or line.startswith("!"):
            _reference(line, r, _now(spines, r))
            continue
        tokens = line.split("\t")
        if line.startswith("**"):
            spines = [_Spine(t, i, 0, 1) for i, t in enumerate(tokens)]
        elif line.startswith("*"):
            spines = _interpret(tokens, spines, r)
        elif line.startswith("="):
            now = _now(spines, r)
            r.bars.append((now, tokens[0]))
            if now > r.bar_times[-1]:
                r.bar_times.append(now)
        else:
            _data_line(tokens, spines, r)
        if len(spines) > MAX_SPINES or len(r.notes) > MAX_SCORE_NOTES:
            most = f"{MAX_SCORE_NOTES} notes or {MAX_SPINES} spines"
            raise BadInput(f"This kern file has more than {most}; open a part of it.")
    if not r.notes:
        raise BadInput("This kern file has no notes; a score needs at least one note. Choose another file.")
    return _page(r)


def _now(spines: list[_Spine], r: _Reading) -> Fraction:
    """Time of the next line: the earliest end of a current event."""
    ends = [s.until for s in spines if s.kind == "**kern" and s.until > r.last_onset]
    return min(ends, default=max(r.last_onset, Fraction(0)))


def _reference(line: str, r: _Reading, now: Fraction) -> None:
    """Title, composer and the tempo heading from !!! records; words over the staves from !LO:TX comments."""
    found = re.match(r"!!!([A-Z]{3})[^:]*:\s*(.*)", line)
    if found:
        r.about.setdefault(found[1], found[2].strip())
        if found[1] == "OMD":
            r.signs.append((now, "words", found[2].strip()))
    for text in re.findall(r"!LO:TX[^\t]*?:t=([^:\t]+)", line):
        r.signs.append((now, "words", text.replace("&colon;", ":")))


def _interpret(tokens: list[str], spines: list[_Spine], r: _Reading) -> list[_Spine]:
    """Spine paths and tandem interpretations; returns the spines after the line."""
    now = _now(spines, r)
    out: list[_Spine] = []
    joining = False
    for token, spine in zip(tokens, spines, strict=False):
        if token == "*v" and joining and out and out[-1].origin == spine.origin:
            out[-1].until = max(out[-1].until, spine.until)
            continue
        joining = token == "*v"
        if token == "*^":
            out += [spine, _Spine(spine.kind, spine.origin, spine.staff, spine.voice + 1, spine.until, spine.length)]
        elif token == "*+":
            out += [spine, _Spine("**", -len(r.bars) - 1, 0, 1)]
        elif token.startswith("**"):
            spine.kind = token
            out.append(spine)
        elif token != "*-":
            out.append(spine)
            if spine.kind == "**kern" or token.startswith("*>"):
                _tandem(token, spine, now, r)
    exchanged = [i for i, token in enumerate(tokens) if token == "*x"]
    if len(exchanged) == 2 and max(exchanged) < len(out):
        a, b = exchanged
        out[a], out[b] = out[b], out[a]
    for origin in {s.origin for s in out}:  # number the voices of a column from the left
        for k, s in enumerate(s for s in out if s.origin == origin):
            s.voice = k + 1
    return out


def _tandem(token: str, spine: _Spine, now: Fraction, r: _Reading) -> None:
    if staff := re.match(r"\*staff(\d+)", token):
        r.staff_of[spine.origin] = int(staff[1])
    elif part := re.match(r"\*part(\d+)", token):
        r.part_of[spine.origin] = part[1]
    elif name := re.match(r'\*I"(.+)', token):
        r.name_of[spine.origin] = name[1].strip()
    elif key := re.match(r"\*k\[(.*)\]", token):
        r.keys.append((now, int(np.clip(key[1].count("#") - key[1].count("-"), -7, 7))))
    elif meter := _METER.match(token):
        num, den = sum(int(x) for x in meter[1].split("+")), int(meter[2])
        if 1 <= num <= 64 and den in (1, 2, 4, 8, 16, 32, 64):
            r.meters.append((now, num, den))
    elif tempo := re.match(r"\*MM(\d{1,3}(?:\.\d{1,6})?)", token):
        r.signs.append((now, "bpm", float(tempo[1])))
    elif words := re.match(r"\*MM\[(.+)\]", token):
        r.signs.append((now, "bpm", float(words[1])) if words[1].isdecimal() else (now, "words", words[1]))
    elif token in ("*ped", "*Xped"):
        r.pedals.append((now, "pedal_down" if token == "*ped" else "pedal_up"))
    elif (label := _LABEL.match(token)) and (now, label[1]) not in r.labels:
        r.labels.append((now, label[1]))
    elif (order := _ORDER.match(token)) and not r.order:
        r.order = order[1].split(",")


def _data_line(tokens: list[str], spines: list[_Spine], r: _Reading) -> None:
    now = _now(spines, r)
    real = False
    for token, spine in zip(tokens, spines, strict=False):
        if token in (".", ""):
            continue
        if spine.kind == "**kern":
            length = _chord(token, spine, now, r)
            if length > 0:
                spine.until, real = now + length, True
        elif spine.kind == "**dynam":
            _dynamic(token, now, r)
    if real:
        r.last_onset = now


def _chord(token: str, spine: _Spine, now: Fraction, r: _Reading) -> Fraction:
    """Add the notes of one token; returns its duration, 0 for grace notes."""
    lasts = Fraction(0)
    first_token = token.split(" ", 1)[0]
    for k, part in enumerate(token.split(" ")):
        length = _length(part)
        if length is None:
            length = spine.length if k else None
        grace = "q" in part or "Q" in part
        if not grace and length is not None:
            spine.length = length
            lasts = length if k == 0 else min(lasts, length)
        pitch = _NOTE.search(part)
        if pitch is None or "r" in part or (length is None and not grace):
            continue
        shared = "".join(c for c in first_token if c in "':`~^;()" and c not in part)  # signs are on the first note
        _add_note(part, part + shared, pitch[0], Fraction(0) if grace else length or Fraction(0), spine, now, r)
    if "(" in token:
        r.slurs[spine.origin].append(now)
    if ")" in token and r.slurs[spine.origin]:
        r.slur_spans.append((spine.origin, r.slurs[spine.origin].pop(), now))
    return lasts


def _length(part: str) -> Fraction | None:
    """Quarters of a note's reciprocal duration, dots included; None without one."""
    found = _LENGTH.search(part)
    if not found:
        return None
    digits = found[1]
    if not digits.strip("0"):
        value = Fraction(4 * 2 ** min(len(digits), 3))  # 0 is a breve, 00 a long
    else:
        value = Fraction(4 * int(found[2] or 1), int(digits))
    dots = len(found[3])
    return value * (2 - Fraction(1, 2**dots))


def _add_note(part: str, sound: str, name: str, length: Fraction, spine: _Spine, now: Fraction, r: _Reading) -> None:
    letter = name[0].upper()
    alter = part.count("#") - len(re.findall(r"(?<=[A-Ga-g-])-", part))
    octave = 3 + len(name) if name[0].islower() else 4 - len(name)
    pitch = 12 * (octave + 1) + _CHROMA[letter] + alter
    bar = len(r.bar_times) - 1
    if not 0 <= pitch <= 127 or abs(alter) > _ACCIDENTALS_MOST:
        r.remarks.append((bar, part, "a note outside the range of MIDI is left out"))
        return
    r.notes.append(_Note(
        now, length, pitch, FIFTHS[letter] + 7 * alter, spine.origin, spine.voice, bar, sound,
        "]" in part or "_" in part, "[" in part or "_" in part,
    ))  # fmt: skip


def _dynamic(token: str, now: Fraction, r: _Reading) -> None:
    found = _DYNAMIC.search(token)
    if found and (found[0] in DYNAMIC_VELOCITY or found[0] in IMPULSES):
        r.signs.append((now, "mark", found[0]))
    if r.open_wedge and any(c in token for c in "[]<>"):
        r.wedges.append((r.open_wedge[0], now, r.open_wedge[1]))
        r.open_wedge = None
    if "<" in token or ">" in token:
        r.open_wedge = (now, 1 if "<" in token else -1)


# ---- putting it together


def _page(r: _Reading) -> Page:
    bars, times = _bars(r)
    parts, place = _parts(r)
    page = Page(bars, parts, title=r.about.get("OTL", ""), composer=r.about.get("COM", ""))
    for n in r.notes:
        k = min(n.bar, len(bars) - 1)
        part, staff = place[n.origin]
        bars[k].notes.append(Note(
            n.onset - times[k], n.length, n.pitch, n.spelling, part, staff, n.voice + 4 * (staff - 1), n.length == 0,
            n.tie_from, n.tie_on, _signs(n.token),
        ))  # fmt: skip

    def at(time: Fraction) -> tuple[int, Fraction]:
        k = max(bisect_right(times, time) - 1, 0)
        return k, time - times[k]

    for time, kind, value in r.signs:
        k, here = at(time)
        bars[k].signs.append(Sign(here, kind, value))
    for start, end, sign in r.wedges:
        k, here = at(start)
        bars[k].signs.append(Sign(here, "wedge", sign, at(end)))
    voices = {(n.origin, n.voice) for n in r.notes}
    for origin, start, end in r.slur_spans:  # a slur of a column applies to all its voices
        for voice in sorted(v for o, v in voices if o == origin):
            part, staff = place[origin]
            page.slurs.append((part, staff, voice + 4 * (staff - 1), at(start), at(end)))
    for bar, element, text in r.remarks:
        page.remark(bar, element, text)
    page.order = _labelled_order(r, times)
    for time, kind in _events(r):
        k, here = at(time)
        page.events[k].append((float(here), kind))
    for time, token in r.bars:
        k = max(bisect_left(times, time) - 1, 0)  # the bar that ends there
        kind = "repeat" if ":" in token or token.startswith("==") else "double" if "||" in token else ""
        if kind and time > 0 and (BAR_END, kind) not in page.events[k]:
            page.events[k].append((BAR_END, kind))
    return page


def _events(r: _Reading) -> list[tuple[Fraction, str]]:
    """The page events: words, dynamic and metronome marks, new keys, fermatas, pedal."""
    out = dict.fromkeys((n.onset, "fermata") for n in r.notes if ";" in n.token)
    out |= dict.fromkeys(r.pedals)
    for time, kind, value in r.signs:
        kinds = word_events(str(value)) if kind == "words" else ["metronome" if kind == "bpm" else "dynamic"]
        out |= dict.fromkeys((time, k) for k in kinds)
    fifths = None
    for time, key in sorted(r.keys):
        if fifths is not None and key != fifths:
            out[time, "key"] = None
        fifths = key
    return list(out)


_ORNAMENTS = ((1, "Tt"), (2, "Mm"), (4, "Ww"), (3, "S"), (5, "$"))


def _signs(token: str) -> dict[str, int]:
    ornament = next((k for k, signs in _ORNAMENTS if any(s in token for s in signs)), 0)
    signs = {
        "accent": 2 if "^^" in token else int("^" in token),
        "staccato": 2 if "`" in token else int("'" in token),
        "tenuto": int("~" in token),
        "fermata": int(";" in token),
        "arpeggio": int(":" in token),
        "ornament": ornament,
    }
    return {name: value for name, value in signs.items() if value}


def _parts(r: _Reading) -> tuple[list[Part], dict[int, tuple[int, int]]]:
    """The instruments, and (part, staff) for each column.

    Columns of one *part are staves of one instrument. Without such numbers two columns are a keyboard, and more are a
    part each. The upper staff is that of the lowest *staff number, else the rightmost column.
    """
    origins = sorted({n.origin for n in r.notes}, reverse=True)
    numbers = {o: r.staff_of.get(o, 0) for o in origins}
    if len(set(numbers.values())) < len(origins) and 0 in numbers.values():
        numbers = {o: k for k, o in enumerate(origins, 1)}
    origins.sort(key=lambda o: numbers[o])
    if all(o in r.part_of for o in origins):
        groups = [[o for o in origins if r.part_of[o] == name] for name in dict.fromkeys(r.part_of[o] for o in origins)]
    else:
        groups = [origins] if len(origins) <= 2 else [[o] for o in origins]
    parts = [Part(r.name_of.get(g[0], ""), len(g)) for g in groups]
    return parts, {o: (p, s) for p, g in enumerate(groups) for s, o in enumerate(g, 1)}


def _bars(r: _Reading) -> tuple[list[Bar], list[Fraction]]:
    """The bars, and the start of each."""
    end = max([n.onset + n.length for n in r.notes] + [t for t, _ in r.bars])
    times = [t for t in r.bar_times if t < end] or [Fraction(0)]
    tokens: dict[Fraction, list[str]] = defaultdict(list)
    for time, token in r.bars:
        tokens[time].append(token)
    meters = sorted(r.meters) or [(Fraction(0), 4, 4)]
    keys = sorted(r.keys)
    out: list[Bar] = []
    position, nominal, number = Fraction(0), Fraction(0), 0
    for k, (start, stop) in enumerate(zip(times, [*times[1:], end], strict=True)):
        _, num, den = next((m for m in reversed(meters) if m[0] <= start), meters[0])
        printed = next((m for t in tokens[start] if (m := re.match(r"=+(\d{1,6})", t))), None)
        unfinished = k > 0 and not printed and position + out[-1].length < nominal
        position = position + out[-1].length if unfinished else Fraction(0)  # a bar line inside a bar
        nominal = Fraction(4 * num, den)
        if k == 0 and len(times) > 1 and stop - start < nominal:
            length = stop - start
            numbered = any(re.match(r"=+\d", t) for t in tokens[stop])
            second = (times[2] if len(times) > 2 else end) - stop
            split = not numbered and length + second == nominal
            position = Fraction(0) if split else nominal - length  # a bar line inside the first bar, or a pickup
        number = int(printed[1]) if printed else number if unfinished or k == 0 else number + 1
        fifths = next((f for t, f in reversed(keys) if t <= start), 0)
        bar = Bar(str(number), (num, den), fifths, stop - start, position=position)
        bar.order.forward = any(re.search(r"[|!]:", t) for t in tokens[start])
        bar.order.backward = 2 if any(re.search(r":[|!]", t) for t in tokens[stop]) else 0
        out.append(bar)
    return out, times


def _labelled_order(r: _Reading, times: list[Fraction]) -> list[int] | None:
    """Bars in the order of the expansion list, if all its labels exist."""
    at = {name: max(bisect_right(times, t) - 1, 0) for t, name in reversed(r.labels)}
    if not r.order or not all(name in at for name in r.order):
        return None
    edges = sorted({*at.values(), len(times)})
    return [m for name in r.order for m in range(at[name], next((e for e in edges if e > at[name]), len(times)))]
