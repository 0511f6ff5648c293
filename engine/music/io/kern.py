"""Humdrum **kern scores: spines of tokens in time, as the Chopin, Polish and Craig Sapp's collections have them.

The format: humdrum.org/rep/kern. A line holds what starts at one time, a column (spine) is a staff, split in two by *^
where it has two voices. Reads notes, ties, graces, articulation, slurs, **dynam, bars, keys, metres, tempi, repeats.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from engine.limits import MAX_SCORE_NOTES
from engine.music.engraving.spelling import FIFTHS
from engine.music.io.repeats import unfold
from engine.music.io.score_marks import DYNAMIC_VELOCITY, fill_in_force, tempo_word
from engine.music.types import MARK_NAMES, BadInput, Marks, Measures, Score

MAX_SPINES = 64
_CHROMA = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_NOTE = re.compile(r"([A-Ga-g])\1*")
_LENGTH = re.compile(r"(\d{1,5})(?:%(\d{1,4}))?(\.{0,3})")
_DYNAMIC = re.compile(r"[pmf]+")
_LABEL = re.compile(r"\*>([^\[\]]+)$")
_ORDER = re.compile(r"\*>\[(.+)\]$")
_METER = re.compile(r"\*M(\d{1,2}(?:\+\d{1,2})*)/(\d{1,2})")


@dataclass
class _Spine:
    kind: str  # "**kern", "**dynam", ...
    origin: int  # column in which it began
    staff: int  # 0 unknown
    voice: int  # 1, 2 ... within its column
    until: Fraction = Fraction(0)  # when what it holds ends
    length: Fraction = Fraction(1)  # of the last note


@dataclass
class _Note:
    onset: Fraction
    length: Fraction
    pitch: int
    spelling: int
    origin: int
    voice: int
    grace: bool
    token: str


@dataclass
class _Reading:
    """What has been read so far; times in quarters from the start of the file."""

    notes: list[_Note] = field(default_factory=list)
    ties: dict[tuple[int, int], list[_Note]] = field(default_factory=lambda: defaultdict(list))
    slurs: dict[int, list[Fraction]] = field(default_factory=lambda: defaultdict(list))  # origin: open slurs
    slur_spans: list[tuple[int, Fraction, Fraction]] = field(default_factory=list)  # origin, start, end
    bars: list[tuple[Fraction, str]] = field(default_factory=list)
    meters: list[tuple[Fraction, int, int]] = field(default_factory=list)
    keys: list[tuple[Fraction, int]] = field(default_factory=list)
    tempi: list[tuple[float, float]] = field(default_factory=list)
    words: list[tuple[float, float]] = field(default_factory=list)
    levels: list[tuple[float, float]] = field(default_factory=list)
    wedges: list[tuple[Fraction, Fraction, int]] = field(default_factory=list)
    open_wedge: tuple[Fraction, int] | None = None
    labels: list[tuple[Fraction, str]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    staff_of: dict[int, int] = field(default_factory=dict)  # origin: staff
    about: dict[str, str] = field(default_factory=dict)  # reference records: COM, OTL ...
    last_onset: Fraction = Fraction(-1)  # of the last line with a note or rest


def read_kern(data: bytes) -> Score:
    """Read a Humdrum file with **kern spines; repeats are played as its expansion list or its barlines say.

    For bytes from outside go through `engine.untrusted.scores`. Raises BadInput.
    """
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
            r.bars.append((_now(spines, r), tokens[0]))
        else:
            _data_line(tokens, spines, r)
        if len(spines) > MAX_SPINES or len(r.notes) > MAX_SCORE_NOTES:
            most = f"{MAX_SCORE_NOTES} notes or {MAX_SPINES} spines"
            raise BadInput(f"This kern file has more than {most}; open a part of it.")
    if not r.notes:
        raise BadInput("This kern file has no notes; a score needs at least one note. Choose another file.")
    return _score(r)


def _now(spines: list[_Spine], r: _Reading) -> Fraction:
    """When the next line happens: as soon as something of the last one ends."""
    ends = [s.until for s in spines if s.kind == "**kern" and s.until > r.last_onset]
    return min(ends, default=max(r.last_onset, Fraction(0)))


def _reference(line: str, r: _Reading, now: Fraction) -> None:
    """Title, composer, and the tempo heading, from !!! records."""
    found = re.match(r"!!!([A-Z]{3})[^:]*:\s*(.*)", line)
    if found:
        r.about.setdefault(found[1], found[2].strip())
        if found[1] == "OMD":
            word = tempo_word(found[2].lower())
            if word:
                r.words.append((float(now), word))


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
    for origin in {s.origin for s in out}:  # voices of a column are counted from the left
        for k, s in enumerate(s for s in out if s.origin == origin):
            s.voice = k + 1
    return out


def _tandem(token: str, spine: _Spine, now: Fraction, r: _Reading) -> None:
    if staff := re.match(r"\*staff(\d+)", token):
        r.staff_of[spine.origin] = int(staff[1])
    elif key := re.match(r"\*k\[(.*)\]", token):
        r.keys.append((now, int(np.clip(key[1].count("#") - key[1].count("-"), -7, 7))))
    elif meter := _METER.match(token):
        num, den = sum(int(x) for x in meter[1].split("+")), int(meter[2])
        if 1 <= num <= 64 and den in (1, 2, 4, 8, 16, 32, 64):
            r.meters.append((now, num, den))
    elif tempo := re.match(r"\*MM\[?(\d{1,3})", token):
        r.tempi.append((float(now), float(tempo[1])))
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
    """Add the notes of one token; returns how long it lasts, 0 for grace notes."""
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
        shared = "".join(c for c in first_token if c in "':`~^;()" and c not in part)  # signs stand on the first note
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
    open_ties = r.ties[spine.origin, pitch]
    if ("]" in part or "_" in part) and length and open_ties:
        tied = next((n for n in open_ties if n.onset + n.length == now), None)
        if tied is not None:
            tied.length += length
            tied.grace = False  # a grace note tied to its main note is that note, struck early
            if "]" in part:
                open_ties.remove(tied)
            return
    note = _Note(now, length, pitch, FIFTHS[letter] + 7 * alter, spine.origin, spine.voice, length == 0, sound)
    r.notes.append(note)
    if "[" in part or "_" in part:
        open_ties.append(note)


def _dynamic(token: str, now: Fraction, r: _Reading) -> None:
    found = _DYNAMIC.search(token.replace("sf", "").replace("rf", ""))
    if found and found[0] in DYNAMIC_VELOCITY:
        r.levels.append((float(now), DYNAMIC_VELOCITY[found[0]]))
    if r.open_wedge and any(c in token for c in "[]<>"):
        r.wedges.append((r.open_wedge[0], now, r.open_wedge[1]))
        r.open_wedge = None
    if "<" in token or ">" in token:
        r.open_wedge = (now, 1 if "<" in token else -1)


# ---- putting it together


def _score(r: _Reading) -> Score:
    measures, zero = _measures(r)
    staff_of = _staves(r)
    r.notes = [n for n in r.notes if 0 <= n.pitch <= 127]
    r.notes.sort(key=lambda n: (n.onset, not n.grace, 0 if n.grace else n.pitch, -n.length))  # graces as they stand
    onset = np.array([float(n.onset) for n in r.notes]) - zero
    table = np.zeros((len(r.notes), len(MARK_NAMES)), np.int16)
    for i, n in enumerate(r.notes):
        for name, value in _signs(n.token).items():
            table[i, MARK_NAMES.index(name)] = value
    table[:, MARK_NAMES.index("slur")] = _slur_marks(r)
    levels = [(t - zero, v) for t, v in r.levels]
    wedges = [(float(a) - zero, float(b) - zero, sign) for a, b, sign in r.wedges]
    bpms, words = ([(t - zero, v) for t, v in signs] for signs in (r.tempi, r.words))
    fill_in_force(table, onset, levels, wedges, bpms, words)
    staff = np.array([staff_of[n.origin] for n in r.notes])
    score = Score(
        onset, np.array([float(n.length) for n in r.notes]), np.array([n.pitch for n in r.notes]),
        np.array([n.spelling for n in r.notes]), staff, np.array([n.voice for n in r.notes]) + 4 * (staff - 1),
        np.array([n.grace for n in r.notes]), Marks(table), measures,
        title=r.about.get("OTL", ""), composer=r.about.get("COM", ""),
    )  # fmt: skip
    return unfold(score, _playing_order(r, measures, zero))


def _signs(token: str) -> dict[str, int]:
    ornament = next((k for k, signs in ((1, "Tt"), (2, "MmWw"), (3, "S$")) if any(s in token for s in signs)), 0)
    return {
        "accent": 2 if "^^" in token else int("^" in token),
        "staccato": 2 if "`" in token else int("'" in token),
        "tenuto": int("~" in token),
        "fermata": int(";" in token),
        "arpeggio": int(":" in token),
        "ornament": ornament,
    }


def _slur_marks(r: _Reading) -> list[int]:
    """0 outside, 1 inside a slur of the same column, 2 the last note of one."""
    spans = defaultdict(list)
    for origin, start, end in r.slur_spans:
        spans[origin].append((start, end))
    out = []
    for n in r.notes:
        inside = any(a <= n.onset < b for a, b in spans[n.origin])
        out.append(1 if inside else 2 if any(n.onset == b for _, b in spans[n.origin]) else 0)
    return out


def _staves(r: _Reading) -> dict[int, int]:
    """1 or 2 for each column: as the file numbers its staves, else the rightmost column is the upper staff."""
    origins = sorted({n.origin for n in r.notes})
    named = {o: r.staff_of.get(o, 0) for o in origins}
    if len({named[o] for o in origins}) < len(origins) and 0 in named.values():
        named = {o: k for k, o in enumerate(reversed(origins), 1)}
    top = min(named.values())
    return {o: 1 if s == top else 2 for o, s in named.items()}


def _measures(r: _Reading) -> tuple[Measures, float]:
    """The bars, and where the first full barline stands in the file's time."""
    end = max([n.onset + n.length for n in r.notes] + [t for t, _ in r.bars])
    starts: dict[Fraction, str] = {Fraction(0): ""}
    for time, token in r.bars:
        if time < end:
            starts[time] = token if time not in starts or not starts[time] else starts[time]
    onset = sorted(starts)
    duration = [float(b - a) for a, b in zip(onset, [*onset[1:], end], strict=True)]
    meters = sorted(r.meters) or [(Fraction(0), 4, 4)]
    keys = sorted(r.keys)
    rows, position, nominal, number = [], 0.0, 0.0, 0
    for k, (start, length) in enumerate(zip(onset, duration, strict=True)):
        _, num, den = next((m for m in reversed(meters) if m[0] <= start), meters[0])
        printed = re.match(r"=+(\d{1,6})", starts[start])
        unfinished = k > 0 and not printed and position + duration[k - 1] < nominal - 1e-6
        position = position + duration[k - 1] if unfinished else 0.0  # a bar line inside a bar
        nominal = 4 * num / den
        if k == 0 and len(onset) > 1 and length < nominal - 1e-6:
            split = not re.match(r"=+\d", starts[onset[1]]) and abs(length + duration[1] - nominal) < 1e-6
            position = 0.0 if split else nominal - length  # a bar line inside the first bar, or a pickup
        number = int(printed[1]) if printed else number if unfinished or k == 0 else number + 1
        rows.append((position, num, den, next((f for t, f in reversed(keys) if t <= start), 0), number))
    pickup = len(onset) > 1 and rows[0][0] > 0
    zero = float(onset[1] if pickup else onset[0])
    columns = [np.array(c) for c in zip(*rows, strict=True)]
    return Measures(np.array([float(t) for t in onset]) - zero, np.array(duration), *columns), zero


def _playing_order(r: _Reading, measures: Measures, zero: float) -> list[int]:
    """Measures as played: by the expansion list when its labels are all there, else each repeat sign once."""
    starts = measures.onset_quarter + zero
    at = {name: int(np.searchsorted(starts, float(t) - 1e-6)) for t, name in reversed(r.labels)}
    if r.order and all(name in at for name in r.order):
        edges = sorted({*at.values(), len(starts)})
        return [m for name in r.order for m in range(at[name], next((e for e in edges if e > at[name]), len(starts)))]
    order: list[int] = []
    begin = done = 0
    for time, token in r.bars:
        here = int(np.searchsorted(starts, float(time) - 1e-6))
        if re.search(r":[|!]", token) and here > begin:
            order += [*range(done, here), *range(begin, here)]
            begin = done = here
        if re.search(r"[|!]:", token):
            begin = here
    return order + list(range(done, len(starts)))
