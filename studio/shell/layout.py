"""Components of the page. Their events are in the panels' events.py."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from engine.limits import MAX_SEED, VISIT_SEC
from engine.models.pianist.style import Axis, character
from engine.music.types import DEFAULT_FREEDOM
from studio.actions.document import Document
from studio.actions.editing import BORROWED, DEFAULT
from studio.panels.compare.layout import ComparePanel, CompareStage, build_compare, build_more, build_stage
from studio.panels.compose.layout import ComposePanel, build_compose
from studio.panels.models.layout import ModelsPanel, build_models
from studio.panels.render.layout import RenderPanel, build_render
from studio.service.shared_engine import SharedEngine
from studio.shell.export_menu import build_export, build_opener
from studio.shell.help import Help, build_help
from studio.shell.welcome import Welcome, build_welcome
from studio.state.examples import EMPTY, EXAMPLES, FIRST
from studio.widgets.form.form import FormStrip
from studio.widgets.lens.lens import Lens
from studio.widgets.listen.listen import Listen
from studio.widgets.pianists.pianists import PianistCards
from studio.widgets.roll.roll import OF_PIECE, PianoRoll
from studio.widgets.score.score import ScoreView
from studio.widgets.takes.takes import TakeStrip

MORE_AXES = ("spread", "voicing", "lead")  # folded away
STRENGTHS = ("Tempo", "Timing", "Velocity", "Articulation", "Pedal")
OPEN_FILES = [".musicxml", ".xml", ".mxl", ".mid", ".midi", ".krn", ".mei", ".abc", ".match", ".etude"]
MIDI_FILES = [".mid", ".midi"]
PIANISTS = "of the Piano-e-Competition; type a name or a trait"
SIDES = ("compose", "perform", "render", "compare")  # tabs of the panel, in order
LENSES = {
    "curves": "Curves",
    "sound": "Renders",
    "versions": "Versions",
    "corpus": "How usual",
    "help": "Help",
}  # tabs of the dock under the roll, in order

_BRAND = """<div class="brand"><h1 class="name">Étude</h1>
<span class="claim">Writes piano music, and plays it</span></div>"""


@dataclass(frozen=True)
class Page:
    """Every component that an event reads or writes."""

    document: gr.State
    example: gr.Dropdown
    open_file: gr.UploadButton
    with_voice: gr.Checkbox
    save_project: gr.Button
    welcome: Welcome
    tabs: gr.Tabs
    help_box: Help
    form: FormStrip
    roll: PianoRoll
    curves: Lens
    pianists: PianistCards
    preset: gr.Dropdown
    second: gr.Dropdown
    blend: gr.Slider
    axes: tuple[gr.Slider, ...]
    freedom: gr.Slider
    strengths: tuple[gr.Slider, ...]
    seed: gr.Number
    dice: gr.Button
    reset: gr.Button
    discard: gr.Button
    human_text: gr.Textbox
    human_example: gr.Button
    human_file: gr.UploadButton
    human_show: gr.Checkbox
    human_style: gr.Button
    human_remove: gr.Button
    piano: gr.Dropdown
    downloads: dict[str, gr.Button]
    compose: ComposePanel
    models: ModelsPanel
    render: RenderPanel
    listen: Listen
    takes: TakeStrip
    score: ScoreView
    corpus: gr.HTML
    dock: gr.Tabs
    dock_tabs: dict[str, gr.Tab]
    compare_tab: gr.Tab
    compare_panel: ComparePanel
    compare: CompareStage

    @property
    def controls(self) -> list:
        """The inputs that make up studio.state.session.Controls, in its order."""
        return [self.preset, self.second, self.blend, self.seed, *self.strengths, *self.axes, self.freedom]

    @property
    def outputs(self) -> list:
        """All components that a job's answer may change."""
        human = [self.human_text, self.human_style, self.human_remove, self.human_example, self.pianists]
        return [self.roll, self.form, self.takes, self.score, self.curves, self.example, *human, *self.controls]


def build(shared: SharedEngine) -> Page:
    """Lay the page out, inside an open gr.Blocks."""
    document = gr.State(Document(), time_to_live=VISIT_SEC, delete_callback=Document.close)
    with gr.Row(elem_id="top", equal_height=True):
        gr.HTML(_BRAND, elem_id="brand")
        example = gr.Dropdown(
            [*EXAMPLES, EMPTY],
            value=FIRST,
            label="Example",
            container=False,
            filterable=False,
            elem_id="example",
            min_width=240,
        )
        open_file = gr.UploadButton(
            "Open…",
            file_types=OPEN_FILES,
            type="filepath",
            variant="primary",
            elem_id="open",
            size="md",
            min_width=90,
        )
        opener = build_opener()
    export = build_export(opener)
    welcome = build_welcome()
    with gr.Row(elem_id="work"):
        with gr.Column(scale=4, min_width=560, elem_id="stage"):
            form = FormStrip(elem_id="form")
            takes = TakeStrip(elem_id="takes")
            with gr.Accordion("Score", open=False, elem_id="score-box", elem_classes="card"):
                score = ScoreView(elem_id="score")
            roll = PianoRoll(elem_id="roll")
            dock = _dock()
            piano = _take_away(shared)
        with gr.Column(scale=1, min_width=330, elem_id="panel"), gr.Tabs(elem_id="desk", selected="perform") as tabs:
            with gr.Tab("Compose", id="compose", elem_id="compose-tab", render_children=True):
                compose = build_compose(shared)
                models = build_models(shared)
            with gr.Tab("Perform", id="perform", elem_id="perform-tab"):
                style = _style(shared)
                strengths, human, (discard, with_voice) = _strength(), _human(), _edits()
            with gr.Tab("Sound", id="render", elem_id="render-tab", render_children=True):
                render = build_render(shared)
            with gr.Tab("Compare", id="compare", elem_id="compare-tab", render_children=True) as compare_tab:
                compare_panel = build_compare(shared)
    return Page(
        document=document, example=example, open_file=open_file, save_project=export.save_project,
        welcome=welcome, tabs=tabs,
        form=form, roll=roll, strengths=strengths,
        piano=piano, downloads=export.downloads, discard=discard, with_voice=with_voice, compose=compose, models=models,
        render=render, takes=takes, score=score,
        compare_tab=compare_tab, compare_panel=compare_panel, **dock, **style, **human,
    )  # fmt: skip


def _dock() -> dict:
    """The views under the roll, one at a time: the curves, renders, compared performances, corpus, help."""
    with gr.Tabs(elem_id="dock", selected="curves") as dock:
        tabs = {}

        def tab(name: str) -> gr.Tab:
            tabs[name] = gr.Tab(LENSES[name], id=name, elem_id=f"dock-{name}", render_children=True)
            return tabs[name]

        tab("curves")
        with tab("sound"):
            gr.HTML(
                "<p class='hint'>No render yet: choose a reference under Sound and press Render.</p>",
                elem_id="no-render",
            )
        tab("versions")
        with tab("corpus"):
            corpus = gr.HTML(elem_id="corpus")
        with tab("help"):
            help_box = build_help()
            gr.HTML(_credits(), elem_id="credits")
    # Gradio creates a tab's children when the tab is first opened; these take part before, so they stand beside the
    # tabs and studio.css shows them with theirs. Curves and Versions share the lens.
    listen = Listen(elem_id="listen")
    compare = build_stage()
    with gr.Column(elem_id="curves-box"):
        curves = Lens(elem_id="curves")
    with gr.Column(elem_id="compare-more"):
        worm, tables = build_more()
    return {
        "dock": dock, "dock_tabs": tabs, "curves": curves, "listen": listen, "corpus": corpus,
        "compare": CompareStage(dock, compare, curves, worm, tables),
        "help_box": help_box,
    }  # fmt: skip


def _take_away(shared: SharedEngine) -> gr.Dropdown:
    with gr.Row(elem_id="take-away", equal_height=True):
        pianos = shared.pianos
        return gr.Dropdown(
            [(label, name) for name, label in pianos.items()], value=next(iter(pianos), None),
            label="Piano", show_label=False, container=False, filterable=False, elem_id="piano", min_width=220, scale=2,
        )  # fmt: skip


def _style(shared: SharedEngine) -> dict:
    units = dict(zip(shared.axes, shared.units, strict=True))
    names = [DEFAULT]  # the others are added with the first piece: reading them loads the model
    with gr.Column(elem_classes="card"):
        gr.HTML("<h2>Play it like…</h2><p class='hint'>Point at one to hear two bars.</p>", elem_classes="heading")
        pianists = PianistCards(elem_id="pianists")
        preset = gr.Dropdown(names, value=DEFAULT, label="All pianists", info=PIANISTS, elem_id="preset")
        with gr.Accordion("Blend with a second pianist", open=False):
            second = gr.Dropdown(names, value=DEFAULT, label="Second pianist", filterable=False, elem_id="second")
            blend = gr.Slider(0, 1, 0, step=0.01, label="Blend", info="first ⟷ second", elem_id="blend", buttons=[])
        freedom = gr.Slider(
            0, 100, 100 * DEFAULT_FREEDOM, step=1, label="Freedom, %", info="as most pianists ⟷ individual",
            elem_id="freedom", elem_classes="axis", buttons=[],
        )  # fmt: skip
        made = {axis: _axis(axis, unit) for axis, unit in units.items() if axis.name not in MORE_AXES}
        with gr.Accordion("More sliders", open=False):
            made |= {axis: _axis(axis, unit) for axis, unit in units.items() if axis.name in MORE_AXES}
        with gr.Row(elem_id="seed-row", equal_height=True):
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED, elem_id="seed", min_width=90)
            dice = gr.Button("Randomise seed", elem_id="dice", min_width=90, size="sm")
            reset = gr.Button("Reset style", elem_id="reset", min_width=90, size="sm")
    return {
        "pianists": pianists,
        "preset": preset,
        "second": second,
        "blend": blend,
        "axes": tuple(made[axis] for axis in shared.axes),
        "freedom": freedom,
        "seed": seed,
        "dice": dice,
        "reset": reset,
    }


def _axis(axis: Axis, unit: str) -> gr.Slider:
    return gr.Slider(
        -3, 3, 0, step=0.05, label=axis.label, info=f"{axis.low} ⟷ {axis.high}; 1 is {unit}",
        elem_id=f"axis-{axis.name}", elem_classes="axis", buttons=[],
    )  # fmt: skip


def _strength() -> tuple[gr.Slider, ...]:
    with gr.Accordion("Strength of expression, %", open=False, elem_classes="card"):
        return tuple(
            gr.Slider(
                0,
                150,
                100,
                step=1,
                label=f"{name}, %",
                elem_id=f"strength-{name.lower()}",
                elem_classes="axis",
                buttons=[],
            )
            for name in STRENGTHS
        )


def _human() -> dict:
    with gr.Accordion("Human performance", open=True, elem_classes="card"):
        text = gr.Textbox(
            "None yet", show_label=False, interactive=False, container=False, lines=1, elem_id="human-text"
        )
        with gr.Row():
            example = gr.Button(
                "Load the example’s", size="sm", min_width=100, elem_id="human-example", elem_classes=OF_PIECE
            )
            file = gr.UploadButton(
                "Open a MIDI…",
                file_types=MIDI_FILES,
                type="filepath",
                size="sm",
                min_width=100,
                elem_id="human-file",
                elem_classes=OF_PIECE,
            )
        show = gr.Checkbox(True, label="Show it in the curves", elem_id="human-show", container=False)
        with gr.Row():
            style = gr.Button(
                "Perform in its style", size="sm", min_width=100, elem_id="human-style", interactive=False
            )
            remove = gr.Button("Remove", size="sm", min_width=80, elem_id="human-remove", interactive=False)
    return {
        "human_text": text, "human_example": example, "human_file": file, "human_show": show,
        "human_style": style, "human_remove": remove,
    }  # fmt: skip


def _edits() -> tuple[gr.Button, gr.Checkbox]:
    with gr.Row():
        discard = gr.Button("Discard my edits", size="sm", elem_id="discard")
    with_voice = gr.Checkbox(
        False, label="Play a song's voice too", info="Holds for the next file that you open.",
        elem_id="with-voice",
    )  # fmt: skip
    return discard, with_voice


def _credits() -> str:
    from engine.sound.preview import PIANOS

    pianos = "; ".join(f"{p.label}: {p.credit}" for p in PIANOS.values() if p.credit)
    return (
        "<p>Examples and human performances: (n)ASAP and MAESTRO, CC BY-NC-SA 4.0; Chopin first editions, CC BY 4.0. "
        f"{pianos}.</p>"
    )


def preset_names(shared: SharedEngine, borrowed: bool) -> list[tuple[str, str]]:
    """The entries of the preset menus, label and value; a pianist's label has the measured character."""
    named = [(f"{name} · {words}" if (words := character(z)) else name, name) for name, z in shared.presets.items()]
    return [*named, *([(BORROWED, BORROWED)] if borrowed else [])]
