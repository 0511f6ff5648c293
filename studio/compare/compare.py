"""Performances side by side, on the stage: which are drawn, which is heard, a blind study. A plain gr.HTML.

Its value goes one way, from Python to the page. Events: `view.look` (what is there now?), `view.draw` (the curves are
wanted), `view.hear` (a sound is wanted), `view.keep` (draw one or leave it out), `view.drop` (forget a pin),
`view.vote`, `view.leave` (the study is stopped). With the roll it speaks as the player of renders does, see
studio.listen.listen.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, GradioModel

from engine.side_by_side import beats_of
from engine.side_figures import COLOURS, DASHES
from studio.comparing import Entry, grid_of_entry
from studio.jobs import Job
from studio.pins import MOST_PINS, Vote
from studio.session import Document, Grid, Session
from studio.study import LETTERS, QUESTIONS, Study, tally

_HERE = Path(__file__).parent
PLAYER = _HERE.parent / "listen" / "player.js"
PARTS = ("compare_study.js", "compare.js")


class CompareData(GradioModel):
    """On the wire.

    news   what there is and what has happened, as one JSON string; `at` in it makes every answer differ
    audio  the sound that the news is about
    file   something to take away
    """

    news: str = ""
    audio: FileData | None = None
    file: FileData | None = None


class CompareView(gr.HTML):
    """The view. A static template, so that nobody's text is compiled."""

    data_model = CompareData

    def __init__(self, value: dict | None = None, *, elem_id: str | None = None, render: bool = True):
        super().__init__(
            value=value,
            html_template=(_HERE / "compare.html").read_text(encoding="utf-8"),
            css_template=(_HERE / "compare.css").read_text(encoding="utf-8"),
            js_on_load="\n".join(path.read_text(encoding="utf-8") for path in (PLAYER, *(_HERE / p for p in PARTS))),
            apply_default_css=False,
            elem_id=elem_id,
            render=render,
        )

    def preprocess(self, payload: CompareData | None) -> None:
        """Never an input: the visitor's Document holds what is compared."""
        return None

    def postprocess(self, value: dict | CompareData | None) -> CompareData | None:
        """A dictionary of CompareData's fields; `audio` and `file` as paths."""
        if value is None or isinstance(value, CompareData):
            return value
        paths = {name: value.get(name) for name in ("audio", "file")}
        files = {n: FileData(path=str(p), orig_name=Path(p).name) if p else None for n, p in paths.items()}
        return CompareData(**{**value, **files})

    def api_info(self) -> dict:
        """The wire format's schema."""
        return CompareData.model_json_schema()


def _news(**told: Any) -> str:
    return json.dumps({**told, "at": time.monotonic()}, separators=(",", ":"))


def _grid(grid: Grid) -> list[list[float]]:
    return [grid.quarter.round(4).tolist(), (1000 * grid.sec).round(1).tolist()]


def state_of(session: Session, found: list[Entry], piano: str) -> dict[str, Any]:
    """What is there.

    entries  with the name of each sound; tag: what the curves would be drawn of
    bars     [[quarter, number], ...]
    """
    rows = [
        {
            "key": e.key, "name": e.name, "drawn": e.drawn, "sound": e.sound_id(piano), "colour": COLOURS[e.slot],
            "dash": DASHES[e.slot], "pin": e.key.startswith("pin"),
        }
        for e in found
    ]  # fmt: skip
    m = session.score.measures if session.score is not None else None
    bars = (
        [] if m is None else [list(r) for r in zip(m.onset_quarter.round(4).tolist(), m.number.tolist(), strict=True)]
    )
    tag = f"{session.doc}:" + ",".join(f"{e.slot}{e.name}{e.performance.digest[:12]}" for e in found if e.drawn)
    return {
        "doc": session.doc, "entries": rows, "tag": tag, "bars": bars, "votes": len(session.comparison.votes),
        "room": MOST_PINS - sum(row["pin"] for row in rows),
    }  # fmt: skip


def there_is(session: Session, found: list[Entry], piano: str, **more: Any) -> dict:
    """What there is, for the page; `more` of the news beside it."""
    return {"news": _news(state=state_of(session, found, piano), **more)}


def working(job: Job) -> dict:
    """A performance is on its way: ask again."""
    return {"news": _news(job={"id": job.number, "text": job.text, "share": round(job.share, 2)})}


def drawn_value(session: Session, tag: str, refused: str) -> dict:
    """The curves have been drawn. beats: [[quarter, ...], [beat, ...]], for the needle."""
    assert session.score is not None
    beats = [column.round(3).tolist() for column in beats_of(session.score)]
    return {"news": _news(drawn=tag, beats=beats, refused=refused)}


def sound_value(session: Session, entry: Entry, name: str, from_sec: float, path: Path) -> dict:
    """A sound under its name, and where the score's times fall in it."""
    grid = _grid(grid_of_entry(session, entry))
    return {"news": _news(sound=name, grid=grid, start=round(1000 * from_sec)), "audio": path}


def wait(name: str) -> dict:
    """That sound is not ready: ask again."""
    return {"news": _news(wait=name)}


def refusal(sentence: str, name: str = "") -> dict:
    """Why something was not done; name: the sound that does not come."""
    return {"news": _news(refused=sentence, missing=name)}


def file_value(path: Path) -> dict:
    """A file to take away."""
    return {"news": _news(), "file": path}


def study_value(study: Study | None) -> dict[str, Any]:
    """The trial that is to be answered next: codes only; None when there is no study."""
    if study is None or study.over:
        return {"study": None}
    shown = study.trials[study.at]
    about = {
        "number": study.number, "question": study.question, "ask": QUESTIONS[study.question], "at": study.at,
        "of": len(study.trials), "bars": study.bars, "from": study.span[0], "to": study.span[1],
        "heard": [[LETTERS[k], f"study{study.number}.{code}"] for k, code in enumerate(shown)],
    }  # fmt: skip
    return {"study": about}


def result_value(votes: list[Vote]) -> dict[str, Any]:
    """What a finished study says."""
    return {"result": tally(votes)}


def look(document: Document, found: list[Entry], piano: str, **more: Any) -> dict:
    """What there is and which trial is open; a study ends when another piece is opened."""
    if document.study is not None and document.study.doc != document.session.doc:
        document.study = None
    return there_is(document.session, found, piano, **study_value(document.study), **more)
