"""Passages by XMVAE, ECPT and MT as takes of a Session, with tiny untrained weights beside the shipped ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.engine import Engine
from engine.music.io.midi import read_midi_performance
from engine.music.types import BadInput
from engine.requests import PassageRequest
from studio.actions import composing, passages
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.api.writing import compose_passage
from studio.panels.models.events import as_passage_request, other_bars, region_to_vary
from studio.project.document import Project, read_project, write_project
from studio.service.shared_engine import SharedEngine
from studio.state.examples import EXAMPLES
from studio.state.session import Controls, Selection, Session
from tests.helpers.paper_checkpoints import link_shipped, write_paper_checkpoints

SHORT = "Chopin, Prélude op. 28 no. 7"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> SharedEngine:
    folder = link_shipped(tmp_path_factory.mktemp("checkpoints"))
    write_paper_checkpoints(folder, tmp_path_factory.mktemp("runs"))
    return SharedEngine(Engine.load(folder))


@pytest.fixture(scope="module")
def composed(shared: SharedEngine) -> Session:
    return passages.compose_passages(shared, PassageRequest(notes=12, takes=2, seed=5))(Session())


def test_a_take_is_played_by_its_own_model_until_a_slider_moves(shared: SharedEngine, composed: Session) -> None:
    take = composed.takes[0]
    assert take.performance is not None
    opened = composing.played(shared, composed, take, Controls())
    assert opened.rendered is not None
    assert opened.rendered.onset_sec.tolist() == take.performance.onset_sec.tolist()
    slower = actions.restyle(shared, opened, Controls(axes=(-2.0,) + (0.0,) * 8))(opened)
    assert slower.rendered is not None
    assert slower.rendered.onset_sec.tolist() != take.performance.onset_sec.tolist()


def test_a_project_keeps_the_performance_of_a_take(shared: SharedEngine, composed: Session) -> None:
    again = read_project(write_project(Project(composed))[0]).session.takes
    for take, old in zip(again, composed.takes, strict=True):
        assert take.performance is not None
        assert old.performance is not None
        assert np.allclose(take.performance.onset_sec, old.performance.onset_sec)


def test_bars_of_the_piece_are_varied(shared: SharedEngine) -> None:
    score = shared.read_example(EXAMPLES[SHORT])
    session = actions.open_piece(shared, Session(), score, SHORT, Controls(), SHORT)
    document = Document()
    region = region_to_vary(session, document)
    part = passages.excerpt_of(score, region)
    assert 0 < len(part) < len(score)
    assert part.measures.onset_quarter[0] == 0
    assert set(part.pitch) <= set(score.pitch)
    document.selection = Selection(session.doc, (), (2, 3))
    narrower = region_to_vary(session, document)
    assert 0 < narrower.selected.sum() < region.selected.sum()
    after = passages.vary(shared, session, narrower, PassageRequest(takes=2, share=0.4))(session)
    assert [take.title for take in after.takes] == [f"{SHORT}, varied"] * 2
    assert after.score is score
    everything = composing.Region(np.ones(len(score), bool), (0.0, score.measures.end_quarter))
    nothing = composing.Region(np.zeros(len(score), bool), (0.0, 4.0))
    with pytest.raises(BadInput, match="have 0 notes"):
        passages.excerpt_of(score, nothing)
    assert len(passages.excerpt_of(score, everything)) == len(score)


def test_bars_are_played_again_and_mixed_with_others(shared: SharedEngine, composed: Session) -> None:
    opened = composing.played(shared, composed, composed.takes[0], Controls())
    region, document = region_to_vary(opened, Document()), Document()
    request = as_passage_request(1, "3", 1, 2.0, directions=shared.xmvae_directions)
    assert request.z_p == (("Tempo", 2.0),)
    again = passages.vary(shared, opened, region, replace(request, share=0.0))(opened).takes[-1]
    assert again.score.pitch.tolist() == passages.excerpt_of(opened.score, region).pitch.tolist()
    assert again.performance is not None
    assert other_bars(opened, document, " ") is None
    other = other_bars(opened, document, "1-1")
    assert other is not None
    assert passages.vary(shared, opened, region, request, towards=other)(opened).takes[-1].title.endswith(", mixed")
    for words in ("9", "a-b", "1-999"):
        with pytest.raises(BadInput):
            other_bars(opened, document, words)


def test_a_study_has_one_passage_of_each_model(shared: SharedEngine) -> None:
    shares: list[float] = []
    entries = passages.compose_for_study(shared, 3, 12, shares.append)
    assert [entry.name for entry in entries] == ["XMVAE", "ECPT", "MT", "Étude Composer"]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    study = passages.begin_passage_study(Session(), entries, "prefer", "me", 3, 1)
    assert len(study.trials) == 6
    assert sorted(entry.name for entry in study.heard) == sorted(entry.name for entry in entries)
    assert [entry.name for entry in study.heard] != [entry.name for entry in entries], "codes hide the order"
    for entry in entries:
        assert entry.grid is not None
        assert float(entry.grid.sec_at(study.span[1])) == pytest.approx(max(entry.performance.end_sec, 1))


def test_the_endpoint_gives_the_passage_as_its_model_plays_it(shared: SharedEngine) -> None:
    score, played, about = compose_passage(shared, notes=12, seed=4, z_p="Tempo=1.5")
    assert about["asked"] == {"model": "xmvae", "share": 0.3, "z_p": {"Tempo": 1.5}, "temperature": 1.0}
    assert len(read_midi_performance(Path(played["path"]).read_bytes())) == about["notes"] <= 12
    assert Path(score["path"]).read_bytes().startswith(b"<?xml")
    for wrong, sentence in (
        ({"model": "composer"}, "not installed; installed: xmvae, ecpt, mt"), ({"z_p": "Tempo"}, "write a direction"),
        ({"z_p": "Swing=1"}, "has no direction"), ({"share": 0}, "plays a passage again"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=sentence):
            compose_passage(shared, notes=12, **wrong)


@pytest.mark.parametrize("values", [(0, "", 1), (2, "x", 1), (2, "", 9), (None, "", 1)])
def test_values_of_a_client_are_checked(values: tuple) -> None:
    with pytest.raises(BadInput):
        as_passage_request(*values)
