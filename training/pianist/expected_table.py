"""The training table of the expected performance: beats and notes of (n)ASAP, as written and as performed.

`python -m training.pianist.expected_table --data DATA --set VALIDATION --out data/expected-v2.pkl`
DATA has nasap/ (metadata.csv and nasap-scores.tar.xz or its folders) and aligned/; VALIDATION is the unpacked
measuring set, whose human performances are used for its pieces. Ten minutes on one core.

Every piece has up to three readings of the same music, all with the same targets: "xml", the notes of the score MIDI
with the signs of the MusicXML; "midi", the score MIDI alone; "page", the MusicXML as the studio opens it.
Targets: log2 of each beat's length over its written length; velocity and log2(held / local written length), as in
`expression_agreement`.
"""

from __future__ import annotations

import argparse
import csv
import pickle
import sys
import tarfile
import warnings
from collections import defaultdict
from dataclasses import replace
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.models.expected.beats import BeatGrid, as_table, beat_features, beat_grid, written_seconds
from engine.models.expected.notes import line_of, note_features
from engine.music.expression import measure_of
from engine.music.io.midi import read_midi_score
from engine.music.io.midi_bytes import parse_midi
from engine.music.io.read_musicxml import read_musicxml_file
from engine.music.types import Score
from training.pianist.expression_agreement import humans, view_of_human
from training.pianist.expression_distribution import read
from training.pianist.marks import _position, attach_marks, bar_path

READINGS = ("xml", "midi", "page")


def annotation(path: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Seconds of the beats of an (n)ASAP annotation, and which are downbeats."""
    rows = [line.split("\t") for line in path.read_text().splitlines() if line.strip()]
    return np.array([float(r[0]) for r in rows]), np.array([r[2].startswith("db") for r in rows])


def printed(score: Score, written: Score, path: NDArray) -> NDArray[np.int64]:
    """Index of the same note in the written score, (n,), -1 without one; path from `bar_path`."""
    a, b = measure_of(score), measure_of(written)
    place = {k: i for i, k in enumerate(zip(b, _position(written, b), written.pitch, strict=True))}
    return np.array(
        [place.get((path[m], q, p), -1) for m, q, p in zip(a, _position(score, a), score.pitch, strict=True)]
    )


def with_print(score: Score, written: Score, j: NDArray) -> Score:
    """Copy staff, voice and grace flag from the printed notes that were found."""
    here = j >= 0
    return replace(
        score, staff=np.where(here, written.staff[j], score.staff), voice=np.where(here, written.voice[j], 0),
        grace=np.where(here, written.grace[j], False),
    )  # fmt: skip


def of_table(score: Score, notes: NDArray) -> NDArray[np.int64]:
    """Row of the measuring scripts' note table for each note of the score: the n-th time that a pitch sounds."""
    rows, out, seen = defaultdict(list), np.zeros(len(score), int), defaultdict(int)
    for j in np.argsort(notes[:, 0], kind="stable"):
        rows[int(notes[j, 2])].append(j)
    for i in np.argsort(score.onset_quarter, kind="stable"):
        p = int(score.pitch[i])
        out[i] = rows[p][min(seen[p], len(rows[p]) - 1)]
        seen[p] += 1
    return out


def _page_reading(
    score: Score, written: Score, path: NDArray, grid: BeatGrid, curves: NDArray, y: NDArray
) -> dict | None:
    """The same targets on the MusicXML as read, if it unfolds to the same bars; else None."""
    m, w = score.measures, written.measures
    if len(w) != len(m) or not np.array_equal(path, np.arange(len(m))):
        return None
    own = beat_grid(written)
    shift = w.onset_quarter - w.position_quarter - (m.onset_quarter - m.position_quarter)
    bar = np.clip(np.searchsorted(w.onset_quarter, own.quarter[:-1] + 1e-6, side="right") - 1, 0, len(w) - 1)
    at = own.quarter[:-1] - shift[bar]
    i = np.abs(grid.quarter[:-1][None] - at[:, None]).argmin(1)
    same = (np.abs(grid.quarter[i] - at) < 0.05) & (np.abs(np.diff(grid.quarter)[i] - np.diff(own.quarter)) < 0.05)
    map_change = np.log2(np.diff(grid.seconds)[i] / np.diff(grid.quarter)[i]) - np.log2(
        np.diff(own.seconds) / np.diff(own.quarter)
    )
    beats = np.where(same, curves[:, i] + map_change, np.nan)
    back = printed(score, written, path)
    values = np.full((2, y.shape[1], len(written)), np.nan, np.float32)
    values[:, :, back[back >= 0]] = y[:, :, back >= 0]
    if np.isfinite(values[0, 0]).mean() < 0.5 or same.mean() < 0.5:
        return None
    return _reading(written, own, beats, values)


def _reading(score: Score, grid: BeatGrid, beats: NDArray, y: NDArray) -> dict:
    names, x = as_table(note_features(score, grid))
    beat_names, bx = as_table(beat_features(score, grid))
    return {
        "x": x.astype(np.float16), "bx": bx.astype(np.float16),
        "beat": grid.beat_of(score.onset_quarter).astype(np.int32),
        "line": line_of(score).astype(np.int16), "y": y.astype(np.float32), "curves": beats.astype(np.float32),
        "names": names, "beat_names": beat_names,
    }  # fmt: skip


def piece_of(task: tuple) -> dict | None:
    """One piece of the table; None without a usable performance."""
    folder, rows, nasap, columns, of_set = task
    warnings.simplefilter("ignore")
    first = rows[0]
    data = (nasap / first["midi_score"]).read_bytes()
    file, raw = parse_midi(data), read_midi_score(data)
    beats_sec, down = annotation(nasap / first["midi_score_annotations"])
    seconds, keep = np.unique(beats_sec, return_index=True)
    tick = np.arange(0, file.end_tick.max() + 20 * file.ticks_per_quarter, max(file.ticks_per_quarter // 96, 1))
    quarter = np.interp(seconds, file.seconds(tick), tick / file.ticks_per_quarter)
    played_beats: list[NDArray] = []
    notes, views = read(nasap / first["midi_score"])[0], []
    if of_set is not None:
        notes, views = of_set
        played_beats = [v["played_beats"] for v in views]
    for r in () if of_set is not None else rows:
        file_beats = nasap / r["performance_annotations"]
        if not file_beats.exists():
            continue
        played = annotation(file_beats)[0]
        if abs(len(beats_sec) - len(played)) > 8:
            continue
        own = played[keep[keep < len(played)]]
        if (np.diff(own) > 0).mean() < 0.98:
            continue
        played_beats.append(own)
        found = columns.get(r["midi_performance"][:-4])
        v = view_of_human(notes, beats_sec, found, played) if found is not None else None
        if v and v["found"] > 0.8:
            views.append(v)
    if not views or not played_beats or len(notes) != len(raw):
        return None
    curves = np.full((len(played_beats), len(quarter) - 1), np.nan)
    for row, own in zip(curves, played_beats, strict=True):
        k = min(len(own), len(quarter)) - 1
        value = np.log2(np.maximum(np.diff(own[: k + 1]), 1e-3) / np.diff(seconds[: k + 1]))
        value -= np.median(value)
        row[:k] = np.where(value > -2.5, np.minimum(value, 2.5), np.nan)  # a faster beat is an error of the annotation
    row = of_table(raw, notes)
    y = np.stack([[v[k][row] for v in views] for k in ("velocity", "articulation")]).astype(np.float32)
    midi_step = np.log2(np.diff(seconds))

    def reading(score: Score) -> dict:
        grid = BeatGrid(quarter, written_seconds(score, quarter), down[keep][: len(quarter) - 1])
        relative = curves + midi_step - np.log2(np.diff(grid.seconds))  # relative to this reading's written tempo
        return _reading(score, grid, relative, y)

    out: dict = {"midi": reading(raw)}
    if first["has_xml"] == "True":
        written = read_musicxml_file(nasap / first["xml_score"])
        path, overlap = bar_path(raw, written)
        if overlap >= 0.6:
            marked = replace(attach_marks(raw, written)[0], composer=written.composer)
            out["xml"] = reading(with_print(marked, written, printed(raw, written, path)))
            grid = BeatGrid(quarter, seconds, down[keep][: len(quarter) - 1])
            page = _page_reading(raw, written, path, grid, curves, y)
            if page is not None:
                out["page"] = page
    about = {"folder": folder, "work": first["work"], "split": first["split"], "notes": notes, "row": row,
             "seconds": seconds, "quarter": quarter}  # fmt: skip
    return about | {"readings": out}


def _with_beats(folder: Path) -> dict[str, tuple[NDArray, list[dict]]]:
    """The pieces of the measuring set, each performance with its own beats."""
    out = humans(folder)
    for _, views in out.values():
        for v in views:
            # only the deviation is stored: restore beats at the score's tempo
            v["played_beats"] = np.concatenate(
                [[0.0], np.cumsum(np.exp2(v["beat_period"]) * np.diff(v["score_beats"]))]
            )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--nasap", type=Path, help="the unpacked scores; by default unpacked beside --out")
    parser.add_argument("--set", type=Path, required=True, dest="folder")
    parser.add_argument("--out", type=Path, default=Path("data/expected-v2.pkl"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    nasap = args.nasap
    if nasap is None:
        nasap = args.out.parent / "nasap"
        if not nasap.exists():
            with tarfile.open(args.data / "nasap" / "nasap-scores.tar.xz") as tar:
                tar.extractall(nasap, filter="data")
    folders: dict[str, list[dict]] = defaultdict(list)
    with open(args.data / "nasap" / "metadata.csv") as f:
        for r in csv.DictReader(f):
            folders[r["folder"]].append(r)
    z = np.load(args.data / "aligned" / "nasap-aligned.npz")
    c = {k: z[k] for k in ("label", "pitch", "p_duration", "velocity", "p_onset_diff", "note_ptr", "id")}
    index = {str(k): i for i, k in enumerate(c["id"])}
    views = _with_beats(args.folder)
    with open(args.folder / "index.csv") as f:
        of_set = {str(Path(r["file"]).parent): views[r["piece"]] for r in csv.DictReader(f)}
    tasks = []
    for folder, rows in sorted(folders.items())[: args.limit or None]:
        columns = {}
        for r in rows:
            name = r["midi_performance"][:-4]
            if name in index:
                a = slice(*c["note_ptr"][index[name] : index[name] + 2])
                ok = c["label"][a] != 1
                time = np.cumsum(c["p_onset_diff"][a]) / 960
                played = np.stack([time, c["p_duration"][a] / 960, c["pitch"][a], c["velocity"][a]], 1)[ok]
                columns[name] = played[np.argsort(played[:, 0], kind="stable")]
        tasks.append((folder, rows, nasap, columns, of_set.get(folder)))
    with open(args.folder / "index.csv") as f:
        piece_name = {str(Path(r["file"]).parent): r["piece"] for r in csv.DictReader(f)}
    pieces = []
    with Pool(args.jobs) as pool:
        for found in tqdm(pool.imap(piece_of, tasks), total=len(tasks), file=sys.stderr, mininterval=5):
            if found is not None:
                pieces.append(found | {"set": piece_name.get(found["folder"])})
    with open(args.out, "wb") as out:
        pickle.dump(pieces, out, protocol=5)
    for split in ("train", "validation"):
        p = [q for q in pieces if q["split"] == split]
        count = {r: sum(r in q["readings"] for q in p) for r in READINGS}
        print(f"{split}: {len(p)} pieces, {len({q['work'] for q in p})} works, readings {count}")


if __name__ == "__main__":
    main()
