"""A whole recording through the transcriber: overlapping windows, whose events are joined."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.models.transcriber.intervals import best_intervals
from engine.models.transcriber.network import EVENTS, Transcriber


@dataclass
class Event:
    """A note, or a pedal that is held.

    pitch       MIDI number, or SUSTAIN_PEDAL or SOFT_PEDAL
    start, end  seconds
    velocity    0 to 127
    begins, ends  False where it was already there when its window began, or still there when that ended
    """

    pitch: int
    start: float
    end: float
    velocity: int
    begins: bool = True
    ends: bool = True


@dataclass(frozen=True)
class Windows:
    """How a recording is cut: windows of `length` samples, `step` apart, the first one `lead` samples early."""

    length: int
    step: int
    lead: int
    count: int


def windows_of(model: Transcriber, samples: int, window_sec: float, step_sec: float) -> Windows:
    """The windows of a recording of so many samples at the model's rate."""
    rate, hop = model.config.sample_rate, model.config.hop_length
    lead = math.ceil((window_sec - step_sec) * rate)
    step = math.ceil(step_sec * rate / hop) * hop
    return Windows(math.ceil(window_sec * rate), step, lead, -(-(samples + 2 * lead) // step))


def transcribe_samples(
    model: Transcriber, samples: Tensor, window_sec: float, step_sec: float, before: Callable[[int, int], None]
) -> list[Event]:
    """Notes and pedals of sound (num_samples,) at the model's rate, by (start, end, pitch).

    window_sec, step_sec  seconds: how much is read at a time, and how far the next window lies
    before    called with the window's index and the number of windows before each; what it raises ends the work
    """
    cut, hop = windows_of(model, len(samples), window_sec, step_sec), model.config.hop_length
    padded = F.pad(samples, (cut.lead, cut.lead))
    start = [cut.lead // hop] * len(EVENTS)
    joined: dict[int, list[Event]] = defaultdict(list)
    for window in range(cut.count):
        before(window, cut.count)
        at = window * cut.step
        part = padded[at : at + cut.length]
        events, last = read_window(model, F.pad(part, (0, cut.length - len(part))), start)
        start = [max(frame - cut.step // hop, 0) for frame in last]
        join(joined, events, at / model.config.sample_rate - (window_sec - step_sec))
    for of_pitch in filter(None, joined.values()):
        of_pitch[-1].ends = True  # there is no further window
    return without_overlap([e for of_pitch in joined.values() for e in of_pitch if e.ends])


def read_window(model: Transcriber, samples: Tensor, start: list[int]) -> tuple[list[Event], list[int]]:
    """Events of one window, by (start, end, pitch), seconds from its first sample.

    start    (90,) first frame that counts, of each event
    returns  also, for each event, the last frame that is settled: where the next window goes on
    """
    features = model(samples)
    found = best_intervals(*model.score_intervals(features), start)
    places = [(e, i, j) for e, intervals in enumerate(found) for i, j in intervals]
    settled = [0] * len(EVENTS)
    if not places:
        return [], settled
    e, i, j = torch.tensor(places).T
    velocity, off, within = model.describe(features[e, i], features[e, j])
    frame_sec, last = model.config.hop_length / model.config.sample_rate, round(len(samples) / model.config.hop_length)
    events: list[Event] = []
    free = [0.0] * len(EVENTS)  # seconds: where the event before it ended
    rows = zip(places, velocity.tolist(), off.tolist(), within.tolist(), strict=True)
    for (event, first, final), loudness, (off_begin, off_end), (begins, ends) in rows:
        begin = max((first + off_begin) * frame_sec, free[event])
        free[event] = end = max((final + off_end) * frame_sec, begin + 1e-8)
        made = Event(EVENTS[event], begin, end, loudness, first > 0 or begins, final < last or ends)
        events.append(made)
        if made.ends:
            settled[event] = final
    return sorted(events, key=_in_time), settled


def join(joined: dict[int, list[Event]], events: list[Event], shift_sec: float) -> None:
    """Add a window's events, moved by shift_sec, to those of the windows before it.

    An event that overlaps the one before it takes its place, or lengthens it if it has no beginning of its own.
    """
    for e in events:
        e.start = max(e.start + shift_sec, 0.0)
        e.end = max(e.end + shift_sec, e.start)
        of_pitch = joined[e.pitch]
        if of_pitch and e.start < of_pitch[-1].end:
            if e.begins:
                of_pitch[-1] = e
            else:
                of_pitch[-1].ends, of_pitch[-1].end = e.ends, max(e.end, of_pitch[-1].end)
        elif e.begins:
            of_pitch.append(e)


def without_overlap(events: list[Event]) -> list[Event]:
    """The events in time; one that lasts into the next of its pitch ends there, and what is left of length 0 goes."""
    events, before = sorted(events, key=_in_time), {}
    for e in events:
        if e.pitch in before and before[e.pitch].end > e.start:
            before[e.pitch].end = e.start
        before[e.pitch] = e
    return sorted((e for e in events if e.start < e.end), key=_in_time)


def _in_time(event: Event) -> tuple[float, float, int]:
    return event.start, event.end, event.pitch
