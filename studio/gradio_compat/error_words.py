"""What a call over plain HTTP answers when it fails: a sentence, where Gradio answers `{"error": null}`.

Gradio tells a caller nothing of an exception that is not its own, since the text may hold what is secret. The sentences
here say what to send instead, and hold nothing of the exception.
"""

from __future__ import annotations

from typing import Any

from gradio import queueing, utils
from gradio.exceptions import InvalidPathError

VALUES = (
    "The values sent are not those that this endpoint takes; /gradio_api/info lists them. Send all of them in order, "
    "or by name to /gradio_api/call/v2/NAME, where those that are left out have their defaults."
)
NO_UPLOAD = (
    "That is not a file that was uploaded here; send it to /gradio_api/upload first, and name the path it answers."
)
BROKEN = "This could not be done: the studio has a fault, which its log shows; try again, or with another file."


def sentence_of(error: BaseException | None) -> str:
    """What is said of an exception that is none of Gradio's own."""
    if isinstance(error, InvalidPathError):
        return NO_UPLOAD
    return VALUES if isinstance(error, (ValueError, TypeError)) else BROKEN


def answer_in_words() -> None:
    """Let every failed call say why from now on; twice is once."""
    plain = utils.error_payload
    if getattr(plain, "in_words", False):
        return

    def in_words(error: BaseException | None, show_error: bool) -> dict[str, Any]:
        content = plain(error, show_error)
        return content if content.get("error") else {**content, "error": sentence_of(error)}

    in_words.in_words = True  # type: ignore[attr-defined]
    utils.error_payload = in_words  # type: ignore[assignment]
    queueing.error_payload = in_words  # type: ignore[assignment]
