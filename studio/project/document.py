"""A visitor's document as one portable file. No Gradio here.

    project.json        format, version, weights, checksums (studio.project.container)
    document.json       open piece, history, takes, renders, reference, settings
    pieces/N.json       one piece each: edits, pedal, style, human performance, pins (studio.project.pieces)
    scores/N.json, performances/N.json, prompts/N.flac, renders/N.flac    each once (studio.project.music)
    documents/N.json    the MusicXML files that the scores were read from, zlib and base64

Saving a project that was just opened gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.checkpoints.index import weights_here
from engine.limits import KEPT_PIECES, KEPT_RENDERS, KEPT_TAKES
from engine.music.types import BadInput
from engine.sound.prompts import Prompt
from studio.actions.document import Document
from studio.project.container import pack, unpack
from studio.project.music import MemberReader, MemberWriter, prompt_table, read_prompt
from studio.project.pieces import Pieces, read_piece, read_take, take_table
from studio.project.renders import KeptRender, kept, read_render, render_table, restored
from studio.project.values import Damaged, keyed, listed, parse, real, text, written
from studio.state import history
from studio.state.session import Session, Take

MAX_SETTINGS = 100
Setting = str | float | bool | None


@dataclass(frozen=True)
class Project:
    """Contents of a project file.

    prompt       the visitor's own reference recording, if one is chosen
    renders      oldest first
    settings     value of each component, by name
    checkpoints  digest of the weights in each folder at the time of saving
    left_out     description of what did not fit
    """

    session: Session
    prompt: Prompt | None = None
    renders: tuple[KeptRender, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def project_of(document: Document) -> Project:
    """The project of a visitor's document."""
    renders = [kept(render) for render in document.renders.kept]
    return Project(
        own(document.session), document.prompt, tuple(r for r in renders if r is not None),
        dict(document.settings), weights_here(),
    )  # fmt: skip


def own(session: Session) -> Session:
    """The session without pieces from before its project was opened, and without old history."""
    if session.doc <= session.since:  # undo has led back to one of those
        return session
    past = tuple(piece for piece in session.past if piece.doc > session.since)
    families = {piece.family for piece in (*past, session, *session.future)}
    takes = tuple(take for take in session.takes if take.family in families)
    return replace(session, past=past, takes=takes)


# ---- writing ----
def write_project(project: Project) -> tuple[bytes, Project]:
    """The file, and the project as written: old history and renders are dropped if the file grows too large. Raises
    BadInput if even the piece alone is too large.
    """
    for kept_pieces, kept_renders in ((KEPT_PIECES, KEPT_RENDERS), (KEPT_PIECES, 1), (KEPT_PIECES, 0), (1, 0), (0, 0)):
        slim, out = _slim(project, kept_pieces, kept_renders)
        try:
            return _packed(slim), replace(slim, left_out=out)
        except BadInput:
            if (kept_pieces, kept_renders) == (0, 0):
                raise
    raise AssertionError("unreachable")


def _slim(project: Project, pieces: int, renders: int) -> tuple[Project, tuple[str, ...]]:
    s = project.session
    past, future = s.past[len(s.past) - min(pieces, len(s.past)) :], s.future[:pieces]
    fewer = project.renders[len(project.renders) - min(renders, len(project.renders)) :]
    out = []
    if pieces < KEPT_PIECES and (len(past), len(future)) != (len(s.past), len(s.future)):
        out.append("earlier pieces")
    if len(fewer) < len(project.renders):
        out.append("renders")
    return replace(project, session=replace(s, past=past, future=future), renders=fewer), tuple(out)


def _packed(project: Project) -> bytes:
    s, archive, numbers = _families_counted(project.session), MemberWriter(), _Numbers()
    pieces = Pieces(archive, numbers)
    archive.members["document.json"] = b""  # first in the file
    table = {
        "past": [pieces.put(piece) for piece in s.past], "present": pieces.put(s, votes=True),
        "future": [pieces.put(piece) for piece in s.future],
        "takes": [take_table(take, archive, pieces) for take in s.takes[-KEPT_TAKES:]],
        "renders": [render_table(r, numbers.known(r.doc), archive) for r in project.renders],
        "prompt": None if project.prompt is None else prompt_table(project.prompt, archive),
        "settings": dict(sorted(project.settings.items())),
    }  # fmt: skip
    archive.members["document.json"] = written(table)
    return pack(archive.members, {"checkpoints": dict(project.checkpoints)})


def _families_counted(session: Session) -> Session:
    """The same with its families renumbered from 0, in order of appearance."""
    met = [piece.family for piece in (*session.past, session, *session.future)] + [t.family for t in session.takes]
    new = {family: number for number, family in enumerate(dict.fromkeys(met))}
    return _each(session, lambda s: replace(s, family=new.get(s.family, 0)), lambda t: replace(t, family=new[t.family]))


def _each(session: Session, piece: Callable[[Session], Session], take: Callable[[Take], Take]) -> Session:
    """A session with every piece and take changed, the bases of takes included."""
    return replace(
        piece(session), past=tuple(map(piece, session.past)), future=tuple(map(piece, session.future)),
        takes=tuple(take(replace(t, base=piece(t.base))) for t in session.takes),
    )  # fmt: skip


class _Numbers:
    """Renumbering of documents in order of appearance; 0 (no piece) stays 0."""

    def __init__(self) -> None:
        self._new = {0: 0}

    def __call__(self, doc: int) -> int:
        return self._new.setdefault(doc, len(self._new))

    def known(self, doc: int) -> int:
        """The new number of a known document, else 0."""
        return self._new.get(doc, 0)


# ---- reading ----
def read_project(data: bytes) -> Project:
    """Read a project from untrusted bytes. Raises BadInput."""
    head, members = unpack(data)
    try:
        return _read(head, members)
    except Damaged as damage:
        raise BadInput(f"This project file is damaged ({damage}); use another copy of it.") from damage
    except BadInput:
        raise
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError) as error:
        raise BadInput("This project file has contents that Étude does not write; use another copy of it.") from error


def _read(head: Mapping[str, Any], members: Mapping[str, bytes]) -> Project:
    archive = MemberReader(members)
    if "document.json" not in members:
        raise Damaged("document.json is missing")
    t = keyed(
        parse(members["document.json"]), "past", "present", "future", "takes", "renders", "prompt", "settings"
    )  # fmt: skip
    past = tuple(read_piece(name, archive) for name in listed(t["past"], KEPT_PIECES, "past"))
    future = tuple(read_piece(name, archive) for name in listed(t["future"], KEPT_PIECES, "future"))
    takes = tuple(read_take(take, i, archive) for i, take in enumerate(listed(t["takes"], KEPT_TAKES, "takes"), 1))
    present = read_piece(t["present"], archive)
    pieces = {piece.doc: piece for piece in (*(take.base for take in takes), *past, *future, present) if piece.doc}
    renders = tuple(read_render(r, pieces, archive) for r in listed(t["renders"], KEPT_RENDERS, "renders"))
    session = replace(present, past=past, future=future, takes=takes, docs=max(pieces, default=0))
    prompt = None if t["prompt"] is None else read_prompt(t["prompt"], archive)
    weights = {text(k, "weights"): text(v, "weights") for k, v in keyed(head.get("checkpoints", {})).items()}
    return Project(session, prompt, renders, _settings(t["settings"]), weights)


def _settings(table: object) -> dict[str, Setting]:
    found = keyed(table)
    if len(found) > MAX_SETTINGS:
        raise Damaged("it has too many settings")
    for name, value in found.items():
        text(name, "setting", 50)
        if isinstance(value, float):
            real(value, name, -1e12, 1e12)
        elif value is not None and type(value) not in (bool, int):
            text(value, name, 200)
    return found


# ---- opening ----
def adopt(document: Document, project: Project) -> Session:
    """Replace a visitor's work by a project; undo restores the earlier pieces."""
    document.jobs.stop()
    shift = 0

    def change(now: Session) -> Session:
        nonlocal shift
        shift = now.docs
        takes = now.takes[-1].number if now.takes else 0
        moved = _moved(project.session, shift, takes, max(history.families(now)) + 1)
        before = now.past if now.score is None else (*now.past, history.alone(now))
        votes = tuple(vote for vote in now.comparison.votes if vote not in moved.comparison.votes)
        number = max(now.comparison.last_number, moved.comparison.last_number)
        comparison = replace(moved.comparison, votes=votes + moved.comparison.votes, last_number=number)
        past = (*before, *moved.past)[-history.KEPT :]
        together = (*now.takes, *moved.takes)[-KEPT_TAKES:]
        return replace(moved, past=past, takes=together, since=shift, comparison=comparison)

    folder = document.folder()
    document.settings, document.prompt = dict(project.settings), project.prompt
    session = document.update(change)
    document.renders.replace([_maker(saved, shift, folder, session) for saved in project.renders])
    digest = "" if session.rendered is None else session.performance.digest
    for render in document.renders.kept:
        render.outdated = render.doc == session.doc and render.performance.digest != digest
    return session


def _maker(saved: KeptRender, shift: int, folder: Path, session: Session) -> Callable[[int], Any]:
    doc = saved.doc + shift if saved.doc else 0
    pieces = (*session.past, *session.future, *(take.base for take in session.takes), session)
    family = next((piece.family for piece in pieces if piece.doc == doc), session.family)
    return lambda number: restored(saved, number, doc, family, folder)


def _moved(session: Session, shift: int, takes: int, families: int) -> Session:
    """The same pieces and takes under numbers that are new to this visitor."""

    def piece(s: Session) -> Session:
        return replace(s, doc=s.doc + shift if s.doc else 0, family=s.family + families)

    def take(t: Take) -> Take:
        return replace(t, number=t.number + takes, family=t.family + families)

    return replace(_each(session, piece, take), docs=session.docs + shift)


def other_weights(project: Project) -> tuple[str, ...]:
    """Names of the weights that differ from those of the saved project."""
    here = weights_here()
    return tuple(sorted(name for name, digest in project.checkpoints.items() if here.get(name, digest) != digest))
