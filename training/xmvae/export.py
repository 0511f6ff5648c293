"""Write the checkpoint folders of the systems of the XMVAE paper from training runs.

`python -m training.xmvae.export xmvae --run runs/xmvae --prior runs/xmvae-prior --pack data/xmvae-v2.npz \\
    --style-prior runs/style-prior --out checkpoints/xmvae-v1`
`python -m training.xmvae.export ecpt --run runs/ecpt --out checkpoints/ecpt-v1`; mt likewise
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from engine.checkpoints.paper_models import PRIOR_WEIGHTS, STYLE_WEIGHTS, open_baseline, open_xmvae
from training.core.finished_run import FinishedRun, report_size
from training.xmvae.segments import PERFORMANCE, BeatCorpus
from training.xmvae.style_directions import directions
from training.xmvae.train_prior import load_xmvae

_CODEBOOK, _COUNTS = "quantiser.codebook", ("quantiser.count", "quantiser.total", "quantiser.moved")


def export_xmvae(
    run: Path, prior: Path, out: Path, corpus: BeatCorpus | None = None, style: Path | None = None
) -> None:
    """XMVAE and its priors in half precision, the codebook in single precision: its codes are those of training.

    corpus  performances for measuring the directions of z_p; without it no directions are exported
    style   run of training.xmvae.train_style_prior; without it z_p ~ N(0, I), as in the paper
    """
    vae, codes = FinishedRun(run), FinishedRun(prior)
    tensors = {k: v for k, v in vae.half().items() if k not in _COUNTS}
    tensors[_CODEBOOK] = vae.state["average"][_CODEBOOK].float().contiguous()
    tensors |= {PRIOR_WEIGHTS + k: v for k, v in codes.half().items()}
    more = {}
    if style is not None:
        of_style = FinishedRun(style)
        tensors |= {STYLE_WEIGHTS + k: v for k, v in of_style.half().items()}
        more = {
            "style_prior": of_style.about["model"], "style_prior_validation": of_style.about["validation"],
            "style_prior_training": {
                "steps": of_style.state["step"], "minutes": round(of_style.state["seconds"] / 60, 1)
            },
        }  # fmt: skip
    vae.publish(
        out, "xmvae", "xmvae.train", tensors, prior=codes.about["model"],
        prior_training={"steps": codes.state["step"], "minutes": round(codes.state["seconds"] / 60, 1)},
        prior_validation=codes.about["validation"],
        z_p=[d.to_json() for d in directions(load_xmvae(run), corpus)] if corpus is not None else [],
        **more,
    )  # fmt: skip
    open_xmvae(out)


def export_baseline(name: str, run: Path, out: Path) -> None:
    """ECPT or MT in half precision."""
    finished = FinishedRun(run)
    if finished.about["kind"] != name:
        raise SystemExit(f"{run} is a run of {finished.about['kind']}, not of {name}; give its own folder.")
    finished.publish(out, "xmvae baseline", "xmvae.train_baselines", finished.half(), baseline=name)
    open_baseline(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("xmvae", "ecpt", "mt"))
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--prior", type=Path, help="run of training.xmvae.train_prior, for xmvae")
    parser.add_argument("--style-prior", type=Path, help="run of training.xmvae.train_style_prior, for xmvae")
    parser.add_argument("--pack", type=Path, help="pack of its training, for the directions of z_p of xmvae")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.model == "xmvae":
        if args.prior is None or args.pack is None:
            parser.error("xmvae needs --prior, the run of its prior, and --pack")
        export_xmvae(args.run, args.prior, args.out, BeatCorpus(args.pack, PERFORMANCE, "train"), args.style_prior)
    else:
        export_baseline(args.model, args.run, args.out)
    report_size(args.out)


if __name__ == "__main__":
    main()
