"""The objective measures of XMVAE for performances, per segment of 256 notes.

Notes of a segment are sorted by (onset, pitch): pitch p_i, onset o_i, duration l_i in seconds (the key, not the pedal),
velocity v_i, i = 1..N. The paper (arXiv 2507.01582, Tables I and II) gives names only; the formulas reproduce its
figures on real piano music. Neither high nor low values are better: compare distributions with those of real music, see
`engine.measures.distributions`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from engine.checkpoints.index import CHECKPOINTS
from engine.measures.sanity import key_share, longest_loop
from engine.music.expression import score_beats
from engine.music.types import BadInput, Performance, Score

SEGMENT = 256  # notes
SHORTEST = 32  # minimum notes of a piece measured as one segment
CHORD_SEC = 0.030  # maximum gap to the previous note of the same onset
WINDOW_NOTES, WINDOW_SEC, WINDOW_BEATS = 32, 4.0, 8.0  # of the three short-window pitch class counts
REFERENCE = CHECKPOINTS / "reference" / "metrics-v1.json"


@dataclass(frozen=True)
class Segments:
    """Notes in rows of equal length, each row sorted by (onset, pitch).

    onset, duration  (s, n) seconds
    pitch, velocity  (s, n) MIDI numbers
    beat             (s, n) score onset in beats, None without a score
    """

    onset: NDArray[np.float64]
    duration: NDArray[np.float64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    beat: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.onset)


def cut(performance: Performance, score: Score | None = None, length: int = SEGMENT, whole: bool = True) -> Segments:
    """Cut a performance into segments of `length` notes, consecutively; the rest at the end is not measured.

    score  its score, note for note, for the measure that counts beats
    whole  take a performance shorter than `length` as one segment
    Raises BadInput for fewer than SHORTEST notes (or `length`, when whole is False).
    """
    n = len(performance)
    order = np.lexsort((performance.pitch, performance.onset_sec))
    if n < length:
        if not whole or n < SHORTEST:
            raise BadInput(f"This performance has {n} notes; measuring takes at least {min(SHORTEST, length)}.")
        length = n
    order = order[: n // length * length].reshape(-1, length)
    beat = None
    if score is not None:
        if len(score) != n:
            raise BadInput(f"The score has {len(score)} notes, the performance {n}; they are measured note for note.")
        beat = score_beats(score)[0][order]
    return Segments(
        performance.onset_sec[order], performance.duration_sec[order],
        performance.pitch[order].astype(np.int64), performance.velocity[order].astype(np.int64), beat,
    )  # fmt: skip


def pitch_range(s: Segments) -> NDArray[np.float64]:
    """PR: highest minus lowest pitch, semitones, (s,)."""
    return (s.pitch.max(1) - s.pitch.min(1)).astype(float)


def average_pitch_step(s: Segments) -> NDArray[np.float64]:
    """APS: mean |p_{i+1} - p_i|, semitones, (s,)."""
    return np.abs(np.diff(s.pitch, axis=1)).mean(1)


def note_interval(s: Segments) -> NDArray[np.float64]:
    """IOI by note: (o_N - o_1) / (N - 1), seconds, (s,)."""
    return (s.onset[:, -1] - s.onset[:, 0]) / (s.onset.shape[1] - 1)


def onset_interval(s: Segments) -> NDArray[np.float64]:
    """IOI by onset: mean gap between the first notes of onset groups, seconds, (s,); 0 when all notes are one chord.

    A note opens a group when it comes more than 30 ms after the note before it.
    """
    opens = np.diff(s.onset, axis=1) > CHORD_SEC
    last = s.onset.shape[1] - 1 - np.argmax(opens[:, ::-1], axis=1)
    span = np.take_along_axis(s.onset, last[:, None], 1)[:, 0] - s.onset[:, 0]
    groups = opens.sum(1)
    return np.where(groups > 0, span / np.maximum(groups, 1), 0.0)


def duration_deviation(s: Segments) -> NDArray[np.float64]:
    """DSTD: standard deviation of the durations, seconds, (s,)."""
    return s.duration.std(1)


def duration_average(s: Segments) -> NDArray[np.float64]:
    """DAVG: mean duration, seconds, (s,)."""
    return s.duration.mean(1)


def velocity_step(s: Segments) -> NDArray[np.float64]:
    """AVI: mean |v_{i+1} - v_i|, (s,)."""
    return np.abs(np.diff(s.velocity, axis=1)).mean(1)


def velocity_deviation(s: Segments) -> NDArray[np.float64]:
    """VSTD: standard deviation of the velocities, (s,)."""
    return s.velocity.std(1)


def _classes_in(pitch: NDArray, window: NDArray, count: NDArray) -> NDArray[np.float64]:
    """Mean number of pitch classes over the windows of each row that hold notes.

    window  (s, n) number of the window that a note is in, ascending in a row
    count   (s,) windows of the row that are counted; notes in later ones are left out
    """
    rows, n = pitch.shape
    bits = (1 << (pitch % 12)).astype(np.int64).ravel()
    key = (np.arange(rows)[:, None] * (int(window.max()) + 1) + window).ravel()
    first = np.flatnonzero(np.append(True, np.diff(key) > 0))
    masks = np.bitwise_or.reduceat(bits, first)
    classes = np.unpackbits(masks.astype("<u2").view(np.uint8).reshape(-1, 2), axis=1).sum(1)
    row = first // n
    kept = window.ravel()[first] < count[row]
    return np.bincount(row[kept], classes[kept], rows) / np.bincount(row[kept], minlength=rows)


def _windows(time: NDArray, width: float) -> NDArray[np.int64]:
    """Number of the window of `width` that each time is in, counted from the first of its row, (s, n)."""
    return np.floor((time - time[:, :1]) / width + 1e-9).astype(np.int64)


def classes_per_notes(s: Segments) -> NDArray[np.float64]:
    """UPC: pitch classes in 32 successive notes, mean over the segment's windows side by side, (s,)."""
    n = s.pitch.shape[1]
    width = min(WINDOW_NOTES, n)
    window = np.broadcast_to(np.arange(n) // width, s.pitch.shape)
    return _classes_in(s.pitch, window, np.full(len(s), n // width))


def classes_per_seconds(s: Segments) -> NDArray[np.float64]:
    """UPC in windows of 4 seconds from the first onset; a last window that the onsets do not fill is left out, (s,)."""
    window = _windows(s.onset, WINDOW_SEC)
    return _classes_in(s.pitch, window, np.maximum(window[:, -1], 1))


def classes_per_beats(s: Segments) -> NDArray[np.float64]:
    """UPC in windows of 8 beats, counted as the windows of seconds, (s,); NaN without a score."""
    if s.beat is None:
        return np.full(len(s), np.nan)
    order = np.argsort(s.beat, axis=1, kind="stable")
    window = _windows(np.take_along_axis(s.beat, order, 1), WINDOW_BEATS)
    return _classes_in(np.take_along_axis(s.pitch, order, 1), window, np.maximum(window[:, -1], 1))


def classes_per_segment(s: Segments) -> NDArray[np.float64]:
    """UPC over the whole segment, (s,)."""
    return _classes_in(s.pitch, np.zeros_like(s.pitch), np.ones(len(s)))


def pitch_count(s: Segments) -> NDArray[np.float64]:
    """PC: how many different pitches, (s,)."""
    return 1.0 + (np.diff(np.sort(s.pitch, axis=1), axis=1) > 0).sum(1)


def density(s: Segments) -> NDArray[np.float64]:
    """Notes a second: (N - 1) / (o_N - o_1), (s,); not a number when all notes start together."""
    span = s.onset[:, -1] - s.onset[:, 0]
    return np.where(span > 0, (s.onset.shape[1] - 1) / np.where(span > 0, span, 1), np.nan)


def in_key(s: Segments) -> NDArray[np.float64]:
    """Percent of the notes that belong to the segment's estimated key, (s,); see `engine.measures.sanity.key_share`."""
    return 100 * np.array([key_share(p, d) for p, d in zip(s.pitch, s.duration)])


def loop(s: Segments) -> NDArray[np.float64]:
    """Maximum consecutive occurrences of a pattern of 8 notes, (s,); 1 is no repetition. NaN without a score."""
    if s.beat is None:
        return np.full(len(s), np.nan)
    order = [np.lexsort((p, b)) for b, p in zip(s.beat, s.pitch)]
    return np.array([float(longest_loop(b[o], p[o])) for b, p, o in zip(s.beat, s.pitch, order)])


@dataclass(frozen=True)
class Metric:
    """One measure: abbreviation, label, unit, formula, decimals."""

    name: str
    label: str
    unit: str
    of: Callable[[Segments], NDArray[np.float64]]
    digits: int


METRICS = (
    Metric("PR", "Pitch range", "semitones", pitch_range, 1),
    Metric("APS", "Step between successive notes", "semitones", average_pitch_step, 2),
    Metric("UPC", "Pitch classes in 32 notes", "", classes_per_notes, 2),
    Metric("UPC_4s", "Pitch classes in 4 s", "", classes_per_seconds, 2),
    Metric("UPC_8beats", "Pitch classes in 8 beats", "", classes_per_beats, 2),
    Metric("UPC_seg", "Pitch classes in a segment", "", classes_per_segment, 2),
    Metric("PC", "Different pitches in a segment", "", pitch_count, 1),
    Metric("IOI", "Time between notes", "s", note_interval, 4),
    Metric("IOI_onset", "Time between onsets", "s", onset_interval, 4),
    Metric("DSTD", "Spread of durations", "s", duration_deviation, 4),
    Metric("DAVG", "Duration", "s", duration_average, 4),
    Metric("AVI", "Velocity step between notes", "", velocity_step, 2),
    Metric("VSTD", "Spread of velocities", "", velocity_deviation, 2),
    Metric("density", "Notes a second", "1/s", density, 2),
    Metric("key_share", "Notes in the estimated key", "%", in_key, 1),
    Metric("loop", "Longest repetition of 8 notes", "times", loop, 2),
)
BY_NAME = {m.name: m for m in METRICS}
PAPER = ("PR", "APS", "UPC", "IOI", "DSTD", "AVI")  # the six that are published with values


def measure(segments: Segments) -> dict[str, NDArray[np.float64]]:
    """Every metric of METRICS by name, each (s,).

    >>> chord = Performance([0, 0, 0.5, 0.5], [0.5] * 4, [60, 64, 62, 65], [60, 70, 60, 70])
    >>> found = measure(cut(chord, length=4))
    >>> [float(found[k][0]) for k in ("PR", "IOI_onset", "AVI", "UPC_seg")]
    [5.0, 0.5, 10.0, 4.0]
    """
    return {m.name: m.of(segments) for m in METRICS}


def measure_all(performances: Iterable[Performance | tuple[Performance, Score]]) -> dict[str, NDArray[np.float64]]:
    """The metrics of all segments of many performances, one after the other; those shorter than 32 notes are omitted. A
    pair is a performance with its score, note for note.
    """
    found: list[dict[str, NDArray]] = []
    for entry in performances:
        performance, score = entry if isinstance(entry, tuple) else (entry, None)
        if len(performance) >= SHORTEST:
            found.append(measure(cut(performance, score)))
    return {m.name: np.concatenate([f[m.name] for f in found] or [np.zeros(0)]) for m in METRICS}


@dataclass(frozen=True)
class MetricRow:
    """A piece compared with the corpus.

    name, label, unit   as in METRICS
    value               mean over the piece's segments
    corpus_mean         of the segments of the reference performances
    corpus_sd           their standard deviation
    percentile          percent of the reference segments below the value (equals count half)
    n                   segments of the piece
    """

    name: str
    label: str
    unit: str
    value: float
    corpus_mean: float
    corpus_sd: float
    percentile: float
    n: int


@cache
def reference() -> dict:
    """The shipped corpus reference, which `training.xmvae.reference_metrics` writes and describes there.

    Raises BadInput when the file is missing or damaged.
    """
    try:
        return json.loads(REFERENCE.read_text())
    except (OSError, ValueError):
        raise BadInput(
            f"The corpus reference {REFERENCE.name} is missing or damaged; restore it from the repository."
        ) from None


def percentile_of(value: float, values: NDArray) -> float:
    """Percent of `values` below `value`, equals counted half.

    >>> percentile_of(2, np.array([1, 2, 3]))
    50.0
    """
    return float(100 * ((values < value).mean() + 0.5 * (values == value).mean()))


def panel(performance: Performance, score: Score | None = None, corpus: str = "train") -> list[MetricRow]:
    """Compare a performance with the human performances of the corpus, one row per metric; raises BadInput below 32
    notes.

    score   the score that it renders note for note; adds the measures that count beats
    corpus  a set of the reference: "train" (170 works), "validation" (21), or their "train openings", "validation
            openings": the first 256 notes of each piece, which are slower and narrower than average
    """
    known, rows = reference()["sets"][corpus], []
    for name, found in measure(cut(performance, score)).items():
        found = found[np.isfinite(found)]
        if len(found):
            m, value = BY_NAME[name], float(found.mean())
            place = percentile_of(value, np.array(known["values"][name]))
            rows.append(
                MetricRow(name, m.label, m.unit, value, known["mean"][name], known["sd"][name], place, len(found))
            )
    return rows
