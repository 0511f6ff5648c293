"""The page as one screen: nothing scrolls as a whole, the lens shares the roll's time axis."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Browser

from tests.helpers.pages import SHORT, Visitor, visit

ON_SCREEN = """(selectors) => selectors.filter((s) => {
    const e = document.querySelector(s), b = e && e.getBoundingClientRect();
    return !b || b.width < 20 || b.height < 20 || b.top < 0 || b.left < 0
        || b.bottom > innerHeight || b.right > innerWidth;
})"""
SHIFT = """() => new Promise((done) => {
    let sum = 0;
    new PerformanceObserver((list) => { for (const e of list.getEntries()) sum += e.value; })
        .observe({ type: 'layout-shift', buffered: true });
    setTimeout(() => done(sum), 1500);
})"""
PARTS = ["#roll canvas.roll", "#curves canvas", "#roll .play", "#export", "#piano", "#panel", "#dock", "#open"]


def lens_data(visitor: Visitor) -> dict[str, str]:
    return visitor.page.evaluate("({...document.querySelector('#curves canvas').dataset})")


@pytest.mark.parametrize("size", [(1280, 720), (1440, 900)], ids=["1280", "1440"])
def test_nothing_of_the_page_scrolls(browser: Browser, address: str, size: tuple[int, int]) -> None:
    visitor = visit(browser, address, score=True, viewport={"width": size[0], "height": size[1]})
    page = visitor.page
    assert page.evaluate(SHIFT) < 0.1, "the page is laid out before it is shown"
    for side in ("Compose", "Perform", "Sound", "Compare"):
        page.get_by_role("tab", name=side, exact=True).click()
        whole = page.evaluate("[document.documentElement.scrollHeight, document.documentElement.scrollWidth]")
        assert whole == [size[1], size[0]], side
    for lens in ("Renders", "Versions", "How usual", "Help", "Curves"):
        visitor.lens(lens)
        page.wait_for_timeout(100)
        assert page.evaluate(ON_SCREEN, [p for p in PARTS if "curves" not in p]) == [], lens
    assert page.evaluate(ON_SCREEN, PARTS) == []
    assert page.locator("#score .paper").is_visible() == (size[0] >= 1300), "the score is open where it fits"
    roll = page.locator("#roll canvas.roll").bounding_box()
    assert roll
    assert roll["height"] >= 150, "the roll is the largest part"
    assert visitor.errors == []
    page.context.close()


def test_lens_and_roll_share_one_axis(visitor: Visitor) -> None:
    visitor.open(SHORT)
    visitor.wait_for_sound()
    page = visitor.page
    page.wait_for_function("+document.querySelector('#curves canvas').dataset.drawn > 3")
    roll, lens = visitor.canvas.bounding_box(), page.locator("#curves canvas").bounding_box()
    assert roll
    assert lens
    assert (roll["x"], roll["width"]) == (lens["x"], lens["width"])
    before = json.loads(visitor.data("view"))
    page.mouse.move(lens["x"] + 400, lens["y"] + 40)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    visitor.wait(f"JSON.parse(d.view).pxPerMs > {before['pxPerMs']}")
    page.mouse.wheel(0, 300)
    visitor.wait("JSON.parse(d.view).t0 > 0")

    page.mouse.click(lens["x"] + 300, lens["y"] + 40)
    page.wait_for_function("Math.abs(+document.querySelector('#curves canvas').dataset.head - 300) < 3")
    view = json.loads(visitor.data("view"))
    ms = view["t0"] + (300 - view["keyW"]) / view["pxPerMs"]
    assert page.evaluate("1000 * document.querySelector('#roll audio').currentTime") == pytest.approx(ms, abs=60)

    for name in ("Pedal", "Spectrum", "Path"):
        page.get_by_role("radio", name=name, exact=True).click()
        page.wait_for_function("+document.querySelector('#curves canvas').dataset.drawn > 3")
    page.get_by_role("radio", name="Touch").click()
    page.wait_for_function("document.querySelector('#curves canvas').dataset.lens === 'articulation'")
    page.locator("#curves canvas").focus()
    page.keyboard.press("Home")
    said = page.locator("#curves .told")
    assert said.inner_text().startswith("Bar ")
    first = said.inner_text()
    page.keyboard.press("ArrowRight")
    assert said.inner_text() != first
    assert "written length" in said.inner_text()
    assert int(lens_data(visitor)["lines"]) == 2, "upper and lower staff"


SILENCE = """() => { window.gap = { longest: 0, switched: 0 };
    let last = performance.now(), times = new Map(), silent = 0, first = document.querySelector('#roll audio').src;
    window.gap.timer = setInterval(() => {
        const now = performance.now(), passed = now - last;
        let heard = 0;
        for (const a of document.querySelectorAll('#roll audio')) {
            const step = 1000 * (a.currentTime - (times.get(a) ?? a.currentTime));
            times.set(a, a.currentTime);
            if (!a.paused && a.volume > 0 && step > 0) heard = Math.max(heard, Math.min(step, passed));
        }
        silent = heard > 0.5 * passed ? 0 : silent + passed - heard;
        window.gap.longest = Math.max(window.gap.longest, silent);
        window.gap.switched += document.querySelector('#roll audio').src !== first;
        last = now;
    }, 10); }"""


def test_a_slider_while_playing_leaves_no_silence(visitor: Visitor) -> None:
    page = visitor.page
    visitor.wait_for_sound()
    visitor.canvas.focus()
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('#roll audio').currentTime > 1")
    assert visitor.data("sounding"), "the keys that sound are lit"
    page.evaluate(SILENCE)
    page.evaluate(
        """() => { const roll = document.querySelector("#roll canvas.roll");
            const lens = document.querySelector("#curves canvas");
            window.jump = null; let take = roll.dataset.take, before = +lens.dataset.head;
            const look = () => {
                if (roll.dataset.take !== take) { window.jump = Math.abs(+lens.dataset.head - before); return; }
                before = +lens.dataset.head; requestAnimationFrame(look);
            };
            look(); }"""
    )
    visitor.drag_slider("axis-tempo", 0.35)
    visitor.wait_for_sound()
    page.wait_for_function("window.gap.switched > 30")
    assert page.evaluate("!document.querySelector('#roll audio').paused"), "the new performance plays"
    longest = page.evaluate("clearInterval(window.gap.timer), window.gap.longest")
    print(f"longest silence {longest:.0f} ms")
    assert longest < 150
    assert page.evaluate("window.jump") < 60, "the playhead keeps its place on the screen, but for the time of a frame"
    page.keyboard.press("Escape")
    page.wait_for_function("[...document.querySelectorAll('#roll audio')].every(a => a.paused)")


def test_versions_are_flipped_at_the_same_bar(visitor: Visitor) -> None:
    page = visitor.page
    visitor.open(SHORT)
    visitor.wait_for_sound()
    assert page.locator("#roll .was").is_disabled(), "there is no version before the first"
    visitor.drag_slider("axis-tempo", 0.15)
    visitor.wait("d.versions === '2' && d.version === '2'")
    page.wait_for_function("document.querySelector('#curves canvas').dataset.lines === '2'")
    visitor.wait_for_sound()
    page.locator("#roll .play").click()
    page.wait_for_function("document.querySelector('#roll audio').currentTime > 1")
    clock = page.locator("#roll .clock").inner_text().split(" / ")[1]
    take = visitor.data("take")
    page.locator("#roll .was").click()
    visitor.wait(f"d.version === '1' && d.take !== '{take}'")
    assert page.locator("#axis-tempo input[type=number]").input_value() == "0", "the panel shows the version's style"
    assert page.locator("#roll .clock").inner_text().split(" / ")[1] != clock
    visitor.wait_for_sound()
    assert page.evaluate("[...document.querySelectorAll('#roll audio')].some((a) => !a.paused)"), "it plays on"
    assert page.evaluate("document.querySelector('#roll audio').currentTime") > 0.4, "from the same bar"
    page.locator("#roll .tabs button").nth(1).click()
    visitor.wait("d.version === '2'")
    visitor.canvas.focus()
    page.keyboard.press("b")
    visitor.wait("d.version === '1'")
    page.keyboard.press("Escape")


def test_a_card_plays_two_bars_and_is_a_choice(visitor: Visitor) -> None:
    page = visitor.page
    visitor.open(SHORT)
    visitor.wait_for_sound()
    cards = page.locator("#pianists .cards button")
    assert cards.count() == 8
    assert cards.first.get_attribute("aria-checked") == "true"
    cards.nth(3).hover()
    page.wait_for_function("document.querySelector('#pianists audio').currentTime > 0.1")
    assert page.evaluate("document.querySelector('#pianists audio').volume") < 0.7, "softly"
    page.mouse.move(2, 2)
    page.wait_for_function("document.querySelector('#pianists audio').paused")
    page.locator("#roll .play").click()
    cards.nth(4).hover()
    page.wait_for_timeout(1500)
    assert page.evaluate("document.querySelector('#pianists audio').paused"), "never over the piece"
    cards.nth(4).click()
    visitor.wait("d.version === '2'")
    page.wait_for_function("document.querySelectorAll('#pianists .cards button')[4].ariaChecked === 'true'")
    name = cards.nth(4).locator(".name").inner_text()
    assert page.locator("#preset input").input_value().startswith(name)
    assert name in page.locator("#roll .tabs button").nth(1).inner_text()
    visitor.canvas.focus()
    page.keyboard.press("Escape")


def test_a_new_take_is_shown_and_played_under_its_title(visitor: Visitor) -> None:
    page = visitor.page
    visitor.open(SHORT)
    page.get_by_role("tab", name="Compose").click()
    page.locator("#compose-length input").first.fill("40")
    page.locator("#compose-takes input[type=number]").fill("1")
    page.locator("#compose").click()
    page.wait_for_function("+document.querySelector('#takes .strip').dataset.heard > 0")
    page.wait_for_function("document.querySelector('#roll .title').textContent.startsWith('Composition in ')")
    visitor.wait("JSON.parse(d.view).t0 === 0")
    page.wait_for_function("document.querySelector('#takes audio').currentTime > 0.2")
    page.locator("#roll .play").click()
    page.wait_for_function("document.querySelector('#takes audio').paused")
    assert page.evaluate("document.querySelector('#roll audio').paused"), (
        "Play belongs to what is shown, not to the piece"
    )
    page.locator("#roll .play").click()
    page.wait_for_function("!document.querySelector('#takes audio').paused")
    visitor.canvas.focus()
    page.keyboard.press("Escape")
    page.wait_for_function("document.querySelector('#takes audio').paused")
    assert page.locator("#roll .title").inner_text() == SHORT

    tabs, piece = page.locator("#roll .of-takes button"), visitor.data("doc")
    assert tabs.all_inner_texts() == ["Piece", "Take 1"]
    visitor.wait_for_sound()
    page.locator("#roll .play").click()
    page.wait_for_function("document.querySelector('#roll audio').currentTime > 1.5")
    heard = page.evaluate("document.querySelector('#roll audio').currentTime")
    tabs.nth(1).click()
    visitor.wait(f"d.doc !== '{piece}'")
    assert page.locator("#roll .title").inner_text().startswith("Composition in ")
    visitor.wait_for_sound()
    assert page.evaluate("!document.querySelector('#roll audio').paused"), "it plays on"
    page.locator("#roll .play").click()
    tabs.nth(0).click()
    visitor.wait(f"d.doc === '{piece}'")
    visitor.wait_for_sound()
    assert page.evaluate("document.querySelector('#roll audio').currentTime") > heard, "at the bar where the take was"
    assert tabs.nth(0).get_attribute("aria-checked") == "true"
    page.keyboard.press("Escape")


def test_the_palette_of_selected_bars(visitor: Visitor) -> None:
    page = visitor.page
    visitor.open(SHORT)
    palette = page.locator("#roll .palette")
    assert palette.is_hidden()
    visitor.canvas.focus()
    for _ in range(12):
        page.keyboard.press("n")
    palette.wait_for()
    bar = palette.locator(".which").inner_text()
    assert bar.startswith("Bar ")
    palette.get_by_role("button", name="Copy").click()
    assert page.locator("#roll .live").inner_text() == "1 note copied"
    palette.get_by_role("button", name="Loop").click()
    visitor.wait("d.looping === 'true'")
    palette.get_by_role("button", name="New idea").click()
    page.locator("#takes .take").first.wait_for()
    assert page.locator("#infill-first input").input_value() == bar.removeprefix("Bar ")
    assert "Re-imagined" in page.locator("#takes .take .name").first.inner_text()
