"""Export of a training run to a checkpoint folder: the steps common to all models."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class FinishedRun:
    """The state that `training.core.loop` saved in a folder.

    about    its config.json
    state    its last.pt: "average", the weights to publish, "step", "seconds", ...
    """

    def __init__(self, folder: Path):
        self.about: dict[str, Any] = json.loads((folder / "config.json").read_text())
        self.state: dict[str, Any] = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)

    def half(self) -> dict[str, Tensor]:
        """The averaged weights in half precision."""
        return {k: v.half().contiguous() for k, v in self.state["average"].items() if v.is_floating_point()}

    def publish(self, folder: Path, kind: str, module: str, tensors: dict[str, Tensor], **more: Any) -> dict[str, Any]:
        """Write model.safetensors and config.json; returns the config, to which a caller may add.

        kind    kind of model, as in `engine.checkpoints.bundle`
        module  module of the training command
        more    further entries of the config
        """
        from safetensors.torch import save_file  # imported here: a training needs torch and numpy only

        from engine.checkpoints.bundle import FORMAT_VERSION, weights_digest

        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / "model.safetensors")
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        command = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in self.about["args"].items())
        config = {
            "format_version": FORMAT_VERSION, "kind": kind, "model": self.about["model"], **more,
            "weights_sha256": weights_digest(folder / "model.safetensors"),
            "training": {
                "command": f"python -m training.{module} {command}", "commit": head.stdout.strip(),
                "pack": self.about["pack"], "steps": self.state["step"],
                "minutes": round(self.state["seconds"] / 60, 1),
            },
            "validation": self.about["validation"], "licence": "CC BY-NC-SA 4.0",
        }  # fmt: skip
        write_config(folder, config)
        return config


def weights_to_begin_with(source: Path, part: str = "") -> dict[str, Tensor]:
    """Weights for a new training, from another run's last.pt or a checkpoint folder.

    part  of a checkpoint folder's weights, only those whose names begin so, without it; "" those of the model itself
    """
    if source.is_file():
        return torch.load(source, map_location="cpu", weights_only=True)["average"]
    from safetensors.torch import load_file  # imported here: a training needs torch and numpy only

    tensors = {k: v.float() for k, v in load_file(source / "model.safetensors").items()}
    return {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write config.json."""
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def report_size(folder: Path) -> None:
    """Print the size of a checkpoint folder."""
    print(f"{folder}: {sum(f.stat().st_size for f in folder.iterdir()) / 2**20:.1f} MiB")
