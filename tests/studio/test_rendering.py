"""Renders in the studio: made in parts, cancelled, compared at the same moment, saved; without a page."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.limits import KEPT_RENDERS
from engine.music.types import AudioClip, BadInput, Score
from engine.render.provenance import read_description
from engine.requests import RenderRequest
from engine.sound.clip import encode_audio
from engine.sound.prompts import SAMPLE_RATE as PROMPT_RATE
from engine.sound.prompts import gallery
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.actions.rendering import SAMPLE_RATE, Renders, compared, human_grid, span_of_bars
from studio.panels.render.events import as_prompt, as_request
from studio.panels.render.layout import OWN, PARTS, credit_line, prompt_menu
from studio.service.shared_engine import SharedEngine
from studio.state.examples import EXAMPLES, FIRST
from studio.state.session import Controls, Session
from studio.widgets.listen.listen import Listen, began, part_of

CHOPIN = "Chopin, Prélude op. 28 no. 7"


@pytest.fixture(scope="module")
def shared() -> SharedEngine:
    return SharedEngine()


@pytest.fixture(scope="module")
def session(shared: SharedEngine) -> Session:
    """A session with a short piece open."""
    return actions.open_piece(shared, Session(), short_score(shared), CHOPIN, Controls(), CHOPIN)


def short_score(shared: SharedEngine) -> Score:
    return shared.read_example(EXAMPLES[CHOPIN])


def request(session: Session, **changed: object) -> RenderRequest:
    return RenderRequest(
        session.performance, **{"prompt": gallery()["goldberg"], "seed": 3, "temperature": 1.0, **changed}
    )  # type: ignore[arg-type]


def wait(render: object, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not render.over:  # type: ignore[attr-defined]
        assert time.monotonic() < until, "the render took too long"
        render.wait(10**9, 0.2)  # type: ignore[attr-defined]


def test_a_part_is_rendered_and_saved_with_how_it_was_made(
    shared: SharedEngine, session: Session, tmp_path: Path
) -> None:
    renders = Renders()
    span = span_of_bars(session, 1, 1)
    render = renders.begin(shared, session, request(session, span=span, part="bars 1 to 1"), tmp_path)
    have, files = 0, []
    while not (render.over and have == render.made):
        render.wait(have, 0.5)
        news = json.loads(part_of(render, have, renders)["news"])
        path = render.part(have)
        if path is not None:
            sound, rate = soundfile.read(path, dtype="int16")
            assert rate == SAMPLE_RATE
            files.append(sound)
            have += len(sound)
        assert news["state"]["have"] <= render.made
    assert render.job is not None
    assert render.job.refusal == ""
    assert render.complete
    assert np.array_equal(np.concatenate(files), render.samples())
    frames = np.ceil(50 * span[1]) - np.floor(50 * span[0])
    assert render.made == frames * SAMPLE_RATE / 50
    assert render.channels == 2  # as the reference
    assert 0.001 < np.abs(render.clip().samples).max() <= 1
    for kind in ("wav", "flac"):
        name, data = render.file(kind)
        assert name == f"Chopin-Prelude-op-28-no-7-render-1.{kind}"
        about = read_description(data)
        assert about["seed"] == 3
        assert about["weights"] == shared.engine.weights("fitted")
        assert about["prompt"] == gallery()["goldberg"].name
        assert about["notes"] == session.performance.digest
        assert about["span_sec"] == [round(v, 3) for v in span]

    again = renders.begin(shared, session, request(session, span=span), tmp_path)
    wait(again)
    assert np.array_equal(again.samples(), render.samples()), "the same seed, the same sound"


def test_cancelling_stops_within_a_second_and_keeps_what_is_there(
    shared: SharedEngine, session: Session, tmp_path: Path
) -> None:
    renders = Renders()
    render = renders.begin(shared, session, request(session), tmp_path)
    render.wait(0, 60)
    assert render.made > 0
    assert render.job is not None
    render.job.stop("visitor")
    began_at = time.monotonic()
    with shared.renderer.turn(lambda share: None):  # free again as soon as the computing has ended
        assert time.monotonic() - began_at < 5  # a second on an idle machine
    made = render.made
    assert render.over
    assert not render.complete
    assert render.file("wav")[1]
    time.sleep(0.3)
    assert render.made == made


def test_only_the_last_renders_are_kept(shared: SharedEngine, session: Session, tmp_path: Path) -> None:
    renders = Renders()
    for _ in range(KEPT_RENDERS + 1):
        last = renders.begin(shared, session, request(session, span=(0.0, 1.0)), tmp_path)
    assert renders.numbered(1) is None
    assert renders.numbered(KEPT_RENDERS + 1) is last
    assert renders.numbered("1") is None
    first = renders.numbered(2)
    assert first is not None
    assert first.job is not None
    assert first.job.stopped == "overtaken" or first.complete
    wait(last)
    assert not list(tmp_path.glob("render-1*"))
    renders.close()


def test_nothing_to_render(shared: SharedEngine, tmp_path: Path, session: Session) -> None:
    with pytest.raises(BadInput, match="No score is open"):
        Renders().begin(shared, Session(), request(session), tmp_path)
    none = actions.edit([], list(range(1, len(session.performance) + 1)), False)(session)
    with pytest.raises(BadInput, match="deleted"):
        Renders().begin(shared, none, request(none), tmp_path)


def test_what_a_render_is_compared_with(shared: SharedEngine, session: Session, tmp_path: Path) -> None:
    render = Renders().begin(shared, session, request(session, span=(0.0, 1.0)), tmp_path)
    assert compared(shared, render, "prompt", "grand") is gallery()["goldberg"].clip
    preview = compared(shared, render, "preview", "player")
    assert preview.duration_sec >= session.performance.end_sec
    with pytest.raises(BadInput, match="human performance"):
        compared(shared, render, "human", "grand")
    wait(render)


def test_the_human_performance_has_the_same_musical_moments(shared: SharedEngine) -> None:
    example = EXAMPLES[FIRST]
    from engine.untrusted.scores import open_performance

    score = shared.read_example(example)
    session = actions.open_piece(shared, Session(), score, FIRST, Controls(), FIRST)
    assert human_grid(session) is None
    human = open_performance(example.human_bytes(), example.human)
    session = actions.set_reference(shared, session, human, "Shi")(session)
    grid = human_grid(session)
    assert grid is not None
    assert session.reference is not None
    found = session.reference.alignment
    off = grid.sec_at(score.onset_quarter[found.score_index]) - human.onset_sec[found.performance_index]
    assert np.median(np.abs(off)) < 0.03
    assert (np.diff(grid.sec) > 0).all()


def test_bars_as_seconds(session: Session) -> None:
    assert session.score is not None
    assert session.grid is not None
    a, b = span_of_bars(session, 2, 3)
    m = session.score.measures
    bar2 = float(session.grid.sec_at(m.onset_quarter[list(m.number).index(2)]))
    bar4 = float(session.grid.sec_at(m.onset_quarter[list(m.number).index(4)]))
    assert a == pytest.approx(bar2 - 0.1)
    assert b == pytest.approx(bar4)
    with pytest.raises(BadInput, match="not in this piece"):
        span_of_bars(session, 3, 2)
    with pytest.raises(BadInput, match="its bars are"):
        span_of_bars(session, 1, 4000)


def test_the_panel_is_checked(shared: SharedEngine, session: Session, tmp_path: Path) -> None:
    document = Document()
    document.update(lambda now: session)
    prompt = gallery()["goldberg"]
    settings = (False, PARTS[0], 1, 8, 1.0, 0, "product")
    assert as_request(document, prompt, settings, shared.profiles).span == (0.0, None)
    bars = as_request(document, prompt, (False, PARTS[1], 1, 2, 0.5, 9, "product"), shared.profiles)
    assert bars.part == "bars 1 to 2"
    assert (bars.seed, bars.temperature) == (9, 0.5)
    for place, value in ((1, "all"), (4, 7), (4, None), (5, -1), (6, "magic"), (5, "x")):
        odd = [*settings]
        odd[place] = value
        with pytest.raises(BadInput):
            as_request(document, prompt, tuple(odd), shared.profiles)

    assert as_prompt(("goldberg", None, 0, 6, "")) is prompt
    with pytest.raises(BadInput, match="no such reference"):
        as_prompt(("nobody", None, 0, 6, ""))
    with pytest.raises(BadInput, match="no recording yet"):
        as_prompt((OWN, None, 0, 6, ""))
    mine = tmp_path / "mine.wav"
    mine.write_bytes(encode_audio(AudioClip(prompt.clip.samples[: 5 * PROMPT_RATE], PROMPT_RATE)))
    own = as_prompt((OWN, str(mine), 1, 3, ""))
    assert own.clip.duration_sec == pytest.approx(3)
    assert own.notes is None
    assert own.name == "mine.wav"


def test_every_prompt_is_credited() -> None:
    for _, key in prompt_menu():
        assert "<p class='hint'>" in credit_line(key)
    assert "Alciatore" in credit_line("gymnopedie")


def test_render_messages_are_valid_json(shared: SharedEngine, session: Session, tmp_path: Path) -> None:
    renders = Renders()
    render = renders.begin(shared, session, request(session, span=(0.0, 1.0)), tmp_path)
    wait(render)
    value = Listen().postprocess(began(render, renders))
    assert value is not None
    assert value.audio is not None
    assert value.audio.path.endswith("render-1-0.wav")
    news = json.loads(value.news)
    assert news["of"] == "render1"
    assert news["state"]["over"] is True
    assert news["begun"]["prompt"] == gallery()["goldberg"].name
    assert len(news["begun"]["grid"][0]) == len(news["begun"]["grid"][1])
