"""Make checkpoints/ddsp-piano-v1 from the published weights of DDSP-Piano (Lenny Renault and others, Apache-2.0).

    python -m training.assets.build_ddsp_piano --weights ddsp-piano-dafx22.npz --out checkpoints/ddsp-piano-v1

The file holds the arrays of `ddsp_piano/model_weights/dafx22/ckpt-0` of github.com/lrenault/ddsp-piano (e868b7c) under
their paths in the TensorFlow checkpoint, with points for slashes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from engine.checkpoints.bundle import FORMAT_VERSION, open_ddsp_piano, weights_digest
from engine.models.ddsp_piano.network import DdspPianoConfig
from training.core.finished_run import report_size, write_config

SOURCE = "github.com/lrenault/ddsp-piano, e868b7c, model_weights/dafx22/ckpt-0"


def converted(published: dict[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """The published arrays under our names: dense kernels are transposed, GRU gates in the order of PyTorch."""
    tensors: dict[str, NDArray] = {}

    def dense(ours: str, theirs: str) -> None:
        tensors[f"{ours}.weight"] = published[f"{theirs}.kernel"].T
        tensors[f"{ours}.bias"] = published[f"{theirs}.bias"]

    def gru(ours: str, theirs: str) -> None:
        tensors[f"{ours}.weight_ih_l0"] = gates(published[f"{theirs}.kernel"].T)
        tensors[f"{ours}.weight_hh_l0"] = gates(published[f"{theirs}.recurrent_kernel"].T)
        tensors[f"{ours}.bias_ih_l0"], tensors[f"{ours}.bias_hh_l0"] = map(gates, published[f"{theirs}.bias"])

    def norm(ours: str, theirs: str) -> None:
        for part in ("scale", "shift"):
            tensors[f"{ours}.norm.{part}"] = published[f"{theirs}.{part}"].ravel()

    layers = "model.layer_with_weights-"
    dense("context.dense", f"context_network.{layers}0")
    gru("context.gru", f"context_network.{layers}1.cell")
    norm("context", f"context_network.{layers}2")
    dense("context.out", "context_network.dense_out")
    dense("voice.dense", f"monophonic_network.{layers}0")
    gru("voice.gru", f"monophonic_network.{layers}1.cell")
    dense("voice.mix", f"monophonic_network.{layers}2")
    norm("voice", f"monophonic_network.{layers}3")
    dense("voice.out", "monophonic_network.dense_out")
    dense("tuning", "detuner.layer")
    for ours, theirs in (("piano_code", ""), ("detune", "detune_"), ("stiffness", "inharm_")):
        tensors[f"{ours}.weight"] = published[f"z_encoder.{theirs}embedding.embeddings"]
    for ours in ("slopes", "offsets"):
        tensors[ours] = published[f"inharm_model.{ours}"] + published[f"inharm_model.{ours}_modifier"]
    tensors["stiffness_weight"] = published["inharm_model.model_specific_weight"]
    rooms = published["reverb_model.reverb_dict.layer_with_weights-0.embeddings"].copy()
    rooms[:, 0] = 0  # the direct sound is added apart
    tensors["rooms.weight"] = rooms
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}


def gates(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of a GRU in Keras's order (update, reset, candidate) in PyTorch's (reset, update, candidate)."""
    update, reset, candidate = np.split(rows, 3)
    return np.concatenate([reset, update, candidate])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="the published arrays, .npz")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with np.load(args.weights, allow_pickle=False) as published:
        tensors = converted(dict(published))
    half = {k: v.half() if k == "rooms.weight" else v for k, v in tensors.items()}
    save_file(half, args.out / "model.safetensors")
    write_config(args.out, {
        "format_version": FORMAT_VERSION, "kind": "ddsp-piano", "model": DdspPianoConfig().to_json(),
        "weights_sha256": weights_digest(args.out / "model.safetensors"), "source": SOURCE,
        "training": {"command": "python -m training.assets.build_ddsp_piano"},
        "licence": "Apache-2.0; trained on MAESTRO v3.0.0, so CC BY-NC-SA 4.0",
    })  # fmt: skip
    open_ddsp_piano(args.out)
    report_size(args.out)


if __name__ == "__main__":
    main()
