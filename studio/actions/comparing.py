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
from engine.music.passes import found_share
from engine.music.types import Alignment, AudioClip, BadInput, Performance
from engine.progress import ProgressCallback, no_progress
from engine.requests import PerformRequest
from studio.actions import editing as actions
from studio.actions.compared import Entry
from studio.actions.document import Document
from studio.actions.editing import Change
from studio.actions.recordings import Opened, open_files, whole_recording
from studio.actions.rendering import Render, aligned_grid
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine
from studio.state import versions
from studio.state.pins import MAX_PINS, Pin
from studio.state.session import Controls, Grid, Session

NOW, HUMAN, VERSION = "now", "human", "version"
OPENED = ("file", "recording")  # kinds of pins that were aligned with the score


def entries(document: Document) -> list[Entry]:
    """All entries that can be compared with the present piece, the first of them marked as drawn."""
    session = document.session
    found = _of_session(session)
    for render in document.renders.kept if found or session.rendered is not None else ():
        if render.doc == session.doc and render.made:
            key, name = f"render{render.number}", f"Render {render.number}: {render.request.prompt.name}"
            found.append(_entry(key, name, render.performance, render.alignment, grid=render.grid, render=render))
    return _coloured(found, session.comparison.left_out)


def drawn_pins(session: Session) -> list[Entry]:
    """The pins and versions whose curves are drawn, in the colours that they have among all entries."""
    drawn = _coloured(_of_session(session), session.comparison.left_out)
    return [entry for entry in drawn if entry.drawn and entry.key.startswith(("pin", VERSION))]


def _entry(
    key: str, name: str, performance: Performance, alignment: Alignment, grid: Grid | None = None,
    render: Render | None = None, sound: Path | None = None, found: float | None = None,
) -> Entry:  # fmt: skip
    """An entry without a colour."""
    return Entry(key, name, 0, False, performance, alignment, grid, render, sound, found)


def _of_session(session: Session) -> list[Entry]:
    """The present performance, the human one, the pins and the versions, without colours."""
    score = session.score
    if score is None or session.rendered is None:
        return []
    found: list[Entry] = []
    now = session.performance
    if len(now):
        found.append(_entry(NOW, "Now", now, session.alignment, session.grid))
    if session.reference is not None:
        r = session.reference
        share = found_share(score, r.alignment)
        found.append(_entry(HUMAN, r.name, r.performance, r.alignment, found=share))
    for pin in pins(session):
        share = found_share(score, pin.alignment) if pin.kind in OPENED else None
        sound = pin.sound if pin.sound is not None and pin.sound.is_file() else None
        found.append(_entry(f"pin{pin.number}", pin.name, pin.performance, pin.alignment, sound=sound, found=share))
    known = {entry.performance.digest for entry in found}
    for version in session.versions:
        shown = session if version.number == session.version else versions.flipped(version.number)(session)
        if shown.performance.digest not in known:
            name = f"Version {version.number}: {version.name}"
            found.append(_entry(f"{VERSION}{version.number}", name, shown.performance, shown.alignment))
    return found


def pins(session: Session) -> list[Pin]:
    """The pins that are performances of the open score."""
    digest = session.score.digest if session.score is not None else ""
    return [pin for pin in session.comparison.pins if pin.digest == digest]


def _coloured(found: list[Entry], left_out: frozenset[str]) -> list[Entry]:
    """Assign colours: an entry keeps its colour where possible, and no two drawn entries share one."""
    taken: set[int] = set()
    out = []
    for k, entry in enumerate(found):
        slot, drawn = k % MOST, (entry.key in left_out) == entry.key.startswith(VERSION) and len(taken) < MOST
        if drawn:
            slot = slot if slot not in taken else min(set(range(MOST)) - taken)
            taken.add(slot)
        out.append(replace(entry, slot=slot, drawn=drawn))
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
    if entry.sound is not None:
        return whole_recording(entry.sound.read_bytes(), step), 0.0
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


def _with_pin(
    session: Session, name: str, kind: str, performance: Performance, alignment: Alignment, sound: Path | None = None
) -> Session:
    assert session.score is not None
    kept = replace(session.comparison, pins=tuple(pins(session)))  # pins of an earlier score go with it
    return replace(session, comparison=kept.pinned(name, kind, session.score.digest, performance, alignment, sound))


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
    return _pinning(session, [(f"{preset}, seed {seed}", "pianist", performance, whole, None)])


def pin_files(
    shared: SharedEngine, session: Session, files: list[tuple[str, bytes]], folder: Path, job: Job
) -> tuple[Change, list[str]]:
    """Read, transcribe and align performances, and pin those that match the score.

    files, folder  as in `studio.actions.recordings.open_files`
    returns        the change, and a sentence for each file that was refused

    Raises BadInput if none matches, and, before anything is read, if there is not enough room.
    """
    if session.score is None:
        raise BadInput(actions.NOTHING_OPEN)
    room = MAX_PINS - len(pins(session))
    if len(files) > room:
        raise BadInput(
            f"{len(files)} files arrived; {room} more of {MAX_PINS} performances can be pinned, remove others first."
        )
    opened, refused = open_files(shared, session.score, files, folder, job)
    return _pinning(session, [_of_file(one) for one in opened]), refused


def pin_example(shared: SharedEngine, session: Session, name: str, performance: Performance, job: Job) -> Change:
    """Align the example's human performance with the score and pin it."""
    if session.score is None:
        raise BadInput(actions.NOTHING_OPEN)
    alignment = shared.align(session.score, performance, job.step)
    return _pinning(session, [_of_file(Opened(name, performance, alignment))])


def _of_file(opened: Opened) -> tuple[str, str, Performance, Alignment, Path | None]:
    kind = "file" if opened.recording is None else "recording"
    return opened.name, kind, opened.performance, opened.alignment, opened.recording


def _pinning(session: Session, found: list[tuple[str, str, Performance, Alignment, Path | None]]) -> Change:
    doc = session.doc

    def change(now: Session) -> Session:
        if now.doc != doc:  # another piece was opened meanwhile
            return now
        for name, kind, performance, alignment, sound in found:
            now = _with_pin(now, name, kind, performance, alignment, sound)
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
