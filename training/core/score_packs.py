"""Reader of the packs of scores, `*-compact.npz`, and choice of training scores from the second folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.tokens.composer_tokens import Written, make_bars, make_written
from training.core.corpora import QUARTER
from training.core.playing_order import first_pack_orders, lieder_orders, unfold

MAX_STAFF_GAP = 4.0  # quarters between the ends of the two staves of a Mutopia score
LEFT_OUT = "arrangement"  # style of Mutopia that is excluded: reductions of opera, orchestra and march music


@dataclass(frozen=True)
class PackedScore:
    """One score with its metadata.

    source         nasap, scores, pianocore, mutopia or lieder
    tempo          performed tempo, quarters a minute; 0 unknown
    accompaniment  whether this is the piano part of a song, whose melody may be in the missing voice
    order          playing order of the written bars; () if it is the written order, or unknown
    unfolded       whether `written` follows that order
    phrase_end     (m,) whether a phrase ends in each bar; () unknown
    cadence        (m,) class of the last cadence of each bar: 0 none, 1 PAC, 2 HC, 3 another; () unknown
    """

    id: str
    work: str
    composer: str
    split: str
    source: str
    written: Written
    licence: str = ""
    tempo: float = 0.0
    accompaniment: bool = False
    order: tuple[int, ...] = ()
    unfolded: bool = False
    phrase_end: tuple[bool, ...] = ()
    cadence: tuple[int, ...] = ()


class ScorePack:
    """One `*-compact.npz`: score i by `written(i)`, in written order."""

    def __init__(self, path: str | Path):
        with np.load(path) as z:
            self.columns = {k: z[k] for k in z.files}

    def __len__(self) -> int:
        return len(self.columns["id"])

    def rows(self, i: int, kind: str) -> slice:
        """The rows of score i among the notes ("note"), bars ("bar") or key signatures ("key")."""
        return slice(*self.columns[f"{kind}_ptr"][i : i + 2])

    def bars(self, i: int) -> dict[str, NDArray]:
        """Barlines of score i in quarters: onset, length, pickup (quarters missing before it), num, den, fifths.

        Bars without length are left out; `index` has the pack's numbers of the others.
        """
        c, rows, keys = self.columns, self.rows(i, "bar"), self.rows(i, "key")
        onset = c["bar_onset"][rows] / QUARTER
        index = np.flatnonzero(np.concatenate([np.diff(onset) > 1e-6, [True]]))
        num = np.maximum(c["bar_ts_num"][rows].astype(int)[index], 1)
        den = np.maximum(c["bar_ts_den"][rows].astype(int)[index], 1)
        onset, nominal = onset[index], 4.0 * num / den
        length = np.append(np.diff(onset), nominal[-1])
        pickup = np.zeros(len(onset))
        if len(onset) > 1 and length[0] < nominal[0]:
            pickup[0] = nominal[0] - length[0]
        fifths = np.zeros(len(onset), int)
        for at, value in zip(c["key_onset"][keys] / QUARTER, c["key_fifths"][keys], strict=True):
            fifths[onset >= at - 1e-6] = value
        return {
            "onset": onset, "length": length, "pickup": pickup, "num": num, "den": den, "fifths": fifths,
            "index": index,
        }  # fmt: skip

    def piano(self, i: int) -> NDArray[np.int64]:
        """The rows of the piano's notes of score i; a singer's staff 0 is left out."""
        rows = np.arange(*self.columns["note_ptr"][i : i + 2])
        of_song = str(self.columns["id"][i]).startswith("lieder/")
        return rows[self.columns["staff"][rows] > 0] if of_song else rows

    def written(self, i: int) -> Written:
        """The piano's notes of score i on the Composer's grid."""
        c, b, rows = self.columns, self.bars(i), self.piano(i)
        bars = make_bars(b["onset"], b["length"], b["pickup"], b["num"], b["den"], b["fifths"])
        return make_written(
            c["onset"][rows] / QUARTER, c["duration"][rows] / QUARTER, c["pitch"][rows], c["staff"][rows],
            c["grace"][rows] > 0, bars,
        )  # fmt: skip

    def bar_counts(self) -> dict[str, int]:
        """Bars of each score, by id."""
        return dict(zip(map(str, self.columns["id"]), np.diff(self.columns["bar_ptr"]).tolist(), strict=True))

    def item(self, i: int, source: str, orders: dict[str, list[int]] | None = None) -> PackedScore:
        """Score i with its facts; `orders` are playing orders of the pack's bars by id."""
        facts = {k: str(self.columns[k][i]) for k in ("id", "work", "composer", "split", "licence")}
        order = (orders or {}).get(facts["id"], [])
        kept = {int(bar): k for k, bar in enumerate(self.bars(i)["index"])} if order else {}
        return PackedScore(
            **facts, source=source, written=self.written(i), accompaniment=source == "lieder",
            order=tuple(kept[bar] for bar in order if bar in kept),
        )  # fmt: skip


def index_of(path: Path) -> dict[str, dict[str, str]]:
    """An index.csv by the id of the score."""
    with path.open(encoding="utf-8", newline="") as f:
        return {row["id"]: row for row in csv.DictReader(f)}


def played(items: Iterable[PackedScore]) -> Iterator[PackedScore]:
    """Each score as written; a training score with known repeats also as played."""
    for item in items:
        yield item
        if item.order and item.split == "train":
            ends, cadence = (tuple(v[k] for k in item.order) if v else () for v in (item.phrase_end, item.cadence))
            written = unfold(item.written, item.order)
            yield replace(item, written=written, unfolded=True, phrase_end=ends, cadence=cadence)


def first_pack(data: Path) -> Iterator[PackedScore]:
    """Every score of scores-compact.npz."""
    pack = ScorePack(data / "scores" / "scores-compact.npz")
    orders = first_pack_orders(data, pack.bar_counts())
    return (pack.item(i, "scores", orders) for i in range(len(pack)))


def second_pack(data: Path) -> Iterator[PackedScore]:
    """The scores that the second folder adds."""
    for pack, source, rows in chosen(data):
        orders = lieder_orders(data / "lieder-marks.tsv.xz", pack.columns) if source == "lieder" else None
        yield from (pack.item(i, source, orders) for i in rows)


def chosen(data: Path) -> Iterator[tuple[ScorePack, str, list[int]]]:
    """(pack, source, rows to use): new works of PianoCoRe (classical) and Mutopia, and the piano parts of songs.

    If a work is in both, the edition of Mutopia is used. Scores of Mutopia that LilyPond read with an error, scores
    with an incomplete staff, and piano reductions are left out.
    """
    pianocore, mutopia = (ScorePack(data / f"{name}-compact.npz") for name in ("pianocore", "mutopia"))
    of_pianocore, of_mutopia = (index_of(data / f"{name}-index.csv") for name in ("pianocore", "mutopia"))
    wanted = {
        id: row["work"]
        for id, row in of_pianocore.items()
        if row["use"] in ("train", "validation") and row["genre"] == "classical"
    }
    works = set(wanted.values())
    better, taken = set(), []
    for i, id in enumerate(mutopia.columns["id"]):
        row = of_mutopia[str(id)]
        sound = row["syntax_errors"] == "0" and float(row["staff_end_gap"]) <= MAX_STAFF_GAP and row["kind"] != LEFT_OUT
        replaces = row["use"] == "pianocore" and row["work"] in works
        if sound and (row["use"] == "new" or replaces):
            better |= {row["work"]} if replaces else set()
            taken.append(i)
    yield mutopia, "mutopia", taken
    ids = enumerate(map(str, pianocore.columns["id"]))
    yield pianocore, "pianocore", [i for i, id in ids if id in wanted and wanted[id] not in better]
    songs = ScorePack(data / "lieder-compact.npz")
    yield songs, "lieder", list(range(len(songs)))
