"""Comparison of performances of the open score: the present one, the human one, pins and renders.

No gradio here. Each has a key: "now", "human", "pin3", "version2", "render2". Versions are drawn once they are ticked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from engine.measures.csv_text import csv_text
from engine.measures.side_by_side import CSV_HEADER, MOST, Played, Shape, shape_of, table_rows
from engine.models.pianist.style import AXES
from engine.music.types import Alignment, AudioClip, BadInput, Performance
from engine.progress import ProgressCallback, no_progress
from engine.requests import PerformRequest
from studio.actions import editing as actions
from studio.actions.compared import Entry
from studio.actions.document import Document
from studio.actions.editing import Change
from studio.actions.rendering import Render, aligned_grid
from studio.service.shared_engine import SharedEngine
from studio.state import versions
from studio.state.pins import Pin
from studio.state.session import Controls, Grid, Session

NOW, HUMAN, VERSION = "now", "human", "version"


def entries(document: Document) -> list[Entry]:
    """All entries that can be compared with the present piece, the first of them marked as drawn."""
    session = document.session
    found = _of_session(session)
    for render in document.renders.kept if found or session.rendered is not None else ():
        if render.doc == session.doc and render.made:
            name = f"Render {render.number}: {render.request.prompt.name}"
            found.append((f"render{render.number}", name, render.performance, render.alignment, render))
    return _coloured(found, session.comparison.left_out, session.grid)


def drawn_pins(session: Session) -> list[Entry]:
    """The pins and versions whose curves are drawn, in the colours that they have among all entries."""
    drawn = _coloured(_of_session(session), session.comparison.left_out, session.grid)
    return [entry for entry in drawn if entry.drawn and entry.key.startswith(("pin", VERSION))]


def _of_session(session: Session) -> list[tuple[str, str, Performance, Alignment, Render | None]]:
    """Key, name, performance and alignment of the present performance, the human one and the pins."""
    if session.score is None or session.rendered is None:
        return []
    found: list[tuple[str, str, Performance, Alignment, Render | None]] = []
    now = session.performance
    if len(now):
        found.append((NOW, "Now", now, session.alignment, None))
    if session.reference is not None:
        r = session.reference
        found.append((HUMAN, r.name, r.performance, r.alignment, None))
    found += [(f"pin{pin.number}", pin.name, pin.performance, pin.alignment, None) for pin in pins(session)]
    known = {performance.digest for _, _, performance, _, _ in found}
    for version in session.versions:
        shown = session if version.number == session.version else versions.flipped(version.number)(session)
        if shown.performance.digest not in known:
            name = f"Version {version.number}: {version.name}"
            found.append((f"{VERSION}{version.number}", name, shown.performance, shown.alignment, None))
    return found


def pins(session: Session) -> list[Pin]:
    """The pins that are performances of the open score."""
    digest = session.score.digest if session.score is not None else ""
    return [pin for pin in session.comparison.pins if pin.digest == digest]


def _coloured(found: list, left_out: frozenset[str], now: Grid | None) -> list[Entry]:
    """Assign colours: an entry keeps its colour where possible, and no two drawn entries share one. now: the present
    beats."""
    taken: set[int] = set()
    out = []
    for k, (key, name, performance, alignment, render) in enumerate(found):
        slot, drawn = k % MOST, (key in left_out) == key.startswith(VERSION) and len(taken) < MOST
        if drawn:
            slot = slot if slot not in taken else min(set(range(MOST)) - taken)
            taken.add(slot)
        grid = render.grid if render is not None else now if key == NOW else None
        out.append(Entry(key, name, slot, drawn, performance, alignment, grid, render))
    return out


def named(document: Document, key: object) -> Entry:
    """The entry of this key. Raises BadInput if it was removed."""
    for entry in entries(document):
        if entry.key == key:
            return entry
    raise BadInput("That performance is no longer available; choose another.")


def grid_of_entry(session: Session, entry: Entry) -> Grid:
    """Score times mapped to seconds of an entry's sound."""
    assert session.score is not None
    return entry.grid or aligned_grid(session.score, entry.performance, entry.alignment)


def sound_of(
    shared: SharedEngine, entry: Entry, piano: str, step: ProgressCallback = no_progress
) -> tuple[AudioClip, float]:
    """An entry's sound, and the second of its performance at which the sound begins."""
    if entry.render is not None:
        return entry.render.clip(), entry.render.request.span[0]
    return shared.preview(entry.performance, piano, step), 0.0


def shapes(session: Session, drawn: list[Entry]) -> tuple[list[Shape], list[int], str]:
    """Shapes and colours of the drawn entries, and a sentence that names those that cannot be measured, or ""."""
    assert session.score is not None
    out, slots, refused = [], [], []
    for entry in drawn:
        try:
            out.append(shape_of(session.score, Played(entry.name, entry.performance, entry.alignment)))
            slots.append(entry.slot)
        except BadInput as refusal:
            refused.append(str(refusal))
    return out, slots, " ".join(refused)


def measured_csv(document: Document) -> tuple[str, bytes]:
    """The table as a CSV file: its name and its bytes."""
    session = document.session
    found, _, _ = shapes(session, [e for e in entries(document) if e.drawn]) if session.score else ([], [], "")
    if session.score is None or not found:
        raise BadInput("Nothing is compared yet: open a piece, and pin a performance of it.")
    return f"{actions.safe_name(session.title)}-compared.csv", csv_text(CSV_HEADER, table_rows(session.score, found))


def pin_now(session: Session, at: datetime) -> Session:
    """Keep the present performance, named by its style, seed and time."""
    if session.score is None or session.rendered is None:
        raise BadInput(actions.NOTHING_OPEN)
    performance = session.performance
    if not len(performance):
        raise BadInput("Every note has been deleted, so there is nothing to pin; undo, or reset the edits.")
    c = session.controls
    style = c.preset if c.blend == 0 or c.second == c.preset else f"{c.preset} + {c.second}"
    facts = [
        style,
        f"seed {c.seed}",
        *_sliders(c),
        *(["edited"] if session.edited or session.pedal is not None else []),
    ]
    name = f"{', '.join(facts)}, {at:%H:%M}"
    return _with_pin(session, name, "pinned", performance, session.alignment)


def _sliders(c: Controls) -> list[str]:
    """The two sliders that were moved furthest, such as "tempo +2.2"."""
    moved = sorted(zip(c.axes, (axis.name for axis in AXES), strict=False), key=lambda pair: -abs(pair[0]))
    named = [f"{name} {value:+.1f}" for value, name in moved[:2] if abs(value) >= 0.05]
    return [*named, *(["strength changed"] if any(abs(s - 100) > 0.5 for s in c.strength) else [])]


def _with_pin(session: Session, name: str, kind: str, performance: Performance, alignment: Alignment) -> Session:
    assert session.score is not None
    kept = replace(session.comparison, pins=tuple(pins(session)))  # pins of an earlier score go with it
    return replace(session, comparison=kept.pinned(name, kind, session.score.digest, performance, alignment))


def pin_pianist(
    shared: SharedEngine, session: Session, preset: str, seed: int, step: ProgressCallback = no_progress
) -> Change:
    """Perform the piece in the style of a named pianist and pin the result."""
    if session.score is None:
        raise BadInput(actions.NOTHING_OPEN)
    controls = replace(session.controls, preset=preset, blend=0.0, axes=(), strength=(100.0,) * 5, seed=seed)
    request = PerformRequest(session.score, actions.style_of(shared, session, controls))
    performance = shared.perform(request, step)
    whole = Alignment.identity(len(session.score))
    return _pinning(session, [(f"{preset}, seed {seed}", "pianist", performance, whole)])


def pin_files(
    shared: SharedEngine, session: Session, files: list[tuple[str, Performance]], step: ProgressCallback = no_progress
) -> Change:
    """Align opened performances with the score and pin them. Raises BadInput if one is of another piece."""
    if session.score is None:
        raise BadInput(actions.NOTHING_OPEN)
    found = []
    for name, performance in files:
        reference = actions.set_reference(shared, session, performance, name, step)(session).reference
        assert reference is not None
        found.append((Path(name).stem[:60] or "A file", "file", performance, reference.alignment))
    return _pinning(session, found)


def _pinning(session: Session, found: list[tuple[str, str, Performance, Alignment]]) -> Change:
    doc = session.doc

    def change(now: Session) -> Session:
        if now.doc != doc:  # another piece was opened meanwhile
            return now
        for name, kind, performance, alignment in found:
            now = _with_pin(now, name, kind, performance, alignment)
        return now

    return change


def unpinned(key: object) -> Callable[[Session], Session]:
    """Remove the pin of this key; do nothing for any other key."""
    number = str(key)[3:]

    def change(now: Session) -> Session:
        known = str(key).startswith("pin") and number.isdecimal()
        return replace(now, comparison=now.comparison.without(int(number))) if known else now

    return change


def left_out(key: object, out: bool) -> Callable[[Session], Session]:
    """Hide one performance in curves and table, or show it again."""

    def change(now: Session) -> Session:
        listed = out != str(key).startswith(VERSION)
        kept = now.comparison.left_out - {str(key)} | ({str(key)} if listed else set())
        return replace(now, comparison=replace(now.comparison, left_out=frozenset(list(kept)[:100])))

    return change
