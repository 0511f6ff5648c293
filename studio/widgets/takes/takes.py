"""The strip of takes: small pictures side by side, each with its sound and Accept. Like the roll, a plain gr.HTML.

Its value goes one way, from Python to the page. Events: `strip.preview` (send the sound of a take), `strip.accept`,
`strip.dismiss`; each names the take.
"""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData, GradioModel

from studio.state.session import Session
from studio.widgets.takes.picture import figures, picture

_HERE = Path(__file__).parent
KINDS = {"compose": "Composed", "continue": "Continued", "infill": "Re-imagined"}


class TakesData(GradioModel):
    """Wire format.

    takes     all takes as one JSON string, "" to keep them
    sound_of  the take that `audio` belongs to
    """

    takes: str = ""
    sound_of: int = 0
    audio: FileData | None = None


class TakeStrip(gr.HTML):
    """The strip. The template is static, so that no user text is compiled."""

    data_model = TakesData

    def __init__(self, value: dict | None = None, *, elem_id: str | None = None, render: bool = True):
        super().__init__(
            value=value,
            html_template=(_HERE / "takes.html").read_text(encoding="utf-8"),
            css_template=(_HERE / "takes.css").read_text(encoding="utf-8"),
            js_on_load=(_HERE / "takes.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id=elem_id,
            render=render,
        )

    def preprocess(self, payload: TakesData | None) -> None:
        """Not used as an input: the Document holds the takes."""
        return None

    def postprocess(self, value: dict | TakesData | None) -> TakesData | None:
        """A dictionary of TakesData's fields; `audio` as a path."""
        if value is None or isinstance(value, TakesData):
            return value
        path = value.get("audio")
        audio = FileData(path=path, orig_name=Path(path).name) if isinstance(path, str) else None
        return TakesData(**{**value, "audio": audio})

    def api_info(self) -> dict:
        """The wire format's schema."""
        return TakesData.model_json_schema()


def strip_value(session: Session) -> dict:
    """The strip's value: the takes that belong to the piece, newest first, those of one request in their order."""
    cards = [
        {
            "number": take.number, "kind": KINDS[take.kind], "figures": figures(take), "seed": take.seed,
            "picture": picture(take), "here": session.score is not None and take.score is session.score,
        }
        for take in session.takes
        if take.family == session.family
    ]  # fmt: skip
    return {"takes": json.dumps(cards, separators=(",", ":"))}


def strip_sound(number: int, path: str | None) -> dict:
    """The sound of one take; None if there is none."""
    return {"sound_of": number, "audio": path}
