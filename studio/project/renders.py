"""Renders in a project file: FLAC with a description of the settings inside."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from engine.limits import KEPT_RENDER_SEC
from engine.music.types import Alignment, Performance
from engine.render.provenance import read_description
from engine.requests import RenderRequest
from studio.actions.rendering import SAMPLE_RATE, Render
from studio.project.music import (
    MAX_NOTES,
    MOST_SEC,
    MemberReader,
    MemberWriter,
    alignment_table,
    grid_table,
    prompt_table,
    read_alignment,
    read_flac,
    read_grid,
    read_prompt,
)
from studio.project.pieces import read_reference, reference_table
from studio.project.values import Damaged, flag, keyed, real, text, whole
from studio.service.jobs import Job
from studio.state.session import Grid, Reference, Session

MAX_COMMENT = 20_000
KINDS = ((1, 32000), (1, SAMPLE_RATE), (2, SAMPLE_RATE))  # channels and Hz of kept sounds; the first up to v0.3


@dataclass(frozen=True)
class KeptRender:
    """A finished render. The fields are those of studio.actions.rendering.Render; `flac` is its sound."""

    title: str
    doc: int
    request: RenderRequest
    weights: str
    alignment: Alignment
    grid: Grid
    reference: Reference | None
    human_grid: Grid | None
    complete: bool
    flac: bytes


def kept(render: Render) -> KeptRender | None:
    """The saved form of a render; None if it is unfinished, empty or too long for a file."""
    if not render.over or not render.made or render.seconds > KEPT_RENDER_SEC:
        return None
    return KeptRender(
        render.title, render.doc, render.request, render.weights, render.alignment, render.grid,
        render.reference, render.human_grid, render.complete, render.file("flac")[1],
    )  # fmt: skip


def restored(saved: KeptRender, number: int, doc: int, family: int, folder: Path) -> Render:
    """Restore a Render under a new number, for the document `doc`."""
    piece = Session(
        title=saved.title, doc=doc, family=family, rendered=saved.request.performance, grid=saved.grid,
        reference=saved.reference,
    )  # fmt: skip
    render = Render(number, piece, saved.request, folder, saved.weights)
    render.alignment, render.human_grid = saved.alignment, saved.human_grid
    render.fill(saved.flac, comment_of(saved.flac))
    job = render.job = Job(kind="render")
    if saved.complete:
        job.run(_nothing)
    else:
        job.stop("visitor")
    return render


def _nothing(job: Job) -> Callable[[], None]:
    return lambda: None


def comment_of(flac: bytes) -> str:
    """The description in a sound file; "" if Étude did not write it."""
    with soundfile.SoundFile(io.BytesIO(flac)) as file:
        comment = file.comment
    return comment if len(comment) <= MAX_COMMENT and read_description(flac) else ""


def render_table(saved: KeptRender, doc: int, archive: MemberWriter) -> dict[str, Any]:
    """A saved render as JSON; its sound becomes a member."""
    request = saved.request
    name = f"renders/{1 + sum(member.startswith('renders/') for member in archive.members)}.flac"
    archive.members[name] = saved.flac
    return {
        "title": saved.title, "doc": doc, "sound": name, "complete": saved.complete, "weights": saved.weights,
        "seed": request.seed, "temperature": float(request.temperature), "span": list(request.span),
        "part": request.part,
        "profile": request.profile, "listen": request.transcribe, "prompt": prompt_table(request.prompt, archive),
        "performance": archive.performance(request.performance), "alignment": alignment_table(saved.alignment),
        "grid": grid_table(saved.grid), "human_grid": grid_table(saved.human_grid),
        "reference": reference_table(saved.reference, archive),
    }  # fmt: skip


def read_render(table: object, pieces: Mapping[int, Session], archive: MemberReader) -> KeptRender:
    """The render of render_table, of one of these pieces by document number, or of none. Raises Damaged."""
    t = keyed(
        table, "title", "doc", "sound", "complete", "weights", "seed", "temperature", "span", "part", "profile",
        "listen", "prompt", "performance", "alignment", "grid", "human_grid", "reference",
    )  # fmt: skip
    doc = whole(t["doc"], "doc", 0, 10_000)
    score = pieces[doc].score if doc in pieces else None
    played = archive.performance(t["performance"])
    flac = archive.data(t["sound"], "renders")
    if not len(read_flac(flac, KEPT_RENDER_SEC, KINDS)):
        raise Damaged("a render has no sound")
    return KeptRender(
        text(t["title"], "title"), doc if score is not None else 0, _request(t, played, archive),
        text(t["weights"], "weights"),
        read_alignment(t["alignment"], len(score) if score is not None else MAX_NOTES, len(played)),
        read_grid(t["grid"]), read_reference(t["reference"], score, archive),
        None if t["human_grid"] is None else read_grid(t["human_grid"]), flag(t["complete"], "complete"), flac,
    )  # fmt: skip


def _request(t: Mapping[str, Any], played: Performance, archive: MemberReader) -> RenderRequest:
    start, end = (*t["span"], None, None)[:2] if isinstance(t["span"], list) else (None, None)
    return RenderRequest(
        played, read_prompt(t["prompt"], archive), whole(t["seed"], "seed", 0, 2**62),
        real(t["temperature"], "temperature", 0, 10),
        (real(start, "span", -60, MOST_SEC), None if end is None else real(end, "span", -60, MOST_SEC)),
        text(t["part"], "part"), text(t["profile"], "profile"), flag(t["listen"], "listen"),
    )  # fmt: skip
