"""Tiles of the gallery's recordings, and a window over one's own recording. Two plain gr.HTML.

Their values go one way, from Python to the page. Events: `tiles.choose` (a recording, by its key) and `window.pick`
(start and length of the excerpt, seconds).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import gradio as gr
import numpy as np
from gradio.data_classes import GradioModel
from numpy.typing import NDArray

from engine.music.types import AudioClip
from engine.sound.prompts import LONGEST_SEC, SHORTEST_SEC, gallery

_HERE = Path(__file__).parent
TILE_BARS, WINDOW_BARS = 56, 150


class TilesData(GradioModel):
    """Wire format. `tiles` is one JSON string, "" to keep them."""

    tiles: str = ""


class WaveData(GradioModel):
    """Wire format. `wave` is one JSON string, "" to keep it."""

    wave: str = ""


class _Widget(gr.HTML):
    part: str
    scripts: tuple[str, ...]

    def __init__(self, value: dict | None = None, *, elem_id: str | None = None, render: bool = True):
        own = _HERE / self.part
        super().__init__(
            value=value,
            html_template=own.with_suffix(".html").read_text(encoding="utf-8"),
            css_template=own.with_suffix(".css").read_text(encoding="utf-8"),
            js_on_load="\n".join((_HERE / script).read_text(encoding="utf-8") for script in self.scripts),
            apply_default_css=False,
            elem_id=elem_id,
            render=render,
        )

    def preprocess(self, payload: object) -> None:
        """Not used as an input."""
        return None


class GalleryTiles(_Widget):
    """The tiles."""

    data_model = TilesData
    part, scripts = "gallery", ("../radios.js", "gallery.js")

    def postprocess(self, value: dict | TilesData | None) -> TilesData | None:
        """A dictionary of TilesData's fields."""
        return TilesData(**value) if isinstance(value, dict) else value

    def api_info(self) -> dict:
        """The wire format's schema."""
        return TilesData.model_json_schema()


class ExcerptWindow(_Widget):
    """The window."""

    data_model = WaveData
    part, scripts = "excerpt", ("excerpt.js",)

    def postprocess(self, value: dict | WaveData | None) -> WaveData | None:
        """A dictionary of WaveData's fields."""
        return WaveData(**value) if isinstance(value, dict) else value

    def api_info(self) -> dict:
        """The wire format's schema."""
        return WaveData.model_json_schema()


def peaks(samples: NDArray, count: int) -> list[float]:
    """The largest magnitude in each of `count` equal parts of (n,) or (n, channels) samples; the largest of all is 1.

    >>> peaks(np.array([0.1, -0.2, 0.4, 0.0]), 2)
    [0.5, 1.0]
    """
    whole = np.abs(samples if samples.ndim == 1 else samples.max(axis=1))
    found = np.array([part.max(initial=0) for part in np.array_split(whole, count)])
    return (found / max(found.max(initial=0), 1e-9)).round(2).tolist()


@cache
def tiles_value() -> dict:
    """The tiles of the gallery."""
    rows = [
        {"key": key, "name": prompt.name, "peaks": peaks(prompt.clip.samples, TILE_BARS)}
        for key, prompt in gallery().items()
    ]
    return {"tiles": json.dumps(rows, separators=(",", ":"))}


def wave_value(clip: AudioClip | None, start: float = 0.0, seconds: float = 6.0) -> dict:
    """A recording under its window; without one, nothing."""
    total = 0.0 if clip is None or clip.duration_sec < SHORTEST_SEC else clip.duration_sec
    length = min(seconds, total)
    about = {
        "peaks": [] if clip is None else peaks(clip.samples, WINDOW_BARS), "total": round(total, 3),
        "start": min(start, max(0.0, total - length)), "length": length, "least": SHORTEST_SEC, "most": LONGEST_SEC,
    }  # fmt: skip
    return {"wave": json.dumps(about, separators=(",", ":"))}
