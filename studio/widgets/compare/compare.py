"""Component that compares performances: curves, sounds, a blind study. A plain gr.HTML.

Its value goes one way, from Python to the page. Events: `view.look` (list the entries), `view.draw` (draw the curves),
`view.hear` (send a sound), `view.keep` (show or hide an entry), `view.drop` (remove a pin), `view.vote`, `view.leave`
(stop the study). It exchanges events with the roll like the player of renders, see studio.widgets.listen.listen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.measures.side_by_side_figures import COLOURS, DASHES
from studio.actions.compared import Entry, Study
from studio.actions.comparing import HUMAN, NOW, grid_of_entry
from studio.actions.document import Document
from studio.actions.study import LETTERS, QUESTIONS, tally
from studio.service.jobs import Job
from studio.state.pins import MAX_PINS, Vote
from studio.state.session import Session
from studio.widgets.listen.player import Player, grid_rows, news_of

OF_LENS = {NOW: "var(--curve-now)", HUMAN: "var(--curve-human)"}  # colours that the curves have without comparing


class CompareView(Player):
    """The view."""

    folder = Path(__file__).parent
    parts = ("compare_study.js", "compare.js")


def state_of(session: Session, found: list[Entry], piano: str) -> dict[str, Any]:
    """The entries, for the page.

    entries  with the id of each sound; tag: version of the data behind the curves
    bars     [[quarter, number], ...]
    """
    rows = [
        {
            "key": e.key, "name": e.name, "drawn": e.drawn, "sound": e.sound_id(piano),
            "colour": OF_LENS.get(e.key, COLOURS[e.slot]), "dash": "solid" if e.key in OF_LENS else DASHES[e.slot],
            "pin": e.key.startswith("pin"), "found": "" if e.found is None else f"{min(1.0, e.found):.0%}",
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
    """A value with the entries, and `more` news."""
    return {"news": news_of(state=state_of(session, found, piano), **more)}


def working(job: Job) -> dict:
    """A performance is being made: the page asks again."""
    return {"news": news_of(job={"id": job.number, "text": job.doing, "share": round(job.share, 2)})}


def drawn_value(tag: str, refused: str) -> dict:
    """The curves have been drawn."""
    return {"news": news_of(drawn=tag, refused=refused)}


def sound_value(session: Session, entry: Entry, name: str, from_sec: float, path: Path) -> dict:
    """A sound with its id, and the map from score time to it."""
    grid = grid_rows(grid_of_entry(session, entry))
    return {"news": news_of(sound=name, grid=grid, start=round(1000 * from_sec)), "audio": path}


def wait(name: str) -> dict:
    """The sound is not ready: the page asks again."""
    return {"news": news_of(wait=name)}


def refusal(sentence: str, name: str = "") -> dict:
    """The reason of a failure; name: id of the missing sound."""
    return {"news": news_of(refused=sentence, missing=name)}


def file_value(path: Path) -> dict:
    """A file to download."""
    return {"news": news_of(), "file": path}


def study_value(study: Study | None) -> dict[str, Any]:
    """The next trial, codes only; None without a study."""
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
    """The result of a finished study."""
    return {"result": tally(votes)}


def look(document: Document, found: list[Entry], piano: str, **more: Any) -> dict:
    """The entries and the open trial; a study ends when another piece is opened."""
    if document.study is not None and document.study.doc != document.session.doc:
        document.study = None
    return there_is(document.session, found, piano, **study_value(document.study), **more)
