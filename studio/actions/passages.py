"""Passages by the systems of the XMVAE paper as takes: composed from nothing, or bars of the piece varied."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.limits import PASSAGE_NOTES
from engine.music.excerpts import excerpt
from engine.music.types import Alignment, BadInput, Performance, Score
from engine.progress import ProgressCallback, no_progress
from engine.requests import MODELS, ComposeRequest, Passage, PassageRequest, PerformRequest
from studio.actions.compared import Entry, Study
from studio.actions.composing import Region, opened_score, with_takes
from studio.actions.editing import Change
from studio.actions.study import study_of
from studio.service.shared_engine import SharedEngine
from studio.state.session import Grid, Session, Take

STUDY_SPAN = 100.0  # length of each passage of a study, on its own scale


def compose_passages(shared: SharedEngine, request: PassageRequest, step: ProgressCallback = no_progress) -> Change:
    """Compose passages from nothing."""
    return _as_takes(shared.compose_passages(request, step), f"Passage by {MODELS[request.model]}", request.seed)


def vary(
    shared: SharedEngine, session: Session, region: Region, request: PassageRequest,
    step: ProgressCallback = no_progress, towards: Region | None = None,
) -> Change:  # fmt: skip
    """Vary the bars of the region: XMVAE keeps some of their codes and samples the others again, or, with `towards`,
    mixes them with the codes of that region; with a share of 0 it plays the bars again.
    """
    score = opened_score(session)
    other = None if towards is None else excerpt_of(score, towards)
    request = replace(request, model="xmvae", source=excerpt_of(score, region), towards=other)
    done = "mixed" if other is not None else "varied" if request.share else "played by XMVAE"
    return _as_takes(shared.compose_passages(request, step), f"{session.title or 'the piece'}, {done}", request.seed)


def compose_for_study(
    shared: SharedEngine, seed: int, notes: int = PASSAGE_NOTES, step: ProgressCallback = no_progress
) -> list[Entry]:
    """One passage by each model here: the systems of the XMVAE paper as they play themselves, the Étude Composer as the
    Pianist plays it. Each sound has a scale of its own, 0 to `STUDY_SPAN` from begin to end.
    """
    found: list[tuple[str, Performance]] = []
    models = shared.paper_models
    for k, model in enumerate(models):

        def part(share: float, k: int = k) -> None:
            step((k + share) / (len(models) + 1))

        (passage,) = shared.compose_passages(PassageRequest(model, notes, seed=seed), part)
        played = passage.performance or shared.perform(PerformRequest(passage.score), part)
        found.append((MODELS[model], played))

    def last(share: float) -> None:
        step((len(models) + min(share, 1.0)) / (len(models) + 1))

    (score,) = shared.compose(ComposeRequest(notes=notes, seed=seed, passage=True), lambda *_: None, last)
    found.append(("Étude Composer", shared.perform(PerformRequest(score), last)))
    return [
        Entry(
            f"passage{k}", name, k, True, played, Alignment.identity(len(played)),
            Grid(np.array([0.0, STUDY_SPAN]), np.array([0.0, max(played.end_sec, 1.0)])),
        )
        for k, (name, played) in enumerate(found)
    ]  # fmt: skip


def begin_passage_study(
    session: Session, passages: list[Entry], question: str, listener: str, seed: int, number: int
) -> Study:
    """Begin a blind study of passages by several models. Raises BadInput for an unknown question."""
    span = (0.0, STUDY_SPAN)
    return study_of(session.doc, passages, question, listener, seed, number, span, title="Passages by models")


def excerpt_of(score: Score, region: Region) -> Score:
    """The notes and bars of a region as a score of its own. Raises BadInput when it is empty or too long."""
    rows, m = region.selected, score.measures
    count = int(rows.sum())
    if not 1 <= count <= PASSAGE_NOTES:
        raise BadInput(f"These bars have {count} notes; 1 to {PASSAGE_NOTES} can be varied, choose other bars.")
    ends = (region.span[0] + 1e-6, region.span[1] - 1e-3)
    first, last = (max(int(np.searchsorted(m.onset_quarter, q, side="right")) - 1, 0) for q in ends)
    return excerpt(score, rows, slice(first, last + 1))


def _as_takes(passages: list[Passage], title: str, seed: int) -> Change:
    takes = [
        Take(
            0, "compose", replace(passage.score, title=title), title, seed,
            (float(passage.score.onset_quarter[0]), passage.score.measures.end_quarter),
            np.ones(len(passage.score), bool), Session(), performance=passage.performance,
        )
        for passage in passages
    ]  # fmt: skip
    return lambda now: with_takes(now, takes)
