"""The genre of a score, from its title.

    python -m training.composer.genres --data CORPORA [--data2 MORE] [--out genres.tsv] [--pack PACK --new-pack OUT]

A title has parts, such as "Sonata no. 1 | op. 2/1 | 3 | Menuetto". The last part with the name of a genre decides, by
the first rule that matches; the file name is used after the title. A part that names a prelude and a fugue has no
genre. Some corpora have one genre only. With --pack, a copy of a pack of training scores is written with the column
`genre`; all other columns are unchanged.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.tokens.genres import GENRES, NO_GENRE

_RULES = {
    "mazurka": r"ma[sz]o?ur|kujawiak|oberek",
    "polonaise": r"pol+on[aeo][iy]?[sz]|polacca|polones|polski taniec",
    "krakowiak": r"krakow[il]a[ck]|cracovienne",
    "waltz": r"\bwal[sztc]|\bvals|\bvalse|\bvalc|walzer|ländler|laendler",
    "minuet": r"\bm[ei]nu[ei]tt?|\bmenuetto",
    "polka": r"\bpolka|galop",
    "gavotte": r"gavott|\bgawot",
    "allemande": r"allemand|deutsche[rn]? t[aä]nz|german dance",
    "courante": r"c[ou]*rr?ant[ei]",
    "sarabande": r"saraband",
    "gigue": r"\bgigu?[ae]|\bjig\b",
    "bourrée": r"bourr[eé]e",
    "contredanse": r"contre?danse|country dance|[eé]c+os+aise|angl[ae][iz]|kadryl|quadrille",
    "folk dance": r"folk ?dan|swenska folk|halling|springda|slåt|taniec|tańc|hornpipe|\breel\b|hungarian dance|"
    r"spanish dance|danzas? espa",
    "march": r"\bmarch(?!\w* (?:tempo|time))|\bmarsz|\bmarsch|\bmarcia fun",
    "ragtime": r"\brag\b|ragtime|cake ?walk",
    "fugue": r"\bfug(?:a|e|ue|hett)|contrapunctus|doppelfuge",
    "invention": r"\binventi|\bsinfonia \d|\bkanon|\bcanon",
    "étude": r"[eéė]tud|\bexerci|\bstud(?:y|ies)|übungsst|etiud",
    "nocturne": r"nocturn|notturn|nokturn",
    "ballade": r"\bballad",
    "scherzo": r"scherzo|scherzi\b",
    "impromptu": r"impromptu",
    "rondo": r"\brond[oò]|rondeau|\brondin",
    "variations": r"variati|variazi|wariac|waryac|\bvar\b|goldberg",
    "prelude": r"pr(?:[aä]e?|[eé])lu|\bpreambul",
    "fantasia": r"(?<!una )fantasi[ae]\b|fantaisi|(?<!una )fantazj",
    "sonatina": r"sonatin",
    "character piece": r"lyric (?:piece|st)|kinderszenen|lieder ohne|songs? without|pieśni bez|moments? musica|romanc|"
    r"romanz|bagatell|album|silhouet|seasons|barcarol|berceuse|humoresk|humoresq|consolation|arabesque|rêverie|"
    r"intermezzo|kreisleriana|novelette|idyll|elegi|feuillet|mélodie|caprices?\b|capriccio\b|novellett",
    "sonata": r"\bsonat[ae]",
    "suite": r"\bsuite|\bpartita",
}
_CORPORA = {"joplin/": "ragtime", "chopin_mazurkas/": "mazurka", "editions/kern/028-": "prelude",
            "editions/kern/055-": "nocturne", "editions/kern/062-": "nocturne"}  # fmt: skip
_NAMES = {name: re.compile(rule) for name, rule in _RULES.items()}


def genre_of(title: str, id: str = "") -> str:
    """A name in GENRES, "" unknown.

    >>> genre_of("Sonata no. 13 'quasi una fantasia' | op.27/1 | 2 | Allegro"), genre_of("Sonata | 3 | Menuetto")
    ('sonata', 'minuet')
    """
    file = id.rsplit("/", 1)[-1].replace("-", " ")
    for part in (*reversed(re.split(r"\||: ", title.replace("_", " "))), file.replace("_", " ")):
        found = [name for name, rule in _NAMES.items() if rule.search(part.lower())]
        if {"prelude", "fugue"} <= set(found):
            return ""
        if found:
            return found[0]
    return next((genre for corpus, genre in _CORPORA.items() if corpus in id), "")


def read_genres(data: Path, data2: Path | None = None) -> dict[str, int]:
    """Class of the genre of every score of the packs, by id; songs have none, nor has a folder without its list."""
    out = {}
    for path in (data / "splits.csv", *((data2 / "splits-additions.csv",) if data2 else ())):
        if not path.exists():
            print(f"{path} is not there: its scores have no genre")
            continue
        with path.open(encoding="utf-8", newline="") as f:
            for row in csv.DictReader(f):
                if row["source"].startswith(("nasap", "scores/")) and "Lieder" not in row["source"]:
                    genre = genre_of(row["title"], row["id"])
                    out[row["id"]] = 1 + GENRES.index(genre) if genre else NO_GENRE
    return out


def add_genres(pack: Path, out: Path, genres: dict[str, int]) -> NDArray[np.uint8]:
    """Write a copy of a pack with the genre of each of its scores; returns the genres, (scores,)."""
    with np.load(pack) as z:
        columns = {k: z[k] for k in z.files}
    columns["genre"] = np.array([genres.get(str(id), NO_GENRE) for id in columns["id"]], np.uint8)
    part = out.with_name(out.stem + ".part.npz")
    np.savez_compressed(part, **columns)  # type: ignore[arg-type]
    part.replace(out)
    return columns["genre"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with splits.csv")
    parser.add_argument("--data2", type=Path, help="folder with splits-additions.csv")
    parser.add_argument("--out", type=Path, help="also write the genres there: id, genre")
    parser.add_argument("--pack", type=Path, help="a pack of training.composer.prepare")
    parser.add_argument("--new-pack", type=Path, help="where it is written with genres")
    args = parser.parse_args()
    if bool(args.pack) != bool(args.new_pack):
        parser.error("--pack and --new-pack go together: the pack to read, and the one to write.")
    found = read_genres(args.data, args.data2)
    for genre, count in Counter(found.values()).most_common():
        print(f"{count:5} {GENRES[genre - 1] if genre else '(none)'}")
    if args.pack:
        genres = add_genres(args.pack, args.new_pack, found)
        print(f"{args.new_pack}: {(genres > 0).sum()} of {len(genres)} scores have a genre")
    if args.out:
        with args.out.open("w", encoding="utf-8", newline="") as f:
            writer = csv.writer(f, delimiter="\t", lineterminator="\n")
            writer.writerow(("id", "genre"))
            writer.writerows((id, GENRES[genre - 1] if genre else "") for id, genre in found.items())


if __name__ == "__main__":
    main()
