"""Help on the page: the documents of docs/, loaded when opened."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

DOCS = Path(__file__).parents[2] / "docs"
PARTS = {"Every control": "studio.md", "Words": "vocabulary.md", "Models": "models.md", "Limits": "limits.md"}
_LINK = re.compile(r"!?\[([^\]]*)\]\((?!https?:)[^)]*\)")  # to another document of the repository


@dataclass(frozen=True)
class Help:
    """The help and its tabs, in the order of PARTS."""

    again: gr.Button
    sides: tuple[gr.Markdown, ...]


def build_help() -> Help:
    """Lay it out, empty, inside its tab of the dock."""
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
    return Help(again, tuple(sides))


def help_text(file: str) -> str:
    """A document for the page; links to other documents become plain text."""
    path = DOCS / file
    if not path.exists():
        return f"docs/{file} is missing; install Étude again to read it."
    return _LINK.sub(r"\1", path.read_text(encoding="utf-8"))
