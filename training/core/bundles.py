"""Export a training run's weights as a bundle, and begin a run folder from one.

`python -m training.core.bundles save RUN BUNDLE` exports, `python -m training.core.bundles restore BUNDLE RUN` begins.
A bundle is a folder with model.safetensors (the averaged weights, 32 bit) and config.json. A published checkpoint
works, too. A run begun from a bundle keeps its step and minutes; its optimizers start from zero, so it warms up again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from training.core.loop import write_state


def save_bundle(run: Path, bundle: Path) -> None:
    """Export the averaged weights of a run folder; an interruption leaves the old bundle or the new one."""
    state = torch.load(run / "last.pt", map_location="cpu", weights_only=True)
    config = json.loads((run / "config.json").read_text())
    config |= {"step": state["step"], "minutes": state["seconds"] / 60}
    bundle.mkdir(parents=True, exist_ok=True)
    weights = {k: v.contiguous().clone() for k, v in state["average"].items()}
    save_file(weights, bundle / "model.tmp")
    (bundle / "config.tmp").write_text(json.dumps(config, indent=1))
    (bundle / "model.tmp").replace(bundle / "model.safetensors")
    (bundle / "config.tmp").replace(bundle / "config.json")


def restore_run(bundle: Path, run: Path) -> tuple[int, float]:
    """Write a run folder that continues from a bundle; returns its step and minutes."""
    config = json.loads((bundle / "config.json").read_text())
    trained = config.get("training", {})
    step, minutes = config.get("step", trained.get("steps", 0)), config.get("minutes", trained.get("minutes", 0.0))
    tensors = load_file(bundle / "model.safetensors")
    weights = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text(json.dumps(config | {"step": step, "minutes": minutes}, indent=1))
    write_state({"model": weights, "average": weights, "step": step, "seconds": 60.0 * minutes}, run / "last.pt")
    return step, minutes


def main() -> None:
    match sys.argv[1:]:
        case ["save", run, bundle]:
            save_bundle(Path(run), Path(bundle))
        case ["restore", bundle, run]:
            step, minutes = restore_run(Path(bundle), Path(run))
            print(f"{run} continues from the weights of {bundle}: step {step}, {minutes:.1f} minutes, new warm-up")
        case _:
            raise SystemExit("Usage: python -m training.core.bundles save RUN BUNDLE, or restore BUNDLE RUN.")


if __name__ == "__main__":
    main()
