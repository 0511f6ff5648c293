"""The public endpoints for `gradio_client`, plain HTTP and MCP (docs/api.md).

Each endpoint is one function of writing, playing, listening or listings. It keeps no state of its caller. Its docstring
is the documentation that clients and MCP tools show, its `Args` the schema. Page events stay private.
"""

from __future__ import annotations

import html
import importlib.util
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr

from engine.music.types import BadInput, BundleError
from studio.api import listening, listings, playing, writing
from studio.service.shared_engine import SharedEngine

WORK = (
    writing.compose, writing.compose_passage, writing.continue_piece, writing.infill, writing.edit_section,
    playing.perform, playing.preview, playing.render,
    listening.metrics, listening.transcribe, listening.export, listening.convert,
)  # fmt: skip
LISTINGS = (listings.list_styles, listings.list_prompts, listings.list_conditions)
AT_ONCE = 4  # concurrent calls; the shared engine admits one performance, one composition and one render at a time
_BROKEN = "Something went wrong in the studio, so this was not done; try again, or with another file."


def has_mcp() -> bool:
    """Whether the package that MCP needs is installed (`gradio[mcp]`)."""
    return importlib.util.find_spec("mcp") is not None


def connect_api(shared: SharedEngine) -> None:
    """Add the endpoints; called once, inside an open gr.Blocks."""
    for work in WORK:
        gr.api(_bound(work, shared), api_name=work.__name__, concurrency_limit=AT_ONCE, concurrency_id="api")
    for listing in LISTINGS:
        gr.api(_bound(listing, shared), api_name=listing.__name__, queue=False)


def _bound(endpoint: Callable, shared: SharedEngine) -> Callable:
    """An endpoint with its first argument set to `shared`; an error becomes one sentence.

    A client may show the sentence on a page, so it is escaped. Gradio reads the types of the remaining arguments.
    """

    @wraps(endpoint)
    def call(*args: Any) -> Any:
        try:
            return endpoint(shared, *args)
        except (BadInput, BundleError) as refusal:
            raise gr.Error(html.escape(str(refusal), quote=False), print_exception=False) from None
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(_BROKEN) from error

    signature = inspect.signature(endpoint, eval_str=True)
    arguments = list(signature.parameters.values())[1:]
    call.__signature__ = signature.replace(parameters=arguments)  # type: ignore[attr-defined]
    call.__annotations__ = {a.name: a.annotation for a in arguments} | {"return": signature.return_annotation}
    return call
