"""The Composer's tokens: a score as one compound token per note.

A note is five sub-tokens, in this order:

    advance   beats from the note before (0 the same beat); STOP ends the piece or the infilled passage
    position  ticks inside the beat, 24 to a quarter
    staff     0 upper, 1 lower
    pitch     MIDI number, transposed so that the key signature has no sharps or flats
    duration  class of DURATION_TICKS

They are the score half of ECP (family, beat position, pitch, duration; see `engine.tokens.ecp`) with two changes: the
Metric steps are folded into the notes, so 256 notes have 256 steps instead of 410, and there is a staff token. Beats
restart at every barline; a beat is a quarter, or a dotted quarter in 3/8, 6/8, 9/8 and 12/8. Grace notes are omitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.music.keys import minor_fit
from engine.music.types import Score
from engine.tokens.tables import DURATION_TICKS, nearest

TICKS_PER_QUARTER = 24
MAX_ADVANCE = 15
STOP = MAX_ADVANCE + 1
NOTE_TICKS = DURATION_TICKS[1:]  # without the grace note
ADVANCE, POSITION, STAFF, PITCH, DURATION = range(5)
FIELD_NAMES = ("advance", "position", "staff", "pitch", "duration")
FIELD_SIZES = (STOP + 1, 36, 2, 128, len(NOTE_TICKS))
MAX_BAR_TICKS = 192

METERS = (
    "2/4", "3/4", "4/4", "2/2", "3/8", "6/8", "9/8", "12/8", "3/2", "6/4", "4/8", "2/8", "5/4", "4/2", "other",
)  # fmt: skip
OTHER_METER = len(METERS) - 1


def meter_id(ts_num: int, ts_den: int) -> int:
    """Index into METERS.

    >>> METERS[meter_id(6, 8)], METERS[meter_id(17, 4)]
    ('6/8', 'other')
    """
    name = f"{ts_num}/{ts_den}"
    return METERS.index(name) if name in METERS else OTHER_METER


def beat_ticks(ts_num: ArrayLike, ts_den: ArrayLike) -> NDArray[np.int64]:
    """Ticks per beat of `advance`: 36 in 3/8, 6/8, 9/8, 12/8, else 24.

    >>> beat_ticks([3, 6, 2], [4, 8, 2])
    array([24, 36, 24])
    """
    num, den = np.asarray(ts_num), np.asarray(ts_den)
    return np.where((den == 8) & (num % 3 == 0), 36, 24)


def key_shift(fifths: int) -> int:
    """Semitones, -6 to 5, of the transposition to no key signature.

    >>> [key_shift(f) for f in (0, 1, -1, 6)]
    [0, 5, -5, -6]
    """
    return (6 - 7 * fifths) % 12 - 6


def is_minor(pitch: NDArray, duration: NDArray) -> bool:
    """Whether notes without key signature fit A minor better than C major (Krumhansl)."""
    return minor_fit(pitch, duration, 0) > 0


@dataclass(frozen=True)
class Bars:
    """Barlines on the tick grid, one entry a bar.

    start    (m,) ticks from the first barline
    length   (m,) ticks
    beat     (m,) ticks of its beat
    first    (m,) index of its first beat, counted through the piece
    meter    (m,) index into METERS
    fifths   (m,) key signature
    offset   (m,) missing ticks before a pickup
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    beat: NDArray[np.int64]
    first: NDArray[np.int64]
    meter: NDArray[np.int64]
    fifths: NDArray[np.int64]
    offset: NDArray[np.int64]


@dataclass(frozen=True)
class Written:
    """Notes on the tick grid, sorted by (tick, pitch), one of a pitch at a time.

    tick, pitch, staff, duration, bar  (n,) onset in ticks, MIDI number, 0 or 1, duration class, index of its bar
    source                             (n,) index of the note in the arrays it was made from
    bars                               Bars
    """

    tick: NDArray[np.int64]
    pitch: NDArray[np.int64]
    staff: NDArray[np.int64]
    duration: NDArray[np.int64]
    bar: NDArray[np.int64]
    source: NDArray[np.int64]
    bars: Bars

    def __len__(self) -> int:
        return len(self.tick)

    @property
    def in_bar(self) -> NDArray[np.int64]:
        """(n,) ticks from the start of the whole bar, pickups extrapolated; at most MAX_BAR_TICKS - 1."""
        return np.minimum(self.tick - self.bars.start[self.bar] + self.bars.offset[self.bar], MAX_BAR_TICKS - 1)

    @property
    def beat(self) -> NDArray[np.int64]:
        """(n,) index of its beat, counted through the piece."""
        return self.bars.first[self.bar] + self._phase // self.bars.beat[self.bar]

    @property
    def position(self) -> NDArray[np.int64]:
        """(n,) ticks inside the beat."""
        return self._phase % self.bars.beat[self.bar]

    @property
    def _phase(self) -> NDArray[np.int64]:
        return self.tick - self.bars.start[self.bar] + self.bars.offset[self.bar]


def make_bars(
    onset_quarter: NDArray, duration_quarter: NDArray, position_quarter: NDArray, ts_num: NDArray, ts_den: NDArray,
    fifths: NDArray,
) -> Bars:  # fmt: skip
    """Bars from the columns of a Measures (quarters); a pickup's beats count from the start of the whole bar."""
    start = np.round(np.asarray(onset_quarter) * TICKS_PER_QUARTER).astype(np.int64)
    end = np.round((onset_quarter[-1] + duration_quarter[-1]) * TICKS_PER_QUARTER)
    length = np.maximum(np.diff(np.append(start, int(end))), 1)
    offset = np.round(np.asarray(position_quarter) * TICKS_PER_QUARTER).astype(np.int64)
    beat = beat_ticks(ts_num, ts_den)
    beats = -(-(length + offset) // beat)
    first = np.concatenate([[0], np.cumsum(beats)[:-1]])
    meter = np.array([meter_id(int(a), int(b)) for a, b in zip(ts_num, ts_den, strict=True)], np.int64)
    return Bars(start, length, beat, first, meter, np.asarray(fifths, np.int64), offset)


def make_written(
    onset_quarter: NDArray, duration_quarter: NDArray, pitch: NDArray, staff: NDArray, grace: NDArray, bars: Bars
) -> Written:
    """Quantise notes to the grid, each relative to its own bar; grace notes and duplicate notes are omitted."""
    exact_start = bars.start / TICKS_PER_QUARTER
    bar = np.clip(np.searchsorted(exact_start, np.asarray(onset_quarter) + 1e-4, side="right") - 1, 0, None)
    tick = np.round(np.asarray(onset_quarter) * TICKS_PER_QUARTER).astype(np.int64)
    tick = np.maximum(tick, bars.start[bar])
    later = np.clip(bar + 1, 0, len(bars.start) - 1)  # a note rounded onto the next barline belongs there
    bar = np.where((later > bar) & (tick >= bars.start[later]), later, bar)
    duration = nearest(np.asarray(duration_quarter) * TICKS_PER_QUARTER, NOTE_TICKS)
    sounding = np.flatnonzero(~np.asarray(grace, bool) & (np.asarray(duration_quarter) > 0))
    order = sounding[np.lexsort((-duration[sounding], pitch[sounding], tick[sounding]))]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(tick[order]) != 0) | (np.diff(pitch[order].astype(int)) != 0)
    keep = order[new]
    lower = (np.asarray(staff)[keep] >= 2).astype(np.int64)
    return Written(
        tick[keep], np.asarray(pitch, np.int64)[keep], lower, duration[keep], bar[keep], keep.astype(np.int64), bars
    )


def write_tokens(score: Score) -> Written:
    """A Score on the Composer's grid; `source` is the index of each row's note."""
    m = score.measures
    bars = make_bars(m.onset_quarter, m.duration_quarter, m.position_quarter, m.ts_num, m.ts_den, m.fifths)
    staff = np.where(score.staff > 0, score.staff, np.where(score.pitch >= 60, 1, 2))
    return make_written(score.onset_quarter, score.duration_quarter, score.pitch, staff, score.grace, bars)
