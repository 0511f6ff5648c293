"""A performance of a score as files for other programs: CSV tables, Sonic Visualiser, Audacity, match files."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.measures.csv_text import csv_text
from engine.measures.match_file import write_match
from engine.measures.note_tables import Table, beat_table, note_table
from engine.music.types import Alignment, BadInput, Performance, Score

ALL = "all"  # name of `export_all` among the kinds
SV_RATE = 44_100  # Hz, the frames of a Sonic Visualiser layer


@dataclass(frozen=True)
class Export:
    """One kind of file.

    label   in menus
    ending  of the file's name, after the piece
    make    (score, performance, alignment) -> bytes; raises BadInput if too little of the score is played
    """

    label: str
    ending: str
    make: Callable[[Score, Performance, Alignment], bytes]


def notes_csv(score: Score, performance: Performance, alignment: Alignment) -> bytes:
    """`note_table` as CSV."""
    return _csv(note_table(score, performance, alignment))


def beats_csv(score: Score, performance: Performance, alignment: Alignment) -> bytes:
    """`beat_table` as CSV."""
    return _csv(beat_table(score, performance, alignment))


def _csv(table: Table) -> bytes:
    return csv_text(table.columns, [["" if cell is None else cell for cell in row] for row in table.rows])


def audacity_labels(score: Score, performance: Performance, alignment: Alignment) -> bytes:
    """A label track for Audacity (File, Import, Labels): a point for each beat, "bar.beat", the barline as "bar"."""
    lines = [f"{sec:.4f}\t{sec:.4f}\t{label}\n" for sec, label, _ in _beats(score, performance, alignment)]
    return "".join(lines).encode()


def beats_layer(score: Score, performance: Performance, alignment: Alignment) -> bytes:
    """The beats as a time instants layer of Sonic Visualiser, labelled as in Audacity."""
    points = [{"frame": _frame(sec), "label": label} for sec, label, _ in _beats(score, performance, alignment)]
    return _layer("timeinstants", "Beats", points, {"dimensions": "1"}, {})


def tempo_layer(score: Score, performance: Performance, alignment: Alignment) -> bytes:
    """Beats a minute at each beat, as a time values layer of Sonic Visualiser."""
    points = [
        {"frame": _frame(sec), "value": f"{bpm:g}", "label": label}
        for sec, label, bpm in _beats(score, performance, alignment)
    ]
    values = [float(point["value"]) for point in points]
    model = {"dimensions": "2", "minimum": f"{min(values):g}", "maximum": f"{max(values):g}", "units": "bpm"}
    return _layer("timevalues", "Tempo", points, model, {"plotStyle": "3"})


def notes_layer(score: Score, performance: Performance, alignment: Alignment) -> bytes:
    """The played notes, as a notes layer of Sonic Visualiser; the level of a note is its velocity / 127."""
    del score, alignment
    if not len(performance):
        raise BadInput("This performance has no notes; choose another.")
    points = [
        {
            "frame": _frame(onset), "value": str(int(pitch)), "duration": _frame(duration),
            "level": f"{velocity / 127:.4f}", "label": "",
        }
        for onset, pitch, duration, velocity in sorted(
            zip(performance.onset_sec, performance.pitch, performance.duration_sec, performance.velocity, strict=True)
        )
    ]  # fmt: skip
    model = {
        "dimensions": "3", "subtype": "note", "valueQuantization": "1", "units": "MIDI Pitch",
        "minimum": str(int(performance.pitch.min())), "maximum": str(int(performance.pitch.max())),
    }  # fmt: skip
    return _layer("notes", "Notes", points, model, {"verticalScale": "1", "scaleMinimum": "0", "scaleMaximum": "0"})


def _beats(score: Score, performance: Performance, alignment: Alignment) -> list[tuple[float, str, float]]:
    """Seconds, label and beats a minute of each beat; those before the recording are omitted."""
    table = beat_table(score, performance, alignment)
    columns = (table.column(name) for name in ("sec", "bar", "beat", "bpm"))
    return [
        (sec, str(bar) if beat == 1 else f"{bar}.{beat:g}", bpm)
        for sec, bar, beat, bpm in zip(*columns, strict=True)
        if sec >= 0
    ]


def _frame(sec: float) -> str:
    return str(round(max(sec, 0.0) * SV_RATE))


def _layer(
    kind: str, name: str, points: Sequence[dict[str, str]], model: dict[str, str], display: dict[str, str]
) -> bytes:
    """A layer file of Sonic Visualiser (.svl): one model, its points, and how it is drawn."""
    if not points:
        raise BadInput("Too little of the score is found in this performance; choose a performance of this piece.")
    root = ET.Element("sv")
    data = ET.SubElement(root, "data")
    ET.SubElement(
        data, "model", id="1", name=name, sampleRate=str(SV_RATE), start=points[0]["frame"],
        end=str(int(points[-1]["frame"]) + 1), type="sparse", resolution="1", notifyOnAdd="true", dataset="0", **model,
    )  # fmt: skip
    dataset = ET.SubElement(data, "dataset", id="0", dimensions=model["dimensions"])
    for point in points:
        ET.SubElement(dataset, "point", point)
    shown = ET.SubElement(root, "display")
    ET.SubElement(
        shown, "layer", id="2", type=kind, name=name, model="1", colourName="Orange", colour="#e8590c", **display
    )
    ET.indent(root)
    head = b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE sonic-visualiser>\n'
    return head + ET.tostring(root, encoding="utf-8") + b"\n"


EXPORTS: dict[str, Export] = {
    "notes": Export("Note table, CSV", "-notes.csv", notes_csv),
    "beats": Export("Beat table, CSV", "-beats.csv", beats_csv),
    "match": Export("Match file", ".match", write_match),
    "sv-beats": Export("Sonic Visualiser, beats", "-beats.svl", beats_layer),
    "sv-tempo": Export("Sonic Visualiser, tempo", "-tempo.svl", tempo_layer),
    "sv-notes": Export("Sonic Visualiser, notes", "-notes.svl", notes_layer),
    "labels": Export("Audacity labels", "-labels.txt", audacity_labels),
}


def export_all(score: Score, performance: Performance, alignment: Alignment, name: str) -> bytes:
    """Every kind in one zip file; `name` begins the name of each."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for kind in EXPORTS.values():
            entry = zipfile.ZipInfo(
                f"{name}{kind.ending}"
            )  # constant time stamp, so that equal music gives equal files
            archive.writestr(entry, kind.make(score, performance, alignment), zipfile.ZIP_DEFLATED)
    return out.getvalue()
