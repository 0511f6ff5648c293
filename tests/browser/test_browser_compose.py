"""Composing on the page: draft notes on the roll, preview and acceptance of takes, infilling."""

from __future__ import annotations

import os
import urllib.request
from collections import Counter

import numpy as np
from playwright.sync_api import Browser

from engine.music.types import Score
from engine.untrusted.scores import open_score
from studio.panels.compose.layout import INTENTS
from tests.helpers.pages import PATIENCE_SEC, SHORT, Visitor, leave_phone, visit_by_phone


def panel(visitor: Visitor) -> None:
    visitor.page.get_by_role("tab", name="Compose").click()
    visitor.page.locator("#compose").wait_for()


def fill(visitor: Visitor, name: str, value: object) -> None:
    visitor.page.locator(f"#{name} input:not([type=range]), #{name} textarea").first.fill(str(value))


def takes(visitor: Visitor) -> int:
    return visitor.page.locator("#takes .take").count()


def write(visitor: Visitor, button: str, seconds: float = PATIENCE_SEC) -> None:
    """Press a button that composes and wait for its takes."""
    last = visitor.page.evaluate(
        "Math.max(0, ...[...document.querySelectorAll('#takes .take')].map(t => +t.dataset.number))"
    )
    visitor.page.locator(f"#{button}").click()
    visitor.page.locator(f"#takes .take[data-number='{last + 1}']").wait_for(timeout=1000 * seconds)
    visitor.page.locator("#roll .busy").wait_for(state="hidden")


def accept(visitor: Visitor, which: int = -1) -> None:
    doc = visitor.data("doc")
    visitor.page.locator("#takes .take").nth(which).locator(".accept").click()
    visitor.wait(f"d.doc !== '{doc}' && +d.count > 0")


def written(visitor: Visitor) -> Score:
    """The score from the server's MusicXML download."""
    name, data = visitor.download("musicxml")
    return open_score(data, name)


def bar_notes(score: Score, bar: int) -> Counter:
    """The notes of one bar: onset in the bar, length, pitch and staff."""
    start = score.measures.onset_quarter[bar]
    end = start + score.measures.duration_quarter[bar]
    inside = (score.onset_quarter >= start - 1e-6) & (score.onset_quarter < end - 1e-6)
    columns = (score.onset_quarter - start, score.duration_quarter, score.pitch, score.staff)
    return Counter(zip(*(c[inside].round(4).tolist() for c in columns), strict=True))


def test_compose_accept_infill_one_bar_undo(visitor: Visitor) -> None:
    first = visitor.data("doc")
    panel(visitor)
    fill(visitor, "compose-length", 6)
    visitor.page.locator("#compose-unit input").click()
    visitor.page.get_by_role("option", name="bars").click()
    fill(visitor, "compose-takes", 2)
    fill(visitor, "compose-seed", 11)
    visitor.page.locator("#compose").click()
    visitor.wait("+d.draft > 0")
    assert visitor.data("doc") == first, "the piece is there until a take is accepted"
    visitor.page.locator("#takes .take").nth(1).wait_for()
    assert takes(visitor) == 2
    assert visitor.page.locator("#takes .take svg path").count() > 2
    accept(visitor, 0)
    composed = visitor.data("doc")
    assert not visitor.page.locator("#roll .shown").is_visible()
    assert visitor.page.locator("#example input").input_value().startswith("Composition in ")
    before, heard = written(visitor), visitor.performance()
    assert len(before) == len(heard) == visitor.count()
    assert len(before.measures) == 6

    fill(visitor, "infill-first", 3)
    fill(visitor, "infill-last", 3)
    fill(visitor, "compose-takes", 1)
    fill(visitor, "compose-seed", 5)
    write(visitor, "infill-bars")
    accept(visitor)
    after = written(visitor)
    assert [bar_notes(after, b) for b in range(6) if b != 2] == [bar_notes(before, b) for b in range(6) if b != 2]
    assert bar_notes(after, 2) != bar_notes(before, 2)
    bar = before.measures.onset_quarter[2], before.measures.onset_quarter[3]
    kept = [s.onset_quarter[(s.onset_quarter < bar[0]) | (s.onset_quarter >= bar[1])] for s in (before, after)]
    assert np.array_equal(*kept)

    visitor.page.locator("#roll .undo").click()
    visitor.wait(f"d.doc === '{composed}'")
    again = visitor.performance()
    for name in ("onset_sec", "duration_sec", "pitch", "velocity", "pedal_sec"):
        assert np.array_equal(getattr(again, name), getattr(heard, name)), f"undo left {name} changed"
    visitor.page.locator("#roll .undo").click()
    visitor.wait(f"d.doc === '{first}'")
    visitor.page.locator("#roll .redo").click()
    visitor.page.wait_for_timeout(400)
    visitor.page.locator("#roll .redo").click()
    visitor.wait(f"d.doc !== '{first}' && d.doc !== '{composed}'")
    assert len(written(visitor)) == len(after)


def test_continue_hear_a_take_and_cancel(visitor: Visitor) -> None:
    visitor.open(SHORT)
    visitor.wait_for_sound()
    before = visitor.performance()
    panel(visitor)
    fill(visitor, "continue-bars", 4)
    fill(visitor, "compose-takes", 1)
    write(visitor, "continue")
    visitor.wait("+d.draft > 0")
    visitor.page.keyboard.press("Escape")
    visitor.wait("+d.draft === 0")
    visitor.page.wait_for_function("+document.querySelector('#takes .strip').dataset.ready > 0")
    assert visitor.data("draft") == "0", "its sound comes after Escape; its notes stay away"
    assert len(visitor.performance()) == len(before), "it is the piece that is taken away"
    assert takes(visitor) == 1, "nor was it continued meanwhile"
    visitor.page.locator("#takes .take .play").click()
    visitor.page.wait_for_function("document.querySelector('#takes audio').currentTime > 0.3")
    source = visitor.page.evaluate("document.querySelector('#takes audio').src")
    assert len(urllib.request.urlopen(source).read()) > 20_000
    assert visitor.page.evaluate("document.querySelector('#roll audio').paused")
    visitor.page.locator("#takes .take .play").click()
    assert visitor.page.evaluate("document.querySelector('#takes audio').paused")
    visitor.page.locator("#takes .take .play").click()
    visitor.wait("+d.draft > 0")
    after = visitor.performance()  # a download of the take that is shown
    assert len(after) > len(before)
    assert np.array_equal(after.onset_sec[: len(before)], before.onset_sec), "the kept notes sound as they did"
    assert np.array_equal(after.velocity[: len(before)], before.velocity)

    doc, count = visitor.data("doc"), takes(visitor)
    fill(visitor, "compose-length", 2000)
    fill(visitor, "compose-takes", 4)
    visitor.page.locator("#compose").click()
    visitor.wait("+d.draft > 20")
    took = visitor.page.evaluate(
        """() => new Promise(done => {
            const busy = document.querySelector('#roll .busy'), pressed = performance.now();
            new MutationObserver(() => busy.hidden && done((performance.now() - pressed) / 1000))
                .observe(busy, { attributes: true });
            document.querySelector('#roll .cancel').click();
        })"""
    )
    busy = os.getloadavg()[0] > 2 * (os.cpu_count() or 1)
    print(f"cancelled after {1000 * took:.0f} ms")
    assert took < (10 if busy else 1), "on a machine that is free, within a second"
    assert visitor.page.locator("#roll .live").inner_text() == "Cancelled; nothing has changed"
    visitor.wait("+d.draft === 0")
    assert (visitor.data("doc"), takes(visitor)) == (doc, count)
    visitor.wait_for_sound()


def test_selection_names_the_bars_and_the_page_shows_the_score(visitor: Visitor) -> None:
    visitor.open(SHORT)
    panel(visitor)
    visitor.page.locator("#score-box button").first.click()
    notes = visitor.page.locator("#score svg g.note")
    notes.first.wait_for()
    visitor.lens("How usual")
    visitor.page.locator("#corpus table").wait_for()
    assert visitor.page.locator("#corpus tbody tr").count() > 8
    visitor.canvas.focus()
    for _ in range(30):
        visitor.page.keyboard.press("n")
    visitor.page.wait_for_function("document.querySelector('#infill-first input').value !== '1'")
    number = int(visitor.page.locator("#infill-first input").input_value())
    assert number == int(visitor.page.locator("#infill-last input").input_value()) > 1
    fill(visitor, "compose-takes", 1)
    before = written(visitor)
    write(visitor, "infill-notes")
    accept(visitor)
    after = written(visitor)
    changed = [b for b in range(len(before.measures)) if bar_notes(after, b) != bar_notes(before, b)]
    assert len(changed) <= 1, "only a selected note may differ"


def test_an_empty_page_is_composed_on_at_once(visitor: Visitor) -> None:
    visitor.page.locator("#score-box button").first.click()
    visitor.page.locator("#score svg g.note").first.wait_for()
    visitor.page.locator("#example input").click()
    visitor.page.get_by_role("option", name="An empty page").click()
    visitor.wait("d.doc === '0' && +d.count === 0")
    visitor.page.wait_for_function("document.querySelectorAll('#score svg').length === 0")
    empty = visitor.page.locator("#roll .empty")
    assert empty.locator("[data-intent]").all_inner_texts() == [i.capitalize() for i in INTENTS]
    panel(visitor)
    visitor.page.locator("#infill-bars").click()
    visitor.page.locator(".toast-body").first.wait_for()
    fill(visitor, "compose-length", 32)
    fill(visitor, "compose-takes", 1)
    visitor.page.locator("#compose").click()
    visitor.wait("+d.count > 0")
    assert empty.is_hidden()
    assert visitor.count() == len(written(visitor))
    visitor.wait_for_sound()
    visitor.page.locator("#roll .undo").click()
    visitor.page.get_by_role("button", name="Back to “").click()  # another piece: it asks
    visitor.wait("+d.count > 500")


def test_phone(browser: Browser, address: str) -> None:
    visitor = visit_by_phone(browser, address)
    page = visitor.page
    assert page.locator("#perform-tab").is_hidden(), "the player first"
    panel(visitor)
    assert page.locator("#roll canvas.roll").evaluate("e => getComputedStyle(e).visibility") == "hidden"
    assert page.locator("#roll .play").is_visible(), "the bar at the bottom stays"
    fill(visitor, "compose-length", 16)
    page.locator("#compose").click()
    page.locator("#takes .take").first.wait_for()  # new takes bring the player back
    assert page.locator("#compose-tab").is_hidden()
    leave_phone(visitor)
