"""One visitor's state: score, performance, manual edits, takes.

`Session` is immutable; every action returns a new one.

Notes have ids: 1 to n are the score's notes in order, higher ids are notes that the visitor added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from engine.music.types import DEFAULT_FREEDOM, Alignment, Performance, Score, Style
from studio.state.pins import Comparison

PEDAL_DOWN = 64  # controller values from here on lift the dampers
MIN_BEAT_SEC = 0.001  # closer beats would coincide on the roll
FIELDS = ("pitch", "onset_sec", "duration_sec", "velocity")


@dataclass(frozen=True)
class Grid:
    """Map between score time and performed time, by the beats of a performance.

    quarter  (k,) score time of each beat, strictly increasing; k >= 2
    sec      (k,) performed time of each beat, strictly increasing
    Beyond its ends the map extrapolates the tempo of the first and last beat.
    """

    quarter: NDArray[np.float64]
    sec: NDArray[np.float64]

    @classmethod
    def through(cls, quarter: NDArray, sec: NDArray) -> Grid:
        """Build a grid from measured beats, corrected to be strictly increasing."""
        quarter, first = np.unique(np.asarray(quarter, float), return_index=True)
        sec = np.asarray(sec, float)[first]
        if len(quarter) < 2:  # a single chord: any tempo is valid; use 60 quarters a minute
            start_quarter, start_sec = (quarter[0], sec[0]) if len(quarter) else (0.0, 0.0)
            return cls(np.array([start_quarter, start_quarter + 1]), np.array([start_sec, start_sec + 1]))
        ramp = MIN_BEAT_SEC * np.arange(len(sec))
        return cls(quarter, np.maximum.accumulate(sec - ramp) + ramp)

    def sec_at(self, quarter: NDArray | float) -> NDArray:
        """Performed seconds of score times."""
        return _interpolate(quarter, self.quarter, self.sec)

    def quarter_at(self, sec: NDArray | float) -> NDArray:
        """Score times of performed seconds."""
        return _interpolate(sec, self.sec, self.quarter)


def _interpolate(x: NDArray | float, xs: NDArray, ys: NDArray) -> NDArray:
    x = np.asarray(x, float)
    segment = np.clip(np.searchsorted(xs, x, side="right") - 1, 0, len(xs) - 2)
    slope = (ys[segment + 1] - ys[segment]) / (xs[segment + 1] - xs[segment])
    return ys[segment] + (x - xs[segment]) * slope


@dataclass(frozen=True)
class NoteEdit:
    """A note changed or added by the visitor, in seconds of the present performance.

    own  the fields set by the visitor; the others follow the pianist when the style changes
    """

    pitch: int
    onset_sec: float
    duration_sec: float
    velocity: int
    own: frozenset[str] = frozenset(FIELDS)


@dataclass(frozen=True)
class Reference:
    """A human performance of the same score, for the curves and as a source of style."""

    performance: Performance
    alignment: Alignment
    name: str


@dataclass(frozen=True)
class Controls:
    """Values of the style panel.

    preset, second  names of two presets; blend: 0 is the first, 1 the second
    axes            offsets on the style axes, standard deviations
    strength        tempo, timing, velocity, articulation, pedal; per cent, 0 to 150
    freedom         per cent: 0 is the expected performance of the score, 100 an individual sample
    """

    preset: str = "Default"
    second: str = "Default"
    blend: float = 0.0
    axes: tuple[float, ...] = ()
    strength: tuple[float, ...] = (100.0,) * 5
    seed: int = 0
    freedom: float = 100 * DEFAULT_FREEDOM


@dataclass(frozen=True)
class Take:
    """A composed alternative that the visitor can preview and accept.

    number  its id on the page, from 1
    kind    "compose", "continue" or "infill"
    span    (from, to) quarters in which its new notes start
    fresh   (n,) bool, which notes of the score are new
    base    the piece that it continues or infills; an empty Session for a new piece
    family  family of pieces that it is shown with, see Session
    performance  by the model that composed it, note i for note i of the score; None: the Pianist plays it
    form    its sections, see Session
    """

    number: int
    kind: str
    score: Score
    title: str
    seed: int
    span: tuple[float, float]
    fresh: NDArray[np.bool_]
    base: Session
    family: int = 0
    performance: Performance | None = None
    form: str = ""


@dataclass(frozen=True)
class Version:
    """One performance of the piece, made by one gesture: a slider, a pianist, a seed, bars played again.

    number  its id in the piece, from 1
    """

    number: int
    name: str
    controls: Controls
    style: Style
    rendered: Performance
    grid: Grid


@dataclass(frozen=True)
class Session:
    """Everything about one visitor's piece; see the module's docstring for note ids.

    rendered  the pianist's performance, note i for note i of the score, before edits
    pedal     (from, to) seconds of the visitor's pedal, None for the pianist's
    doc, take, rev  counters: opened score, its performance, edits so far
    past, future    pieces for undo (nearest last) and redo (nearest first); see studio.state.history
    docs, takes     number of opened scores; composed takes, newest last
    family          id that a piece shares with its accepted takes, and by which takes and renders are shown
    since           pieces up to this number are older than the opened project and not part of it
    form            sections over the bars of the score, as `engine.compose.form.parse_form` reads them; "" for none
    locked          indices of sections that must not change
    comparison      pinned performances and votes of listeners; see studio.state.pins
    versions        performances of this piece, oldest first; see studio.state.versions
    version, pair   number of the present one; of the two that Before and Now switch between, 0 for none
    """

    score: Score | None = None
    title: str = ""
    controls: Controls = Controls()
    style: Style = Style()
    rendered: Performance | None = None
    grid: Grid | None = None
    edits: Mapping[int, NoteEdit] = field(default_factory=lambda: MappingProxyType({}))
    deleted: frozenset[int] = frozenset()
    pedal: tuple[tuple[float, float], ...] | None = None
    reference: Reference | None = None
    example: str = ""
    doc: int = 0
    take: int = 0
    rev: int = 0
    past: tuple[Session, ...] = ()
    future: tuple[Session, ...] = ()
    docs: int = 0
    takes: tuple[Take, ...] = ()
    family: int = 0
    since: int = 0
    form: str = ""
    locked: frozenset[int] = frozenset()
    comparison: Comparison = Comparison()
    versions: tuple[Version, ...] = ()
    version: int = 0
    pair: tuple[int, int] = (0, 0)

    @property
    def edited(self) -> int:
        """Number of edited notes."""
        return len(self.edits) + len(self.deleted)

    def base(self, note_id: int) -> NoteEdit | None:
        """The pianist's version of note `note_id`; None for a note that the visitor added."""
        p = self.rendered
        if p is None or not 1 <= note_id <= len(p):
            return None
        i = note_id - 1
        return NoteEdit(
            int(p.pitch[i]), float(p.onset_sec[i]), float(p.duration_sec[i]), int(p.velocity[i]), frozenset()
        )

    def arrays(self) -> tuple[NDArray[np.int64], Performance]:
        """Ids and the present performance: remaining score notes in order, then added notes."""
        p = self.rendered
        assert p is not None, "nothing is open"
        columns = [np.array(getattr(p, name), float) for name in FIELDS]
        added = []
        for note_id, note in self.edits.items():
            if note_id <= len(p):
                for column, name in zip(columns, FIELDS, strict=True):
                    column[note_id - 1] = getattr(note, name)
            else:
                added.append(note_id)
        left = np.array([i for i in range(len(p)) if i + 1 not in self.deleted], int)
        rows = [
            np.concatenate([column[left], [getattr(self.edits[i], name) for i in added]])
            for column, name in zip(columns, FIELDS, strict=True)
        ]
        pedal_sec, pedal_value = self.pedal_events()
        performance = Performance(rows[1], rows[2], rows[0], rows[3], pedal_sec, pedal_value)
        return np.concatenate([left + 1, np.array(added, int)]), performance

    @property
    def performance(self) -> Performance:
        """The performance that is played and exported."""
        return self.arrays()[1]

    @property
    def alignment(self) -> Alignment:
        """Alignment of `performance` with the score."""
        assert self.rendered is not None, "nothing is open"
        ids = self.arrays()[0]
        kept = ids[ids <= len(self.rendered)]
        return Alignment(kept - 1, np.arange(len(kept)))

    def in_score_order(self) -> Performance:
        """One note per score note, with edits; deleted notes as in the pianist's performance."""
        whole = replace(self, deleted=frozenset(), edits={i: e for i, e in self.edits.items() if self.base(i)})
        return whole.performance

    def pedal_events(self) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
        """Sustain pedal as controller events: times in seconds, values 0 to 127."""
        if self.pedal is None:
            assert self.rendered is not None, "nothing is open"
            return self.rendered.pedal_sec, self.rendered.pedal_value
        events = [(t, v) for down, up in self.pedal for t, v in ((down, 127), (up, 0))]
        return np.array([t for t, _ in events], float), np.array([v for _, v in events], np.int16)

    def pedal_spans(self) -> tuple[tuple[float, float], ...]:
        """(from, to) seconds where the pedal is down."""
        if self.pedal is not None:
            return self.pedal
        sec, value = self.pedal_events()
        assert self.rendered is not None, "nothing is open"
        spans, start = [], None
        for t, v in zip(sec.tolist(), value.tolist(), strict=True):
            if v >= PEDAL_DOWN and start is None:
                start = t
            elif v < PEDAL_DOWN and start is not None:
                spans.append((start, t))
                start = None
        if start is not None:
            spans.append((start, max(start, self.rendered.end_sec)))
        return tuple(spans)


def replay(session: Session, rendered: Performance, grid: Grid) -> Session:
    """Apply the visitor's edits to a new performance, at the same musical positions."""
    old = session.grid
    if old is None:
        return replace(session, rendered=rendered, grid=grid, take=session.take + 1)

    def move(sec: float) -> float:
        return max(0.0, float(grid.sec_at(old.quarter_at(sec))))

    new = replace(session, rendered=rendered, grid=grid, take=session.take + 1)
    edits = {}
    for note_id, note in session.edits.items():
        base = new.base(note_id)
        onset = move(note.onset_sec) if base is None or "onset_sec" in note.own else base.onset_sec
        if base is None or "duration_sec" in note.own:
            length = move(note.onset_sec + note.duration_sec) - move(note.onset_sec)
            duration = max(0.01, length)
        else:
            duration = base.duration_sec
        edits[note_id] = NoteEdit(
            note.pitch if base is None or "pitch" in note.own else base.pitch,
            onset,
            duration,
            note.velocity if base is None or "velocity" in note.own else base.velocity,
            note.own,
        )
    pedal = None if session.pedal is None else tuple((move(a), move(b)) for a, b in session.pedal)
    return replace(new, edits=MappingProxyType(edits), pedal=pedal)


@dataclass(frozen=True)
class Selection:
    """Selection on the roll or in the engraved score.

    doc    the document of the notes
    notes  indices of score notes
    bars   (first, last) indices of their bars, None for no selection
    """

    doc: int = 0
    notes: tuple[int, ...] = ()
    bars: tuple[int, int] | None = None
