"""Gradio's private API used by studio/gradio_compat, for the supported version."""

import inspect
import re
from pathlib import Path

import gradio as gr
import pytest
from gradio import processing_utils, route_utils
from gradio.state_holder import SessionState, StateHolder

from studio.gradio_compat.event_data import event_data
from studio.gradio_compat.server import LAUNCH_OPTIONS, upload_folder

KNOWN_FOR = "6.31.0"  # after an upgrade: run this file and test_s*.py, test_uploads.py, then change this line
ROOT = Path(__file__).parents[2]
PRIVATE = re.compile(
    r"event\._data|gradio\.utils|processing_utils|route_utils|state_holder|gradio\.blocks|should_exit|_frontend="
)


def test_gradio_has_the_version_that_the_private_parts_are_known_for() -> None:
    assert gr.__version__ == KNOWN_FOR
    assert f"gradio[mcp]=={KNOWN_FOR}" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_only_gradio_compat_uses_private_parts() -> None:
    for path in [*(ROOT / "studio").rglob("*.py"), ROOT / "app.py"]:
        found = PRIVATE.search(path.read_text(encoding="utf-8"))
        assert found is None or path.parent.name == "gradio_compat", f"{path} uses {found and found[0]}"


@pytest.mark.parametrize("sent", [None, 3, "take", [1, 2]])
def test_event_data_is_a_dictionary_whatever_was_sent(sent: object) -> None:
    assert event_data(gr.EventData(None, {"take": 2})) == {"take": 2}
    assert event_data(gr.EventData(None, sent)) == {}


def test_what_is_patched_is_there() -> None:
    assert inspect.iscoroutinefunction(processing_utils.async_ssrf_protected_get)
    assert {"max_files", "max_fields"} <= set(inspect.signature(route_utils.GradioMultiPartParser.__init__).parameters)
    assert list(inspect.signature(SessionState.__setitem__).parameters) == ["self", "key", "value"] or hasattr(
        SessionState, "slim"
    )
    for name in ("_update_config", "_update_value_in_config"):
        assert callable(getattr(SessionState, name))
    assert list(inspect.signature(StateHolder.update).parameters)[1:] == ["session_id"]
    assert set(LAUNCH_OPTIONS) <= set(inspect.signature(gr.Blocks.launch).parameters)


def test_the_upload_folder_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    assert upload_folder() == tmp_path / "uploads"
    assert upload_folder().is_dir()
