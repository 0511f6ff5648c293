"""Versions of a piece's performance: every gesture in the Perform panel makes one, and a press goes back to it.

A version is a performance and its style. The visitor's edits belong to the piece, and every version has them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engine.models.pianist.style import character
from engine.music.types import DEFAULT_FREEDOM, BadInput
from studio.state.session import Controls, Session, Version, replay

MAX_VERSIONS = 8
AGAIN = "bars again"


def with_present(session: Session) -> Session:
    """The session with its present performance among its versions."""
    here = present(session)
    if session.rendered is None or session.grid is None or here is not None:
        return session
    return appended(session, name_of(session.controls))


def present(session: Session) -> Version | None:
    """The version that is shown; None before the first one is kept."""
    for version in session.versions:
        if version.number == session.version and version.rendered is session.rendered:
            return version
    return None


def other(session: Session) -> Version | None:
    """The version that Before or Now switches to; None if there is only one."""
    numbers = {number for number in session.pair if number != session.version}
    return next((version for version in session.versions if version.number in numbers), None)


def appended(session: Session, name: str) -> Session:
    """The present performance as a new version; Before is the one shown until now. The oldest one in excess goes."""
    assert session.rendered is not None
    assert session.grid is not None
    number = max((version.number for version in session.versions), default=0) + 1
    new = Version(number, name, session.controls, session.style, session.rendered, session.grid)
    before = session.version if any(v.number == session.version for v in session.versions) else 0
    kept = list(session.versions)
    while len(kept) >= MAX_VERSIONS:
        kept.remove(next(version for version in kept if version.number != before))
    return replace(session, versions=(*kept, new), version=number, pair=(before, number))


def flipped(number: int) -> Callable[[Session], Session]:
    """The change that shows a version, with the visitor's edits. Raises BadInput if it is not kept any more."""

    def change(now: Session) -> Session:
        now = with_present(now)
        wanted = next((version for version in now.versions if version.number == number), None)
        if wanted is None:
            raise BadInput("That version is no longer kept; choose another.")
        pair = now.pair if number in now.pair else (now.version, number)
        styled = replace(now, controls=wanted.controls, style=wanted.style, version=number, pair=pair)
        return replay(styled, wanted.rendered, wanted.grid)

    return change


def name_of(c: Controls) -> str:
    """The pianist and the ends of the sliders that were moved furthest.

    >>> name_of(Controls(axes=(-1.5, 2.0)))
    'free, slower'
    >>> name_of(Controls(preset="Yarden", seed=3))
    'Yarden, seed 3'
    """
    style = c.preset if c.blend == 0 or c.second == c.preset else f"{c.preset} + {c.second}"
    facts = [
        *([style] if style != "Default" else []),
        *([words] if (words := character(c.axes, least=0.05)) else []),
        *(["less expression"] if sum(c.strength) < 499 else ["more expression"] if sum(c.strength) > 501 else []),
        *([f"freedom {c.freedom:.0f} %"] if abs(c.freedom - 100 * DEFAULT_FREEDOM) > 0.5 else []),
        *([f"seed {c.seed}"] if c.seed else []),
    ]
    return ", ".join(facts) or "Default"
