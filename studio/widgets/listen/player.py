"""What the player of renders and that of compared performances share: the wire, the script, the style.

Each is a plain gr.HTML. Its value goes one way, from Python to the page; what the visitor does comes back as events.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, GradioModel

from studio.state.session import Grid

_HERE = Path(__file__).parent


class PlayerData(GradioModel):
    """On the wire.

    news   what has happened, as one JSON string; `at` in it makes every answer differ, so that none is passed over
    audio  the sound that the news is about
    file   something to take away
    """

    news: str = ""
    audio: FileData | None = None
    file: FileData | None = None


class Player(gr.HTML):
    """A static template, so that nobody's text is compiled.

    folder  holds the template and the style, named like it
    parts   the scripts in it that follow player.js; all are joined and run once
    """

    data_model = PlayerData
    folder: Path
    parts: tuple[str, ...]

    def __init__(self, value: dict | None = None, *, elem_id: str | None = None, render: bool = True):
        own = self.folder / self.folder.name
        super().__init__(
            value=value,
            html_template=_read(own.with_suffix(".html")),
            css_template=_read(_HERE / "player.css", own.with_suffix(".css")),
            js_on_load=_read(_HERE / "player.js", *(self.folder / name for name in self.parts)),
            apply_default_css=False,
            elem_id=elem_id,
            render=render,
        )

    def preprocess(self, payload: PlayerData | None) -> None:
        """Never an input: the visitor's Document holds what is played."""
        return None

    def postprocess(self, value: dict | PlayerData | None) -> PlayerData | None:
        """A dictionary of PlayerData's fields; `audio` and `file` as paths."""
        if value is None or isinstance(value, PlayerData):
            return value
        paths = {name: value.get(name) for name in ("audio", "file")}
        files = {n: FileData(path=str(p), orig_name=Path(p).name) if p else None for n, p in paths.items()}
        return PlayerData(**{**value, **files})

    def api_info(self) -> dict:
        """The wire format's schema."""
        return PlayerData.model_json_schema()


def _read(*paths: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def news_of(**told: Any) -> str:
    """What has happened, for `PlayerData.news`."""
    return json.dumps({**told, "at": time.monotonic()}, separators=(",", ":"))


def grid_rows(grid: Grid | None) -> list[list[float]] | None:
    """Where the score's times fall in a sound: quarters and milliseconds."""
    return None if grid is None else [grid.quarter.round(4).tolist(), (1000 * grid.sec).round(1).tolist()]
