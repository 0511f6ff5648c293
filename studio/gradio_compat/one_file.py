"""One file per request: the page sends one, and a request with a thousand files would evade the limit."""

from __future__ import annotations

from gradio import route_utils
from gradio.route_utils import GradioMultiPartParser


class OneFileParser(GradioMultiPartParser):
    """Gradio's form parser, limited to one file. Gradio passes its limits in the call, so they are replaced here."""

    def __init__(self, headers: object, stream: object, **limits: object) -> None:
        super().__init__(headers, stream, **{**limits, "max_files": 1, "max_fields": 8})  # type: ignore[arg-type]


def one_file_a_request() -> None:
    """Patch Gradio to parse uploads with OneFileParser."""
    route_utils.GradioMultiPartParser = OneFileParser  # type: ignore[misc]
