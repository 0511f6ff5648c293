"""Common base of the player of renders and the view of compared performances: wire format, script, style. A plain
gr.HTML whose value goes one way, from Python to the page; user actions come back as events.
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
    """Wire format.

    news   the news, as one JSON string; `at` in it makes every answer differ, so that none is skipped
    audio  the sound of the news
    file   a file to download
    """

    news: str = ""
    audio: FileData | None = None
    file: FileData | None = None


class Player(gr.HTML):
    """The template is static, so that no user text is compiled.

    folder  contains the template and the style of the same name
    parts   scripts in it that follow player.js; they are concatenated and run once
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
        """Not used as an input: the Document holds the sounds."""
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
    """A piece of news, for `PlayerData.news`."""
    return json.dumps({**told, "at": time.monotonic()}, separators=(",", ":"))


def grid_rows(grid: Grid | None) -> list[list[float]] | None:
    """Map from score time to a sound: quarters and milliseconds."""
    return None if grid is None else [grid.quarter.round(4).tolist(), (1000 * grid.sec).round(1).tolist()]
