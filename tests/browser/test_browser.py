"""The page in headless Chromium, with a real server and mouse events."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, expect

from engine.music.io.midi import write_midi
from engine.music.types import Performance
from engine.untrusted.scores import open_score
from tests.helpers.pages import PATIENCE_SEC, ROOT, SHORT, Visitor, leave_phone, visit, visit_by_phone


def heard_off_ms(samples: np.ndarray, rate: int, onset_sec: np.ndarray) -> np.ndarray:
    """Distances of the sound's attacks from the written onsets, in milliseconds.

    For each onset after 100 ms without one, the steepest rise of loudness within 60 ms is compared with the nearest
    written onset. The sound is differenced twice, which emphasises the hammer over the tone.
    """
    hop = rate // 500
    samples = np.diff(samples, n=2)
    frames = len(samples) // hop
    level = np.sqrt((samples[: frames * hop].reshape(frames, hop) ** 2).mean(1))
    rise = np.diff(np.convolve(level, np.ones(3) / 3, "same"), prepend=0.0)
    onset_sec = np.sort(onset_sec)
    fresh = onset_sec[np.diff(onset_sec, prepend=-1.0) > 0.1]
    off = []
    for onset in fresh:
        middle = round(onset * rate / hop)
        start = max(0, middle - 30)
        heard = (start + int(rise[start : middle + 31].argmax())) * hop / rate
        off.append(1000 * np.abs(onset_sec - heard).min())
    return np.array(off)


def test_open_drag_hear_edit_undo_download(visitor: Visitor) -> None:
    visitor.open(SHORT)
    visitor.wait_for_sound()
    before = visitor.performance()

    redrawn = visitor.drag_slider("axis-tempo", 0.9)
    visitor.wait_for_sound()
    print(f"slider: roll redrawn after {1000 * redrawn:.0f} ms")
    played = visitor.performance()
    assert len(played) == len(before) == visitor.count()
    assert played.end_sec < before.end_sec, "a faster tempo was asked for"

    samples, rate = visitor.sound()
    assert np.abs(samples).max() > 0.05
    assert len(samples) / rate == pytest.approx(played.end_sec, abs=10)
    off = heard_off_ms(samples, rate, played.onset_sec)
    assert len(off) >= 10
    assert np.mean(off <= 30) >= 0.95, f"attacks heard {off.round()} ms away from the notes"

    loudest = int(played.velocity.argmax())
    on, pitch = 1000 * played.onset_sec[loudest], int(played.pitch[loudest])
    visitor.page.evaluate("window.scrollTo(0, 0)")
    visitor.canvas.focus()
    visitor.page.keyboard.press("f")
    visitor.page.wait_for_timeout(100)
    length = 1000 * played.duration_sec[loudest]
    visitor.page.mouse.click(*visitor.at(on + 0.3 * length, pitch))
    assert visitor.data("selected") == "1"
    visitor.page.keyboard.press("Delete")
    visitor.wait(f"+d.count === {len(played) - 1}")
    visitor.wait_for_sound()
    without = visitor.performance()
    assert len(without) == len(played) - 1
    missing = (np.abs(without.onset_sec - on / 1000) < 0.002) & (without.pitch == pitch)
    assert not missing.any()

    visitor.page.locator("#roll .undo").click()
    visitor.wait(f"+d.count === {len(played)}")
    visitor.wait_for_sound()
    again = visitor.performance()
    for name in ("onset_sec", "duration_sec", "pitch", "velocity", "pedal_sec", "pedal_value"):
        assert np.array_equal(getattr(again, name), getattr(played, name)), f"undo left {name} changed"


def test_every_download(visitor: Visitor) -> None:
    visitor.open(SHORT)
    names = {}
    for kind in ("midi", "locked", "musicxml", "played", "pdf", "wav", "flac"):
        names[kind], data = visitor.download(kind)
        assert len(data) > 200, kind
        if kind == "pdf":
            assert data.startswith(b"%PDF-")
        elif kind in ("wav", "flac"):
            samples, _ = soundfile.read(io.BytesIO(data))
            assert np.abs(samples).max() > 0.01
        else:
            assert len(open_score(data, names[kind])) == visitor.count()
    visitor.page.locator("#export").press("Enter")  # by keyboard: opened, an entry chosen with an arrow key, closed
    visitor.page.keyboard.press("ArrowDown")
    assert visitor.page.evaluate("document.activeElement.id") == "save-musicxml"
    visitor.page.keyboard.press("Escape")
    assert visitor.page.evaluate("document.activeElement.id") == "export"
    assert visitor.page.locator("#export-menu").is_hidden()
    assert names["midi"] == "Chopin-Prelude-op-28-no-7.mid"
    assert len(set(names.values())) == 7


def test_data_for_other_programs_and_a_match_file_opened(visitor: Visitor) -> None:
    visitor.open(SHORT)
    count = visitor.count()
    made = {kind: visitor.download(kind) for kind in ("notes", "sv-tempo", "match", "all")}
    assert made["notes"][0] == "Chopin-Prelude-op-28-no-7-notes.csv"
    assert len(made["notes"][1].decode("utf-8-sig").splitlines()) == count + 1
    assert b'type="timevalues"' in made["sv-tempo"][1]
    file = {"name": "mine.match", "mimeType": "text/plain", "buffer": made["match"][1]}
    visitor.page.locator("#top input[type=file]").set_input_files(file)  # type: ignore[arg-type]
    expect(visitor.page.locator("#human-text textarea")).to_have_value("mine.match", timeout=1000 * PATIENCE_SEC)
    assert visitor.count() == count


def test_twenty_fast_edits_arrive(visitor: Visitor) -> None:
    visitor.open(SHORT)
    before = visitor.performance()
    visitor.page.keyboard.press("Escape")
    visitor.canvas.focus()
    visitor.page.keyboard.press("n")
    for _ in range(10):
        visitor.page.keyboard.press("ArrowUp")
    visitor.page.keyboard.press("Escape")
    for _ in range(10):
        visitor.page.keyboard.press("ArrowRight")
        visitor.page.keyboard.press("ArrowUp")
        visitor.page.keyboard.press("Enter")
        visitor.page.keyboard.press("Escape")
    visitor.wait(f"+d.rev === 20 && +d.count === {len(before) + 10}")
    visitor.wait_for_sound()
    after = visitor.performance()
    assert len(after) == len(before) + 10
    assert after.pitch.sum() - before.pitch.sum() > 0
    moved = sorted(set(before.pitch.tolist()).symmetric_difference(after.pitch.tolist()))
    assert moved, "ten transpositions of the first note changed nothing"

    visitor.canvas.focus()
    for _ in range(20):
        visitor.page.keyboard.press("Control+z")
    visitor.wait("+d.rev === 40")
    visitor.wait_for_sound()
    restored = visitor.performance()
    assert np.array_equal(restored.pitch, before.pitch)
    assert np.array_equal(restored.onset_sec, before.onset_sec)


def test_a_style_belongs_to_its_piece_and_undo_asks_before_it_leaves(visitor: Visitor) -> None:
    visitor.open(SHORT)
    visitor.drag_slider("axis-loudness", 0.9)
    moved = visitor.page.locator("#axis-loudness input[type=range]").input_value()
    assert float(moved) > 1
    visitor.open("Bach, Prelude in C, BWV 846")
    expect(visitor.page.locator("#axis-loudness input[type=range]")).to_have_value("0", timeout=60_000)
    visitor.canvas.focus()
    visitor.page.keyboard.press("n")
    visitor.page.keyboard.press("ArrowUp")
    visitor.wait("+d.rev === 1")
    for _ in range(6):
        visitor.page.keyboard.press("Control+z")
        time.sleep(0.4)
    back = visitor.page.get_by_role("button", name=f"Back to “{SHORT}”")
    assert back.is_visible(), "the edit is undone; what follows is a question"
    doc = visitor.data("doc")
    visitor.page.keyboard.press("Escape")
    assert not back.is_visible()
    assert visitor.data("doc") == doc
    visitor.page.locator("#roll .undo").click()
    back.click()
    visitor.wait(f"d.doc !== '{doc}'")
    expect(visitor.page.locator("#axis-loudness input[type=range]")).to_have_value(moved, timeout=60_000)


def test_edits_survive_a_new_style(visitor: Visitor) -> None:
    visitor.open(SHORT)
    before = visitor.performance()
    visitor.canvas.focus()
    visitor.page.keyboard.press("n")
    visitor.page.keyboard.press("Shift+ArrowUp")
    visitor.wait("+d.rev === 1")
    first = int(before.pitch[before.onset_sec.argmin()])
    visitor.drag_slider("axis-loudness", 0.2)
    after = visitor.performance()
    assert len(after) == len(before)
    assert visitor.page.locator("#roll .live").inner_text() == "Your edited note stays as you made it"
    assert sorted(after.pitch.tolist()) != sorted(before.pitch.tolist()), f"the note moved up from {first} was put back"
    visitor.canvas.focus()
    visitor.page.keyboard.press("Control+z")
    visitor.wait_for_sound()
    assert sorted(visitor.performance().pitch.tolist()) == sorted(before.pitch.tolist())


def test_selection_is_played_again_and_nothing_else(visitor: Visitor) -> None:
    visitor.open(SHORT)
    before = visitor.performance()
    visitor.canvas.focus()
    for _ in range(3):
        visitor.page.keyboard.press("n")
    take = visitor.data("take")
    visitor.page.keyboard.press("r")
    visitor.wait(f"d.take !== '{take}'")
    after = visitor.performance()
    notes = [
        set(zip(p.pitch.tolist(), p.onset_sec.round(4).tolist(), p.velocity.tolist(), strict=True))
        for p in (before, after)
    ]
    assert 1 <= len(notes[0] - notes[1]) <= 2, "only the selected note, and one that it cuts short, may differ"


def test_two_visitors_never_mix(browser: Browser, address: str) -> None:
    one, two = visit(browser, address), visit(browser, address)
    one.open(SHORT)
    two.open("Schumann, Kreisleriana no. 4")
    counts = one.count(), two.count()
    for turn in range(3):
        for visitor in (one, two):
            visitor.canvas.focus()
            visitor.page.keyboard.press("n")
            visitor.page.keyboard.press("Delete")
        one.drag_slider("axis-tempo", 0.2 + 0.3 * turn)
    for visitor, count in zip((one, two), counts, strict=True):
        visitor.wait_for_sound()
        assert visitor.count() == count - 3
        assert len(visitor.performance()) == count - 3
    assert one.download("midi")[0].startswith("Chopin")
    assert two.download("midi")[0].startswith("Schumann")
    assert one.page.locator("#axis-tempo input[type=number]").input_value() != "0"
    assert two.page.locator("#axis-tempo input[type=number]").input_value() == "0"
    for visitor in (one, two):
        assert visitor.errors == []
        assert visitor.outside == []
        visitor.page.context.close()


HOSTILE = "<img src=x onerror='window.hacked=1'>${window.hacked=1}{{title}}"


def test_a_file_is_refused_or_opened_with_its_remarks(visitor: Visitor) -> None:
    visitor.open(SHORT)
    page, remarks = visitor.page, visitor.page.locator("#roll .remarks")
    upload = page.locator("#open").locator("xpath=..").locator("input[type=file]")
    count, doc = visitor.count(), visitor.data("doc")
    upload.set_input_files(
        {"name": f"{HOSTILE[:40]}.mid".replace("/", ""), "mimeType": "audio/midi", "buffer": b"MThd nonsense"}
    )
    page.locator(".toast-body").first.wait_for()
    page.wait_for_timeout(300)
    assert visitor.count() == count
    assert visitor.data("doc") == doc
    assert page.evaluate("window.hacked") is None
    assert remarks.is_hidden()

    song = (ROOT / "tests" / "data" / "reading" / "v1-voice-and-piano.musicxml").read_bytes()
    file = {"name": "song.musicxml", "mimeType": "application/xml", "buffer": song}
    upload.set_input_files(file)
    visitor.wait(f"d.doc !== '{doc}' && +d.count === 2")
    assert remarks.locator("summary").inner_text() == "2 remarks"
    assert remarks.locator("ul").is_hidden()
    remarks.locator("summary").click()
    lines = remarks.locator("li").all_inner_texts()
    assert lines[0] == "Bar 1: this part is left out; the keyboard part is played (part “Voice”)."
    assert lines[1].startswith("To play the voice as well")
    page.locator("#with-voice input").check()
    doc = visitor.data("doc")
    upload.set_input_files([])
    upload.set_input_files(file)
    visitor.wait(f"d.doc !== '{doc}' && +d.count === 3")
    assert remarks.locator("summary").inner_text() == "1 remark"


def test_a_title_is_shown_as_text(visitor: Visitor) -> None:
    text = (ROOT / "examples" / "bach-fugue-bwv-846.musicxml").read_text(encoding="utf-8")
    title = HOSTILE.replace("&", "&amp;").replace("<", "&lt;")
    start = text.index(">", text.index("<score-partwise")) + 1
    text = text[:start] + f"<work><work-title>{title}</work-title></work>" + text[start:]
    doc = visitor.data("doc")
    visitor.page.locator("#open").locator("xpath=..").locator("input[type=file]").set_input_files(
        {"name": "a.musicxml", "mimeType": "application/xml", "buffer": text.encode()}
    )
    visitor.wait(f"d.doc !== '{doc}' && +d.count > 0")
    assert visitor.page.locator("#roll .title").inner_text() == HOSTILE
    assert visitor.page.evaluate("window.hacked") is None
    name = visitor.download("midi")[0]
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.")


def test_human_performance_under_the_curves_and_its_style(visitor: Visitor) -> None:
    visitor.wait_for_sound()
    visitor.page.locator("#human-example").click()
    visitor.page.wait_for_function(
        "document.querySelector('#human-text textarea, #human-text input').value.startsWith('Shi')"
    )
    visitor.page.wait_for_function("document.querySelector('#curves .legend')?.textContent.includes('human')")
    take = visitor.data("take")
    visitor.page.locator("#human-style").click()
    visitor.wait(f"d.take !== '{take}'")
    assert "human" in visitor.page.locator("#preset input").input_value()
    visitor.wait_for_sound()


def test_play_follows_the_sound_and_stops(visitor: Visitor) -> None:
    visitor.open(SHORT)
    visitor.wait_for_sound()
    visitor.page.keyboard.press("Space")
    visitor.page.wait_for_function("document.querySelector('#roll audio').currentTime > 0.3")
    visitor.page.keyboard.press("Escape")
    assert visitor.page.evaluate("document.querySelector('#roll audio').paused")
    assert visitor.page.evaluate("document.querySelector('#roll audio').currentTime") == 0


def big_midi(count: int = 5000) -> bytes:
    """Two voices in eighths, long enough for a progress display."""
    i = np.arange(count)
    return write_midi(Performance(0.125 * (i // 2), np.full(count, 0.12), 48 + i % 2 * 16 + i // 2 % 7, 50 + i % 40))


def test_long_work_shows_its_share_and_can_be_cancelled(visitor: Visitor) -> None:
    visitor.open(SHORT)
    visitor.wait_for_sound()
    doc, page = visitor.data("doc"), visitor.page
    cancel, busy, chosen = page.locator("#roll .cancel"), page.locator("#roll .what"), page.locator("#example input")
    upload = page.locator("#open").locator("xpath=..").locator("input[type=file]")
    file = {"name": "big.mid", "mimeType": "audio/midi", "buffer": big_midi()}

    upload.set_input_files(file)
    page.wait_for_function("document.querySelector('#roll .what').textContent.endsWith('%')")
    cancel.click()
    busy.wait_for(state="hidden", timeout=5000)
    assert page.locator("#roll .live").inner_text() == "Cancelled; nothing has changed"
    assert (visitor.data("doc"), chosen.input_value()) == (doc, SHORT)

    upload.set_input_files([])
    upload.set_input_files(file)
    visitor.wait("+d.count === 5000", 90)
    assert chosen.input_value() == "big", "a piece of one's own is named, too"

    take = int(visitor.data("take"))
    slider = page.locator("#axis-tempo input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    at = [(box["x"] + share * box["width"], y) for share in (0.5, 0.8, 0.3, 0.6)]
    visitor.drag(at[0], at[1])
    busy.wait_for()
    visitor.drag(at[1], at[2])
    visitor.wait(f"+d.take > {take}")
    assert int(visitor.data("take")) == take + 1, "the older of two drags was stopped"
    number = page.locator("#axis-tempo input[type=number]")
    value = number.input_value()
    assert float(value) < 0
    visitor.drag(at[2], at[3])
    page.wait_for_function("document.querySelector('#roll .what').textContent.startsWith('Performing')")
    cancel.click()
    page.wait_for_function(f"document.querySelector('#axis-tempo input[type=number]').value === '{value}'")
    assert int(visitor.data("take")) == take + 1
    visitor.open(SHORT)
    visitor.wait_for_sound()


def test_phone_in_the_dark(browser: Browser, address: str) -> None:
    leave_phone(visit_by_phone(browser, address))


def test_the_page_announces_the_first_piece(browser: Browser, address: str) -> None:
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    page.add_init_script(
        """window.seen = { heights: [], words: [] };
        setInterval(() => {
            const box = document.querySelector('#curves canvas');
            const live = document.querySelector('#roll .live');
            if (box && live) { seen.heights.push(box.clientHeight); seen.words.push(live.textContent); }
        }, 20);"""
    )
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_function("+document.querySelector('#curves canvas')?.dataset.drawn > 0", timeout=60_000)
    page.wait_for_timeout(500)
    seen = page.evaluate("window.seen")
    assert seen["words"][0] == "Loading the first piece…"
    assert len(set(seen["heights"])) == 1, "nothing moves when the curves come"
    page.context.close()
