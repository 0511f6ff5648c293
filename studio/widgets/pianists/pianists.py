"""Cards of pianists: a choice of those that differ most, by measured character. Built like the takes, a plain gr.HTML.

Its value goes one way, from Python to the page. Events: `cards.choose` and `cards.sample` (send two bars); each
names the pianist.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData, GradioModel

from engine.models.pianist.style import character

_HERE = Path(__file__).parent
PARTS = ("../radios.js", "pianists.js")
MAX_CARDS = 8


class PianistsData(GradioModel):
    """Wire format.

    cards  the cards as one JSON string, "" to keep them
    of     the pianist that `audio` is by; again: it is still being made, ask again
    """

    cards: str = ""
    of: str = ""
    again: bool = False
    audio: FileData | None = None


class PianistCards(gr.HTML):
    """The cards. The template is static, so that no user text is compiled."""

    data_model = PianistsData

    def __init__(self, value: dict | None = None, *, elem_id: str | None = None, render: bool = True):
        super().__init__(
            value=value,
            html_template=(_HERE / "pianists.html").read_text(encoding="utf-8"),
            css_template=(_HERE / "pianists.css").read_text(encoding="utf-8"),
            js_on_load="\n".join((_HERE / part).read_text(encoding="utf-8") for part in PARTS),
            apply_default_css=False,
            elem_id=elem_id,
            render=render,
        )

    def preprocess(self, payload: PianistsData | None) -> None:
        """Not used as an input."""
        return None

    def postprocess(self, value: dict | PianistsData | None) -> PianistsData | None:
        """A dictionary of PianistsData's fields; `audio` as a path."""
        if value is None or isinstance(value, PianistsData):
            return value
        path = value.get("audio")
        audio = FileData(path=str(path), orig_name=Path(path).name) if path else None
        return PianistsData(**{**value, "audio": audio})

    def api_info(self) -> dict:
        """The wire format's schema."""
        return PianistsData.model_json_schema()


def chosen(presets: Mapping[str, Sequence[float]], default: str) -> list[str]:
    """Up to MAX_CARDS names: the default, then for each leading trait the pianist who has most of it.

    >>> faster, fast, steady = (1.0,) + (0,) * 8, (0.5,) + (0,) * 8, (0, -0.4) + (0,) * 7
    >>> chosen({"Default": (0,) * 9, "A": faster, "B": fast, "C": steady}, "Default")
    ['Default', 'A', 'C']
    """
    found = [default]
    led = set()
    for name, z in sorted(presets.items(), key=lambda item: -max((abs(v) for v in item[1][:9]), default=0)):
        trait = character(z).partition(",")[0]
        if trait and trait not in led and name != default and len(found) < MAX_CARDS:
            led.add(trait)
            found.append(name)
    return found


def cards_value(presets: Mapping[str, Sequence[float]], default: str) -> dict:
    """The cards of these presets."""
    rows = [
        {
            "name": name,
            "traits": character(presets.get(name, ())).capitalize(),
            "about": f"the average of {len(presets) - 1}" if name == default else name,
        }
        for name in chosen(presets, default)
    ]
    return {"cards": json.dumps(rows, separators=(",", ":"))}


def sample_value(name: str, path: Path | None, again: bool = False) -> dict:
    """Two bars by a pianist; no path if there are none yet."""
    return {"of": name, "audio": path, "again": again}
