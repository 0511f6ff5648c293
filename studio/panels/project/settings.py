"""Values of the panels as plain settings of a project, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gradio as gr

from engine.music.types import BadInput
from studio.actions.document import Document
from studio.page.answers import Shown
from studio.panels.render.events import as_prompt
from studio.panels.render.layout import KEPT, OWN, credit_line, prompt_menu
from studio.shell.layout import Page

MAX_WORDS = 20  # characters in a text field that states no limit
PROMPT = "render-prompt"


def components(page: Page) -> dict[str, Any]:
    """Every component whose value belongs to the work, by its name on the page."""
    c, r = page.compose, page.render
    lengths = [c.form, c.letters, c.length, c.unit, c.more_bars]
    chosen = [*c.conditions, *lengths, c.hand, r.prompt, *r.settings, page.piano]
    return {str(component.elem_id): component for component in chosen}


def recording(page: Page) -> list:
    """Components that identify the visitor's own recording, in the order of `note_settings`."""
    return page.render.asked_of_prompt[1:]


def changes(page: Page) -> list:
    """The events that change the settings."""
    heard = [page.render.prompt.change, page.render.recording.change, page.render.own_midi_path.change]
    heard += [button.click for button in (page.render.render, page.compose.compose, page.compose.go_on)]
    for component in (*components(page).values(), page.render.start, page.render.seconds):
        if isinstance(component, gr.Slider):
            heard.append(component.release)
        elif isinstance(component, (gr.Number, gr.Textbox)):
            heard.append(component.blur)
        else:
            heard.append(component.input)
    return heard


def note_settings(page: Page, document: Document, values: tuple) -> None:
    """Store the values of the panels: those of `recording`, then those of `components`. Any value may arrive."""
    source, said = values[:4], dict(zip(components(page), values[4:], strict=True))
    settings = {name: value for name, value in said.items() if fits(components(page)[name], value)}
    if said.get(PROMPT) == OWN:
        if source != document.prompt_source:
            try:
                document.prompt = as_prompt((OWN, *source)) if source[0] else None
            except (BadInput, OSError):
                document.prompt = None
            document.prompt_source = source
        settings[PROMPT] = KEPT
    if settings.get(PROMPT) == KEPT and document.prompt is None:
        del settings[PROMPT]
    if settings != document.settings:
        document.settings = settings
        document.on_change()


def fits(component: Any, value: object) -> bool:
    """Whether a component can have this value."""
    if isinstance(component, gr.Dropdown):
        mine = component.elem_id == PROMPT and value == KEPT
        return mine or any(value == known for _, known in component.choices or ())
    if isinstance(component, gr.Checkbox):
        return type(value) is bool
    if isinstance(component, gr.Textbox):
        return isinstance(value, str) and len(value) <= (component.max_length or MAX_WORDS) and value.isprintable()
    low, high = (getattr(component, name, None) for name in ("minimum", "maximum"))
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        return False
    return (-1e9 if low is None else low) <= value <= (1e9 if high is None else high)  # type: ignore[operator]


def shown_settings(page: Page, document: Document) -> Shown:
    """The panels set to the document's settings; values that do not fit are skipped."""
    known: Mapping[str, object] = document.settings
    shown: Shown = {
        component: known[name]
        for name, component in components(page).items()
        if name in known and name != PROMPT and fits(component, known[name])
    }
    key, menu = known.get(PROMPT), prompt_menu()
    if document.prompt is not None:
        menu.insert(len(menu) - 1, (f"{document.prompt.name or 'A recording'} (yours)", KEPT))
    if key in [value for _, value in menu if value != OWN]:
        shown[page.render.prompt] = gr.update(choices=menu, value=key)
        shown[page.render.credit] = credit_line(str(key))
        shown[page.render.own] = gr.update(visible=False)
    return shown


def settings_outputs(page: Page) -> list:
    """The components that `shown_settings` may change."""
    return [*components(page).values(), page.render.credit, page.render.own]
