"""Make checkpoints/transcriber-v1 from the weights that the package transkun comes with (Yujia Yan, MIT).

    pip install --no-deps transkun==2.0.1
    python -m training.assets.build_transcriber --out checkpoints/transcriber-v1

Nothing is trained: tensors are renamed, computable ones are left out, and half precision is used if it is accurate
enough.
"""

from __future__ import annotations

import argparse
import re
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.checkpoints.bundle import FORMAT_VERSION, open_transcriber, weights_digest
from engine.models.transcriber.network import TranscriberConfig
from training.core.finished_run import report_size, write_config

SOURCE = "transkun 2.0.1, pretrained/2.0.pt"
# pattern of a published name -> our name; the first match applies. "" is omitted: a Hann window and mel filters
NAMES = (
    (r"framewiseFeatureExtractor\.(freq2mels|spectrogramExtractor\.win)", ""),
    (r"framewiseFeatureExtractor\.spectrogramExtractor\.winGen\.sigma", "spectrum.spread"),
    (r"framewiseFeatureExtractor\.spectrogramExtractor\.winGen\.center", "spectrum.centre"),
    (r"scorer\.map\.0\.(\w+)", r"scorer.\1"),
    (r"velocityPredictor\.0\.(\w+)", r"velocity.0.\1"),
    (r"velocityPredictor\.3\.(\w+)", r"velocity.2.\1"),
    (r"refinedOFPredictor\.0\.(\w+)", r"edges.0.\1"),
    (r"refinedOFPredictor\.3\.(\w+)", r"edges.2.\1"),
    (r"backbone\.inputConv\.(\w+)", r"input_conv.\1"),
    (r"backbone\.upConv1dSkip\.(\w+)", r"up.\1"),
)
POSITIONS = {
    "posEmbedBuilder": "input_position", "posEmbedBuilderAttnTF": "band_position",
    "posEmbedBuilderAttnTE": "event_position",
}  # fmt: skip
DOWN = {1: 1, 2: 2, 5: 4, 6: 5, 9: 7, 10: 8, 13: 10, 14: 11}  # indices of the layers, without dropout
PARTS = {"mhaBlockF": "over_bands", "fnnBlockF": "bands_net", "mhaBlockT": "over_time", "fnnBlockT": "time_net"}
PROJECTIONS = {"q_proj_weight": "query", "k_proj_weight": "key", "v_proj_weight": "value"}
FULL = re.compile(r"phase\.|spectrum\.")  # half precision would cause a phase error of 0.3 rad (indices go up to 229)


def our_name(name: str) -> str:
    """Our name of a published tensor; "" if it is not needed. Raises ValueError for an unknown name.

    >>> our_name("backbone.encoderLayers.2.mhaBlockT.module.q_proj_weight")
    'blocks.2.over_time.query.weight'
    """
    for pattern, ours in NAMES:
        if found := re.fullmatch(pattern, name):
            return found.expand(ours)
    if found := re.fullmatch(r"backbone\.downConv\.(\d+)\.(\w+)", name):
        return f"down.{DOWN[int(found[1])]}.{found[2]}"
    if found := re.fullmatch(r"backbone\.(posEmbed\w+)\.(proj|mlp\.0|mlp\.3)\.(\w+)", name):
        part = {"proj": "phase", "mlp.0": "mlp.0", "mlp.3": "mlp.2"}[found[2]]
        return f"{POSITIONS[found[1]]}.{part}.{found[3]}"
    if found := re.fullmatch(r"backbone\.encoderLayers\.(\d+)\.(\w+)\.(scale|module\.(.+))", name):
        return f"blocks.{found[1]}.{PARTS[found[2]]}.{_of_part(found[3])}"
    raise ValueError(f"{name} is no tensor of transkun 2.0.1")


def _of_part(name: str) -> str:
    name = name.removeprefix("module.")
    if name in PROJECTIONS:
        return f"{PROJECTIONS[name]}.weight"
    if found := re.fullmatch(r"([03])\.(\w+)", name):
        return f"net.{'0' if found[1] == '0' else '2'}.{found[2]}"
    return name.replace("out_proj", "out")


def converted(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published tensors under our names, in full precision."""
    tensors = {our_name(name): value for name, value in published.items()}
    tensors.pop("", None)
    # transkun multiplies x by its projections; a linear layer multiplies x by the transpose of its weight
    turned = re.compile(r"\.(query|key|value)\.weight$")
    return {k: (v.T if turned.search(k) else v).contiguous() for k, v in tensors.items()}


def published_weights() -> dict[str, Tensor]:
    """The tensors of the installed package. Raises FileNotFoundError if it is not installed."""
    found = find_spec("transkun")
    if found is None or found.origin is None:
        raise FileNotFoundError("transkun is not installed; pip install --no-deps transkun==2.0.1")
    path = Path(found.origin).parent / "pretrained" / "2.0.pt"
    return torch.load(path, map_location="cpu", weights_only=True)["state_dict"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    tensors = converted(published_weights())
    save_file({k: v if FULL.search(k) else v.half() for k, v in tensors.items()}, out / "model.safetensors")
    write_config(out, {
        "format_version": FORMAT_VERSION, "kind": "transcriber", "model": TranscriberConfig().to_json(),
        "weights_sha256": weights_digest(out / "model.safetensors"), "source": SOURCE,
        "training": {"command": "python -m training.assets.build_transcriber"}, "licence": "MIT",
    })  # fmt: skip
    open_transcriber(out)
    report_size(out)


if __name__ == "__main__":
    main()
