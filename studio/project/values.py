"""Validation of the JSON of a project file: every value is checked before use.

An invalid value raises `Damaged`; studio.project turns that into one sentence for the visitor.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

MAX_TEXT = 1000  # characters of a title or a name
_PLAIN = (int, float)


class Damaged(ValueError):
    """A part of a project file is invalid; the message names it."""


def parse(data: bytes) -> Any:
    """Parse untrusted JSON: no NaN, no Infinity, limited nesting. Raises Damaged."""

    def constant(name: str) -> None:
        raise Damaged(f"it holds {name}")

    try:
        return json.loads(data.decode("utf-8"), parse_constant=constant)
    except Damaged:
        raise
    except (ValueError, RecursionError, MemoryError) as error:
        raise Damaged("it is not valid JSON") from error


def written(value: object) -> bytes:
    """Canonical JSON that `parse` reads back bit-exactly."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def keyed(value: object, *names: str) -> dict[str, Any]:
    """An object with at least these keys."""
    if not isinstance(value, dict) or any(name not in value for name in names):
        raise Damaged(f"{', '.join(names)} is missing in it")
    return value


def listed(value: object, most: int, name: str = "list") -> list:
    """A list of at most `most` entries."""
    if not isinstance(value, list) or len(value) > most:
        raise Damaged(f"its {name} is no list of up to {most}")
    return value


def text(value: object, name: str, most: int = MAX_TEXT) -> str:
    """A text of limited length without lone surrogates."""
    if not isinstance(value, str) or len(value) > most:
        raise Damaged(f"its {name} is no text of up to {most} characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Damaged(f"its {name} has a lone surrogate") from error
    return value


def whole(value: object, name: str, low: int, high: int) -> int:
    """A whole number in a range."""
    if type(value) is not int or not low <= value <= high:
        raise Damaged(f"its {name} is not {low} to {high}")
    return value


def real(value: object, name: str, low: float, high: float) -> float:
    """A number in a range."""
    if type(value) not in _PLAIN or not low <= value <= high:  # type: ignore[operator]
        raise Damaged(f"its {name} is not {low:g} to {high:g}")
    return float(value)  # type: ignore[arg-type]


def flag(value: object, name: str) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise Damaged(f"its {name} is neither true nor false")
    return value


def column(value: object, name: str, low: float, high: float, dtype: DTypeLike, n: int | None = None) -> NDArray:
    """A list of numbers in a range, (n,) of a dtype; whole numbers for an integer dtype. At most 400,000."""
    values = listed(value, 400_000, name)
    if n is not None and len(values) != n:
        raise Damaged(f"its {name} has {len(values)} entries where {n} belong")
    whole_only = not np.issubdtype(np.dtype(dtype), np.floating)
    kinds = (int,) if whole_only else _PLAIN
    if not all(type(v) in kinds and low <= v <= high for v in values):  # also excludes NaN
        raise Damaged(f"its {name} holds what is not {low:g} to {high:g}")
    return np.array(values, dtype=dtype)


def rising(values: NDArray, name: str, strictly: bool = False) -> NDArray:
    """The same numbers, in ascending order."""
    step = np.diff(values)
    if (step < 0).any() or (strictly and (step <= 0).any()):
        raise Damaged(f"its {name} does not rise")
    return values
