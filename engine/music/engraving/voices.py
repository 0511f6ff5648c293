"""Voice separation: assign the notes of a staff to voices, upper to lower."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

MAX_VOICES = 4  # of one staff
_WIDTH = 24  # beam width
_OVER = 60  # largest group of overlapping chords; longer ones are cut
_LEAP, _REST, _HIDDEN_REST, _CROSSING, _CROSSING_PITCH = 0.05, 1.0, 0.3, 4.0, 0.2
_EXTRA = (0.0, 0.5, 3.0, 6.0)  # for a chord in the first, second, ... voice


@dataclass(frozen=True)
class Group:
    """Notes that begin and end together: start and end in quarters, low and high in MIDI numbers."""

    start: Fraction
    end: Fraction
    low: int
    high: int
    rows: tuple[int, ...]


def separate(
    onset: Sequence[Fraction], end: Sequence[Fraction], pitch: Sequence[int], rows: Sequence[int]
) -> list[dict[int, int]]:
    """Divide one staff's notes, `rows`, into groups of overlapping notes, and each group into voices.

    onset, end  (n,) quarters of all notes; pitch (n,) MIDI numbers
    returns     for each group {row: voice}, voice 0 the upper one, 1 the next ... up to MAX_VOICES - 1; notes of a
                voice do not overlap unless they begin and end together, as far as MAX_VOICES are enough

    A note held under moving ones is the lower voice:
    >>> f = [Fraction(k) for k in (0, 0, 1, 2)], [Fraction(k) for k in (3, 1, 2, 3)], [48, 60, 62, 64]
    >>> separate(*f, range(4))
    [{1: 0, 0: 1, 2: 0, 3: 0}]
    """
    by_span = defaultdict(list)
    for row in rows:
        by_span[onset[row], end[row]].append(row)
    groups = [
        Group(start, stop, min(pitch[r] for r in found), max(pitch[r] for r in found), tuple(found))
        for (start, stop), found in by_span.items()
    ]
    groups.sort(key=lambda g: (g.start, -g.high, -g.end))
    out, tangle, reach = [], [], None
    for group in [*groups, None]:
        if tangle and (group is None or reach is None or group.start >= reach or len(tangle) >= _OVER):
            voices = _voices(tangle) if len(tangle) > 1 else [0]
            out.append({row: v for g, v in zip(tangle, voices, strict=True) for row in g.rows})
            tangle, reach = [], None
        if group is not None:
            tangle.append(group)
            reach = group.end if reach is None else max(reach, group.end)
    return out


@dataclass(frozen=True)
class _Path:
    """A partial solution: its cost, the voice of each chord so far, and the last chord of each voice."""

    cost: float
    chosen: tuple[int, ...]
    last: tuple[Group | None, ...]


def _voices(groups: Sequence[Group]) -> list[int]:
    """The voices of lowest cost by beam search, one number per chord."""
    paths = [_Path(0.0, (), (None,) * MAX_VOICES)]
    for group in groups:
        grown: dict[tuple, _Path] = {}
        for path in paths:
            for voice in range(MAX_VOICES):
                if voice and path.last[voice - 1] is None and path.last[voice] is None and voice > 1:
                    continue  # the third voice comes after the second
                cost = path.cost + _cost(path.last, group, voice, groups[0].start)
                last = (*path.last[:voice], group, *path.last[voice + 1 :])
                best = grown.get(last)
                if best is None or cost < best.cost:
                    grown[last] = _Path(cost, (*path.chosen, voice), last)
        paths = sorted(grown.values(), key=lambda p: p.cost)[:_WIDTH]
    return list(paths[0].chosen)


def _cost(last: tuple[Group | None, ...], group: Group, voice: int, begin: Fraction) -> float:
    """Cost of assigning a chord to a voice: overlaps, crossings, leaps, rests."""
    before = last[voice]
    cost = _EXTRA[voice]
    if before is not None:
        if before.end > group.start:
            cost += 1000.0
        cost += _LEAP * abs((before.low + before.high) - (group.low + group.high)) / 2
    silent = group.start > (before.end if before is not None else begin)
    if silent:
        cost += _HIDDEN_REST if voice else _REST
    for other, sounding in enumerate(last):
        if other == voice or sounding is None or sounding.end <= group.start:
            continue
        above, below = (sounding, group) if other < voice else (group, sounding)
        if above.high < below.high or above.low < below.low:
            cost += _CROSSING + _CROSSING_PITCH * max(below.high - above.high, below.low - above.low)
    return cost
