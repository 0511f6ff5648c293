"""End of a page: stop its jobs at once and end the visit soon after, unless it reconnects.

The work is saved by then (studio.project.store), so a visitor who reopens the page finds it.
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
