"""The pieces that come with the studio; sources and licences are in examples/README.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Example:
    """One piece.

    score    the file of the score; its human performance, if any, has the same name with `-human.mid`
    pianist  performer of that, "" if there is none
    """

    title: str
    score: str
    pianist: str = ""

    @property
    def human(self) -> str:
        """The file of the human performance, "" for none."""
        return f"{Path(self.score).stem}-human.mid" if self.pianist else ""

    def score_bytes(self) -> bytes:
        """The bytes of the score file."""
        return (FOLDER / self.score).read_bytes()

    def human_bytes(self) -> bytes:
        """The bytes of the human performance."""
        return (FOLDER / self.human).read_bytes()


EXAMPLES: dict[str, Example] = {
    e.title: e
    for e in (
        Example("Bach, Fugue in C, BWV 846", "bach-fugue-bwv-846.musicxml", "Shi"),
        Example("Bach, Prelude in C, BWV 846", "bach-prelude-bwv-846.mxl", "Shi"),
        Example("Mozart, Sonata K. 332, i", "mozart-sonata-k-332-1.mxl", "Adig"),
        Example("Schubert, Moment musical no. 3", "schubert-moment-musical-3.mxl", "Tetzloff"),
        Example("Schumann, Kreisleriana no. 4", "schumann-kreisleriana-4.mxl", "Yarden"),
        Example("Chopin, Étude op. 25 no. 2", "chopin-etude-op-25-2.mxl", "Karpeyev"),
        Example("Chopin, Prélude op. 28 no. 7", "chopin-prelude-op-28-7.krn"),
    )
}
FIRST = "Bach, Fugue in C, BWV 846"
EMPTY = "An empty page"
MINE = "mine"  # menu entry of an open piece that is not an example
