"""Training examples of the Composer: windows of scores, many of them with a passage to be infilled."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.models.composer.composer import CONTEXT, NOTE, PAD, PLANNED_CONDITION_SIZES, START, STEP_COLUMNS
from engine.models.composer.conditions import COMPOSERS, PERIODS, density_class, tempo_class
from engine.models.composer.inputs import GAP_COLUMN, HAND_COLUMN, gap_class, plan_inputs, step_columns
from engine.tokens.composer_tokens import (
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
)
from engine.tokens.plan import Plan, plan_classes

SOURCE_SHARE = {"nasap": 0.18, "scores": 0.54, "pianocore": 0.1, "mutopia": 0.08, "lieder": 0.1}  # those a pack has
GAP_SHARE = 0.4
CONDITION_DROP = (0.25, 0.15, 0.15, 0.3, 0.25, 0.2, 0.3)
PLAN_DROP, BAR_DROP, LABEL_DROP = 0.3, 0.2, 0.4
OCTAVE_SHARE, ONE_HAND_SHARE = 0.1, 0.05
_BAR_KEYS = ("start", "length", "beat", "first", "meter", "fifths", "offset")


@dataclass(frozen=True)
class ScorePiece:
    """One score of the pack with its metadata."""

    written: Written
    composer: str
    period: str
    tempo: float
    work: str
    source: str
    plan: NDArray[np.int64]
    lag: NDArray[np.int64]
    genre: int = 0
    accompaniment: bool = False


def _read_plan(c: dict[str, NDArray], bars: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(plan classes (m, 5), lag (m,)) of one piece; open where the pack has no such column."""
    size = bars.stop - bars.start
    if "bar_lag" not in c:
        return Plan.open(size).classes(), np.zeros(size, np.int64)
    lag = c["bar_lag"][bars].astype(np.int64)
    phrase, cadence = c["bar_phrase_end"][bars].astype(np.int64), c["bar_cadence"][bars].astype(np.int64)
    labelled = bool(phrase.any())
    unknown = np.full(size, -1)
    plan = plan_classes(
        lag, c["bar_likeness"][bars] / 255, c["bar_transpose"][bars].astype(np.int64),
        phrase if labelled else unknown, cadence if labelled else unknown,
    )  # fmt: skip
    return plan, lag


def read_pieces(path: Path, split: str, limit: int = 0) -> list[ScorePiece]:
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
        plan, lag = _read_plan(c, bars)
        more = {k: c[k][i].item() for k in ("genre", "accompaniment") if k in c}
        out.append(ScorePiece(written, tempo=float(c["tempo"][i]), plan=plan, lag=lag, **facts, **more))
    return out[:limit] if limit else out


def piece_weights(pieces: list[ScorePiece]) -> NDArray[np.float64]:
    """Sampling weight of each piece: by source, then by work (its size to the 0.7), shared among its editions."""
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


def example(
    p: ScorePiece,
    rng: np.random.Generator,
    window: int,
    gap_share: float,
    keep: bool,
    rows: NDArray[np.int64] | None = None,
) -> dict[str, NDArray]:
    """One training example of at most `window` steps; `keep` keeps all conditions and the plan (validation).

    rows  indices of its notes, at most `window` - 2; None for random ones
    """
    w = p.written
    if rows is None:
        rows = _window(w, rng, window)
    ended, first = rows[-1] == len(w) - 1, rows[0]
    fifths = int(w.bars.fifths[w.bar[first]])
    shift = key_shift(fifths)
    only = 0
    if not keep:
        shift += _octave_shift(w.pitch[rows] + shift, rng)
        rows, only = _one_hand(w, rows, rng)
    middle, context, prefix, gap_end, hand = rows, rows[:0], 0, 0, 0
    if rng.random() < gap_share and len(rows) > 48 and not only:
        begin, stop = _passage(w, rows, rng)
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
    elif only:
        steps[:, HAND_COLUMN] = only
    seen = step_columns(w, context, CONTEXT, fifths, shift)
    bar = np.concatenate([w.bar[context], [bar0], w.bar[middle]])
    steps = np.concatenate([seen, steps])
    plan, lag = p.plan, p.lag
    if not keep:
        plan, lag = drop_plan(plan, lag, rng)
    out = plan_inputs(plan, lag, bar, w.bars.length + w.bars.offset, steps[:, 4])
    out["bar"][len(seen)] = -1  # the start is no note
    return out | {
        "steps": steps,
        "quarter": np.concatenate([w.tick[context] / TICKS_PER_QUARTER, quarter]) - quarter[0],
        "conditions": np.repeat(_conditions(p, rows, shift, rng, keep)[None], len(steps), axis=0),
        "target": np.concatenate([np.zeros((len(seen), 5), np.int64), target]),
        "known": np.concatenate([np.zeros(len(seen), bool), known]),
    }


def _window(w: Written, rng: np.random.Generator, window: int) -> NDArray[np.int64]:
    """Rows of at most window - 2 notes from the start of a random bar, with a preference for the piece's ends."""
    n = len(w)
    starts = np.flatnonzero(np.diff(w.bar, prepend=-1) > 0)
    first = 0 if rng.random() < 0.15 else int(starts[rng.integers(len(starts))])
    if n - first < window // 2:
        back = starts[starts <= max(n - window + 2, 0)]
        first = int(back[-1]) if len(back) and rng.random() < 0.7 else first
    return np.arange(first, min(first + window - 2, n))


def _octave_shift(pitch: NDArray, rng: np.random.Generator) -> int:
    """Semitones of augmentation: at random an octave up or down, if all notes stay on the keyboard."""
    if rng.random() >= OCTAVE_SHARE:
        return 0
    shift = int(rng.choice([-12, 12]))
    return shift if pitch.min() + shift >= 21 and pitch.max() + shift <= 108 else 0


def _one_hand(w: Written, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], int]:
    """At random the notes of one staff only: (rows, 0 both, 1 upper, 2 lower staff)."""
    if rng.random() >= ONE_HAND_SHARE:
        return rows, 0
    hand = int(rng.integers(2))
    mine = rows[w.staff[rows] == hand]
    return (mine, hand + 1) if len(mine) > 24 else (rows, 0)


def _passage(w: Written, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[int, int]:
    """First beat, and beat after the last, of a passage to infill: usually whole bars."""
    if rng.random() < 0.7:
        bar = w.bar[rows[rng.integers(len(rows))]]
        last = min(bar + int(rng.choice([1, 1, 1, 2, 2, 3, 4, 4, 6, 8])), len(w.bars.first))
        stop = int(w.bars.first[last]) if last < len(w.bars.first) else int(w.beat[-1]) + 1
        return int(w.bars.first[bar]), stop
    begin = int(w.beat[rows[rng.integers(len(rows))]])
    return begin, begin + int(rng.integers(1, 17))


def _conditions(
    p: ScorePiece, rows: NDArray[np.int64], shift: int, rng: np.random.Generator, keep: bool
) -> NDArray[np.int64]:
    """(7,) condition classes of the notes `rows`; unless `keep`, each is left open at random."""
    w = p.written
    span = max(float(np.ptp(w.tick[rows])) / TICKS_PER_QUARTER, 1.0)
    minor = is_minor(w.pitch[rows] + shift, NOTE_TICKS[w.duration[rows]])
    out = np.array([
        1 + COMPOSERS.index(p.composer) if p.composer else 0, 1 + PERIODS.index(p.period) if p.period else 0,
        1 + minor, tempo_class(p.tempo), density_class(len(rows) / span), p.genre, 1 + p.accompaniment,
    ])  # fmt: skip
    if not keep:
        out[rng.random(len(out)) < (1.0 if rng.random() < 0.05 else np.array(CONDITION_DROP))] = 0
        if p.accompaniment:
            out[-1] = 2  # always set, so that an open condition means piano solo
    return out


def drop_plan(
    plan: NDArray[np.int64], lag: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Leave the plan open at random: all of it, single bars, or the phrases and cadences."""
    plan, lag = plan.copy(), lag.copy()
    if rng.random() < PLAN_DROP:
        plan[:], lag[:] = 0, 0
        return plan, lag
    if rng.random() < LABEL_DROP:
        plan[:, 3:] = 0
    bars = rng.random(len(plan)) < BAR_DROP * rng.random() * 2
    plan[bars], lag[bars] = 0, 0
    return plan, lag


_COLUMNS = {  # of a row of steps: (shape of a step, type, padding)
    "steps": ((len(STEP_COLUMNS),), np.int64, PAD), "quarter": ((), np.float32, 0),
    "conditions": ((len(PLANNED_CONDITION_SIZES),), np.int64, 0), "target": ((5,), np.int64, 0),
    "known": ((), bool, False), "plan": ((10,), np.int64, 0), "bar": ((), np.int64, -1),
    "target_bar": ((2,), np.int64, -2), "time": ((2,), np.float32, 0), "segment": ((), np.int64, -1),
    "index": ((), np.int64, 0),
}  # fmt: skip
_MIN_ROOM = 96  # free steps of a row that are needed for another example
_BARS_APART = 100_000  # offset between the bar numbers of the examples in one row


def make_batch(
    pieces: list[ScorePiece], weights: NDArray, rng: np.random.Generator, size: int, window: int,
    gap_share: float = GAP_SHARE, keep: bool = False,
) -> dict[str, Tensor]:  # fmt: skip
    """`size` rows of exactly `window` steps, each filled with one example or several short ones.

    steps (B, T, 12), quarter (B, T), conditions (B, T, 7), target (B, T, 5), known (B, T): whether the target counts;
    plan (B, T, 10), bar (B, T), target_bar (B, T, 2), time (B, T, 2): see `engine.models.composer.inputs.plan_inputs`;
    segment (B, T): which example of the row; index (B, T): the step's place in its example.
    """
    out = {k: np.full((size, window, *shape), fill, kind) for k, (shape, kind, fill) in _COLUMNS.items()}
    for i in range(size):
        at = segment = 0
        while window - at >= min(_MIN_ROOM, window):
            e = example(pieces[rng.choice(len(pieces), p=weights)], rng, window - at, gap_share, keep)
            apart = segment * _BARS_APART
            e["bar"] = np.where(e["bar"] >= 0, e["bar"] + apart, e["bar"])
            e["target_bar"] = np.where(e["target_bar"] >= 0, e["target_bar"] + apart, e["target_bar"])
            here = slice(at, at + len(e["quarter"]))
            for k, v in e.items():
                out[k][i, here] = v
            out["segment"][i, here], out["index"][i, here] = segment, np.arange(here.stop - at)
            at, segment = here.stop, segment + 1
            if keep:
                break
    return {k: torch.from_numpy(v) for k, v in out.items()}
