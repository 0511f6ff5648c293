"""The form of a piece: its sections in order, as letters with numbers of bars.

A repeated letter is a return of the first section with that letter. Primes mark a varied return.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import ascii_uppercase

import numpy as np
from numpy.typing import NDArray

from engine.limits import REQUEST_BARS
from engine.music.types import BadInput

DEFAULT_BARS = 8
MAX_FORM = 200  # characters of a form as it is written
MAX_SECTIONS, MAX_SECTION_BARS, MAX_PRIMES, MAX_TRANSPOSE = 24, 64, 3, 12
NAMED = {
    "AABA": "A8 A'8 B8 A8",
    "ABA'": "A8 B8 A'8",
    "rondo": "A8 B8 A8 C8 A'8",
    "theme and variations": "A8 A'8 A''8 A'''8",
    "minuet and trio": "A8 A'8 B8 A'8 C8 C'8 D8 C'8 A8 B8 A'8",
}
FREE = "free"
_SECTION = re.compile(r"([A-Z])([’′'ʹ]*)(\d*)([+-]\d+)?[\s,|]*")
_EXAMPLE = "write letters with numbers of bars, such as A8 A'8 B8 A8"


@dataclass(frozen=True)
class Section:
    """One section of a form.

    letter     sections with the same letter share their music
    primes     0 returns as written with at most the last bar new; 1 with a new ending; 2 with a new lower staff, too;
               3 with a new upper staff instead
    bars       length in bars
    transpose  semitones that a return is moved by
    """

    letter: str
    primes: int = 0
    bars: int = DEFAULT_BARS
    transpose: int = 0

    def __str__(self) -> str:
        move = f"{self.transpose:+d}" if self.transpose else ""
        return f"{self.letter}{chr(39) * self.primes}{self.bars}{move}"


@dataclass(frozen=True)
class Form:
    """Sections in order, at least one."""

    sections: tuple[Section, ...]

    def __str__(self) -> str:
        return " ".join(map(str, self.sections))

    @property
    def bars(self) -> int:
        """Length of the whole piece in bars."""
        return sum(s.bars for s in self.sections)

    @property
    def starts(self) -> tuple[int, ...]:
        """Index of each section's first bar."""
        return tuple(sum(s.bars for s in self.sections[:k]) for k in range(len(self.sections)))

    def source(self, k: int) -> int | None:
        """Index of the section that section k returns to, None for new music."""
        first = next(i for i, s in enumerate(self.sections) if s.letter == self.sections[k].letter)
        return first if first < k else None

    def lags(self) -> NDArray[np.int64]:
        """(bars,) for each bar of a return the bars back to what it repeats, 0 in a new ending or where a staff is new,
        -1 in new music.

        >>> parse_form("A2 B2 A3").lags(), parse_form("A4 A'4 B2").lags()
        (array([-1, -1, -1, -1,  4,  4,  0]), array([-1, -1, -1, -1,  4,  4,  4,  0, -1, -1]))
        """
        out = np.full(self.bars, -1)
        for k, (start, section) in enumerate(zip(self.starts, self.sections, strict=True)):
            source = self.source(k)
            if source is not None:
                out[start : self.copied_until(k)] = start - self.starts[source] if section.primes < 2 else 0
                out[self.copied_until(k) : start + section.bars] = 0
        return out

    def ending(self, k: int) -> int:
        """How many of the last bars of section k, a return, are new; a longer return has its extra bars beside."""
        section = self.sections[k]
        return max(1, section.bars // 4) if section.primes else int(k + 1 == len(self.sections))

    def copied_until(self, k: int) -> int:
        """Index in the piece of the first bar of section k, a return, that is not taken over from its source."""
        first, source = self.starts[k], self.source(k)
        assert source is not None, "new music copies nothing"
        return first + min(self.sections[k].bars - self.ending(k), self.sections[source].bars)

    def new_letter(self) -> str:
        """The first letter that no section has. Raises BadInput when all are taken."""
        used = {s.letter for s in self.sections}
        for letter in ascii_uppercase:
            if letter not in used:
                return letter
        raise BadInput("All letters from A to Z are in use; give two sections the same letter first.")

    def relabelled(self) -> Form:
        """The same sections with names that can be read again: the first section of each letter is the plain one, and
        the others are named by how they differ from it.

        >>> str(Form((Section("A", 1), Section("B"), Section("A"))).relabelled())
        "A8 B8 A'8"
        """
        first: dict[str, Section] = {}
        out = []
        for s in self.sections:
            source = first.setdefault(s.letter, s)
            if source is s:
                out.append(Section(s.letter, 0, s.bars, 0))
                continue
            primes = s.primes or int(source.primes > 0)
            move = int(np.clip(s.transpose - source.transpose, -MAX_TRANSPOSE, MAX_TRANSPOSE))
            out.append(Section(s.letter, primes, s.bars, move))
        return Form(tuple(out))

    @property
    def copied(self) -> NDArray[np.bool_]:
        """(bars,) whether a bar is taken over from an earlier section; bars before a return, rewritten as its seam, are
        not, nor are sections of which a staff is new.
        """
        out = np.zeros(self.bars, bool)
        for k, section in enumerate(self.sections):
            if self.source(k) is not None:
                if section.primes < 2:
                    out[self.starts[k] : self.copied_until(k)] = True
                out[self.starts[k] - 1] = False
        return out


def parse_form(text: str) -> Form | None:
    """Read a form: a name of NAMED, or letters with primes, numbers of bars and semitones; None for "" and "free".

    Without a number a section has as many bars as the letter had before, or 8. Raises BadInput for anything else.

    >>> str(parse_form("AABA")), str(parse_form("A4 B6 A+7")), parse_form("free")
    ("A8 A'8 B8 A8", 'A4 B6 A4+7', None)
    """
    plain = " ".join(text.split())
    if plain.lower() in ("", FREE):
        return None
    named = {name.lower(): form for name, form in NAMED.items()}
    plain = named.get(plain.replace("′", "'").replace("’", "'").lower(), plain)
    sections: list[Section] = []
    at = 0
    while at < len(plain):
        found = _SECTION.match(plain, at)
        if found is None:
            raise BadInput(f'The form "{_short(text)}" cannot be read from "{_short(plain[at:])}" on; {_EXAMPLE}.')
        sections.append(_section(found, sections))
        at = found.end()
        if len(sections) > MAX_SECTIONS:
            raise BadInput(f"The form has more than {MAX_SECTIONS} sections; write fewer, longer ones.")
    form = Form(tuple(sections))
    if form.bars > REQUEST_BARS:
        raise BadInput(f"The form has {form.bars} bars; at most {REQUEST_BARS} can be written at a time.")
    return form


def _section(found: re.Match[str], before: list[Section]) -> Section:
    letter, primes, bars, move = found[1], len(found[2]), found[3], int(found[4] or 0)
    known = next((s.bars for s in before if s.letter == letter), None)
    count = int(bars[:6]) if bars else known or DEFAULT_BARS
    name = _short(found[0].strip(" ,|"))
    if not 1 <= count <= MAX_SECTION_BARS:
        raise BadInput(f"Section {name} has {count} bars; 1 to {MAX_SECTION_BARS} are accepted.")
    if primes > MAX_PRIMES:
        raise BadInput(f"Section {name} has {primes} primes; at most {MAX_PRIMES} are accepted.")
    if abs(move) > MAX_TRANSPOSE:
        raise BadInput(f"Section {name} is moved by {move} semitones; -{MAX_TRANSPOSE} to {MAX_TRANSPOSE} is accepted.")
    if known is None and (primes or move):
        raise BadInput(f"Section {name} varies {letter}, which has not come before; begin with a plain {letter}.")
    return Section(letter, primes, count, move)


def _short(text: str) -> str:
    return text if len(text) <= 24 else text[:24] + "…"
