"""Forty visitors at once who never rest: open, slider, sound, edit, compose, render. How long each act takes, whether
everybody gets a turn, and what a visit costs in memory. A short form for every run, the full count for `make soak`.
"""

from __future__ import annotations

import random
import time
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median

import pytest

from studio.gradio_compat.session_memory import FORGET_SEC
from studio.service.admission import CROWDED
from studio.state.examples import EXAMPLES
from tests.helpers.clients import Client, Server, percentile, resident, running
from tests.helpers.soak_report import Reporter
from tests.reliability.test_load import SHORT, outcome, short_render

ACTS = ("open", "slider", "sound", "edit", "compose", "render")
SLIDERS = ("axis-tempo", "axis-loudness")
CROWD_SEC = 300.0  # of the full test


@dataclass
class Visit:
    """Record of one visitor: seconds of each act, and errors."""

    client: Client
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    crowded: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def acts(self) -> int:
        return sum(map(len, self.seconds.values()))


def act(visit: Visit, kind: str, draw: random.Random) -> str:
    """Do one act and wait for its end; returns the refusal, "" if none."""
    client = visit.client
    if kind == "open":
        client.open(draw.choice(list(EXAMPLES)))
    elif kind == "slider":
        slider = draw.choice(SLIDERS)
        values = {slider.replace("-", "_"): round(draw.uniform(-2, 2), 2)}
        return client.refusal(client.call(slider, "release", **values), 600)
    elif kind == "sound":
        client.finish(client.call("roll", "settle", {}), 600)
    elif kind == "edit":
        note = client.roll["notes"][0]
        client.edit(1, [[note[0], 40 + draw.randrange(40), *note[2:]]])
    elif kind == "compose":
        return client.refusal(client.call("compose", "click", compose_length=32, compose_takes=1), 600)
    elif kind == "render":
        said = outcome(client, short_render(client), 600)[0]
        return "" if said == "sound" else said
    return ""


def stay(visit: Visit, seed: int, until: float, rounds: int) -> None:
    """Repeat the acts `rounds` times, or until the time is over."""
    draw = random.Random(seed)
    for _ in range(rounds):
        for kind in ACTS:
            if time.monotonic() > until:
                return
            began = time.monotonic()
            try:
                refused = act(visit, kind, draw)
            except Exception as problem:  # an error of the server is counted; the visitor continues
                visit.failed.append(f"{kind}: {type(problem).__name__}: {problem}")
                continue
            if refused == CROWDED:
                visit.crowded += 1
            elif refused:
                visit.failed.append(f"{kind}: {refused}")
            else:
                visit.seconds[kind].append(time.monotonic() - began)


def crowd(server: Server, count: int, seconds: float, rounds: int = 10_000) -> list[Visit]:
    visits = [Visit(Client(server.url)) for _ in range(count)]
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda k: stay(visits[k], k, until, rounds), range(count)))
    return visits


def in_words(visits: list[Visit]) -> str:
    """Median, 95th percentile and maximum of each act, seconds."""
    every = {kind: [s for visit in visits for s in visit.seconds[kind]] for kind in ACTS}
    return "; ".join(
        f"{kind} {percentile(found, 0.5):.1f}, {percentile(found, 0.95):.1f}, {max(found):.1f} s ({len(found)})"
        for kind, found in every.items()
        if found
    )


def memory_of_visits(server: Server, count: int) -> tuple[float, float]:
    """Megabytes that a visit adds to the server, and the remainder a minute after its page is closed."""

    pages: list = []
    names = list(EXAMPLES)

    def come(keep: list[Client]) -> None:
        client, k = Client(server.url), len(pages)
        page = urllib.request.urlopen(f"{server.url}gradio_api/heartbeat/{client.session}", timeout=60)
        page.read(5)
        client.open(names[k % len(names)])
        client.finish(client.call("axis-tempo", "release", axis_tempo=k / 20))
        client.finish(client.call("roll", "settle", {}))
        pages.append(page)
        keep.append(client)

    for _ in names:  # the first visits load models and are not counted
        come([])
    before, here = resident(server.pid), list[Client]()
    for _ in range(count):
        come(here)
    full = resident(server.pid)
    for page in pages:
        page.close()
    time.sleep(FORGET_SEC + 15)
    return (full - before) / count, (resident(server.pid) - before) / count


def test_three_visitors_at_once_are_served_with_everything() -> None:
    with running() as server:
        visits = crowd(server, 3, 500, rounds=1)
    assert [(visit.failed, visit.crowded, visit.acts) for visit in visits] == [([], 0, len(ACTS))] * 3


@pytest.mark.soak
def test_forty_visitors(soak_report: Reporter) -> None:
    with running() as server:
        Client(server.url).open(SHORT)  # the models are loaded
        visits = crowd(server, 40, CROWD_SEC)
        slider = [s for visit in visits for s in visit.seconds["slider"]]
        acts = sorted(visit.acts for visit in visits)
        failed = [why for visit in visits for why in visit.failed]
        p50, p95 = percentile(slider, 0.5), percentile(slider, 0.95)
        soak_report(
            31, f"40 visitors for {CROWD_SEC:.0f} s: open, slider, sound, edit, compose, render, and again",
            asked="slider p50 ≤ 8 s, p95 ≤ 20 s; nobody under half the median of acts; 0 failed",
            found=f"p50, p95, most: {in_words(visits)}; acts of a visitor {acts[0]} to {acts[-1]}, median "
            f"{median(acts):.0f}; {sum(v.crowded for v in visits)} told that too many wait; failed: {failed[:3] or 0}",
            passed=p50 <= 8 and p95 <= 20 and acts[0] >= median(acts) / 2 and not failed,
        )  # fmt: skip


@pytest.mark.soak
def test_the_memory_of_a_visit(soak_report: Reporter) -> None:
    with running() as server:
        added, left = memory_of_visits(server, 30)
    soak_report(
        32, "30 visits: a piece, a slider, its sound; then their pages are closed",
        asked="at most 5 MB a visit in the server, given back within a minute",
        found=f"{added:.1f} MB a visit; {left:.1f} MB of each left after {FORGET_SEC + 15:.0f} s",
        passed=added <= 5 and left <= 1,
    )  # fmt: skip
