"""Speed of the product: `python -m training.bench` prints one table; goals are for two cores of 2020 or later.

Every row is the median of several runs on the pieces of tests/data, with the models and pianos that are shipped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from engine.engine import Engine
from engine.measures.curves import curves_figure
from engine.music.io.alignment import align, read_match
from engine.music.io.write_musicxml import write_musicxml
from engine.music.types import Marks, Measures, Score
from engine.requests import ComposeRequest, InfillRequest, PerformRequest
from engine.tokens.ecp import decode, encode
from engine.untrusted.scores import open_score
from training.bench.rows import PIECES, Row, timed
from training.bench.sound import rendering

NOTES = 256


def first_notes(score: Score, count: int = NOTES) -> Score:
    """The beginning of a score."""
    keep = slice(0, count)
    names = ("onset_quarter", "duration_quarter", "pitch", "spelling", "staff", "voice", "grace")
    columns = {name: getattr(score, name)[keep] for name in names}
    bars = int(np.searchsorted(score.measures.onset_quarter, columns["onset_quarter"][-1], side="right"))
    measures = Measures(*(getattr(score.measures, name)[:bars] for name in Measures.__dataclass_fields__))
    return replace(score, **columns, marks=Marks(score.marks.table[keep]), measures=measures)


def reading() -> list[Row]:
    environment = {**os.environ, "PYTHONPATH": str(PIECES.parents[1])}
    command = [sys.executable, "-c", "import engine.engine, engine.untrusted.scores, engine.measures.curves"]
    imported, _ = timed(lambda: subprocess.run(command, env=environment, check=True), 3)
    rows = [Row("import the engine", imported / 1000, "s", 5)]
    for name in ("bach_fugue_846.mxl", "bach_fugue_846.mid", "chopin_prelude_28_7.krn"):
        data = (PIECES / name).read_bytes()
        open_score(data, name)  # starts the reader subprocess
        taken, score = timed(lambda data=data, name=name: open_score(data, name), 3)
        rows.append(Row(f"read {name}, {len(score)} notes", taken, "ms"))
    taken, _ = timed(lambda: write_musicxml(score), 3)
    return [*rows, Row(f"write MusicXML, {len(score)} notes", taken, "ms")]


def playing(engine: Engine, score: Score) -> list[Row]:
    began = time.perf_counter()
    engine.perform(PerformRequest(first_notes(score, 16), engine.style()))
    rows = [Row("load the Pianist, first notes", time.perf_counter() - began, "s")]
    piece = first_notes(score)
    cold, _ = timed(lambda: engine.perform(PerformRequest(piece, engine.style())), 1)
    seeds = iter(range(100))
    warm, performance = timed(lambda: engine.perform(PerformRequest(piece, engine.style((0.5,), seed=next(seeds)))))
    drawn, _ = timed(lambda: curves_figure(piece, performance).to_json())
    whole, _ = timed(lambda: engine.perform(PerformRequest(score, engine.style((0.5,), seed=next(seeds)))), 3)
    found, alignment = timed(lambda: align(piece, performance), 2)
    told, _ = timed(lambda: engine.style_from(piece, performance, alignment), 3)
    return [
        *rows,
        Row(f"perform {NOTES} notes, a score not seen before", cold, "ms"),
        Row(f"perform {NOTES} notes again, a slider moved", warm, "ms"),
        Row("draw its curves", drawn, "ms"),
        Row("slider to picture (the two together)", warm + drawn, "ms", 300),
        Row(f"perform {len(score)} notes", len(score) / whole * 1000, "notes/s"),
        Row(f"align {NOTES} notes", found, "ms"),
        Row("style of a performance", told, "ms"),
        *sounding(engine, performance, warm),
    ]


def sounding(engine: Engine, performance: Any, warm: float) -> list[Row]:
    began = time.perf_counter()
    engine.sound.load("grand")
    loaded = time.perf_counter() - began
    first, _ = timed(lambda: next(engine.preview_stream(performance)))
    whole, clip = timed(lambda: engine.preview(performance), 3)
    return [
        Row("load the grand piano", loaded, "s"),
        Row("first second of sound, after load", first, "ms", 50),
        Row("preview", 1000 * clip.duration_sec / whole, "x real", 50, more_is_better=True),
        Row("slider to first sound", warm + first, "ms", 1000),
    ]


def composing(engine: Engine, score: Score) -> list[Row]:
    began = time.perf_counter()
    engine.compose(ComposeRequest(notes=16))
    rows = [Row("load the Composer, first notes", time.perf_counter() - began, "s")]
    a_note = []
    for seed in range(5):
        began = time.perf_counter()
        written = engine.compose(ComposeRequest(notes=NOTES, seed=seed))[0]
        a_note.append((time.perf_counter() - began) / len(written))
    firsts = []
    for seed in range(5):
        came: list[float] = []
        began = time.perf_counter()
        engine.compose(
            ComposeRequest(notes=32, seed=seed), on_note=lambda *_, came=came: came.append(time.perf_counter())
        )
        firsts.append(1000 * (came[0] - began))
    four, takes = timed(lambda: engine.compose(ComposeRequest(notes=NOTES, takes=4, seed=1)), 3)
    m = score.measures
    span = (float(m.onset_quarter[8]), float(m.onset_quarter[9]))
    selected = (score.onset_quarter >= span[0]) & (score.onset_quarter < span[1])
    filled, _ = timed(lambda: engine.compose(InfillRequest(score, selected, span, seed=1)), 3)
    return [
        *rows,
        Row(f"compose {NOTES} notes", NOTES * median(a_note), "s", 1.5),
        Row("first composed note", median(firsts), "ms"),
        Row(f"compose four takes, {sum(map(len, takes))} notes in all", four / 1000, "s"),
        Row("fill in a bar", filled, "ms"),
    ]


def tokens() -> list[Row]:
    score, performance, alignment = read_match(PIECES / "bach_fugue_846_Shi05M.match")
    coded, encoding = timed(lambda: encode(score, performance, alignment))
    back, _ = timed(lambda: [decode(s.tokens, s.start_sec) for s in encoding.segments])
    return [Row(f"ECP encode {len(score)} notes", coded, "ms"), Row("ECP decode them", back, "ms")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    engine = Engine.load()
    score = open_score((PIECES / "bach_fugue_846.mxl").read_bytes(), "bach_fugue_846.mxl")
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")

    for row in [*reading(), *composing(engine, score), *playing(engine, score), *tokens(), *rendering(engine)]:
        print(row, flush=True)


if __name__ == "__main__":
    main()
