"""No server-side downloads: Gradio would fetch a web address that a client sends instead of a file."""

from __future__ import annotations

from typing import NoReturn

import gradio as gr
from gradio import processing_utils


async def _refuse(url: str) -> NoReturn:
    raise gr.Error("Web addresses are not accepted; send the file itself.", print_exception=False)


def fetch_nothing() -> None:
    """Patch Gradio so that it refuses every download for a visitor with one sentence."""
    processing_utils.async_ssrf_protected_get = _refuse
