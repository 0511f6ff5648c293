"""Genres as a condition, and the dances among them."""

from __future__ import annotations

from engine.music.types import BadInput

DANCES = (
    "mazurka", "polonaise", "waltz", "minuet", "krakowiak", "polka", "gavotte", "allemande", "courante", "sarabande",
    "gigue", "bourrée", "contredanse", "folk dance",
)  # fmt: skip
GENRES = (
    *DANCES, "march", "ragtime", "prelude", "fugue", "invention", "étude", "nocturne", "ballade", "scherzo",
    "impromptu", "rondo", "variations", "fantasia", "sonata", "sonatina", "character piece", "suite",
)  # fmt: skip
NO_GENRE = 0


def genre_class(genre: str) -> int:
    """0 for "" (open), else 1 + its place in GENRES; raises BadInput.

    >>> genre_class(""), genre_class("mazurka"), genre_class("Etude")
    (0, 1, 20)
    """
    plain = genre.strip().lower().replace("etude", "étude").replace("bourree", "bourrée")
    if not plain:
        return NO_GENRE
    if plain not in GENRES:
        raise BadInput(f"The genre is {genre!r}; choose one of {', '.join(GENRES)}.")
    return 1 + GENRES.index(plain)
