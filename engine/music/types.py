"""The shared musical types: frozen, with the unit in each field name.

`Score`: written notes (quarters). `Performance`: played notes (seconds). `Alignment`: their match. `Expression`: their
difference. `Style`: settings of the Pianist. `AudioClip`: sound.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

PEDAL_SAMPLES = 4  # sustain pedal samples per note: at 0, 1/4, 1/2, 3/4 of the time to the next onset


class BadInput(ValueError):
    """One sentence for the user: what arrived, what is accepted, what to do."""


class BundleError(RuntimeError):
    """A checkpoint cannot be used; the message has the folder and the reason."""


def _freeze(obj: object, name: str, dtype: np.dtype | type, shape_like: int | None = None) -> NDArray:
    value = np.array(getattr(obj, name), dtype=dtype)  # a copy, so that the caller's array stays writable
    if shape_like is not None and len(value) != shape_like:
        raise ValueError(f"{name} has {len(value)} entries, {shape_like} expected; give one per note")
    value.setflags(write=False)
    object.__setattr__(obj, name, value)
    return value


def digest(obj: object) -> str:
    """Hex SHA-1 of a frozen musical object's contents, a cache key."""
    h = hashlib.sha1(type(obj).__name__.encode())
    for f in fields(obj):  # type: ignore[arg-type]
        if not f.compare:  # metadata of the file, not music
            continue
        value = getattr(obj, f.name)
        h.update(f.name.encode())
        if isinstance(value, np.ndarray):
            h.update(str(value.shape).encode() + value.tobytes())
        elif hasattr(value, "__dataclass_fields__"):
            h.update(digest(value).encode())
        else:
            h.update(repr(value).encode())
    return h.hexdigest()


MARK_NAMES = (
    "written_velocity",  # 1..127 velocity of the written dynamics, 0 unknown
    "hairpin",  # 1 crescendo, -1 diminuendo, 0 neither
    "accent",  # 1 accent, 2 marcato or sforzato
    "staccato",  # 1 staccato, 2 staccatissimo
    "tenuto",  # 1 tenuto
    "slur",  # 0 none, 1 inside or at the start of a slur, 2 its last note
    "fermata",  # 1 under a fermata
    "arpeggio",  # 1 rolled chord
    "ornament",  # 1 trill, 2 mordent, 3 turn, 4 mordent upward, 5 turn inverted, TREMOLO + number of its beams
    "tempo_bpm",  # quarters per minute of the metronome mark in force, 0 unknown
    "tempo_word",  # class of the tempo word in force, see in_force.TEMPO_WORDS, 0 unknown
    "tempo_change",  # -1 under ritardando, 1 under accelerando, 0 neither
)


TREMOLO = 16  # in the column "ornament"


@dataclass(frozen=True)
class Marks:
    """Performance marks, one value per note of a Score.

    table  (n, 12) int16, columns in the order of MARK_NAMES; 0 means "not written" or "not known"
    """

    table: NDArray[np.int16]

    def __post_init__(self) -> None:
        table = _freeze(self, "table", np.int16)
        if table.ndim != 2 or table.shape[1] != len(MARK_NAMES):
            raise ValueError(f"marks are (n, {len(MARK_NAMES)}), got {table.shape}; see MARK_NAMES")

    def __getitem__(self, name: str) -> NDArray[np.int16]:
        """One column by name, (n,) int16."""
        return self.table[:, MARK_NAMES.index(name)]

    @classmethod
    def none(cls, n: int) -> Marks:
        """No marks, as for a plain MIDI file."""
        return cls(np.zeros((n, len(MARK_NAMES)), np.int16))


EVENT_NAMES = (
    "fermata",  # on a note or a rest
    "double",  # a double bar
    "repeat",  # a repeat or final barline
    "key",  # a new key signature
    "dynamic",  # a dynamics sign: p, ff, sfz ...
    "rit", "accel", "a_tempo", "slower", "faster", "dolce", "force", "held", "free", "cresc", "dim",  # words
    "pedal_down", "pedal_up", "con_pedale", "senza_pedale",
    "metronome",  # a printed metronome mark, not a hidden playback tempo
)  # fmt: skip


@dataclass(frozen=True)
class PageEvents:
    """Signs at a score position rather than a note, in playing order.

    quarter  (e,) float64 quarters from the first barline, ascending; a barline is 0.001 before the bar's end
    kind     (e,) int8 index into EVENT_NAMES
    """

    quarter: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    kind: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))

    def __post_init__(self) -> None:
        _freeze(self, "quarter", np.float64)
        _freeze(self, "kind", np.int8, len(self.quarter))
        if not np.isfinite(self.quarter).all() or (np.diff(self.quarter) < 0).any():
            raise ValueError("page events stand at finite places in ascending order")
        if ((self.kind < 0) | (self.kind >= len(EVENT_NAMES))).any():
            raise ValueError(f"the kind of a page event is 0 to {len(EVENT_NAMES) - 1}, see EVENT_NAMES")

    def __len__(self) -> int:
        return len(self.quarter)

    def at(self, name: str) -> NDArray[np.float64]:
        """Positions of the events of one kind, quarters."""
        return self.quarter[self.kind == EVENT_NAMES.index(name)]

    @classmethod
    def of(cls, events: Iterable[tuple[float, str]]) -> PageEvents:
        """From (quarter, name) pairs in any order."""
        found = sorted((float(q), EVENT_NAMES.index(name)) for q, name in events)
        return cls(np.array([q for q, _ in found]), np.array([k for _, k in found], np.int8))


@dataclass(frozen=True)
class Measures:
    """Barlines, metre and key, one entry per measure, in playing order.

    onset_quarter     (m,) quarters from the first barline; a pickup measure is negative
    duration_quarter  (m,) actual length in quarters
    position_quarter  (m,) start of the measure in its bar: 0, or more for a pickup
    ts_num, ts_den    (m,) time signature
    fifths            (m,) key signature, sharps positive
    number            (m,) the printed measure number
    """

    onset_quarter: NDArray[np.float64]
    duration_quarter: NDArray[np.float64]
    position_quarter: NDArray[np.float64]
    ts_num: NDArray[np.int16]
    ts_den: NDArray[np.int16]
    fifths: NDArray[np.int16]
    number: NDArray[np.int32]

    def __post_init__(self) -> None:
        m = len(self.onset_quarter)
        for name in ("onset_quarter", "duration_quarter", "position_quarter"):
            _freeze(self, name, np.float64, m)
        for name in ("ts_num", "ts_den", "fifths"):
            _freeze(self, name, np.int16, m)
        _freeze(self, "number", np.int32, m)
        if m == 0 or (np.diff(self.onset_quarter) < 0).any():
            raise ValueError("a score has at least one measure, in ascending order")
        if (self.ts_num <= 0).any() or (self.ts_den <= 0).any():
            raise ValueError("time signatures are positive")

    def __len__(self) -> int:
        return len(self.onset_quarter)

    @property
    def end_quarter(self) -> float:
        return float(self.onset_quarter[-1] + self.duration_quarter[-1])


@dataclass(frozen=True)
class Remark:
    """A note on content of a file that the reader omitted, guessed or repaired.

    bar      printed measure number; 0 for the whole file
    element  the element in the terms of its format: "<cue>", "**text", "note 60"
    text     the treatment, one clause: "cue notes are not played"
    """

    bar: int
    element: str
    text: str


@dataclass(frozen=True)
class Score:
    """A written piece, repeats unfolded as played, ties merged. Notes are sorted by (onset, pitch); n >= 1.

    onset_quarter     (n,) quarters from the first barline (a pickup is negative)
    duration_quarter  (n,) quarters; 0 for a grace note
    pitch             (n,) MIDI number
    spelling          (n,) tonal pitch class on the line of fifths: F -1, C 0, G 1, ... B 5, F# 6, Bb -2
    staff             (n,) 1 upper, 2 lower, 0 unknown
    voice             (n,) number within the part, 0 unknown
    grace             (n,) bool
    marks             Marks of n rows
    measures          Measures
    title, composer   from the file, "" if unknown
    tempo_bpm         mean tempo of the default performance, quarters a minute; 0: the Pianist decides
    events            signs between the notes, see PageEvents
    remarks           omissions, guesses and repairs of the reader; not part of the digest
    document          the source MusicXML file, zlib-compressed; b"" for other sources. Saving patches it, see
                      engine.music.document. Not part of the digest
    """

    onset_quarter: NDArray[np.float64]
    duration_quarter: NDArray[np.float64]
    pitch: NDArray[np.int16]
    spelling: NDArray[np.int8]
    staff: NDArray[np.int8]
    voice: NDArray[np.int16]
    grace: NDArray[np.bool_]
    marks: Marks
    measures: Measures
    title: str = ""
    composer: str = ""
    tempo_bpm: float = 0.0
    events: PageEvents = field(default_factory=PageEvents)
    remarks: tuple[Remark, ...] = field(default=(), compare=False)
    document: bytes = field(default=b"", compare=False, repr=False)

    def __post_init__(self) -> None:
        n = len(self.onset_quarter)
        if n == 0:
            raise BadInput("This score has no notes; a score needs at least one note. Choose another file.")
        for name, dtype in (
            ("onset_quarter", np.float64),
            ("duration_quarter", np.float64),
            ("pitch", np.int16),
            ("spelling", np.int8),
            ("staff", np.int8),
            ("voice", np.int16),
            ("grace", np.bool_),
        ):
            _freeze(self, name, dtype, n)
        if len(self.marks.table) != n:
            raise ValueError(f"marks have {len(self.marks.table)} rows for {n} notes")
        if (np.diff(self.onset_quarter) < 0).any():
            raise ValueError("score notes are sorted by (onset, pitch); sort before building a Score")

    def __len__(self) -> int:
        return len(self.onset_quarter)

    @property
    def digest(self) -> str:
        return digest(self)


@dataclass(frozen=True)
class Performance:
    """Played notes and pedal, in any order; a performance of a Score by the Pianist keeps the score's order, note i for
    note i.

    onset_sec     (n,) seconds from the start of the recording
    duration_sec  (n,) seconds the key is held, not the pedalled sound
    pitch         (n,) MIDI number
    velocity      (n,) 1..127
    pedal_sec     (p,) seconds, ascending: times of sustain-pedal (controller 64) events
    pedal_value   (p,) 0..127; 64 and above is "down"
    """

    onset_sec: NDArray[np.float64]
    duration_sec: NDArray[np.float64]
    pitch: NDArray[np.int16]
    velocity: NDArray[np.int16]
    pedal_sec: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    pedal_value: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))

    def __post_init__(self) -> None:
        n, p = len(self.onset_sec), len(self.pedal_sec)
        for name, dtype, length in (
            ("onset_sec", np.float64, n),
            ("duration_sec", np.float64, n),
            ("pitch", np.int16, n),
            ("velocity", np.int16, n),
            ("pedal_sec", np.float64, p),
            ("pedal_value", np.int16, p),
        ):
            _freeze(self, name, dtype, length)
        if not np.isfinite(self.onset_sec).all() or not np.isfinite(self.duration_sec).all():
            raise ValueError("performed times are finite seconds")

    def __len__(self) -> int:
        return len(self.onset_sec)

    @property
    def end_sec(self) -> float:
        """Time of the last key release; 0 for an empty performance."""
        return float((self.onset_sec + self.duration_sec).max()) if len(self) else 0.0

    @property
    def digest(self) -> str:
        return digest(self)


@dataclass(frozen=True)
class Alignment:
    """The match of played and written notes.

    score_index, performance_index  (k,) pairs of matched notes, ascending score_index
    Score notes outside are omissions (unplayed); performance notes outside are insertions (ornaments, slips).
    """

    score_index: NDArray[np.int32]
    performance_index: NDArray[np.int32]

    def __post_init__(self) -> None:
        k = len(self.score_index)
        _freeze(self, "score_index", np.int32, k)
        _freeze(self, "performance_index", np.int32, k)

    def __len__(self) -> int:
        return len(self.score_index)

    @classmethod
    def identity(cls, n: int) -> Alignment:
        """Note i of the score is note i of the performance, as in the Pianist's performances."""
        return cls(np.arange(n, dtype=np.int32), np.arange(n, dtype=np.int32))


@dataclass(frozen=True)
class Expression:
    """The expression of a performance: one row per score note, as in partitura's performance codec.

    beat_period       (n,) seconds per (musical) beat at the note's onset; tied within a chord
    timing_sec        (n,) seconds off the beat grid, positive is late
    velocity          (n,) 1..127
    articulation_log2 (n,) log2(played / notated length); 0 is full length
    pedal             (n, 4) sustain pedal 0..127 at 0, 1/4, 1/2, 3/4 of the time to the next onset
    played            (n,) bool; False for an omission (its row is interpolated)
    """

    beat_period: NDArray[np.float64]
    timing_sec: NDArray[np.float64]
    velocity: NDArray[np.float64]
    articulation_log2: NDArray[np.float64]
    pedal: NDArray[np.float64]
    played: NDArray[np.bool_]

    def __post_init__(self) -> None:
        n = len(self.beat_period)
        for name in ("beat_period", "timing_sec", "velocity", "articulation_log2", "pedal"):
            _freeze(self, name, np.float64, n)
        _freeze(self, "played", np.bool_, n)
        if self.pedal.shape != (n, PEDAL_SAMPLES):
            raise ValueError(f"pedal is (n, {PEDAL_SAMPLES}), got {self.pedal.shape}")

    def __len__(self) -> int:
        return len(self.beat_period)


@dataclass(frozen=True)
class Strength:
    """Scale of each kind of expression: 0 is none (deadpan), 1 as modelled, up to 1.5 exaggerated."""

    tempo: float = 1.0
    timing: float = 1.0
    velocity: float = 1.0
    articulation: float = 1.0
    pedal: float = 1.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if not 0.0 <= value <= 1.5:
                raise BadInput(f"Strength of {f.name} is {value:g}; 0 to 1.5 (0 to 150 %) is accepted.")


@dataclass(frozen=True, eq=False)
class NoteStrength:
    """A Strength for each note, (n,) each.

    group  (n,) velocity scales about the mean of the notes of a group
    """

    tempo: NDArray[np.float64]
    timing: NDArray[np.float64]
    velocity: NDArray[np.float64]
    articulation: NDArray[np.float64]
    pedal: NDArray[np.float64]
    group: NDArray[np.int64]


DEFAULT_FREEDOM = 0.3


@dataclass(frozen=True)
class Style:
    """Settings of the Pianist.

    z         values on the labelled style axes and the free latent, in standard deviations; () is the default style
    strength  Strength
    seed      the same seed and settings give the same notes
    freedom   0 is the expected performance, 1 an individual sample; DEFAULT_FREEDOM by default
    ornaments realise trills, mordents, turns and tremolos; additional notes follow after the others
    """

    z: tuple[float, ...] = ()
    strength: Strength = Strength()
    seed: int = 0
    freedom: float = DEFAULT_FREEDOM
    ornaments: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.freedom <= 1.0:
            raise BadInput(f"Freedom is {self.freedom:g}; 0 (the expected performance) to 1 is accepted.")


@dataclass(frozen=True)
class AudioClip:
    """Sound of one or two channels.

    samples      (num_samples,) float32 in [-1, 1], or (num_samples, 2) for left and right
    sample_rate  Hz
    """

    samples: NDArray[np.float32]
    sample_rate: int

    def __post_init__(self) -> None:
        samples = _freeze(self, "samples", np.float32)
        if samples.ndim != 1 and samples.shape[1:] != (2,):
            raise ValueError(f"an AudioClip is (num_samples,) or (num_samples, 2), got {samples.shape}")

    @classmethod
    def joined(cls, parts: Iterable[AudioClip]) -> AudioClip:
        """Concatenate the parts of a stream, at least one."""
        clips = list(parts)
        return cls(np.concatenate([clip.samples for clip in clips]), clips[0].sample_rate)

    @property
    def channels(self) -> int:
        """1, or 2 for stereo."""
        return 1 if self.samples.ndim == 1 else self.samples.shape[1]

    def mono(self) -> AudioClip:
        """The mean of the channels; the clip itself if it is mono."""
        return self if self.channels == 1 else AudioClip(self.samples.mean(1), self.sample_rate)

    @property
    def duration_sec(self) -> float:
        return len(self.samples) / self.sample_rate
