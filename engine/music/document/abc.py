"""ABC as a `Score`, by way of verovio's conversion to MEI."""

from __future__ import annotations

import re
from dataclasses import replace

from engine.music.io.read_musicxml import read_mei
from engine.music.types import BadInput, Score

_TEMPO = re.compile(r"(?m)^Q:\s*(?:\"[^\"\n]*\")?\s*(\d{1,3})/(\d{1,3})\s*=\s*(\d{1,3})")


def read_abc(data: bytes) -> Score:
    """Read the first tune of an ABC file (abcnotation.com, standard 2.1). Raises BadInput if verovio cannot convert
    it."""
    import verovio

    text = first_tune(data.decode("utf-8", "replace"))
    verovio.enableLog(verovio.LOG_OFF)
    kit = verovio.toolkit()
    kit.setOptions({"inputFrom": "abc", "xmlIdSeed": 1})
    if not kit.loadData(text):
        raise BadInput("This ABC file cannot be read; check it with an ABC program, or export it as MusicXML.")
    score = read_mei(kit.getMEI().encode())
    tempo = _TEMPO.search(text)
    bpm = 4 * int(tempo[1]) / int(tempo[2]) * int(tempo[3]) if tempo and int(tempo[2]) else 0.0
    return replace(
        score, title=_field(text, "T") or score.title, composer=_field(text, "C") or score.composer,
        tempo_bpm=bpm if 5 < bpm < 1000 else 0.0,
    )  # fmt: skip


def first_tune(text: str) -> str:
    r"""The lines of the first tune: from its X: to the empty line after it.

    >>> first_tune("% mine\nX:1\nK:C\nCDE|\n\nX:2\nK:D\nF|\n")
    'X:1\nK:C\nCDE|\n'
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = next((k for k, line in enumerate(lines) if line.startswith("X:")), 0)
    last = next((k for k in range(first, len(lines)) if not lines[k].strip()), len(lines))
    return "\n".join(lines[first:last]) + "\n"


def _field(text: str, name: str) -> str:
    found = re.search(rf"(?m)^{name}:[ \t]*(.*)$", text)
    return found[1].strip() if found else ""
