"""The table of agreement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.bench.reading.compare import FIELDS, Comparison


@dataclass(frozen=True)
class Row:
    """One file: its kind, and the comparison of both readings; None if one is missing."""

    kind: str
    path: Path
    comparison: Comparison | None = None
    refused: str = ""  # the message of our refusal
    other_failed: str = ""

    def why(self) -> str:
        assert self.comparison is not None
        differs = str(self.comparison.differs or "agrees, but has a remark")
        return f"told: {differs}" if self.comparison.right else differs


def table(rows: list[Row], against: str) -> str:
    """Per kind of file: number of files, share that agrees in each field, in all, and share agreeing or reported.

    against  name of the other reader, for the line about what it did not read; "" for none
    """
    head = ["kind", "files", *FIELDS, "all fields", "agree or told"]
    out = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    kinds = list(dict.fromkeys(r.kind for r in rows))
    for kind in [*kinds, *(["all"] if len(kinds) > 1 else [])]:
        found = [r.comparison for r in rows if kind in (r.kind, "all") and r.comparison]
        if not found:
            continue
        cells = [kind, str(len(found))]
        for name in FIELDS:
            compared = [c for c in found if name in c.compared]
            cells.append(_share(sum(name not in c.differs for c in compared), len(compared)))
        cells += [_share(sum(c.agrees for c in found), len(found)), _share(sum(c.right for c in found), len(found))]
        out.append(f"| {' | '.join(cells)} |")
    if not against:
        return "\n".join(out)
    failed, refused = (sum(bool(getattr(r, name)) for r in rows) for name in ("other_failed", "refused"))
    empty = sum(r.comparison is None and not r.other_failed for r in rows)
    out.append(
        f"{against} failed on {failed} files; {refused} were refused here, {empty} of them because they have no notes."
    )
    return "\n".join(out)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
