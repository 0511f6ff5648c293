"""Passages by the systems of the XMVAE paper as takes: composed from nothing, or bars of the piece varied."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engine.limits import PASSAGE_NOTES
from engine.music.excerpts import excerpt
from engine.music.types import BadInput, Score
from engine.progress import ProgressCallback, no_progress
from engine.requests import MODELS, Passage, PassageRequest
from studio.actions.composing import Region, opened_score, with_takes
from studio.actions.editing import Change
from studio.service.shared_engine import SharedEngine
from studio.state.session import Session, Take


def compose_passages(shared: SharedEngine, request: PassageRequest, step: ProgressCallback = no_progress) -> Change:
    """Compose passages from nothing."""
    return _as_takes(shared.compose_passages(request, step), f"Passage by {MODELS[request.model]}", request.seed)


def vary(
    shared: SharedEngine, session: Session, region: Region, request: PassageRequest,
    step: ProgressCallback = no_progress,
) -> Change:  # fmt: skip
    """Vary the bars of the region: XMVAE keeps some of their codes and draws the others again."""
    source = excerpt_of(opened_score(session), region)
    title = session.title or "the piece"
    made = shared.compose_passages(replace(request, model="xmvae", source=source), step)
    return _as_takes(made, f"{title}, varied", request.seed)


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
