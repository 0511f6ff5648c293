"""Performance directions in words: dynamics, hairpins, tempo, jumps."""

from __future__ import annotations

import re
from fractions import Fraction

from engine.music.io.score_marks import DYNAMIC_VELOCITY

SLOWER = re.compile(
    r"\b(rit(\.|ard|en|$|\b)|rall|allarg|slargando|smorz|calando|morendo|perdendosi|cédez|retenu|zurückh)", re.I
)
FASTER = re.compile(r"\b(accel|string|stretto|affrett|incalz|più mosso|piu mosso|pressez|serrez|beschleun)", re.I)
A_TEMPO = re.compile(r"\b(a tempo|tempo (i|1|primo)|in tempo|au mouvement|im zeitmaß|tempo)\b", re.I)
LOUDER = re.compile(r"\bcresc", re.I)
SOFTER = re.compile(r"\b(dim(\.|in|$|\b)|decresc|smorz|calando|morendo|perdendosi)", re.I)

IMPULSES = {"sf": 2, "sfz": 2, "fz": 2, "sff": 2, "sffz": 2, "rf": 1, "rfz": 1, "sfp": 2, "fp": 2, "sfpp": 2}
_MARK = re.compile(r"(?<![\w.])(p{1,6}|mp|mf|f{1,6}|fp|sfz?|sffz?|s?fp|rfz?|fz)(?![\w.]|\s*=)")
_RELATIVE = re.compile(r"(più|piu|meno|un poco|poco più|poco meno|less|more)\s+$", re.I)
_FULL = {
    "pianissimo": "pp", "fortissimo": "ff", "mezzo forte": "mf", "mezzo-forte": "mf", "mezzo piano": "mp",
    "mezzo-piano": "mp", "forte": "f", "piano": "p",
}  # fmt: skip
_FULL_WORD = re.compile(rf"(?:sempre |subito |molto )?\b({'|'.join(_FULL)})\b(?: subito| sempre)?$")

UNITS = {
    "♩": Fraction(1), "q": Fraction(1), "quarter": Fraction(1), "crotchet": Fraction(1), "\ue1d5": Fraction(1),
    "\ueca5": Fraction(1), "𝅘𝅥": Fraction(1), "h": Fraction(2), "half": Fraction(2), "minim": Fraction(2),
    "𝅗𝅥": Fraction(2), "\ue1d3": Fraction(2), "\ueca3": Fraction(2), "♪": Fraction(1, 2), "e": Fraction(1, 2),
    "eighth": Fraction(1, 2), "8th": Fraction(1, 2), "quaver": Fraction(1, 2), "𝅘𝅥𝅮": Fraction(1, 2),
    "\ue1d7": Fraction(1, 2), "\ueca7": Fraction(1, 2), "w": Fraction(4), "whole": Fraction(4), "𝅝": Fraction(4),
    "breve": Fraction(8), "16th": Fraction(1, 4), "32nd": Fraction(1, 8), "s": Fraction(1, 4), "long": Fraction(16),
}  # fmt: skip
_UNIT = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
_VALUE = rf"\[?({_UNIT})\s*(-dot|[.·𝅭])?\]?"  # kern writes [quarter-dot]
_METRONOME = re.compile(
    rf"(?<!\w){_VALUE}\s*=\s*(?:c(?:a|irca)?\.?\s*)?(?:(\d{{2,3}}(?:[.,]\d+)?)|{_VALUE}(?!\w))",
    re.I,
)


def dynamic_marks(text: str) -> list[str]:
    """The dynamic marks among words, in order; relative ones ("più f") are not levels.

    >>> dynamic_marks("sempre pp"), dynamic_marks("più f"), dynamic_marks("p dolce"), dynamic_marks("Pedale")
    (['pp'], [], ['p'], [])
    >>> dynamic_marks("f"), dynamic_marks("mezzo forte"), dynamic_marks("f p")
    (['f'], ['mf'], ['f', 'p'])
    """
    text = text.strip()
    full = _FULL_WORD.match(text)
    if full:
        return [_FULL[full[1]]]
    return [m[1] for m in _MARK.finditer(text) if not _RELATIVE.search(text[: m.start()])]


def level(mark: str) -> int | None:
    """Velocity of a dynamic mark that is a level; clamped to those of pppp and ffff.

    >>> level("pp"), level("pppppp"), level("sf")
    (33, 10, None)
    """
    if mark in DYNAMIC_VELOCITY:
        return DYNAMIC_VELOCITY[mark]
    if mark and set(mark) in ({"p"}, {"f"}) and len(mark) <= 6:
        return DYNAMIC_VELOCITY[mark[0] * 4]
    return None


def metronome(text: str) -> tuple[float, Fraction]:
    """Quarters a minute and the ratio of a metric equation in words, each 0 without one.

    >>> metronome("Allegro (♩ = 132)"), metronome("q.=60"), metronome("♩ = ♩."), metronome("Allegro")
    ((132.0, Fraction(0, 1)), (90.0, Fraction(0, 1)), (0.0, Fraction(3, 2)), (0.0, Fraction(0, 1)))
    >>> metronome("[half-dot]=40"), metronome("Es = Dur")
    ((120.0, Fraction(0, 1)), (0.0, Fraction(0, 1)))
    """
    found = _METRONOME.search(text)
    if not found:
        return 0.0, Fraction(0)
    unit = UNITS[found[1].lower()] * (Fraction(3, 2) if found[2] else 1)
    if found[3]:
        return float(found[3].replace(",", ".")) * float(unit), Fraction(0)
    other = UNITS[found[4].lower()] * (Fraction(3, 2) if found[5] else 1)
    return 0.0, other / unit


def jumps(text: str) -> set[str]:
    """The jumps in words: "dacapo", "dalsegno", "fine", "tocoda", "coda".

    >>> [*map(sorted, map(jumps, ("D.C. al Fine", "Fine", "To Coda", "Dal Segno al Coda")))]
    [['dacapo'], ['fine'], ['tocoda'], ['dalsegno']]
    """
    text = " ".join(text.lower().split()).strip(" .:()[]")
    if re.match(r"d\.? ?c\b|da capo|dacapo", text):
        return {"dacapo"}
    if re.match(r"d\.? ?s\b|dal segno|dalsegno", text):
        return {"dalsegno"}
    if re.fullmatch(r"fine", text):
        return {"fine"}
    if re.fullmatch(r"(to|al(la)?|da) ?coda|to (the )?coda", text):
        return {"tocoda"}
    if re.fullmatch(r"coda", text):
        return {"coda"}
    return set()


def unread_jump(text: str) -> bool:
    """Whether words have a da capo or dal segno that `jumps` does not follow: its target is another movement's name.

    >>> unread_jump("Men. D.C."), unread_jump("D.C. al Fine"), unread_jump("Adagio")
    (True, False, False)
    """
    return not jumps(text) and re.search(r"\b(d\. ?c\.|d\. ?s\.|da ?capo|dal ?segno)", text.lower()) is not None


def tempo_change(text: str) -> int | None:
    """1 for an accelerando, -1 for a ritardando, 0 for "a tempo", None for other words.

    >>> [tempo_change(t) for t in ("poco rit.", "stringendo", "a tempo", "dolce")]
    [-1, 1, 0, None]
    """
    if SLOWER.search(text):
        return -1
    if FASTER.search(text):
        return 1
    return 0 if A_TEMPO.search(text) else None
