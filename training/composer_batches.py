"""Training examples of the Composer: windows of scores, many of them with a passage taken out, to be written again."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.models.composer import CONTEXT, NOTE, PAD, START, STEP_COLUMNS
from engine.models.conditions import COMPOSERS, PERIODS, density_class, tempo_class
from engine.models.steps import GAP_COLUMN, HAND_COLUMN, gap_class, step_columns
from engine.tokens.writing import (
    ADVANCE,
    FIELD_NAMES,
    MAX_ADVANCE,
    NOTE_TICKS,
    STOP,
    TICKS_PER_QUARTER,
    Bars,
    Written,
    is_minor,
    key_shift,
)  # fmt: skip

SOURCE_SHARE = {"nasap": 0.18, "scores": 0.54, "pianocore": 0.1, "mutopia": 0.08, "lieder": 0.1}  # those a pack has
GAP_SHARE = 0.4
CONDITION_DROP = (0.25, 0.15, 0.15, 0.3, 0.25)
_BAR_KEYS = ("start", "length", "beat", "first", "meter", "fifths", "offset")


@dataclass(frozen=True)
class Piece:
    """One score of the pack with what is known of it."""

    written: Written
    composer: str
    period: str
    tempo: float
    work: str
    source: str


def read_pieces(path: Path, split: str, limit: int = 0) -> list[Piece]:
    """The pack's scores of one split."""
    with np.load(path) as z:
        c = {k: z[k] for k in z.files}
    tick = np.cumsum(c["tick"].astype(np.int64))  # the pack holds differences
    out = []
    for i in np.flatnonzero(c["split"] == split):
        rows, bars = slice(*c["note_ptr"][i : i + 2]), slice(*c["bar_ptr"][i : i + 2])
        n = int(np.diff(c["note_ptr"][i : i + 2])[0])
        columns = {k: c[k][rows].astype(np.int64) for k in ("pitch", "staff", "duration", "bar")}
        made = Bars(**{k: c[f"bar_{k}"][bars].astype(np.int64) for k in _BAR_KEYS})
        written = Written(tick[rows], source=np.arange(n), bars=made, **columns)
        facts = {k: str(c[k][i]) for k in ("composer", "period", "work", "source")}
        out.append(Piece(written, tempo=float(c["tempo"][i]), **facts))
    return out[:limit] if limit else out


def piece_weights(pieces: list[Piece]) -> NDArray[np.float64]:
    """How often each piece is drawn: by source, then by work (its size to the 0.7), shared among its editions."""
    by_work = defaultdict(list)
    for i, p in enumerate(pieces):
        by_work[p.source, p.work].append(i)
    weight = np.zeros(len(pieces))
    for rows in by_work.values():
        size = np.mean([len(pieces[i].written) for i in rows]) ** 0.7
        weight[rows] = size / len(rows)
    for source, share in SOURCE_SHARE.items():
        mine = np.array([p.source == source for p in pieces])
        if mine.any():
            weight[mine] *= share / weight[mine].sum()
    return weight / weight.sum()


def example(p: Piece, rng: np.random.Generator, window: int, gap_share: float, keep: bool) -> dict[str, NDArray]:
    """One training example of at most `window` steps; `keep` keeps all conditions (validation)."""
    w = p.written
    n = len(w)
    starts = np.flatnonzero(np.diff(w.bar, prepend=-1) > 0)
    first = 0 if rng.random() < 0.15 else int(starts[rng.integers(len(starts))])
    if n - first < window // 2:
        back = starts[starts <= max(n - window + 2, 0)]
        first = int(back[-1]) if len(back) and rng.random() < 0.7 else first
    rows = np.arange(first, min(first + window - 2, n))
    ended = rows[-1] == n - 1
    fifths = int(w.bars.fifths[w.bar[first]])
    shift = key_shift(fifths)
    middle, context, prefix, gap_end, hand = rows, rows[:0], 0, 0, 0
    if rng.random() < gap_share and len(rows) > 48:
        begin = int(w.beat[rows[rng.integers(len(rows))]])
        bars_wide = rng.random() < 0.7
        if bars_wide:
            bar = w.bar[rows[rng.integers(len(rows))]]
            begin = int(w.bars.first[bar])
            last = min(bar + int(rng.choice([1, 1, 1, 2, 2, 3, 4, 4, 6, 8])), len(w.bars.first))
            stop = int(w.bars.first[last]) if last < len(w.bars.first) else int(w.beat[-1]) + 1
        else:
            stop = begin + int(rng.integers(1, 17))
        hand = int(rng.choice([0, 0, 1, 2]))
        beat = w.beat[rows]
        inside = (beat >= begin) & (beat < stop)
        taken = inside & ((w.staff[rows] == hand - 1) if hand else True)
        if taken.any() and taken.sum() < len(rows) - 8:
            context = rows[(beat >= begin) & ~taken]
            middle = np.concatenate([rows[beat < begin], rows[taken]])
            prefix, gap_end = int((beat < begin).sum()), stop
        else:
            hand = 0
    steps = np.zeros((len(middle) + 1, len(STEP_COLUMNS)), np.int64)
    steps[1:] = step_columns(w, middle, NOTE, fifths, shift)
    bar0 = int(w.bar[first])
    steps[0] = step_columns(w, rows[:1], START, fifths, shift)[0]
    steps[0, 1:5] = 0
    start_beat = int(w.bars.first[bar0])
    beats = np.concatenate([[start_beat], w.beat[middle]])
    quarter = np.concatenate([[w.bars.start[bar0] - w.bars.offset[bar0]], w.tick[middle]]) / TICKS_PER_QUARTER
    target = np.zeros((len(middle) + 1, len(FIELD_NAMES)), np.int64)
    target[:-1, 0] = np.clip(np.diff(beats), 0, MAX_ADVANCE)
    target[:-1, 1], target[:-1, 2] = w.position[middle], w.staff[middle]
    target[:-1, 3], target[:-1, 4] = steps[1:, 1], w.duration[middle]
    known = np.ones(len(middle) + 1, bool)
    target[-1, ADVANCE] = STOP
    known[-1] = bool(gap_end) or ended
    if gap_end:
        from_here = np.arange(prefix, len(middle) + 1)
        steps[from_here, GAP_COLUMN] = gap_class(gap_end - beats[from_here])
        steps[from_here, HAND_COLUMN] = hand
    seen = step_columns(w, context, CONTEXT, fifths, shift)
    span = max(float(np.ptp(w.tick[rows])) / TICKS_PER_QUARTER, 1.0)
    minor = is_minor(w.pitch[rows] + shift, NOTE_TICKS[w.duration[rows]])
    conditions = np.array([
        1 + COMPOSERS.index(p.composer) if p.composer else 0, 1 + PERIODS.index(p.period) if p.period else 0,
        1 + minor, tempo_class(p.tempo), density_class(len(rows) / span),
    ])  # fmt: skip
    if not keep:
        conditions[rng.random(len(conditions)) < (1.0 if rng.random() < 0.05 else np.array(CONDITION_DROP))] = 0
    return {
        "steps": np.concatenate([seen, steps]),
        "quarter": np.concatenate([w.tick[context] / TICKS_PER_QUARTER, quarter]) - quarter[0],
        "conditions": conditions,
        "target": np.concatenate([np.zeros((len(seen), 5), np.int64), target]),
        "known": np.concatenate([np.zeros(len(seen), bool), known]),
    }


def make_batch(
    pieces: list[Piece], weights: NDArray, rng: np.random.Generator, size: int, window: int,
    gap_share: float = GAP_SHARE, keep: bool = False,
) -> dict[str, Tensor]:  # fmt: skip
    """Examples stacked, padded at the end: steps (B, T, 12), quarter (B, T), conditions (B, 5), target (B, T, 5),
    known (B, T): whether the target counts.
    """
    found = [example(pieces[rng.choice(len(pieces), p=weights)], rng, window, gap_share, keep) for _ in range(size)]
    longest = max(len(e["quarter"]) for e in found)
    out = {
        "steps": np.full((size, longest, len(STEP_COLUMNS)), PAD, np.int64),
        "quarter": np.zeros((size, longest), np.float32),
        "conditions": np.stack([e["conditions"] for e in found]),
        "target": np.zeros((size, longest, 5), np.int64),
        "known": np.zeros((size, longest), bool),
    }
    for i, e in enumerate(found):
        for k in ("steps", "quarter", "target", "known"):
            out[k][i, : len(e[k])] = e[k]
    return {k: torch.from_numpy(v) for k, v in out.items()}
