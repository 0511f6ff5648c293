"""Every limit that a user can reach, stated once; a test compares docs/limits.md with this module.

A score within these limits can be saved and opened again. Bytes, seconds and counts are inclusive maxima, unless the
comment says otherwise.

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
MAX_SEED = 2**31 - 1
_INT16 = 32_767

# ---- files
UPLOAD_BYTES = 20 * 1024 * 1024  # of one file, as sent by the browser
SCORE_BYTES = 20_000_000
MIDI_BYTES = 2_000_000
KERN_BYTES = 4_000_000
AUDIO_BYTES = 20_000_000
COMPARED_SEC = 600.0  # of one recording in Compare
PROJECT_BYTES = 20_000_000
MIDI_MINUTES = 30
NOTATION_BARS = 2_000  # of MusicXML, kern and MEI
READ_SECONDS = 8  # CPU time, so that the limit does not depend on the load
READ_MEMORY_BYTES = 1_500_000_000
MIN_RATE, MAX_RATE = 8_000, 192_000  # Hz of a recording
AUDIO_CHANNELS = 8

# ---- one visitor
PERFORMANCE_NOTES = 20_000  # including those that the visitor adds
PERFORMANCE_SEC = 3600.0
COMPOSED_NOTES, COMPOSED_BARS, COMPOSED_TAKES = 2048, 128, 4  # at a time
REQUEST_NOTES, REQUEST_BARS, REQUEST_TAKES = 4000, 400, 8  # at a time, from the command line and Python
PASSAGE_NOTES = 256  # of a passage by XMVAE, ECPT or MT
MAX_CURVE_POINTS = 32  # breakpoints of a style over time
MIN_VARIED = 8  # minimum notes of a passage that XMVAE varies
MAX_Z_P = 3  # deviations by which a direction of z_p moves XMVAE's playing
KEPT_TAKES = 12
KEPT_RENDERS = 3
KEPT_RENDER_SEC = 1800.0  # of one render in a project
KEPT_PIECES = 10  # each of undo and of redo in a project

# ---- all visitors
MAX_VISITS = 200  # at one time
VISITS_OVER = 3  # times MAX_VISITS: beyond it the least recently used visit is evicted, even with unsaved work
VISIT_IDLE_SEC = 600.0  # a visit with an open page is not evicted earlier
VISIT_SEC = 6 * 3600.0  # after it was last used
ABANDONED_SEC = 25.0  # a job that no page has polled for this time is stopped; a later poll starts it again
PERFORMANCES_AT_ONCE = 4  # or as many as there are processors, if these are fewer
PREVIEWS_AT_ONCE = 2
WAITING_SHORT = 96  # visitors that wait for a performance or a preview
WAITING_LONG = 32  # visitors that wait for a composition or a render

# ---- what arrives
EVENT_BYTES = 1_000_000  # of a page event; an edit of 20,000 notes has half of it
ALL_UPLOADS_BYTES = 500_000_000  # of all visitors together, a quarter of a smaller disk; the oldest are removed first
UPLOAD_YOUNG_SEC = 300.0  # no file is removed earlier
UPLOAD_IDLE_SEC = 15.0  # without a byte
CLIENT_UPLOADS = 2  # at a time
CLIENT_BYTES = 120_000_000  # in UPLOAD_YOUNG_SEC

# ---- work that is kept between visits
KEEP_AFTER_SEC = 2.0  # after the last change
KEEP_WITHIN_SEC = 10.0  # after the first unsaved change, even during continuous edits
KEPT_BYTES = 2_000_000_000  # of all visitors
KEPT_SEC = 30 * 24 * 3600.0
KEPT_FRESH_SEC = 7 * 24 * 3600.0  # more recently used work stays, whatever the quota
BROWSER_TABS = 12  # the oldest are removed first
BROWSER_BYTES = 100_000_000

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
