"""The engraved score as a plain gr.HTML subclass, built like the roll: static templates, nothing from another host.

Its value goes one way, from Python to the page: `score_address` names the open score, the view requests its pages as
they become visible, `score_pages` sends one. User actions come back as events: `view.want` ({doc, digest, page, width}:
send a page) and `view.select` ({doc, notes, bars}: score notes from 0, and the first and last bar or None). It
exchanges CustomEvents on `document` with the roll, so that neither depends on the other:

    etude:clock      {doc, quarter, playing, sounding: [score note, ...]}        from the roll
    etude:selection  {doc, notes: [score note, ...], bars: [first, last] | null, by: "roll" | "score"}   both ways
    etude:seek       {doc, quarter}                                              to the roll
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import gradio as gr
from gradio.data_classes import GradioModel

from engine.music.engraving.layout import STEPS
from engine.music.engraving.spelling import spelling_of_pitch
from engine.music.io.engrave import Engraving
from engine.music.types import Score

_HERE = Path(__file__).parent
_SIGNS = {-2: "𝄫", -1: "♭", 0: "", 1: "♯", 2: "𝄪"}
_CHROMA = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))


class ScoreData(GradioModel):
    """Wire format. Long parts are JSON strings, because nested arrays slow down every browser event.

    doc, digest  the open score
    width        of the pages, pixels
    page, svg    one page, "" if this answer has none
    about        with page 0: data of the whole score, see about_score
    wait         the page is not ready: the view asks again in half a second
    refusal      the reason why there are no pages
    at           makes every answer differ, so that none is skipped
    """

    doc: int = 0
    digest: str = ""
    width: int = 0
    page: int = 0
    svg: str = ""
    about: str = ""
    wait: bool = False
    refusal: str = ""
    at: float = 0.0


class ScoreView(gr.HTML):
    """The view. It requests pages only while visible, so a closed tab costs nothing."""

    data_model = ScoreData

    def __init__(self, value: dict | None = None, *, elem_id: str | None = None, render: bool = True):
        super().__init__(
            value=value,
            html_template=(_HERE / "score.html").read_text(encoding="utf-8"),
            css_template=(_HERE / "score.css").read_text(encoding="utf-8"),
            js_on_load="\n".join(
                (_HERE / name).read_text(encoding="utf-8") for name in ("score_pages.js", "score_select.js")
            ),
            apply_default_css=False,
            elem_id=elem_id,
            render=render,
        )

    def preprocess(self, payload: ScoreData | None) -> None:
        """Not used as an input."""
        return None

    def postprocess(self, value: dict | ScoreData | None) -> ScoreData | None:
        """A dictionary of ScoreData's fields."""
        return ScoreData(**value) if isinstance(value, dict) else value

    def api_info(self) -> dict:
        """The wire format's schema."""
        return ScoreData.model_json_schema()


def score_address(doc: int, digest: str) -> dict:
    """Address of the open score, sent for every new one, even to a hidden view."""
    return {"doc": doc, "digest": digest, "at": time.monotonic()}


def score_pages(doc: int, score: Score, engraving: Engraving, page: int) -> dict:
    """One page of the score, counted from 0; the last one for a number beyond it."""
    page = min(max(page, 0), len(engraving.pages) - 1)
    about = about_score(score, engraving) if page == 0 else ""
    return {
        **score_address(doc, score.digest), "width": engraving.width, "page": page, "svg": engraving.pages[page],
        "about": about,
    }  # fmt: skip


def score_wait(doc: int, digest: str) -> dict:
    """Not engraved yet."""
    return {**score_address(doc, digest), "wait": True}


def score_refusal(doc: int, digest: str, sentence: str) -> dict:
    """It cannot be engraved."""
    return {**score_address(doc, digest), "refusal": sentence}


def about_score(score: Score, engraving: Engraving) -> str:
    """Data of the whole score, as one JSON string.

    sizes     [[width, height], ...] of the pages
    barlines  quarters, the last bar's end included
    numbers   of the bars, as printed
    bar_page  page of each bar
    onsets    quarters of each note
    names     of each note, "F♯4"
    ties      {note: [quarter, ...]} where its tied heads begin, for those that have any
    """
    m = score.measures
    count = len(engraving.bar_page)
    numbers = m.number.tolist() + [int(m.number[-1]) + k for k in range(1, count - len(m) + 1)]
    return json.dumps(
        {
            "sizes": [_size(page) for page in engraving.pages],
            "barlines": engraving.barlines,
            "numbers": numbers[:count],
            "bar_page": engraving.bar_page,
            "onsets": score.onset_quarter.round(4).tolist(),
            "names": note_names(score),
            "ties": {row: heads[1:] for row, heads in enumerate(engraving.heads) if len(heads) > 1},
        },
        separators=(",", ":"),
    )


def note_names(score: Score) -> list[str]:
    """The name of each note with its octave: "F♯4".

    >>> from engine.music.types import Marks, Measures
    >>> bar = Measures([0], [4], [0], [4], [4], [0], [1])
    >>> note_names(Score([0, 1], [1, 1], [60, 70], [0, -2], [1, 1], [0, 0], [False] * 2, Marks.none(2), bar))
    ['C4', 'B♭4']
    """
    names = []
    for pitch, spelling in zip(
        score.pitch.tolist(), spelling_of_pitch(score.pitch, score.spelling).tolist(), strict=True
    ):
        step, alter = STEPS[(spelling + 1) % 7], (spelling + 1) // 7
        names.append(f"{step}{_SIGNS.get(alter, '')}{(pitch - alter - _CHROMA[step]) // 12 - 1}")
    return names


def _size(page: str) -> list[float]:
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', page)
    return [float(found[1]), float(found[2])] if found else [1.0, 1.0]
