"""Alignment of score and performance, by parangonar or from a match file."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.music.io._partitura import load_partitura
from engine.music.io.partitura_score import part_to_score
from engine.music.passes import MIN_MATCH, measure_of, passes
from engine.music.types import Alignment, BadInput, Performance, Score
from engine.progress import ProgressCallback

_SAME_QUARTER = 1e-3  # written onsets closer than this are one
_PART_CHORDS = 300  # chords per part of a long piece, because alignment takes quadratic time
_TRANSPOSITIONS = 6  # number of candidates to try
_SAME_MUSIC = 0.75  # share of matching steps for a correct transposition
_CLEARLY = 0.2  # required improvement, in steps per chord of an omitted pass
_SURE_NOTES = 9  # cuts require this many agreeing notes around them


def align(score: Score, performance: Performance, progress: ProgressCallback | None = None) -> Alignment:
    """Match a performance to its score, note by note (parangonar's dual dynamic time warping; Peter and Widmer, 2023).

    Long pieces are cut at pauses where written and played notes agree, and aligned part by part. Of an omitted repeat
    one whole pass stays unmatched. A unison is one key stroke; its second note is matched if the performance has it.
    progress is called with the finished share; raise in it to cancel. Returns pairs of equal pitch; other written notes
    are omissions, other played notes insertions. Raises BadInput if under half of the notes of the shorter one match:
    the performance is of another piece or in another key. The chance level is up to 42 % in dense music.
    """
    if not len(performance):
        raise BadInput("This performance has no notes; choose a performance of the same piece.")
    load_partitura()  # guarded import before parangonar's
    from parangonar import DualDTWNoteMatcher
    from parangonar.match.matchers import OnsetMatcherDTW

    matcher = DualDTWNoteMatcher(onset_matcher=OnsetMatcherDTW(dtw=pitch_dtw))
    stroke = key_strokes(score)
    written, played = _score_notes(score)[np.unique(stroke)], _performed_notes(performance)
    written = _without_left_out(score, written, measure_of(score)[np.unique(stroke)], played)
    found = []
    for rows, keys in _parts(written, played):
        # a nearly empty part cannot be aligned; its notes stay unmatched
        with suppress(ValueError, IndexError, KeyError, ZeroDivisionError):
            found += [a for a in matcher(written[rows], played[keys]) if a["label"] == "match"]
        if progress is not None:
            progress(rows.stop / len(written))
    pairs = np.array([(int(a["score_id"][1:]), int(a["performance_id"][1:])) for a in found], np.int32).reshape(-1, 2)
    pairs = _one_to_one(pairs[score.pitch[pairs[:, 0]] == performance.pitch[pairs[:, 1]]])
    pairs = _with_twins(pairs, stroke, performance)
    if len(pairs) < MIN_MATCH * min(len(score), len(performance)):
        if shift := _transposition(written, played):
            raise BadInput(
                f"This performance sounds {abs(shift)} semitone{'s' * (abs(shift) > 1)} "
                f"{'above' if shift > 0 else 'below'} the score; choose a performance in its key, or transpose one."
            )
        raise BadInput(
            f"This performance ({len(performance)} notes) does not match the score ({len(score)} notes); "
            "choose a performance of the same piece, with the same repeats."
        )
    return Alignment(pairs[:, 0], pairs[:, 1])


def _without_left_out(score: Score, written: NDArray, measure: NDArray, played: NDArray) -> NDArray:
    """The written notes without omitted repeat passes; later notes move forward. A pass is removed if pitches match
    clearly better without it, best first.
    measure  of each written note
    """
    m = score.measures
    candidates = [p for p in passes(m) if 0 < np.isin(measure, p).sum() <= 1.3 * (len(written) - len(played)) + 20]
    if not candidates:
        return written
    kept = np.ones(len(written), bool)
    cost = _pitch_cost(written, played)
    while candidates:
        trials = [kept & ~np.isin(measure, p) for p in candidates]
        costs = [_pitch_cost(written[t], played) if t.any() else np.inf for t in trials]
        best = int(np.argmin(costs))
        p = candidates[best]
        if costs[best] > cost - _CLEARLY * len(np.unique(written["onset_beat"][kept & ~trials[best]])):
            break
        kept, cost = trials[best], costs[best]
        end = m.onset_quarter[p.stop] if p.stop < len(m) else np.inf
        length = end - m.onset_quarter[p.start]
        for name in ("onset_beat", "onset_quarter") if np.isfinite(length) else ():
            written[name][measure >= p.stop] -= length
        candidates = [c for c in candidates if c.stop <= p.start or c.start >= p.stop]
    written["onset_div"] = np.round(written["onset_quarter"] * 480)
    return written[kept]


def _transposition(written: NDArray, played: NDArray) -> int:
    """Transposition of the performance in semitones, 0 if none matches."""
    of_score, of_played = (np.bincount(a["pitch"], minlength=128) for a in (written, played))
    likeness = {d: float(of_score @ np.roll(of_played, -d)) for d in range(-12, 13) if d}
    for d in sorted(likeness, key=lambda d: -likeness[d])[:_TRANSPOSITIONS]:
        moved = played.copy()
        moved["pitch"] = np.clip(moved["pitch"] - d, 0, 127)
        if _pitch_cost(written, moved) < (1 - _SAME_MUSIC) * len(moved):
            return d
    return 0


def _pitch_cost(written: NDArray, played: NDArray) -> float:
    """Number of steps of the best path with a played note outside its chord."""
    _, chord = np.unique(written["onset_beat"], return_inverse=True)
    chords: list[set[int]] = [set() for _ in range(int(chord.max()) + 1)]
    for k, pitch in zip(chord.tolist(), written["pitch"].tolist(), strict=True):
        chords[k].add(pitch)
    return pitch_dtw(played["pitch"], chords, return_path=False)[0]


def key_strokes(score: Score) -> NDArray[np.int64]:
    """For each note the first note of the same pitch and onset, (n,): itself, or its unison in another voice."""
    key = np.stack([np.round(score.onset_quarter / _SAME_QUARTER), score.pitch, score.grace])
    _, first, inverse = np.unique(key, axis=1, return_index=True, return_inverse=True)
    return first[np.reshape(inverse, -1)]


def _with_twins(pairs: NDArray[np.int32], stroke: NDArray, performance: Performance) -> NDArray[np.int32]:
    """Add pairs for unisons that were played as two simultaneous notes."""
    played_of = dict(pairs.tolist())
    free: dict[tuple[int, int], list[int]] = defaultdict(list)
    taken = set(played_of.values())
    place = [(int(p), round(t * 500)) for p, t in zip(performance.pitch, performance.onset_sec, strict=True)]  # 2 ms
    for j, key in enumerate(place):
        if j not in taken:
            free[key].append(j)
    for i in np.flatnonzero(stroke != np.arange(len(stroke))).tolist():
        twin = played_of.get(int(stroke[i]))
        if twin is not None and free[place[twin]]:
            played_of[i] = free[place[twin]].pop(0)
    return np.array(sorted(played_of.items()), np.int32).reshape(-1, 2)


def _parts(written: NDArray, played: NDArray) -> Iterator[tuple[slice, slice]]:
    """Corresponding rows of written and played notes, in parts of about `_PART_CHORDS` chords."""
    plain = written[~written["is_grace"]]
    onsets = np.unique(plain["onset_beat"])
    first_row = np.searchsorted(written["onset_beat"], onsets)
    row, key = 0, 0
    if len(onsets) > 2 * _PART_CHORDS:
        of_chord = np.searchsorted(onsets, plain["onset_beat"])
        chords: list[set[int]] = [set() for _ in onsets]
        for j, pitch in zip(of_chord.tolist(), plain["pitch"].tolist(), strict=True):
            chords[j].add(pitch)
        _, path = pitch_dtw(played["pitch"], chords)
        agrees = np.array([int(played["pitch"][i]) in chords[j] for i, j in path])
        surely = np.convolve(agrees, np.ones(_SURE_NOTES), "same") == _SURE_NOTES  # no slip near
        starts = np.flatnonzero(np.diff(path[:, 1], prepend=-1) > 0)  # step at which each chord is entered
        pause = np.diff(played["onset_sec"], prepend=played["onset_sec"][0])[path[starts, 0]]
        plain_chord = ~np.isin(onsets, written["onset_beat"][written["is_grace"]])
        can_cut = surely[starts] & plain_chord & (np.diff(path[starts, 0], prepend=-1) > 0)
        for middle in range(_PART_CHORDS, len(onsets) - _PART_CHORDS // 2, _PART_CHORDS):
            near = np.arange(middle - _PART_CHORDS // 4, middle + _PART_CHORDS // 4)
            near = near[can_cut[near]]
            if len(near):
                cut = near[np.argmax(pause[near])]
                yield slice(row, int(first_row[cut])), slice(key, int(path[starts[cut], 0]))
                row, key = int(first_row[cut]), int(path[starts[cut], 0])
    yield slice(row, len(written)), slice(key, len(played))


def pitch_dtw(pitch: NDArray, chords: list[set[int]], return_path: bool = True) -> tuple[float, NDArray[np.int64]]:
    """Dynamic time warping of played notes along written chords: a note costs 1 where its pitch is not in the chord.

    Equivalent to parangonar's double loop, vectorised by row (15 times faster).

    pitch    (p,) played pitches in order of time
    chords   c sets of written pitches, one an onset
    returns  cost, path (steps, 2) of (note, chord) from (0, 0) to (p - 1, c - 1), or without a path (0, 2)
    """
    member = np.zeros((128, len(chords)), bool)
    for j, chord in enumerate(chords):
        member[[int(p) for p in chord], j] = True
    came_from = np.zeros((len(pitch), len(chords)), np.int8)  # 0 both before, 1 note before, 2 chord before
    above = np.full(len(chords), np.inf)
    for i, p in enumerate(np.asarray(pitch, int)):
        cost = 1.0 - member[p]
        diagonal = np.concatenate([[0.0 if i == 0 else np.inf], above[:-1]])
        entry = np.minimum(diagonal, above) + cost
        walked = np.cumsum(cost)  # along the row: every step to the right adds the cost of its target
        here = np.minimum.accumulate(entry - walked) + walked
        if not return_path:
            above = here
            continue
        left = np.concatenate([[np.inf], here[:-1]])
        came_from[i] = np.argmin(np.stack([diagonal, above, left]), axis=0)
        above = here
    if not return_path:
        return float(above[-1]), np.zeros((0, 2), np.int64)
    path = [(len(pitch) - 1, len(chords) - 1)]
    while path[-1] != (0, 0):
        i, j = path[-1]
        step = 2 if i == 0 else 1 if j == 0 else came_from[i, j]
        path.append((i - (step != 2), j - (step != 1)))
    return float(above[-1]), np.array(path[::-1])


def _one_to_one(pairs: NDArray[np.int32]) -> NDArray[np.int32]:
    """Keep the first pair of each written and each played note, sorted by written note."""
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    pairs = pairs[np.unique(pairs[:, 0], return_index=True)[1]]
    return pairs[np.sort(np.unique(pairs[:, 1], return_index=True)[1])]


def _score_notes(score: Score) -> NDArray:
    """The structured array for parangonar; a "beat" is a quarter."""
    out = np.zeros(len(score), [
        ("onset_beat", "f8"), ("duration_beat", "f8"), ("onset_quarter", "f8"), ("duration_quarter", "f8"),
        ("onset_div", "i8"), ("duration_div", "i8"), ("pitch", "i4"), ("voice", "i4"), ("id", "U16"), ("is_grace", "?"),
    ])  # fmt: skip
    out["onset_beat"] = out["onset_quarter"] = score.onset_quarter
    out["duration_beat"] = out["duration_quarter"] = score.duration_quarter
    out["onset_div"], out["duration_div"] = np.round(score.onset_quarter * 480), np.round(score.duration_quarter * 480)
    out["pitch"], out["voice"], out["is_grace"] = score.pitch, score.voice, score.grace
    out["id"] = [f"s{i}" for i in range(len(score))]
    return out


def _performed_notes(performance: Performance) -> NDArray:
    """The same for played notes, in order of time."""
    out = np.zeros(len(performance), [
        ("onset_sec", "f8"), ("duration_sec", "f8"), ("onset_tick", "i8"), ("duration_tick", "i8"),
        ("pitch", "i4"), ("velocity", "i4"), ("id", "U16"),
    ])  # fmt: skip
    out["onset_sec"], out["duration_sec"] = performance.onset_sec, performance.duration_sec
    out["onset_tick"], out["duration_tick"] = (
        np.round(performance.onset_sec * 1000),
        np.round(performance.duration_sec * 1000),
    )
    out["pitch"], out["velocity"] = performance.pitch, performance.velocity
    out["id"] = [f"p{i}" for i in range(len(performance))]
    return out[np.lexsort((performance.pitch, performance.onset_sec))]


def read_match(path: str | Path) -> tuple[Score, Performance, Alignment]:
    """Read a trusted match file (Foscarin et al. 2022), as in (n)ASAP: unfolded score, performance, alignment.
    Durations are those of the keys, without pedal. Raises BadInput if it is not a match file.
    """
    pt = load_partitura()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            performed, label, written = pt.load_match(str(path), create_score=True)
    except Exception as error:  # partitura raises arbitrary parser errors
        raise BadInput(
            f"{Path(path).name} cannot be read as a match file; choose a .match file of version 1.0."
        ) from error
    score = part_to_score(written)
    part = performed.performedparts[0]
    notes = part.notes
    performance = Performance(
        [n["note_on"] for n in notes], [max(n["note_off"] - n["note_on"], 1e-3) for n in notes],
        [n["midi_pitch"] for n in notes], [min(max(n["velocity"], 1), 127) for n in notes],
        *_sustain(part.controls),
    )  # fmt: skip
    row_of_played = {n["id"]: i for i, n in enumerate(notes)}
    row_of_written = rows_of_ids(written, score)
    pairs = [
        (row_of_written[a["score_id"]], row_of_played[a["performance_id"]])
        for a in label
        if a["label"] == "match" and a["score_id"] in row_of_written and a["performance_id"] in row_of_played
    ]
    found = _one_to_one(np.array(pairs, np.int32).reshape(-1, 2))
    return score, performance, Alignment(found[:, 0], found[:, 1])


def _sustain(controls: list[dict]) -> tuple[NDArray, NDArray]:
    """Times and values of the sustain pedal, ascending."""
    events = sorted(((c["time"], c["value"]) for c in controls if c["number"] == 64), key=lambda e: e[0])
    return np.array([t for t, _ in events]), np.array([v for _, v in events], np.int16)


def rows_of_ids(written: object, score: Score) -> dict[str, int]:
    """Row in `score` of each of partitura's note ids, by onset, pitch, grace; voices in unison by their lengths."""
    found = []
    for part in written.parts:  # type: ignore[attr-defined]
        for note in part.notes_tied:
            onset, grace = float(part.quarter_map(note.start.t)), type(note).__name__ == "GraceNote"
            found.append((onset, -note.duration_tied, int(note.midi_pitch), grace, note.id))
    zero = min(f[0] for f in found) - float(score.onset_quarter.min())
    rows = defaultdict(list)
    for i in np.lexsort((-score.duration_quarter, score.onset_quarter)).tolist():
        rows[round(score.onset_quarter[i] / _SAME_QUARTER), int(score.pitch[i]), bool(score.grace[i])].append(i)
    out = {}
    for onset, _, pitch, grace, name in sorted(found, key=lambda f: f[:2]):
        at = round((onset - zero) / _SAME_QUARTER)
        here = next((rows[k, pitch, grace] for k in (at, at - 1, at + 1) if rows.get((k, pitch, grace))), None)
        if here:
            out[name] = here.pop(0)
    return out


def kept_notes(old: Score, new: Score) -> NDArray[np.int32]:
    """For each note of `new` its index in `old`, -1 for a new note; (len(new),)."""

    def rows(s: Score):
        columns = (s.onset_quarter, s.duration_quarter, s.pitch, s.spelling, s.staff, s.voice, s.grace)
        return zip(*(c.tolist() for c in columns), strict=True)

    where = defaultdict(list)
    for i, row in enumerate(rows(old)):
        where[row].append(i)
    for found in where.values():
        found.reverse()
    return np.array([where[row].pop() if where.get(row) else -1 for row in rows(new)], np.int32)
