"""The engine in subprocesses: same results as the Engine, recovery from kills."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.engine import Engine
from engine.models.composer.conditions import Conditions
from engine.music.types import AudioClip, BadInput, Performance, Score, Strength
from engine.process.remote_engine import RemoteEngine, open_engine
from engine.process.wire import from_bytes, to_bytes
from engine.progress import Cancelled, ProgressCallback
from engine.requests import ComposeRequest, ContinueRequest, PerformRequest, RenderRequest
from engine.sound.prompts import Prompt, gallery
from studio.service.shared_engine import SharedEngine
from studio.state.examples import EXAMPLES
from studio.state.session import Session
from tests.helpers.soak_report import Reporter

SHORT, LONG = "Chopin, Prélude op. 28 no. 7", "Mozart, Sonata K. 332, i"
ROOT = Path(__file__).parents[3]


def prompt() -> Prompt:
    return gallery()["goldberg"]


# ---- what travels


def test_arguments_are_copied_and_read_only(score: Score) -> None:
    sent = ("done", 3, [score, prompt(), Conditions(composer="Chopin"), Strength(tempo=0.5)], {"redo": np.eye(2)}, None)
    got = from_bytes(to_bytes(sent))
    assert got[2][0].digest == score.digest
    assert got[2][1].digest == prompt().digest
    assert got[2][2:] == sent[2][2:]
    assert not got[2][0].pitch.flags.writeable
    assert np.array_equal(got[3]["redo"], np.eye(2))


def test_code_is_never_unpickled() -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return os.system, ("true",)

    for data in (pickle.dumps(("done", Trap())), pickle.dumps(("done", BadInput)), b"", b"\x80", pickle.dumps([1])):
        with pytest.raises(ValueError, match=r"travel|message"):
            from_bytes(data)


# ---- the same answers


def test_it_answers_as_the_engine_does(engine: RemoteEngine, score: Score) -> None:
    """Test 24, the part within one machine: notes bit for bit, sound to 1e-4."""
    here = Engine.load()
    assert engine.presets == here.presets
    assert (engine.axes, engine.profiles, engine.keys) == (here.axes, here.profiles, here.keys)
    style = engine.style((1.0, -0.5), base=engine.presets["Default"], seed=4)
    assert style == here.style((1.0, -0.5), base=here.presets["Default"], seed=4)
    assert engine.weights() == here.weights()
    shares: list[float] = []
    played = engine.perform(PerformRequest(score, style), progress=shares.append)
    assert played.digest == here.perform(PerformRequest(score, style)).digest
    assert shares[-1] == 1
    redo = np.arange(len(score)) < 5
    assert (
        engine.perform(PerformRequest(score, style, keep=played, redo=redo)).digest
        == here.perform(PerformRequest(score, style, keep=played, redo=redo)).digest
    )
    notes: list[tuple] = []
    composed = engine.compose(ComposeRequest(notes=24, seed=5), on_note=lambda *note: notes.append(note))
    heard: list[tuple] = []
    assert (
        composed[0].digest
        == here.compose(ComposeRequest(notes=24, seed=5), on_note=lambda *note: heard.append(note))[0].digest
    )
    assert notes == heard
    more = engine.compose(ContinueRequest(score, notes=12, seed=2))[0]
    assert more.digest == here.compose(ContinueRequest(score, notes=12, seed=2))[0].digest
    assert (
        engine.perform(PerformRequest(more, keep=played, edited_from=score)).digest
        == here.perform(PerformRequest(more, keep=played, edited_from=score)).digest
    )
    matched = engine.align(score, played)
    assert np.array_equal(matched.performance_index, here.align(score, played).performance_index)
    assert engine.style_from(score, played, matched) == here.style_from(score, played, matched)
    assert close(engine.preview(played), here.preview(played))
    assert close(*(e.render(RenderRequest(played, prompt(), seed=2, span=(0.0, 1.5))) for e in (engine, here)))


def close(a: AudioClip, b: AudioClip) -> bool:
    return len(a.samples) == len(b.samples) and float(np.abs(a.samples - b.samples).max()) < 1e-4


def test_refusals_come_through(engine: RemoteEngine, score: Score, session: Session) -> None:
    with pytest.raises(BadInput, match="temperature"):
        engine.compose(ComposeRequest(notes=8, temperature=9))
    with pytest.raises(BadInput, match="no piano"):
        engine.preview(session.performance, "harpsichord")
    with pytest.raises(BadInput, match="-10 to 10"):
        engine.style((50.0,))
    with pytest.raises(RuntimeError, match="no method"):
        engine.models.call("__init__", limit_sec=5)


def threads(count: int, folder: Path | None = None) -> list[str]:
    """Digests of what a fresh engine with so many threads makes: notes, and rounded sound."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(before, str(count)))
    engine = RemoteEngine()
    try:
        score = SharedEngine(engine).read_example(EXAMPLES[SHORT])
        played = engine.perform(PerformRequest(score, engine.style(seed=11)))
        composed = engine.compose(ComposeRequest(notes=48, seed=6))[0]
        sound = engine.render(RenderRequest(played, prompt(), seed=3, span=(0.0, 4.0)))
        if folder is not None:
            np.save(folder / f"{time.monotonic_ns()}.npy", sound.samples)
        return [played.digest, composed.digest]
    finally:
        engine.close()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.mark.soak
def test_the_same_notes_after_a_restart_and_on_two_threads(tmp_path: Path, soak_report: Reporter) -> None:
    made = [threads(count, tmp_path) for count in (1, 1, 2, 2)]
    sounds = [np.load(path) for path in sorted(tmp_path.glob("*.npy"))]
    off = max(float(np.abs(sound - sounds[0]).max()) for sound in sounds)
    same = all(row == made[0] for row in made)
    soak_report(
        24, "same seed after restarts, on 1 and 2 threads", asked="same notes bit for bit; sound within 1e-4",
        found=f"notes {'the same' if same else 'different'} in 4 starts; sound at most {off:.1e} apart",
        passed=same and off < 1e-4,
    )  # fmt: skip


# ---- cancelling


def stop_at(share: float, begin: Callable[[ProgressCallback], Any]) -> float:
    """Cancel work at a share of it; seconds from the cancel until no more is computed."""
    at = [0.0]

    def step(done: float) -> None:
        if done >= share:
            at[0] = time.monotonic()
            raise Cancelled

    with pytest.raises(Cancelled):
        begin(step)
    return time.monotonic() - at[0]


def works(shared: SharedEngine, score: Score) -> dict[str, tuple[Callable, Callable]]:
    """Three kinds of work to cancel, and a short job of the same kind."""
    engine = shared.engine
    long = shared.read_example(EXAMPLES[LONG])
    performance = Performance(long.onset_quarter, long.duration_quarter, long.pitch, np.full(len(long), 64))

    def compose(step: ProgressCallback) -> None:
        count = [0]

        def on_note(*note: object) -> None:
            count[0] += 1
            step(count[0] / 200)

        engine.compose(ComposeRequest(notes=200, seed=1), on_note=on_note)

    def render(step: ProgressCallback, seconds: float = 12.0) -> None:
        for _ in engine.render_stream(RenderRequest(performance, prompt(), span=(0.0, seconds)), progress=step):
            pass

    return {
        "composing": (compose, lambda: engine.compose(ComposeRequest(notes=8))),
        "playing": (
            lambda step: engine.perform(PerformRequest(long), progress=step),
            lambda: engine.perform(PerformRequest(score)),
        ),
        "rendering": (render, lambda: render(lambda share: None, 0.5)),
    }


def cancels(shared: SharedEngine, score: Score, shares: tuple[float, ...]) -> tuple[float, float]:
    """The slowest stop and the slowest next job, seconds."""
    stops, nexts = [], []
    for long, short in works(shared, score).values():
        short()  # loaded
        for share in shares:
            stops.append(stop_at(share, long))
            began = time.monotonic()
            short()
            nexts.append(time.monotonic() - began)
    return max(stops), max(nexts)


def test_cancelling_stops_the_computing(shared: SharedEngine, score: Score) -> None:
    pid = shared.engine.models.pid  # type: ignore[union-attr]
    stop, _ = cancels(shared, score, (0.1,))
    assert stop < 4  # a second on an idle machine
    assert shared.engine.models.pid == pid, "it obeyed, so it need not be ended"  # type: ignore[union-attr]


@pytest.mark.soak
def test_cancelling_early_midway_and_late(shared: SharedEngine, score: Score, soak_report: Reporter) -> None:
    stop, following = cancels(shared, score, (0.1, 0.5, 0.9))
    soak_report(
        15, "cancel at 10, 50, 90 % of composing, playing, rendering",
        asked="computing stops within 1 s; next job starts within 2 s",
        found=f"stopped after at most {stop:.2f} s; a short next job was done after at most {following:.2f} s",
        passed=stop < 1 and following < 2,
    )  # fmt: skip


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.update({name: before})


@pytest.mark.parametrize("name, value", [("ETUDE_WORKER", "0"), ("SPACES_ZERO_GPU", "true")])
def test_where_it_runs_in_the_server(name: str, value: str) -> None:
    with variable(name, value):
        assert isinstance(open_engine(), Engine)
