"""Conditions of a piece (composer or period, genre, key, metre, tempo, density) and their classes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from engine.music.types import BadInput
from engine.tokens.composer_tokens import METERS, OTHER_METER
from engine.tokens.genres import genre_class

PERIODS = ("Baroque", "Classical", "Romantic", "Modern")
# label: (pattern of the composer's name in corpora, period); the first match is used
_COMPOSERS = {
    "C. P. E. Bach": ("Carl Philipp", "Classical"),
    "W. F. Bach": ("Wilhelm Friedemann", "Baroque"),
    "J. C. Bach": ("Johann Christian", "Classical"),
    "J. S. Bach": ("Johann Sebastian|^Bach$", "Baroque"),
    "Bartók": ("Bart[oó]k", "Modern"),
    "Beethoven": ("Beethoven", "Classical"),
    "Brahms": ("Brahms", "Romantic"),
    "Chopin": ("Chopin", "Romantic"),
    "Couperin": ("Couperin", "Baroque"),
    "Debussy": ("Debussy", "Modern"),
    "Dvořák": ("Dvo[rř][aá]k", "Romantic"),
    "Grieg": ("Grieg", "Romantic"),
    "Handel": ("Händel|Handel", "Baroque"),
    "Haydn": ("Haydn", "Classical"),
    "Joplin": ("Joplin", "Modern"),
    "Koželuch": ("Koželuch", "Classical"),
    "Kurpiński": ("Kurpiński", "Classical"),
    "Liszt": ("Liszt", "Romantic"),
    "Medtner": ("Medtner", "Modern"),
    "Moniuszko": ("Moniuszko", "Romantic"),
    "Mozart": ("Mozart", "Classical"),
    "Noskowski": ("Noskowski", "Romantic"),
    "Ogiński": ("Ogiński", "Classical"),
    "Prokofiev": ("Prokofiev", "Modern"),
    "Rachmaninoff": ("Rachmaninoff", "Romantic"),
    "Ravel": ("Ravel", "Modern"),
    "Scarlatti": ("Scarlatti", "Baroque"),
    "Schubert": ("Schubert", "Romantic"),
    "Schumann": ("^(?!.*Clara).*Schumann", "Romantic"),
    "Scriabin": ("Scriabin", "Modern"),
    "Szymanowska": ("Szymanowska", "Romantic"),
    "Tchaikovsky": ("Tchaikovsky", "Romantic"),
    "Zarębski": ("Zarębski", "Romantic"),
    "Żeleński": ("Żeleński", "Romantic"),
}
COMPOSERS = tuple(_COMPOSERS)
_MAJOR = ("Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#")
_MINOR = ("Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#", "G#", "D#", "A#")
KEYS = (*(f"{k} major" for k in _MAJOR[1:-1]), *(f"{k} minor" for k in _MINOR[1:-1]))
METER_NAMES = METERS[:OTHER_METER]
UNKNOWN = 0
TOP_P = 0.995  # nucleus sampling threshold, chosen on the validation pieces (training/LOG.md)

TEMPO_EDGES = np.array([45.0, 60, 75, 90, 110, 130, 155, 190])  # quarters a minute; class 1 + how many are below
DENSITY_EDGES = np.exp2(np.linspace(-0.5, 3.5, 15))  # notes a quarter


def composer_of(name: str) -> tuple[str, str]:
    """(label, period) of a composer's name in a corpus; ("", "") for one with too little data.

    >>> composer_of("Bach"), composer_of("Fryderyk Chopin"), composer_of("Clara Schumann")
    (('J. S. Bach', 'Baroque'), ('Chopin', 'Romantic'), ('', ''))
    """
    for label, (pattern, period) in _COMPOSERS.items():
        if re.search(pattern, name):
            return label, period
    return "", ""


def period_of(composer: str) -> str:
    """The period of a composer in COMPOSERS."""
    return _COMPOSERS[composer][1]


def parse_key(key: str) -> tuple[int, bool]:
    """(fifths, minor) of a key such as "Eb major", "f# minor", "Am"; raises BadInput.

    >>> parse_key("Eb major"), parse_key("f# minor"), parse_key("Am")
    ((-3, False), (3, True), (0, True))
    """
    found = re.fullmatch(r"\s*([A-Ga-g])\s*(#|b|♯|♭)?\s*(major|minor|maj|min|m|dur|moll)?\s*", key)
    if found:
        letter, sign, mode = found.groups()
        tonic = letter.upper() + {"♯": "#", "♭": "b"}.get(sign or "", sign or "")
        minor = mode in ("minor", "min", "m", "moll") or (mode is None and letter.islower())
        names = _MINOR if minor else _MAJOR
        if tonic in names:
            return names.index(tonic) - 7, minor
    raise BadInput(f"The key is {key!r}; write a key of up to seven sharps or flats, such as 'Eb major' or 'F# minor'.")


def key_name(fifths: int, minor: bool) -> str:
    """The name that parse_key reads.

    >>> key_name(-3, True)
    'C minor'
    """
    return f"{(_MINOR if minor else _MAJOR)[fifths + 7]} {'minor' if minor else 'major'}"


def tempo_class(tempo: float) -> int:
    """0 unknown, else 1 to 9."""
    return UNKNOWN if tempo <= 0 else 1 + int(np.searchsorted(TEMPO_EDGES, tempo))


def density_class(density: float) -> int:
    """0 unknown, else 1 to 16."""
    return UNKNOWN if density <= 0 else 1 + int(np.searchsorted(DENSITY_EDGES, density))


@dataclass(frozen=True)
class Conditions:
    """Conditions of a piece; every field is optional.

    composer  one of COMPOSERS, "" open
    period    one of PERIODS, "" open (a composer's own period is used when a composer is given)
    key       "C major", "F# minor"; "" open
    meter     one of METER_NAMES, "" open
    tempo     quarters a minute, 0 open
    density   notes a quarter, 0 open
    genre     one of engine.tokens.genres.GENRES, "" open; open metre, density and composer are then usual ones of
              it. Composer v2 follows it no further: pieces are not recognised (training/LOG.md)
    """

    composer: str = ""
    period: str = ""
    key: str = ""
    meter: str = ""
    tempo: float = 0.0
    density: float = 0.0
    genre: str = ""

    def check(self) -> Conditions:
        """The same conditions; raises BadInput if one of them is unknown."""
        if self.composer and self.composer not in COMPOSERS:
            raise BadInput(f"The composer is {self.composer!r}; choose one of {', '.join(COMPOSERS)}.")
        if self.period and self.period not in PERIODS:
            raise BadInput(f"The period is {self.period!r}; choose one of {', '.join(PERIODS)}.")
        if self.composer and self.period and period_of(self.composer) != self.period:
            raise BadInput(
                f"{self.composer} is {period_of(self.composer)} here, not {self.period}; give one of the two."
            )
        if self.meter and self.meter not in METER_NAMES:
            raise BadInput(f"The metre is {self.meter!r}; choose one of {', '.join(METER_NAMES)}.")
        genre_class(self.genre)
        if self.key:
            parse_key(self.key)
        if self.tempo and not 20 <= self.tempo <= 300:
            raise BadInput(f"The tempo is {self.tempo:g}; 20 to 300 quarters a minute is accepted, 0 leaves it open.")
        if self.density and not 0.25 <= self.density <= 16:
            raise BadInput(f"The density is {self.density:g}; 0.25 to 16 notes a quarter, 0 leaves it open.")
        return self
