"""Write the phrase tagger's checkpoint folder from a training run.

`python -m training.tagger.export --run runs/phrase-tagger-v1 --out checkpoints/phrase-tagger-v1`
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from engine.checkpoints.bundle import open_tagger
from training.core.finished_run import FinishedRun, report_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    run = FinishedRun(args.run)
    table = json.loads((args.run / "figures.json").read_text())
    run.publish(
        args.out, "phrase tagger", "tagger.train", run.half(), decoding=table["decoding"], figures=table["report"],
        every_fourth_bar=table["every fourth bar"],
    )  # fmt: skip
    open_tagger(args.out)
    report_size(args.out)


if __name__ == "__main__":
    main()
