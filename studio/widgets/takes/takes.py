"""The strip of takes: small pictures side by side, each with its sound and Open. Like the roll, a plain gr.HTML.

Its value goes one way, from Python to the page. Events: `strip.preview` (send the sound of a take), `strip.dismiss`;
each names the take. The roll shows the takes as tabs and opens them; both exchange CustomEvents on `document`:

    etude:tabs       [{take, doc, name, title, here}]   to the roll, whenever the takes change
    etude:tabs-wanted  {}                               from the roll: send etude:tabs
    etude:open-take  {take}                             to the roll: open it in the place of the piece
"""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData, GradioModel

from studio.state import history
from studio.state.session import Session
from studio.widgets.takes.picture import figures, picture

_HERE = Path(__file__).parent
KINDS = {"compose": "Composed", "continue": "Continued", "infill": "Re-imagined"}


class TakesData(GradioModel):
    """Wire format.

    takes     all takes as one JSON string, "" to keep them
    tabs      with it: the pieces and takes of the roll's tabs, see tab_list
    sound_of  the take that `audio` belongs to
    """

    takes: str = ""
    tabs: str = ""
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
    tabs = tab_list(session) if cards else []
    return {"takes": json.dumps(cards, separators=(",", ":")), "tabs": json.dumps(tabs, separators=(",", ":"))}


def tab_list(session: Session) -> list[dict]:
    """The tabs of the roll: the piece that the takes are for, the present piece if it is no take, then all takes.

    take, doc  number of the take, 0 for a piece; document in which it is open or has been, 0 for none
    """
    pieces, takes = history.kin(session), [take for take in session.takes if take.family == session.family]
    opened = {id(take.score): 0 for take in takes}
    opened |= {id(piece.score): piece.doc for piece in pieces if id(piece.score) in opened}
    other = [piece for piece in pieces if id(piece.score) not in opened]
    shown = [piece for piece in other if piece is other[0] or piece.doc == session.doc]
    tabs = [
        {"take": 0, "doc": piece.doc, "name": "Piece" if piece is other[0] else "Changed", "title": piece.title}
        for piece in shown
    ]
    tabs += [
        {"take": take.number, "doc": opened[id(take.score)], "name": f"Take {take.number}", "title": figures(take)}
        for take in takes
    ]
    return [{**tab, "here": bool(session.doc) and tab["doc"] == session.doc} for tab in tabs]


def strip_sound(number: int, path: str | None) -> dict:
    """The sound of one take; None if there is none."""
    return {"sound_of": number, "audio": path}
