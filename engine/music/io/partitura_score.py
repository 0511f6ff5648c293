"""Conversion of a match file's score, loaded by partitura, to a `Score`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.music.engraving.spelling import FIFTHS
from engine.music.io._partitura import load_partitura
from engine.music.io.score_marks import DYNAMIC_VELOCITY, WORD_REACH, fill_directions, tempo_word
from engine.music.io.words import IMPULSES, LOUDER, SOFTER, tempo_change
from engine.music.types import MARK_NAMES, BadInput, Marks, Measures, Score

_ORNAMENTS = {
    "trill-mark": 1, "wavy-line": 1, "tremolo": 1, "shake": 1, "mordent": 2, "inverted-mordent": 2, "schleifer": 2,
    "turn": 3, "inverted-turn": 3, "delayed-turn": 3, "delayed-inverted-turn": 3, "haydn": 3,
}  # fmt: skip


def part_to_score(part_score: Any) -> Score:
    """Convert a partitura Score of a match file, in the order of its bars. Raises BadInput if there is no note."""
    parts = list(part_score.parts) if hasattr(part_score, "parts") else [part_score]
    parts = [p for p in parts if len(p.notes_tied)]
    if not parts:
        raise BadInput("This score has no notes; a score needs at least one note. Choose another file.")
    measures = _measures(parts[0])
    rows = [row for i, p in enumerate(parts) for row in _note_rows(p, i, len(parts))]
    rows.sort(key=lambda r: (r[0], not r[6], r[2], -r[1]))
    columns = list(zip(*rows, strict=True))
    onset = np.array(columns[0])
    table = np.zeros((len(onset), len(MARK_NAMES)), np.int16)
    for name, values in zip(("accent", "staccato", "tenuto", "slur", "fermata", "ornament"), columns[7:], strict=True):
        table[:, MARK_NAMES.index(name)] = values
    _direction_marks(parts, onset, table)
    return Score(
        onset, np.array(columns[1]), np.array(columns[2]), np.array(columns[3]), np.array(columns[4]),
        np.array(columns[5]), np.array(columns[6]), Marks(table), measures,
        title=_text(part_score, "title") or _text(part_score, "work_title") or "",
        composer=_text(part_score, "composer") or "",
    )  # fmt: skip


def written_measures(part: Any) -> list[Any]:
    """The measures of a partitura part that last, in the order of the page."""
    kind = load_partitura().score.Measure
    lasting = (m for m in part.iter_all(kind) if m.end is not None and m.end.t > m.start.t)
    return sorted(lasting, key=lambda m: m.start.t)


def _text(obj: Any, name: str) -> str:
    value = getattr(obj, name, None)
    return value.strip() if isinstance(value, str) else ""


def _measures(part: Any) -> Measures:
    """The measure table of a partitura part; a score without barlines becomes one measure."""
    quarter = part.quarter_map
    found = written_measures(part)
    end = max(n.end.t for n in part.notes_tied)
    spans = [(m.start.t, m.end.t, n) for m, n in zip(found, _numbers(found), strict=True)] or [(0, end, 1)]
    starts = np.array([s for s, _, _ in spans])
    onset = quarter(starts).astype(float)
    duration = quarter(np.array([e for _, e, _ in spans])).astype(float) - onset
    signature = part.time_signature_map(starts)
    num, den = np.maximum(signature[:, 0], 1).astype(int), np.maximum(signature[:, 1], 1).astype(int)
    fifths = np.clip(np.nan_to_num(part.key_signature_map(starts)[:, 0]), -7, 7).astype(int)
    nominal = num * 4.0 / den
    position = np.zeros(len(spans))
    if duration[0] < nominal[0] - 1e-6:  # a pickup is at the end of a bar
        position[0] = nominal[0] - duration[0]
    onset -= onset[1] if position[0] and len(onset) > 1 else onset[0]
    return Measures(onset, duration, position, num, den, fifths, np.array([n for _, _, n in spans]))


def _numbers(measures: Sequence[Any]) -> list[int]:
    """The printed numbers; a measure that has none ("X1", the rest of a bar that a repeat divides) has the last one."""
    out: list[int] = []
    for i, m in enumerate(measures):
        name = str(m.name if m.name is not None else m.number or i + 1)
        out.append(int(name) if name.isdecimal() else out[-1] if out else 0)
    return out


def _note_rows(part: Any, index: int, count: int) -> list[tuple]:
    """One tuple a note: onset, duration, pitch, spelling, staff, voice, grace, and the marks
    accent, staccato, tenuto, slur, fermata, ornament.
    """
    quarter = part.quarter_map
    zero = _origin(part)
    notes = part.notes_tied
    onset = quarter(np.array([n.start.t for n in notes])).astype(float) - zero
    end = quarter(np.array([n.start.t + n.duration_tied for n in notes])).astype(float) - zero
    slurred = _slurs(notes)
    rows = []
    for i, n in enumerate(notes):
        grace = type(n).__name__ == "GraceNote"
        marks = set(n.articulations or ())
        spelling = FIFTHS[n.step.upper()] + 7 * int(n.alter or 0)
        ornament = max((_ORNAMENTS.get(o, 0) for o in n.ornaments or ()), default=0)
        rows.append((
            onset[i], 0.0 if grace else end[i] - onset[i], int(n.midi_pitch), spelling,
            (n.staff or 1) if count == 1 else min(index + 1, 2), int(n.voice or 0), grace,
            2 if "strong-accent" in marks else int(bool(marks & {"accent", "stress", "soft-accent"})),
            2 if marks & {"staccatissimo", "spiccato"} else int(bool(marks & {"staccato", "detached-legato"})),
            int("tenuto" in marks), slurred[i], int(n.fermata is not None), ornament,
        ))  # fmt: skip
    return rows


def _origin(part: Any) -> float:
    """Quarter position of the first full barline, which is our zero."""
    found = written_measures(part)
    if not found:
        return 0.0
    first = found[0]
    num, den = part.time_signature_map(first.start.t)[:2]
    start, end = (float(part.quarter_map(t)) for t in (first.start.t, first.end.t))
    pickup = len(found) > 1 and end - start < 4.0 * num / max(den, 1) - 1e-6
    return end if pickup else start


def _slurs(notes: Sequence[Any]) -> list[int]:
    """0 outside, 1 inside a slur of the note's own voice and staff, 2 the last note of one."""
    spans = defaultdict(list)
    state = [0] * len(notes)
    for n in notes:
        for s in n.slur_starts or ():
            if s.start_note is not None and s.end_note is not None:
                spans[n.staff, n.voice].append((s.start_note.start.t, s.end_note.start.t))
    for i, n in enumerate(notes):
        for start, end in spans[n.staff, n.voice]:
            if start <= n.start.t < end:
                state[i] = 1
            elif n.start.t == end and not state[i]:
                state[i] = 2
    return state


def _direction_marks(parts: Sequence[Any], onset: np.ndarray, table: np.ndarray) -> None:
    """Fill the columns of `table` that depend on words, hairpins and metronome marks."""
    pt = load_partitura()
    levels, impulses, wedges, changes, words, bpms = [], [], [], [], [], []
    for part in parts:
        zero = _origin(part)

        def at(point: Any, part: Any = part, zero: float = zero) -> float:
            return float(part.quarter_map(point.t)) - zero

        for t in part.iter_all(pt.score.Tempo):
            unit = {"q": 1.0, "h": 2.0, "e": 0.5, "w": 4.0, "s": 0.25}.get((t.unit or "q")[0], 1.0)
            unit *= 1.5 if (t.unit or "q").endswith(".") else 1.0
            if t.bpm and 5 < t.bpm * unit < 1000:
                bpms.append((at(t.start), t.bpm * unit))
        for d in [*part.iter_all(pt.score.Direction, include_subclasses=True), *part.iter_all(pt.score.Words)]:
            text = (getattr(d, "raw_text", None) or getattr(d, "text", None) or "").strip().lower()
            start = at(d.start)
            end = at(d.end) if d.end is not None and d.end.t > d.start.t else None
            if text in DYNAMIC_VELOCITY:
                levels.append((start, DYNAMIC_VELOCITY[text]))
            elif text in IMPULSES:
                impulses.append((start, IMPULSES[text]))
                if text in ("fp", "sfp"):
                    levels.append((start + 1e-3, DYNAMIC_VELOCITY["p"]))
            elif isinstance(d, pt.score.IncreasingLoudnessDirection) or LOUDER.search(text):
                wedges.append((start, end or start + WORD_REACH, 1))
            elif isinstance(d, pt.score.DecreasingLoudnessDirection) or SOFTER.search(text):
                wedges.append((start, end or start + WORD_REACH, -1))
            if (change := tempo_change(text)) is not None:
                changes.append((start, end if change else start, change))
            word = tempo_word(text)
            if word and "poco a poco" not in text:
                words.append((start, word))
    fill_directions(table, onset, levels, impulses, wedges, bpms, words, changes)
