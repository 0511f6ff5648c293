"""Repeats, endings and jumps: the bars of a page in the order in which they are played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_BARS = 10_000  # unfolded; more occur only in faulty or hostile files


@dataclass
class Signs:
    """The repeat signs and jumps of one bar.

    forward   whether a repeated passage begins with this bar
    backward  number of passes of the passage that ends with this bar, 0 for none (2 is the usual repeat)
    endings   numbers of the bar's ending; empty outside endings
    jumps     "dacapo", "dalsegno", "fine", "tocoda" act after the bar, "segno", "coda" name its beginning
    """

    forward: bool = False
    backward: int = 0
    endings: frozenset[int] = frozenset()
    jumps: set[str] = field(default_factory=set)


def playing_order(bars: Sequence[Signs]) -> list[int]:
    """Indices of bars as played: every ending in its turn; after D.C. or D.S. no repeats, the last endings.

    A D.C. or D.S. is taken once. Fine and "to coda" apply only after a jump. Without a segno D.S. is D.C.

    >>> a, b = Signs(), Signs(jumps={"fine"})
    >>> playing_order([a, b, Signs(jumps={"dacapo"})])
    [0, 1, 2, 0, 1]
    """
    order: list[int] = []
    i, start, turn, jumped = 0, 0, 1, False
    used: set[int] = set()
    known: set[int] = set()  # bars before the last jump: their repeats are not taken again
    while i < len(bars):
        if len(order) > MAX_BARS:
            return list(range(len(bars)))
        bar = bars[i]
        if i > start and (bar.forward or (not bar.endings and bars[i - 1].endings)):
            start, turn = i, 1
        group = _group(bars, i)
        top = max((n for k in group for n in bars[k].endings), default=0)
        if bar.endings and (top if i in known else turn) not in bar.endings:
            i += 1
            continue
        order.append(i)
        if i not in known and bar.backward and turn < _passes(bars, i, group, top):
            turn, i = turn + 1, start
            continue
        if bar.backward and not (bar.endings and i < group[-1]) and not _ending_follows(bars, i):
            start, turn = i + 1, 1
        if jumped and "fine" in bar.jumps:
            break
        to = _jump(bars, i, jumped, used)
        if to is None:
            if bar.endings and i < group[-1] and not bar.backward and not (bars[i + 1].endings & bar.endings):
                i = group[-1]  # an ending that does not go back: those after it were or are other turns
            i += 1
        else:
            jumped, known = True, set(order)
            i, start, turn = to, to, 1
    return order


def _group(bars: Sequence[Signs], i: int) -> range:
    """The endings of one passage around bar i; empty outside endings. A second first ending begins other endings."""
    if not bars[i].endings:
        return range(0)
    a = i
    while a > 0 and bars[a - 1].endings and not bars[a].forward:
        a -= 1
    first_seen = 1 in bars[a].endings
    for k in range(a + 1, len(bars)):
        first = 1 in bars[k].endings
        again = first and first_seen and bars[k].endings != bars[k - 1].endings
        if not bars[k].endings or bars[k].forward or again:
            if k > i:
                return range(a, k)
            a, first_seen = k, False
        first_seen = first_seen or first
    return range(a, len(bars))


def _ending_follows(bars: Sequence[Signs], i: int) -> bool:
    """Whether a repeat that ends with bar i, outside endings, has its last ending after it (the first is unmarked)."""
    if bars[i].endings or i + 1 >= len(bars):
        return False
    later = bars[i + 1]
    return bool(later.endings) and 1 not in later.endings and not later.forward


def _passes(bars: Sequence[Signs], i: int, group: range, top: int) -> int:
    """Number of passes of the passage that ends with bar i."""
    if not bars[i].endings:
        last = max(bars[i + 1].endings) if _ending_follows(bars, i) else 0
        return max(bars[i].backward, last)
    several = any(bars[k].endings != bars[i].endings for k in group)
    return top if several else max(top + 1, bars[i].backward if bars[i].backward > 2 else 0)


def _jump(bars: Sequence[Signs], i: int, jumped: bool, used: set[int]) -> int | None:
    """The target of a jump after bar i, None without one."""
    jumps = bars[i].jumps
    codas = [k for k, b in enumerate(bars) if "coda" in b.jumps and k > i]
    if jumped and "tocoda" in jumps and codas:
        return codas[0]
    if i in used or not jumps & {"dacapo", "dalsegno"}:
        return None
    used.add(i)
    segni = [k for k, b in enumerate(bars) if "segno" in b.jumps and k <= i]
    return segni[-1] if "dalsegno" in jumps and segni else 0
