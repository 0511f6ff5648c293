"""The transcriber against the package that it was adapted from, and its dynamic programming against every choice."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from itertools import pairwise, product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soxr
import torch
from safetensors.torch import load_file

from engine.checkpoints.index import CHECKPOINTS, TRANSCRIBER
from engine.models.transcriber.intervals import Interval, best_intervals
from engine.models.transcriber.network import Transcriber
from engine.models.transcriber.transcribing import Event, join, transcribe_samples, without_overlap
from engine.music.types import Performance
from engine.sound.preview import Preview
from training.assets.build_transcriber import converted, published_weights

RATE = 44100


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The network of transkun 2.0.1. It imports torchaudio for its mel filters only, whose values its weights have."""
    torchaudio: Any = ModuleType("torchaudio")
    torchaudio.functional = SimpleNamespace(melscale_fbanks=lambda n_freqs, n_mels, **_: torch.zeros(n_freqs, n_mels))
    monkeypatch.setitem(sys.modules, "torchaudio", torchaudio)
    from transkun import ModelTransformer as package  # type: ignore[reportMissingImports]

    config = package.TransKun.Config()
    settings = Path(package.__file__).parent / "pretrained" / "2.0.conf"
    vars(config).update(json.loads(settings.read_text())["Model"]["config"])
    model = package.TransKun(config)
    model.load_state_dict(published_weights())
    return model.eval()


@pytest.fixture(scope="module")
def ours() -> Transcriber:
    """Our network with the published weights in full precision."""
    model = Transcriber()
    model.load_state_dict(converted(published_weights()))
    return model.eval()


def scale() -> torch.Tensor:
    """1.6 s: four notes and a chord, one note repeated, under the pedal at the end."""
    onset = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 0.9, 0.9, 1.1])
    pitch = np.array([60, 64, 67, 67, 48, 60, 64, 72])
    played = Performance(onset, np.full(8, 0.17), pitch, np.linspace(40, 100, 8), [0.85, 1.5], [127, 0])
    clip = Preview().preview(played)
    return torch.from_numpy(soxr.resample(np.array(clip.samples), clip.sample_rate, RATE)[: int(1.6 * RATE)])


def table(events: list[Any]) -> np.ndarray:
    """(n, 4) pitch, velocity, start, end; in order."""
    return np.array(sorted((e.pitch, e.velocity, e.start, e.end) for e in events))


@torch.inference_mode()
def test_the_same_events_as_the_published_package(published: Any, ours: Transcriber) -> None:
    """Two windows of two seconds, so that events are joined, too."""
    sound = scale()
    wanted = published.transcribe(sound[:, None], stepInSecond=1.5, segmentSizeInSecond=2.0)
    found = transcribe_samples(ours, sound, 2.0, 1.5, lambda window, count: None)
    assert len(wanted) == 4
    np.testing.assert_allclose(table(found), table(wanted), atol=1e-4)


def test_the_checkpoint_is_the_published_weights_in_half_precision() -> None:
    ours, published = load_file(CHECKPOINTS / TRANSCRIBER / "model.safetensors"), converted(published_weights())
    assert ours.keys() == published.keys()
    for name, tensor in published.items():
        assert torch.equal(ours[name].float(), tensor.to(ours[name].dtype).float()), name
    assert ours["band_position.phase.weight"].dtype == torch.float32


def ref_best(score: np.ndarray, alone: np.ndarray, start: int) -> float:
    """The greatest sum over every row of intervals of one key."""
    count = len(alone)

    def best(frame: int) -> float:
        gain = max(alone[frame], 0.0)
        if frame == count - 1:
            return gain
        return gain + max(best(frame + 1), *(score[frame, j] + best(j) for j in range(frame + 1, count)))

    return best(start)


def total(score: np.ndarray, alone: np.ndarray, found: list[Interval]) -> float:
    return sum(alone[i] if i == j else score[i, j] for i, j in found)


def test_the_best_intervals_of_all() -> None:
    rng = np.random.default_rng(0)
    score, alone = rng.normal(0, 1, (12, 7, 7)), rng.normal(0, 1, (12, 7))
    start = rng.integers(0, 4, 12).tolist()
    found = best_intervals(torch.from_numpy(score).float(), torch.from_numpy(alone).float(), start)
    for key, intervals in enumerate(found):
        assert all(start[key] <= i <= j for i, j in intervals)
        assert all(a[1] <= b[0] for a, b in pairwise(intervals))
        wanted = ref_best(score[key], alone[key], start[key])
        assert total(score[key], alone[key], intervals) == pytest.approx(wanted, abs=1e-5)
    assert any(i == j for intervals in found for i, j in intervals)


@pytest.mark.parametrize(("begins", "ends"), product([True, False], repeat=2))
def test_events_of_two_windows_are_joined(begins: bool, ends: bool) -> None:
    """A note of 1 to 2 s; the next window, which begins at 1.5 s, has it from its first frame to 1.0 s (2.5 s)."""
    joined = defaultdict(list, {60: [Event(60, 1.0, 2.0, 70, ends=False)]})
    join(joined, [Event(60, 0.0, 1.0, 80, begins, ends)], 1.5)
    (note,) = joined[60]
    assert (note.start, note.end, note.velocity) == ((1.5, 2.5, 80) if begins else (1.0, 2.5, 70))
    assert note.ends == ends


def test_an_event_without_beginning_is_no_event() -> None:
    joined: dict[int, list[Event]] = defaultdict(list)
    join(joined, [Event(60, 0.0, 1.0, 80, begins=False)], 0.0)
    assert not any(joined.values())


def test_repeated_notes_do_not_overlap() -> None:
    long, short = Event(60, 0.0, 2.0, 80), Event(60, 1.0, 1.5, 70)
    assert [(e.start, e.end) for e in without_overlap([short, Event(60, 1.5, 1.5, 70), long])] == [(0, 1), (1, 1.5)]
