"""One file a request: the page sends no more, and a request of a thousand would go round the limit of one."""

from __future__ import annotations

from gradio import route_utils
from gradio.route_utils import GradioMultiPartParser


class OneFileParser(GradioMultiPartParser):
    """Gradio's reader of forms for a single file. Gradio states its limits in the call, so they are replaced here."""

    def __init__(self, headers: object, stream: object, **limits: object) -> None:
        super().__init__(headers, stream, **{**limits, "max_files": 1, "max_fields": 8})  # type: ignore[arg-type]


def one_file_a_request() -> None:
    """Let uploads be read by OneFileParser from now on."""
    route_utils.GradioMultiPartParser = OneFileParser  # type: ignore[misc]
