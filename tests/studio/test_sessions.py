"""Eviction of visits: unloaded ones first, open ones with unsaved work never."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

import gradio as gr
import pytest
from gradio.state_holder import StateHolder

from studio.actions.document import Document
from studio.gradio_compat import visit_eviction
from studio.gradio_compat.visit_eviction import documents, forget_safely
from studio.project.store import Autosaver, SessionStore, new_token
from studio.service.visit_folders import VisitFolders
from tests.helpers.pages import ROOT
from tests.studio.test_project_files import a_session


@pytest.fixture
def holder() -> StateHolder:
    forget_safely()
    with gr.Blocks() as demo:
        gr.State(Document(), delete_callback=Document.close)
    demo.state_session_capacity = 5
    holder = StateHolder()
    holder.set_blocks(demo)
    return holder


def visit(holder: StateHolder, name: str) -> Document:
    state = holder[name]
    number = next(i for i, block in state.blocks_config.blocks.items() if isinstance(block, gr.State))
    return state[number]


def test_invented_names_do_not_end_a_visit(holder: StateHolder, tmp_path: Path) -> None:
    autosaver = Autosaver(SessionStore(tmp_path), lambda document: b"work", wait_sec=60)
    mine = visit(holder, "mine")
    autosaver.attend(mine, new_token())
    mine.update(lambda now: a_session())
    for k in range(205):
        visit(holder, f"invented-{k}")
    assert documents(holder.session_data["mine"]) == [mine]
    assert len(holder.session_data) == 5
    assert mine.session.score is not None


def test_what_is_forgotten_is_idle_kept_and_closed(
    holder: StateHolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit_eviction, "VISITS_OVER", 2)
    autosaver, tokens = (
        Autosaver(SessionStore(tmp_path), lambda document: b"work", wait_sec=60),
        [new_token() for _ in range(12)],
    )
    opened = []
    for k, token in enumerate(tokens[:6]):
        document = visit(holder, str(k))
        autosaver.attend(document, token)
        opened.append((document, document.folder()))
    assert len(holder.session_data) == 6, "all are open: nobody's visit is ended for the sixth"
    opened[0][0].update(lambda now: a_session())  # not written yet
    holder.session_data["2"].is_closed = True
    visit(holder, "3")
    assert "2" not in holder.session_data
    assert not opened[2][1].exists(), "what is forgotten is closed"
    past = datetime.datetime.now() - datetime.timedelta(seconds=visit_eviction.VISIT_IDLE_SEC + 60)
    holder.time_last_used.update(dict.fromkeys(holder.session_data, past))
    autosaver.attend(visit(holder, "new"), tokens[7])
    assert "1" not in holder.session_data, "the longest idle one with nothing unwritten"
    assert "0" in holder.session_data
    for k in range(8, 30):
        autosaver.attend(visit(holder, str(k)), new_token())
    assert len(holder.session_data) <= 10, "there is an end to it"


def test_what_a_server_left_behind_is_removed_by_the_next(tmp_path: Path) -> None:
    script = f"""
import time
from pathlib import Path
from studio.service.visit_folders import VisitFolders
folders = VisitFolders(Path({str(tmp_path)!r}))
folder = folders.new()
(folder / "render-1.pcm").write_bytes(b"x")
print(folder, flush=True)
time.sleep(60)
"""
    server = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    theirs = Path(server.stdout.readline().strip())
    following = VisitFolders(tmp_path)
    mine = following.new()
    assert (following.sweep(), theirs.exists()) == (0, True), "that server lives"
    server.kill()
    server.wait(10)
    assert (following.sweep(), theirs.parent.exists()) == (1, False)
    assert mine.exists()
    following.close()
    assert list(tmp_path.iterdir()) == []
