"""A blind listening study: hidden order of the trials, and the votes. The order depends only on the question, the
number of performances and the seed, so a study can be repeated. The page gets codes, also drawn from the seed; it gets
the names after the last vote.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import combinations

from engine.measures.csv_text import csv_text
from engine.measures.side_by_side import MOST
from engine.music.types import BadInput
from studio.actions.compared import Entry, Study
from studio.actions.rendering import quarters_of_bars
from studio.state.pins import Vote
from studio.state.session import Session

QUESTIONS = {
    "prefer": "Which of two do you prefer?",
    "human": "How human is each, 1 to 7?",
    "rank": "Rank them all",
}
HIGHEST = 7
LETTERS = "ABCDEFGH"
MAX_VOTES = 5_000
CSV_HEADER = (
    "time", "piece", "listener", "question", "pair", "order_shown", "choice", "rating", "bars", "seed", "trial",
)  # fmt: skip


def order_of(question: str, count: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """The trials of a study: for each, the performances it presents as A, B, ...

    >>> order_of("prefer", 3, 1) == order_of("prefer", 3, 1), len(order_of("prefer", 4, 1))
    (True, 6)
    """
    rng = random.Random(f"{question} {count} {seed}")
    every = list(range(count))
    shown = {"prefer": combinations(every, 2), "human": ((k,) for k in every), "rank": [tuple(every)]}[question]
    trials = [tuple(rng.sample(trial, len(trial))) for trial in shown]
    rng.shuffle(trials)
    return tuple(trials)


def begin_study(
    session: Session, compared: Sequence[Entry], question: str, listener: str, seed: int, number: int,
    bars: tuple[int, int] | None = None,
) -> Study:  # fmt: skip
    """Begin a study of these performances, over some bars (printed numbers) or the whole piece. Raises BadInput."""
    if session.score is None or not 2 <= len(compared) <= MOST:
        raise BadInput(f"A study takes 2 to {MOST} performances; tick the ones to compare.")
    m = session.score.measures
    span, words = (float(min(session.score.onset_quarter[0], m.onset_quarter[0])), m.end_quarter), ""
    if bars is not None:
        span, words = quarters_of_bars(session.score, *bars), f"{bars[0]}-{bars[1]}"
    return study_of(session.doc, compared, question, listener, seed, number, span, words)


def study_of(
    doc: int, compared: Sequence[Entry], question: str, listener: str, seed: int, number: int,
    span: tuple[float, float], bars: str = "", title: str = "",
) -> Study:  # fmt: skip
    """A study with its hidden order; fields as in `Study`. Raises BadInput for an unknown question."""
    if question not in QUESTIONS:
        raise BadInput("There is no such question; choose one from the list.")
    rng = random.Random(f"codes {seed}")
    codes = rng.sample(range(len(compared)), len(compared))  # code of each performance
    heard = tuple(compared[codes.index(code)] for code in range(len(compared)))
    trials = tuple(tuple(codes[k] for k in trial) for trial in order_of(question, len(compared), seed))
    return Study(number, doc, question, " ".join(listener.split())[:80], seed, heard, trials, span, bars, title=title)


def answered(
    study: Study, title: str, trial: object, choice: object, rating: object, at: datetime
) -> tuple[Study, Vote | None]:
    """The study after one answer, and the vote; None if the answer is a duplicate. Raises BadInput.

    choice  letters, best first: "A", "BCA"; "" for no preference, or for a rating
    rating  1 to 7 for the question "human"
    """
    if trial != study.at or study.over:
        return study, None
    shown = study.trials[study.at]
    letters = LETTERS[: len(shown)]
    if study.question == "human":
        if type(rating) is not int or not 1 <= rating <= HIGHEST:
            raise BadInput(f"A rating is a whole number from 1 to {HIGHEST}; choose one.")
        picked, stars = "", rating
    else:
        whole = study.question == "rank"
        picked, stars = choice if isinstance(choice, str) else "?", 0
        fits = sorted(picked) == list(letters) if whole else picked in ("", *letters)
        if not fits:
            raise BadInput("That answer could not be read; choose again.")
    names = tuple(study.heard[code].name for code in shown)
    vote = Vote(
        at.isoformat(timespec="seconds"), title, study.listener, study.question, names,
        tuple(names[letters.index(letter)] for letter in picked), stars, study.bars, study.seed, study.at + 1,
    )  # fmt: skip
    return replace(study, at=study.at + 1), vote


def with_vote(session: Session, vote: Vote) -> Session:
    """The session after one more vote."""
    comparison = session.comparison
    return replace(session, comparison=replace(comparison, votes=(*comparison.votes, vote)[-MAX_VOTES:]))


def tally(votes: Sequence[Vote]) -> list[tuple[str, str]]:
    """Result of a study, best performance first: its name and its figure in words."""
    names = sorted({name for vote in votes for name in vote.shown})
    found = []
    for name in names:
        mine = [vote for vote in votes if name in vote.shown]
        if mine[0].question == "human":
            mean = sum(vote.rating for vote in mine) / len(mine)
            found.append((mean, name, f"{mean:.1f} of {HIGHEST}"))
        elif mine[0].question == "rank":
            place = sum(vote.choice.index(name) + 1 for vote in mine) / len(mine)
            found.append((-place, name, f"place {place:g}"))
        else:
            won = sum(vote.choice[:1] == (name,) for vote in mine)
            found.append((won / len(mine), name, f"preferred {won} of {len(mine)} times"))
    return [(name, words) for _, name, words in sorted(found, key=lambda row: (-row[0], row[1]))]


def votes_csv(votes: Sequence[Vote]) -> bytes:
    """Every vote, one a row; several names in a cell are separated by " | ". Raises BadInput if there is none."""
    if not votes:
        raise BadInput("There is no vote yet: begin a study and answer.")
    rows = [
        (
            v.time, v.piece, v.listener, v.question, " | ".join(sorted(v.shown)), " | ".join(v.shown),
            " | ".join(v.choice), v.rating or "", v.bars, v.seed, v.trial,
        )
        for v in votes
    ]  # fmt: skip
    return csv_text(CSV_HEADER, rows)
