"""The four worked examples of the start card, see studio.panels.perform.events: each triggers the same actions as a
visitor.

A worked example ends with sound: studio/shell/page.js plays the result, or presses Compose once the panel is filled in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from engine.music.types import BadInput
from engine.sound.prompts import gallery
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.page.answers import PRIVATE, Shown, plain_controls, show_refusals
from studio.panels.render.events import MORE_WAIT, as_request
from studio.panels.render.layout import PARTS, credit_line
from studio.service.shared_engine import SharedEngine
from studio.shell.help import PARTS as HELP
from studio.shell.help import help_text
from studio.shell.layout import Page
from studio.shell.open_events import opening_example, opening_file, opening_nothing
from studio.state.examples import FIRST, FOLDER
from studio.state.session import Controls
from studio.widgets.listen.listen import began

PIANIST = "WangA"
MUSICXML = "schubert-moment-musical-3.mxl"
STAND_IN = "gymnopedie"  # gallery prompt used until the visitor has a recording
BARS = 4  # rendered bars: few, so that the sound starts within a second


def connect_welcome(page: Page, shared: SharedEngine) -> None:
    """Attach the events of the card; called once, inside an open gr.Blocks."""
    start, inputs = page.welcome, [page.document, page.human_show]
    tours = {name: button.click for name, button in start.tours.items()}

    def plain(preset: str = actions.DEFAULT) -> Controls:
        return replace(plain_controls(page), preset=preset)

    @show_refusals(page)
    def fugue(document: Document, show: bool) -> Shown:
        controls = plain(PIANIST if PIANIST in shared.presets else actions.DEFAULT)
        shown = opening_example(page, shared, document, FIRST, show, controls)
        return {**shown, page.tabs: gr.Tabs(selected="perform")}

    tours["fugue"](fugue, inputs, [*page.outputs, page.tabs], **PRIVATE)

    @show_refusals(page)
    def musicxml(document: Document, show: bool) -> Shown:
        shown = opening_file(page, shared, document, FOLDER / MUSICXML, show, plain())
        return {**shown, page.tabs: gr.Tabs(selected="perform")}

    tours["musicxml"](musicxml, inputs, [*page.outputs, page.tabs], **PRIVATE)
    connect_nocturne(page, shared, plain())
    connect_phone(page, shared)

    def closing(browser: Any) -> tuple:
        return gr.update(visible=False), {**(browser if isinstance(browser, dict) else {}), "start": False}

    start.close.click(closing, start.browser, [start.card, start.browser], **PRIVATE)
    page.help_box.again.click(lambda: gr.update(visible=True), None, start.card, **PRIVATE)

    def documents() -> list[str]:  # loaded when the help is opened
        return [help_text(file) for file in HELP.values()]

    page.dock_tabs["help"].select(documents, None, list(page.help_box.sides), **PRIVATE)


def pressing(name: str) -> str:
    """JavaScript that presses a button as soon as it is on the page; its tab may have to be created first."""
    found = f"const b = document.querySelector('#{name}'); if (b) return b.click();"
    return f"() => {{ const press = left => {{ {found} if (left) setTimeout(press, 100, left - 1); }}; press(50); }}"


def connect_nocturne(page: Page, shared: SharedEngine, controls: Controls) -> None:
    """Compose after Chopin on an empty page."""
    c = page.compose

    @show_refusals(page)
    def nocturne(document: Document, show: bool) -> Shown:
        shown = opening_nothing(page, shared, document, show, controls)
        slow = {c.who: "composer:Chopin", c.key: "", c.meter: "12/8", c.tempo: "60", c.density: "", c.takes: 1}
        slow |= {c.seed: "", c.temperature: 1, c.length: 8, c.unit: "bars"}
        return {**shown, **slow, page.tabs: gr.Tabs(selected="compose")}

    fields = [c.who, c.key, c.meter, c.tempo, c.density, c.takes, c.seed, c.temperature, c.length, c.unit]
    page.welcome.tours["nocturne"].click(
        nocturne, [page.document, page.human_show], [*page.outputs, *fields, page.tabs], **PRIVATE
    ).then(None, None, None, js=pressing("compose"))


def connect_phone(page: Page, shared: SharedEngine) -> None:
    """Render the first bars with a reference recording, the visitor's own if there is one. The panel's bars are
    unchanged."""
    r = page.render

    @show_refusals(page)
    def phone(document: Document, *settings: Any) -> Shown:
        score = document.session.score
        if score is None:
            raise BadInput(actions.NOTHING_OPEN)
        number = score.measures.number
        bars = int(number[0]), int(number[min(BARS, len(number)) - 1])
        request = as_request(document, gallery()[STAND_IN], (False, PARTS[1], *bars, *settings), shared.profiles)
        made = document.renders.begin(shared, document.session, request, document.folder())
        made.wait(0, MORE_WAIT)
        note = (
            f"{request.part.capitalize()} in an old recording’s sound. "
            "For yours: Reference recording, A recording of my own…"
        )
        return {
            r.prompt: STAND_IN, r.credit: credit_line(STAND_IN), r.own: gr.update(visible=False),
            page.tabs: gr.Tabs(selected="render"), page.roll: {"note": note},
            page.listen: began(made, document.renders),
        }  # fmt: skip

    page.welcome.tours["phone"].click(
        phone, [page.document, r.temperature, r.seed, r.profile],
        [r.prompt, r.credit, r.own, page.tabs, page.roll, page.listen], **PRIVATE,
    )  # fmt: skip
