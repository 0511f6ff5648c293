"""The Engine on real pieces: seeds, threads, notes that stay, styles that are refused, cancelling."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from engine import engine as engine_module
from engine.cache import KeyedCache
from engine.checkpoints.bundle import BundleError
from engine.engine import Engine
from engine.music.io.alignment import read_match
from engine.music.io.read_musicxml import read_musicxml_file
from engine.music.types import Alignment, BadInput, Performance, Score, Strength, Style
from engine.requests import PerformRequest

DATA = Path(__file__).parents[1] / "data"
PRELUDE = DATA / "bach_prelude_868_GonzalezJ05M.match"
FUGUE = DATA / "bach_fugue_846_Shi05M.match"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load()


@pytest.fixture(scope="module")
def human() -> tuple[Score, Performance, Alignment]:
    """A prelude of Bach as a pianist played it."""
    return read_match(PRELUDE)


@pytest.fixture(scope="module")
def score(human) -> Score:
    return human[0]


@pytest.fixture(scope="module")
def played(engine, score) -> Performance:
    return engine.perform(PerformRequest(score, engine.style(seed=3)))


def assert_same(a: Performance, b: Performance) -> None:
    """Equal to the last bit, in every field."""
    for f in fields(Performance):
        np.testing.assert_array_equal(getattr(a, f.name), getattr(b, f.name), err_msg=f.name)


def test_one_note_for_each_written_note(score, played):
    np.testing.assert_array_equal(played.pitch, score.pitch)
    assert played.onset_sec.min() == 0.0
    assert np.ptp(played.velocity) > 10
    assert len(played.pedal_sec) > 10
    assert np.corrcoef(score.onset_quarter, played.onset_sec)[0, 1] > 0.99  # in the written order, in a tempo


@pytest.mark.parametrize("bpm", [40, 72, 132, 200])
def test_a_printed_tempo_is_kept_in_thin_music(engine, bpm):
    """Twelve bars of quarters in one voice, within 15 % of the mark."""
    score = read_musicxml_file(DATA / "reading" / f"p1-quarter-{bpm}.musicxml")
    played = engine.perform(PerformRequest(score))
    quarters, seconds = np.ptp(score.onset_quarter), np.ptp(played.onset_sec)
    assert 60 * quarters / seconds == pytest.approx(bpm, rel=0.15)


def test_grace_notes_are_struck_as_they_stand(engine):
    score = read_musicxml_file(DATA / "reading" / "g2-descending-graces.musicxml")
    for seed in (0, 3):
        played = engine.perform(PerformRequest(score, Style(seed=seed)))
        order = np.argsort(played.onset_sec, kind="stable")
        assert played.pitch[order].tolist() == [60, 81, 79, 77, 76, 74, 72, 74, 72, 71, 72]
        assert np.diff(played.onset_sec[order]).min() > 0.039


def test_the_seed_decides(engine, score, played):
    assert_same(played, engine.perform(PerformRequest(score, engine.style(seed=3))))
    assert_same(played, Engine.load().perform(PerformRequest(score, engine.style(seed=3))))
    other = engine.perform(PerformRequest(score, engine.style(seed=4)))
    assert (other.onset_sec != played.onset_sec).any()
    assert (other.velocity != played.velocity).any()


def test_two_visitors_at_once_get_what_one_gets(engine, score):
    """On an engine that has loaded nothing yet, with two pieces and two seeds."""
    fresh = Engine.load()
    jobs = [(s, seed) for s in (score, read_match(FUGUE)[0]) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda job: fresh.perform(PerformRequest(job[0], fresh.style(seed=job[1]))), jobs))
    for (piece, seed), performance in zip(jobs, together, strict=True):
        assert_same(performance, engine.perform(PerformRequest(piece, engine.style(seed=seed))))


def test_an_entry_is_computed_once_and_blocks_no_other():
    cache, begun, go_on, made = KeyedCache(lambda entries: len(entries) > 2), Event(), Event(), []

    def slow():
        made.append("slow")
        begun.set()
        assert go_on.wait(5)
        return 1

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(cache.recall, "a", slow) for _ in range(2)]
        assert begun.wait(5)
        assert cache.recall("b", lambda: 2) == 2, "another entry does not wait"
        go_on.set()
        assert [w.result(5) for w in waiting] == [1, 1]
    assert made == ["slow"]
    cache.recall("c", lambda: 3)
    assert cache.keys() == {"a", "c"}, "the least recently used one is dropped"


def test_as_many_readings_are_kept_as_fit(engine, score, played, monkeypatch):
    other = replace(score, title="another")
    engine._reader(score), engine._reader(other)
    assert {score.digest, other.digest} <= engine._readers.keys()
    monkeypatch.setattr(engine_module, "_NOTES_KEPT", len(score))
    engine._reader(replace(score, title="a third"))
    assert len(engine._readers.keys()) == 1, "the newest stays, however long"


def test_kept_notes_stay_to_the_last_bit(engine, score, played):
    redo = np.zeros(len(score), bool)
    redo[100:140] = True
    again = engine.perform(PerformRequest(score, engine.style(seed=99), keep=played, redo=redo))
    for name in ("onset_sec", "duration_sec", "pitch", "velocity"):
        np.testing.assert_array_equal(getattr(again, name)[~redo], getattr(played, name)[~redo], err_msg=name)
    np.testing.assert_array_equal(again.pedal_sec, played.pedal_sec)
    np.testing.assert_array_equal(again.pedal_value, played.pedal_value)
    np.testing.assert_array_equal(again.pitch, played.pitch)
    assert (again.velocity != played.velocity)[redo].mean() > 0.5
    assert (again.onset_sec != played.onset_sec)[redo].mean() > 0.5
    assert np.abs(again.onset_sec - played.onset_sec)[redo].max() < 1.0  # where the music is, not elsewhere
    assert (again.duration_sec > 0).all()


@pytest.mark.parametrize("which", ["first", "last", "all", "none", "one"])
def test_any_notes_can_be_performed_again(engine, score, played, which):
    redo = {
        "first": np.arange(len(score)) < 10, "last": np.arange(len(score)) >= len(score) - 10,
        "all": np.ones(len(score), bool), "none": np.zeros(len(score), bool), "one": np.arange(len(score)) == 200,
    }[which]  # fmt: skip
    again = engine.perform(PerformRequest(score, engine.style(seed=5), keep=played, redo=redo))
    if which == "none":
        assert_same(again, played)
    np.testing.assert_array_equal(again.onset_sec[~redo], played.onset_sec[~redo])
    assert (again.onset_sec >= 0).all()
    assert 0.5 < again.end_sec / played.end_sec < 1.5


def test_a_kept_performance_must_fit(engine, score, played):
    other = read_match(FUGUE)[0]
    with pytest.raises(BadInput, match="render the whole piece first"):
        engine.perform(PerformRequest(other, engine.style(), keep=played, redo=np.ones(len(other), bool)))
    with pytest.raises(ValueError, match="go together"):
        engine.perform(PerformRequest(score, engine.style(), keep=played))


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"z_axes": (0.0,) * 10}, "up to 9 axis values"),
        ({"base": (0.0, 1.0)}, "on a base of 16; 0 and 2 arrived"),
        ({"z_axes": (float("nan"),)}, "outside -10 to 10"),
        ({"base": (float("inf"),) * 16}, "outside -10 to 10"),
        ({"z_axes": (100.0,)}, "outside -10 to 10"),
        ({"seed": -1}, "from 0"),
    ],
)
def test_styles_that_cannot_be_are_refused(engine, arguments, says):
    with pytest.raises(BadInput, match=says):
        engine.style(**arguments)


def test_a_style_of_another_pianist_is_refused(engine, score):
    with pytest.raises(BadInput, match="has 3 values"):
        engine.perform(PerformRequest(score, Style(z=(0.0, 1.0, 2.0))))


def test_no_style_is_the_default_style(engine, score, played):
    assert_same(engine.perform(PerformRequest(score, Style(seed=3))), played)
    assert_same(engine.perform(PerformRequest(score, engine.style(base=engine.presets["Default"], seed=3))), played)


def test_strength_zero_is_deadpan(engine, score):
    dead = engine.perform(PerformRequest(score, engine.style(strength=Strength(0, 0, 0, 0, 0))))
    slope, start = np.polyfit(score.onset_quarter, dead.onset_sec, 1)
    np.testing.assert_allclose(dead.onset_sec, start + slope * score.onset_quarter, atol=1e-6)
    assert np.ptp(dead.velocity) == 0
    assert not dead.pedal_value.any()


def test_presets_and_what_lies_between(engine, score):
    presets = engine.presets
    size = len(presets["Default"])
    assert len(presets) >= 3
    for name, z in presets.items():
        assert len(z) == size, name
        assert np.isfinite(z).all(), name
    assert not any(presets["Default"])
    one, two = list(presets)[1:3]
    base = np.mean([presets[one], presets[two]], axis=0)
    styles = [engine.style(base=z, seed=1) for z in (presets[one], presets[two], base)]
    first, second, between = (engine.perform(PerformRequest(score, style)) for style in styles)
    np.testing.assert_array_equal(between.pitch, score.pitch)
    for end in (first, second):
        assert (between.velocity != end.velocity).any()


def test_the_style_of_a_performance(engine, human):
    score, performance, alignment = human
    z, aligned = engine.style_from(score, performance), engine.style_from(score, performance, alignment)
    assert len(z) == len(aligned) == len(engine.presets["Default"])
    assert np.isfinite(z).all()
    np.testing.assert_allclose(z, aligned, atol=0.5)  # found by the aligner, or given
    assert len(engine.perform(PerformRequest(score, engine.style(base=z)))) == len(score)


def test_the_style_of_another_piece_is_refused(engine, score):
    with pytest.raises(BadInput, match="performance of the same piece"):
        engine.style_from(score, read_match(FUGUE)[1])


class Cancelled(Exception):
    """Raised by a visitor who has moved on."""


def test_a_rendering_can_be_cancelled(engine, score, played):
    shares: list[float] = []

    def step(share: float) -> None:
        shares.append(share)
        if share >= 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        engine.perform(PerformRequest(score, engine.style(seed=3)), progress=step)
    assert 0 < shares[-1] < 1
    assert shares == sorted(shares)
    assert_same(engine.perform(PerformRequest(score, engine.style(seed=3)), progress=shares.append), played)
    assert shares[-1] == 1


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"pianist-v1 lacks config\.json"):
        _ = Engine.load(tmp_path).presets
