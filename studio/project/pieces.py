"""A visitor's pieces as members of a project file: a Session with edits, history, takes and comparison. Documents are
renumbered in order, so that the same work gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from engine.compose.form import MAX_FORM, Form, parse_form
from engine.limits import MAX_SEED
from engine.music.types import DEFAULT_FREEDOM, BadInput, Performance, Score, Strength, Style
from studio.project.music import (
    MAX_NOTES,
    MAX_QUARTERS,
    MOST_SEC,
    MemberReader,
    MemberWriter,
    alignment_table,
    grid_table,
    read_alignment,
    read_grid,
)
from studio.project.values import Damaged, column, keyed, listed, parse, real, rising, text, whole, written
from studio.state.pins import KINDS, MAX_PINS, Comparison, Pin, Vote
from studio.state.session import FIELDS, Controls, NoteEdit, Reference, Session, Take, Version
from studio.state.versions import MAX_VERSIONS

MAX_VOTES = 5_000
MAX_COUNT = 10**9
TAKE_KINDS = ("compose", "continue", "infill")
Doc = Callable[[int], int]


class Pieces:
    """Sessions as members, `pieces/N.json`."""

    def __init__(self, archive: MemberWriter, doc: Doc) -> None:
        self._archive, self._doc, self._count = archive, doc, 0

    def put(self, session: Session, votes: bool = False) -> str:
        """Store a piece without history and takes; return its member name."""
        self._count += 1
        name = f"pieces/{self._count}.json"
        self._archive.members[name] = written(self._table(session, votes))
        return name

    def _table(self, s: Session, votes: bool) -> dict[str, Any]:
        archive = self._archive
        return {
            "title": s.title, "example": s.example, "doc": self._doc(s.doc), "take": s.take, "family": s.family,
            "score": None if s.score is None else archive.score(s.score),
            "rendered": None if s.rendered is None else archive.performance(s.rendered), "grid": grid_table(s.grid),
            "controls": _controls_table(s.controls), "style": _style_table(s.style),
            "edits": [
                [i, e.pitch, e.onset_sec, e.duration_sec, e.velocity, [name for name in FIELDS if name in e.own]]
                for i, e in s.edits.items()
            ],
            "deleted": sorted(s.deleted), "pedal": None if s.pedal is None else [list(span) for span in s.pedal],
            "reference": reference_table(s.reference, archive), "comparison": _comparison(s.comparison, archive, votes),
            "form": s.form, "locked": sorted(s.locked), "version": s.version, "pair": list(s.pair),
            "versions": [
                {
                    "number": v.number, "name": v.name, "rendered": archive.performance(v.rendered),
                    "grid": grid_table(v.grid), "controls": _controls_table(v.controls), "style": _style_table(v.style),
                }
                for v in s.versions
            ],
        }  # fmt: skip


def _controls_table(controls: Controls) -> dict[str, Any]:
    return {f.name: _plain(getattr(controls, f.name)) for f in fields(Controls)}


def _style_table(style: Style) -> dict[str, Any]:
    strength = {f.name: float(getattr(style.strength, f.name)) for f in fields(Strength)}
    return {"z": list(style.z), "seed": style.seed, "freedom": style.freedom, "strength": strength}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def reference_table(reference: Reference | None, archive: MemberWriter) -> dict[str, Any] | None:
    """A human performance as JSON."""
    if reference is None:
        return None
    name, played = reference.name, archive.performance(reference.performance)
    return {"name": name, "performance": played, "alignment": alignment_table(reference.alignment)}


def _comparison(comparison: Comparison, archive: MemberWriter, votes: bool) -> dict[str, Any]:
    pins = [
        {
            "number": pin.number, "name": pin.name, "kind": pin.kind, "digest": pin.digest,
            "performance": archive.performance(pin.performance), "alignment": alignment_table(pin.alignment),
        }
        for pin in comparison.pins
    ]  # fmt: skip
    said = [{f.name: _plain(getattr(vote, f.name)) for f in fields(Vote)} for vote in comparison.votes]
    return {
        "pins": pins, "left_out": sorted(comparison.left_out), "votes": said if votes else [],
        "last_number": comparison.last_number,
    }  # fmt: skip


def take_table(take: Take, archive: MemberWriter, pieces: Pieces) -> dict[str, Any]:
    """A take as JSON, without its number, which is its position."""
    return {
        "kind": take.kind, "title": take.title, "seed": take.seed, "span": list(take.span), "family": take.family,
        "score": archive.score(take.score), "fresh": take.fresh.astype(int).tolist(),
        "base": None if take.base.score is None else pieces.put(take.base), "form": take.form,
        **({} if take.performance is None else {"performance": archive.performance(take.performance)}),
    }  # fmt: skip


# ---- reading ----
def read_piece(name: object, archive: MemberReader) -> Session:
    """The Session of a member that Pieces.put wrote. Raises Damaged."""
    data = archive.data(name, "pieces")
    try:
        return _session(parse(data), archive)
    except Damaged as damage:
        raise Damaged(f"{name}: {damage}") from damage


def _session(table: object, archive: MemberReader) -> Session:
    t = keyed(
        table, "title", "example", "doc", "take", "score", "rendered", "grid", "controls", "style", "edits", "deleted",
        "pedal", "reference", "comparison",
    )  # fmt: skip
    bare = Session(
        title=text(t["title"], "title"), example=text(t["example"], "example"), doc=whole(t["doc"], "doc", 0, 10_000),
        take=whole(t["take"], "take", 0, MAX_COUNT), controls=_controls(t["controls"]), style=_style(t["style"]),
        family=_family(t),
    )  # fmt: skip
    if t["score"] is None:
        if any(t[name] for name in ("rendered", "grid", "edits", "deleted", "pedal", "reference")):
            raise Damaged("it has notes and no score")
        return bare
    score, rendered = archive.score(t["score"]), archive.performance(t["rendered"])
    if len(rendered) != len(score):
        raise Damaged(f"{len(rendered)} notes are played of the {len(score)} that are written")
    edits = _edits(t["edits"])
    if len(score) + sum(i > len(score) for i in edits) > MAX_NOTES:
        raise Damaged("it has more notes than a performance can have")
    deleted = column(t["deleted"], "deleted", 1, len(score), np.int64)
    comparison = _read_comparison(t["comparison"], archive)
    form = _form(t, score)
    locked = column(t.get("locked", []), "locked", 0, max(len(form.sections) - 1, 0) if form else -1, np.int64)
    here = [pin.alignment.score_index for pin in comparison.pins if pin.digest == score.digest]
    if any((index >= len(score)).any() for index in here):
        raise Damaged("it compares notes that the score does not have")
    return replace(
        bare, score=score, rendered=rendered, grid=read_grid(t["grid"]), edits=edits,
        deleted=frozenset(deleted.tolist()), pedal=_pedal(t["pedal"]),
        reference=read_reference(t["reference"], score, archive), comparison=comparison,
        form=str(form or ""), locked=frozenset(locked.tolist()), **_versions(t, score, archive),
    )  # fmt: skip


def _versions(table: Mapping[str, Any], score: Score, archive: MemberReader) -> dict[str, Any]:
    """The fields of a Session that concern its versions; older projects have none."""
    kept = tuple(_version(row, score, archive) for row in listed(table.get("versions", []), MAX_VERSIONS, "versions"))
    numbers = [version.number for version in kept]
    if numbers:
        rising(np.array(numbers), "versions", strictly=True)
    pair = column(table.get("pair", [0, 0]), "pair", 0, MAX_COUNT, np.int64, 2).tolist()
    shown = whole(table.get("version", 0), "version", 0, MAX_COUNT)
    return {"versions": kept, "version": shown if shown in numbers else 0, "pair": tuple(pair)}


def _version(table: object, score: Score, archive: MemberReader) -> Version:
    t = keyed(table, "number", "name", "rendered", "grid", "controls", "style")
    rendered, grid = archive.performance(t["rendered"]), read_grid(t["grid"])
    if len(rendered) != len(score):
        raise Damaged("a version plays other notes than those that are written")
    return Version(
        whole(t["number"], "number", 1, MAX_COUNT), text(t["name"], "name"), _controls(t["controls"]),
        _style(t["style"]), rendered, grid,
    )  # fmt: skip


def _family(table: Mapping[str, Any]) -> int:
    """A piece's family; older projects have a single one."""
    return whole(table.get("family", 0), "family", 0, MAX_COUNT)


def _form(table: Mapping[str, Any], score: Score) -> Form | None:
    """The sections of a score; projects from before there were forms have none."""
    written_form = text(table.get("form", ""), "form", MAX_FORM)
    try:
        form = parse_form(written_form)
    except BadInput as refusal:
        raise Damaged(f"form: {refusal}") from refusal
    if form is not None and form.bars != len(score.measures):
        raise Damaged("its form has another number of bars than its score")
    return form


def _controls(table: object) -> Controls:
    t = keyed(table, *(f.name for f in fields(Controls) if f.name != "freedom"))  # older projects have none
    axes = column(t["axes"], "axes", -10, 10, np.float64)
    if len(axes) > 100:
        raise Damaged("it has too many sliders")
    return Controls(
        text(t["preset"], "preset"), text(t["second"], "second"), real(t["blend"], "blend", 0, 1),
        tuple(axes.tolist()), tuple(column(t["strength"], "strength", 0, 150, np.float64, 5).tolist()),
        whole(t["seed"], "seed", 0, MAX_SEED), real(t.get("freedom", Controls.freedom), "freedom", 0, 100),
    )  # fmt: skip


def _style(table: object) -> Style:
    t = keyed(table, "z", "seed", "strength")
    strength = keyed(t["strength"], *(f.name for f in fields(Strength)))
    z = column(t["z"], "z", -1000, 1000, np.float64)
    if len(z) > 1000:
        raise Damaged("its style has too many numbers")
    named = {f.name: real(strength[f.name], f.name, 0, 1.5) for f in fields(Strength)}
    freedom = real(t.get("freedom", DEFAULT_FREEDOM), "freedom", 0, 1)
    return Style(tuple(z.tolist()), Strength(**named), whole(t["seed"], "seed", 0, 2**62), freedom)


def _edits(rows: object) -> Mapping[int, NoteEdit]:
    edits = {}
    for row in listed(rows, MAX_NOTES, "edits"):
        i, pitch, onset, duration, velocity, own = (*listed(row, 6, "edit"), *[None] * 6)[:6]
        names = {text(name, "own") for name in listed(own, len(FIELDS), "own")}
        if not names <= set(FIELDS):
            raise Damaged("an edit names an unknown field")
        edits[whole(i, "note", 1, 10_000_000)] = NoteEdit(
            whole(pitch, "pitch", 0, 127), real(onset, "onset", 0, MOST_SEC), real(duration, "duration", 0, MOST_SEC),
            whole(velocity, "velocity", 0, 127), frozenset(names),
        )  # fmt: skip
    return MappingProxyType(edits)


def _pedal(spans: object) -> tuple[tuple[float, float], ...] | None:
    if spans is None:
        return None
    pairs = [column(span, "pedal", 0, MOST_SEC, np.float64, 2) for span in listed(spans, MAX_NOTES, "pedal")]
    if pairs:
        rising(np.concatenate(pairs), "pedal")
    return tuple((float(a), float(b)) for a, b in pairs)


def read_reference(table: object, score: Score | None, archive: MemberReader) -> Reference | None:
    """The human performance of reference_table, of this score if it is there. Raises Damaged."""
    if table is None:
        return None
    t = keyed(table, "name", "performance", "alignment")
    played = archive.performance(t["performance"])
    found = read_alignment(t["alignment"], MAX_NOTES if score is None else len(score), len(played))
    if score is not None and len(np.unique(score.onset_quarter[found.score_index])) < 2:
        raise Damaged("its human performance matches no note of the score")
    return Reference(played, found, text(t["name"], "name"))


def _read_comparison(table: object, archive: MemberReader) -> Comparison:
    t = keyed(table, "pins", "left_out", "votes", "last_number")
    pins = tuple(_pin(pin, archive) for pin in listed(t["pins"], MAX_PINS, "pins"))
    left_out = frozenset(text(key, "left_out") for key in listed(t["left_out"], 100, "left_out"))
    votes = tuple(_vote(vote) for vote in listed(t["votes"], MAX_VOTES, "votes"))
    return Comparison(pins, left_out, votes, whole(t["last_number"], "last_number", 0, MAX_COUNT))


def _pin(table: object, archive: MemberReader) -> Pin:
    t = keyed(table, *(f.name for f in fields(Pin) if f.name != "sound"))
    if t["kind"] not in KINDS:
        raise Damaged("it compares something of an unknown kind")
    played = archive.performance(t["performance"])
    return Pin(
        whole(t["number"], "number", 1, MAX_COUNT), text(t["name"], "name"), t["kind"], text(t["digest"], "digest"),
        played, read_alignment(t["alignment"], MAX_NOTES, len(played)),
    )  # fmt: skip


def _vote(table: object) -> Vote:
    t = keyed(table, *(f.name for f in fields(Vote)))
    words = {name: text(t[name], name) for name in ("time", "piece", "listener", "question", "bars")}
    names = {name: tuple(text(v, name) for v in listed(t[name], 100, name)) for name in ("shown", "choice")}
    seed, trial = whole(t["seed"], "seed", 0, 2**62), whole(t["trial"], "trial", 0, MAX_COUNT)
    return Vote(**words, **names, rating=whole(t["rating"], "rating", 0, 7), seed=seed, trial=trial)


def read_take(table: object, number: int, archive: MemberReader) -> Take:
    """The take of take_table. Raises Damaged."""
    t = keyed(table, "kind", "title", "seed", "span", "score", "fresh", "base")
    if t["kind"] not in TAKE_KINDS or (t["kind"] != "compose" and t["base"] is None):
        raise Damaged("a take is of an unknown kind")
    score = archive.score(t["score"])
    start, end = column(t["span"], "span", -MAX_QUARTERS, 2 * MAX_QUARTERS, np.float64, 2).tolist()
    return Take(
        number, t["kind"], score, text(t["title"], "title"), whole(t["seed"], "seed", 0, MAX_SEED), (start, end),
        column(t["fresh"], "fresh", 0, 1, np.int8, len(score)).astype(bool),
        Session() if t["base"] is None else read_piece(t["base"], archive), _family(t),
        _own_performance(t, score, archive), str(_form(t, score) or ""),
    )  # fmt: skip


def _own_performance(table: dict[str, Any], score: Score, archive: MemberReader) -> Performance | None:
    if table.get("performance") is None:
        return None
    played = archive.performance(table["performance"])
    if played.pitch.tolist() != score.pitch.tolist():
        raise Damaged("a take has other notes than its performance")
    return played
