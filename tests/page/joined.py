"""Write each widget's script as the page runs it, its parts joined: `python -m tests.page.joined FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from studio.widgets.compare.compare import CompareView
from studio.widgets.form.form import FormStrip
from studio.widgets.gallery.gallery import ExcerptWindow, GalleryTiles
from studio.widgets.lens.lens import Lens
from studio.widgets.listen.listen import Listen
from studio.widgets.pianists.pianists import PianistCards
from studio.widgets.roll.roll import PianoRoll
from studio.widgets.score.score import ScoreView
from studio.widgets.takes.takes import TakeStrip

WIDGETS = (
    CompareView, ExcerptWindow, FormStrip, GalleryTiles, Lens, Listen, PianistCards, PianoRoll, ScoreView, TakeStrip,
)  # fmt: skip


def main() -> None:
    """One file a widget."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for widget in WIDGETS:
        (folder / f"{widget.__name__}.js").write_text(widget(render=False).js_on_load or "", encoding="utf-8")


if __name__ == "__main__":
    main()
