"""Style over time: slider values and strengths as breakpoints over the bars of a score, and their CSV file.

The Pianist performs the whole score in the style of each breakpoint, with one seed. Between two breakpoints the
channels of the two performances (logarithmic tempo, timing, velocity, articulation, pedal) are interpolated linearly.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from engine.limits import MAX_CURVE_POINTS
from engine.models.pianist.style import AXES
from engine.music.types import BadInput, NoteStrength, Score, Strength, digest

KINDS = tuple(f.name for f in fields(Strength))
STAVES = ("upper", "lower")
SHARED = ("tempo", "pedal")  # by both staves
MAX_SLIDER, MAX_STRENGTH = 3.0, 1.5
MAX_CSV = 100_000  # characters
_AXIS_NAMES = tuple(axis.name for axis in AXES)
_SEPARATORS = ",;\t"


@dataclass(frozen=True, eq=False)
class StyleCurve:
    """Breakpoints of a style over the bars of a score; linear between them, constant before the first and after the
    last. Every pass of a repeated bar has the same values.

    bar       (k,) printed bar numbers, strictly ascending; 5.5 is the middle of bar 5
    axes      (k, 9) slider values in the order of AXES, -3 to 3 standard deviations, added to the style
    strength  (k, 2, 5) strengths of the upper and the lower staff in the order of Strength, 0 to 1.5; NaN: the style's
    """

    bar: NDArray[np.float64]
    axes: NDArray[np.float64]
    strength: NDArray[np.float64]

    @property
    def digest(self) -> str:
        return digest(self)

    def check(self, score: Score) -> None:
        """Raise BadInput if a breakpoint is outside the score."""
        numbers = score.measures.number
        low, high = int(numbers.min()), int(numbers.max())
        for bar in self.bar.tolist():
            if not low <= bar < high + 1:
                raise BadInput(f"The style curve names bar {bar:g}; the score has bars {low} to {high}.")

    def channels(self, score: Score, performed: Callable[[NDArray, float], NDArray]) -> NDArray[np.float32]:
        """Channel values (n, c) of the score, interpolated between those of its breakpoints.

        performed  (9,) slider values and the share of breakpoints done before -> (n, c) channel values
        """
        rows, which = np.unique(self.axes, axis=0, return_inverse=True)
        made = np.stack([performed(row, k / len(rows)) for k, row in enumerate(rows)])
        before, share = self._between(bar_positions(score))
        note, which = np.arange(len(score)), which.ravel()
        after = np.minimum(before + 1, len(self.bar) - 1)
        weight = share[:, None].astype(np.float32)
        first = made[which[before], note]
        return first + weight * (made[which[after], note] - first)

    def strengths(self, score: Score, style: Strength) -> NoteStrength:
        """The strength of each note; `style` has the strengths that the curve does not name."""
        before, share = self._between(bar_positions(score))
        after = np.minimum(before + 1, len(self.bar) - 1)
        filled = np.where(np.isnan(self.strength), [getattr(style, kind) for kind in KINDS], self.strength)
        staff = (score.staff == 2).astype(int)
        first = filled[before, staff]
        of_note = first + share[:, None] * (filled[after, staff] - first)
        velocity = KINDS.index("velocity")
        apart = not np.array_equal(filled[:, 0, velocity], filled[:, 1, velocity])
        return NoteStrength(*of_note.T, group=staff if apart else np.zeros(len(score), int))

    def _between(self, position: NDArray) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """For each position (n,) the breakpoint before it, and its share of the way to the next, 0 to 1."""
        place = np.interp(position, self.bar, np.arange(len(self.bar)))
        before = np.floor(place).astype(int)
        return before, place - before


def bar_positions(score: Score) -> NDArray[np.float64]:
    """The printed position of each note, (n,) in bars: 5.5 is the middle of bar 5."""
    m = score.measures
    bar = np.clip(np.searchsorted(m.onset_quarter, score.onset_quarter + 1e-6, side="right") - 1, 0, None)
    inside = (score.onset_quarter - m.onset_quarter[bar]) / np.maximum(m.duration_quarter[bar], 1e-6)
    return m.number[bar] + np.clip(inside, 0, 0.999)


def curve_of(columns: Mapping[str, Mapping[float, float]]) -> StyleCurve:
    """A curve of columns {name: {bar: value}}; each is interpolated over the bars of all. Raises BadInput.

    Names are those of AXES for sliders; "strength", "strength.KIND", "strength.STAFF", "strength.KIND.STAFF" for
    strengths, KIND one of Strength's fields, STAFF upper or lower; the most exact name applies. Tempo and pedal belong
    to both staves.

    >>> curve_of({"tempo": {1: 0, 9: 2}, "strength.velocity.lower": {5: 0.5}}).axes[:, 0].tolist()
    [0.0, 1.0, 2.0]
    """
    for name, values in columns.items():
        _check_column(name, values)
    bars = np.array(sorted({float(bar) for values in columns.values() for bar in values}))
    if not 1 <= len(bars) <= MAX_CURVE_POINTS:
        raise BadInput(f"A style curve of {len(bars)} bars arrived; 1 to {MAX_CURVE_POINTS} are accepted.")
    over = {
        name: np.interp(bars, sorted(values), [values[bar] for bar in sorted(values)])
        for name, values in columns.items()
    }
    axes = np.stack([over.get(name, np.zeros(len(bars))) for name in _AXIS_NAMES], axis=1)
    strength = np.full((len(bars), len(STAVES), len(KINDS)), np.nan)
    for s, staff in enumerate(STAVES):
        for k, kind in enumerate(KINDS):
            exact = [] if kind in SHARED else [f"strength.{kind}.{staff}", f"strength.{staff}"]
            found = next((n for n in (*exact, f"strength.{kind}", "strength") if n in over), None)
            if found is not None:
                strength[:, s, k] = over[found]
    return StyleCurve(bars, axes, strength)


def parse_curve(text: str) -> StyleCurve:
    """The curve of a CSV file: a column "bar" and columns as in `curve_of`; empty cells are interpolated.

    Separators are commas, semicolons or tabs. Raises BadInput.

    >>> parse_curve("bar,tempo,strength.lower\\n1,0,1\\n8,1.5,\\n16,,0.5\\n").bar.tolist()
    [1.0, 8.0, 16.0]
    """
    if len(text) > MAX_CSV:
        raise BadInput(f"The style curve has {len(text)} characters; up to {MAX_CSV} are accepted.")
    lines = text.removeprefix("\ufeff").splitlines()
    first = next((line for line in lines if line.strip()), "")
    separator = max(_SEPARATORS, key=first.count)
    rows = [row for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator) if any(map(str.strip, row))]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if "bar" not in header or len(header) < 2 or len(set(header)) < len(header):
        raise BadInput(
            "A style curve is a CSV file whose first line names its columns, bar and each slider or strength once, "
            "such as: bar,tempo,strength.lower"
        )
    columns: dict[str, dict[float, float]] = {name: {} for name in header if name != "bar"}
    for number, row in enumerate(rows[1:], 2):
        cells = {name: cell.strip() for name, cell in zip(header, row, strict=False)}
        if len(row) > len(header):
            raise BadInput(f"Line {number} of the style curve has {len(row)} cells; the first line has {len(header)}.")
        bar = _number(cells.get("bar", ""), number, "bar")
        for name, values in columns.items():
            if cells.get(name):
                if bar in values:
                    raise BadInput(f"Line {number} of the style curve repeats bar {bar:g}; give each bar once.")
                values[bar] = _number(cells[name], number, name)
    return curve_of(columns)


def read_curve(data: bytes) -> StyleCurve:
    """The curve of a CSV file's bytes, see `parse_curve`. Raises BadInput."""
    try:
        return parse_curve(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise BadInput("The style curve is not text in UTF-8; export it as CSV, UTF-8.") from None


def _number(cell: str, line: int, name: str) -> float:
    try:
        value = float(cell.rstrip("%")) / (100 if cell.endswith("%") else 1)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise BadInput(f'Line {line} of the style curve has "{cell[:40]}" for {name}; a number is accepted.')
    return value


def _check_column(name: str, values: Mapping[float, float]) -> None:
    """Raise BadInput for an unknown name, no value or a value outside its range."""
    parts = name.split(".")
    if name in _AXIS_NAMES:
        low, high = -MAX_SLIDER, MAX_SLIDER
    elif parts[0] == "strength" and len(parts) <= 3 and len(parts) == 1 + sum(p in KINDS or p in STAVES for p in parts):
        low, high = 0.0, MAX_STRENGTH
        if len(parts) == 3 and (parts[1] not in KINDS or parts[2] not in STAVES):
            raise BadInput(f'The style curve has "{name[:40]}"; write the kind before the staff.')
        if len(parts) == 3 and parts[1] in SHARED:
            raise BadInput(f'The style curve has "{name}"; both staves share the {parts[1]}, so name no staff.')
    else:
        raise BadInput(
            f'The style curve has a column "{name[:40]}"; the columns are {", ".join(_AXIS_NAMES)}, strength, and '
            f"strength with a kind ({', '.join(KINDS)}) or a staff (upper, lower), such as strength.velocity.lower."
        )
    if not values:
        raise BadInput(f'The column "{name}" of the style curve has no value; give at least one, or omit it.')
    for bar, value in values.items():
        if not np.isfinite(bar):
            raise BadInput(f"The style curve has the bar {bar}; printed bar numbers are accepted.")
        if not low <= value <= high:
            raise BadInput(f"The style curve has {name} {value:g} in bar {bar:g}; {low:g} to {high:g} is accepted.")
