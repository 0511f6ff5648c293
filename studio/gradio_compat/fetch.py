"""The studio reads no web address: Gradio would download one that is sent in the place of a file."""

from __future__ import annotations

from typing import NoReturn

import gradio as gr
from gradio import processing_utils


async def _refuse(url: str) -> NoReturn:
    raise gr.Error("A web address is not read here; send the file itself.", print_exception=False)


def fetch_nothing() -> None:
    """From now on every download that Gradio would make for a visitor is refused with a sentence."""
    processing_utils.async_ssrf_protected_get = _refuse
