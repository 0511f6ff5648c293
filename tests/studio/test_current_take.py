"""The shown piece and take: menu entry, disabled buttons while a take is shown, examples without side effects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from engine.measures.exports import ALL, EXPORTS
from studio.page.answers import MAX_NAME, example_menu
from studio.panels.perform.events import SHOWN
from studio.panels.project.events import kept_file
from studio.project.store import Autosaver, SessionStore
from studio.service.shared_engine import SharedEngine
from studio.shell.page import build_studio
from studio.state.examples import EMPTY, EXAMPLES, FIRST, MINE
from studio.state.session import Session
from studio.widgets.roll.roll import OF_PIECE
from tests.studio.test_project_files import a_session


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> gr.Blocks:
    return build_studio(SharedEngine(), Autosaver(SessionStore(Path(tmp_path_factory.mktemp("state"))), kept_file))


def test_the_menu_names_what_is_on_the_stand() -> None:
    assert example_menu(Session())["value"] == EMPTY
    assert example_menu(replace(a_session(), example=FIRST))["value"] == FIRST
    for session, name in (
        (a_session("Composition in C minor"), "Composition in C minor"), (a_session(""), "Untitled"),
        (replace(a_session(FIRST), example="of another Étude"), FIRST), (a_session("x" * 500), "x" * MAX_NAME),
    ):  # fmt: skip
        menu = example_menu(session)
        assert menu["value"] == MINE
        assert menu["choices"][0] == (name, MINE)
        assert [value for _, value in menu["choices"][1:]] == [*EXAMPLES, EMPTY]


def test_whatever_acts_on_the_piece_waits_while_a_take_is_shown(page: gr.Blocks) -> None:
    held = {b.elem_id for b in page.blocks.values() if OF_PIECE in (b.elem_classes or [])}
    assert held == {
        "start-phone", "render", "compare-pin", "compare-play", "compare-files", "compare-example", "human-example",
        "human-file", "continue", "infill-bars", "infill-notes", "models-vary", "models-play", "render-bars",
        "save-midi", "save-locked", "save-musicxml", "save-played", "save-pdf", "save-wav", "save-flac",
        *(f"save-{kind}" for kind in (*EXPORTS, ALL)),
    }  # fmt: skip
    for sentence in SHOWN.values():
        assert sentence.endswith(".")
        assert sentence.count(".") == 1


def test_a_worked_example_leaves_the_bars_to_render_as_they_were(page: gr.Blocks) -> None:
    names = {key: block.elem_id for key, block in page.blocks.items()}
    phone = next(fn for fn in page.fns.values() if any(names.get(t) == "start-phone" for t, _ in fn.targets))
    changed = {block.elem_id for block in phone.outputs}
    assert not changed & {"render-part", "render-first", "render-last"}
    assert {"listen", "render-prompt"} <= changed
