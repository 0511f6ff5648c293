"""Form of composed pieces: returns, phrases and cadences. `make eval-form` runs it.

    python -m training.composer.eval_form [--composer FOLDER] [--pieces 200] [--form "A8 A'8 B8 A8"] [--data CORPORA]

Composes pieces of 48 bars with a Composer (the shipped one, or another checkpoint folder), measures returning bars and
the lengths and endings of phrases, and prints them beside real scores by genre. With --form, pieces of that form are
composed instead, and only bars that the form did not copy count for the returns. With --data, stuck loops and 12-note
passages of the training music are counted, too. OUT/NAME.npz stores the pieces: an interrupted run resumes, and other
weights or settings begin a new file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from engine.checkpoints.bundle import BundleError, ComposerBundle, TaggerBundle, open_composer, open_tagger
from engine.checkpoints.index import CHECKPOINTS, COMPOSER, TAGGER
from engine.compose.form import Form, parse_form
from engine.engine import Engine
from engine.measures.form import compare_bars, obeyed, returns
from engine.measures.form_metrics import BARS, FORM_METRICS, FormRow, cell, form_row, phrase_figures, real_rows
from engine.measures.performance_metrics import SEGMENT, reference
from engine.measures.sanity import longest_loop
from engine.models.composer.conditions import Conditions
from engine.music.expression import deadpan
from engine.music.types import BadInput, Score
from engine.requests import ComposeRequest
from engine.tokens.composer_tokens import TICKS_PER_QUARTER, write_tokens
from engine.tokens.plan import Plan
from training.core.corpora import Nasap
from training.core.probes import bootstrap
from training.xmvae.generate import load, save
from training.xmvae.reference_metrics import plain, training_passages, written

KEPT_EVERY = 5  # pieces between two writes of the file
KNOWN_RATIO = 2.0
OBEDIENCE = 70.0  # goal, percent
# metric: accepted range of its mean over pieces without a form
RANGES = {"far": (0.22, 0.35), "exact": (0.08, 0.20), "near": (0.22, 0.38), "longest": (4.0, 8.0)}
_CODE = ("compose/*.py", "models/composer/*.py", "tokens/composer_tokens.py", "tokens/plan.py")


@dataclass(frozen=True)
class Target:
    """One figure: measured value, goal, and whether the goal is reached."""

    name: str
    found: str
    goal: str
    reached: bool


def recipe(bundle: ComposerBundle, form: str, seed: int, temperature: float) -> dict:
    """Fingerprint of the pieces: weights, settings and sampling code."""
    code = hashlib.sha256()
    root = Path(__file__).parents[2] / "engine"
    for file in sorted(f for pattern in _CODE for f in root.glob(pattern)):
        code.update(file.read_bytes())
    return {
        "weights": bundle.digest, "form": form, "bars": BARS, "seed": seed, "temperature": temperature,
        "code": code.hexdigest()[:16],
    }  # fmt: skip


def compose_one(composer: Path, about: dict, i: int) -> Score:
    """The i-th piece of the recipe `about`."""
    torch.set_num_threads(1)
    form = {"form": about["form"]} if about["form"] else {"bars": about["bars"]}
    request = ComposeRequest(seed=about["seed"] * 100_000 + i, temperature=about["temperature"], **form)
    return _engine_with(composer).compose(request)[0]


@lru_cache(maxsize=1)
def _engine_with(composer: Path) -> Engine:
    engine = Engine.load()
    engine.__dict__["composer"] = open_composer(composer)  # replaces the cached property that opens the shipped one
    return engine


def compose_pieces(composer: Path, path: Path, about: dict, count: int, processes: int = 1) -> list[Score]:
    """`count` pieces of the recipe `about`; pieces in the file are not composed again."""
    pieces = load(path, about)[:count]
    todo = range(len(pieces), count)
    # spawned processes: torch may hang after a fork
    with get_context("spawn").Pool(processes) if processes > 1 and todo else nullcontext() as pool:
        make = partial(compose_one, composer, about)
        scores = map(make, todo) if pool is None else pool.imap(make, todo)
        for score in tqdm(scores, initial=len(pieces), total=count, unit="piece", mininterval=5):
            pieces.append((deadpan(score), score))
            if len(pieces) % KEPT_EVERY == 0 or len(pieces) == count:
                save(path, pieces, about)
    return [score for _, score in pieces if score is not None]


def figures_of(score: Score, tagger: TaggerBundle, form: Form | None) -> dict[str, float]:
    """FORM_METRICS of a composed piece; with a form, the returns of the bars that it did not copy."""
    w = write_tokens(score)
    likeness = compare_bars(w.bar, w.in_bar / TICKS_PER_QUARTER, w.pitch, len(w.bars.start))
    only = None if form is None else ~form.copied
    return returns(likeness, last=BARS, only=only) | phrase_figures(tagger.tag(w))


def range_targets(row: FormRow) -> list[Target]:
    """Returns against RANGES."""
    out = []
    for m in FORM_METRICS:
        if m.name in RANGES and m.name in row.mean:
            low, high = RANGES[m.name]
            goal = f"{m.scale * low:g} to {m.scale * high:g} {m.unit}"
            out.append(Target(m.label, cell(row, m, interval=True), goal, low <= row.mean[m.name] <= high))
    return out


def loop_target(scores: list[Score]) -> Target:
    """Share of 256-note segments with a stuck loop; goal: at most that of real scores."""
    real = reference()["scores"]
    most = real["train"]["loop"]["percentile_99"]
    stuck, piece = [], []
    for i, score in enumerate(scores):
        onset, _, pitch = plain(score)
        for a in range(0, max(len(pitch) - SEGMENT, 0) + 1, SEGMENT):
            stuck.append(longest_loop(onset[a : a + SEGMENT], pitch[a : a + SEGMENT]) > most)
            piece.append(i)
    share = np.array(stuck, float)
    found = bootstrap(np.array(piece), lambda rows: 100 * float(share[rows].mean()))
    of_real = 100 * float((np.array(real["validation"]["loop"]["values"]) > most).mean())
    return Target(
        f"segments stuck in a loop (8 notes more than {most:.0f} times), %",
        f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]", f"at most {of_real:.2f} (real scores)",
        found.low <= of_real,
    )  # fmt: skip


def known_target(scores: list[Score], data: Path) -> Target:
    """Share of 12-note passages that occur in the training music; reference: that of validation scores."""
    nasap = Nasap(data / "aligned" / "nasap-aligned.npz")
    index = training_passages(data, nasap)

    def share(pieces: list[NDArray[np.bool_]]) -> tuple[float, str]:
        sizes = np.array([len(k) for k in pieces])
        piece, known = np.repeat(np.arange(len(pieces)), sizes), np.concatenate(pieces)
        f = bootstrap(piece, lambda rows: 100 * float(known[rows].mean()), draws=200)
        return f.value, f"{f.value:.2f} [{f.low:.2f}, {f.high:.2f}]"

    made, shown = share([index.known(*plain(s)[::2]) for s in scores])
    held_out = [index.known(o[a : a + SEGMENT], p[a : a + SEGMENT]) for _, o, _, p in written(data, nasap, "validation")
                for a in range(0, len(p) - SEGMENT + 1, SEGMENT)]  # fmt: skip
    real, of_real = share(held_out)
    return Target(
        "12-note passages that stand in the training music, %", shown, f"at most {KNOWN_RATIO:.0f} times {of_real}",
        made <= KNOWN_RATIO * real,
    )  # fmt: skip


def drawn_plans(bundle: ComposerBundle, count: int, seed: int) -> list[Plan]:
    """The plans of the pieces, drawn again as `engine.compose.composing.compose` draws them; [] without plans."""
    out = []
    for number in range(seed * 100_000, seed * 100_000 + count):
        values = bundle.prior.draw(Conditions(), np.random.default_rng([number, 7]))
        plan = bundle.prior.draw_plan(values, BARS, np.random.default_rng([number, 11]), BARS)
        out += [plan] if plan is not None else []
    return out


def obedience_target(scores: list[Score], plans: list[Plan]) -> Target | None:
    """Share of planned returns that resemble the bar they refer to; None without planned returns."""
    piece, reached = [], []
    for i, (score, plan) in enumerate(zip(scores, plans, strict=True)):
        w = write_tokens(score)
        likeness = compare_bars(w.bar, w.in_bar / TICKS_PER_QUARTER, w.pitch, len(w.bars.start))
        found = obeyed(likeness, plan.lag[: len(w.bars.start)])
        reached += found.tolist()
        piece += [i] * len(found)
    if not reached:
        return None
    share = np.array(reached, float)
    f = bootstrap(np.array(piece), lambda rows: 100 * float(share[rows].mean()))
    return Target(
        "planned returns that resemble the bar referred to, %", f"{f.value:.1f} [{f.low:.1f}, {f.high:.1f}]",
        f"at least {OBEDIENCE:.0f}", f.value >= OBEDIENCE,
    )  # fmt: skip


def table(rows: list[FormRow]) -> str:
    """Rows in markdown, the first with intervals."""
    head = ["", "pieces", *(f"{m.label}{f', {m.unit}' if m.unit else ''}" for m in FORM_METRICS)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for i, r in enumerate(rows):
        cells = [r.name, str(r.pieces), *(cell(r, m, interval=not i) for m in FORM_METRICS)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(args: argparse.Namespace, show: Callable[[str], None]) -> dict:
    """Compose, measure, print; returns the contents of eval.json."""
    form = parse_form(args.form)
    bundle, tagger = open_composer(args.composer), open_tagger(CHECKPOINTS / TAGGER)
    about = recipe(bundle, str(form or ""), args.seed, args.temperature)
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
    scores = compose_pieces(args.composer, args.out / f"{name}.npz", about, args.pieces, args.processes)
    figures = [figures_of(s, tagger, form) for s in tqdm(scores, desc="measured", unit="piece", mininterval=5)]
    made = form_row(f"{args.composer.name}, {form or 'free'}", figures)
    show(f"## {made.name}: {len(scores)} pieces of {form.bars if form else BARS} bars\n")
    show("Returns are counted in bars 17 to 48" + (", where the form did not copy them" if form else "") + ".\n")
    show(table([made, *real_rows()]))
    targets = range_targets(made) if form is None else []
    plans = drawn_plans(bundle, len(scores), args.seed) if form is None else []
    obedience = obedience_target(scores, plans) if plans else None
    targets += [obedience] if obedience else []
    targets.append(loop_target(scores))
    if args.data is not None:
        targets.append(known_target(scores, args.data))
    show("\n| | found | goal | |\n|---|---|---|---|")
    for t in targets:
        show(f"| {t.name} | {t.found} | {t.goal} | {'yes' if t.reached else '**no**'} |")
    return {
        "about": about, "made": asdict(made), "figures": figures, "targets": [asdict(t) for t in targets],
        "bars": [len(s.measures) for s in scores], "notes": [len(s) for s in scores],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--composer", type=Path, default=CHECKPOINTS / COMPOSER, metavar="FOLDER")
    parser.add_argument("--pieces", type=int, default=200)
    parser.add_argument("--form", default="", help="as of `etude compose --form`; free without")
    parser.add_argument("--data", type=Path, metavar="CORPORA", help="has aligned/ and scores/")
    parser.add_argument("--out", type=Path, default=Path("runs/eval-form"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--processes", type=int, default=1, help="that compose at the same time")
    args = parser.parse_args()
    torch.set_num_threads(1)
    printed: list[str] = []

    def show(text: str) -> None:
        print(text, flush=True)
        printed.append(text)

    if args.pieces < 1:
        parser.error(f"--pieces is {args.pieces}; at least one piece is composed.")
    try:
        found = report(args, show)
    except (BundleError, BadInput, OSError) as error:
        raise SystemExit(f"eval_form: {error}") from None
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        raise SystemExit(130) from None
    name = f"{args.composer.name}-{args.form or 'free'}".replace(" ", "-").replace("'", "p")
    (args.out / f"{name}.json").write_text(json.dumps(found, indent=1))
    (args.out / f"{name}.md").write_text("\n".join(printed) + "\n")


if __name__ == "__main__":
    main()
