"""Write a checkpoint folder from a training run; the only code that writes to checkpoints/.

`python -m training.pianist.export --run runs/pianist-v1 --pack data/pianist-v1.npz --out checkpoints/pianist-v1`

A model of the residual (training.pianist.train_flow) also needs --expected, as its training did.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.checkpoints.bundle import open_pianist
from engine.models.pianist.features import Features, score_features
from engine.models.pianist.pianist import Pianist, PianistConfig
from engine.models.pianist.sampling import FlowSampling, encode_style
from engine.models.pianist.style import AXES
from training.core.finished_run import FinishedRun, report_size, write_config
from training.pianist.batches import DescriptorRegression, PianistCorpus
from training.pianist.eval_style import decoupled, effects, sweep
from training.pianist.expected_of_pack import PackValues
from training.pianist.pack import Pack
from training.pianist.train_flow import base_of_pack

MIN_PIECES = 5  # minimum works of a pianist with a preset
# tuned on the validation split, see training/LOG.md
SAMPLING = {
    "steps": 10, "guidance": 1.0,
    "looseness": [0.1, 0.3, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],  # tempo, velocity, timing, articulation, pedal x 4
    "gain": [1.0, 1.3, 1.0, 1.0, 1.6, 1.6, 1.6, 1.6],
}  # fmt: skip


_PIANIST = "pianist."  # beginning of the names of the Pianist's weights in a run of train_flow


def pianist_of(name: str) -> str:
    """The pianist's name in an (n)ASAP performance id.

    >>> pianist_of("Bach/Fugue/bwv_857/Bult-ItoS02M")
    'Bult-ItoS'
    """
    return re.sub(r"\d+M?$", "", name.rsplit("/", 1)[-1]).rstrip("_-")


Given = Callable[[int], NDArray | None]  # performance of the pack -> expected channel values (n, 3) of its score


def presets(model: Pianist, pack: Pack, given: Given, progress=print) -> dict[str, list[float]]:
    """Mean z_p of every pianist who plays at least five works of the training split, by name."""
    of_pianist: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for i, name in enumerate(pack.columns["name"]):
        if pack.columns["split"][i] == "train":
            of_pianist[pianist_of(str(name))].append((str(pack.columns["work"][i]), i))
    out = {}
    for pianist, played in sorted(of_pianist.items()):
        if len({work for work, _ in played}) < MIN_PIECES:
            continue
        styles = []
        for _, i in played:
            item = pack.item(i)
            features = score_features(item.score, item.composer)
            styles.append(encode_style(model, features, item.expression, 6, given(i)))
        out[pianist] = [round(float(v), 4) for v in np.mean(styles, axis=0)]
        progress(f"{pianist}: {len(played)} performances")
    return out


def slider_basis(
    model: Pianist, sampling: FlowSampling, pack: Pack, deviation: np.ndarray, given: Given
) -> list[list[float]]:
    """The slider matrix (9, 9): change of z_p per slider, decoupled, so that each moves only its own descriptor.
    Measured on ten training scores.
    """
    items = [i for i in range(len(pack)) if pack.columns["split"][i] == "train"]
    chosen = np.random.default_rng(0).choice(items, min(10, len(items)), replace=False)
    scores = [first_notes(score_features(pack.item(i).score, int(pack.columns["composer"][i])), 512) for i in chosen]
    bases = [None if (base := given(i)) is None else base[:512] for i in chosen.tolist()]
    positions = (-1.5, 1.5)
    found = sweep(model, sampling, np.eye(len(AXES)), scores, positions, bases)
    basis = decoupled(effects(found, deviation, positions))
    return [[round(float(v), 4) for v in row] for row in basis]


def first_notes(f: Features, n: int) -> Features:
    """The beginning of a score's features."""
    return Features(f.category[:n], f.value[:n], f.onset_beat[:n], f.beat_index[:n], f.chord_index[:n])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--pack", type=Path, default=Path("data/pianist-v1.npz"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--expected", type=Path, help="of training.pianist.expected_of_pack")
    parser.add_argument("--sampling", type=json.loads, default={}, help="JSON that overrides the sampling settings")
    args = parser.parse_args()
    torch.set_num_threads(1)
    run = FinishedRun(args.run)
    model, tensors = Pianist(PianistConfig(**run.about["model"])), run.half()
    if model.config.expected:  # the run also has an adversary
        tensors = {k.removeprefix(_PIANIST): v for k, v in tensors.items() if k.startswith(_PIANIST)}
    model.load_state_dict({k: v.float() for k, v in tensors.items()})
    pack, bases = Pack(args.pack), {}
    if model.config.expected:
        if args.expected is None:
            parser.error("a model of the residual needs --expected, the file of its training")
        _, bases = base_of_pack(pack, PackValues.load(args.expected))

    def given(i: int) -> NDArray | None:
        return bases.get((int(pack.columns["score"][i]), "full"))

    config = run.publish(
        args.out,
        "pianist",
        f"pianist.{'train_flow' if model.config.expected else 'train'}",
        tensors,
        axes=[a.name for a in AXES],
        sampling=SAMPLING | args.sampling,
    )
    if model.config.expected:
        config["base"] = run.about["base"]
    deviation = DescriptorRegression.fit(PianistCorpus(pack, "train"), model.config.window).deviation
    sampling = FlowSampling(**{k: tuple(v) if isinstance(v, list) else v for k, v in config["sampling"].items()})
    config["sliders"] = slider_basis(model, sampling, pack, deviation, given)
    config["axis_deviation"] = [round(float(v), 5) for v in deviation]
    write_config(args.out, config)
    (args.out / "presets.json").write_text(json.dumps(presets(model, pack, given), indent=1) + "\n")
    open_pianist(args.out)
    report_size(args.out)


if __name__ == "__main__":
    main()
