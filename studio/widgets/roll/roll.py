"""An editable piano roll as a plain gr.HTML subclass: no build step, no npm, nothing loaded from another host.

Its value goes one way, from Python to the page. User actions come back as events: `roll.edit` (a patch), `roll.settle`
(edits have stopped: send sound), `roll.reperform` (perform the selected notes again), `roll.waiting` (poll a job),
`roll.collect` (fetch its result), `roll.cancel`, `roll.refused` (show a refusal), `roll.history` (undo or redo to
another piece), `roll.chosen` (selection), `roll.flip` (show another version of the performance), `roll.hop` (open a
take, or another piece of its family).
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData, GradioModel

_HERE = Path(__file__).parent
PARTS = (
    "../axis.js", "roll_view.js", "roll_sound.js", "roll_draft.js", "roll_loop.js", "roll_versions.js", "roll_takes.js",
    "roll_empty.js", "roll_table.js", "roll_practice.js", "roll_edit.js",
)  # fmt: skip
OF_PIECE = "of-piece"  # CSS class of a button that acts on the piece; roll_draft.js disables it while a draft is shown


class RollData(GradioModel):
    """Wire format. Nested arrays slow down every browser event, so the music is sent as two JSON strings (see
    studio.page.wire); Gradio fills in `audio.url` and `file.url`.

    rev, take  revision and performance that `doc` or the sound belongs to
    doc        the performance layer, "" to keep it
    score      the score layer, "" to keep it
    note       a sentence for the status line
    sound_of   the document that `audio` belongs to
    file       a file to download
    job        progress of a job, see studio.page.wire
    draft      notes that are shown but not edited: a draft or a take; see studio.page.wire
    """

    rev: int = 0
    take: int = 0
    doc: str = ""
    score: str = ""
    note: str = ""
    sound_of: int = 0
    audio: FileData | None = None
    file: FileData | None = None
    job: str = ""
    draft: str = ""


class PianoRoll(gr.HTML):
    """The roll. Its templates are static, because the browser compiles them: they contain no user text."""

    data_model = RollData

    def __init__(self, value: dict | None = None, *, elem_id: str | None = None, render: bool = True):
        super().__init__(
            value=value,
            html_template=(_HERE / "roll.html").read_text(encoding="utf-8"),
            css_template=(_HERE / "roll.css").read_text(encoding="utf-8"),
            js_on_load="\n".join((_HERE / name).read_text(encoding="utf-8") for name in PARTS),
            apply_default_css=False,
            elem_id=elem_id,
            render=render,  # Gradio rebuilds the component when an event leaves it unchanged
        )

    def preprocess(self, payload: RollData | None) -> None:
        """Not used as an input: the Document holds the notes."""
        return None

    def postprocess(self, value: dict | RollData | None) -> RollData | None:
        """A dictionary of RollData's fields; `audio` and `file` as paths."""
        if value is None or isinstance(value, RollData):
            return value
        paths = {name: value.get(name) for name in ("audio", "file")}
        files = {n: FileData(path=p, orig_name=Path(p).name) if isinstance(p, str) else p for n, p in paths.items()}
        return RollData(**{**value, **files})

    def api_info(self) -> dict:
        """The wire format's schema."""
        return RollData.model_json_schema()
