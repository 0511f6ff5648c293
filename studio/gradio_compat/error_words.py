"""Error sentences for failed calls over plain HTTP, where Gradio answers `{"error": null}`.

Gradio hides the text of foreign exceptions, because it may contain secrets. The sentences here state what to send
instead and contain nothing of the exception.
"""

from __future__ import annotations

from typing import Any

from gradio import queueing, utils
from gradio.exceptions import InvalidPathError

VALUES = (
    "The values do not match this endpoint; /gradio_api/info lists its parameters. Send all of them in order, "
    "or by name to /gradio_api/call/v2/NAME, where those that are left out have their defaults."
)
NO_UPLOAD = (
    "That is not a file that was uploaded here; send it to /gradio_api/upload first, and name the path it answers."
)
BROKEN = "This could not be done: the studio has a fault, which its log shows; try again, or with another file."


def sentence_of(error: BaseException | None) -> str:
    """The sentence for an exception that is not one of Gradio's."""
    if isinstance(error, InvalidPathError):
        return NO_UPLOAD
    return VALUES if isinstance(error, (ValueError, TypeError)) else BROKEN


def answer_in_words() -> None:
    """Patch Gradio so that every failed call returns a sentence. Idempotent."""
    plain = utils.error_payload
    if getattr(plain, "in_words", False):
        return

    def in_words(error: BaseException | None, show_error: bool) -> dict[str, Any]:
        content = plain(error, show_error)
        return content if content.get("error") else {**content, "error": sentence_of(error)}

    in_words.in_words = True  # type: ignore[attr-defined]
    utils.error_payload = in_words  # type: ignore[assignment]
    queueing.error_payload = in_words  # type: ignore[assignment]
