"""A tab is closed or reloaded: its jobs stop at once, and its visit ends soon after, unless its connection comes back.

The work is kept by then (studio.project.store), so whoever opens the page again finds it.
"""

from __future__ import annotations

import gradio as gr

from studio.actions.document import Document
from studio.gradio_compat.session_memory import forget_later


def connect_leaving(demo: gr.Blocks, document: gr.State) -> None:
    """Attach the event; called once, inside the same gr.Blocks."""

    def left(request: gr.Request) -> None:
        name = request.session_hash or ""
        kept = demo.state_holder.session_data.get(name)
        theirs = kept.state_data.get(document._id) if kept is not None else None
        if isinstance(theirs, Document):
            theirs.jobs.stop()
            theirs.renders.jobs.stop()
        forget_later(demo, name)

    demo.unload(left)
