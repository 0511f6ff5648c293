"""Notebook output of scores and performances in a browser: visible notes, audible sound."""

from pathlib import Path
from typing import TYPE_CHECKING

import engine.etude as etude
from tests.helpers.command_line import little_piece

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SEEN = "nodes => nodes.map(n => n.getBoundingClientRect()).filter(box => box.width > 0 && box.height > 0).length"


def test_a_page_a_roll_and_a_player(browser: "Browser", tmp_path: Path) -> None:
    score = etude.Score.of(little_piece())
    played = etude.perform(score)
    parts = [score, played, etude.preview(played), etude.compare(score, {"a": played})]
    body = "".join(part._repr_html_() for part in parts)
    (tmp_path / "cell.html").write_text(f'<!DOCTYPE html><meta charset="utf-8"><body>{body}', encoding="utf-8")
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "cell.html").as_uri())
    assert page.eval_on_selector_all("svg:not(.roll) g.note", SEEN) == len(score)
    assert page.eval_on_selector_all("svg.roll rect.note", SEEN) == len(played)
    assert page.eval_on_selector_all("svg.waveform path", SEEN) == 1
    assert page.locator("audio").count() == 2
    for player in page.locator("audio").all():
        player.evaluate("a => { a.muted = true; return a.play() }")
        page.wait_for_function("a => a.currentTime > 0.1", arg=player.element_handle())
        assert abs(player.evaluate("a => a.duration") - (played.end_sec + 2)) < 1.5
    assert page.locator("table.measured").count() >= 1
    assert errors == []
    page.close()
