"""A visitor's work: project files, autosave across reload and restart; the worked examples."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, expect

from engine.sound.prompts import FOLDER, gallery
from studio.project.document import read_project
from tests.helpers.pages import PATIENCE_SEC, SHORT, Visitor, serving, visit

LONG = 1000 * PATIENCE_SEC


def title(visitor: Visitor) -> str:
    shown = visitor.page.locator("#roll .title")
    shown.wait_for()  # the page is hidden until it is laid out, and hidden text reads as none
    return shown.inner_text()


def edit(visitor: Visitor) -> None:
    """The first note a semitone higher."""
    rev = visitor.data("rev")
    visitor.canvas.focus()
    visitor.page.keyboard.press("n")
    visitor.page.keyboard.press("ArrowUp")
    visitor.wait(f"d.rev !== '{rev}'")


def save(visitor: Visitor) -> tuple[str, bytes]:
    return visitor.download("project")


def open_file(visitor: Visitor, name: str, data: bytes) -> None:
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": data}
    visitor.page.locator("#top input[type=file]").set_input_files(file)  # type: ignore[arg-type]


def drop_file(visitor: Visitor, name: str, data: bytes) -> None:
    """Simulate dropping a file onto the roll."""
    script = """([name, bytes]) => {
        const moved = new DataTransfer();
        moved.items.add(new File([new Uint8Array(bytes)], name));
        document.querySelector('#roll canvas.roll').dispatchEvent(
            new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: moved }));
    }"""
    visitor.page.evaluate(script, [name, list(data)])


def render_two_bars(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_role("tab", name="Sound").click()
    page.locator("#render-part input").click()
    page.get_by_role("option", name="These bars").click()
    page.locator("#render-first input").fill("1")
    page.locator("#render-last input").fill("2")
    page.locator("#render-seed input").fill("11")
    page.locator("#render").click()
    page.wait_for_function("() => document.querySelector('#listen .listen').dataset.whole === 'true'", timeout=2 * LONG)


def test_a_project_is_saved_opened_and_refused(visitor: Visitor, browser: Browser, address: str) -> None:
    visitor.wait_for_sound(120)
    visitor.open(SHORT)
    edit(visitor)
    render_two_bars(visitor)
    name, data = save(visitor)
    assert name == "Chopin-Prelude-op-28-no-7.etude"
    project = read_project(data)
    assert project.session.edited == 1
    assert project.settings["render-seed"] == 11
    assert len(project.renders) == 1

    other = visit(browser, address)
    open_file(other, name, data)
    expect(other.page.locator("#roll .title")).to_have_text(project.session.title, timeout=LONG)
    other.wait(f"+d.count === {len(project.session.performance)}")
    other.page.get_by_role("tab", name="Sound").click()
    expect(other.page.locator("#render-seed input")).to_have_value("11", timeout=LONG)
    other.page.wait_for_function(
        "() => document.querySelector('#listen .listen').dataset.whole === 'true'", timeout=LONG
    )
    assert other.page.locator("#listen .listen").get_attribute("data-playing") == "false", "nothing plays by itself"
    assert save(other)[1] == data, "saved again it is the same, byte for byte"
    assert other.performance().pitch[0] == visitor.performance().pitch[0]

    drop_file(other, "mine.etude", data[: len(data) // 2])
    expect(other.page.get_by_text("damaged or cut off")).to_be_visible(timeout=LONG)
    assert title(other) == project.session.title, "the piece on the page stays"
    other.canvas.focus()
    back = other.page.get_by_role("button", name="Back to “")
    while title(other) == project.session.title:  # undo leads back to what was open before, when that is wanted
        other.page.keyboard.press("Control+z")
        time.sleep(0.5)
        if back.is_visible():
            assert title(other) == project.session.title, "the piece has gone without a question"
            back.click()
            time.sleep(0.5)
    assert other.errors == []
    other.page.context.close()


def test_work_is_back_after_a_reload(visitor: Visitor) -> None:
    page = visitor.page
    visitor.wait_for_sound(120)
    assert page.locator("#back-bar").count() == 0
    visitor.open(SHORT)
    edit(visitor)
    page.get_by_role("tab", name="Sound").click()
    page.locator("#render-prompt input").click()
    page.get_by_role("option", name="A recording of my own").click()
    page.locator("#render-own input[type=file]").first.set_input_files(str(FOLDER / "goldberg.flac"))
    expect(page.locator("#render-own audio, #render-own [data-testid*=waveform]").first).to_be_attached(timeout=LONG)
    pitches = visitor.performance().pitch.tolist()  # the server has seen the edit; it need not have been written yet
    page.reload(wait_until="domcontentloaded")
    expect(page.locator("#back-word")).to_contain_text("Welcome back", timeout=LONG)
    expect(page.get_by_role("tab", name="Sound")).to_have_attribute("aria-selected", "true", timeout=LONG)
    expect(page.locator("#roll .title")).to_have_text(SHORT, timeout=LONG)
    visitor.wait("+d.count > 0")
    assert visitor.performance().pitch.tolist() == pitches
    page.get_by_role("tab", name="Sound").click()
    expect(page.locator("#render-prompt input")).to_have_value("goldberg.flac (yours)", timeout=LONG)
    page.locator("#back-afresh").click()
    expect(page.locator("#roll .title")).to_contain_text("Fugue", timeout=LONG)
    expect(page.locator("#back-bar")).to_have_count(0, timeout=LONG)


def named(entry: str) -> re.Pattern[str]:
    """An entry of a pianists' menu: the name, and perhaps the character."""
    return re.compile(rf"^\W*{re.escape(entry)}( · .+)?\s*$")


def choose(visitor: Visitor, menu: str, entry: str) -> None:
    take = visitor.data("take")
    visitor.page.locator(f"#{menu} input").click()
    visitor.page.get_by_role("option", name=named(entry)).click()
    visitor.wait(f"d.take !== '{take}'")


def controls_work(visitor: Visitor, preset: str) -> None:
    """Check that the menu of pianists is filled, and that a slider changes the displayed length of the piece."""
    expect(visitor.page.locator("#preset input")).to_have_value(named(preset), timeout=LONG)
    visitor.page.get_by_role("tab", name="Perform").click()
    clock = visitor.page.locator("#roll .clock")
    before = clock.inner_text()
    visitor.drag_slider("axis-tempo", 0.9)
    assert clock.inner_text() != before
    visitor.page.locator("#preset input").click()
    assert visitor.page.get_by_role("option").count() > 20
    visitor.page.keyboard.press("Escape")


def test_a_returning_visitor_finds_controls_that_work(visitor: Visitor, browser: Browser, address: str) -> None:
    visitor.open(SHORT)
    choose(visitor, "preset", "WangA")
    data = save(visitor)[1]
    visitor.page.reload(wait_until="domcontentloaded")
    expect(visitor.page.locator("#back-word")).to_contain_text("Welcome back", timeout=LONG)
    visitor.wait("+d.count > 0")
    controls_work(visitor, "WangA")

    other = visit(browser, address)
    open_file(other, "pianist.etude", data)
    expect(other.page.locator("#roll .title")).to_have_text(SHORT, timeout=LONG)
    controls_work(other, "WangA")
    assert other.errors == []
    other.page.context.close()


def test_a_borrowed_style_works_after_a_reload(visitor: Visitor) -> None:
    visitor.page.locator("#human-example").click()
    expect(visitor.page.locator("#human-style")).to_be_enabled(timeout=LONG)
    take = visitor.data("take")
    visitor.page.locator("#human-style").click()
    visitor.wait(f"d.take !== '{take}'")
    borrowed = visitor.page.locator("#preset input").input_value()
    visitor.performance()
    visitor.page.reload(wait_until="domcontentloaded")
    expect(visitor.page.locator("#back-word")).to_contain_text("Welcome back", timeout=LONG)
    visitor.wait("+d.count > 0")
    controls_work(visitor, borrowed)


def test_a_refused_request_is_a_sentence(browser: Browser, address: str) -> None:
    visitor = visit(browser, address)
    status = visitor.page.locator("#roll .live")
    visitor.wait_for_sound(120)
    sent = visitor.page.evaluate(
        """() => fetch('gradio_api/run/predict', { method: 'POST', headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ data: [], fn_index: 3, session_hash: 'nobody' }) }).then(answer => answer.status)"""
    )
    assert sent >= 400
    expect(status).to_contain_text("Not done: ", timeout=LONG)
    visitor.page.route("**/gradio_api/run/**", lambda route: route.abort())
    visitor.page.locator("#discard").click()
    expect(status).to_contain_text("The server does not answer", timeout=LONG)
    visitor.page.context.close()


def another_tab(visitor: Visitor, address: str, number: str = "") -> Visitor:
    """Another tab of the same browser; with a number, one that was duplicated from the tab that has it."""
    page = visitor.page.context.new_page()
    if number:
        page.add_init_script(f"sessionStorage.getItem('etude-tab') || sessionStorage.setItem('etude-tab', '{number}')")
    page.goto(address, wait_until="domcontentloaded")
    tab = Visitor(page)
    tab.canvas.wait_for()
    tab.wait("+d.count > 0", 60)
    return tab


def test_two_tabs_of_one_browser_keep_their_own(visitor: Visitor, address: str) -> None:
    def reload(tab: Visitor) -> str:
        tab.page.reload(wait_until="domcontentloaded")
        tab.wait("+d.count > 0", 60)
        return title(tab)

    edit(visitor)
    first = title(visitor)
    other = another_tab(visitor, address)
    expect(other.page.locator("#back-word")).to_contain_text("Welcome back", timeout=LONG)
    assert other.page.locator("#back-other").count() == 0
    other.open(SHORT)
    edit(other)
    assert reload(visitor) == first
    assert reload(other) == SHORT
    number = visitor.page.evaluate("sessionStorage.getItem('etude-tab')")
    third = another_tab(visitor, address, number)
    assert third.page.evaluate("sessionStorage.getItem('etude-tab')") != number, "a duplicated tab is a tab of its own"
    assert title(third) == SHORT, "what was changed last"
    third.page.locator("#back-other").click()
    expect(third.page.locator("#roll .title")).to_have_text(first, timeout=LONG)
    for tab in (other, third):
        tab.page.close()


@pytest.mark.timeout(600)  # two servers, one after the other
def test_work_is_back_after_a_restart_and_only_in_this_browser(browser: Browser, tmp_path: Path) -> None:
    with serving(state_folder=str(tmp_path)) as address:
        visitor = visit(browser, address)
        edit(visitor)
        visitor.performance()  # the server has the edit, and is ended before it has been written
    (kept,) = [read_project(file.read_bytes()).session for file in tmp_path.glob("*.etude")]
    assert kept.edited == 1
    with serving(port=int(address.split(":")[2].strip("/")), state_folder=str(tmp_path)):
        with suppress(Error):  # the page may reload itself at that moment: the server it lost is back
            visitor.page.reload(wait_until="domcontentloaded")
        expect(visitor.page.locator("#back-word")).to_contain_text("Welcome back", timeout=2 * LONG)
        assert sorted(visitor.performance().pitch) == sorted(kept.performance.pitch)
        stranger = visit(browser, address)
        assert stranger.page.locator("#back-bar").count() == 0, "only this browser finds it"
        for one in (visitor, stranger):
            one.page.context.close()


@pytest.mark.parametrize("tour", ["fugue", "nocturne", "musicxml", "phone"])
def test_every_worked_example_sounds(visitor: Visitor, tour: str) -> None:
    page = visitor.page
    visitor.wait_for_sound(120)
    began = time.perf_counter()
    page.locator(f"#start-{tour}").click()
    if tour == "phone":
        page.wait_for_function(
            "() => document.querySelector('#listen .listen').dataset.playing === 'true'", timeout=2 * LONG
        )
        assert gallery()["gymnopedie"].name in page.locator("#listen .which").inner_text()
        expect(page.locator("#render-part input")).to_have_value("Whole piece")
    else:
        page.wait_for_function("() => !document.querySelector('#roll audio').paused", timeout=2 * LONG)
    print(f"{tour}: something to hear after {time.perf_counter() - began:.1f} s")
    if tour == "fugue":
        expect(page.locator("#preset input")).to_have_value(named("WangA"))
    if tour == "nocturne":
        expect(page.locator("#takes")).to_contain_text("12/8")


def test_the_start_card_is_closed_for_good_and_help_opens(visitor: Visitor) -> None:
    page = visitor.page
    page.locator("#start-close").click()
    expect(page.locator("#start")).to_have_count(0, timeout=LONG)
    page.reload(wait_until="domcontentloaded")
    visitor.wait("+d.count > 0")
    time.sleep(1)
    assert page.locator("#start").count() == 0
    visitor.lens("Help")
    for side, words in (
        ("Every control", "Piano roll"),
        ("Words", "alignment"),
        ("Models", "Pianist"),
        ("Limits", "MB"),
    ):
        page.locator("#help").get_by_role("tab", name=side).click()
        expect(page.locator(".help-text:visible").first).to_contain_text(words, timeout=LONG)
    page.locator("#help-start").click()
    expect(page.locator("#start")).to_be_visible(timeout=LONG)
