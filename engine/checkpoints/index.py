"""Metadata of the checkpoints folder without loading weights, for a server process without models."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.models.pianist.style import AXES
from engine.music.types import BundleError

_NAMED = os.environ.get("ETUDE_CHECKPOINTS")
CHECKPOINTS = Path(_NAMED).absolute() if _NAMED else Path(__file__).resolve().parents[2] / "checkpoints"
IMPORTED_KINDS = ("midi-valle", "piano-encodec")
EXPECTED = "expected-v2"
PIANIST, COMPOSER, CODEC, RENDERER = "pianist-v1", "composer-v2", "piano-codec-v2", "renderer-v3"
TAGGER, TRANSCRIBER, DDSP_PIANO = "phrase-tagger-v1", "transcriber-v1", "ddsp-piano-v1"
PAPER_MODELS = {"xmvae": "xmvae-v1", "ecpt": "ecpt-v1", "mt": "mt-v1"}  # systems of the XMVAE paper


@dataclass(frozen=True)
class Styles:
    """The available styles.

    presets  name -> z_p, "Default" first
    sliders  (9, 9), see `engine.models.pianist.style.z_from_sliders`
    size     dimensions of a style
    deviation  (9,) one deviation of each axis in the unit of its descriptor, see `style.units`
    """

    presets: dict[str, tuple[float, ...]]
    sliders: NDArray[np.float64]
    size: int
    deviation: NDArray[np.float64]


def styles(checkpoints: Path) -> Styles:
    """The styles of the folder's pianist. Raises BundleError if they cannot be read."""
    try:
        config = json.loads((checkpoints / PIANIST / "config.json").read_text())
        named = json.loads((checkpoints / PIANIST / "presets.json").read_text())
        size = len(AXES) + int(config["model"]["free_style"])
        sliders = np.array(config["sliders"], float).reshape(len(AXES), len(AXES))
        presets = {name: tuple(float(v) for v in z) for name, z in named.items()}
        deviation = np.array(config["axis_deviation"], float).reshape(len(AXES))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(PIANIST, error) from error
    return Styles({"Default": (0.0,) * size, **presets}, sliders, size, deviation)


def renderer_digest(checkpoints: Path) -> str:
    """First 12 hex digits of the renderer's weights, from its config. Raises BundleError if it cannot be read."""
    try:
        return str(json.loads((checkpoints / RENDERER / "config.json").read_text())["weights_sha256"])[:12]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(RENDERER, error) from error


def weights_here(checkpoints: Path = CHECKPOINTS) -> dict[str, str]:
    """Folder to the first 12 hex digits of its weights' SHA-256; unreadable folders are omitted."""
    found = {}
    for config in sorted(checkpoints.glob("*/config.json")):
        try:
            about = json.loads(config.read_text(encoding="utf-8"))
            found[config.parent.name] = str(about["weights_sha256"])[:12]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the error is reported when the checkpoint is used
    return found


def profiles(checkpoints: Path) -> tuple[str, ...]:
    """The methods of rendering: "fitted" (the default), "product" (the codec model), "paper" (MIDI-VALLE) once the
    published weights have been imported, "physical" (modal strings), and "ddsp" (DDSP-Piano) where its weights are."""
    paper = ("paper",) if are_imported(checkpoints / "imported") else ()
    ddsp = ("ddsp",) if (checkpoints / DDSP_PIANO / "config.json").exists() else ()
    return ("fitted", "product", *paper, "physical", *ddsp)


def xmvae_directions(checkpoints: Path) -> tuple[str, ...]:
    """Names of the directions of XMVAE's z_p, () where it is not installed. Raises BundleError if unreadable."""
    name = PAPER_MODELS["xmvae"]
    if not (checkpoints / name).is_dir():
        return ()
    try:
        config = json.loads((checkpoints / name / "config.json").read_text())
        return tuple(str(direction["name"]) for direction in config.get("z_p", []))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(name, error) from error


def paper_models(checkpoints: Path) -> tuple[str, ...]:
    """The systems of the XMVAE paper whose checkpoints are in the folder, of `PAPER_MODELS`."""
    return tuple(name for name, folder in PAPER_MODELS.items() if (checkpoints / folder / "config.json").exists())


def are_imported(folder: Path) -> bool:
    """Whether the published weights of every kind are imported."""
    return all((folder / kind / "config.json").exists() for kind in IMPORTED_KINDS)


def _unreadable(name: str, error: Any) -> BundleError:
    if isinstance(error, FileNotFoundError):
        return BundleError(f"Checkpoint {name} lacks {Path(error.filename).name}; fetch the folder again.")
    return BundleError(f"Checkpoint {name} cannot be read ({type(error).__name__}); fetch the folder again.")
