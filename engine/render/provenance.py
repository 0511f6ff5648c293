"""How a rendering was made, written into its sound file and read back from it."""

from __future__ import annotations

import io
import json
from typing import Any

import soundfile

from engine.requests import RenderRequest


def describe_render(request: RenderRequest, weights: str, piece: str = "") -> str:
    """Everything that is needed to make the same sound again, as one line of JSON in ASCII: it fits any file's comment.

    weights  digest of the renderer's weights
    """
    prompt, span = request.prompt, request.span
    return json.dumps(
        {
            "made_by": "Etude",
            "piece": piece,
            "notes": request.performance.digest,
            "prompt": prompt.name,
            "credit": prompt.credit,
            "prompt_digest": prompt.digest,
            "seed": request.seed,
            "temperature": request.temperature,
            "span_sec": [round(span[0], 3), None if span[1] is None else round(span[1], 3)],
            "profile": request.profile,
            "weights": weights,
        }
    )


def read_description(data: bytes) -> dict[str, Any]:
    """What describe_render wrote into a sound file; {} when there is nothing of the kind."""
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        comment = file.comment
    try:
        found = json.loads(comment)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("made_by") == "Etude" else {}
