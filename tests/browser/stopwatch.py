"""Seven usual tasks on the page with their clicks, scrolls and seconds: `python -m tests.browser.stopwatch [ADDRESS]`.

A drag or a chosen file counts as one click. A scroll is counted when a control is not in view, in the page or in its
panel, before it is pressed. Seconds run from the first click until the result is there, on the machine as it is.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Error, Locator

from tests.helpers.pages import ROOT, SHORT, Visitor, chromium, serving, visit

WAIT_SEC = 240
EARLIER = {"a": 12, "b": 5, "c": 8, "d": 5, "e": 10, "f": 11, "g": 7}  # clicks before the page was one screen
IN_VIEW = """e => { const b = e.getBoundingClientRect(), x = b.x + b.width / 2, y = b.y + b.height / 2;
    const top = document.elementFromPoint(x, y); return !!top && (e.contains(top) || top.contains(e)); }"""
SCORE, HUMAN = (ROOT / "tests" / "data" / f"bach_prelude_868{end}" for end in (".musicxml", "_GonzalezJ05M.mid"))


@dataclass
class Watch:
    """Counts what a visitor does."""

    visitor: Visitor
    clicks: int = 0
    scrolls: int = 0

    def _there(self, control: Locator) -> Locator:
        control.wait_for(state="attached", timeout=1000 * WAIT_SEC)
        if not control.evaluate(IN_VIEW):
            self.scrolls += 1
            control.scroll_into_view_if_needed()
        self.clicks += 1
        return control

    def click(self, selector: str) -> None:
        self._there(self.visitor.page.locator(selector).first).click()

    def option(self, menu: str, name: str) -> None:
        self.click(f"#{menu} input")
        self._there(self.visitor.page.get_by_role("option", name=name, exact=True)).click()

    def file(self, selector: str, path: Path) -> None:
        with self.visitor.page.expect_file_chooser() as chooser:
            self.click(selector)
        chooser.value.set_files(path)

    def slide(self, name: str, share: float) -> None:
        self._there(self.visitor.page.locator(f"#{name} input[type=range]"))
        self.visitor.drag_slider(name, share)

    def bars(self, first_ms: float, last_ms: float) -> None:
        """Drag a box over the notes of some bars."""
        self.clicks += 1
        view = json.loads(self.visitor.data("view"))
        self.visitor.drag(self.visitor.at(first_ms, view["hi"]), self.visitor.at(last_ms, view["lo"]))

    def until(self, script: str) -> None:
        self.visitor.page.wait_for_function(script, timeout=1000 * WAIT_SEC)


def waltz(w: Watch) -> None:
    """(a) A 32-bar waltz after Chopin in A minor, heard."""
    w.click("#compose-tab-button")
    w.click("#intent-waltz")
    w.option("compose-who", "Chopin")
    w.option("compose-key", "A minor")
    w.click("#compose")
    w.until("() => document.querySelector('#takes audio')?.currentTime > 0.2")


def another_idea(w: Watch) -> None:
    """(b) Other music for some bars, heard."""
    w.bars(3000, 9000)
    w.click("#roll .palette [data-do=idea]")
    w.until("() => document.querySelector('#takes audio')?.currentTime > 0.2")


def slower(w: Watch) -> None:
    """(c) Slower and freer, then the version before."""
    w.click("#perform-tab-button")
    w.slide("axis-tempo", 0.3)
    w.slide("axis-rubato", 0.8)
    version = w.visitor.data("version")
    w.click("#roll .was")
    w.visitor.wait(f"d.version !== '{version}'", WAIT_SEC)


def own_files(w: Watch) -> None:
    """(d) One's own MusicXML and a human performance in the tempo curve."""
    doc = w.visitor.data("doc")
    w.file("#open", SCORE)
    w.visitor.wait(f"d.doc !== '{doc}' && +d.count > 0", WAIT_SEC)
    w.click("#perform-tab-button")
    w.file("#human-file", HUMAN)
    w.until("() => [...document.querySelectorAll('#curves .legend span')].some(e => e.textContent === 'human')")


def like_mine(w: Watch) -> None:
    """(e) Some bars in the sound of a reference recording."""
    w.click("#render-tab-button")
    w.click("#gallery button:nth-of-type(2)")
    w.bars(1000, 9000)
    w.click("#roll .palette [data-do=render]")
    w.until("() => document.querySelector('#listen .listen')?.dataset.playing === 'true'")


def project(w: Watch) -> None:
    """(f) Everything saved, then opened again."""
    with w.visitor.page.expect_download(timeout=1000 * WAIT_SEC) as waiting:
        w.click("#export")
        w.click("#save-project")
    path = Path(waiting.value.path())
    mine = path.with_suffix(".etude")
    mine.write_bytes(path.read_bytes())
    doc = w.visitor.data("doc")
    w.file("#open", mine)
    w.visitor.wait(f"d.doc !== '{doc}' && +d.count > 0", WAIT_SEC)


def study(w: Watch) -> None:
    """(g) A blind study begun."""
    w.click("#compare-tab-button")
    w.click("#compare-play")
    w.until("() => +document.querySelector('#compare .compare')?.dataset.entries >= 2")
    w.click("#study-begin")
    w.until("() => 'study' in document.body.dataset")


TASKS: dict[str, Callable[[Watch], None]] = {
    "a": waltz, "b": another_idea, "c": slower, "d": own_files, "e": like_mine, "f": project, "g": study,
}  # fmt: skip


def main() -> None:
    """Print one row a task."""
    with nullcontext(sys.argv[1]) if len(sys.argv) > 1 else serving() as address, chromium() as browser:
        visitor = visit(browser, address, viewport={"width": 1440, "height": 900})
        visitor.open(SHORT)
        visitor.wait_for_sound(WAIT_SEC)
        print("task  clicks  before  scrolls  seconds")
        for letter, task in TASKS.items():
            watch, begun = Watch(visitor), time.perf_counter()
            try:
                task(watch)
                took = f"{time.perf_counter() - begun:7.1f}"
            except Error as problem:
                took = f"stopped: {str(problem).splitlines()[0]}"
            row = f"({letter}) {watch.clicks:8} {EARLIER[letter]:7} {watch.scrolls:8} {took}"
            print(f"{row}  {(task.__doc__ or '').splitlines()[0]}", flush=True)
            visitor.page.keyboard.press("Escape")
            visitor.page.wait_for_timeout(500)


if __name__ == "__main__":
    main()
