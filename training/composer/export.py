"""Write the Composer's checkpoint folder from a training run.

`python -m training.composer.export --run runs/composer-v1 --pack data/composer-v1.npz --out checkpoints/composer-v1`
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.checkpoints.bundle import PLAN_WEIGHTS, grammar_digest, open_composer
from engine.models.composer.composer import Composer, ComposerConfig
from engine.models.composer.conditions import COMPOSERS, PERIODS
from engine.models.composer.plan_prior import PlanPrior, PlanPriorConfig
from engine.tokens.composer_tokens import NOTE_TICKS, OTHER_METER, TICKS_PER_QUARTER, is_minor, key_shift
from training.composer.batches import ScorePiece, piece_weights, read_pieces
from training.core.finished_run import FinishedRun, report_size

PRIOR_ROWS = 4096
_NOTES = 256


def prior_rows(pieces: list[ScorePiece], count: int, seed: int = 0) -> NDArray[np.float32]:
    """What `count` windows of training pieces are like, (count, 7), see `engine.models.composer.piece_prior.Prior`."""
    weights, rng = piece_weights(pieces), np.random.default_rng(seed)
    out = []
    while len(out) < count:
        p = pieces[rng.choice(len(pieces), p=weights)]
        w = p.written
        first = int(rng.integers(max(len(w) - _NOTES, 1)))
        rows = slice(first, first + _NOTES)
        bar = w.bar[first]
        meter, fifths = int(w.bars.meter[bar]), int(w.bars.fifths[bar])
        wide = (w.tick[rows][-1] - w.tick[first]) / TICKS_PER_QUARTER
        if meter == OTHER_METER or abs(fifths) > 6 or wide < 4:
            continue
        minor = is_minor(w.pitch[rows] + key_shift(fifths), NOTE_TICKS[w.duration[rows]])
        composer = 1 + COMPOSERS.index(p.composer) if p.composer else 0
        period = 1 + PERIODS.index(p.period) if p.period else 0
        out.append((composer, period, minor, fifths, meter, p.tempo, len(w.tick[rows]) / wide))
    return np.array(out, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--pack", type=Path, default=Path("data/composer-v1.npz"))
    parser.add_argument("--plan", type=Path, help="run of training.composer.train_plan, for a Composer with a plan")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    run = FinishedRun(args.run)
    Composer(ComposerConfig(**run.about["model"])).load_state_dict(run.state["average"])
    tensors = run.half()
    tensors["pieces"] = torch.from_numpy(prior_rows(read_pieces(args.pack, "train"), PRIOR_ROWS))
    more = {}
    if args.plan:
        plan = FinishedRun(args.plan)
        PlanPrior(PlanPriorConfig(**plan.about["model"])).load_state_dict(plan.state["average"])
        tensors |= {PLAN_WEIGHTS + k: v for k, v in plan.half().items()}
        more["plan_prior"] = plan.about["model"]
    run.publish(args.out, "composer", "composer.train", tensors, grammar=grammar_digest(), **more)
    open_composer(args.out)
    report_size(args.out)


if __name__ == "__main__":
    main()
