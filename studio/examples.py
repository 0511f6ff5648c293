"""The pieces that come with the studio; sources and licences are in examples/README.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True)
class Example:
    """One piece: its title, the score's file and a human performance's, "" for none."""

    title: str
    score: str
    human: str = ""
    pianist: str = ""

    def score_bytes(self) -> bytes:
        """The score as it stands on disk."""
        return (FOLDER / self.score).read_bytes()

    def human_bytes(self) -> bytes:
        """The human performance as it stands on disk."""
        return (FOLDER / self.human).read_bytes()


_COMPETITION = "at the Piano-e-Competition"
EXAMPLES: dict[str, Example] = {
    e.title: e
    for e in (
        Example("Bach, Fugue in C, BWV 846", "bach-fugue-bwv-846.musicxml", "bach-fugue-bwv-846-human.mid", f"Shi {_COMPETITION}"),
        Example("Bach, Prelude in C, BWV 846", "bach-prelude-bwv-846.mxl", "bach-prelude-bwv-846-human.mid", f"Shi {_COMPETITION}"),
        Example("Mozart, Sonata K. 332, i", "mozart-sonata-k-332-1.mxl", "mozart-sonata-k-332-1-human.mid", f"Adig {_COMPETITION}"),
        Example("Schubert, Moment musical no. 3", "schubert-moment-musical-3.mxl", "schubert-moment-musical-3-human.mid", f"Tetzloff {_COMPETITION}"),
        Example("Schumann, Kreisleriana no. 4", "schumann-kreisleriana-4.mxl", "schumann-kreisleriana-4-human.mid", f"Yarden {_COMPETITION}"),
        Example("Chopin, Étude op. 25 no. 2", "chopin-etude-op-25-2.mxl", "chopin-etude-op-25-2-human.mid", f"Karpeyev {_COMPETITION}"),
        Example("Chopin, Prélude op. 28 no. 7", "chopin-prelude-op-28-7.krn"),
    )
}  # fmt: skip
FIRST = "Bach, Fugue in C, BWV 846"
