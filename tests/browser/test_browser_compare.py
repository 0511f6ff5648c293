"""Comparing on the page: pins, the same musical moment, a blind vote as CSV; a passage that repeats; the note table."""

from __future__ import annotations

import base64
import csv
import io
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from engine.music.expression import deadpan
from engine.music.io.midi import write_midi
from engine.music.io.write_musicxml import write_musicxml
from engine.sound.clip import encode_audio
from engine.sound.preview import Preview
from tests.helpers.command_line import two_bars
from tests.helpers.pages import PATIENCE_SEC, SHORT, Visitor

State = dict[str, str]


def shown(visitor: Visitor) -> State:
    """The data attributes of the comparison."""
    return visitor.page.evaluate("Object.assign({}, document.querySelector('#compare .compare')?.dataset)")


def until(visitor: Visitor, true: Callable[[State], bool], seconds: float = PATIENCE_SEC) -> State:
    end = time.monotonic() + seconds
    while not true(state := shown(visitor)):
        if time.monotonic() > end:
            raise TimeoutError(f"comparing stands at {state}")
        time.sleep(0.1)
    return state


def download(visitor: Visitor, button: str) -> list[dict[str, str]]:
    """The rows of the CSV file behind a download button."""
    with visitor.page.expect_download(timeout=1000 * PATIENCE_SEC) as waiting:
        visitor.page.locator(button).click()
    text = Path(waiting.value.path()).read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def compared(visitor: Visitor) -> Visitor:
    """A short piece, and two performances of it pinned, a quick one last."""
    visitor.open(SHORT)
    visitor.page.get_by_role("tab", name="Compare").click()
    visitor.page.locator("#compare-pin").click()
    until(visitor, lambda d: d.get("entries") == "2")
    visitor.page.get_by_role("tab", name="Perform").click()
    visitor.drag_slider("axis-tempo", 0.95)
    visitor.page.get_by_role("tab", name="Compare").click()
    visitor.page.locator("#compare-pin").click()
    until(visitor, lambda d: d["entries"] == "3" and d["drawn"] == "true")
    return visitor


def test_switching_keeps_the_musical_moment_and_a_vote_is_blind(compared: Visitor) -> None:
    visitor, page = compared, compared.page
    page.wait_for_function("+document.querySelector('#curves canvas').dataset.lines === 4")  # before, two pins, now
    assert page.locator("#curves .legend span").count() == 4
    page.locator("#compare-worm .js-plotly-plot .slider-container").first.wait_for(timeout=1000 * PATIENCE_SEC)
    assert page.locator("#compare-worm .slider-container").count() == 1
    assert page.locator("#compare-tables table").count() == 2
    rows = download(visitor, "#compare-save")
    tempo = [float(row["value"]) for row in rows if row["measure"] == "tempo" and row["kind"] == "measure"]
    assert tempo[0] == tempo[2] > tempo[1], "the slider asked for more"

    page.locator("#compare .hear[data-key=pin1]").click()  # which plays it, at once or when its sound is here
    until(visitor, lambda d: d["heard"] == "pin1" and d["playing"] == "true" and "pin2" in d["ready"].split())
    page.wait_for_timeout(2500)
    before = float(shown(visitor)["quarter"])
    page.locator("#compare .hear[data-key=pin2]").click()
    after = float(until(visitor, lambda d: d["heard"] == "pin2" and d["playing"] == "true")["quarter"])
    assert before > 1
    assert -0.2 < after - before < 4, "switched at the same bar"
    page.locator("#compare .play").click()
    rests = float(until(visitor, lambda d: d["playing"] == "false")["quarter"])
    page.locator("#compare .hear[data-key=pin1]").click()
    goes_on = float(until(visitor, lambda d: d["heard"] == "pin1" and d["playing"] == "true")["quarter"])
    assert -0.2 < goes_on - rests < 4, "from where it rested"
    page.locator("#compare .play").click()
    until(visitor, lambda d: d["playing"] == "false")

    page.locator("#compare .entries input").first.uncheck()
    until(visitor, lambda d: d["drawn"] == "true")
    page.locator("#study-listener textarea, #study-listener input").first.fill("=Ann")
    page.locator("#study-first textarea, #study-first input").first.fill("1")
    page.locator("#study-last textarea, #study-last input").first.fill("2")
    page.locator("#study-begin").click()
    until(visitor, lambda d: d["study"] != "")
    assert page.locator("#compare .entries [aria-checked=true]").count() == 0, "nothing gives A away"
    curves, names = "#curves, #compare-worm, #compare-tables", "#compare .entries, #roll canvas.roll, #roll .clock"
    telling = page.locator(f"{curves}, {names}").all()
    assert not any(found.is_visible() for found in telling), "no curve, name or note gives A away"
    card = page.locator("#compare-box").bounding_box()
    assert card
    assert (card["x"], card["y"], card["width"], card["height"]) == (0, 0, 1440, 1000), "the study covers the page"
    for k in (0, 1):
        page.locator("#compare .heard button").nth(k).click()
        until(visitor, lambda d, k=k: d.get("listened") == str(k + 1) and d["playing"] == "true")
    page.locator("#compare .answers button", has_text="A").click()
    until(visitor, lambda d: d["votes"] == "1" and d["study"] == "")
    assert "preferred 1 of 1 times" in page.locator("#compare .result li").first.inner_text()
    (vote,) = download(visitor, "#study-votes")
    assert (vote["listener"], vote["question"], vote["bars"], vote["seed"]) == ("'=Ann", "prefer", "1-2", "1")
    assert vote["choice"] == vote["order_shown"].split(" | ")[0]
    assert len(vote["pair"].split(" | ")) == 2
    assert visitor.canvas.is_visible()
    assert page.locator("#compare .entries").is_visible()
    visitor.open("Bach, Prelude in C, BWV 846")
    page.locator("#compare .result").wait_for(state="hidden")


def test_recordings_are_dropped_and_heard_at_the_same_bar(visitor: Visitor, tmp_path: Path) -> None:
    page, score = visitor.page, two_bars()
    (tmp_path / "bars.musicxml").write_bytes(write_musicxml(score))
    doc = visitor.data("doc")
    page.locator("#top input[type=file]").set_input_files(tmp_path / "bars.musicxml")
    visitor.wait(f"d.doc !== '{doc}' && +d.count === {len(score)}")
    page.get_by_role("tab", name="Compare").click()
    sound = encode_audio(Preview().preview(deadpan(score, bpm=80)), "flac")
    files = {"slow.flac": sound, "fast.mid": write_midi(deadpan(score, bpm=150)), "no.ogg": b"OggS"}
    page.evaluate(
        """files => {
            const kept = new DataTransfer();
            for (const [name, text] of Object.entries(files))
                kept.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name));
            const drop = new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: kept });
            document.querySelector('#curves').dispatchEvent(drop);
        }""",
        {name: base64.b64encode(data).decode() for name, data in files.items()},
    )
    page.wait_for_function(
        "document.querySelector('#compare .status').textContent.startsWith('Transcribing slow.flac')"
    )
    assert page.locator("#compare .halt").is_visible()
    until(visitor, lambda d: d.get("entries") == "3" and d["drawn"] == "true", seconds=400)  # 10 s of a quiet core
    told = page.locator("#compare .status").inner_text()
    assert told.startswith("no.ogg: This recording is damaged"), told
    assert page.locator("#compare .found").all_inner_texts() == ["100% found", "100% found"]
    assert page.locator("#curves .legend span").count() == 3
    page.locator("#compare .hear[data-key=pin1]").click()
    until(visitor, lambda d: d["heard"] == "pin1" and d["playing"] == "true" and "pin2" in d["ready"].split())
    page.wait_for_timeout(1500)
    before = float(shown(visitor)["quarter"])
    page.locator("#compare .hear[data-key=pin2]").click()
    after = float(until(visitor, lambda d: d["heard"] == "pin2" and d["playing"] == "true")["quarter"])
    assert before > 0.5
    assert -0.2 < after - before < 4, "switched at the same bar"


def test_a_passage_repeats_and_is_practised(visitor: Visitor) -> None:
    visitor.open(SHORT)
    visitor.wait_for_sound()
    box = visitor.canvas.bounding_box()
    assert box
    (x0, _), (x1, _) = visitor.at(800, 60), visitor.at(1800, 60)
    visitor.page.keyboard.down("Shift")
    visitor.drag((x0, box["y"] + 12), (x1, box["y"] + 12))
    visitor.page.keyboard.up("Shift")
    visitor.wait("d.looping === 'true'")
    visitor.page.locator("#roll .play").click()
    seen = visitor.page.evaluate(
        """async () => { const a = document.querySelector('#roll audio'), t = [], t0 = performance.now();
            while (performance.now() - t0 < 6000) { t.push(a.currentTime); await new Promise(r => setTimeout(r, 20)); }
            return t; }"""
    )
    assert max(seen) < 2.3, "it went on behind the passage"
    assert sum(b < a for a, b in pairwise(seen)) >= 2, "it did not repeat"
    visitor.canvas.focus()
    visitor.page.keyboard.press("l")
    visitor.wait("d.looping === 'false'")
    assert visitor.page.locator("#roll .loop").get_attribute("aria-pressed") == "false"
    # practice: a bar counted in, half the speed at the same pitch, a click on every beat, and less loud
    page, playing = visitor.page, "!document.querySelector('#roll audio').paused"
    page.locator("#roll .stop").click()
    page.locator("#roll .speed").select_option("50")
    page.locator("#roll .volume").fill("50")
    for name in ("metronome", "countin"):
        page.locator(f"#roll .{name}").click()
    page.locator("#roll .play").click()
    page.wait_for_timeout(300)
    assert not page.evaluate(playing)
    assert visitor.data("clicks") == "3", "the beats of the first bar, 3/4"
    page.wait_for_function(playing)
    now = "[performance.now(), 1000 * document.querySelector('#roll audio').currentTime]"
    before = page.evaluate(now)
    page.wait_for_timeout(3000)
    after = page.evaluate(now)
    assert (after[1] - before[1]) / (after[0] - before[0]) == pytest.approx(0.5, abs=0.1)
    assert int(visitor.data("clicks")) > 3
    player = "(a => [a.playbackRate, a.preservesPitch, a.volume])(document.querySelector('#roll audio'))"
    assert page.evaluate(player) == [0.5, True, 0.25]
    page.locator("#roll .stop").click()


def test_a_cell_of_the_note_table_is_an_edit(visitor: Visitor) -> None:
    visitor.open(SHORT)
    before, page = visitor.performance(), visitor.page
    page.locator("#roll .notes").click()
    table = page.get_by_role("grid", name="Notes of the performance")
    assert table.locator("tbody tr").count() == 100
    assert "of 168" in page.locator("#roll .part").inner_text()
    assert table.locator("thead th").all_inner_texts() == [
        "Bar", "Beat", "Note", "Onset, s", "Duration, s", "Velocity", "Staff",
    ]  # fmt: skip
    first = table.locator("tbody tr").first.locator("[data-column='2']")
    assert first.inner_text() == "E4"
    first.click()
    page.keyboard.press("Enter")
    page.keyboard.type("H2")
    page.keyboard.press("Enter")
    assert page.locator("#roll .table input[aria-invalid=true]").count() == 1
    page.keyboard.press("Escape")
    page.keyboard.type("F#4")
    page.keyboard.press("Enter")
    visitor.wait("+d.rev === 1")
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.type("101")
    page.keyboard.press("Enter")
    visitor.wait("+d.rev === 2")
    visitor.wait_for_sound()
    played = visitor.performance()
    at = int(before.onset_sec.argmin())
    assert (before.pitch[at], played.pitch[at], played.velocity[at]) == (64, 66, 101)
    assert len(played) == len(before)
    page.keyboard.press("Control+z")
    visitor.wait("+d.rev === 3")
    velocity = table.locator("tbody tr").first.locator("[data-column='5']")
    page.wait_for_function(
        "text => document.querySelector('#roll tbody [data-column=\"5\"]').textContent === text",
        arg=str(before.velocity[at]),
    )
    velocity.click()  # the downloads had the focus
    page.keyboard.press("Delete")
    visitor.wait("+d.count === 167")
    page.locator("#roll .after").click()
    assert page.locator("#roll .part").inner_text() == "Notes 101–167 of 167"


def test_a_phone_can_compare(browser: Browser, address: str) -> None:
    from tests.helpers.pages import visit

    visitor = visit(browser, address, viewport={"width": 390, "height": 844})
    visitor.page.get_by_role("tab", name="Compare").click()
    visitor.page.locator("#compare-pin").click()
    until(visitor, lambda d: d.get("entries") == "2")
    assert visitor.page.evaluate("document.documentElement.scrollWidth") == 390
    assert visitor.errors == []
    visitor.page.context.close()
