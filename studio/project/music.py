"""Scores, performances and prompts as members of a project file, bit-exact. A `MemberWriter` stores each once, however
many pieces, takes and renders use it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from engine.limits import MAX_BARS, MAX_QUARTERS, MAX_SCORE_NOTES, MAX_TEMPO_BPM, MEASURES, SCORE, Limits
from engine.music.remarks import from_json, to_json
from engine.music.types import (
    EVENT_NAMES,
    MARK_NAMES,
    Alignment,
    AudioClip,
    BadInput,
    Marks,
    Measures,
    PageEvents,
    Performance,
    Remark,
    Score,
    digest,
)
from engine.sound.bands import COUNT as BANDS
from engine.sound.clip import encode_audio, to_int16
from engine.sound.prompts import LONGEST_SEC, SAMPLE_RATE, Prompt, gallery
from engine.sound.stereo import Image
from studio.project.values import Damaged, column, keyed, parse, real, rising, text, written
from studio.state.session import Grid

MAX_NOTES = 40_000  # of a performance: those of the score and those that the visitor added
MOST_SEC = 200_000.0  # the slowest style of the longest score
MAX_PEDAL = 400_000
MAX_DOCUMENT = 4_000_000  # base64 characters of a compressed MusicXML file; a larger one is not kept
_INT16 = 32_767
_PERFORMANCE: Limits = {
    "onset_sec": (-60, MOST_SEC, np.float64),
    "duration_sec": (0, MOST_SEC, np.float64),
    "pitch": (0, 127, np.int16),
    "velocity": (0, 127, np.int16),
}


class MemberWriter:
    """Members of a project during writing; identical music is stored once."""

    def __init__(self) -> None:
        self.members: dict[str, bytes] = {}
        self._names: dict[str, str] = {}

    def score(self, score: Score) -> str:
        """Store a score, its MusicXML document as a member of its own; return its member name."""
        document = self._document(score.document)
        return self._put(
            "scores",
            score.digest + document,
            lambda: written(score_table(score) | ({"document": document} if document else {})),
            "json",
        )

    def _document(self, document: bytes) -> str:
        """Store a compressed MusicXML file, shared by the scores that were edited from it; "" for none."""
        coded = base64.b64encode(document).decode("ascii")
        if not 0 < len(coded) <= MAX_DOCUMENT:
            return ""
        return self._put("documents", hashlib.sha256(document).hexdigest(), lambda: written(coded), "json")

    def performance(self, performance: Performance) -> str:
        """Store a performance; return its member name."""
        return self._put("performances", performance.digest, lambda: written(performance_table(performance)), "json")

    def prompt(self, prompt: Prompt) -> str:
        """Store a prompt's sound as 16-bit FLAC; return its member name."""
        data = encode_audio(prompt.clip, "flac")
        return self._put("prompts", digest(prompt.clip), lambda: data, "flac")

    def _put(self, folder: str, digest: str, make: Any, kind: str) -> str:
        if digest not in self._names:
            number = 1 + sum(name.startswith(folder) for name in self.members)
            self._names[digest] = f"{folder}/{number}.{kind}"
            self.members[self._names[digest]] = make()
        return self._names[digest]


class MemberReader:
    """Members of a project during reading, each read once. Raises Damaged."""

    def __init__(self, members: Mapping[str, bytes]) -> None:
        self._members, self._read = members, dict[str, Any]()

    def data(self, name: object, folder: str) -> bytes:
        """A member's bytes."""
        if not isinstance(name, str) or not name.startswith(f"{folder}/") or name not in self._members:
            raise Damaged(f"an entry of {folder} is missing")
        return self._members[name]

    def _once(self, name: object, folder: str, make: Any) -> Any:
        data = self.data(name, folder)
        assert isinstance(name, str)
        if name not in self._read:
            try:
                self._read[name] = make(data)
            except Damaged as damage:
                raise Damaged(f"{name}: {damage}") from damage
        return self._read[name]

    def score(self, name: object) -> Score:
        """A score by its member's name."""
        return self._once(name, "scores", lambda data: self._with_document(parse(data)))

    def _with_document(self, table: object) -> Score:
        """The score of a table with its document; older projects have none."""
        score = read_score(table)
        name = keyed(table).get("document", "")
        return replace(score, document=self._once(name, "documents", read_document)) if name else score

    def performance(self, name: object) -> Performance:
        """A performance by its member's name."""
        return self._once(name, "performances", lambda data: read_performance(parse(data)))

    def prompt_samples(self, name: object) -> NDArray[np.int16]:
        """A prompt's sound, (num_samples,) int16, by its member's name."""
        return self._once(name, "prompts", lambda data: read_flac(data, LONGEST_SEC + 0.01))


def read_document(data: bytes) -> bytes:
    """A compressed MusicXML file from its member; its contents are checked when it is saved. Raises Damaged."""
    try:
        return base64.b64decode(text(parse(data), "document", MAX_DOCUMENT), validate=True)
    except binascii.Error as error:
        raise Damaged("it is not base64") from error


# ---- scores and performances ----
def _columns(thing: object, names: Mapping[str, Any]) -> dict[str, list]:
    return {name: getattr(thing, name).astype(names[name][2]).tolist() for name in names}


def score_table(score: Score) -> dict[str, Any]:
    """A score as JSON; only marks that occur."""
    marks = {name: score.marks[name].tolist() for name in MARK_NAMES if score.marks[name].any()}
    return {
        "title": score.title, "composer": score.composer, "tempo_bpm": float(score.tempo_bpm),
        "notes": _columns(score, SCORE), "marks": marks, "measures": _columns(score.measures, MEASURES),
        "events": {"quarter": score.events.quarter.tolist(), "kind": score.events.kind.tolist()},
        "remarks": to_json(score.remarks),
    }  # fmt: skip


def read_score(table: object) -> Score:
    """The score of score_table. Raises Damaged."""
    found = keyed(table, "title", "composer", "tempo_bpm", "notes", "marks", "measures")
    notes, bars, marked = (keyed(found[name]) for name in ("notes", "measures", "marks"))
    n = len(column(notes.get("onset_quarter"), "onset_quarter", *SCORE["onset_quarter"]))
    if not 1 <= n <= MAX_SCORE_NOTES:
        raise Damaged(f"it has {n} notes")
    columns = {name: column(notes.get(name), name, *limits, n) for name, limits in SCORE.items()}
    m = len(column(bars.get("number"), "number", *MEASURES["number"]))
    if not 1 <= m <= MAX_BARS:
        raise Damaged(f"it has {m} bars")
    measures = {name: column(bars.get(name), name, *limits, m) for name, limits in MEASURES.items()}
    rising(columns["onset_quarter"], "onset_quarter")
    rising(measures["onset_quarter"], "bars")
    table_of_marks = np.zeros((n, len(MARK_NAMES)), np.int16)
    for k, name in enumerate(MARK_NAMES):
        if name in marked:
            table_of_marks[:, k] = column(marked[name], name, -_INT16, _INT16, np.int16, n)
    return Score(
        **columns, marks=Marks(table_of_marks), measures=Measures(**measures), title=text(found["title"], "title"),
        composer=text(found["composer"], "composer"), tempo_bpm=real(found["tempo_bpm"], "tempo", 0, MAX_TEMPO_BPM),
        events=_events(found.get("events", {"quarter": [], "kind": []})),
        remarks=_remarks(found.get("remarks", [])),
    )  # fmt: skip


def _events(table: object) -> PageEvents:
    """Page events of a saved score; older projects have none."""
    found = keyed(table, "quarter", "kind")
    quarter = rising(column(found["quarter"], "quarter", *SCORE["onset_quarter"]), "events")
    kind = column(found["kind"], "kind", 0, len(EVENT_NAMES) - 1, np.int8, len(quarter))
    return PageEvents(quarter, kind)


def _remarks(rows: object) -> tuple[Remark, ...]:
    """Remarks of a saved score; older projects have none."""
    try:
        return from_json(rows)
    except ValueError as error:
        raise Damaged(str(error)) from error


def performance_table(performance: Performance) -> dict[str, Any]:
    """A performance as JSON."""
    return {f.name: getattr(performance, f.name).tolist() for f in fields(performance)}


def read_performance(table: object) -> Performance:
    """The performance of performance_table. Raises Damaged."""
    found = keyed(table, *_PERFORMANCE, "pedal_sec", "pedal_value")
    n = len(column(found["pitch"], "pitch", *_PERFORMANCE["pitch"]))
    if n > MAX_NOTES:
        raise Damaged(f"it has {n} notes")
    columns = {name: column(found[name], name, *limits, n) for name, limits in _PERFORMANCE.items()}
    sec = rising(column(found["pedal_sec"], "pedal_sec", -60, MOST_SEC, np.float64), "pedal_sec")
    if len(sec) > MAX_PEDAL:
        raise Damaged(f"it has {len(sec)} changes of pedal")
    value = column(found["pedal_value"], "pedal_value", 0, 127, np.int16, len(sec))
    return Performance(**columns, pedal_sec=sec, pedal_value=value)


def alignment_table(alignment: Alignment) -> dict[str, list]:
    """An alignment as JSON."""
    return {f.name: getattr(alignment, f.name).tolist() for f in fields(alignment)}


def read_alignment(table: object, score_notes: int, played_notes: int) -> Alignment:
    """The alignment of alignment_table, of so many written and played notes. Raises Damaged."""
    found = keyed(table, "score_index", "performance_index")
    score = column(found["score_index"], "score_index", 0, score_notes - 1, np.int32)
    played = column(found["performance_index"], "performance_index", 0, played_notes - 1, np.int32, len(score))
    return Alignment(rising(score, "score_index"), played)


def grid_table(grid: Grid | None) -> dict[str, list] | None:
    """A grid as JSON."""
    return None if grid is None else {"quarter": grid.quarter.tolist(), "sec": grid.sec.tolist()}


def read_grid(table: object) -> Grid:
    """The grid of grid_table. Raises Damaged."""
    found = keyed(table, "quarter", "sec")
    quarter = column(found["quarter"], "quarter", -MAX_QUARTERS, MAX_QUARTERS, np.float64)
    sec = column(found["sec"], "sec", -MOST_SEC, MOST_SEC, np.float64, len(quarter))
    if not 2 <= len(quarter) <= 4 * MAX_SCORE_NOTES:
        raise Damaged(f"it has {len(quarter)} beats")
    return Grid(rising(quarter, "quarter", True), rising(sec, "sec", True))


# ---- sound ----
def read_flac(data: bytes, longest_sec: float, kinds: Collection[tuple[int, int]] = ((1, SAMPLE_RATE),)) -> NDArray:
    """The samples of one of our own FLAC files, int16, of the channels and rates in `kinds`. Raises Damaged."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            found, rate = (file.channels, file.samplerate), file.samplerate
            if (file.format, file.subtype) != ("FLAC", "PCM_16") or found not in kinds:
                accepted = " or ".join(f"{channels} x {hz} Hz" for channels, hz in kinds)
                raise Damaged(f"its sound is not FLAC, 16 bit, {accepted}")
            samples = file.read(int(longest_sec * rate) + 1, dtype="int16")
    except soundfile.LibsndfileError as error:
        raise Damaged("its sound cannot be read") from error
    if len(samples) > longest_sec * rate:
        raise Damaged(f"its sound lasts over {longest_sec:.0f} s")
    return np.asarray(samples, np.int16)


def prompt_table(prompt: Prompt, archive: MemberWriter) -> dict[str, Any]:
    """A prompt as JSON; its sound and notes become members."""
    key = next((name for name, ours in gallery().items() if ours.digest == prompt.digest), "")
    notes = None if prompt.notes is None else archive.performance(prompt.notes)
    return {
        "key": key, "name": prompt.name, "credit": prompt.credit, "sound": archive.prompt(prompt), "notes": notes,
        **_image_table(prompt.image),
    }  # fmt: skip


def _image_table(image: Image | None) -> dict[str, list[float]]:
    return {} if image is None else {"lean": list(image.lean), "width": list(image.width)}


def _read_image(table: object) -> Image | None:
    """The stereo image in a prompt's table; None for a prompt of one channel."""
    if not isinstance(table, dict) or "lean" not in table:
        return None
    lean = column(table["lean"], "lean", -1, 1, np.float64, BANDS)
    width = column(table.get("width"), "width", 0, 10, np.float64, BANDS)
    return Image(tuple(lean.tolist()), tuple(width.tolist()))


def read_prompt(table: object, archive: MemberReader) -> Prompt:
    """The prompt of prompt_table; a gallery prompt if its sound is identical here. Raises Damaged."""
    image = _read_image(table)
    found = keyed(table, "key", "name", "credit", "sound", "notes", *(("lean", "width") if image is not None else ()))
    samples = archive.prompt_samples(found["sound"])
    ours = gallery().get(text(found["key"], "key"))
    if ours is not None and np.array_equal(to_int16(ours.clip), samples):
        return ours
    notes = None if found["notes"] is None else archive.performance(found["notes"])
    clip = AudioClip(samples.astype(np.float32) / _INT16, SAMPLE_RATE)
    try:
        return Prompt(clip, notes, text(found["name"], "name"), text(found["credit"], "credit"), image)
    except (BadInput, ValueError) as error:
        raise Damaged("its reference recording has an impossible length") from error
