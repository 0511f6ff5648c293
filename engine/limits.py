"""Limits of what a score may hold, stated once: a score that is opened within them can be saved and opened again.

SCORE, MEASURES  column of the type of that name: lowest, highest, dtype
"""

from __future__ import annotations

from typing import Any

import numpy as np

Limits = dict[str, tuple[float, float, Any]]

MAX_QUARTERS = 40_000  # 30 minutes at 400 beats are 12,000
MAX_BARS = 5_000
MAX_SCORE_NOTES = 20_000
MAX_TEMPO_BPM = 10_000
_INT16 = 32_767

SCORE: Limits = {
    "onset_quarter": (-MAX_QUARTERS, MAX_QUARTERS, np.float64),
    "duration_quarter": (0, MAX_QUARTERS, np.float64),
    "pitch": (0, 127, np.int16),
    "spelling": (-40, 40, np.int8),
    "staff": (0, 127, np.int8),
    "voice": (-_INT16, _INT16, np.int16),
    "grace": (0, 1, np.int8),
}
MEASURES: Limits = {
    "onset_quarter": (-MAX_QUARTERS, MAX_QUARTERS, np.float64),
    "duration_quarter": (0, MAX_QUARTERS, np.float64),
    "position_quarter": (-MAX_QUARTERS, MAX_QUARTERS, np.float64),
    "ts_num": (1, 1000, np.int16),
    "ts_den": (1, 1024, np.int16),
    "fifths": (-40, 40, np.int16),
    "number": (-1_000_000, 1_000_000, np.int32),
}
