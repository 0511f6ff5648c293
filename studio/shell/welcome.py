"""The start card, and the notice for a returning visitor."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from studio.widgets.roll.roll import OF_PIECE

TOURS = {
    "fugue": "A Bach fugue, restyled\nin one pianist’s way (WangA)",
    "nocturne": "A nocturne, composed\nafter Chopin, in 12/8",
    "musicxml": "A MusicXML file, opened\nlike your own",
    "phone": "A sound, borrowed\nfrom a recording or your phone",
}
ON_PIECE = ("phone",)  # these act on the open piece


@dataclass(frozen=True)
class Welcome:
    """Components of both.

    browser  stored in the browser: {"token": secret of the autosave, "start": whether to show the card}
    card     four worked examples; close hides it permanently
    back     the notice and its text; other opens the work of another tab, afresh and stay close it
    """

    browser: gr.BrowserState
    card: gr.Row
    tours: dict[str, gr.Button]
    close: gr.Button
    back: gr.Row
    word: gr.HTML
    other: gr.Button
    afresh: gr.Button
    stay: gr.Button


def build_welcome() -> Welcome:
    """Build both, hidden, inside an open gr.Blocks."""
    # The token is the secret, not this key: without a fixed key, Gradio cannot decrypt its storage after a restart.
    browser = gr.BrowserState(None, storage_key="etude-visit", secret="etude")
    with gr.Row(visible=False, elem_id="start", elem_classes="card", equal_height=True) as card:
        gr.HTML("<h2>Start here</h2><p class='hint'>One click each, under a minute.</p>", elem_id="start-word")
        tours = {
            name: gr.Button(
                text,
                size="sm",
                elem_id=f"start-{name}",
                min_width=150,
                elem_classes=OF_PIECE if name in ON_PIECE else None,
            )
            for name, text in TOURS.items()
        }
        close = gr.Button("Close", size="sm", elem_id="start-close", min_width=60, scale=0)
    with gr.Row(visible=False, elem_id="back-bar", elem_classes="card") as back:
        word = gr.HTML("", elem_id="back-word")
        other = gr.Button(
            "Open another tab’s work", size="sm", elem_id="back-other", min_width=130, scale=0, visible=False
        )
        afresh = gr.Button("Start over", size="sm", elem_id="back-afresh", min_width=100, scale=0)
        stay = gr.Button("Close", size="sm", elem_id="back-stay", min_width=60, scale=0)
    return Welcome(browser, card, tours, close, back, word, other, afresh, stay)
