"""The form strip: move, lock and recompose a section; the other bars keep their notes."""

from __future__ import annotations

from pathlib import Path

from tests.browser.test_browser_compose import accept, bar_notes, fill, panel, write, written
from tests.helpers.pages import Visitor

CHECK = (Path(__file__).parent / "accessible.js").read_text()


def strip(visitor: Visitor, form: str) -> None:
    """Wait until the strip shows these sections."""
    visitor.page.locator(f"#form .form[data-form='{form}']").wait_for()


def compose_with_form(visitor: Visitor, letters: str) -> None:
    panel(visitor)
    visitor.page.locator("#compose-meter input").click()
    visitor.page.get_by_role("option", name="2/4", exact=True).click()
    visitor.page.locator("#compose-form input").click()
    visitor.page.get_by_role("option", name="Typed letters").click()
    fill(visitor, "compose-letters", letters)
    fill(visitor, "compose-takes", 1)
    fill(visitor, "compose-seed", 7)
    write(visitor, "compose")
    accept(visitor)


def test_a_section_is_moved_and_the_other_bars_are_untouched(visitor: Visitor) -> None:
    assert not visitor.page.locator("#form .form").is_visible(), "an example has no form"
    compose_with_form(visitor, "A2 B2 A'1")
    strip(visitor, "A B A′")
    sections = visitor.page.locator("#form .sections button")
    assert sections.nth(2).get_attribute("aria-label") == "Section 3 of 3: A with one prime, bar 5"
    assert visitor.page.evaluate(CHECK) == []
    before, first = written(visitor), visitor.data("doc")

    # by keyboard: the arrow keys choose a section, with Alt they move it, and the focus goes along
    sections.first.focus()
    visitor.page.keyboard.press("ArrowRight")
    assert sections.nth(1).get_attribute("aria-pressed") == "true"
    visitor.page.keyboard.press("Alt+ArrowLeft")
    strip(visitor, "B A A′")
    assert visitor.page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Section 1 of 3: B,")
    visitor.wait(f"d.doc !== '{first}'")
    moved = written(visitor)
    assert [bar_notes(moved, b) for b in range(5)] == [bar_notes(before, b) for b in (2, 3, 0, 1, 4)]

    # by mouse: it is dragged back
    sections.first.scroll_into_view_if_needed()
    boxes = [sections.nth(k).bounding_box() for k in range(3)]
    assert all(boxes)
    x, y = boxes[0]["x"] + 15, boxes[0]["y"] + 15
    visitor.drag((x, y), (boxes[1]["x"] + boxes[1]["width"] - 6, y))
    strip(visitor, "A B A′")
    back = written(visitor)
    assert [bar_notes(back, b) for b in range(5)] == [bar_notes(before, b) for b in range(5)]

    # locked, it cannot be changed; unlocked, it is composed again as a take
    sections.nth(1).click()
    lock, again = visitor.page.locator("#form .lock"), visitor.page.locator("#form .recompose")
    lock.click()
    visitor.page.locator("#form .lock[aria-pressed=true]").wait_for()
    assert again.is_disabled()
    assert visitor.page.locator("#form .earlier").is_disabled()
    lock.click()
    visitor.page.locator("#form .lock[aria-pressed=false]").wait_for()
    doc = visitor.data("doc")
    last = visitor.page.locator("#takes .take").count()
    again.click()
    visitor.page.locator("#takes .take").nth(last).wait_for()
    accept(visitor)
    strip(visitor, "A B A′")
    after = written(visitor)
    assert [bar_notes(after, b) for b in (0, 1, 4)] == [bar_notes(before, b) for b in (0, 1, 4)]
    assert [bar_notes(after, b) for b in (2, 3)] != [bar_notes(before, b) for b in (2, 3)]
    visitor.page.locator("#roll .undo").click()
    visitor.wait(f"d.doc === '{doc}'")
    strip(visitor, "A B A′")
    assert visitor.errors == []
