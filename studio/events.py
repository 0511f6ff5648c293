"""Which event calls which action. Three kinds, by how they may meet each other:

edits    unqueued, all of them handled, in the order of their revision numbers (Document.patch)
music    queued one at a time for the whole house (`concurrency_id="engine"`); of many slider moves the last one counts
sound    asked for by the roll when the notes have been left alone, unqueued, marked with the notes it belongs to
"""

from __future__ import annotations

import html
import random
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr

from engine.bundle import BundleError
from engine.music.safe import open_performance, open_score
from engine.music.types import BadInput
from studio import actions
from studio.desk import Desk
from studio.examples import EXAMPLES
from studio.layout import Page, preset_names
from studio.session import Controls, Document, Session
from studio.wire import curves, roll_value, sound_value

ENGINE = {"concurrency_id": "engine", "concurrency_limit": 1, "show_progress": "hidden", "api_visibility": "private"}
PREVIEW_FLAC_SEC = 90  # longer previews travel as FLAC, half the bytes; shorter ones as WAV, which costs no time
CLICK_FILE = "() => { const a = document.querySelector('#file'); (a.querySelector('a, button') || a).click(); }"


def said(fn: Callable) -> Callable:
    """Show a refusal, or a missing checkpoint, as a one-sentence notice; nothing on the page changes.

    The text is escaped, since notices render HTML.
    """

    @wraps(fn)
    def inner(*args: Any) -> Any:
        try:
            return fn(*args)
        except (BadInput, BundleError) as refusal:
            raise gr.Error(html.escape(str(refusal)), title="Not done", print_exception=False) from None

    return inner


def as_controls(values: tuple, axes: int) -> Controls:
    """The style panel's values, in Page.controls order, checked: a client may send anything."""
    preset, second, blend, seed, *rest = values
    strengths, offsets = rest[:5], rest[5 : 5 + axes]
    if len(offsets) != axes or any(v is None for v in (blend, seed, *rest)):
        raise BadInput("A slider of the style panel is empty; press Reset style.")
    return Controls(
        str(preset), str(second), min(1.0, max(0.0, float(blend))),
        tuple(min(3.0, max(-3.0, float(v))) for v in offsets),
        tuple(min(150.0, max(0.0, float(v))) for v in strengths), min(2**31 - 1, max(0, int(seed))),
    )  # fmt: skip


def without_borrowed(controls: Controls) -> Controls:
    """The same panel when there is no human performance to borrow from any more."""
    names = (actions.DEFAULT if name == actions.BORROWED else name for name in (controls.preset, controls.second))
    preset, second = names
    return replace(controls, preset=preset, second=second)


def connect(demo: gr.Blocks, page: Page, desk: Desk) -> None:
    """Attach every event of the page; called once, inside the same gr.Blocks."""
    connect_opening(demo, page, desk)
    connect_style(page, desk)
    connect_roll(page, desk)
    connect_human(page, desk)
    connect_downloads(page, desk)


def redraw(session: Session, show_human: bool, score: bool = False, note: str = "") -> tuple:
    """New values of the roll and the curves."""
    return roll_value(session, score, note), drawn_curves(session, show_human)


def drawn_curves(session: Session, show_human: bool) -> Any:
    """The curves, left as they are when so little is left of the piece that none can be drawn."""
    try:
        return curves(session, show_human)
    except ValueError:
        return gr.skip()


def kept_edits(session: Session) -> str:
    """What the status line says about the visitor's own notes and pedal after the pianist has played again."""
    theirs = [f"{session.edited} edited notes" if session.edited > 1 else "edited note"] if session.edited else []
    theirs += ["pedal"] if session.pedal is not None else []
    if not theirs:
        return ""
    one = len(theirs) == 1 and session.edited < 2
    return f"Your {' and your '.join(theirs)} {'stays as you made it' if one else 'stay as you made them'}"


def connect_opening(demo: gr.Blocks, page: Page, desk: Desk) -> None:
    """Examples and uploads."""
    inputs = [page.document, page.human_show, *page.controls]
    human = [page.human_text, page.human_style, page.human_remove, page.preset, page.second, page.human_example]
    outputs = [page.roll, page.curves, *human]

    def shown(document: Document, score: Any, title: str, show: bool, values: tuple, example: str = "") -> tuple:
        controls = as_controls(values, len(desk.axes))
        controls = without_borrowed(controls)
        opened = actions.open_piece(desk, document.session, score, title, controls, example)
        session = document.update(lambda now: actions.as_next(now, opened))
        return *redraw(session, show, score=True, note=f"{len(score):,} notes"), *human_controls(
            session, desk, controls
        )

    @said
    def open_example(document: Document, show: bool, *values: Any) -> tuple:
        *panel, name = values
        if name not in EXAMPLES:
            raise BadInput("That example is not known here; choose one from the list.")
        example = EXAMPLES[name]
        score = desk.read_example(example)
        return shown(document, score, example.title, show, tuple(panel), example.title)

    @said
    def open_upload(path: str, document: Document, show: bool, *values: Any) -> tuple:
        file = Path(path)
        score = open_score(file.read_bytes(), file.name)
        return *shown(document, score, score.title or file.stem, show, values), None

    for chosen in (demo.load, page.example.select):
        chosen(
            open_example, [*inputs, page.example], outputs, **{**ENGINE, "show_progress": "minimal"},
            trigger_mode="always_last",
        )  # fmt: skip
    page.open_file.upload(
        open_upload, [page.open_file, *inputs], [*outputs, page.example],
        **{**ENGINE, "show_progress": "minimal"},
    )  # fmt: skip


def human_controls(session: Session, desk: Desk, controls: Controls) -> tuple:
    """Text and buttons of the human performance, and the preset menus that depend on it."""
    has = session.reference is not None
    names = preset_names(desk, has)
    text = session.reference.name if session.reference else "None yet"
    example = EXAMPLES.get(session.example)
    return (
        text,
        gr.update(interactive=has),
        gr.update(interactive=has),
        gr.update(choices=names, value=controls.preset),
        gr.update(choices=names, value=controls.second),
        gr.update(interactive=example is not None and bool(example.human)),
    )


def connect_style(page: Page, desk: Desk) -> None:
    """Sliders, presets, seed: play again, keep the visitor's edits."""
    inputs = [page.document, page.human_show, *page.controls]

    @said
    def restyle(document: Document, show: bool, *values: Any) -> tuple:
        change = actions.restyle(desk, document.session, as_controls(values, len(desk.axes)))
        session = document.update(change)
        return redraw(session, show, note=kept_edits(session))

    sliders = [page.blend, *page.axes, *page.strengths]
    menus = [page.preset, page.second]
    gr.on(
        [s.release for s in sliders] + [m.input for m in menus] + [page.seed.submit, page.seed.blur],
        restyle, inputs, [page.roll, page.curves], trigger_mode="always_last", **ENGINE,
    )  # fmt: skip
    page.dice.click(lambda: random.randrange(1, 10_000), None, page.seed, queue=False, api_visibility="private").then(
        restyle, inputs, [page.roll, page.curves], **ENGINE
    )
    zero = [actions.DEFAULT, actions.DEFAULT, 0, 0, *[100] * 5, *[0] * len(page.axes)]
    page.reset.click(lambda: zero, None, page.controls, queue=False, api_visibility="private").then(
        restyle, inputs, [page.roll, page.curves], **ENGINE
    )

    @said
    def discard(document: Document, show: bool) -> tuple:
        if document.session.rendered is None:
            raise BadInput(actions.NOTHING_OPEN)
        return redraw(document.update(actions.discard_edits), show, note="Your edits are discarded")

    page.discard.click(
        discard,
        [page.document, page.human_show],
        [page.roll, page.curves],
        show_progress="hidden",
        api_visibility="private",
    )


def connect_roll(page: Page, desk: Desk) -> None:
    """The visitor's edits, the sound of them, and playing a selection again."""
    quiet = {"show_progress": "hidden", "api_visibility": "private"}

    def edit(event: gr.EventData, document: Document) -> Any:
        data = event._data if isinstance(event._data, dict) else {}
        doc, rev = data.get("doc"), data.get("rev")
        try:
            if type(doc) is not int or type(rev) is not int or not isinstance(data.get("put", []), list):
                raise BadInput("The edit could not be read; reload the page.")
            change = actions.edit(data.get("put", []), data.get("del", []), data.get("pedal", False))
            document.patch(doc, rev, change)
        except BadInput as refusal:
            gr.Warning(html.escape(str(refusal)))
            if type(doc) is not int or type(rev) is not int:
                return gr.skip()
            document.patch(doc, rev, lambda now: now)  # its number is used up; later edits need not wait for it
            session = document.update(actions.another_take)
            return roll_value(session, note="The notes are as they were before that edit")
        return gr.skip()

    page.roll.edit(edit, page.document, page.roll, trigger_mode="multiple", queue=False, **quiet)

    def sound(event: gr.EventData, document: Document, piano: str, show: bool) -> tuple:
        session = document.session
        if session.rendered is None:
            return gr.skip(), gr.skip()
        shown = event._data if isinstance(event._data, dict) else {}
        if "take" in shown and (shown.get("doc"), shown.get("take")) != (session.doc, session.take):
            return redraw(session, show, score=True)  # the page missed a rendering; it will ask for sound again
        try:
            clip = actions.sound(desk, session, str(piano))
        except BadInput as refusal:
            return sound_value(session, None, str(refusal)), gr.skip()
        kind = "flac" if clip.duration_sec > PREVIEW_FLAC_SEC else "wav"
        path = document.preview_file(kind)
        path.write_bytes(actions.audio_bytes(clip, kind))
        return sound_value(session, str(path)), drawn_curves(session, show) if session.edited else gr.skip()

    # Unqueued: an answer from Gradio's queue can be lost when two events of a visitor overlap; sound overlaps all.
    # The roll asks one thing at a time and asks again if no answer comes; the desk limits how many play at once.
    for wanted in (page.roll.settle, page.piano.input):
        wanted(
            sound,
            [page.document, page.piano, page.human_show],
            [page.roll, page.curves],
            trigger_mode="multiple",
            queue=False,
            **quiet,
        )

    @said
    def reperform(event: gr.EventData, document: Document, show: bool) -> tuple:
        data = event._data if isinstance(event._data, dict) else {}
        ids = data.get("ids")
        if not isinstance(ids, list) or len(ids) > actions.MAX_NOTES or not all(type(i) is int for i in ids):
            raise BadInput("The selection could not be read; select the notes again.")
        session = document.session
        if data.get("doc") != session.doc:
            raise BadInput("Another piece has been opened; select the notes again.")
        session = document.update(actions.reperform(desk, session, ids))
        return redraw(session, show, note="The selection was played again, the rest is unchanged")

    page.roll.reperform(
        reperform, [page.document, page.human_show], [page.roll, page.curves], trigger_mode="once", **ENGINE
    )


def connect_human(page: Page, desk: Desk) -> None:
    """A human performance under the curves, and its style."""
    outputs = [
        page.curves, page.human_text, page.human_style, page.human_remove, page.preset, page.second, page.human_example,
    ]  # fmt: skip

    def laid(document: Document, data: bytes, filename: str, name: str, show: bool) -> tuple:
        performance = open_performance(data, filename)
        session = document.update(actions.set_reference(desk, document.session, performance, name))
        return drawn_curves(session, show), *human_controls(session, desk, session.controls)

    @said
    def of_example(document: Document, show: bool) -> tuple:
        example = EXAMPLES.get(document.session.example)
        if example is None or not example.human:
            raise BadInput("No human performance comes with this piece; open a MIDI file of one.")
        return laid(
            document, example.human_bytes(), example.human, f"{example.pianist} at the Piano-e-Competition", show
        )

    @said
    def uploaded(path: str, document: Document, show: bool) -> tuple:
        file = Path(path)
        return laid(document, file.read_bytes(), file.name, file.name[:80], show)

    busy = {**ENGINE, "show_progress": "minimal", "show_progress_on": page.human_text}
    page.human_example.click(of_example, [page.document, page.human_show], outputs, **busy)
    page.human_file.upload(uploaded, [page.human_file, page.document, page.human_show], outputs, **busy)

    @said
    def remove(document: Document, show: bool, *values: Any) -> tuple:
        controls = as_controls(values, len(desk.axes))
        session = document.update(actions.remove_reference)
        return drawn_curves(session, show), *human_controls(session, desk, without_borrowed(controls))

    inputs = [page.document, page.human_show, *page.controls]

    @said
    def restyle(document: Document, show: bool, *values: Any) -> tuple:
        session = document.update(actions.restyle(desk, document.session, as_controls(values, len(desk.axes))))
        return redraw(session, show, note=kept_edits(session))

    again = {"inputs": inputs, "outputs": [page.roll, page.curves], **ENGINE}
    page.human_remove.click(remove, inputs, outputs, **ENGINE).then(restyle, **again)
    page.human_style.click(
        lambda: [actions.BORROWED, *[0] * len(page.axes)],
        None,
        [page.preset, *page.axes],
        queue=False,
        api_visibility="private",
    ).then(restyle, **{**again, "show_progress": "minimal", "show_progress_on": page.human_text})
    page.human_show.input(
        lambda document, show: drawn_curves(document.session, show) if document.session.score else gr.skip(),
        [page.document, page.human_show], page.curves, show_progress="hidden", api_visibility="private",
    )  # fmt: skip


def connect_downloads(page: Page, desk: Desk) -> None:
    """Write the file, hand it to the hidden download button, press that."""
    for kind, button in page.downloads.items():

        def save(document: Document, piano: str, kind: str = kind) -> str:
            name, data = actions.export(desk, document.session, kind, str(piano))
            path = document.folder() / name
            path.write_bytes(data)
            return str(path)

        saved = button.click(
            said(save),
            [page.document, page.piano],
            page.file,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        saved.success(None, js=CLICK_FILE)
