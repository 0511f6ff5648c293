"""Write the checkpoint folders of the sound models from their training runs.

python -m training.sound.export codec --run runs/piano-codec-v2 --out checkpoints/piano-codec-v2
python -m training.sound.export renderer --run runs/renderer-v4 --decoder runs/sketch-decoder-v2 \\
    --out checkpoints/renderer-v3
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from engine.checkpoints.bundle import open_codec, open_renderer
from training.core.finished_run import FinishedRun, report_size

KINDS = {"codec": ("piano codec", "train_piano_codec"), "renderer": ("renderer", "train_renderer")}


def weights(kind: str, out: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The averaged weights without the parts used only in training."""
    if kind == "codec":
        codebooks = [out.pop(k) for k in sorted(out) if k.endswith(".codebook")]
        return {k: v for k, v in out.items() if not k.startswith("quantiser.")} | {"books": torch.stack(codebooks)}
    return {k: v for k, v in out.items() if k not in ("books", "codebooks", "scale")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--codec", type=Path, default=Path("checkpoints/piano-codec-v2"))
    parser.add_argument("--decoder", type=Path, help="run of training.sound.tune_decoder, to go with a renderer")
    parser.add_argument("--trust", type=float, default=0.0, help="more of the guide than was learned, in logits")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    kind, module = KINDS[args.kind]
    run = FinishedRun(args.run)
    tensors, more = weights(args.kind, run.half()), {}
    if args.decoder:
        decoder = FinishedRun(args.decoder)
        tensors |= {f"decoder.{k}": v for k, v in decoder.half().items()}
        tensors["decoder.to_trust.1.bias"] = tensors["decoder.to_trust.1.bias"] + args.trust
        more["decoder"] = {k: decoder.about[k] for k in ("args", "step", "minutes", "validation")}
        more["decoder"]["trust"] = args.trust
    if "codec" in run.about:
        more["codec"] = run.about["codec"]
    run.publish(args.out, kind, module, tensors, **more)
    if args.kind == "codec":
        open_codec(args.out)
    else:
        open_renderer(args.out, open_codec(args.codec))
    report_size(args.out)


if __name__ == "__main__":
    main()
