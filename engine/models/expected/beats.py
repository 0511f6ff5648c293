"""Beat features of a score: 136 numbers for the tempo network.

Groups, by the part of a name before "_": texture, pitch, metre, place, mark (note by note signs), form (likeness of
bars), border (gaps, leaps), page (signs between the notes). For a plain MIDI the groups mark and page are zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.music.expression import beat_positions
from engine.music.types import EVENT_NAMES, Score

_CLOSE = 0.02  # quarters: tolerance for onsets before a beat
PAGE_KINDS = EVENT_NAMES[:16]  # without pedal marks
MARK_GROUPS = ("mark", "page")
_DEFAULT_QPM = 90.0  # quarters a minute without a tempo mark
_QPM_OF_WORD = (
    _DEFAULT_QPM,
    50.0,
    60.0,
    76.0,
    96.0,
    126.0,
    160.0,
)  # by class of the tempo word, `in_force.TEMPO_WORDS`


@dataclass(frozen=True)
class BeatGrid:
    """The beats of a score.

    quarter  (n + 1,) quarters of each beat and of the end, ascending
    seconds  (n + 1,) the same by the written tempo
    down     (n,) bool: a bar begins here
    """

    quarter: NDArray[np.float64]
    seconds: NDArray[np.float64]
    down: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.quarter) - 1

    def beat_of(self, onset_quarter: NDArray) -> NDArray[np.int64]:
        """Index of the beat in which each onset falls."""
        return np.clip(np.searchsorted(self.quarter, onset_quarter + _CLOSE, side="right") - 1, 0, len(self) - 1)


def beat_grid(score: Score) -> BeatGrid:
    """Beats from the first bar's first beat to the end of the last bar; two at least."""
    m = score.measures
    end = max(m.end_quarter, float((score.onset_quarter + score.duration_quarter).max()))
    found = beat_positions(score)
    quarter = np.append(found[found < end - 1e-3], end)
    if len(quarter) < 2:
        quarter = np.array([end - 1.0, end])
    down = np.abs(quarter[:-1, None] - m.onset_quarter[None]).min(1) < 1e-3
    return BeatGrid(quarter, written_seconds(score, quarter), down)


def written_seconds(score: Score, quarter: NDArray) -> NDArray[np.float64]:
    """Seconds of ascending places in quarters by the tempo in force at the notes, 0 at the first.

    From the metronome mark, else the typical tempo of the tempo word, else 90 quarters a minute.
    """
    bpm, word = score.marks["tempo_bpm"].astype(float), score.marks["tempo_word"].astype(int).clip(0, 6)
    qpm = np.where(bpm > 0, bpm, np.array(_QPM_OF_WORD)[word])
    i = np.clip(np.searchsorted(score.onset_quarter, quarter[:-1] + _CLOSE, side="left"), 0, len(score) - 1)
    return np.concatenate([[0.0], np.cumsum(np.diff(quarter) * 60.0 / qpm[i])])


def _around(x: NDArray, width: int) -> NDArray:
    """Mean of x over `width` beats either side."""
    total, i = np.append(0, np.cumsum(x)), np.arange(len(x))
    low, high = np.maximum(i - width, 0), np.minimum(i + width + 1, len(x))
    return (total[high] - total[low]) / (high - low)


def _step(x: NDArray) -> NDArray:
    return np.diff(x, prepend=x[:1])


def _on(x: NDArray, fill: float = 0.0) -> NDArray:
    return np.append(x[1:], fill)


def _overlap(bars: list[set]) -> NDArray:
    """(m, m) Jaccard overlap of sets, one a bar; two empty bars count 0.5."""
    vocabulary = {k: i for i, k in enumerate(sorted(set().union(*bars)))}
    a = np.zeros((len(bars), len(vocabulary) + 1), np.float32)
    for i, b in enumerate(bars):
        a[i, [vocabulary[k] for k in b]] = 1
    common, size = a @ a.T, a.sum(1)
    union = size[:, None] + size - common
    return np.where(union > 0, common / np.maximum(union, 1), 0.5)


def _form(notes: list[set], rhythm: list[set]) -> dict[str, NDArray]:
    """{name: (bars,)}: likeness to neighbouring, earlier and later bars; novelty (section boundary)."""
    exact = _overlap(notes)
    s, m, f = 0.5 * exact + 0.5 * _overlap(rhythm), len(notes), {}
    for lag in (1, 2, 4, 8):
        back = np.array([s[i, i - lag] if i >= lag else 0 for i in range(m)])
        f[f"form_like_{lag}"] = back
        f[f"form_like_{lag}_on"] = np.append(back[lag:], np.zeros(min(lag, m)))[:m]
    earlier = np.tril(exact, -2)
    f["form_earlier"], f["form_lag"] = earlier.max(1), np.log2(1 + np.arange(m) - earlier.argmax(1)) / 4
    f["form_later"] = np.triu(exact, 2).max(1)
    for h in (2, 4, 8):  # checkerboard kernel along the diagonal of the self-similarity matrix (Foote 2000)
        p = np.pad(s, h, mode="edge")
        q = [p[i : i + 2 * h, i : i + 2 * h] for i in range(m)]
        novelty = np.array([x[:h, :h].mean() + x[h:, h:].mean() - 2 * x[:h, h:].mean() for x in q])
        f[f"form_new_{h}"], f[f"form_new_{h}_on"] = novelty, _on(novelty)
    return f


def beat_features(score: Score, grid: BeatGrid) -> dict[str, NDArray[np.float32]]:
    """{group_name: (n, k)} for the n beats of the grid."""
    quarter, seconds, down = grid.quarter, grid.seconds, grid.down
    n, marks, index = len(grid), score.marks, np.arange(len(grid))
    f: dict[str, NDArray] = {}
    onset, pitch, length = score.onset_quarter, score.pitch.astype(float), np.diff(quarter)
    beat = grid.beat_of(onset)
    held, place = np.maximum(score.duration_quarter, 1 / 16), np.clip((onset - quarter[beat]) / length[beat], 0, 4)

    def pool(x: NDArray, how: np.ufunc = np.add, start: float = 0.0) -> NDArray:
        a = np.full(n, float(start))
        how.at(a, beat, x)
        return a

    notes = pool(np.ones(len(onset)))
    has, some = notes > 0, np.maximum(notes, 1)
    chord_time, first, chord = np.unique(np.round(onset, 3), return_index=True, return_inverse=True)
    strokes = np.bincount(beat[first], minlength=n).astype(float)
    log_held, amount = np.log2(held / length[beat]), np.log2(1 + notes)
    f |= {
        "texture_strokes": np.log2(1 + strokes), "texture_notes": amount, "texture_empty": notes == 0,
        "texture_rate": np.log2((0.5 + strokes) / np.diff(seconds)),
        "texture_chord": np.log2(1 + notes / np.maximum(strokes, 1)),
        "texture_held": pool(log_held) / some, "texture_longest": np.where(has, pool(log_held, np.maximum, -5), 0),
        "texture_on_beat": pool(place < 0.05, np.maximum), "texture_last": pool(place, np.maximum),
        "texture_step": _step(amount), "texture_step_on": _on(_step(amount)),
    }  # fmt: skip
    for w in (2, 8, 32):
        f[f"texture_around_{w}"] = amount - np.log2(1 + _around(notes, w))
    for name, x in (("top", pool(pitch, np.maximum, -1)), ("bottom", pool(pitch, np.minimum, 200))):
        x = np.interp(index, index[has], x[has])
        leap = np.clip(_step(x), -24, 24) / 6
        f |= {f"pitch_{name}": (x - 60) / 12, f"pitch_{name}_step": leap, f"pitch_{name}_step_on": _on(leap)}
        f |= {f"pitch_{name}_around_{w}": (x - _around(x, w)) / 6 for w in (4, 16)}
    bar = np.cumsum(down) - int(down[0])
    in_bar = index - np.maximum.accumulate(np.where(down, index, 0))
    f |= _metre(grid, bar, in_bar)
    for name, d in (("end", n - 1 - index), ("start", index)):
        f[f"place_{name}"] = np.stack([np.log2(1 + d) / 3 - 1] + [np.exp(-d / w) for w in (1, 3, 8, 24)], 1)
    f |= {"place_share": index / n, "place_length": np.full(n, np.log2(n) - 8.5)}
    loud = pool(marks["written_velocity"], np.maximum)
    loud = np.interp(index, index[loud > 0], loud[loud > 0]) if (loud > 0).any() else np.full(n, 64.0)
    f["mark_loud"] = np.stack([(loud - 64) / 25, _step(loud) / 25, _on(_step(loud)) / 25], 1)
    for name, x in (
        ("crescendo", marks["hairpin"] > 0), ("diminuendo", marks["hairpin"] < 0), ("accent", marks["accent"] > 0),
        ("staccato", marks["staccato"] > 0), ("tenuto", marks["tenuto"] > 0), ("slur", marks["slur"] > 0),
        ("slur_end", marks["slur"] == 2), ("arpeggio", marks["arpeggio"] > 0), ("ornament", marks["ornament"] > 0),
    ):  # fmt: skip
        f[f"mark_{name}"] = pool(x) / some
    for name, x in (
        ("fermata", marks["fermata"] > 0), ("slower", marks["tempo_change"] < 0), ("faster", marks["tempo_change"] > 0)
    ):  # fmt: skip
        f[f"mark_{name}"] = pool(x, np.maximum)
    word = pool(marks["tempo_word"], np.maximum).astype(int)[np.maximum.accumulate(np.where(has, index, 0))]
    f |= {"mark_word": np.eye(7)[np.clip(word, 0, 6)], "mark_word_new": _step(word) != 0}
    sets: list[list[set]] = [[set() for _ in range(bar.max() + 1)] for _ in range(2)]
    for b, t, p in zip(bar[beat], np.round(24 * (in_bar[beat] + place)), pitch, strict=True):
        sets[0][b].add((t, p))
        sets[1][b].add((t, p > 60))
    f |= {k: x[bar] for k, x in _form(*sets).items()}
    melody = np.full(len(chord_time), -1.0)
    np.maximum.at(melody, chord, pitch)
    gap = np.diff(chord_time, append=chord_time[-1] + 4)
    contrast = np.abs(np.diff(gap, prepend=gap[0])) / np.maximum(gap + np.roll(gap, 1), 1e-3)
    for name, x in (
        ("gap", np.log2(gap / np.median(gap))), ("contrast", contrast), ("leap", np.abs(_step(melody)) / 6)
    ):  # fmt: skip
        a = np.full(n, -3.0)
        np.maximum.at(a, beat[first], x)
        f[f"border_{name}"] = np.where(a > -3, a, 0)
    f |= _page(score, grid)
    return {k: np.nan_to_num(np.asarray(v, np.float32)).reshape(n, -1) for k, v in f.items()}


def _metre(grid: BeatGrid, bar: NDArray, in_bar: NDArray) -> dict[str, NDArray]:
    size = np.bincount(bar, minlength=bar.max() + 1)[bar]
    beat_q, beat_s = np.log2(np.diff(grid.quarter)), np.log2(np.diff(grid.seconds))
    return {
        "metre_place": np.eye(8)[np.minimum(in_bar, 7)], "metre_left": np.eye(8)[np.clip(size - 1 - in_bar, 0, 7)],
        "metre_size": np.eye(9)[np.minimum(size, 8)],
        "metre_bar_of": np.stack([g(2 * np.pi * bar / k) for k in (2, 4, 8) for g in (np.sin, np.cos)], 1),
        "metre_beat": np.stack(
            [beat_q, beat_q - np.median(beat_q), beat_s, beat_s - np.median(beat_s), _step(beat_s)], 1
        ),
    }  # fmt: skip


def _page(score: Score, grid: BeatGrid) -> dict[str, NDArray]:
    """Signs between the notes on each beat, and the distance to the next boundary (bar sign, key) or fermata."""
    n = len(grid)
    table = np.zeros((n, len(PAGE_KINDS)))
    at = np.searchsorted(grid.quarter, score.events.quarter + _CLOSE, side="right") - 1
    kind = score.events.kind.astype(int)
    ok = (at >= 0) & (at < n) & (kind < len(PAGE_KINDS))
    np.add.at(table, (at[ok], kind[ok]), 1)
    table = np.minimum(table, 2)
    column = PAGE_KINDS.index
    hard = np.stack(
        [table[:, [column(k) for k in kinds]].max(1) for kinds in (("double", "repeat", "key"), ("fermata", "rit"))], 1
    )
    near, decay = np.zeros((n + 1, 2, 2)), np.exp(-1 / np.array([2.0, 8.0]))[:, None]
    for i in reversed(range(n)):
        near[i] = np.maximum(near[i + 1] * decay, hard[i])
    return {f"page_{k}": table[:, i] for i, k in enumerate(PAGE_KINDS)} | {"page_near": near[:n].reshape(n, 4)}


def as_table(features: dict[str, NDArray]) -> tuple[list[str], NDArray[np.float32]]:
    """(names, (n, F)): the columns side by side, a name for each."""
    names = [k for k, v in features.items() for _ in range(v.shape[1])]
    return names, np.concatenate(list(features.values()), axis=1)
