"""Metres, densities and composers that are usual in a genre, to draw what a request with a genre leaves open.

Measured on one edition of each work of the training split (`python -m training.composer.genre_habits`): metres and
composers of a tenth of the works or more, and the middle three fifths of the densities.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Habits:
    """What is usual in a genre.

    meters     names of METERS, the most frequent first
    density    (low, high) notes a quarter
    composers  names of COMPOSERS, "" for those that have no name there
    """

    meters: tuple[str, ...]
    density: tuple[float, float]
    composers: tuple[str, ...]


HABITS = {
    "mazurka": Habits(("3/8", "3/4"), (3.76, 8.7), ("", "Chopin")),
    "polonaise": Habits(("3/4",), (4.92, 7.6), ("", "Chopin", "Ogiński")),
    "waltz": Habits(("3/4", "3/8"), (2.99, 5.38), ("", "Chopin")),
    "minuet": Habits(("3/4",), (2.61, 4.02), ("J. S. Bach", "", "Beethoven", "Handel")),
    "krakowiak": Habits(("2/4",), (5.45, 7.05), ("",)),
    "polka": Habits(("2/4",), (6.1, 8.32), ("", "Moniuszko")),
    "gavotte": Habits(("2/2", "4/4"), (2.88, 3.85), ("J. S. Bach",)),
    "allemande": Habits(("4/4",), (5.39, 7.15), ("J. S. Bach", "", "Schubert")),
    "courante": Habits(("3/2", "3/4", "6/4"), (2.94, 5.03), ("J. S. Bach",)),
    "sarabande": Habits(("3/4",), (3.54, 5.08), ("J. S. Bach",)),
    "gigue": Habits(("6/8", "12/8", "3/8", "4/4"), (3.34, 6.08), ("J. S. Bach",)),
    "bourrée": Habits(("2/2", "4/4"), (2.9, 3.16), ("J. S. Bach",)),
    "contredanse": Habits(("2/4", "6/8"), (4.18, 8.51), ("", "Chopin")),
    "folk dance": Habits(("3/4", "2/4"), (3.62, 5.95), ("",)),
    "march": Habits(("2/4", "4/4", "2/2"), (3.89, 6.86), ("",)),
    "ragtime": Habits(("2/4",), (7.1, 8.79), ("Joplin", "")),
    "prelude": Habits(("4/4", "3/4", "2/2", "6/8"), (3.61, 6.98), ("J. S. Bach", "Chopin", "")),
    "fugue": Habits(("4/4", "2/2"), (3.16, 6.58), ("J. S. Bach", "")),
    "invention": Habits(("4/4", "3/4"), (3.65, 6.19), ("J. S. Bach", "")),
    "étude": Habits(("4/4", "6/8", "2/4"), (1.9, 8.32), ("", "Chopin")),
    "nocturne": Habits(("4/4", "6/8", "12/8", "3/4", "2/4"), (3.41, 6.38), ("Chopin", "")),
    "ballade": Habits(
        ("6/8", "3/8", "4/4", "6/4", "2/2", "4/8"), (3.42, 6.8), ("", "Brahms", "Chopin", "Grieg", "Zarębski")
    ),
    "scherzo": Habits(("3/4",), (2.43, 4.73), ("Beethoven", "", "Chopin", "Żeleński")),
    "impromptu": Habits(("4/4", "3/4", "2/2"), (4.22, 6.31), ("Schubert", "", "Chopin")),
    "rondo": Habits(("2/4", "6/8", "2/2"), (3.97, 6.74), ("", "Beethoven", "Koželuch", "C. P. E. Bach", "Mozart")),
    "variations": Habits(("3/4", "4/4", "2/4", "2/2", "3/8"), (4.87, 7.42), ("J. S. Bach", "")),
    "fantasia": Habits(("4/4", "2/4", "3/4"), (4.04, 7.91), ("", "C. P. E. Bach")),
    "sonata": Habits(("4/4", "3/4", "2/4", "3/8"), (3.71, 6.3), ("Scarlatti", "Beethoven", "C. P. E. Bach", "Mozart")),
    "sonatina": Habits(("4/4", "6/8", "2/4", "3/4", "3/8"), (3.23, 4.94), ("", "Handel", "Beethoven")),
    "character piece": Habits(("2/4", "4/4", "6/8", "3/4"), (3.41, 5.87), ("Grieg", "Schumann", "")),
    "suite": Habits(("3/4", "4/4", "3/2", "3/8"), (3.1, 5.8), ("J. S. Bach", "Handel", "")),
}
