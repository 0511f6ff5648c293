"""The numbers of ECP: the frozen, versioned tables between integers and musical values.

ECP is the expressive compound word of XMVAE (arXiv 2507.01582). One row of tokens is one step; in every column 0 is
PAD or "not applicable" (IGN) and class i of a table is the token 1 + i.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

TABLE_VERSION = 1
TICKS_PER_BEAT = 24
PITCH_LOW, PITCH_HIGH = 21, 108

IGN = 0
NOTE, METRIC, BOS, EOS = 1, 2, 3, 4

# columns of a step
FAMILY, POSITION, PITCH, DURATION, BEAT_PERIOD, VELOCITY, TIMING, ARTICULATION, PEDAL = range(9)
COLUMN_NAMES = (
    "family", "beat_position", "pitch", "duration",
    "beat_period", "velocity", "timing", "articulation", "pedal",
)  # fmt: skip
SCORE_COLUMNS, PERFORMANCE_COLUMNS = slice(0, 4), slice(4, 8)
COLUMN_SIZES = (5, 25, 89, 52, 162, 33, 42, 82, 17)  # tokens of each column, 0 included
PEDAL_DOWN = 64


def _table(values: ArrayLike) -> NDArray[np.float64]:
    table = np.array(values, np.float64)
    table.setflags(write=False)
    return table


def nearest(value: ArrayLike, table: NDArray[np.float64]) -> NDArray[np.int64]:
    """Class of the table's nearest entry; a tie goes to the smaller one.

    >>> nearest([0.4, 0.5, 9.0], np.array([0.0, 1.0, 2.0]))
    array([0, 0, 2])
    """
    return np.searchsorted((table[:-1] + table[1:]) / 2, np.asarray(value, np.float64), side="left")


def _timing_table() -> NDArray[np.float64]:
    late = 0.002 * 500 ** (np.arange(20) / 19)  # 2 ms to 1 s
    return _table(np.concatenate([-late[::-1], [0.0], late]))


# Notated length in ticks; 0 is a grace note.
DURATION_TICKS = _table([
    *range(25), *range(26, 49, 2), *range(54, 97, 6), *range(120, 193, 24), 288, 384,
])  # fmt: skip
LOG2_BEAT_PERIODS = _table(-4.5 + 0.05 * np.arange(161))  # log2 of seconds per beat: 0.044 to 11.3 s
BEAT_PERIODS = _table(np.exp2(LOG2_BEAT_PERIODS))
VELOCITIES = _table(4 * np.arange(32) + 2)  # class v // 4
TIMINGS = _timing_table()  # seconds, positive is late
ARTICULATIONS = _table(-5 + 0.1 * np.arange(81))  # log2(played / notated)

# Mean and deviation of the continuous values X_pv, measured once by training.xmvae.eval_ecp on 1.73 M played notes of
# the robust training performances of nASAP (musical beats) and frozen: log2 beat period, velocity / 127, signed log
# timing, articulation_log2.
VALUE_MEAN = _table([-0.935, 0.521, -0.037, -0.859])
VALUE_STD = _table([0.902, 0.137, 1.515, 1.101])


def signed_log(timing_sec: ArrayLike) -> NDArray[np.float64]:
    """Timing with its small differences widened: sign(x) log(1 + |x| / 2 ms).

    >>> signed_log([0.0, 0.002, -0.002]).round(3)
    array([ 0.   ,  0.693, -0.693])
    """
    x = np.asarray(timing_sec, np.float64)
    return np.sign(x) * np.log1p(np.abs(x) / 0.002)


def table_digest() -> str:
    """Hex SHA-1 of every table and column size: stored in a checkpoint, compared when it is opened."""
    h = hashlib.sha1(f"ecp {TABLE_VERSION} {TICKS_PER_BEAT} {PITCH_LOW} {PITCH_HIGH} {COLUMN_SIZES}".encode())
    for table in (DURATION_TICKS, LOG2_BEAT_PERIODS, VELOCITIES, TIMINGS, ARTICULATIONS, VALUE_MEAN, VALUE_STD):
        h.update(table.round(9).tobytes())
    return h.hexdigest()
