"""What may stand in a project file's JSON: every value is looked at before anything is made of it.

Whatever does not fit raises `Damaged`; studio.project turns that into one sentence for the visitor.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

MAX_TEXT = 1000  # characters of a title or a name
_PLAIN = (int, float)


class Damaged(ValueError):
    """A part of a project file that Étude cannot have written; says which."""


def parse(data: bytes) -> Any:
    """JSON from anyone: no NaN, no Infinity, no nesting without end. Raises Damaged."""

    def constant(name: str) -> None:
        raise Damaged(f"it holds {name}")

    try:
        return json.loads(data.decode("utf-8"), parse_constant=constant)
    except Damaged:
        raise
    except (ValueError, RecursionError, MemoryError) as error:
        raise Damaged("it is not the JSON that it should be") from error


def written(value: object) -> bytes:
    """JSON that `parse` reads back to the last bit, the same bytes for the same value."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def keyed(value: object, *names: str) -> dict[str, Any]:
    """A table with at least these names."""
    if not isinstance(value, dict) or any(name not in value for name in names):
        raise Damaged(f"{', '.join(names)} should stand in it")
    return value


def listed(value: object, most: int, name: str = "list") -> list:
    """A list of at most so many."""
    if not isinstance(value, list) or len(value) > most:
        raise Damaged(f"its {name} is no list of up to {most}")
    return value


def text(value: object, name: str, most: int = MAX_TEXT) -> str:
    """A text of at most so many characters, all of which can be written down."""
    if not isinstance(value, str) or len(value) > most:
        raise Damaged(f"its {name} is no text of up to {most} characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Damaged(f"its {name} holds half a character") from error
    return value


def whole(value: object, name: str, low: int, high: int) -> int:
    """A whole number between two others."""
    if type(value) is not int or not low <= value <= high:
        raise Damaged(f"its {name} is not {low} to {high}")
    return value


def real(value: object, name: str, low: float, high: float) -> float:
    """A number between two others."""
    if type(value) not in _PLAIN or not low <= value <= high:  # type: ignore[operator]
        raise Damaged(f"its {name} is not {low:g} to {high:g}")
    return float(value)  # type: ignore[arg-type]


def flag(value: object, name: str) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise Damaged(f"its {name} is neither true nor false")
    return value


def column(value: object, name: str, low: float, high: float, dtype: DTypeLike, n: int | None = None) -> NDArray:
    """A list of numbers between two others, (n,) of a dtype; whole ones where the dtype is. At most 400,000."""
    values = listed(value, 400_000, name)
    if n is not None and len(values) != n:
        raise Damaged(f"its {name} has {len(values)} entries where {n} belong")
    whole_only = not np.issubdtype(np.dtype(dtype), np.floating)
    kinds = (int,) if whole_only else _PLAIN
    if not all(type(v) in kinds and low <= v <= high for v in values):  # NaN is not between anything
        raise Damaged(f"its {name} holds what is not {low:g} to {high:g}")
    return np.array(values, dtype=dtype)


def rising(values: NDArray, name: str, strictly: bool = False) -> NDArray:
    """The same numbers, in ascending order."""
    step = np.diff(values)
    if (step < 0).any() or (strictly and (step <= 0).any()):
        raise Damaged(f"its {name} does not rise")
    return values
