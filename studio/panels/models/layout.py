"""Components for the systems of the XMVAE paper, in the Compose panel. Their events are in events.py."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from engine.limits import MAX_Z_P, MIN_VARIED, PASSAGE_NOTES
from engine.requests import MODELS
from studio.service.shared_engine import SharedEngine
from studio.widgets.roll.roll import OF_PIECE

HINT = (
    "<p class='hint'>XMVAE and its baselines compose passages without conditions and play them themselves. "
    "Vary keeps part of the codes z_s of the selected bars, or of the first bars; with other bars, it mixes both. "
    "The sliders move XMVAE’s own playing, in deviations between pianists.</p>"
)


@dataclass(frozen=True)
class ModelsPanel:
    """Every component of the part."""

    model: gr.Dropdown
    notes: gr.Number
    compose: gr.Button
    share: gr.Slider
    towards: gr.Textbox
    vary: gr.Button
    z_p: tuple[gr.Slider, ...]
    play: gr.Button


def build_models(shared: SharedEngine) -> ModelsPanel:
    """Lay the part out, inside the panel; it is hidden where no weights of these systems are installed."""
    here = shared.paper_models
    names = [(MODELS[name], name) for name in here]
    with gr.Accordion("XMVAE and baselines", open=False, visible=bool(here), elem_id="models"):
        gr.HTML(HINT)
        with gr.Row():
            model = gr.Dropdown(
                names, value=here[0] if here else None, label="Model", filterable=False, elem_id="models-model",
                min_width=110,
            )  # fmt: skip
            notes = gr.Number(
                PASSAGE_NOTES, label="Notes, at most", precision=0, minimum=MIN_VARIED, maximum=PASSAGE_NOTES,
                elem_id="models-notes", min_width=90,
            )  # fmt: skip
            compose = gr.Button("Compose passage", elem_id="models-compose", min_width=110)
        with gr.Row(visible="xmvae" in here):
            share = gr.Slider(
                0.1, 1, 0.3, step=0.1, label="Codes to draw again", elem_id="models-share", elem_classes="axis",
                buttons=[],
            )  # fmt: skip
            towards = gr.Textbox(
                "", label="Mix with bars", placeholder="such as 9-16", max_length=20, elem_id="models-towards",
                min_width=90,
            )  # fmt: skip
            vary = gr.Button("Vary bars", elem_id="models-vary", elem_classes=OF_PIECE, min_width=110)
        z_p = tuple(
            gr.Slider(
                -MAX_Z_P, MAX_Z_P, 0, step=0.1, label=f"z_p: {name}", elem_id=f"models-z-{name.lower()}",
                elem_classes="axis", buttons=[],
            )
            for name in shared.xmvae_directions
        )  # fmt: skip
        play = gr.Button("Play bars with XMVAE", elem_id="models-play", elem_classes=OF_PIECE, visible="xmvae" in here)
    return ModelsPanel(model, notes, compose, share, towards, vary, z_p, play)
