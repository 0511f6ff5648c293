"""A component that Gradio builds anew for a visitor keeps its number.

When an event leaves a component as it is, Gradio builds it again under another number, and files its next value under
that: each time a visitor's session grows by a component and its value, which is the whole piece for the roll.
"""

from __future__ import annotations

from typing import Any

from gradio.blocks import Block
from gradio.state_holder import SessionState


def keep_numbers() -> None:
    """Let a session's components have the numbers under which they stand; twice is once."""
    put = SessionState.__setitem__
    if getattr(put, "keeps_numbers", False):
        return

    def numbered(session: SessionState, number: int, value: Any) -> None:
        if isinstance(value, Block):
            value._id = number
        put(session, number, value)

    numbered.keeps_numbers = True  # type: ignore[attr-defined]
    SessionState.__setitem__ = numbered  # type: ignore[method-assign]
