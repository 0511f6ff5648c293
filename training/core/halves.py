"""The two halves of validation: settings are chosen on "choose", figures are reported on "report".

The list is `validation_halves.csv` beside this file; `python -m training.core.halves --data DATA --data2 DATA2` writes
it again. The rule: validation works are grouped by source (the first of SOURCES that holds the work), sorted in each
group by the SHA-256 of the work id, and dealt in turn to the two halves. So each source is halved, and no edition or
performance of a work stands in both halves. Works of MAESTRO's validation performances whose score is a training score
(`validation_pianist` in maestro-links.csv) form a group of their own.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path

HALVES = ("choose", "report")
LIST = Path(__file__).with_name("validation_halves.csv")
SOURCES = {
    "nasap": "nasap", "scores/pianocore": "pianocore", "scores/Mutopia": "mutopia", "scores/OpenScore": "lieder",
    "scores/": "scores",
}  # fmt: skip
PIANIST_ONLY = "maestro"  # the group of `validation_pianist`


@cache
def _listed() -> dict[str, str]:
    with open(LIST, encoding="utf-8") as f:
        return {row["work"]: row["half"] for row in csv.DictReader(f)}


def half_of(work: str) -> str:
    """The half of a validation work, "choose" or "report"; unlisted works are assigned by the parity of their hash.

    >>> half_of("w0004") in HALVES
    True
    """
    return _listed().get(work) or HALVES[_hash(work)[0] % 2]


def _hash(work: str) -> bytes:
    return hashlib.sha256(work.encode()).digest()


def deal(groups: dict[str, Iterable[str]]) -> dict[str, tuple[str, str]]:
    """Work id -> (group, half). Groups with an odd number of works take turns in giving one more to "choose".

    >>> sorted(half for _, half in deal({"nasap": ["w1", "w2", "w3", "w4"]}).values())
    ['choose', 'choose', 'report', 'report']
    """
    dealt, turn = {}, 0
    for group, works in groups.items():
        for work in sorted(set(works), key=_hash):
            dealt[work] = (group, HALVES[turn % 2])
            turn += 1
    return dealt


def validation_works(data: Path, data2: Path) -> dict[str, list[str]]:
    """The validation works of both packs by group, each work in the first group that holds it."""
    held = defaultdict(set)
    for path in (data / "splits.csv", data2 / "splits-additions.csv"):
        with open(path, encoding="utf-8") as f:
            for row in csv.DictReader(f):
                if row["split"] == "validation" and row["work"]:
                    held[row["work"]].add(row["source"])
    with open(data2 / "maestro-links.csv", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            if row["use"] == "validation_pianist":
                held[row["work"]].add(PIANIST_ONLY)
    groups: dict[str, list[str]] = {name: [] for name in (*SOURCES.values(), PIANIST_ONLY)}
    for work, sources in held.items():
        found = [name for start, name in SOURCES.items() if any(s.startswith(start) for s in sources)]
        groups[found[0] if found else PIANIST_ONLY].append(work)
    return groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with splits.csv")
    parser.add_argument("--data2", type=Path, required=True, help="folder with splits-additions.csv")
    parser.add_argument("--out", type=Path, default=LIST)
    args = parser.parse_args()
    dealt = deal(validation_works(args.data, args.data2))
    with open(args.out, "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(("work", "group", "half"))
        writer.writerows((work, *dealt[work]) for work in sorted(dealt))
    for (group, half), count in sorted(Counter(dealt.values()).items()):
        print(f"{group}: {count} works in {half}")


if __name__ == "__main__":
    main()
