"""The two halves of validation: a written list, balanced by source, that follows from the rule."""

import csv
from collections import Counter

from training.core.halves import HALVES, LIST, deal, half_of, validation_works


def test_the_list_halves_every_group_and_follows_the_rule() -> None:
    rows = list(csv.DictReader(LIST.open()))
    groups: dict[str, list[str]] = {}
    for name in ("nasap", "pianocore", "mutopia", "lieder", "scores", "maestro"):
        groups[name] = [r["work"] for r in rows if r["group"] == name]
    assert len(rows) == sum(map(len, groups.values())) == len({r["work"] for r in rows})
    assert deal(groups) == {r["work"]: (r["group"], r["half"]) for r in rows}
    for works in groups.values():
        counts = Counter(half_of(w) for w in works)
        assert abs(counts["choose"] - counts["report"]) <= 1


def test_a_work_outside_the_list_has_a_half_that_never_changes() -> None:
    assert {half_of(f"new{i}") for i in range(20)} == set(HALVES)
    assert half_of("new1") == half_of("new1")


def test_validation_works_are_grouped_by_their_first_source(tmp_path) -> None:
    head = "work,source,id,composer,title,split,licence\n"
    rows = ("w1,nasap,a", "w2,nasap,b", ",maestro,c", "w3,scores/DCMLab/x,d")
    kept = ("validation", "train", "validation", "validation")
    text = "".join(f"{row},,,{split},\n" for row, split in zip(rows, kept, strict=True))
    (tmp_path / "splits.csv").write_text(head + text)
    (tmp_path / "splits-additions.csv").write_text(
        head + "w1,scores/pianocore,e,,,validation,\nw4,scores/OpenScore/Lieder,f,,,validation,\n"
    )
    (tmp_path / "maestro-links.csv").write_text(
        "maestro_id,use,work\nm1,validation_pianist,w2\nm2,leave_out,w9\nm3,validation,w1\n"
    )
    found = {name: works for name, works in validation_works(tmp_path, tmp_path).items() if works}
    assert found == {"nasap": ["w1"], "scores": ["w3"], "lieder": ["w4"], "maestro": ["w2"]}
