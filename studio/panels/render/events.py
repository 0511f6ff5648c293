"""Events of the Render panel and of the player under the roll. See studio.panels.perform.events."""

from __future__ import annotations

import html
import random
from pathlib import Path
from typing import Any

import gradio as gr

from engine.files import put
from engine.limits import MAX_SEED
from engine.music.types import BadInput, BundleError, Performance
from engine.requests import FITTED_METHODS, RenderRequest
from engine.sound.prompts import LONGEST_SEC, SHORTEST_SEC, Prompt, gallery, prepare_prompt
from engine.untrusted.scores import open_performance
from studio.actions import editing as actions
from studio.actions.document import Document
from studio.actions.rendering import COMPARED, compared, span_of_bars
from studio.gradio_compat.event_data import event_data
from studio.page.answers import FIRST_WAIT, PRIVATE, Shown, show_refusals
from studio.page.values import field_number
from studio.panels.render.layout import KEPT, OWN, PARTS, credit_line
from studio.project.apart import audio_apart
from studio.service.jobs import Job
from studio.service.shared_engine import SharedEngine
from studio.shell.layout import Page
from studio.widgets.gallery.gallery import wave_value
from studio.widgets.listen.listen import began, compared_sound, part_of, prompt_sound, refusal, saved, state_of

MORE_WAIT = 0.4  # seconds that a request for more sound waits
MAX_BAR = 100_000


def connect_render(page: Page, shared: SharedEngine) -> None:
    """Attach the events of rendering; called once, inside an open gr.Blocks."""
    connect_panel(page, shared)
    connect_player(page, shared)


def as_prompt(values: tuple, own: Prompt | None = None) -> Prompt:
    """The panel's prompt, from RenderPanel.asked_of_prompt, validated: a client may send anything.

    own  the visitor's recording from a project
    """
    key, recording, start, seconds, midi = values
    if key == KEPT and own is not None:
        return own
    if key != OWN:
        prompts = gallery()
        if key not in prompts:
            raise BadInput("There is no such reference; choose one from the list.")
        return prompts[key]
    if not recording:
        raise BadInput("There is no recording yet: open or record one, or choose another reference.")
    notes: Performance | None = None
    if midi:
        path = Path(str(midi))
        notes = open_performance(path.read_bytes(), path.name)
    file = Path(str(recording))
    return prepare_prompt(audio_apart(file.read_bytes()), *as_excerpt(start, seconds), notes, file.name[:60])


def as_excerpt(start: Any, seconds: Any) -> tuple[float, float]:
    """Start and length of an excerpt of a recording, seconds. Raises BadInput."""
    return (
        field_number(start, "The beginning of the excerpt", 0, 60, 0),
        field_number(seconds, "The length of the excerpt", SHORTEST_SEC, LONGEST_SEC, 6),
    )


def as_request(document: Document, prompt: Prompt, values: tuple, profiles: tuple[str, ...]) -> RenderRequest:
    """The request to render the open piece. values: from RenderPanel.settings, checked here."""
    listen, part, first, last, temperature, seed, profile = values
    if part not in PARTS or profile not in profiles:
        raise BadInput("A menu of the Sound panel could not be read; reload the page.")
    span, words = (0.0, None), "the whole piece"
    if part == PARTS[1]:
        a, b = (int(field_number(v, "A bar number", -MAX_BAR, MAX_BAR)) for v in (first, last))
        span, words = span_of_bars(document.session, a, b), f"bars {a} to {b}"
    drawn = profile not in FITTED_METHODS  # a fitted instrument has no temperature
    heat = field_number(temperature, "The temperature", 0, 1.5) if drawn else 1.0
    return RenderRequest(
        document.session.performance, prompt, int(field_number(seed, "The seed", 0, MAX_SEED, 0)), heat,
        span, words, profile, bool(listen),
    )  # fmt: skip


def connect_panel(page: Page, shared: SharedEngine) -> None:
    """Events of the prompt's choice and of the Render button."""
    panel = page.render

    def chosen(key: Any) -> tuple:
        return credit_line(str(key)), gr.update(visible=key == OWN)

    panel.prompt.input(chosen, panel.prompt, [panel.credit, panel.own], **PRIVATE)
    panel.profile.input(  # a fitted instrument does not sample
        lambda method: gr.update(visible=method not in FITTED_METHODS), panel.profile, panel.temperature, **PRIVATE
    )
    panel.dice.click(lambda: random.randrange(1, 10_000), None, panel.seed, **PRIVATE)
    panel.own_midi.upload(
        lambda path: (str(path), f"<p class='hint'>{html.escape(Path(path).name[:40])}</p>"),
        panel.own_midi, [panel.own_midi_path, panel.own_midi_name], **PRIVATE,
    )  # fmt: skip

    panel.recording.change(lambda: ("", ""), None, [panel.own_midi_path, panel.own_midi_name], **PRIVATE)

    @show_refusals(page)
    def render(document: Document, *values: Any) -> Shown:
        count = len(panel.asked_of_prompt)
        if document.session.score is None:
            raise BadInput(actions.NOTHING_OPEN)
        request = as_request(document, as_prompt(values[:count], document.prompt), values[count:], shared.profiles)
        made = document.renders.begin(shared, document.session, request, document.folder())
        made.wait(0, MORE_WAIT)
        return {page.listen: began(made, document.renders)}

    inputs, outputs = [page.document, *panel.asked_of_prompt, *panel.settings], [page.listen, page.roll]
    panel.render.click(render, inputs, outputs, **PRIVATE)
    panel.render_bars.click(lambda: PARTS[1], None, panel.part, **PRIVATE).then(render, inputs, outputs, **PRIVATE)

    @show_refusals(page)
    def hear(document: Document, *values: Any) -> Shown:
        path = document.preview_file("wav")
        prompt = as_prompt(values, document.prompt)
        put(path, actions.audio_bytes(prompt.clip, "wav"))
        return {page.listen: prompt_sound(prompt, path)}

    heard = {"fn": hear, "inputs": [page.document, *panel.asked_of_prompt], "outputs": [page.listen, page.roll]}
    panel.hear.click(**heard, **PRIVATE)

    def tile(event: gr.EventData) -> Any:
        key = event_data(event).get("key")
        return (key, *chosen(key)) if key in gallery() else gr.skip()

    panel.tiles.choose(tile, None, [panel.prompt, panel.credit, panel.own], **PRIVATE).then(**heard, **PRIVATE)
    connect_window(page, heard)


def connect_window(page: Page, heard: dict[str, Any]) -> None:
    """Events of the window over one's own recording. heard: the event that plays the excerpt."""
    panel = page.render

    def opened(recording: Any) -> dict:
        try:
            return wave_value(audio_apart(Path(str(recording)).read_bytes()) if recording else None)
        except (BadInput, OSError):
            return wave_value(None)  # Render says why it cannot be read

    def pick(event: gr.EventData) -> Any:
        data = event_data(event)
        try:
            return as_excerpt(data.get("start"), data.get("seconds"))
        except BadInput:
            return gr.skip()

    panel.recording.change(opened, panel.recording, panel.window, **PRIVATE)
    panel.recording.change(lambda: (0, 6), None, [panel.start, panel.seconds], **PRIVATE)
    panel.window.pick(pick, None, [panel.start, panel.seconds], **PRIVATE).then(**heard, **PRIVATE)


def connect_player(page: Page, shared: SharedEngine) -> None:
    """Events of the player: more sound, comparison, cancel, save."""

    def more(event: gr.EventData, document: Document) -> dict:
        data = event_data(event)
        render, have = document.renders.numbered(data.get("render")), data.get("have")
        if render is None or type(have) is not int or have < 0:
            return refusal("This render is not kept any more; press Render again.", data.get("render"))
        if data.get("begun") is False:  # the page lacks its start
            return began(render, document.renders)
        render.wait(have, MORE_WAIT)
        if render.over and not render.filled:
            document.on_change()
        try:
            return part_of(render, have, document.renders)
        except BadInput as full:
            return refusal(str(full), render.number)

    def halt(event: gr.EventData, document: Document) -> dict:
        render = document.renders.numbered(event_data(event).get("render"))
        if render is None or render.job is None:
            return gr.skip()
        render.job.stop("visitor")
        return state_of(render, document.renders)

    def other(event: gr.EventData, document: Document, piano: Any) -> dict:
        data = event_data(event)
        render, which = document.renders.numbered(data.get("render")), data.get("which")
        if render is None or which not in COMPARED:
            return refusal("There is no such sound to compare with.", data.get("render"))

        def work(job: Job) -> Any:
            clip = compared(shared, render, which, str(piano), job.step)
            path = document.preview_file("flac" if clip.duration_sec > 90 else "wav")
            put(path, actions.audio_bytes(clip, path.suffix[1:]))
            return lambda: compared_sound(render, which, str(piano), path)

        job = document.renders.jobs.start(f"compare-{which}", "Comparing", work, same=(render.number, which, piano))
        if not job.wait(FIRST_WAIT):
            return state_of(render, document.renders)
        if job.refusal:
            return refusal(job.refusal, render.number)
        return job.show() if job.show is not None else state_of(render, document.renders)

    def save(event: gr.EventData, document: Document) -> dict:
        data = event_data(event)
        render, kind = document.renders.numbered(data.get("render")), data.get("kind")
        if render is None or kind not in ("wav", "flac"):
            return refusal("This render is not kept any more; press Render again.", data.get("render"))
        try:
            name, sound = render.file(kind)
            path = document.folder() / name
            put(path, sound)
        except (BadInput, BundleError) as error:
            return refusal(str(error), render.number)
        return saved(render, path)

    page.listen.more(more, page.document, page.listen, **PRIVATE)
    page.listen.halt(halt, page.document, page.listen, **PRIVATE)
    page.listen.other(other, [page.document, page.piano], page.listen, **PRIVATE)
    page.listen.save(save, page.document, page.listen, **PRIVATE)
