"""Renders of a piece with a prompt's sound, made and streamed part by part, and compared. No Gradio here. A `Render`
keeps the notes that it was begun with; later edits do not change it.
"""

from __future__ import annotations

import io
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from engine.files import put
from engine.limits import KEPT_RENDERS
from engine.music.expression import group_median
from engine.music.types import Alignment, AudioClip, BadInput, Performance, Score
from engine.progress import ProgressCallback, no_progress
from engine.render.provenance import describe_render
from engine.requests import RenderRequest
from engine.sound.clip import encode_audio, to_int16
from engine.sound.recording import StreamResampler, resample
from studio.actions import editing as actions
from studio.service.jobs import Job, Jobs
from studio.service.shared_engine import SharedEngine
from studio.state.session import Grid, Reference, Session

PART_SEC = 20.0  # longest part that one answer returns
SAMPLE_RATE = 48000  # Hz of every render on the page, whatever its profile
COMPARED = ("preview", "human", "prompt")
MIN_SPAN_SEC = 0.5


class Render:
    """One render. A job appends to its sound while the page reads it; the samples are in a file of the visitor's
    folder."""

    def __init__(self, number: int, session: Session, request: RenderRequest, folder: Path, weights: str) -> None:
        assert session.grid is not None
        self.number, self.request, self.weights = number, request, weights
        self.title, self.doc, self.family, self.grid = session.title, session.doc, session.family, session.grid
        self.performance: Performance = request.performance
        self.alignment: Alignment = session.alignment
        self.reference: Reference | None = session.reference
        self.human_grid = human_grid(session)
        self.folder = folder
        self.made, self.share = 0, 0.0  # samples per channel so far; share of the work, 0 to 1
        self.channels = 1
        self._rate: StreamResampler | None = None  # resamples each part to SAMPLE_RATE
        self.total = _expected(self.performance, request.span)
        self.job: Job | None = None
        self.filled, self.made_as = False, ""  # whether it came with a project; its description in exported files
        self.outdated = False  # the notes had changed before it was complete
        self._begun: float | None = None
        self._more = threading.Condition()
        self._file = folder / f"render-{number}.pcm"
        self._file.write_bytes(b"")

    @property
    def over(self) -> bool:
        """Whether it is finished, refused or stopped."""
        return self.job is not None and self.job.over

    @property
    def seconds(self) -> float:
        """Length of the sound so far."""
        return self.made / SAMPLE_RATE

    @property
    def complete(self) -> bool:
        """Whether all of it is done."""
        return self.job is not None and self.job.show is not None

    def step(self, share: float) -> None:
        """Progress callback of the renderer. Raises Cancelled if the render was removed."""
        assert self.job is not None
        self.share = max(self.share, min(1.0, share))
        if share > 0 and self._begun is None:
            self._begun = time.monotonic()
        self.job.step(self.share)

    def add(self, clip: AudioClip) -> None:
        """Append the next part of the sound."""
        if self._rate is None:
            self.channels = clip.channels
            self._rate = StreamResampler(clip.sample_rate, SAMPLE_RATE, clip.channels)
        self._write(self._rate.push(clip.samples))

    def _write(self, samples: NDArray[np.float32]) -> None:
        try:
            with self._file.open("r+b") as file:
                file.seek(0, os.SEEK_END)
                file.write(to_int16(AudioClip(samples, SAMPLE_RATE)).tobytes())
        except FileNotFoundError:  # the render was removed during its last part
            return
        except OSError:
            os.truncate(self._file, 2 * self.channels * self.made)
            raise
        with self._more:
            self.made += len(samples)
            self._more.notify_all()

    def finish(self) -> None:
        """Mark the sound as complete."""
        if self._rate is not None:
            self._write(self._rate.finish())
        with self._more:
            self.total = self.made
            self._more.notify_all()

    def wait(self, have: int, seconds: float) -> None:
        """Wait until there are more than `have` samples, the render is over, or the time is up; keeps the job alive."""
        until = time.monotonic() + seconds
        with self._more:
            while self.made <= have and not self.over and time.monotonic() < until:
                self._more.wait(0.05)
        if self.job is not None:
            self.job.wait(0)

    def samples(self, first: int = 0, count: int | None = None) -> NDArray[np.int16]:
        """The sound from sample `first` on, (n,) or (n, 2) int16."""
        size = self.made - first if count is None else min(count, self.made - first)
        with self._file.open("rb") as file:
            file.seek(2 * self.channels * first)
            found = np.frombuffer(file.read(2 * self.channels * max(0, size)), np.int16)
        return found if self.channels == 1 else found.reshape(-1, self.channels)

    def part(self, have: int) -> Path | None:
        """A sound file of the samples after the first `have`; None if there are none yet."""
        samples = self.samples(have, round(PART_SEC * SAMPLE_RATE)) if 0 <= have < self.made else np.zeros(0, np.int16)
        if not len(samples):
            return None
        path = self.folder / f"render-{self.number}-{have}.wav"
        sound = io.BytesIO()
        soundfile.write(sound, samples, SAMPLE_RATE, "PCM_16", format="WAV")
        put(path, sound.getvalue())
        return path

    def left_sec(self) -> float | None:
        """Estimated seconds of work left, from the work done so far; None while unknown."""
        share = max(self.share, self.made / max(1, self.total))
        if self._begun is None or share < 0.02 or self.over:
            return None
        return (time.monotonic() - self._begun) * (1 - share) / share

    def clip(self) -> AudioClip:
        """The sound so far."""
        return AudioClip(self.samples().astype(np.float32) / 32767, SAMPLE_RATE)

    def file(self, kind: str) -> tuple[str, bytes]:
        """The sound as a file that holds a description of its settings. kind: wav or flac."""
        if not self.made:
            raise BadInput("This render has no sound yet, so there is nothing to save; wait a moment.")
        name, known = f"{actions.safe_name(self.title)}-render-{self.number}.{kind}", self.folder / self._flac
        if kind == "flac" and self.over and known.exists():
            return name, known.read_bytes()
        comment = self.made_as or describe_render(self.request, self.weights, piece=self.title)
        data = encode_audio(self.clip(), kind, comment)
        if kind == "flac" and self.over:
            put(known, data)
        return name, data

    @property
    def _flac(self) -> str:
        return f"render-{self.number}.flac"

    def fill(self, flac: bytes, made_as: str) -> None:
        """Fill the render from a project's FLAC and its description."""
        samples, rate = soundfile.read(io.BytesIO(flac), dtype="int16")
        if rate != SAMPLE_RATE:  # from a project older than this rate
            sound = resample(samples.astype(np.float32) / 32767, rate, SAMPLE_RATE)
            samples = to_int16(AudioClip(sound, SAMPLE_RATE))
        put(self._file, samples.tobytes())
        put(self.folder / self._flac, flac)
        self.channels = 1 if samples.ndim == 1 else samples.shape[1]
        self.made = self.total = len(samples)
        self.share, self.filled, self.made_as = 1.0, True, made_as

    def remove(self) -> None:
        """Delete the sound."""
        for path in (self._file, self.folder / self._flac, *self.folder.glob(f"render-{self.number}-*.wav")):
            path.unlink(missing_ok=True)


class Renders:
    """A visitor's latest renders, and the jobs that make and compare them."""

    def __init__(self, visitor: object = None) -> None:
        self.jobs = Jobs(visitor)
        self._lock, self._number = threading.Lock(), 0
        self._kept: OrderedDict[int, Render] = OrderedDict()

    @property
    def latest(self) -> int:
        """The number of the newest render, 0 for none."""
        return self._number

    def numbered(self, number: object) -> Render | None:
        """The render of this number, or None if it was dropped."""
        with self._lock:
            return self._kept.get(number) if type(number) is int else None

    @property
    def kept(self) -> tuple[Render, ...]:
        """All of them, oldest first."""
        with self._lock:
            return tuple(self._kept.values())

    def replace(self, make: Sequence[Callable[[int], Render]]) -> None:
        """Replace all renders by others, each made for its new number."""
        self.jobs.stop()
        with self._lock:
            for old in self._kept.values():
                old.remove()
            self._kept.clear()
            for one in make:
                self._number += 1
                self._kept[self._number] = one(self._number)

    def begin(self, shared: SharedEngine, session: Session, request: RenderRequest, folder: Path) -> Render:
        """Start a render; the one that is still being made is stopped. Raises BadInput."""
        if session.score is None or session.rendered is None:
            raise BadInput(actions.NOTHING_OPEN)
        if not len(request.performance):
            raise BadInput("Every note has been deleted, so there is nothing to render; undo, or reset the edits.")
        weights = shared.render_weights(request.profile)
        with self._lock:
            self._number += 1
            render = self._kept[self._number] = Render(self._number, session, request, folder, weights)
            while len(self._kept) > KEPT_RENDERS:
                old = self._kept.popitem(last=False)[1]
                old.remove()
        ready = threading.Event()

        def work(job: Job) -> Callable[[], Any]:
            ready.wait(10)
            shared.await_models(job)
            if request.needs_transcription:
                job.begin("Listening to the reference")
                render.request = request.with_prompt_notes(shared.transcribe(request.prompt.clip, job.step))
                job.begin("Rendering")
            for clip in shared.render(render.request, render.step):
                render.add(clip)
                render.step(render.made / max(1, render.total))
            render.finish()
            return lambda: None

        render.job = self.jobs.start("render", "Rendering", work)
        ready.set()
        return render

    def close(self) -> None:
        """Stop everything, when the visit ends."""
        self.jobs.stop()


def compared(
    shared: SharedEngine, render: Render, which: str, piano: str, step: ProgressCallback = no_progress
) -> AudioClip:
    """Sounds to compare a render with: the same notes or the human performance on a preview piano, or the prompt."""
    if which == "prompt":
        return render.request.prompt.clip
    if which == "preview":
        return shared.preview(render.performance, piano, step)
    if which != "human" or render.reference is None:
        raise BadInput("There is nothing of that kind to compare with; open a human performance first.")
    return shared.preview(render.reference.performance, piano, step)


def human_grid(session: Session) -> Grid | None:
    """Score times mapped to the human performance by the notes that both have; None without one."""
    if session.score is None or session.reference is None:
        return None
    return aligned_grid(session.score, session.reference.performance, session.reference.alignment)


def aligned_grid(score: Score, performance: Performance, alignment: Alignment) -> Grid:
    """Score times mapped to a performance: the median of the notes matched at each onset."""
    quarter, group = np.unique(score.onset_quarter[alignment.score_index], return_inverse=True)
    onset = performance.onset_sec[alignment.performance_index]
    return Grid.through(quarter, group_median(onset, group))


def span_of_bars(session: Session, first: int, last: int) -> tuple[float, float]:
    """Performed seconds of bars, by their printed numbers, both ends included. Raises BadInput."""
    if session.score is None or session.grid is None:
        raise BadInput(actions.NOTHING_OPEN)
    a, b = (float(session.grid.sec_at(quarter)) for quarter in quarters_of_bars(session.score, first, last))
    return max(0.0, a - 0.1), max(a + MIN_SPAN_SEC, b)


def quarters_of_bars(score: Score, first: int, last: int) -> tuple[float, float]:
    """Start and end of bars in quarters, by printed numbers, both ends included. Raises BadInput."""
    m = score.measures
    starts, ends = np.flatnonzero(m.number == first), np.flatnonzero(m.number == last)
    ends = ends[ends >= starts[0]] if len(starts) else ends
    if not len(starts) or not len(ends):
        raise BadInput(
            f"Bars {first} to {last} are not in this piece; its bars are {m.number.min()} to {m.number.max()}, "
            "give the earlier one first."
        )
    return float(m.onset_quarter[starts[0]]), float(m.onset_quarter[ends[0]] + m.duration_quarter[ends[0]])


def _expected(performance: Performance, span: tuple[float, float | None]) -> int:
    """Estimated number of samples of a render of this span."""
    end = performance.end_sec + 2 if span[1] is None else span[1]
    return max(1, math.ceil(50 * (end - span[0])) * (SAMPLE_RATE // 50))
