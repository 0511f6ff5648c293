"""The lens under the roll: tempo, dynamics, timing, touch, pedal, spectrum or path, on the roll's own time axis.

A plain gr.HTML subclass, built like the roll. It exchanges CustomEvents on `document` with the roll:

    etude:view   {doc, t0, pxPerMs, keyW, head, grid, bars}   from the roll, whenever it is drawn
    etude:wheel  {x, deltaX, deltaY, zoom, pitch}             to the roll: scroll or zoom
    etude:axis   {}                                           to the roll: send etude:view
    etude:seek   {doc, quarter}                               to the roll
    etude:spectrum-wanted {}                                  to the player of renders: send etude:spectrum
    etude:spectrum {doc, key, data, n, from, grid}            from the player: the render that is heard, if any
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.data_classes import GradioModel

_HERE = Path(__file__).parent
PARTS = ("../axis.js", "../spectrum.js", "lens_sound.js", "lens_path.js", "lens.js")


class LensData(GradioModel):
    """Wire format. `curves` is one JSON string, see studio.page.wire.curves; "" leaves the view as it is."""

    curves: str = ""


class Lens(gr.HTML):
    """The view."""

    data_model = LensData

    def __init__(self, value: dict | None = None, *, elem_id: str | None = None, render: bool = True):
        super().__init__(
            value=value,
            html_template=(_HERE / "lens.html").read_text(encoding="utf-8"),
            css_template=(_HERE / "lens.css").read_text(encoding="utf-8"),
            js_on_load="\n".join((_HERE / name).read_text(encoding="utf-8") for name in PARTS),
            apply_default_css=False,
            elem_id=elem_id,
            render=render,
        )

    def preprocess(self, payload: LensData | None) -> None:
        """Not used as an input."""
        return None

    def postprocess(self, value: dict | LensData | None) -> LensData | None:
        """A dictionary of LensData's fields."""
        return LensData(**value) if isinstance(value, dict) else value
