"""Composing, continuing and infilling as functions of a Session; no Gradio here. See studio.actions for `Change`. A
composed piece becomes a Take. It replaces the open piece only when the visitor accepts it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from engine.compose.form import MAX_FORM, MAX_SECTION_BARS, MAX_SECTIONS, Form, Section, parse_form
from engine.limits import COMPOSED_BARS, KEPT_TAKES
from engine.music.io.alignment import kept_notes
from engine.music.keys import in_minor
from engine.music.types import Alignment, BadInput, Performance, Score
from engine.progress import NoteCallback, ProgressCallback, no_progress
from engine.requests import ComposeRequest, InfillRequest, PerformRequest
from studio.actions.editing import NOTHING_OPEN, Change, grid_of, open_piece
from studio.service.shared_engine import SharedEngine
from studio.state import history
from studio.state.session import Controls, NoteEdit, Reference, Selection, Session, Take, replay

HANDS = {"Both hands": (0, 1, 2), "Upper staff": (1,), "Lower staff": (2,)}


def as_form(text: object) -> dict:
    """The `form` and `bars` of a request for this form; {} for none. Raises BadInput if the form cannot be parsed."""
    if not isinstance(text, str) or len(text) > MAX_FORM:
        raise BadInput(f"The form is not a text of up to {MAX_FORM} characters; write it like A8 A'8 B8 A8.")
    plan = parse_form(text)
    if plan is None:
        return {}
    if plan.bars > COMPOSED_BARS:
        raise BadInput(f"The form has {plan.bars} bars; up to {COMPOSED_BARS} are accepted here.")
    return {"form": str(plan), "bars": plan.bars}


def compose(
    shared: SharedEngine, request: ComposeRequest, on_note: NoteCallback, step: ProgressCallback = no_progress
) -> Change:
    """Compose new pieces."""
    scores = shared.compose(request, on_note, step)
    takes = [
        Take(
            0, "compose", *_titled(score, f"Composition in {key_of(score)}"), request.seed,
            (float(score.onset_quarter[0]), score.measures.end_quarter), np.ones(len(score), bool), Session(),
            form=request.form,
        )
        for score in scores
    ]  # fmt: skip
    return lambda now: with_takes(now, takes)


def continue_piece(
    shared: SharedEngine,
    session: Session,
    settings: ComposeRequest,
    on_note: NoteCallback,
    step: ProgressCallback = no_progress,
) -> Change:
    """Continue the piece after its last note."""
    score, base = opened_score(session), history.alone(session)
    title = session.title if session.title.endswith(", continued") else f"{session.title}, continued"
    takes = []
    for new in shared.compose(settings.continuing(score), on_note, step):
        fresh = kept_notes(score, new) < 0
        start = float(new.onset_quarter[fresh].min()) if fresh.any() else score.measures.end_quarter
        span = (start, max(start, new.measures.end_quarter))
        form = _continued(session.form, len(new.measures))
        takes.append(Take(0, "continue", *_titled(new, title), settings.seed, span, fresh, base, form=form))
    return lambda now: with_takes(now, takes)


def infill(
    shared: SharedEngine, session: Session, region: Region, settings: ComposeRequest, on_note: NoteCallback,
    step: ProgressCallback = no_progress,
) -> Change:  # fmt: skip
    """Rewrite the region and leave every other note as it is."""
    score = opened_score(session)
    check_unlocked(session, region.span)
    request = settings.rewriting(score, region.selected, region.span)
    return filled(shared, session, request, session.form, on_note, step)


def filled(
    shared: SharedEngine, session: Session, request: InfillRequest, form: str, on_note: NoteCallback,
    step: ProgressCallback = no_progress,
) -> Change:  # fmt: skip
    """Takes of an infilling, after which the piece has this form."""
    score, base = opened_score(session), history.alone(session)
    takes = [
        Take(
            0, "infill", *_titled(new, session.title), request.seed, request.span, kept_notes(score, new) < 0, base,
            form=form,
        )
        for new in shared.compose(request, on_note, step)
    ]  # fmt: skip
    return lambda now: with_takes(now, takes)


def check_unlocked(session: Session, span: tuple[float, float]) -> None:
    """Raise BadInput when quarters `span` reach into a locked section."""
    form = parse_form(session.form)
    if form is None or session.score is None:
        return
    m = session.score.measures
    for k in sorted(session.locked):
        first, last = form.starts[k], form.starts[k] + form.sections[k].bars - 1
        start, end = float(m.onset_quarter[first]), float(m.onset_quarter[last] + m.duration_quarter[last])
        if span[0] < end - 1e-6 and span[1] > start + 1e-6:
            raise BadInput(
                f"Bars {m.number[first]} to {m.number[last]} are a locked section; unlock it in the form strip first."
            )


def _continued(form: str, bars: int) -> str:
    """The form of a piece that has been continued to so many bars: the new ones are a section of their own."""
    plan = parse_form(form)
    if plan is None or not 0 < bars - plan.bars <= MAX_SECTION_BARS or len(plan.sections) >= MAX_SECTIONS:
        return ""
    return str(Form((*plan.sections, Section(plan.new_letter(), 0, bars - plan.bars))))


def opened_score(session: Session) -> Score:
    """The open score. Raises BadInput if there is none."""
    if session.score is None or session.rendered is None:
        raise BadInput(f"{NOTHING_OPEN} Or press Compose to write one.")
    return session.score


def _titled(score: Score, title: str) -> tuple[Score, str]:
    return (score if score.title else replace(score, title=title)), title


def with_takes(now: Session, takes: list[Take]) -> Session:
    """The session with new takes, numbered on; the oldest go where there are too many."""
    first = now.takes[-1].number + 1 if now.takes else 1
    numbered = [replace(take, number=first + i, family=now.family) for i, take in enumerate(takes)]
    return replace(now, takes=(*now.takes, *numbered)[-KEPT_TAKES:])


# ---- region to infill ----
@dataclass(frozen=True)
class Region:
    """The notes and time span that infilling replaces.

    selected  (n,) bool, notes of the score
    span      (from, to) quarters; the new notes start inside
    """

    selected: NDArray[np.bool_]
    span: tuple[float, float]


def bars_of(session: Session, selection: Selection) -> tuple[int, int] | None:
    """Printed numbers of the first and last selected bar; None if no note of this piece is selected."""
    if session.score is None or selection.doc != session.doc or selection.bars is None:
        return None
    number = session.score.measures.number
    first, last = selection.bars
    return (int(number[first]), int(number[last])) if 0 <= first <= last < len(number) else None


def selection_of(session: Session, notes: list[int], bars: list[int] | None) -> Selection:
    """Check a selection from the page and find the bars of single notes."""
    score = session.score
    if score is None:
        return Selection()
    n, m = len(score), score.measures
    chosen = tuple(sorted({i for i in notes if 0 <= i < n}))
    if bars is not None and 0 <= bars[0] <= bars[1] < len(m):
        return Selection(session.doc, chosen, (bars[0], bars[1]))
    if not chosen:
        return Selection(session.doc)
    at = np.searchsorted(m.onset_quarter, score.onset_quarter[list(chosen)] + 1e-6, side="right") - 1
    return Selection(session.doc, chosen, (max(0, int(at.min())), max(0, int(at.max()))))


def whole_bars(session: Session, first: int, last: int, hand: str, selection: Selection) -> Region:
    """Bars by their printed numbers, both ends included, of one staff or both.

    Unfolded repeats print a number more than once; such a number means the selected bar, else the first one.
    """
    score = opened_score(session)
    m, number = score.measures, score.measures.number
    if bars_of(session, selection) == (first, last) and selection.bars is not None:
        a, b = selection.bars
    else:
        starts = np.flatnonzero(number == first)
        ends = np.flatnonzero(number == last)
        ends = ends[ends >= starts[0]] if len(starts) else ends
        if not len(starts) or not len(ends):
            raise BadInput(
                f"Bars {first} to {last} are not in this piece; its bars are {number.min()} to {number.max()}, "
                "give the earlier one first."
            )
        a, b = int(starts[0]), int(ends[0])
    span = float(m.onset_quarter[a]), float(m.onset_quarter[b] + m.duration_quarter[b])
    if hand not in HANDS:
        raise BadInput("Choose both hands, the upper or the lower staff.")
    inside = (score.onset_quarter >= span[0] - 1e-6) & (score.onset_quarter < span[1] - 1e-6)
    return Region(inside & np.isin(_staves(score), HANDS[hand]), span)


def selected_notes(session: Session, selection: Selection) -> Region:
    """Region of the selected notes alone."""
    score = opened_score(session)
    if selection.doc != session.doc or not selection.notes:
        raise BadInput("No note is selected: select notes in the roll or the score, or infill whole bars.")
    selected = np.zeros(len(score), bool)
    selected[list(selection.notes)] = True
    onset, end = score.onset_quarter[selected], (score.onset_quarter + score.duration_quarter)[selected]
    return Region(selected, (float(onset.min()), max(float(end.max()), float(onset.max()) + 0.25)))


def _staves(score: Score) -> NDArray:
    return np.where(score.staff > 0, score.staff, np.where(score.pitch >= 60, 1, 2))


# ---- preview and accept ----
def take_of(session: Session, number: object) -> Take:
    """A take by its number. Raises BadInput if it was removed."""
    for take in session.takes:
        if take.number == number:
            return take
    raise BadInput("That take is no longer available; compose again.")


def played(
    shared: SharedEngine, session: Session, take: Take, controls: Controls, step: ProgressCallback = no_progress
) -> Session:
    """Perform a take. In a continuation or infill, kept notes keep their performance, edits and style. A new piece is
    performed with the panel's style.
    """
    if take.kind == "compose":
        opened = open_piece(shared, session, take.score, take.title, controls, step=step, rendered=take.performance)
        return replace(opened, form=take.form)
    source = session if session.doc == take.base.doc else take.base
    assert source.score is not None
    assert source.rendered is not None
    request = PerformRequest(take.score, source.style, keep=source.rendered, edited_from=source.score)
    rendered = shared.perform(request, step)
    grid = grid_of(take.score, rendered)
    carried = _carried(source, take)
    opened = replay(carried, rendered, grid)
    if opened.pedal is not None and take.kind == "continue":  # the visitor's pedal does not cover the new notes
        from_sec = float(grid.sec_at(take.span[0]))
        new = tuple(p for p in replace(opened, pedal=None).pedal_spans() if p[0] >= from_sec)
        opened = replace(opened, pedal=tuple(p for p in opened.pedal if p[0] < from_sec) + new)
    return opened


def _carried(source: Session, take: Take) -> Session:
    """The piece with the take's score; kept notes keep their edits and their human performance."""
    assert source.score is not None
    n_old, n_new = len(source.score), len(take.score)
    kept = kept_notes(source.score, take.score)
    new_of = np.full(n_old, -1)
    new_of[kept[kept >= 0]] = np.flatnonzero(kept >= 0)
    edits: dict[int, NoteEdit] = {}
    for note_id, edit in source.edits.items():
        if note_id > n_old:
            edits[note_id - n_old + n_new] = edit
        elif new_of[note_id - 1] >= 0:
            edits[int(new_of[note_id - 1]) + 1] = edit
    deleted = frozenset(int(new_of[i - 1]) + 1 for i in source.deleted if new_of[i - 1] >= 0)
    locked = source.locked if take.form else frozenset()
    return replace(
        source, score=take.score, title=take.title, form=take.form, locked=locked, example="",
        edits=MappingProxyType(edits), deleted=deleted,
        reference=_carried_reference(source.reference, new_of),
    )  # fmt: skip


def _carried_reference(reference: Reference | None, new_of: NDArray) -> Reference | None:
    if reference is None:
        return None
    score_index = new_of[reference.alignment.score_index]
    there = np.flatnonzero(score_index >= 0)
    there = there[np.argsort(score_index[there], kind="stable")]
    if len(there) < 2:
        return None
    alignment = Alignment(score_index[there], reference.alignment.performance_index[there])
    return replace(reference, alignment=alignment)


def accept(
    shared: SharedEngine, session: Session, number: object, controls: Controls, step: ProgressCallback = no_progress
) -> Change:
    """Open a take in the place of the piece; undo restores the piece."""
    opened = played(shared, session, take_of(session, number), controls, step)
    return lambda now: history.replaced(history.all_past(now), opened, same_family=True)


def opened_before(session: Session, number: object) -> int:
    """The document in which a take has been opened before; 0 for none."""
    score = take_of(session, number).score
    return next((piece.doc for piece in history.kin(session) if piece.score is score), 0)


def dismiss(session: Session, number: object) -> Session:
    """Discard a take."""
    take = take_of(session, number)
    return replace(session, takes=tuple(t for t in session.takes if t is not take))


def heard_part(opened: Session, take: Take) -> tuple[Performance, float]:
    """The part that a preview plays and its start in seconds: the new notes, with a bar on either side in a
    continuation or infill.
    """
    performance = opened.performance
    if take.kind == "compose" or opened.grid is None:
        return performance, 0.0
    m = take.score.measures
    last = len(m) - 1
    a, b = (int(np.searchsorted(m.onset_quarter, q + 1e-6, side="right")) - 1 for q in take.span)
    start = max(0.0, float(opened.grid.sec_at(m.onset_quarter[max(0, a - 1)])))
    if take.kind == "continue":
        return excerpt(performance, start, performance.end_sec), start
    b = min(last, b if take.span[1] < m.end_quarter - 1e-6 else last)
    end = float(opened.grid.sec_at(m.onset_quarter[b] + m.duration_quarter[b]))
    return excerpt(performance, start, end), start


def excerpt(performance: Performance, start_sec: float, end_sec: float) -> Performance:
    """The notes that start between two moments, the first moment as second 0, under the same pedal."""
    p = performance
    chosen = (p.onset_sec >= start_sec - 0.03) & (p.onset_sec < end_sec - 0.001)
    before = np.flatnonzero(p.pedal_sec < start_sec)
    inside = (p.pedal_sec >= start_sec) & (p.pedal_sec <= end_sec)
    sec, value = p.pedal_sec[inside] - start_sec, p.pedal_value[inside]
    if len(before):
        sec, value = np.concatenate([[0.0], sec]), np.concatenate([[p.pedal_value[before[-1]]], value])
    return Performance(
        np.maximum(p.onset_sec[chosen] - start_sec, 0.0), p.duration_sec[chosen], p.pitch[chosen],
        p.velocity[chosen], np.append(sec, end_sec - start_sec + 0.5), np.append(value, 0),
    )  # fmt: skip


# ---- text ----
def key_of(score: Score) -> str:
    """Key name such as "C minor": signature of the first bar, mode from the last bass note, else from all notes."""
    from engine.models.composer.conditions import key_name

    return key_name(int(np.clip(score.measures.fifths[0], -7, 7)), in_minor(score))
