"""ECP tokens: a score and its performance as one row of integers per step (XMVAE, arXiv 2507.01582).

A Metric step opens every beat and every later position in it that has notes; each note is a step of its own. The first
four columns are the score, the next four the performance, an optional ninth the sustain pedal:

    family  beat_position  pitch  duration | beat_period  velocity  timing  articulation | pedal
    BOS
    Metric  0
    Note                   C4     24 ticks | 0.5 s/beat   66        0 ms    -0.2         | down throughout

The performance columns are partitura's performance codec on the grids of `tables`, written with error feedback: each
value corrects what the rounding of the earlier ones has done, so that a segment never drifts.

Differences from partitura, besides the rounding: timing is positive when late; grace notes, trills and rolled chords
stay out of a chord's mean onset; the last beat period is the median of the four before; a grace note counts as 1/8
beat long, so that it keeps its length. What the paper leaves open (edges, beat unit, pedal) is chosen here and frozen
under `table_digest()`, which a checkpoint stores.
"""

from engine.tokens.decode import Decoded, Repairs, decode, decode_score, grammar_faults
from engine.tokens.encode import EcpConfig, Encoding, Rejected, Segment, encode
from engine.tokens.grid import encode_score
from engine.tokens.tables import COLUMN_NAMES, COLUMN_SIZES, TABLE_VERSION, table_digest

__all__ = [
    "COLUMN_NAMES", "COLUMN_SIZES", "TABLE_VERSION", "Decoded", "EcpConfig", "Encoding", "Rejected", "Repairs",
    "Segment", "decode", "decode_score", "encode", "encode_score", "grammar_faults", "table_digest",
]  # fmt: skip
