"""A tab is closed or reloaded: its jobs stop at once; its document stays for an hour, in case it comes back."""

from __future__ import annotations

import gradio as gr

from studio.actions.document import Document


def connect_leaving(demo: gr.Blocks, document: gr.State) -> None:
    """Attach the event; called once, inside the same gr.Blocks."""

    def left(request: gr.Request) -> None:
        kept = demo.state_holder.session_data.get(request.session_hash or "")
        theirs = kept.state_data.get(document._id) if kept is not None else None
        if isinstance(theirs, Document):
            theirs.jobs.stop()
            theirs.renders.jobs.stop()

    demo.unload(left)
