"""Pictures of every side of the panel for docs/: `python tests/screenshots.py [ADDRESS]`.

With a server of its own if none is named. Few colours, so that each stays under 250 kB.
"""

from __future__ import annotations

import io
import sys
from contextlib import nullcontext
from pathlib import Path

from pages import ROOT, Visitor, chromium, serving, visit
from PIL import Image
from playwright.sync_api import Page

MOST_BYTES = 250_000


def save(page: Page, name: str) -> Path:
    """What is on the screen, as docs/panel-NAME.png."""
    path = ROOT / "docs" / f"panel-{name}.png"
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for colours in (128, 64, 32, 16):
        picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < MOST_BYTES:
            break
    return path


def show(visitor: Visitor, side: str) -> None:
    """A side of the panel, with what it is about on the stage."""
    page = visitor.page
    page.get_by_role("tab", name=side, exact=True).first.click()
    page.wait_for_timeout(4000)
    page.evaluate("window.scrollTo(0, 0)")


def main() -> None:
    """Take them all."""
    with nullcontext(sys.argv[1]) if len(sys.argv) > 1 else serving() as address, chromium() as browser:
        visitor = visit(browser, f"{address}?__theme=light")
        visitor.wait_for_sound(120)
        for side in ("Compose", "Perform", "Render", "Compare"):
            show(visitor, side)
            path = save(visitor.page, side.lower())
            print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
