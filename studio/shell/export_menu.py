"""The Export menu: every file that the page writes. Its buttons' events are in the panels' events.py."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from engine.measures.exports import ALL, EXPORTS
from studio.widgets.roll.roll import OF_PIECE

_SCORE = {"pdf": "PDF", "musicxml": "MusicXML", "locked": "MIDI for notation"}
_PLAYED = {"midi": "MIDI", "played": "MusicXML as played", "wav": "WAV", "flac": "FLAC"}
_RENDER = {"wav": "Render, WAV", "flac": "Render, FLAC"}
# The player of renders knows which render is shown; its own buttons write the files.
_PRESS = """() => {
  const b = document.querySelector('#listen .save[data-kind=%s]');
  if (b && !b.disabled) return b.click();
  const detail = 'the render has no sound yet; wait a moment.';
  document.dispatchEvent(new CustomEvent('etude:unanswered', { detail }));
}"""


@dataclass(frozen=True)
class ExportMenu:
    """The menu's button and entries.

    downloads  the buttons of `studio.actions.editing.export`, by kind
    """

    opener: gr.Button
    downloads: dict[str, gr.Button]
    save_project: gr.Button


def build_opener() -> gr.Button:
    """The button that opens the menu; page.js has the behaviour."""
    return gr.Button("Export", elem_id="export", size="md", min_width=90)


def build_export(opener: gr.Button) -> ExportMenu:
    """Lay the menu out, inside an open gr.Blocks; studio.css shows it while it is open."""
    with gr.Column(elem_id="export-menu"):
        _heading("Score")
        downloads = _buttons(_SCORE)
        _heading("Performance, on the preview piano")
        downloads |= _buttons(_PLAYED)
        with gr.Column(elem_id="export-render"):
            _heading("Render that is shown")
            for kind, label in _RENDER.items():
                button = gr.Button(label, size="sm", min_width=150, elem_id=f"save-render-{kind}")
                button.click(None, None, None, js=_PRESS % kind)
        _heading("Data for other programs")
        downloads |= _buttons({**{k: export.label for k, export in EXPORTS.items()}, ALL: "All of these, zip"})
        _heading("Project, with takes, versions and renders")
        save_project = gr.Button("Save project", elem_id="save-project", size="sm", min_width=150)
    return ExportMenu(opener, downloads, save_project)


def _heading(text: str) -> None:
    gr.HTML(f"<p class='hint'>{text}</p>", elem_classes="export-heading")


def _buttons(labels: dict[str, str]) -> dict[str, gr.Button]:
    return {
        kind: gr.Button(label, size="sm", min_width=150, elem_id=f"save-{kind}", elem_classes=OF_PIECE)
        for kind, label in labels.items()
    }
