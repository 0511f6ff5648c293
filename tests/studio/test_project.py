"""Projects: complete contents; saving a reopened project gives the same bytes."""

from __future__ import annotations

import json
import zipfile
from dataclasses import fields, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from engine.music.types import AudioClip, BadInput, Performance, Score
from engine.render.provenance import read_description
from engine.requests import ComposeRequest, RenderRequest
from engine.sound.clip import encode_audio
from engine.sound.prompts import SAMPLE_RATE, Prompt, gallery
from engine.untrusted.scores import open_performance
from studio.actions import composing
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.actions.rendering import Render, span_of_bars
from studio.project.document import Project, adopt, other_weights, project_of, read_project, write_project
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine
from studio.state import history
from studio.state.examples import EXAMPLES, FIRST
from studio.state.pins import Vote
from studio.state.session import Controls, NoteEdit, Session

CHOPIN = "Chopin, Prélude op. 28 no. 7"


@pytest.fixture(scope="module")
def shared() -> SharedEngine:
    return SharedEngine()


def a_render(number: int, session: Session, folder: Path, prompt: Prompt) -> Render:
    """Two seconds of noise as if they had been rendered."""
    request = RenderRequest(session.performance, prompt, 8, 0.9, span_of_bars(session, 1, 2), "bars 1 to 2")
    render = Render(number, session, request, folder, "0123456789ab")
    render.job = Job(kind="render")
    noise = np.random.default_rng(number).uniform(-0.4, 0.4, 2 * SAMPLE_RATE).astype(np.float32)
    render.add(AudioClip(noise, SAMPLE_RATE))
    render.finish()
    render.job.run(lambda job: lambda: None)
    return render


def own_prompt() -> Prompt:
    """A recording of the visitor's own: no multiple of a 16-bit step, with two notes in it."""
    t = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    notes = Performance([0.1, 1.25], [1 / 3, 0.5], [60, 67], [64, 80], [0.0, 1.7], [100, 0])
    return Prompt(AudioClip(np.sin(2 * np.pi * 220 * t) / 3, SAMPLE_RATE), notes, "from my phone.wav")


@pytest.fixture(scope="module")
def document(shared: SharedEngine) -> Document:
    """A document in which everything is used: edits of every kind, history both ways, takes, pins, votes, renders."""
    document = Document()
    example = EXAMPLES[FIRST]
    fugue = actions.open_piece(shared, Session(), shared.read_example(example), FIRST, Controls(), FIRST)
    human = open_performance(example.human_bytes(), example.human)
    document.update(lambda now: history.replaced(now, fugue))
    document.update(actions.set_reference(shared, document.session, human, "Shi"))
    score = shared.read_example(EXAMPLES[CHOPIN])
    controls = Controls(
        seed=7, axes=(0.35, *[0.0] * (len(shared.axes) - 1)), strength=(80.0, 100.0, 120.0, 100.0, 33.0)
    )
    opened = actions.open_piece(shared, document.session, score, CHOPIN, controls, CHOPIN)
    document.update(lambda now: history.replaced(now, opened))
    n = len(score)
    first = document.session.base(1)
    assert first is not None
    on = round(1000 * first.onset_sec)
    document.patch(document.session.doc, 1, actions.edit([[1, first.pitch + 1, on, 400, 99]], [3, 5], [[100, 900]]))
    document.patch(document.session.doc, 2, actions.edit([[n + 1, 40, 1234, 500, 77]], [], False))
    session = document.session
    comparison = session.comparison.pinned("mine", "pinned", score.digest, session.performance, session.alignment)
    vote = Vote("2026-11-22T22:41:05+00:00", CHOPIN, "Clara", "prefer", ("mine", "Shi"), ("mine",), 0, "1-2", 3, 1)
    document.update(lambda now: replace(now, comparison=replace(comparison, votes=(vote,))))
    request = ComposeRequest(notes=16, bars=1, takes=1, seed=5)
    document.update(composing.continue_piece(shared, document.session, request, lambda *note: None))
    document.update(composing.compose(shared, replace(request, bars=0), lambda *note: None))
    document.update(composing.accept(shared, document.session, 1, controls))
    document.update(history.back)
    document.prompt = own_prompt()
    document.settings = {"compose-who": "composer:Chopin", "render-seed": 8, "render-temperature": 0.9, "x": None}
    folder = document.folder()
    renders = [
        lambda number: a_render(number, document.session, folder, gallery()["goldberg"]),
        lambda number: a_render(number, document.session, folder, own_prompt()),
    ]
    document.renders.replace(renders)
    return document


@pytest.fixture(scope="module")
def saved(document: Document) -> bytes:
    data, project = write_project(project_of(document))
    assert project.left_out == ()
    return data


def same(a: object, b: object, name: str = "") -> None:
    """Equal in every field, arrays to the last bit and of one kind."""
    if name.startswith((".past", ".future", ".takes")) and name.endswith(".votes"):
        return  # the votes of a visit stand once, with the piece on the stand
    if hasattr(a, "__dataclass_fields__"):
        for f in fields(a):  # type: ignore[arg-type]
            if f.name not in ("rev", "docs", "family"):  # renumbered
                same(getattr(a, f.name), getattr(b, f.name), f"{name}.{f.name}")
    elif isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray)
        assert (a.dtype, a.tobytes()) == (b.dtype, b.tobytes()), name
    elif isinstance(a, tuple):
        assert isinstance(b, tuple)
        assert len(a) == len(b), name
        for i, pair in enumerate(zip(a, b, strict=True)):
            same(*pair, f"{name}[{i}]")
    else:
        assert a == b, name


def test_everything_comes_back(document: Document, saved: bytes) -> None:
    project = read_project(saved)
    here, there = document.session, project.session
    same(here, there)
    assert list(here.edits) == list(there.edits), "added notes keep their order"
    assert there.performance.digest == here.performance.digest
    assert len(there.past) == 1
    assert there.past[0].reference is not None
    assert len(there.future) == 1
    assert [take.kind for take in there.takes] == ["continue", "compose"]
    assert there.takes[0].base.edits == here.edits
    families = [piece.family for piece in (*there.past, there, *there.future, *there.takes)]
    assert families == [0, 1, 1, 1, 1], "the takes belong to the second piece, as what was accepted of them does"
    assert there.edits[len(there.score or ()) + 1] == NoteEdit(40, 1.234, 0.5, 77)
    assert project.settings == document.settings


def test_saved_again_it_is_the_same_byte_for_byte(saved: bytes) -> None:
    document = Document()
    adopt(document, read_project(saved))
    assert write_project(project_of(document))[0] == saved
    assert document.renders.latest == 2
    document.close()


def test_it_can_be_opened_over_other_work_and_is_still_itself(shared: SharedEngine, saved: bytes) -> None:
    document = Document()
    score = shared.read_example(EXAMPLES[FIRST])
    fugue = actions.open_piece(shared, Session(), score, FIRST, Controls())
    document.update(lambda now: history.replaced(now, fugue))
    session = adopt(document, read_project(saved))
    assert session.doc > 1
    assert session.past[0].title == FIRST
    assert write_project(project_of(document))[0] == saved, "what was there before is no part of it"
    for _ in session.past:
        document.update(history.back)
    assert document.session.title == FIRST
    assert document.session.doc == 1
    document.close()


def test_renders_keep_sound_and_provenance(document: Document, saved: bytes) -> None:
    other = Document()
    session = adopt(other, read_project(saved))
    for old, new in zip(document.renders.kept, other.renders.kept, strict=True):
        assert np.array_equal(old.samples(), new.samples())
        assert new.complete
        assert new.doc == session.doc
        assert old.file("flac") == new.file("flac")
        made = read_description(new.file("wav")[1])
        assert (made["seed"], made["weights"], made["temperature"]) == (8, "0123456789ab", 0.9)
        same(old.alignment, new.alignment)
        same(old.grid, new.grid)
    first, second = other.renders.kept
    assert first.request.prompt is gallery()["goldberg"]
    assert second.request.prompt.name == "from my phone.wav"
    assert np.abs(second.request.prompt.clip.samples - own_prompt().clip.samples).max() < 2**-15
    other.close()
    assert not first.folder.exists()


def test_a_take_of_a_project_can_be_accepted(shared: SharedEngine, saved: bytes) -> None:
    document = Document()
    session = adopt(document, read_project(saved))
    document.update(composing.accept(shared, session, session.takes[0].number, session.controls))
    assert document.session.title.endswith("continued")
    assert document.session.edits[1].pitch == session.edits[1].pitch, "the visitor's edit went along"
    document.close()


def test_the_file_is_readable_json(saved: bytes) -> None:
    with zipfile.ZipFile(BytesIO(saved)) as archive:
        head = json.loads(archive.read("project.json"))
        assert archive.namelist()[0] == "project.json"
        assert head["format"] == "etude-project"
        assert set(head["members"]) == set(archive.namelist()) - {"project.json"}
        assert "pianist-v1" in head["checkpoints"]
        scores = [name for name in archive.namelist() if name.startswith("scores/")]
        assert len(scores) == 4, "each score stands there once, however many pieces use it"


def test_other_weights_are_reported(saved: bytes) -> None:
    project = read_project(saved)
    assert other_weights(project) == ()
    assert other_weights(replace(project, checkpoints={"pianist-v1": "another"})) == ("pianist-v1",)


def test_a_project_that_grows_too_large_leaves_renders_out(document: Document) -> None:
    project = project_of(document)
    noise = np.random.default_rng(1).integers(-30_000, 30_000, 5_000_000).astype(np.int16)
    large = encode_audio(AudioClip(noise.astype(np.float32) / 32767, SAMPLE_RATE), "flac")
    renders = tuple(replace(project.renders[0], flac=large) for _ in range(3))
    data, slim = write_project(replace(project, renders=renders))
    assert slim.left_out == ("renders",)
    assert len(read_project(data).renders) == 1
    assert len(data) < 20_000_000


def test_an_empty_page_with_a_take_is_a_project(shared: SharedEngine) -> None:
    document = Document()
    document.update(lambda now: history.replaced(now, Session(example="An empty page")))
    document.update(composing.compose(shared, ComposeRequest(notes=16, takes=1, seed=5), lambda *note: None))
    data, _ = write_project(project_of(document))
    found = read_project(data).session
    assert found.score is None
    assert isinstance(found.takes[0].score, Score)


def test_nonsense_inside_a_sound_file_is_refused(saved: bytes) -> None:
    project = read_project(saved)
    with pytest.raises(BadInput, match="sound"):
        read_project(write_project(replace(project, renders=(replace(project.renders[0], flac=b"fLaC"),)))[0])
    assert isinstance(project, Project)
