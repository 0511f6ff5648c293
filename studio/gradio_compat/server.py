"""Gradio's private parts around its server: options of launch(), stopping it, and the folder of uploads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

# All that the option does: end the app when a busy machine takes three seconds to answer its own request.
LAUNCH_OPTIONS: dict[str, Any] = {"_frontend": False}


def stop_accepting(demo: gr.Blocks) -> None:
    """Let the server of a launched page accept no more connections."""
    demo.server.should_exit = True


def upload_folder() -> Path:
    """Return the folder in which Gradio keeps uploads and answers; it is made where it is missing."""
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return folder
