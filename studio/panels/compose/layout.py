"""Components of the Compose panel. Their events are in events.py."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from engine.compose.form import FREE, MAX_FORM, NAMED
from engine.limits import COMPOSED_BARS, COMPOSED_NOTES, COMPOSED_TAKES
from engine.models.composer.conditions import TOP_P
from engine.tokens.genres import GENRES
from studio.actions.composing import HANDS
from studio.service.shared_engine import SharedEngine
from studio.widgets.roll.roll import OF_PIECE

ANY = ("Any", "")
LENGTHS = ("notes", "bars")
TYPED = "typed"  # value of the menu of forms that the letters below it stand for


# one press each; the menu has all genres
INTENTS = ("waltz", "nocturne", "prelude", "étude", "mazurka", "fugue")
INTENT_BARS = 32


@dataclass(frozen=True)
class ComposePanel:
    """Every component of the panel."""

    intents: dict[str, gr.Button]
    genre: gr.Dropdown
    who: gr.Dropdown
    key: gr.Dropdown
    meter: gr.Dropdown
    tempo: gr.Textbox
    density: gr.Textbox
    form: gr.Dropdown
    letters: gr.Textbox
    length: gr.Number
    unit: gr.Dropdown
    takes: gr.Slider
    seed: gr.Textbox
    dice: gr.Button
    temperature: gr.Slider
    top_p: gr.Slider
    compose: gr.Button
    more_bars: gr.Number
    go_on: gr.Button
    first_bar: gr.Number
    last_bar: gr.Number
    hand: gr.Dropdown
    fill_bars: gr.Button
    fill_notes: gr.Button

    @property
    def conditions(self) -> list:
        """Inputs shared by compose, continue and infill, in the order of events.as_request."""
        return [
            self.who, self.key, self.meter, self.tempo, self.density, self.takes, self.seed, self.temperature,
            self.top_p, self.genre,
        ]  # fmt: skip


def build_compose(shared: SharedEngine) -> ComposePanel:
    """Lay the panel out, inside an open gr.Blocks."""
    return ComposePanel(**_what(shared), **_actions(), **_how())


def who_menu(shared: SharedEngine) -> list[tuple[str, str]]:
    """Composers, then periods: label and value."""
    engine = shared.engine
    return [
        ANY,
        *((name, f"composer:{name}") for name in engine.composers),
        *((f"{name} (period)", f"period:{name}") for name in engine.periods),
    ]


def _what(shared: SharedEngine) -> dict:
    with gr.Column(elem_classes=["card", "fields"]):
        with gr.Row(elem_id="intents"):
            intents = {
                genre: gr.Button(
                    genre.capitalize(), size="sm", min_width=80, elem_id=f"intent-{genre.replace('é', 'e')}"
                )
                for genre in INTENTS
            }
        genre = gr.Dropdown(
            [ANY, *((genre.capitalize(), genre) for genre in GENRES)], value="", label="Genre", filterable=False,
            info="a metre, density and composer left open are then usual ones of it", elem_id="compose-genre",
        )  # fmt: skip
        who = gr.Dropdown(
            who_menu(shared), value="", label="Composer or period", filterable=False, elem_id="compose-who"
        )
        with gr.Row():
            key = gr.Dropdown(
                [ANY, *shared.engine.keys],
                value="",
                label="Key",
                filterable=False,
                elem_id="compose-key",
                min_width=120,
            )
            meter = gr.Dropdown(
                [ANY, *shared.engine.meters],
                value="",
                label="Metre",
                filterable=False,
                elem_id="compose-meter",
                min_width=100,
            )
        with gr.Row():
            tempo = _open_number("Tempo, quarters/min", "any", "compose-tempo")
            density = _open_number("Density, notes/quarter", "any", "compose-density")
    return {
        "intents": intents,
        "genre": genre,
        "who": who,
        "key": key,
        "meter": meter,
        "tempo": tempo,
        "density": density,
    }


def _open_number(label: str, placeholder: str, elem_id: str) -> gr.Textbox:
    """An optional number; gr.Number would show 0 when empty."""
    return gr.Textbox("", label=label, placeholder=placeholder, max_lines=1, elem_id=elem_id, min_width=120)


def _how() -> dict:
    with gr.Column(elem_classes=["card", "fields"]):
        takes = gr.Slider(
            1, COMPOSED_TAKES, 2, step=1, label="Takes", elem_id="compose-takes", elem_classes="axis", buttons=[]
        )
        with gr.Row(elem_id="compose-seed-row"):
            seed = _open_number("Seed", "new each time", "compose-seed")
            dice = gr.Button("Randomise seed", elem_id="compose-dice", min_width=90, size="sm")
        with gr.Accordion("Variety", open=False):
            temperature = gr.Slider(
                0.5,
                1.5,
                1,
                step=0.05,
                label="Temperature",
                info="conservative ⟷ random",
                elem_id="compose-temperature",
                elem_classes="axis",
                buttons=[],
            )
            top_p = gr.Slider(
                0.5, 1, TOP_P, step=0.005, label="Top-p", info="conservative ⟷ open",
                elem_id="compose-top-p", elem_classes="axis", buttons=[],
            )  # fmt: skip
    return {"takes": takes, "seed": seed, "dice": dice, "temperature": temperature, "top_p": top_p}


def form_menu() -> list[tuple[str, str]]:
    """The forms: label and value."""
    named = [(f"{name.replace(chr(39), '′')[:1].upper()}{name.replace(chr(39), '′')[1:]}", name) for name in NAMED]
    return [("Free", FREE), *named, ("Typed letters", TYPED)]


def _actions() -> dict:
    with gr.Column(elem_classes=["card", "fields"]):
        form = gr.Dropdown(
            form_menu(), value=FREE, label="Form", info="a form has its own number of bars", filterable=False,
            elem_id="compose-form",
        )  # fmt: skip
        letters = gr.Textbox(
            NAMED["AABA"], label="Sections: letters with numbers of bars", max_lines=1, max_length=MAX_FORM,
            visible=False, elem_id="compose-letters",
        )  # fmt: skip
        with gr.Row():
            length = gr.Number(
                256,
                label="Length",
                precision=0,
                minimum=1,
                maximum=COMPOSED_NOTES,
                elem_id="compose-length",
                min_width=60,
            )
            unit = gr.Dropdown(
                list(LENGTHS), value="notes", label="in", filterable=False, elem_id="compose-unit", min_width=95
            )
            compose = gr.Button("Compose", variant="primary", elem_id="compose", min_width=110)
        with gr.Row():
            more_bars = gr.Number(
                8,
                label="More bars",
                precision=0,
                minimum=1,
                maximum=COMPOSED_BARS,
                elem_id="continue-bars",
                min_width=110,
            )
            go_on = gr.Button("Continue", elem_id="continue", elem_classes=OF_PIECE, min_width=110)
    with gr.Column(elem_classes=["card", "fields"]):
        gr.HTML("<p class='hint'>Select the notes or bars to rewrite, on the roll or in the score.</p>")
        with gr.Row():
            first_bar = gr.Number(1, label="From bar", precision=0, elem_id="infill-first", min_width=60)
            last_bar = gr.Number(1, label="To bar", precision=0, elem_id="infill-last", min_width=60)
            hand = gr.Dropdown(
                list(HANDS), value=next(iter(HANDS)), label="Staff", filterable=False, elem_id="infill-hand",
                min_width=130,
            )  # fmt: skip
        with gr.Row():
            fill_bars = gr.Button(
                "Re-imagine bars", size="sm", elem_id="infill-bars", elem_classes=OF_PIECE, min_width=110
            )
            fill_notes = gr.Button(
                "Re-imagine notes", size="sm", elem_id="infill-notes", elem_classes=OF_PIECE, min_width=110
            )
    return {
        "form": form, "letters": letters, "length": length, "unit": unit, "compose": compose,
        "more_bars": more_bars, "go_on": go_on,
        "first_bar": first_bar, "last_bar": last_bar, "hand": hand, "fill_bars": fill_bars, "fill_notes": fill_notes,
    }  # fmt: skip
