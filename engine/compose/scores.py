"""Scores made of sampled notes: a new score, or new notes merged into an existing one; bars and their grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.models.composer.conditions import key_name
from engine.music.edition import COMPOSED
from engine.music.engraving.hands import too_wide, within_reach
from engine.music.engraving.lengths import plain_lengths
from engine.music.engraving.spelling import spell, within_key
from engine.music.keys import in_minor
from engine.music.types import MARK_NAMES, Marks, Measures, Score
from engine.tokens.composer_tokens import NOTE_TICKS, TICKS_PER_QUARTER, Bars, make_bars

_IN_FORCE = [MARK_NAMES.index(k) for k in ("written_velocity", "tempo_bpm", "tempo_word")]


def make_measures(onset: float, count: int, num: int, den: int, fifths: int, number: int) -> Measures:
    """`count` equal bars from `onset` (quarters) on; the first has the printed number `number`."""
    length, one = 4.0 * num / den, np.ones(count, int)
    return Measures(
        onset + length * np.arange(count), length * one, 0.0 * one, num * one, den * one, fifths * one,
        number + np.arange(count),
    )  # fmt: skip


def slice_measures(m: Measures, a: int, b: int) -> Measures:
    return Measures(*(getattr(m, k)[a:b] for k in m.__dataclass_fields__))


def join_measures(a: Measures, b: Measures) -> Measures:
    return Measures(*(np.concatenate([getattr(a, k), getattr(b, k)]) for k in a.__dataclass_fields__))


def make_grid(m: Measures) -> Bars:
    """Barlines on the tick grid."""
    return make_bars(m.onset_quarter, m.duration_quarter, m.position_quarter, m.ts_num, m.ts_den, m.fifths)


def quarters_of(tick: NDArray, m: Measures) -> NDArray[np.float64]:
    """Ticks as quarters, counted from their own barline, which need not stand on a tick."""
    start = np.round(m.onset_quarter * TICKS_PER_QUARTER)
    bar = np.clip(np.searchsorted(start, tick, side="right") - 1, 0, None)
    return m.onset_quarter[bar] + (tick - start[bar]) / TICKS_PER_QUARTER


def _lengths(tick: NDArray, pitch: NDArray, duration: NDArray, end: NDArray, others: NDArray) -> NDArray[np.float64]:
    """Durations in ticks: to the next stroke of the same key at most (`others` (2, k): tick, pitch), and to `end`."""
    length = np.minimum(NOTE_TICKS[duration].astype(float), np.maximum(end - tick, 1))
    at, key = np.concatenate([tick, others[0]]), np.concatenate([pitch, others[1]])
    for i in range(len(tick)):
        later = at[(key == pitch[i]) & (at > tick[i])]
        if len(later):
            length[i] = min(length[i], later.min() - tick[i])
    return length


def new_score(
    rows: NDArray[np.int64], m: Measures, tempo: float, about: str, exact: bool = False, tidy: bool = True
) -> Score:
    """A Score of its own: cut after the last bar that has notes, a short start turned into a pickup.

    exact  keep all bars of `m` as they are
    tidy   write lengths as a person would; without, they are the Composer's own (for measurements)

    Chords that one hand could not span are divided between the hands, or rolled.
    """
    tick, pitch, staff, duration = rows.T
    if not exact:
        last = int(np.searchsorted(m.onset_quarter * TICKS_PER_QUARTER, tick.max(), side="right"))
        empty = int(np.searchsorted(m.onset_quarter * TICKS_PER_QUARTER, tick.min(), side="right")) - 1
        m = slice_measures(m, empty, last)  # bars of rest before the first note are left out
        start = float(m.onset_quarter[0])
        m = replace(m, onset_quarter=m.onset_quarter - start, number=np.arange(1, len(m) + 1))
        tick = tick - round(start * TICKS_PER_QUARTER)
    onset = tick / TICKS_PER_QUARTER
    end = np.full(len(tick), m.end_quarter * TICKS_PER_QUARTER)
    length = _lengths(tick, pitch, duration, end, np.zeros((2, 0))) / TICKS_PER_QUARTER
    whole, lead = float(m.duration_quarter[0]), float(np.floor(onset.min() * 2) / 2)
    if len(m) > 1 and lead >= whole / 2 and not exact:
        position, first = np.array(m.position_quarter), np.array(m.onset_quarter) - whole
        duration_quarter = np.array(m.duration_quarter)
        position[0], first[0], duration_quarter[0] = lead, lead - whole, whole - lead
        number = np.arange(len(m))
        m = replace(m, onset_quarter=first, duration_quarter=duration_quarter, position_quarter=position, number=number)
        onset = onset - whole
    staff = within_reach(onset, length, pitch, staff + 1)
    if tidy:
        bar = np.searchsorted(m.onset_quarter, onset + 1e-6, side="right") - 1
        length = plain_lengths(onset, length, pitch, staff, (m.onset_quarter + m.duration_quarter)[bar])
    fifths = int(m.fifths[0])
    marks = np.zeros((len(tick), len(MARK_NAMES)), np.int16)
    marks[:, MARK_NAMES.index("tempo_bpm")] = round(tempo)
    marks[:, MARK_NAMES.index("arpeggio")] = too_wide(onset, pitch, staff)
    made = Score(
        onset, length, pitch, within_key(spell(pitch, fifths), fifths), staff, np.zeros(len(tick)),
        np.zeros(len(tick), bool), Marks(marks), m, "", f"{COMPOSED}, {about}" if about else COMPOSED, tempo,
    )  # fmt: skip
    return replace(made, title=f"Composition in {key_name(int(m.fifths[0]), in_minor(made))}")


def merge_notes(
    score: Score, keep: NDArray[np.bool_], rows: NDArray[np.int64], m: Measures, exact: bool = False
) -> Score:
    """The kept notes of a score with new ones among them; bars after the last note are cut off without `exact`."""
    tick, pitch, staff, duration = rows.T
    last = float((score.onset_quarter + score.duration_quarter)[keep].max(initial=0.0))
    if len(tick):
        last = max(last, float(tick.max()) / TICKS_PER_QUARTER + 1e-6)
    if not exact:
        bars = max(int(np.searchsorted(m.onset_quarter, last - 1e-9, side="left")), len(score.measures))
        m = slice_measures(m, 0, bars)
    onset = quarters_of(tick, m)
    kept_at = np.stack([score.onset_quarter[keep] * TICKS_PER_QUARTER, score.pitch[keep]])
    end = np.full(len(tick), m.end_quarter * TICKS_PER_QUARTER)
    length = _lengths(tick, pitch, duration, end, kept_at) / TICKS_PER_QUARTER
    n = len(tick)
    before = np.clip(np.searchsorted(score.onset_quarter, onset, side="right") - 1, 0, len(score) - 1)
    marks = np.zeros((n, len(MARK_NAMES)), np.int16)
    marks[:, _IN_FORCE] = score.marks.table[before][:, _IN_FORCE]
    new = (onset, length, pitch, np.zeros(n, np.int8), staff + 1, np.zeros(n, np.int16), np.zeros(n, bool))
    names = ("onset_quarter", "duration_quarter", "pitch", "spelling", "staff", "voice", "grace")
    joined = {k: np.concatenate([getattr(score, k)[keep], v]) for k, v in zip(names, new, strict=True)}
    fresh = np.concatenate([np.zeros(keep.sum(), bool), np.ones(n, bool)])
    # kept notes keep their order; at one onset the new ones follow by pitch
    order = np.lexsort((np.where(fresh, joined["pitch"], -1), fresh, joined["onset_quarter"]))
    order = _by_pitch_where_free(order, joined, fresh)
    joined = {k: v[order] for k, v in joined.items()}
    fresh = fresh[order]
    fifths = int(m.fifths[0])
    joined["spelling"] = np.where(fresh, spell(joined["pitch"], fifths), joined["spelling"])
    table = np.concatenate([score.marks.table[keep], marks])[order]
    return replace(score, **joined, marks=Marks(table), measures=m)


def _by_pitch_where_free(order: NDArray, joined: dict[str, NDArray], fresh: NDArray) -> NDArray:
    """Sort chords by pitch wherever their kept notes already stand that way, so that (onset, pitch) order holds."""
    onset, pitch = joined["onset_quarter"][order], joined["pitch"][order].astype(int)
    grace, new = joined["grace"][order], fresh[order]
    edges = np.flatnonzero(np.diff(onset, prepend=-np.inf) > 0)
    for a, b in zip(edges, [*edges[1:], len(order)], strict=True):
        old = ~new[a:b]
        if new[a:b].any() and old.any() and not grace[a:b].any() and (np.diff(pitch[a:b][old]) >= 0).all():
            order[a:b] = order[a:b][np.argsort(pitch[a:b], kind="stable")]
    return order
