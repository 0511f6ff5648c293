"""Accessibility: keyboard, screen reader, phone, zoom, dark mode, blocked autoplay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.helpers.pages import ARGUMENTS, Visitor, executable, visit
from tests.helpers.soak_report import Reporter

HERE = Path(__file__).parent
CHECK, CONTRAST = ((HERE / name).read_text() for name in ("accessible.js", "contrast.js"))
VISIBLE = """() => [...document.querySelectorAll('button,input,select,textarea,canvas[tabindex],[role=tab]')].filter(
    (e) => e.checkVisibility({visibilityProperty: true}) && !e.disabled && e.tabIndex >= 0
    && !e.closest('[aria-hidden=true]') && e.getBoundingClientRect().width > 0)"""
NAME = "(e) => (e.closest('[id]')?.id ?? '') + ' ' + e.outerHTML.slice(0, 90)"
OUTSIDE = """(width) => (VISIBLE)().filter((e) => {
    const box = e.getBoundingClientRect();
    for (let x = e.parentElement; x; x = x.parentElement) {
        if (/auto|scroll/.test(getComputedStyle(x).overflowX)) return false;
    }
    return box.right > width + 1 || box.left < -1;
}).map(NAME)""".replace("VISIBLE", VISIBLE).replace("NAME", NAME)
# of a group of radio buttons only one is in the tab order; a version's tab may be drawn again meanwhile
RADIO = "e.type === 'radio' || e.getAttribute('role') === 'radio'"
LEFT = f"() => [...window.left].filter((e) => e.isConnected && !({RADIO})).map({NAME})"


def open_everything(page: Page) -> None:
    """Open everything that is folded on the shown side."""
    for _ in range(12):
        folded = page.locator("button.label-wrap:not(.open):visible")
        if not folded.count():
            return
        folded.first.evaluate("(fold) => fold.click()")  # at once: what unfolds above still moves
        page.wait_for_timeout(150)


def sides(page: Page) -> Iterator[str]:
    """Yield the name of each side of the panel, shown with everything unfolded."""
    names = [t for t in page.locator("#panel [role=tab], #side [role=tab], [role=tab]").all_inner_texts() if t.strip()]
    for name in dict.fromkeys(names):
        page.get_by_role("tab", name=name, exact=True).first.evaluate("(tab) => tab.click()")
        page.wait_for_timeout(300)
        open_everything(page)
        yield name


def looked_at(visitor: Visitor, script: str) -> list[str]:
    """Faults that a script finds, on every side of the panel."""
    return [f"{side}: {line}" for side in sides(visitor.page) for line in visitor.page.evaluate(script)]


def test_every_control_has_a_name_and_headings_are_in_order(visitor: Visitor) -> None:
    assert sorted(set(looked_at(visitor, CHECK))) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_enough_contrast(browser: Browser, address: str, theme: str) -> None:
    visitor = visit(browser, f"{address}?__theme={theme}")
    assert visitor.page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
    assert sorted(set(looked_at(visitor, CONTRAST))) == []
    visitor.page.context.close()


def test_every_control_is_reached_by_the_tab_key(visitor: Visitor) -> None:
    """On every side: the Tab key reaches every usable control, and finally leaves the page."""
    visitor.page.evaluate("document.addEventListener('focusin', () => window.left?.delete(document.activeElement))")
    for side in sides(visitor.page):
        visitor.page.evaluate("window.scrollTo(0, 0); document.activeElement?.blur()")
        total = visitor.page.evaluate(f"() => {{ window.left = new Set(({VISIBLE})()); return window.left.size; }}")
        assert total > 20
        for pressed in range(3 * total):
            visitor.page.keyboard.press("Tab")
            if pressed % 10 == 9 and not visitor.page.evaluate("window.left.size"):
                break
        missed = visitor.page.evaluate(LEFT)
        assert missed == [], side


@pytest.mark.parametrize("size", [(390, 844), (720, 500)], ids=["phone", "enlarged to 200 %"])
def test_nothing_overflows_the_page(browser: Browser, address: str, size: tuple[int, int]) -> None:
    visitor = visit(browser, address, viewport={"width": size[0], "height": size[1]}, has_touch=size[0] < 500)
    for side in sides(visitor.page):
        width = visitor.page.evaluate("document.documentElement.scrollWidth")
        assert width <= size[0], side
        out = visitor.page.evaluate(OUTSIDE, size[0])
        assert out == [], side
    assert visitor.errors == []
    visitor.page.context.close()


def test_shortcuts_are_listed_on_screen(visitor: Visitor) -> None:
    visitor.canvas.focus()
    visitor.page.keyboard.press("?")
    keys = visitor.page.locator("#roll .keys")
    assert keys.is_visible()
    for word in ("Space", "Delete", "Undo", "Redo", "Copy"):
        assert word.lower() in keys.inner_text().lower()


def test_it_plays_where_sound_needs_a_gesture(browser: Browser, address: str) -> None:
    """Chromium blocks sound before a user gesture: the page shows no error, and Space plays."""
    arguments = [a for a in ARGUMENTS if "autoplay" not in a]
    strict = browser.browser_type.launch(executable_path=executable(), args=arguments)
    visitor = visit(strict, address)
    visitor.wait_for_sound()
    assert visitor.page.evaluate("document.querySelector('#roll audio').paused")
    visitor.canvas.focus()
    visitor.page.keyboard.press("Space")
    visitor.page.wait_for_function("() => document.querySelector('#roll audio').currentTime > 0.3")
    assert visitor.errors == []
    strict.close()


@pytest.mark.soak
def test_results_are_reported(browser: Browser, address: str, soak_report: Reporter) -> None:
    """Count the faults that the tests above look for, on one page."""
    found, unnamed = {}, 0
    for theme, width in (("light", 1440), ("dark", 1440), ("light", 390)):
        visitor = visit(browser, f"{address}?__theme={theme}", viewport={"width": width, "height": 900})
        lines = looked_at(visitor, CHECK) + looked_at(visitor, CONTRAST)
        unnamed += sum("no name" in line for line in lines)
        found[f"{theme} {width}"] = len(set(lines))
        controls = visitor.page.evaluate(f"() => ({VISIBLE})().length")
        visitor.page.context.close()
    soak_report(
        27, "names, headings, contrast, phone, dark; Tab and autoplay in tests of their own",
        asked="every must-have reachable, 0 unnamed controls",
        found=f"{unnamed} unnamed ({controls} controls on the last side); complaints {found}",
        passed=not any(found.values()),
    )  # fmt: skip
