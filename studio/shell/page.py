"""The page: joins layout and events, and serves them."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from engine.limits import MAX_VISITS, UPLOAD_BYTES
from engine.untrusted.scores import warm_up
from studio.api.endpoints import connect_api, has_mcp
from studio.gradio_compat.error_words import answer_in_words
from studio.gradio_compat.fetch import fetch_nothing
from studio.gradio_compat.one_file import one_file_a_request
from studio.gradio_compat.server import LAUNCH_OPTIONS, stop_accepting
from studio.gradio_compat.session_memory import slim_sessions
from studio.gradio_compat.unload import connect_leaving
from studio.gradio_compat.uploads import RequestGuard
from studio.gradio_compat.visit_eviction import forget_safely
from studio.panels.compare.events import connect_compare
from studio.panels.compose.events import connect_compose
from studio.panels.compose.form_events import connect_form
from studio.panels.models.events import connect_models
from studio.panels.perform.events import connect
from studio.panels.project.events import connect_projects, kept_file
from studio.panels.render.events import connect_render
from studio.project.store import Autosaver, SessionStore, state_folder
from studio.service.shared_engine import SharedEngine
from studio.service.visit_folders import VISITS
from studio.shell.layout import build
from studio.shell.view_events import connect_views
from studio.shell.welcome_events import connect_welcome

_HERE = Path(__file__).parent
LAST_WAIT = 0.5  # seconds for pending answers when the server ends
LOOK_SEC = 0.2  # seconds between two looks at the signals received
END_SEC = 15.0  # a server that has not written its work by then is ended


def build_studio(shared: SharedEngine, autosaver: Autosaver) -> gr.Blocks:
    """The studio as a Gradio app, not yet served."""
    with gr.Blocks(title="Étude", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as demo:
        connect_api(shared)  # first, so that no page event takes an endpoint's name
        page = build(shared)
        connect(page, shared)
        connect_projects(demo, page, shared, autosaver)
        connect_welcome(page, shared)
        connect_compose(page, shared)
        connect_form(page, shared)
        connect_models(page, shared)
        connect_render(page, shared)
        connect_compare(page, shared)
        connect_views(page, shared)
        connect_leaving(demo, page.document)
    demo.queue(max_size=32, default_concurrency_limit=1)
    return demo


def launch_studio(shared: SharedEngine, host: str = "127.0.0.1", port: int = 7860, block: bool = True) -> gr.Blocks:
    """Build the page and serve it with the limits of a public server, while the models load."""
    fetch_nothing()
    slim_sessions()
    answer_in_words()
    one_file_a_request()
    forget_safely()
    VISITS.sweep()
    autosaver = Autosaver(SessionStore(state_folder()), kept_file)
    demo = build_studio(shared, autosaver)
    threading.Thread(target=warm_up, daemon=True).start()  # the process that reads scores
    threading.Thread(target=_warm, args=(shared,), daemon=True).start()
    demo.launch(
        server_name=host,
        server_port=port,
        max_file_size=UPLOAD_BYTES,
        max_threads=MAX_VISITS,  # a waiting poll holds one
        allowed_paths=[],
        strict_cors=True,
        show_error=False,
        enable_monitoring=False,
        state_session_capacity=MAX_VISITS,
        run_history=False,
        footer_links=["api", "settings"],
        theme=_theme(),
        css_paths=[_HERE / "studio.css"],
        head=f"<style>{(_HERE / 'frame.css').read_text(encoding='utf-8')}</style>",
        js=(_HERE / "page.js").read_text(encoding="utf-8"),
        ssr_mode=False,
        mcp_server=has_mcp(),
        **LAUNCH_OPTIONS,
        app_kwargs={"middleware": [Middleware(RequestGuard)]},
        prevent_thread_lock=True,
    )
    atexit.register(VISITS.close)
    atexit.register(autosaver.flush)  # registered last, so called first
    if block:
        _serve(demo, autosaver)
    return demo


def _serve(demo: gr.Blocks, autosaver: Autosaver) -> None:
    """Serve until SIGTERM or Ctrl-C; pending autosaves are written before the process ends."""
    received: list[int] = []
    both = (signal.SIGTERM, signal.SIGINT)
    for number in both:
        signal.signal(number, lambda number, _: received.append(number))
    while not received:
        time.sleep(LOOK_SEC)  # short: a signal that reaches another thread does not wake this one
    threading.Thread(target=_end_late, args=(threading.get_ident(),), daemon=True).start()
    autosaver.flush()
    stop_accepting(demo)
    time.sleep(LAST_WAIT)
    autosaver.flush()  # changes made meanwhile
    VISITS.close()
    signal.signal(received[0], signal.SIG_DFL)
    os.kill(os.getpid(), received[0])


def _end_late(main_thread: int) -> None:
    """End the process if it has not ended after `END_SEC`, and print where it waits."""
    time.sleep(END_SEC)
    where = "".join(traceback.format_stack(sys._current_frames()[main_thread]))
    print(
        f"Étude: the server did not end within {END_SEC:.0f} s, so it is ended now. It was here:\n{where}", flush=True
    )
    os._exit(1)


def _warm(shared: SharedEngine) -> None:
    try:
        shared.warm()
    except (RuntimeError, ValueError) as error:  # the page shows this too, when a piece is opened
        print(f"Étude cannot perform yet: {error}", flush=True)


INK = gr.themes.Color(
    name="ink", c50="#faf7f2", c100="#f3eee5", c200="#e6dfd3", c300="#d3c9b8", c400="#a89e8f", c500="#6f675b",
    c600="#5a5348", c700="#423d35", c800="#2b2823", c900="#1f1c18", c950="#161411",
)  # fmt: skip
RUST = gr.themes.Color(
    name="rust", c50="#fdf3ef", c100="#fae3da", c200="#f4c5b5", c300="#eba389", c400="#dd7a5b", c500="#c8553d",
    c600="#b04530", c700="#933825", c800="#762f21", c900="#5f281e", c950="#34120c",
)  # fmt: skip


def _theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue=RUST,
        secondary_hue=RUST,
        neutral_hue=INK,
        radius_size="md",
        spacing_size="sm",
        text_size="md",
    ).set(
        body_background_fill="*neutral_50",
        body_text_color_subdued="*neutral_500",
        block_label_text_color="*neutral_600",
        block_info_text_color="*neutral_500",
        body_background_fill_dark="*neutral_950",
        block_border_width="1px",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_500",
        button_primary_text_color="white",
        slider_color="*primary_500",
        color_accent="*primary_600",  # contrast with white meets WCAG AA
    )
