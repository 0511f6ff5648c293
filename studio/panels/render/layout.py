"""Components of the Render panel. Their events are in events.py."""

from __future__ import annotations

import html
from dataclasses import dataclass

import gradio as gr

from engine.limits import MAX_SEED
from engine.requests import FITTED_METHODS
from engine.sound.prompts import LONGEST_SEC, SHORTEST_SEC, about_gallery
from studio.service.shared_engine import SharedEngine
from studio.widgets.gallery.gallery import ExcerptWindow, GalleryTiles, tiles_value
from studio.widgets.roll.roll import OF_PIECE

OWN, KEPT = "own", "kept"  # a recording opened here; one from a project
PARTS = ("Whole piece", "These bars")
MIDI_FILES = [".mid", ".midi"]
PROFILES = {
    "fitted": "Fitted piano",
    "product": "Étude codec model",
    "paper": "MIDI-VALLE (published weights)",
    "physical": "More: physical model",
    "ddsp": "More: DDSP-Piano",
}


@dataclass(frozen=True)
class RenderPanel:
    """Every component of the panel."""

    tiles: GalleryTiles
    window: ExcerptWindow
    prompt: gr.Dropdown
    credit: gr.HTML
    hear: gr.Button
    own: gr.Column
    recording: gr.Audio
    start: gr.Number
    seconds: gr.Number
    own_midi: gr.UploadButton
    own_midi_name: gr.HTML
    own_midi_path: gr.State
    listen: gr.Checkbox
    part: gr.Dropdown
    first_bar: gr.Number
    last_bar: gr.Number
    temperature: gr.Slider
    seed: gr.Number
    dice: gr.Button
    profile: gr.Dropdown
    render: gr.Button
    render_bars: gr.Button

    @property
    def asked_of_prompt(self) -> list:
        """Components that select the prompt, in the order of events.as_prompt."""
        return [self.prompt, self.recording, self.start, self.seconds, self.own_midi_path]

    @property
    def settings(self) -> list:
        """Other components that a render depends on, in the order of events.as_request."""
        return [
            self.listen, self.part, self.first_bar, self.last_bar, self.temperature, self.seed, self.profile,
        ]  # fmt: skip


def build_render(shared: SharedEngine) -> RenderPanel:
    """Lay the panel out, inside an open gr.Blocks."""
    return RenderPanel(**_sound_like(), **_how(shared))


def prompt_menu() -> list[tuple[str, str]]:
    """Gallery recordings, sampled pianos and the visitor's own recording: label and value."""
    return [*((about["name"], key) for key, about in about_gallery().items()), ("A recording of my own…", OWN)]


def credit_line(key: str) -> str:
    """The credit of a prompt, as HTML."""
    about = about_gallery().get(key)
    if about is None:
        low, high = f"{SHORTEST_SEC:g}", f"{LONGEST_SEC:g}"
        return f"<p class='hint'>{low} to {high} s of solo piano; it is saved with your work.</p>"
    return f"<p class='hint'>{html.escape(about['credit'])}</p>"


def _sound_like() -> dict:
    first = next(iter(about_gallery()), OWN)
    with gr.Column(elem_classes=["card", "fields"]):
        gr.HTML(
            "<h2>Sound like…</h2><p class='hint'>A press chooses a recording and plays it.</p>", elem_classes="words"
        )
        tiles = GalleryTiles(tiles_value(), elem_id="gallery")
        prompt = gr.Dropdown(
            prompt_menu(), value=first, label="Reference recording", filterable=False, elem_id="render-prompt"
        )
        with gr.Row(elem_id="render-prompt-row"):
            credit = gr.HTML(credit_line(first), elem_id="render-credit")
            hear = gr.Button("Listen", size="sm", elem_id="render-hear", min_width=70, scale=0)
        with gr.Column(visible=False, elem_id="render-own") as own:
            recording = gr.Audio(
                sources=["upload", "microphone"], type="filepath", label="Recording", show_label=False,
                elem_id="render-recording", buttons=[],
            )  # fmt: skip
            window = ExcerptWindow(elem_id="render-window")
            with gr.Row():
                start = gr.Number(0, label="Start, s", minimum=0, step=0.5, elem_id="render-start", min_width=90)
                seconds = gr.Number(
                    6, label="Length, s", minimum=SHORTEST_SEC, maximum=LONGEST_SEC, step=0.5,
                    elem_id="render-seconds", min_width=90,
                )  # fmt: skip
            with gr.Row():
                own_midi = gr.UploadButton(
                    "Add its MIDI (optional)……", file_types=MIDI_FILES, type="filepath", size="sm",
                    elem_id="render-own-midi", min_width=150,
                )  # fmt: skip
                own_midi_name = gr.HTML("", elem_id="render-own-midi-name")
            own_midi_path = gr.State("")
            listen = gr.Checkbox(
                False, label="Transcribe it first (about 30 s)", elem_id="render-listen", container=False
            )
    return {
        "tiles": tiles, "window": window,
        "prompt": prompt, "credit": credit, "hear": hear, "own": own, "recording": recording, "start": start,
        "seconds": seconds, "own_midi": own_midi, "own_midi_name": own_midi_name, "own_midi_path": own_midi_path,
        "listen": listen,
    }  # fmt: skip


def _how(shared: SharedEngine) -> dict:
    with gr.Column(elem_classes=["card", "fields"]):
        with gr.Row():
            part = gr.Dropdown(
                list(PARTS), value=PARTS[0], label="Part", filterable=False, elem_id="render-part", min_width=140,
                scale=2,
            )  # fmt: skip
            first_bar = gr.Number(1, label="From bar", precision=0, elem_id="render-first", min_width=60)
            last_bar = gr.Number(8, label="To bar", precision=0, elem_id="render-last", min_width=60)
        temperature = gr.Slider(
            0, 1.5, 1, step=0.05, label="Temperature", info="even ⟷ varied", elem_id="render-temperature",
            elem_classes="axis", buttons=[], visible=shared.profiles[0] not in FITTED_METHODS,
        )  # fmt: skip
        with gr.Row(elem_id="render-seed-row"):
            seed = gr.Number(
                0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED, elem_id="render-seed", min_width=90
            )
            dice = gr.Button("Randomise seed", elem_id="render-dice", min_width=90, size="sm")
        profiles = shared.profiles
        profile = gr.Dropdown(
            [(PROFILES.get(name, name), name) for name in profiles], value=profiles[0], label="Method",
            filterable=False, elem_id="render-profile",
        )  # fmt: skip
        with gr.Row():
            render = gr.Button("Render", variant="primary", elem_id="render", elem_classes=OF_PIECE, min_width=90)
            render_bars = gr.Button("Render these bars", elem_id="render-bars", elem_classes=OF_PIECE, min_width=130)
    return {
        "part": part, "first_bar": first_bar, "last_bar": last_bar, "temperature": temperature, "seed": seed,
        "dice": dice, "profile": profile, "render": render, "render_bars": render_bars,
    }  # fmt: skip
