"""Rendering on the page: streaming, comparison at the same musical position, blind test, cancel, save."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, expect

import studio
from engine.render.provenance import read_description
from engine.sound.prompts import FOLDER, gallery
from tests.helpers.pages import PATIENCE_SEC, SHORT, Visitor

State = dict[str, str]


def player(visitor: Visitor) -> State:
    """The data attributes of the player under the roll."""
    return visitor.page.evaluate("Object.assign({}, document.querySelector('#listen .listen')?.dataset)")


def until(visitor: Visitor, true: Callable[[State], bool], seconds: float = PATIENCE_SEC) -> State:
    end = time.monotonic() + seconds
    while not true(state := player(visitor)):
        if time.monotonic() > end:
            raise TimeoutError(f"the player stands at {state}")
        time.sleep(0.1)
    return state


def panel(visitor: Visitor) -> None:
    visitor.page.get_by_role("tab", name="Sound").click()
    visitor.page.locator("#render").wait_for()


def choose(visitor: Visitor, menu: str, option: str) -> None:
    visitor.page.locator(f"#{menu} input").click()
    visitor.page.get_by_role("option", name=option).click()


def number(visitor: Visitor, name: str, value: int) -> None:
    visitor.page.locator(f"#{name} input").first.fill(str(value))


def clocks(visitor: Visitor) -> list[float]:
    """Playback positions of the roll and the player at one moment, seconds."""
    shown = visitor.page.evaluate("['roll', 'listen'].map(id => document.querySelector(`#${id} .clock`).innerText)")
    told = [text.split("/")[0].strip().split(":") for text in shown]
    return [60 * int(minutes) + float(seconds) for minutes, seconds in told]


def test_render_switch_blind_save(visitor: Visitor) -> None:
    visitor.open(SHORT)
    assert visitor.page.locator("#listen .listen").is_hidden(), "who never renders never sees it"
    visitor.lens("Versions")
    panel(visitor)
    script = "document.addEventListener('etude:sounds', e => { window.played = e.detail.by; })"
    visitor.page.evaluate(script)
    tile = visitor.page.locator("#gallery button", has_text=gallery()["goldberg"].name)
    tile.click()
    expect(visitor.page.locator("#render-credit")).to_contain_text("Ishizaka", timeout=1000 * PATIENCE_SEC)
    expect(tile).to_have_attribute("aria-checked", "true")
    visitor.page.wait_for_function("window.played === 'tried'")
    choose(visitor, "render-part", "These bars")
    number(visitor, "render-first", 1)
    number(visitor, "render-last", 3)
    number(visitor, "render-seed", 8)
    pressed = time.perf_counter()
    visitor.page.locator("#render").click()
    until(visitor, lambda d: d.get("playing") == "true")
    print(f"first sound {time.perf_counter() - pressed:.1f} s after Render")
    whole = until(visitor, lambda d: d["whole"] == "true" and "preview1" in d["ready"].split())
    assert whole["heard"] == "render1"
    assert whole["channels"] == "2"
    assert visitor.page.locator("#listen canvas").is_visible(), "the player comes by itself"
    visitor.lens("Versions")
    expect(visitor.page.locator("#compare .entries")).to_contain_text("Render 1", timeout=30_000)
    visitor.lens("Renders")
    assert int(visitor.page.locator("#listen canvas").get_attribute("data-drawn") or 0) > 100

    if player(visitor)["playing"] == "false":  # on a busy machine the sound may have ended
        visitor.page.locator("#listen .play").click()
        until(visitor, lambda d: d["playing"] == "true")
    roll, listen = clocks(visitor)
    assert roll == pytest.approx(listen, abs=1)
    visitor.page.locator("#listen .play").click()
    until(visitor, lambda d: d["playing"] == "false")
    before = clocks(visitor)[1]
    visitor.page.locator("#listen .sources button", has_text="Preview").click()
    assert until(visitor, lambda d: d["heard"] == "preview1")["playing"] == "false"
    assert clocks(visitor) == pytest.approx([before, before], abs=0.11), "the same musical moment"

    visitor.page.locator("#listen .blind-open").click()
    for which in "abx":
        visitor.page.locator(f"#listen [data-hear={which}]").click()
        until(visitor, lambda d: d["playing"] == "true")
    assert visitor.page.locator("#listen .sources [aria-checked=true]").count() == 0, "nothing gives X away"
    visitor.page.locator("#listen [data-guess=b]").click()
    tally = visitor.page.locator("#listen .blind")
    assert tally.get_attribute("data-tried") == "1"
    assert "of 1 right" in visitor.page.locator("#listen .tally").inner_text()
    visitor.page.locator("#listen .blind-open").click()

    name, data = visitor.download("render-flac")
    assert name == "Chopin-Prelude-op-28-no-7-render-1.flac"
    sound, rate = soundfile.read(io.BytesIO(data))
    assert rate == 48000
    assert sound.ndim == 2, "the reference is stereo, so is the rendering"
    assert np.abs(sound[:, 0] - sound[:, 1]).max() > 0.001
    assert len(sound) == int(whole["made"])
    assert np.abs(sound).max() > 0.005
    about = read_description(data)
    assert (about["seed"], about["prompt"]) == (8, gallery()["goldberg"].name)

    visitor.page.locator("#roll canvas.roll").focus()  # the roll's own sound again, after an edit
    visitor.page.keyboard.press("n")
    visitor.page.keyboard.press("ArrowUp")
    visitor.wait_for_sound()
    visitor.page.locator("#roll .play").click()
    visitor.page.wait_for_function("() => !document.querySelector('#roll audio').paused")
    assert player(visitor)["playing"] == "false"
    expect(visitor.page.locator("#listen .status")).to_contain_text("before your last change", timeout=60_000)
    another = visitor.page.locator("#roll .title").inner_text()
    visitor.open("Bach, Prelude in C, BWV 846")
    visitor.page.locator("#listen .listen").wait_for(state="hidden")  # it belongs to the previous piece
    visitor.canvas.focus()
    visitor.page.keyboard.press("Control+z")
    visitor.page.get_by_role("button", name="Back to “").click()
    expect(visitor.page.locator("#roll .title")).to_have_text(another, timeout=60_000)
    visitor.page.locator("#listen .listen").wait_for(state="visible")


def test_cancel_and_a_recording_of_ones_own(visitor: Visitor) -> None:
    panel(visitor)
    choose(visitor, "render-profile", "Étude codec model")  # the fitted piano finishes before it can be cancelled
    choose(visitor, "render-prompt", "A recording of my own…")
    visitor.page.locator("#render-recording input[type=file]").wait_for(state="attached")
    visitor.page.locator("#render").click()
    visitor.page.locator(".toast-body", has_text="no recording yet").wait_for()
    visitor.page.locator("#render-recording input[type=file]").set_input_files(FOLDER / "prelude-c.flac")
    visitor.page.locator("#render-recording button[aria-label*=lay]").first.wait_for()
    window = visitor.page.locator("#render-window canvas")
    window.scroll_into_view_if_needed()
    box = window.bounding_box()
    assert box
    y = box["y"] + 30
    expect(visitor.page.locator("#render-recording .waveform-container")).to_be_hidden()  # one waveform, not two
    expect(visitor.page.locator("#render-recording [aria-label^=Trim]")).to_be_hidden()
    visitor.drag((box["x"] + 0.3 * box["width"], y), (box["x"] + 0.5 * box["width"], y))
    begins = visitor.page.locator("#render-start input")
    expect(begins).not_to_have_value("0", timeout=1000 * PATIENCE_SEC)
    assert 1.5 < float(begins.input_value()) < 2.5, "the window begins where it was dragged to"
    visitor.page.locator("#render").click()
    until(visitor, lambda d: int(d.get("made") or 0) > 0)
    pressed = time.perf_counter()
    visitor.page.locator("#listen .halt").click()
    state = until(visitor, lambda d: d["by"] == "visitor")
    print(f"cancelled after {time.perf_counter() - pressed:.1f} s")
    assert state["over"] == "true"
    assert "Cancelled" in visitor.page.locator("#listen .status").inner_text()
    assert visitor.page.locator("#listen .which").inner_text().find("prelude-c.flac") > 0
    visitor.page.set_viewport_size({"width": 390, "height": 844})
    visitor.page.wait_for_timeout(300)
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_sounds_of_the_switch_are_brought_to_one_level(browser: Browser) -> None:
    page = browser.new_page()
    player_source = (Path(studio.__file__).parent / "widgets/listen/player.js").read_text()
    powers = page.evaluate(
        """source => {
        const element = document.createElement('div');
        element.innerHTML = '<input class="level" type="checkbox" checked>';
        const made = new Function('element', 'WHO', 'yardstick', 'want', 'show', 'showPlace', 'tellRoll',
          source + '; return {append, levelOf, power, sound, sounds};');
        const idle = () => {};
        const player = made(element, 'test', () => player.sounds.get('render1'), idle, idle, idle, idle);
        const draw = level => () => level * (2 * Math.random() - 1);
        const noise = (seconds, level) => Float32Array.from({length: 48000 * seconds}, draw(level));
        const grid = [[0, 4], [0, 2000]];                     // four quarters in two seconds
        player.append(player.sound('render1', {grid, from: 0}), 0, [noise(2, 0.2), noise(2, 0.1)]);
        player.append(player.sound('quiet', {grid, from: 0}), 0, [noise(2, 0.03)]);
        player.append(player.sound('loud', {grid: [[0, 4, 8], [0, 2000, 4000]], from: 0}), 0, [noise(2, 0.4)]);
        player.append(player.sounds.get('loud'), 96000, [noise(2, 0.01)]);     // the render ends before this
        const of = key => { const s = player.sounds.get(key); return player.levelOf(s) * player.power(s, 0, 96000); };
        const matched = ['render1', 'quiet', 'loud'].map(of);
        element.querySelector('.level').checked = false;
        return [matched, ['render1', 'quiet', 'loud'].map(of)];
    }""",
        player_source,
    )
    page.close()
    matched, unmatched = (20 * np.log10(np.array(row) / row[0]) for row in powers)
    assert np.abs(matched).max() < 0.1, "one level over the passage that both have, in dB"
    assert np.abs(unmatched).max() > 5, "as they are without the level's tick"
