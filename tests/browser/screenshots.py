"""Screenshots of each panel for docs/images/: `python tests/browser/screenshots.py [ADDRESS]`.

Starts a server if no address is given. Few colours keep each file under 250 kB.
"""

from __future__ import annotations

import io
import sys
from contextlib import nullcontext
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from tests.helpers.pages import ROOT, Visitor, chromium, serving, visit

MAX_BYTES = 250_000


def save(page: Page, name: str) -> Path:
    """Save a screenshot as docs/images/NAME.png."""
    path = ROOT / "docs" / "images" / f"{name}.png"
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for colours in (128, 64, 32, 16):
        picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < MAX_BYTES:
            break
    return path


def whole(visitor: Visitor) -> None:
    """The page while it plays, with the version before in the curves."""
    visitor.page.locator("#start-close").click()
    visitor.drag_slider("axis-rubato", 0.85)
    visitor.wait_for_sound(120)
    visitor.canvas.focus()
    visitor.page.keyboard.press("Space")
    visitor.page.wait_for_function("document.querySelector('#roll audio').currentTime > 6")


def compose(visitor: Visitor) -> None:
    """Two takes of a composition, the first of them on the roll."""
    visitor.page.locator("#compose").click()
    visitor.page.locator("#takes .take").nth(1).wait_for()
    visitor.page.locator("#roll .busy").wait_for(state="hidden")


def perform(visitor: Visitor) -> None:
    """Another style than at first, and its curves."""
    visitor.page.keyboard.press("Escape")
    visitor.drag_slider("axis-rubato", 0.8)


def render(visitor: Visitor) -> None:
    """A rendering, with its spectrogram."""
    visitor.page.locator("#render").click()
    visitor.page.wait_for_function("() => document.querySelector('#listen .listen')?.dataset.whole === 'true'")


def compare(visitor: Visitor) -> None:
    """Three performances of the piece."""
    for number, button in enumerate(("#compare-pin", "#compare-example", "#compare-play")):
        visitor.page.locator(button).click()
        visitor.page.wait_for_function(
            f"() => +document.querySelector('#compare .compare')?.dataset.entries >= {number + 2}"
        )
    visitor.page.locator("#compare-tables .measured").first.wait_for()


SIDES = {"Compose": compose, "Perform": perform, "Sound": render, "Compare": compare}


def main() -> None:
    """Take all screenshots."""
    with nullcontext(sys.argv[1]) if len(sys.argv) > 1 else serving() as address, chromium() as browser:
        visitor = visit(browser, f"{address}?__theme=light", score=True, viewport={"width": 1440, "height": 900})
        visitor.wait_for_sound(120)
        whole(visitor)
        print(save(visitor.page, "screenshot").name)
        visitor.page.keyboard.press("Escape")
        for side, use in SIDES.items():
            visitor.page.get_by_role("tab", name=side, exact=True).first.click()
            use(visitor)
            visitor.page.wait_for_timeout(4000)
            path = save(visitor.page, f"panel-{side.lower()}")
            print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
