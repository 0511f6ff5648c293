"""Playing order of the written bars of a score, from the repeats and endings that the sources state.

DCML: the column `next` of the measures tables. Humdrum kern: section labels (`*>A`) and their list (`*>[A,A,B]`).
OpenScore Lieder: repeat signs and endings. An order is used only if its source has as many bars as the pack.
"""

from __future__ import annotations

import csv
import io
import lzma
import re
import tarfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from engine.music.io.playing_order import Signs, playing_order
from engine.tokens.composer_tokens import Bars, Written

MAX_BARS = 2_000  # bars in a playing order; a longer one is an error of the source
ARCHIVES = ("polish-ccby", "chopin-ccby", "craigsapp-ccbyncsa", "dcml-ccbyncsa")


def order_of_measures(table: str) -> list[int]:
    """Playing order of a DCML measures table; [] where `next` leads nowhere.

    The k-th visit of a measure is followed by the k-th number of its `next`, later visits by the last; -1 ends.
    """
    rows = list(csv.DictReader(io.StringIO(table), delimiter="\t"))
    place = {int(r["mc"]): i for i, r in enumerate(rows)}
    following = [[int(v) for v in re.findall(r"-?\d+", r["next"])] for r in rows]
    out, visits, at = [], [0] * len(rows), 0
    while len(out) <= MAX_BARS:
        out.append(at)
        visits[at] += 1
        if not following[at]:
            return out if at == len(rows) - 1 else []
        goto = following[at][min(visits[at], len(following[at])) - 1]
        if goto == -1:
            return out
        if goto not in place:
            return []
        at = place[goto]
    return []


def order_of_kern(text: str) -> tuple[list[int], int]:
    """(playing order, number of bars) of a kern file; [] where it has no list of sections, or a section
    begins within a bar.
    """
    label_of: list[str] = []
    listed: list[str] = []
    label, holds, within = "", False, False
    for line in text.splitlines():
        token = line.split("\t", 1)[0]
        if token.startswith("*>["):
            listed = [v.strip() for v in token[3:].rstrip("]").split(",")]
        elif token.startswith("*>") and "[" not in token:
            label, within = token[2:], within or holds
        elif token.startswith("="):
            if holds:
                label_of.append(label)
            holds = False
        elif line and token[0] not in "*!":
            holds = True
    if holds:
        label_of.append(label)
    return [] if within else _expand(listed, label_of), len(label_of)


def _expand(listed: list[str], label_of: list[str]) -> list[int]:
    bars = defaultdict(list)
    for i, name in enumerate(label_of):
        bars[name].append(i)
    if not listed or set(listed) - set(bars) or set(label_of) - set(listed):
        return []
    return [i for name in listed for i in bars[name]]


def order_of_marks(count: int, marks: list[tuple[int, str, str]], bar_onset: Sequence[int]) -> list[int]:
    """Playing order of `count` bars from (onset, kind, value) of repeat and ending marks; [] where a jump is meant.

    A backward repeat leads to the last forward one, or to the end of the previous repeat. It is taken once, as often as
    its value says (the number of times in all), or once for each ending.
    """
    if any(kind.startswith("jump") and kind != "jump-segno" for _, kind, _ in marks):
        return []
    starts = np.asarray(bar_onset)
    at = {kind: {int(np.searchsorted(starts, o - 1)): v for o, k, v in marks if k == kind} for _, kind, _ in marks}
    stops = sorted({*at.get("ending-stop", {}), *at.get("ending-discontinue", {})})
    bars = [Signs() for _ in range(count)]
    for begin, value in at.get("ending-start", {}).items():
        stop = next((e for e in stops if e > begin), begin + 1)
        for bar in bars[begin:stop]:
            bar.endings = frozenset(int(n) for n in re.findall(r"\d+", value))
    for begin in at.get("repeat-forward", {}):
        if begin < count:
            bars[begin].forward = True
    for end, times in at.get("repeat-backward", {}).items():
        if 0 < end <= count:
            bars[end - 1].backward = int(times) if times.isdigit() else 2
    order = playing_order(bars)
    return order if len(order) <= MAX_BARS else []


def unfold(w: Written, order: Sequence[int]) -> Written:
    """The bars of a written score in the given order; a bar that comes twice has its notes twice."""
    b, order = w.bars, list(order)
    length = b.length[order]
    start = b.start[order[0]] + np.concatenate([[0], np.cumsum(length)[:-1]])
    beats = -(-(length + b.offset[order]) // b.beat[order])
    first = np.concatenate([[0], np.cumsum(beats)[:-1]])
    same = {f.name: getattr(b, f.name)[order] for f in fields(Bars)}
    bars = Bars(**{**same, "start": start, "first": first})
    edge = np.searchsorted(w.bar, np.arange(len(b.start) + 1))
    count = np.diff(edge)[order]
    rows = np.repeat(edge[order], count) + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    moved = np.repeat(start - b.start[order], count)
    taken = {k: getattr(w, k)[rows] for k in ("pitch", "staff", "duration", "source")}
    return replace(w, tick=w.tick[rows] + moved, bar=np.repeat(np.arange(len(order)), count), bars=bars, **taken)


def first_pack_orders(data: Path, counts: dict[str, int]) -> dict[str, list[int]]:
    """Playing orders of the scores of the first pack that are not played as written, by id.

    counts  bars of each score in the pack, by id
    """
    out = {}
    for name in ARCHIVES:
        with tarfile.open(data / "scores" / f"scores-{name}.tar.xz") as archive:
            for member in archive:
                id = member.name.removeprefix("./").replace("/measures/", "/notes/").replace(".measures.", ".notes.")
                if id not in counts or not member.name.endswith((".krn", ".measures.tsv")):
                    continue
                text = archive.extractfile(member).read().decode("utf-8", "replace")  # type: ignore[union-attr]
                if member.name.endswith(".krn"):
                    order, bars = order_of_kern(text)
                else:
                    order, bars = order_of_measures(text), text.rstrip("\n").count("\n")
                if bars == counts[id] and order and order != list(range(bars)):
                    out[id] = order
    return out


def lieder_orders(marks: Path, pack_columns: dict) -> dict[str, list[int]]:
    """Playing orders of the songs that have repeats, by id."""
    found = defaultdict(set)
    with lzma.open(marks, "rt", encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f, delimiter="\t"):
            if row["kind"].startswith(("repeat-", "ending-", "jump-")):
                found[int(row["song"])].add((int(row["onset"]), row["kind"], row["value"]))
    out = {}
    for song, rows in found.items():
        bars = slice(*pack_columns["bar_ptr"][song : song + 2])
        order = order_of_marks(bars.stop - bars.start, sorted(rows), pack_columns["bar_onset"][bars])
        if order and order != list(range(bars.stop - bars.start)):
            out[str(pack_columns["id"][song])] = order
    return out
