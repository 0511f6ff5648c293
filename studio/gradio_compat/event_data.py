"""Data of a page event, which Gradio keeps in a private attribute of the event object."""

from __future__ import annotations

from typing import Any

import gradio as gr


def event_data(event: gr.EventData) -> dict[str, Any]:
    """Return the fields that the page sent with an event; {} where a client sent anything but an object."""
    return event._data if isinstance(event._data, dict) else {}
