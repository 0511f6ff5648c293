"""Checks of the numbers that fields of the page send. A client may send anything: each function returns a valid value
or raises BadInput with one sentence.
"""

from __future__ import annotations

import random
from typing import Any

from engine.limits import COMPOSED_TAKES, MAX_SEED
from engine.music.types import BadInput


def field_number(value: Any, what: str, low: float, high: float, empty: float | None = None) -> float:
    """A number in a range from a field of the page, which may arrive as text, also with a decimal comma; the API takes
    JSON numbers only (`studio.api.values.as_number`).

    what   the quantity, as the subject of the error message
    empty  replaces a missing number; None makes the field required
    """
    text = value.strip().replace(",", ".") if isinstance(value, str) else value
    if text in (None, "") and empty is not None:
        return empty
    try:
        number = float("nan") if text is None or isinstance(text, bool) else float(text)
    except (TypeError, ValueError):
        number = float("nan")
    if not low <= number <= high:
        arrived = "empty" if text in (None, "") else str(text)[:20]
        raise BadInput(f"{what} is {arrived}; {low:,.12g} to {high:,.12g} is accepted.")
    return number


def take_settings(takes: Any, seed: Any, temperature: Any) -> tuple[int, int, float]:
    """Number of takes, seed (random if the field is empty) and temperature of a request to compose."""
    return (
        int(field_number(takes, "The number of takes", 1, COMPOSED_TAKES)),
        int(field_number(seed, "The seed", 0, MAX_SEED, random.randrange(1, 10_000))),
        field_number(temperature, "The temperature", 0.1, 2),
    )
