"""A take as a small picture and a line of figures. The picture contains only numbers, so it is safe as HTML."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.music.types import Score
from studio.actions.composing import key_of
from studio.state.session import Take

WIDTH, HEIGHT = 240, 64  # units of the picture
CONTEXT_QUARTERS = 12.0  # context on either side of the new notes


def picture(take: Take) -> str:
    """An inline SVG piano roll: upper staff, lower staff, and existing notes in a paler tone. CSS sets the colours."""
    score, new = take.score, take.fresh
    onset, end = score.onset_quarter, score.onset_quarter + np.maximum(score.duration_quarter, 0.1)
    start, stop = _window(take)
    seen = (end > start) & (onset < stop)
    if not seen.any():
        return ""
    low, high = int(score.pitch[seen].min()) - 1, int(score.pitch[seen].max()) + 1
    row = HEIGHT / max(24, high - low + 1)
    middle = (high + low) / 2
    scale = WIDTH / max(stop - start, 1e-6)
    x = (np.maximum(onset, start) - start) * scale
    width = np.maximum((np.minimum(end, stop) - np.maximum(onset, start)) * scale - 0.4, 0.8)
    y = HEIGHT / 2 - (score.pitch - middle) * row
    upper = np.where(score.staff > 0, score.staff == 1, score.pitch >= 60)
    parts = [_bars(score, start, stop, scale)]
    for name, chosen in (("old", seen & ~new), ("lower", seen & new & ~upper), ("upper", seen & new & upper)):
        parts.append(_path(name, x[chosen], y[chosen], width[chosen], max(1.2, min(row * 0.9, 4.0))))
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">{"".join(parts)}</svg>'


def _window(take: Take) -> tuple[float, float]:
    score = take.score
    first, last = float(score.onset_quarter[0]), score.measures.end_quarter
    if take.kind == "compose":
        return min(first, 0.0), last
    return max(first, take.span[0] - CONTEXT_QUARTERS), min(last, take.span[1] + CONTEXT_QUARTERS)


def _bars(score: Score, start: float, stop: float, scale: float) -> str:
    lines = score.measures.onset_quarter
    lines = lines[(lines > start + 1e-6) & (lines < stop)]
    if len(lines) > 64:
        return ""
    return f'<path class="bars" d="{"".join(f"M{(q - start) * scale:.1f},0v{HEIGHT}" for q in lines)}"/>'


def _path(name: str, x: NDArray, y: NDArray, width: NDArray, thick: float) -> str:
    if not len(x):
        return ""
    d = "".join(f"M{a:.1f},{b:.1f}h{c:.1f}" for a, b, c in zip(x, y, width, strict=True))
    return f'<path class="{name}" stroke-width="{thick:.1f}" d="{d}"/>'


def figures(take: Take) -> str:
    """Key, metre, bars and notes of the new part: "F minor, 3/4, 24 bars, 256 notes"."""
    score, m = take.score, take.score.measures
    inside = (m.onset_quarter < take.span[1] - 1e-6) & (m.onset_quarter + m.duration_quarter > take.span[0] + 1e-6)
    bars, notes = int(inside.sum()), int(take.fresh.sum())
    first = int(np.flatnonzero(inside)[0]) if bars else 0
    return (
        f"{key_of(score)}, {m.ts_num[first]}/{m.ts_den[first]}, "
        f"{bars} {'bar' if bars == 1 else 'bars'}, {notes} {'note' if notes == 1 else 'notes'}"
    )
