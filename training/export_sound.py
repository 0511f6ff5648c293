"""Write the checkpoint folders of the sound models from their training runs.

python -m training.export_sound codec --run runs/piano-codec-v1 --out checkpoints/piano-codec-v1
python -m training.export_sound renderer --run runs/renderer-v2 --out checkpoints/renderer-v1
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import torch
from safetensors.torch import save_file

from engine.bundle import FORMAT_VERSION, open_codec, open_renderer, weights_digest

KINDS = {"codec": ("piano codec", "train_piano_codec"), "renderer": ("renderer", "train_renderer")}


def weights(kind: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What is published of a trained state: half precision, without what only training needs."""
    out = {k: v.half().contiguous() for k, v in state.items() if v.is_floating_point()}
    if kind == "codec":
        books = [out.pop(k) for k in sorted(out) if k.endswith(".codebook")]
        out = {k: v for k, v in out.items() if not k.startswith("quantiser.")} | {"books": torch.stack(books)}
    return {k: v for k, v in out.items() if kind == "codec" or k not in ("books", "scale")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--codec", type=Path, default=Path("checkpoints/piano-codec-v1"))
    parser.add_argument("--decoder", type=Path, help="run of training.tune_decoder, to go with a renderer")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    kind, module = KINDS[args.kind]
    about = json.loads((args.run / "config.json").read_text())
    state = torch.load(args.run / "last.pt", map_location="cpu", weights_only=True)
    args.out.mkdir(parents=True, exist_ok=True)
    tensors = weights(args.kind, state["average"])
    if args.decoder:
        tuned = torch.load(args.decoder / "last.pt", map_location="cpu", weights_only=True)
        tensors |= {f"decoder.{k}": v.half().contiguous() for k, v in tuned["average"].items()}
    save_file(tensors, args.out / "model.safetensors")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    command = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in about["args"].items())
    config = {
        "format_version": FORMAT_VERSION, "kind": kind, "model": about["model"],
        "weights_sha256": weights_digest(args.out / "model.safetensors"),
        "training": {
            "command": f"python -m training.{module} {command}", "commit": commit, "pack": about["pack"],
            "steps": state["step"], "minutes": round(state["seconds"] / 60, 1),
        },
        "validation": about["validation"], "licence": "CC BY-NC-SA 4.0",
    }  # fmt: skip
    if "codec" in about:
        config["codec"] = about["codec"]
    if args.decoder:
        of = json.loads((args.decoder / "config.json").read_text())
        config["decoder"] = {k: of[k] for k in ("args", "step", "minutes", "validation")}
    (args.out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    if args.kind == "codec":
        open_codec(args.out)
    else:
        open_renderer(args.out, open_codec(args.codec))
    print(f"{args.out}: {sum(f.stat().st_size for f in args.out.iterdir()) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
