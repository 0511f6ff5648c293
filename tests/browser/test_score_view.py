"""The engraved score in the studio: pages on demand, highlighted notes, selection of notes and bars."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from engine.music.types import Marks, Measures, Score
from engine.untrusted.engrave import engrave
from engine.untrusted.scores import open_score
from studio.widgets.score.score import about_score, note_names, score_address, score_pages, score_refusal, score_wait
from tests.helpers.pages import PATIENCE_SEC, SHORT, Visitor, visit

PRELUDE = Path(__file__).parents[2] / "examples" / "chopin-prelude-op-28-7.krn"


def a_tie() -> Score:
    """Two bars of 4/4: C sharp on the fourth beat for two quarters, tied over the barline; then B flat."""
    bars = Measures([0, 4], [4, 4], [0, 0], [4, 4], [4, 4], [0, 0], [7, 8])
    return Score([3, 5], [2, 1], [61, 70], [7, -2], [1, 1], [1, 1], [False, False], Marks.none(2), bars)


def test_messages_to_the_score_view() -> None:
    score = a_tie()
    made = engrave(score)
    told = score_pages(3, score, made, 0)
    assert (told["doc"], told["digest"], told["width"], told["page"]) == (3, score.digest, 1100, 0)
    assert told["svg"].startswith("<svg")
    about = json.loads(told["about"])
    assert about["names"] == ["C♯4", "B♭4"] == note_names(score)
    assert about["onsets"] == [3, 5]
    assert about["barlines"] == [0, 4, 8]
    assert about["numbers"] == [7, 8]
    assert about["bar_page"] == [0, 0]
    assert about["ties"] == {"0": [4]}
    assert about["sizes"][0][0] == 1100
    assert json.loads(about_score(score, made)) == about
    assert score_pages(3, score, made, 99)["page"] == 0  # the last there is
    assert score_wait(3, "x")["wait"]
    assert score_refusal(3, "x", "No.")["refusal"] == "No."
    assert score_address(3, "x")["at"] != score_address(3, "x")["at"]


@pytest.fixture(scope="module")
def reader(browser: Browser, address: str) -> Iterator[Visitor]:
    """A visitor with a short piece and its engraved page open."""
    visitor = visit(browser, address)
    visitor.open(SHORT)
    visitor.page.locator("#score-box button").first.click()
    paper(visitor, f"+d.notes === {len(prelude())}", 60)
    visitor.page.locator("#score .paper").scroll_into_view_if_needed()
    yield visitor
    assert visitor.errors == []
    assert visitor.outside == []
    visitor.page.context.close()


@cache
def prelude() -> Score:
    return open_score(PRELUDE.read_bytes(), PRELUDE.name)


def paper(visitor: Visitor, script: str, seconds: float = PATIENCE_SEC) -> None:
    """Wait until an expression over `d`, the paper's data attributes, is true."""
    visitor.page.wait_for_function(
        f"() => {{ const d = document.querySelector('#score .paper')?.dataset; return d && ({script}); }}",
        timeout=1000 * seconds,
    )


def click_bar(visitor: Visitor, bar: int) -> None:
    """Between the staves of a bar, at its end, where no note stands."""
    x, y = visitor.page.evaluate(
        """bar => {
            const lines = [...document.querySelectorAll(`#score #bar-${bar} g.staff > path`)];
            const boxes = lines.map(p => p.getBoundingClientRect());
            const top = Math.min(...boxes.map(r => r.top)), bottom = Math.max(...boxes.map(r => r.bottom));
            return [Math.max(...boxes.map(r => r.right)) - 3, (top + bottom) / 2];
        }""",
        bar,
    )
    visitor.page.mouse.click(x, y)


def told(visitor: Visitor) -> str:
    return visitor.page.locator("#score .told").inner_text()


def test_notes_and_bars_are_chosen_with_the_roll(reader: Visitor) -> None:
    score, m = prelude(), prelude().measures
    head = reader.page.locator("#score #note-5 .notehead").bounding_box()
    assert head
    reader.page.mouse.click(head["x"] + head["width"] / 2, head["y"] + head["height"] / 2)
    reader.wait("d.selected === '1'")
    assert told(reader).startswith(note_names(score)[5])
    click_bar(reader, 1)
    inside = (score.onset_quarter >= m.onset_quarter[1] - 1e-6) & (score.onset_quarter < m.onset_quarter[2] - 1e-6)
    reader.wait(f"d.selected === '{inside.sum()}'")
    assert told(reader) == f"Bar {m.number[1]}, {inside.sum()} notes"
    reader.page.keyboard.down("Shift")
    click_bar(reader, 2)
    reader.page.keyboard.up("Shift")
    assert told(reader).startswith(f"Bars {m.number[1]} to {m.number[2]}, ")
    assert reader.page.locator("#score .box.bar").count() == 2
    reader.canvas.focus()
    reader.page.keyboard.press("Control+a")
    paper(reader, f"+d.picked === {len(score)}")


def test_the_keyboard_reaches_every_note_and_plays_from_there(reader: Visitor) -> None:
    score = prelude()
    reader.page.locator("#score .paper").focus()
    reader.page.keyboard.press("Home")
    assert told(reader).startswith(note_names(score)[0])
    reader.page.keyboard.press("ArrowRight")
    second = int((score.onset_quarter > score.onset_quarter[0]).argmax())
    assert told(reader).startswith(note_names(score)[second])
    reader.page.keyboard.press("ArrowUp")
    assert told(reader).startswith(note_names(score)[second + 1])
    for _ in range(3):
        reader.page.keyboard.press("PageDown")
    bar = int(told(reader).split(",")[0].removeprefix("Bar "))
    reader.page.keyboard.press("Enter")
    paper(reader, f"+d.bar === {score.measures.number.tolist().index(bar)}")
    assert reader.page.locator("#score .box.now").count() == 1
    assert not reader.page.locator("#roll .clock").inner_text().startswith("0:00.0")
    reader.page.keyboard.press("Escape")
    assert reader.page.locator("#score g.picked").count() == 0


def test_sounding_notes_are_lit(reader: Visitor) -> None:
    reader.wait_for_sound()
    reader.page.locator("#roll .play").click()
    reader.page.wait_for_function("() => document.querySelectorAll('#score g.note.lit').length > 1")
    reader.page.locator("#roll .stop").click()
    reader.page.wait_for_function("() => !document.querySelector('#score g.note.lit')")


def test_another_piece_takes_the_place_of_the_first(reader: Visitor) -> None:
    reader.open("Bach, Prelude in C, BWV 846")
    paper(reader, f"+d.notes > {len(prelude())}", 60)
    assert reader.page.locator("#score .pages.old").count() == 0
    assert reader.page.locator("#score g.picked").count() == 0


def test_a_phone_in_the_dark(browser: Browser, address: str) -> None:
    visitor = visit(browser, address, viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = visitor.page
    page.locator("#score-box button").first.click()
    paper(visitor, "+d.notes > 100", 60)
    assert page.evaluate("document.querySelector('#score .page > svg').viewBox.baseVal.width") == 360
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ink = page.evaluate("getComputedStyle(document.querySelector('#score g.notehead')).fill")
    assert min(int(v) for v in ink.removeprefix("rgb(").rstrip(")").split(",")[:3]) > 180
    assert visitor.errors == []
    page.context.close()
