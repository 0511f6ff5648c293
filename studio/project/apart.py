"""Untrusted projects and recordings, read in a child process that may hang, crash or exhaust memory.

Unpacking and parsing hold the GIL, so in the server's process a small file could block every visitor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.limits import READ_SECONDS
from engine.music.types import AudioClip
from engine.process.notation_reader import Refusals
from engine.process.wire import from_bytes, to_bytes
from engine.sound.clip import READ, read_stereo
from engine.untrusted.scores import call_apart
from studio.project.document import Project, read_project

Check = Callable[[], None]
PROJECT = Refusals(
    "This project file is damaged; use another copy of it.",
    f"Opening this project exceeded {READ_SECONDS} seconds of computing; use a smaller one.",
    "Opening this project took too much memory; use a smaller one.",
)
RECORDING = Refusals(
    f"This recording is damaged or in an unknown format; save it as {READ}.",
    f"Reading this recording exceeded {READ_SECONDS} seconds; choose a shorter one.",
    "Reading this recording took too much memory; choose a shorter one.",
)


def project_apart(data: bytes, check: Check | None = None) -> Project:
    """`read_project` in a child process; `check` as in engine.untrusted.scores.open_score. Raises BadInput."""
    return _built(call_apart(f"{__name__}:project_bytes", data, PROJECT, check))


def audio_apart(data: bytes, check: Check | None = None) -> AudioClip:
    """engine.sound.clip.read_stereo in a child process. Raises BadInput."""
    return _built(call_apart(f"{__name__}:audio_bytes", data, RECORDING, check))


def _built(answer: bytes) -> Any:
    packages = {module.split(".")[0] for module in (AudioClip.__module__, __name__)}  # one if Étude is installed
    return from_bytes(answer, tuple(packages))[1]


def project_bytes(data: bytes) -> bytes:
    """In the child: read a project and return it as bytes."""
    return to_bytes(("project", read_project(data)))


def audio_bytes(data: bytes) -> bytes:
    """In the child: read a recording and return it as bytes."""
    return to_bytes(("audio", read_stereo(data)))
