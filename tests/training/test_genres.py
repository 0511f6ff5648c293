"""Genres read off titles."""

from __future__ import annotations

import csv

import pytest

from engine.music.types import BadInput
from engine.tokens.genres import DANCES, GENRES, genre_class
from training.composer.genres import genre_of, read_genres


@pytest.mark.parametrize(
    ("title", "id", "genre"),
    [
        ("Sonata no. 13 'quasi una fantasia' | op.27/1 | 2 | Allegro molto", "", "sonata"),
        ("Keyboard Sonata in B-flat major, W.A 1 | op.5 | 2 | Tempo di minuetto", "", "minuet"),
        ("Rondo pour piano | Tempo di Mazurka", "", "mazurka"),
        ("Trois Mazourkas op. 2 | [Nr 3]", "", "mazurka"),
        ("Fugue_bwv_873", "Bach/Fugue/bwv_873/Lisiecki02", "fugue"),
        ("Prelude and Fugue in C", "", ""),
        ("The Paragon Rag | Slow March Time", "joplin/kern/paragon.krn", "ragtime"),
        ("Harmony Club Waltz | Andante", "joplin/kern/harmony.krn", "waltz"),
        ("Swipsey | Slow.", "joplin/kern/swipesy.krn", "ragtime"),
        ("No. 21. | op. Op. 28 | Cantabile.", "chopin-first-editions/kern/028-1-BH-021.krn", "prelude"),
        ("II.", "polish-scores/pl-wtm/kern/pl-wtm--1_szymanowski-karol--fantaisie-op-14-ii.krn", "fantasia"),
        ("Éccosaise No. 3 | op. Op. 72", "", "contredanse"),
        ("14 Bagatelles | Op. 6 | 7 | Allegretto molto capriccioso", "", "character piece"),
        ("Allegro moderato", "", ""),
    ],
)
def test_titles(title, id, genre):
    assert genre_of(title, id) == genre


def test_songs_have_no_genre_and_every_edition_has_one(tmp_path):
    rows = [
        ("w1", "scores/DCMLab/chopin_mazurkas", "chopin_mazurkas/notes/BI16-1.notes.tsv", "Mazurka in G"),
        ("w1", "nasap", "Chopin/Mazurka", "Mazurka"),
        ("l1", "scores/OpenScore/Lieder", "lieder/Barcarolle", "3 Songs | Barcarolle"),
        ("", "maestro", "2011/x.midi", "Waltz"),
    ]
    with (tmp_path / "splits.csv").open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(("work", "source", "id", "title"))
        writer.writerows(rows)
    assert read_genres(tmp_path) == {rows[0][2]: 1, rows[1][2]: 1}


def test_classes():
    assert len(GENRES) == len(set(GENRES)) == 31  # and 0 for none: the Composer's condition has 32 classes
    assert set(DANCES) < set(GENRES)
    assert [genre_class(g) for g in ("", GENRES[0], GENRES[-1])] == [0, 1, 31]
    with pytest.raises(BadInput, match="The genre is 'disco'; choose one of mazurka, polonaise"):
        genre_class("disco")
