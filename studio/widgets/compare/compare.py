"""Performances side by side, on the stage: which are drawn, which is heard, a blind study. A plain gr.HTML.

Its value goes one way, from Python to the page. Events: `view.look` (what is there now?), `view.draw` (the curves are
wanted), `view.hear` (a sound is wanted), `view.keep` (draw one or leave it out), `view.drop` (forget a pin),
`view.vote`, `view.leave` (the study is stopped). With the roll it speaks as the player of renders does, see
studio.widgets.listen.listen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.measures.side_by_side import beats_of
from engine.measures.side_by_side_figures import COLOURS, DASHES
from studio.actions.compared import Entry, Study
from studio.actions.comparing import grid_of_entry
from studio.actions.document import Document
from studio.actions.study import LETTERS, QUESTIONS, tally
from studio.service.jobs import Job
from studio.state.pins import MAX_PINS, Vote
from studio.state.session import Session
from studio.widgets.listen.player import Player, grid_rows, news_of


class CompareView(Player):
    """The view."""

    folder = Path(__file__).parent
    parts = ("compare_study.js", "compare.js")


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
        "room": MAX_PINS - sum(row["pin"] for row in rows),
    }  # fmt: skip


def there_is(session: Session, found: list[Entry], piano: str, **more: Any) -> dict:
    """What there is, for the page; `more` of the news beside it."""
    return {"news": news_of(state=state_of(session, found, piano), **more)}


def working(job: Job) -> dict:
    """A performance is on its way: ask again."""
    return {"news": news_of(job={"id": job.number, "text": job.doing, "share": round(job.share, 2)})}


def drawn_value(session: Session, tag: str, refused: str) -> dict:
    """The curves have been drawn. beats: [[quarter, ...], [beat, ...]], for the needle."""
    assert session.score is not None
    beats = [column.round(3).tolist() for column in beats_of(session.score)]
    return {"news": news_of(drawn=tag, beats=beats, refused=refused)}


def sound_value(session: Session, entry: Entry, name: str, from_sec: float, path: Path) -> dict:
    """A sound under its name, and where the score's times fall in it."""
    grid = grid_rows(grid_of_entry(session, entry))
    return {"news": news_of(sound=name, grid=grid, start=round(1000 * from_sec)), "audio": path}


def wait(name: str) -> dict:
    """That sound is not ready: ask again."""
    return {"news": news_of(wait=name)}


def refusal(sentence: str, name: str = "") -> dict:
    """Why something was not done; name: the sound that does not come."""
    return {"news": news_of(refused=sentence, missing=name)}


def file_value(path: Path) -> dict:
    """A file to take away."""
    return {"news": news_of(), "file": path}


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
