"""Train the large models on one GPU in one command of at most ten minutes; `training/runs/gpu.sh` runs it.

    python -m training.core.gpu_job --packs FOLDER --out OUT [--minutes 10] [--rehearse]
    python -m training.core.gpu_job --packs FOLDER --out OUT --part 2
    python -m training.core.gpu_job --archive gpu.tar.gz --packs FOLDER

In order: XMVAE at the paper's size (pretraining on scores, both branches, the prior over its codes), the Composer at
60 M parameters, and the renderer's network where FOLDER holds its pack. Needs torch and numpy only. The run folders
(--runs) are resumed from. OUT gets at most eight files of at most 16 MiB; all systems together are more than that, so
--part 2, 3, ..., run afterwards on the same machine, write the files that follow. `training.core.shards` joins
them. --rehearse takes ten steps of a tiny copy of each on the processor. --archive packs code and packs and states the
size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from training.core.shards import write_shards

FILES_A_PART = 8
ARCHIVE_BYTES = 25 * 2**20
WRITE_SEC = 45.0  # kept for writing the results
START_SEC = 15.0  # of a stage, before its first step
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Stage:
    """One training of the job.

    share   of the time
    pack    file in the folder of packs
    words   of the command; {runs} is the folder of run folders
    tiny    words added in a rehearsal
    """

    name: str
    module: str
    share: float
    pack: str
    words: tuple[str, ...]
    tiny: tuple[str, ...]
    export: bool = True


_TINY_XMVAE = ("--small", "--batch", "2", "--limit", "2", "--width", "32", "--feed-forward", "64")
STAGES = (
    Stage("xmvae-pretrain", "training.xmvae.train", 0.15, "xmvae-v2.npz",
          ("--pretrain", "--batch", "64", "--rate", "1e-3"), _TINY_XMVAE, export=False),
    Stage("xmvae", "training.xmvae.train", 0.25, "xmvae-v2.npz",
          ("--init", "{runs}/xmvae-pretrain", "--batch", "64", "--rate", "7e-4"), _TINY_XMVAE),
    Stage("xmvae-prior", "training.xmvae.train_prior", 0.2, "xmvae-v2.npz",
          ("--vae", "{runs}/xmvae", "--batch", "64", "--rate", "1e-3"), ("--small", "--batch", "2", "--limit", "2")),
    Stage("composer-60m", "training.composer.train", 0.3, "composer-v2.npz",
          ("--width", "768", "--layers", "8", "--heads", "12", "--feed-forward", "3072", "--head-width", "512",
           "--window", "1024", "--reference-layers", "4",
           "--batch", "64", "--rate", "1e-3"),
          ("--width", "32", "--layers", "1", "--heads", "2", "--feed-forward", "64", "--head-width", "32",
           "--window", "64", "--reference-layers", "1", "--batch", "2", "--limit", "2")),
    Stage("renderer", "training.sound.train_renderer", 0.1, "renderer-v3.npz",
          ("--batch", "32", "--iterative"),
          ("--width", "32", "--layers", "1", "--heads", "2", "--frames", "60", "--batch", "2")),
)  # fmt: skip


def command(stage: Stage, packs: Path, runs: Path, minutes: float, rehearse: bool) -> list[str]:
    """The stage's command line; of an option that stands twice the last one counts."""
    words = [w.format(runs=runs) for w in stage.words] + (list(stage.tiny) if rehearse else [])
    goal = ["--steps", "10"] if rehearse else ["--minutes", f"{minutes:.3f}", "--schedule-minutes", f"{minutes:.3f}"]
    where = ["--pack", str(packs / stage.pack), "--out", str(runs / stage.name), "--save-minutes", "2", "--no-compile"]
    return [sys.executable, "-m", stage.module, *where, *goal, *words]


def run_stages(packs: Path, runs: Path, seconds: float, rehearse: bool) -> list[Stage]:
    """Train each unfinished stage that has a pack, within the time; returns the stages that have results."""
    present = [stage for stage in STAGES if (packs / stage.pack).exists()]
    for stage in STAGES:
        if stage not in present:
            print(f"{stage.name}: left out, {packs / stage.pack} is not there", flush=True)
    until = time.monotonic() + seconds - WRITE_SEC
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if rehearse:
        environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    for i, stage in enumerate(present):
        done = runs / stage.name / "done"
        if done.exists():
            print(f"{stage.name}: done before", flush=True)
            continue
        whole = sum(later.share for later in present[i:])
        time_sec = (until - time.monotonic()) * stage.share / whole
        if not rehearse and time_sec < 2 * START_SEC:
            print(f"{stage.name}: no time is left; run the command again to go on", flush=True)
            break
        print(f"{stage.name}: {'ten steps' if rehearse else f'{time_sec:.0f} s'}", flush=True)
        minutes = max(time_sec - START_SEC, START_SEC) / 60
        words = command(stage, packs, runs, minutes, rehearse)
        code = subprocess.run(words, cwd=ROOT, env=environment, check=False).returncode
        if code:
            print(f"{stage.name}: failed with exit status {code}; what depends on it fails, too", flush=True)
            continue
        done.touch()
    return [stage for stage in present if stage.export and (runs / stage.name / "last.pt").exists()]


def write_results(stages: list[Stage], runs: Path, out: Path, part: int) -> list[Path]:
    """Write files 8 (part - 1) + 1 to 8 part of all systems' shards to OUT; returns their paths."""
    cache = runs / "shards"
    for stage in stages:
        state_file = runs / stage.name / "last.pt"
        newest = max((p.stat().st_mtime for p in cache.glob(f"{stage.name}-*-of-*.shard")), default=0.0)
        if newest < state_file.stat().st_mtime:
            state = torch.load(state_file, map_location="cpu", weights_only=True)
            config = json.loads((runs / stage.name / "config.json").read_text())
            config |= {"step": state["step"], "minutes": state["seconds"] / 60}
            write_shards(cache, stage.name, state["average"], config)
    files = [path for stage in stages for path in sorted(cache.glob(f"{stage.name}-[0-9]*-of-*.shard"))]
    chosen = files[FILES_A_PART * (part - 1) : FILES_A_PART * part]
    out.mkdir(parents=True, exist_ok=True)
    for path in chosen:
        (out / path.name).write_bytes(path.read_bytes())
    rest = len(files) - FILES_A_PART * part
    print(f"{len(chosen)} of {len(files)} files in {out}" + (f"; --part {part + 1} writes more" if rest > 0 else ""))
    return [out / path.name for path in chosen]


def archive(path: Path, packs: Path) -> int:
    """Write code and packs as one .tar.gz; returns its bytes. Refuses more than 25 MiB."""
    code = [p for name in ("engine", "training") for p in sorted((ROOT / name).rglob("*"))]
    with tarfile.open(path, "w:gz", compresslevel=6) as tar:
        for file in code:
            if file.suffix in (".py", ".sh", ".csv") and "__pycache__" not in file.parts:
                tar.add(file, file.relative_to(ROOT))
        for name in sorted({stage.pack for stage in STAGES}):
            for file in sorted(packs.glob(name.replace(".npz", ".*"))):
                tar.add(file, Path("packs") / file.name)
    size = path.stat().st_size
    if size > ARCHIVE_BYTES:
        raise SystemExit(f"{path} is {size / 2**20:.1f} MiB; the limit is 25 MiB. Take a pack out of {packs}.")
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, default=Path("packs"), help="folder with xmvae-v2.npz, composer-v2.npz")
    parser.add_argument("--runs", type=Path, default=Path("runs/gpu"), help="run folders, resumed from")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--minutes", type=float, default=9.5, help="of the whole command")
    parser.add_argument("--part", type=int, default=1, help="2, 3, ...: write further results, train nothing")
    parser.add_argument("--rehearse", action="store_true", help="ten steps of tiny models on the processor")
    parser.add_argument("--archive", type=Path, help="write code and packs to this .tar.gz, train nothing")
    args = parser.parse_args()
    if args.archive:
        print(f"{args.archive}: {archive(args.archive, args.packs) / 2**20:.1f} MiB")
        return
    if not args.rehearse and args.part == 1 and not torch.cuda.is_available():
        raise SystemExit("No GPU is found: run this on a machine with one, or add --rehearse.")
    packs, runs = args.packs.resolve(), args.runs.resolve()
    if args.part == 1:
        stages = run_stages(packs, runs, 60 * args.minutes, args.rehearse)
    else:
        stages = [s for s in STAGES if s.export and (runs / s.name / "last.pt").exists()]
    if not stages:
        raise SystemExit(f"There are no results in {runs}: no stage was trained.")
    write_results(stages, runs, args.out.resolve(), args.part)


if __name__ == "__main__":
    main()
