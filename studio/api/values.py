"""Checks of the values that clients send to the public endpoints, and the files that the endpoints return. A client may
send anything: every function here returns a valid value or raises BadInput with one sentence.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import gradio as gr

from engine.checkpoints.index import CHECKPOINTS, COMPOSER, PAPER_MODELS, PIANIST
from engine.files import READ_LIMIT, put
from engine.music.types import AudioClip, BadInput, Performance, Score
from engine.progress import ProgressCallback
from studio.gradio_compat.server import upload_folder

MAX_CALL_SEC = 300.0
_DATA = re.compile(r"data:[\w.+/-]{0,80}(?:;[\w=.-]{1,60}){0,3};base64,", re.ASCII)


class Upload(TypedDict):
    """A file as `gradio_client.handle_file` sends it."""

    path: str
    meta: dict


class Answer(TypedDict):
    """A file as the client fetches it."""

    path: str
    orig_name: str
    meta: dict


def as_text(value: Any, what: str, known: Sequence[str] = (), empty: str | None = None, most: int = 100) -> str:
    """A text of up to `most` characters, one of `known` if there are any (upper or lower case); `empty` replaces a
    missing one.
    """
    if value in (None, "") and empty is not None:
        return empty
    if not isinstance(value, str) or len(value) > most:
        raise BadInput(f"{what} is not a text of up to {most} characters; send a string.")
    by_lower = {name.lower(): name for name in known}
    if known and value.lower() not in by_lower:
        listed = ", ".join(known) if len(known) <= 12 else f"{', '.join(known[:10])} and {len(known) - 10} more"
        raise BadInput(f'{what} is "{value[:40]}"; the choices are {listed}.')
    return by_lower.get(value.lower(), value)


def as_number(value: Any, what: str, low: float, high: float) -> float:
    """A number in a range."""
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        number = float(value) if usable else float("nan")
    except OverflowError:  # a whole number of 400 digits
        number = float("inf")
    if not low <= number <= high:
        raise BadInput(f"{what} is {str(value)[:20]}; a number from {low:g} to {high:,.12g} is accepted.")
    return number


def as_whole(value: Any, what: str, low: int, high: int) -> int:
    """A whole number in a range."""
    number = as_number(value, what, low, high)
    if number != int(number):
        raise BadInput(f"{what} is {number:g}; a whole number is accepted.")
    return int(number)


def as_yes_or_no(value: Any, what: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise BadInput(f"{what} is {str(value)[:40]!r}; it is true or false.")
    return value


def as_file(value: Any, what: str) -> tuple[bytes, str]:
    """Contents and name of a file: one uploaded to this server, or a `data:` URI with base64."""
    if isinstance(value, str):
        found = _DATA.match(value)
        if not found or len(value) > 2 * READ_LIMIT:
            raise BadInput(f"{what} is not a file; upload one, or send it as a data: URI with base64, up to 20 MB.")
        try:
            return base64.b64decode(value[found.end() :], validate=True)[:READ_LIMIT], "upload"
        except (binascii.Error, ValueError):
            raise BadInput(f"{what} is not valid base64; send the whole file again.") from None
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str) or not _uploaded(path):
        raise BadInput(f"{what} is not a file that was uploaded here; upload it first (gradio_client.handle_file).")
    name = value.get("orig_name")
    with Path(path).open("rb") as file:
        return file.read(READ_LIMIT), name[:100] if isinstance(name, str) and name else Path(path).name


def _uploaded(path: str) -> bool:
    """Whether a path, links followed, is a file in the upload folder."""
    try:
        real = Path(path).resolve(strict=True)
        return real.is_file() and real.is_relative_to(upload_folder().resolve())
    except (OSError, ValueError):
        return False


def as_score(value: Any, all_parts: bool = False) -> Score:
    """A score in any accepted format; with `all_parts` a song's voice is kept."""
    from engine.untrusted.scores import open_score

    return open_score(*as_file(value, "The score"), all_parts=all_parts)


def as_performance(value: Any, what: str = "The performance") -> Performance:
    """A MIDI performance."""
    from engine.untrusted.scores import open_performance

    return open_performance(*as_file(value, what))


def given(name: str, data: bytes) -> Answer:
    """A file for the client to download. It is in Gradio's folder, which is emptied after an hour."""
    folder = Path(tempfile.mkdtemp(dir=upload_folder()))
    path = folder / name
    put(path, data)
    return {"path": str(path), "orig_name": name, "meta": gr.FileData(path=str(path)).meta}  # type: ignore[typeddict-item]


def sound_file(clip: AudioClip, name: str, kind: str, comment: str = "") -> Answer:
    """A sound as a WAV or FLAC file."""
    from engine.sound.clip import encode_audio

    return given(f"{name}.{kind}", encode_audio(clip, kind, comment))


def sound_facts(clip: AudioClip) -> dict[str, Any]:
    """Length and sample rate, as the endpoints report them."""
    return {"duration_sec": round(clip.duration_sec, 3), "sample_rate": clip.sample_rate}


@cache
def weights(kind: str) -> str:
    """First 12 hex digits of the hash of a model's weights, "" if it is missing. kind: composer, pianist, or one of
    `PAPER_MODELS`.
    """
    folder = CHECKPOINTS / {"composer": COMPOSER, "pianist": PIANIST, **PAPER_MODELS}[kind]
    try:
        return str(json.loads((folder / "config.json").read_text())["weights_sha256"])[:12]
    except (OSError, ValueError, KeyError):
        return ""


def time_limit() -> ProgressCallback:
    """A progress callback that ends the work after MAX_CALL_SEC."""
    until = time.monotonic() + MAX_CALL_SEC

    def step(share: float) -> None:
        if time.monotonic() > until:
            raise BadInput(f"This took more than {MAX_CALL_SEC:.0f} s and was stopped; send less at a time.")

    return step
