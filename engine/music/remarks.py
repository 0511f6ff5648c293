"""Remarks of the readers as lines of text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable

from engine.music.types import Remark

MAX_REMARKS = 500  # per file; the last one counts further ones
_MAX_TEXT = 300
LEFT_OUT = "this part is left out; the keyboard part is played"  # of a song's voice
PLAYED_TOO = "this part is played with the upper staff of the keyboard part"  # of a voice that is played by choice
_MAX_BARS = 8  # ranges of bars named in one line


def remark_lines(remarks: Iterable[Remark]) -> list[str]:
    """One line for each kind of remark, with its bars, in order of first occurrence.

    >>> remark_lines([Remark(3, "<cue>", "cue notes are not played"), Remark(4, "<cue>", "cue notes are not played")])
    ['Bars 3-4: cue notes are not played (<cue>).']
    >>> remark_lines([Remark(0, "note 60", "1 note without end is held to the end")])
    ['1 note without end is held to the end (note 60).']
    """
    bars: dict[tuple[str, str], set[int]] = {}
    for r in remarks:
        bars.setdefault((r.element, r.text), set()).add(r.bar)
    return [_line(element, text, found) for (element, text), found in bars.items()]


def _line(element: str, text: str, bars: set[int]) -> str:
    named = f"{text} ({element})." if element else f"{text}."
    ranges = _ranges(sorted(bars - {0}))
    if not ranges:
        return named[:1].upper() + named[1:]
    shown = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges[:_MAX_BARS])
    more = f" and {len(ranges) - _MAX_BARS} more places" if len(ranges) > _MAX_BARS else ""
    several = len(ranges) > 1 or ranges[0][0] != ranges[0][1]
    return f"Bar{'s' if several else ''} {shown}{more}: {named}"


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for n in numbers:
        if out and n == out[-1][1] + 1:
            out[-1] = (out[-1][0], n)
        else:
            out.append((n, n))
    return out


def bounded(remarks: Iterable[Remark]) -> tuple[Remark, ...]:
    """Remarks without duplicates, with printable short texts, at most MAX_REMARKS."""
    clean = dict.fromkeys(Remark(int(r.bar), _clean(r.element), _clean(r.text)) for r in remarks)
    out = tuple(clean)
    if len(out) <= MAX_REMARKS:
        return out
    return (*out[: MAX_REMARKS - 1], Remark(0, "", f"{len(out) - MAX_REMARKS + 1} further remarks are not listed"))


def _clean(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:_MAX_TEXT]


def to_json(remarks: Iterable[Remark]) -> list[dict[str, int | str]]:
    """Remarks as plain values: [{"bar": 3, "element": "<cue>", "text": "..."}, ...]."""
    return [{"bar": r.bar, "element": r.element, "text": r.text} for r in remarks]


def from_json(rows: object) -> tuple[Remark, ...]:
    """The inverse of `to_json`, for untrusted rows. Raises ValueError."""
    if not isinstance(rows, list) or len(rows) > MAX_REMARKS:
        raise ValueError(f"remarks are a list of at most {MAX_REMARKS} rows")
    found = []
    for row in rows:
        if not isinstance(row, dict) or set(row) != {"bar", "element", "text"}:
            raise ValueError("a remark has bar, element and text")
        bar, element, text = row["bar"], row["element"], row["text"]
        if not isinstance(bar, int) or not isinstance(element, str) or not isinstance(text, str) or abs(bar) > 10**6:
            raise ValueError("a remark has a whole number of a bar and two texts")
        found.append(Remark(bar, element, text))
    return bounded(found)


def to_text(remarks: Iterable[Remark]) -> str:
    """`to_json` as one string."""
    return json.dumps(to_json(remarks))


def from_text(text: str) -> tuple[Remark, ...]:
    """The inverse of `to_text`. Raises ValueError."""
    return from_json(json.loads(text))
