"""Opening, performing, editing and exporting, as functions from a Session to a Session. No Gradio here. Slow actions
return a change: a function that is applied to the Session at completion, so edits made meanwhile are kept.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from engine.limits import PERFORMANCE_NOTES, PERFORMANCE_SEC
from engine.music.expression import beat_times
from engine.music.passes import check_found
from engine.music.types import AudioClip, BadInput, Performance, Score, Strength, Style
from engine.progress import ProgressCallback, no_progress
from engine.requests import PerformRequest
from studio.actions.written import NOTHING_OPEN, locked_pair, written_pair
from studio.service.shared_engine import SharedEngine
from studio.state import versions
from studio.state.session import FIELDS, Controls, Grid, NoteEdit, Reference, Session, replay

Change = Callable[[Session], Session]
DEFAULT = "Default"
BORROWED = "The human's style"


def style_of(shared: SharedEngine, session: Session, controls: Controls) -> Style:
    """Turn the style panel into a Style."""
    first, second = (_preset(shared, session, name) for name in (controls.preset, controls.second))
    size = max(len(first), len(second))
    base = tuple(
        (1 - controls.blend) * a + controls.blend * b
        for a, b in zip(_padded(first, size), _padded(second, size), strict=True)
    )
    return shared.engine.style(
        tuple(controls.axes),
        base=base,
        strength=Strength(*(value / 100 for value in controls.strength)),
        seed=controls.seed,
        freedom=controls.freedom / 100,
    )


def _padded(z: Sequence[float], size: int) -> tuple[float, ...]:
    return tuple(z) + (0.0,) * (size - len(z))


def _preset(shared: SharedEngine, session: Session, name: str) -> tuple[float, ...]:
    if name == BORROWED:
        if session.score is None or session.reference is None:
            raise BadInput("There is no human performance to borrow a style from; open one, or choose another preset.")
        return shared.style_from(session.score, session.reference.performance, session.reference.alignment)
    if name not in shared.presets:
        raise BadInput("There is no such preset; choose one from the list.")
    return shared.presets[name]


def open_piece(
    shared: SharedEngine, session: Session, score: Score, title: str, controls: Controls, example: str = "",
    step: ProgressCallback = no_progress, rendered: Performance | None = None,
) -> Session:  # fmt: skip
    """Open a new score and perform it; edits and reference of the previous piece are dropped.

    rendered  a performance that the score comes with; it stands until a slider moves
    """
    number = session.docs + 1
    fresh = Session(score=score, title=title, controls=controls, example=example, doc=number, docs=number)
    style = style_of(shared, fresh, controls)
    if rendered is None:
        rendered = shared.perform(PerformRequest(score, style), step)
    return replay(replace(fresh, style=style), rendered, grid_of(score, rendered))


def another_take(session: Session) -> Session:
    """The same notes under a new take number, so that the page replaces its own by them."""
    return replace(session, take=session.take + 1)


def grid_of(score: Score, rendered: Performance) -> Grid:
    """Map the beats of a score to the seconds of its performance."""
    _, sec, quarter = beat_times(score, rendered)
    return Grid.through(quarter, sec)


def restyle(shared: SharedEngine, session: Session, controls: Controls, step: ProgressCallback = no_progress) -> Change:
    """Perform the same score in another style and apply the visitor's manual edits again."""
    if session.score is None:
        raise BadInput(NOTHING_OPEN)
    score, doc = session.score, session.doc
    style = style_of(shared, session, controls)
    rendered = shared.perform(PerformRequest(score, style), step)
    grid = grid_of(score, rendered)

    def change(now: Session) -> Session:
        if now.doc != doc:  # another piece was opened during the performance
            return now
        before = versions.with_present(now)
        after = replay(replace(before, controls=controls, style=style), rendered, grid)
        return versions.appended(after, versions.name_of(controls))

    return change


def reperform(
    shared: SharedEngine, session: Session, ids: Sequence[int], step: ProgressCallback = no_progress
) -> Change:
    """Perform only the selected notes again, with a new seed; all others stay the same to the millisecond."""
    if session.score is None or session.rendered is None:
        raise BadInput(NOTHING_OPEN)
    n = len(session.score)
    redo = np.zeros(n, bool)
    redo[[i - 1 for i in ids if 1 <= i <= n]] = True
    if not redo.any():
        raise BadInput("No note of the score is selected: select the notes to perform again.")
    seed = session.style.seed + session.take + 1  # the same seed would give the same notes again
    style = replace(session.style, seed=seed)
    request = PerformRequest(session.score, style, keep=session.in_score_order(), redo=redo)
    played = shared.perform(request, step)
    score, doc, take = session.score, session.doc, session.take

    def change(now: Session) -> Session:
        if now.doc != doc or now.take != take:
            raise BadInput("The performance changed meanwhile; select the notes again.")
        now = versions.with_present(now)
        assert now.rendered is not None
        columns = {name: np.where(redo, getattr(played, name), getattr(now.rendered, name)) for name in FIELDS}
        rendered = replace(now.rendered, **columns)
        edits = {i: e for i, e in now.edits.items() if i > n or not redo[i - 1]}
        back = frozenset(i for i in now.deleted if not redo[i - 1])
        after = replace(
            now, rendered=rendered, grid=grid_of(score, rendered), edits=MappingProxyType(edits), deleted=back,
            take=now.take + 1,
        )  # fmt: skip
        return versions.appended(after, versions.AGAIN)

    return change


def discard_edits(session: Session) -> Session:
    """Restore the pianist's notes and pedal."""
    return replace(session, edits=MappingProxyType({}), deleted=frozenset(), pedal=None, take=session.take + 1)


def edit(put: list, delete: list, pedal: list | bool | None) -> Change:
    """Check a patch from the roll and apply it.

    put     [[id, pitch, onset_ms, duration_ms, velocity], ...] new or changed notes
    delete  [id, ...]
    pedal   [[from_ms, to_ms], ...] all spans; None restores the pianist's pedal; False leaves it unchanged
    Raises BadInput for anything that the roll cannot have sent.
    """
    rows = [_row(row) for row in put]
    if not all(type(i) is int for i in delete):
        raise BadInput("The edit could not be read; reload the page.")
    spans = pedal if pedal is None or pedal is False else _spans(pedal)

    def change(now: Session) -> Session:
        edits, deleted = dict(now.edits), set(now.deleted)
        for i in delete:
            edits.pop(i, None)
            if now.base(i) is not None:
                deleted.add(i)
        for note_id, note in rows:
            deleted.discard(note_id)
            own = _own_fields(now.base(note_id), now.edits.get(note_id), note)
            if own:
                edits[note_id] = _exact(now.base(note_id), now.edits.get(note_id), note, own)
            else:
                edits.pop(note_id, None)
        count = len(now.rendered) if now.rendered is not None else 0
        if count + sum(i > count for i in edits) > PERFORMANCE_NOTES:
            raise BadInput(f"A performance has at most {PERFORMANCE_NOTES:,} notes; delete some before adding more.")
        new = replace(now, edits=MappingProxyType(edits), deleted=frozenset(deleted))
        return new if spans is False else replace(new, pedal=spans)

    return change


def _row(row: object) -> tuple[int, NoteEdit]:
    if not (isinstance(row, list) and len(row) == 5 and all(type(v) is int for v in row)):
        raise BadInput("The edit could not be read; reload the page.")
    note_id, pitch, onset, duration, velocity = row
    limit = int(1000 * PERFORMANCE_SEC)
    fits = 0 <= pitch <= 127 and 0 <= onset <= limit and 0 < duration <= limit and 1 <= velocity <= 127
    if not fits or not 1 <= note_id <= 10_000_000:
        raise BadInput("That position is off the keyboard or past the one-hour limit.")
    return note_id, NoteEdit(pitch, onset / 1000, duration / 1000, velocity)


def _spans(pedal: object) -> tuple[tuple[float, float], ...]:
    ok = isinstance(pedal, list) and len(pedal) <= PERFORMANCE_NOTES
    for span in pedal if ok else []:  # type: ignore[union-attr]
        pair = isinstance(span, list) and len(span) == 2 and all(type(v) is int for v in span)
        ok = ok and pair and 0 <= span[0] < span[1] <= int(1000 * PERFORMANCE_SEC)
    if not ok:
        raise BadInput("The pedal edit could not be read; reload the page.")
    spans: list[list[float]] = []
    for start, end in sorted(pedal):  # type: ignore[arg-type]
        if spans and start <= spans[-1][1] * 1000:
            spans[-1][1] = max(spans[-1][1], end / 1000)
        else:
            spans.append([start / 1000, end / 1000])
    return tuple((a, b) for a, b in spans)


def _ms(sec: float) -> int:
    return round(1000 * sec)


def _own_fields(base: NoteEdit | None, before: NoteEdit | None, note: NoteEdit) -> frozenset[str]:
    """The fields that the visitor has changed: those that differ from the pianist's."""
    if base is None:
        return frozenset(FIELDS)
    same = {
        "pitch": note.pitch == base.pitch,
        "velocity": note.velocity == base.velocity,
        "onset_sec": _ms(note.onset_sec) == _ms(base.onset_sec),
        "duration_sec": _ms(note.duration_sec) == max(1, _ms(base.duration_sec)),
    }
    return frozenset(name for name in FIELDS if not same[name])


def _exact(base: NoteEdit | None, before: NoteEdit | None, note: NoteEdit, own: frozenset[str]) -> NoteEdit:
    """Keep fractions of a millisecond where a time is unchanged; the roll counts whole milliseconds."""
    values = {}
    for name in ("onset_sec", "duration_sec"):
        value = getattr(note, name)
        for known in (before, base):
            if known is not None and _ms(getattr(known, name)) == _ms(value):
                value = getattr(known, name)
        values[name] = value
    return replace(note, own=own, **values)


def set_reference(
    shared: SharedEngine, session: Session, performance: Performance, name: str, step: ProgressCallback = no_progress
) -> Change:
    """Add a human performance of the score."""
    if session.score is None:
        raise BadInput(NOTHING_OPEN)
    alignment = shared.align(session.score, performance, step)
    check_found(session.score, alignment)
    doc = session.doc
    reference = Reference(performance, alignment, name)
    return lambda now: replace(now, reference=reference) if now.doc == doc else now


def remove_reference(session: Session) -> Session:
    """Remove the human performance."""
    return replace(session, reference=None)


def sound(shared: SharedEngine, session: Session, piano: str, step: ProgressCallback = no_progress) -> AudioClip:
    """The preview sound of the performance, edits included."""
    if session.rendered is None:
        raise BadInput(NOTHING_OPEN)
    performance = session.performance
    if not len(performance):
        raise BadInput("Every note has been deleted, so there is nothing to play; undo, or reset the edits.")
    return shared.preview(performance, piano, step)


def audio_bytes(clip: AudioClip, kind: str) -> bytes:
    """A clip as a file. kind: wav or flac."""
    from engine.sound.clip import encode_audio

    return encode_audio(clip, format=kind)


def export(
    shared: SharedEngine, session: Session, kind: str, piano: str, step: ProgressCallback = no_progress
) -> tuple[str, bytes]:
    """An exported file: its name and its bytes.

    kind  midi, locked, musicxml, played, pdf, wav, flac, one of `engine.measures.exports.EXPORTS`, or its ALL
    """
    from engine.measures.exports import ALL, EXPORTS, export_all
    from engine.music.edition import edited
    from engine.music.io.midi import write_midi, write_midi_locked
    from engine.untrusted.saving import save_as_played, save_musicxml, save_pdf

    if session.score is None or session.rendered is None:
        raise BadInput(NOTHING_OPEN)
    name = safe_name(session.title)
    if kind == "midi":
        return f"{name}.mid", write_midi(session.performance)
    if kind == "locked":
        return f"{name}-for-notation.mid", write_midi_locked(*locked_pair(session))
    if kind == "musicxml":
        return f"{name}.musicxml", save_musicxml(edited(*written_pair(session)))
    if kind == "played":
        return f"{name}-as-played.musicxml", save_as_played(*locked_pair(session), lambda: step(0.0))
    if kind == "pdf":
        page = replace(edited(*written_pair(session)), title=session.title)
        return f"{name}.pdf", save_pdf(page, lambda: step(0.0))
    if kind in EXPORTS or kind == ALL:
        played = session.score, session.performance, session.alignment
        if kind == ALL:
            return f"{name}-data.zip", export_all(*played, name)
        return f"{name}{EXPORTS[kind].ending}", EXPORTS[kind].make(*played)
    return f"{name}.{kind}", audio_bytes(sound(shared, session, piano, step), kind)


def safe_name(title: str) -> str:
    """A safe file name from an arbitrary title: letters, digits, dashes; never empty."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:60].strip("-") or "etude"
