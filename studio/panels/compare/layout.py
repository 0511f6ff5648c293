"""Components of the Compare panel. Their events are in events.py."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from engine.limits import MAX_SEED
from studio.actions.editing import DEFAULT
from studio.actions.recordings import FILES
from studio.actions.study import QUESTIONS
from studio.service.shared_engine import SharedEngine
from studio.widgets.compare.compare import CompareView
from studio.widgets.lens.lens import Lens
from studio.widgets.roll.roll import OF_PIECE


@dataclass(frozen=True)
class ComparePanel:
    """Every component of the panel."""

    pin: gr.Button
    pianist: gr.Dropdown
    seed: gr.Number
    play: gr.Button
    files: gr.UploadButton
    example: gr.Button
    save: gr.Button
    question: gr.Dropdown
    first_bar: gr.Textbox
    last_bar: gr.Textbox
    listener: gr.Textbox
    study_seed: gr.Number
    begin: gr.Button
    begin_models: gr.Button
    votes: gr.Button


@dataclass(frozen=True)
class CompareStage:
    """Components that show the results on the stage."""

    dock: gr.Tabs
    view: CompareView
    curves: Lens
    worm: gr.Plot
    tables: gr.HTML


def build_compare(shared: SharedEngine) -> ComparePanel:
    """Lay the panel out, inside an open gr.Blocks."""
    return ComparePanel(**_performances(), **_study(bool(shared.paper_models)))


def build_stage() -> CompareView:
    """The list of performances and the study, above the curves."""
    with gr.Column(elem_id="compare-box"):
        return CompareView(elem_id="compare")


def build_more() -> tuple[gr.Plot, gr.HTML]:
    """The paths and the tables, under the curves."""
    return gr.Plot(show_label=False, elem_id="compare-worm", container=False), gr.HTML(elem_id="compare-tables")


def _performances() -> dict:
    with gr.Column(elem_classes=["card", "fields"]):
        gr.HTML(
            "<h2>Performances</h2><p class='hint'>Up to eight performances of this piece, shown on the left. "
            "Recordings and MIDI files of it can also be dropped on the page.</p>"
        )
        pin = gr.Button("Pin this performance", variant="primary", elem_id="compare-pin", elem_classes=OF_PIECE)
        with gr.Row():
            pianist = gr.Dropdown(
                [DEFAULT], value=DEFAULT, label="Pianist", filterable=False, elem_id="compare-pianist", min_width=140,
                scale=2,
            )  # fmt: skip
            seed = gr.Number(
                0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED, elem_id="compare-seed", min_width=70
            )
            play = gr.Button("Perform and pin", size="sm", elem_id="compare-play", elem_classes=OF_PIECE, min_width=100)
        with gr.Row():
            files = gr.UploadButton(
                "Open recordings or MIDI…", file_types=list(FILES), file_count="multiple", type="filepath", size="sm",
                elem_id="compare-files", elem_classes=OF_PIECE, min_width=120,
            )  # fmt: skip
            example = gr.Button(
                "The example’s human performance",
                size="sm",
                elem_id="compare-example",
                elem_classes=OF_PIECE,
                min_width=120,
            )
        save = gr.Button("Download the table, CSV", size="sm", elem_id="compare-save")
    return {
        "pin": pin, "pianist": pianist, "seed": seed, "play": play, "files": files, "example": example, "save": save,
    }  # fmt: skip


def _study(models: bool) -> dict:
    with gr.Column(elem_classes=["card", "fields"]):
        gr.HTML("<h2>Blind study</h2><p class='hint'>Compares the ticked performances in a hidden order.</p>")
        question = gr.Dropdown(
            [(label, name) for name, label in QUESTIONS.items()], value="prefer", label="Question", filterable=False,
            elem_id="study-question",
        )  # fmt: skip
        with gr.Row():
            first_bar = gr.Textbox("", label="From bar", placeholder="first", elem_id="study-first", min_width=70)
            last_bar = gr.Textbox("", label="To bar", placeholder="last", elem_id="study-last", min_width=70)
            study_seed = gr.Number(
                1, label="Seed", precision=0, minimum=0, maximum=MAX_SEED, elem_id="study-seed", min_width=70
            )
        listener = gr.Textbox("", label="Listener", max_length=80, elem_id="study-listener")
        begin = gr.Button("Start the study", variant="primary", elem_id="study-begin")
        begin_models = gr.Button(
            "Start with a new passage of each model", size="sm", elem_id="study-models", visible=models
        )
        votes = gr.Button("Download the votes, CSV", size="sm", elem_id="study-votes")
    return {
        "question": question, "first_bar": first_bar, "last_bar": last_bar, "study_seed": study_seed,
        "listener": listener, "begin": begin, "begin_models": begin_models, "votes": votes,
    }  # fmt: skip
