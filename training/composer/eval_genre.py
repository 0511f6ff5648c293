"""Share of composed pieces that a tagger recognises as the requested genre.

    python -m training.composer.eval_genre --tagger genre-tagger.npz [--pieces 6] [--genres waltz mazurka ...]

Composes short pieces of each genre in three ways: with the genre (the network's label, and the usual metre and density
of the genre), with that metre and density alone, and without any of them. The tagger of
`training.composer.genre_tagger` classifies each piece. The second row shows the effect of the rules, the difference of
the first two that of the network's label.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from engine.engine import Engine
from engine.models.composer.conditions import COMPOSERS, PERIODS, Conditions, key_name
from engine.requests import ComposeRequest
from engine.tokens.composer_tokens import METERS, OTHER_METER, write_tokens
from training.composer.genre_tagger import GenreTagger, features
from training.core.probes import bootstrap

WAYS = ("genre", "rules", "open")
TAKES = 2  # takes per request


def asked(engine: Engine, genre: str, way: str, seed: int) -> Conditions:
    """The conditions of one request; those of "rules" are what "genre" draws, without the network's label."""
    if way == "open":
        return Conditions()
    wanted = Conditions(genre=genre)
    if way == "genre":
        return wanted
    v = engine.composer.prior.draw(wanted, np.random.default_rng([seed, 7]))
    meter = int(v["meter"])
    composer = COMPOSERS[int(v["composer"]) - 1] if v["composer"] else ""
    return Conditions(
        composer, PERIODS[int(v["period"]) - 1] if v["period"] and not composer else "",
        key_name(int(v["fifths"]), bool(v["minor"])), METERS[meter] if meter != OTHER_METER else "",
        float(np.clip(v["tempo"], 20, 300)), float(np.clip(v["density"], 0.25, 16)),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tagger", type=Path, required=True)
    parser.add_argument("--pieces", type=int, default=6, help="of each genre in each way")
    parser.add_argument("--bars", type=int, default=16)
    parser.add_argument("--genres", nargs="*", help="all that the tagger knows without it")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a line of JSON for each piece; what it holds is not composed again")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tagger, engine = GenreTagger.load(args.tagger), Engine.load()
    genres = args.genres or list(tagger.genres)
    unknown = set(genres) - set(tagger.genres)
    if unknown:
        parser.error(f"the tagger does not know {', '.join(sorted(unknown))}; it knows {', '.join(tagger.genres)}.")
    found: list[tuple[str, str, int, str, int]] = []  # way, genre, seed, first guess, rank of the genre
    if args.out and args.out.exists():
        found = [tuple(json.loads(line)) for line in args.out.read_text().splitlines()]
    seeds = [args.seed * 100_000 + k for k in range(-(-args.pieces // TAKES))]
    work = [
        (way, g, s) for s in seeds for g in genres for way in args.ways if (way, g, s) not in {f[:3] for f in found}
    ]
    for way, genre, seed in tqdm(work, unit="request", mininterval=5):
        request = ComposeRequest(asked(engine, genre, way, seed), bars=args.bars, takes=TAKES, seed=seed)
        for score in engine.compose(request):
            order = (-tagger.logits(features(write_tokens(score))[None])[0]).argsort()
            rank = order.tolist().index(tagger.genres.index(genre))
            found.append((way, genre, seed, tagger.genres[order[0]], rank))
            if args.out:
                with args.out.open("a") as f:
                    f.write(json.dumps(found[-1]) + "\n")
    print("| genre |" + "".join(f" {way}: first, % | among three, % |" for way in args.ways))
    print("|---|" + "---|---|" * len(args.ways))
    for name in [*genres, "all"]:
        cells = []
        for way in args.ways:
            rows = [f for f in found if f[0] == way and name in (f[1], "all")]
            rank, of = np.array([f[4] for f in rows]), np.array([genres.index(f[1]) + len(genres) * f[2] for f in rows])
            for hit in (rank == 0, rank < 3):
                if name == "all":
                    b = bootstrap(of, lambda r, hit=hit: 100 * float(hit[r].mean()))
                    cells.append(f"{b.value:.0f} [{b.low:.0f}, {b.high:.0f}]")
                else:
                    cells.append(f"{100 * hit.mean():.0f}" if len(hit) else "")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
