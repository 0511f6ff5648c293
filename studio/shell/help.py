"""Help in the page: the documents of docs/, read when they are wanted, so that nothing is written twice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

DOCS = Path(__file__).parents[2] / "docs"
PARTS = {"Every control": "studio.md", "Words": "vocabulary.md", "Models": "models.md", "Limits": "limits.md"}
_LINK = re.compile(r"!?\[([^\]]*)\]\((?!https?:)[^)]*\)")  # to another file of ours


@dataclass(frozen=True)
class Help:
    """The box and its sides, in the order of PARTS."""

    box: gr.Accordion
    again: gr.Button
    sides: tuple[gr.Markdown, ...]


def build_help() -> Help:
    """Lay it out, empty, inside an open gr.Blocks."""
    with gr.Accordion("Help", open=False, elem_id="help-box", elem_classes="card") as box:
        with gr.Row(elem_id="help-row"):
            gr.HTML(
                "<p class='hint'>Keys: press <b>?</b> on the piano roll, or Shortcuts above it.</p>",
                elem_id="help-keys",
            )
            again = gr.Button("Start here", size="sm", elem_id="help-start", min_width=90, scale=0)
        sides = []
        with gr.Tabs(elem_id="help"):
            for title in PARTS:
                with gr.Tab(title, render_children=True):
                    sides.append(gr.Markdown("", latex_delimiters=[], elem_classes="help-text"))
    return Help(box, again, tuple(sides))


def help_text(file: str) -> str:
    """A document as the page shows it: links to other files of ours are only words here."""
    path = DOCS / file
    if not path.exists():
        return f"docs/{file} is not here; fetch Étude again to read it."
    return _LINK.sub(r"\1", path.read_text(encoding="utf-8"))
