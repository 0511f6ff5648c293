"""Gradio's private server API: options of launch(), shutdown, and the upload folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

# The option only ends the app if a busy machine takes three seconds to answer its own request.
LAUNCH_OPTIONS: dict[str, Any] = {"_frontend": False}


def stop_accepting(demo: gr.Blocks) -> None:
    """Stop a launched server from accepting connections."""
    demo.server.should_exit = True


def upload_folder() -> Path:
    """Return Gradio's folder of uploads and answers; create it if it is missing."""
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return folder
